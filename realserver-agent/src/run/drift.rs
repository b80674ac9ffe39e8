//! What others have changed on the machine, in words.

use crate::step::Step;

/// What was put right.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    /// A VIP was missing, or one too many.
    Address,
    /// A VIP's host route was missing, or one too many.
    Route,
    /// A sysctl no longer kept the VIP quiet.
    Sysctl,
    /// A dummy interface was missing or down.
    Interface,
}

impl Kind {
    pub(super) const ALL: [Self; 4] = [Self::Address, Self::Route, Self::Sysctl, Self::Interface];

    /// As metrics have it.
    pub(super) const fn label(self) -> &'static str {
        match self {
            Self::Address => "address",
            Self::Route => "route",
            Self::Sysctl => "sysctl",
            Self::Interface => "interface",
        }
    }

    /// What a step puts right; `None` where nothing was wrong.
    pub(super) const fn of(step: &Step) -> Option<Self> {
        match step {
            Step::AddAddress(_) | Step::RemoveAddress(_) => Some(Self::Address),
            Step::AddRoute(_) | Step::RemoveRoute(_) => Some(Self::Route),
            Step::SetSysctl { .. } => Some(Self::Sysctl),
            Step::MakeInterface(_) | Step::RaiseInterface(_) | Step::RemoveInterface(_) => {
                Some(Self::Interface)
            }
            Step::Renew(_) | Step::Adopt(_) | Step::Disown(_) => None,
        }
    }
}

/// Steps as a line of the log, without those that put nothing right.
pub(super) fn words(steps: &[Step]) -> Option<String> {
    let words: Vec<String> = steps
        .iter()
        .filter(|step| Kind::of(step).is_some())
        .map(word)
        .collect();
    (!words.is_empty()).then(|| words.join(", "))
}

fn word(step: &Step) -> String {
    match step {
        Step::SetSysctl { name, value } => format!("set {name}={value}"),
        Step::MakeInterface(name) => format!("made {name}"),
        Step::RaiseInterface(name) => format!("set up {name}"),
        Step::RemoveInterface(name) => format!("deleted {name}"),
        Step::AddAddress(vip) => format!("put {} on {}", vip.address, vip.interface),
        Step::RemoveAddress(vip) => format!("took {} from {}", vip.address, vip.interface),
        Step::AddRoute(place) => format!("added the route to {}", place.address),
        Step::RemoveRoute(place) => format!("removed the route to {}", place.address),
        Step::Renew(_) | Step::Adopt(_) | Step::Disown(_) => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use crate::vip::Vip;

    #[test]
    fn what_was_put_right_is_said_and_a_renewal_is_not() {
        let vip = Vip::on_loopback(Ipv4Addr::new(192, 0, 2, 185).into());
        let sysctl = Step::SetSysctl {
            name: "net.ipv4.conf.all.arp_ignore".into(),
            value: 1,
        };
        assert_eq!(words(&[Step::Renew(vip.clone())]), None);
        let steps = [
            sysctl,
            Step::Renew(vip.clone()),
            Step::AddAddress(vip.clone()),
            Step::AddRoute(vip.place()),
        ];
        assert_eq!(
            words(&steps).as_deref(),
            Some(
                "set net.ipv4.conf.all.arp_ignore=1, put 192.0.2.185 on lo, added the route to 192.0.2.185"
            )
        );
    }
}
