//! The sysctls that keep a VIP to the interface it is on, and which of their values do so.
//!
//! Linux answers ARP for every local address on every interface, and may name any of them as the
//! sender of its own requests. A real server's VIP on `lo` must not be heard of on any LAN, and a
//! director's only on its own, so both need the same two settings.
//!
//! The kernel uses the larger of `all` and of the interface that an ARP request comes in on or
//! goes out on (`IN_DEV_MAXCONF`, `include/linux/inetdevice.h`), so a value on `all` covers
//! interfaces that appear later, and a larger one on an interface can defeat it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use crate::sysctl::{self, Error, Journal};

/// A setting below `net.ipv4.conf.*`.
#[derive(Debug, PartialEq, Eq)]
pub struct Setting {
    /// The last part of the sysctl's name.
    pub name: &'static str,
    /// What is written where the value found does not do.
    pub wanted: i32,
    sufficient: &'static [i32],
}

/// Which addresses are answered for (`arp_ignore()` in `net/ipv4/arp.c`).
///
/// 1 answers for addresses of the incoming interface only; 2 also wants the sender in the same
/// subnet. 3 answers for a VIP of global scope, 0 and 4 to 7 for every address. 8 answers for
/// none: it breaks most servers, but it keeps the VIP silent, so an administrator who chose it
/// (with static neighbour entries) keeps it.
pub const IGNORE: Setting = Setting {
    name: "arp_ignore",
    wanted: 1,
    sufficient: &[1, 2, 8],
};

/// Which sender address ARP requests carry (`arp_solicit()` in `net/ipv4/arp.c`).
///
/// 2 is the outgoing interface's own; any other value, larger ones too, can put the VIP there, and
/// every neighbour that hears it takes this machine for the VIP.
pub const ANNOUNCE: Setting = Setting {
    name: "arp_announce",
    wanted: 2,
    sufficient: &[2],
};

impl Setting {
    /// Whether an effective value keeps the VIP to its interface.
    pub fn suffices(&self, effective: i32) -> bool {
        self.sufficient.contains(&effective)
    }

    /// The sysctl's full name for an interface, or for `all`.
    pub fn of(&self, interface: &str) -> String {
        format!("net.ipv4.conf.{interface}.{}", self.name)
    }

    /// Reads the setting of `all`, of `default` and of every interface, by these names.
    pub fn values(&self) -> Result<BTreeMap<String, i32>, Error> {
        self.values_below(Path::new(sysctl::ROOT))
    }

    /// Which of `values` have to become [`Self::wanted`], so that the larger of `all` and of the
    /// interface suffices on every interface: `all` or interfaces.
    ///
    /// A value that does already is left, also when it isn't the one that would be written. A
    /// value too large on `all` is lowered, and what it hid on the interfaces is judged by that.
    /// `default` has no effect of its own.
    pub fn insufficient<'a>(&self, values: &'a BTreeMap<String, i32>) -> BTreeSet<&'a str> {
        let mut insufficient = BTreeSet::new();
        let mut on_all = self.wanted;
        if let Some((all, &value)) = values.get_key_value(ALL) {
            if self.suffices(value) {
                on_all = value;
            } else {
                insufficient.insert(all.as_str());
            }
        }
        let interfaces = values
            .iter()
            .filter(|(name, _)| *name != ALL && *name != DEFAULT);
        insufficient.extend(
            interfaces
                .filter(|&(_, &value)| !self.suffices(value.max(on_all)))
                .map(|(interface, _)| interface.as_str()),
        );
        insufficient
    }

    /// Writes the setting where it is [insufficient](Self::insufficient), and records what was
    /// found there. An interface that goes meanwhile needs no setting.
    ///
    /// # Errors
    /// When a value can't be read, written or recorded; what was written before stays.
    pub fn make(&self, journal: &mut Journal) -> Result<(), Error> {
        let values = self.values_below(journal.root())?;
        for interface in self.insufficient(&values) {
            match journal.set(&self.of(interface), &self.wanted.to_string()) {
                Err(error) if error.is_absence() => {}
                other => _ = other?,
            }
        }
        Ok(())
    }

    /// Writes the setting on one interface, unless its own value suffices, and records what was
    /// found there. `interface` is a [part](sysctl::part) of the sysctl's name.
    pub(crate) fn make_on(&self, journal: &mut Journal, interface: &str) -> Result<(), Error> {
        let name = self.of(interface);
        if !self.suffices(sysctl::read_number_below(journal.root(), &name)?) {
            journal.set(&name, &self.wanted.to_string())?;
        }
        Ok(())
    }

    fn values_below(&self, root: &Path) -> Result<BTreeMap<String, i32>, Error> {
        let mut values = BTreeMap::new();
        for interface in sysctl::children_below(root, "net.ipv4.conf")? {
            let name = self.of(&interface);
            let value = match sysctl::read_number_below(root, &name) {
                // The interface has gone since.
                Err(error) if error.is_absence() => continue,
                other => other?,
            };
            values.insert(interface, value);
        }
        Ok(values)
    }
}

const ALL: &str = "all";
const DEFAULT: &str = "default";

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::sysctl::tests::Fixture;

    fn insufficient(setting: &Setting, values: &[(&str, i32)]) -> Vec<String> {
        let values = values
            .iter()
            .map(|(interface, value)| ((*interface).into(), *value))
            .collect();
        let names = setting.insufficient(&values);
        names.into_iter().map(String::from).collect()
    }

    #[test]
    fn values_that_keep_the_vip_silent() {
        let sufficient = |setting: &Setting| -> Vec<i32> {
            (-1..10).filter(|value| setting.suffices(*value)).collect()
        };
        assert_eq!(sufficient(&IGNORE), [1, 2, 8]);
        assert_eq!(sufficient(&ANNOUNCE), [2]);
        for setting in [IGNORE, ANNOUNCE] {
            assert!(setting.suffices(setting.wanted));
        }
    }

    #[test]
    fn names_are_sysctls() {
        assert_eq!(IGNORE.of("all"), "net.ipv4.conf.all.arp_ignore");
        assert_eq!(ANNOUNCE.of("lo"), "net.ipv4.conf.lo.arp_announce");
    }

    #[test]
    fn all_is_enough_where_no_interface_is_larger() {
        let nothing = Vec::<String>::new();
        assert_eq!(insufficient(&IGNORE, &[("all", 0), ("eth0", 0)]), ["all"]);
        assert_eq!(insufficient(&IGNORE, &[("all", 3), ("eth0", 0)]), ["all"]);
        assert_eq!(insufficient(&ANNOUNCE, &[("all", 1), ("eth0", 2)]), ["all"]);
        for sufficient in [1, 2, 8] {
            let values = [("all", sufficient), ("default", 3), ("eth0", 0)];
            assert_eq!(insufficient(&IGNORE, &values), nothing);
        }
    }

    #[test]
    fn a_larger_value_on_an_interface_that_defeats_all_is_named() {
        let values = |all| {
            [
                ("all", all),
                ("eth0", 3),
                ("eth1", 2),
                ("eth2", 8),
                ("eth3", 7),
            ]
        };
        assert_eq!(insufficient(&IGNORE, &values(1)), ["eth0", "eth3"]);
        // Lowered to 1, a value on `all` hides them no longer.
        assert_eq!(insufficient(&IGNORE, &values(7)), ["all", "eth0", "eth3"]);
        // 8 is the largest: nothing defeats it.
        assert_eq!(insufficient(&IGNORE, &values(8)), Vec::<String>::new());
        let values = [("all", 2), ("eth0", 1), ("eth1", 3)];
        assert_eq!(insufficient(&ANNOUNCE, &values), ["eth1"]);
    }

    #[test]
    fn makes_what_is_needed_and_restores_what_was_found() {
        let fixture = Fixture::new();
        let found = [
            ("all", "0"),
            ("default", "3"),
            ("eth0", "3"),
            ("eth0/100", "2"),
        ];
        for (interface, value) in found {
            fixture.write(&IGNORE.of(interface), value);
        }
        let values = || {
            let value = |(interface, _)| fixture.value(&IGNORE.of(interface));
            found.map(value)
        };
        let mut journal = fixture.journal();
        IGNORE.make(&mut journal).unwrap();
        assert_eq!(values(), ["1", "3", "1", "2"]);
        journal.restore().unwrap();
        assert_eq!(values(), ["0", "3", "3", "2"]);
    }

    #[test]
    fn a_value_that_is_no_number_is_named() {
        let fixture = Fixture::new();
        fixture.write(&IGNORE.of("all"), "one");
        let error = IGNORE.make(&mut fixture.journal()).unwrap_err();
        assert_eq!(
            error.to_string(),
            "net.ipv4.conf.all.arp_ignore is \"one\", which is not a number"
        );
    }

    #[test]
    fn reads_the_kernel() {
        let values = IGNORE.values().unwrap();
        assert!(values.contains_key("all") && values.contains_key("lo"));
    }
}
