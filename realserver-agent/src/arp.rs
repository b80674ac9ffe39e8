//! The sysctls that keep a real server silent about its VIP, and which of their values do so.
//!
//! The kernel uses the larger of `all` and of the interface that an ARP request comes in on
//! (`IN_DEV_MAXCONF`, `include/linux/inetdevice.h`), so a value on `all` covers interfaces that
//! appear later, and a larger one on an interface can defeat it.

/// A setting below `net.ipv4.conf.*` that a VIP on `lo` needs.
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
/// every neighbour that hears it takes this server for the VIP.
pub const ANNOUNCE: Setting = Setting {
    name: "arp_announce",
    wanted: 2,
    sufficient: &[2],
};

impl Setting {
    /// Whether an effective value keeps the VIP silent.
    pub fn suffices(&self, effective: i32) -> bool {
        self.sufficient.contains(&effective)
    }

    /// The sysctl's full name for an interface, or for `all`.
    pub fn of(&self, interface: &str) -> String {
        format!("net.ipv4.conf.{interface}.{}", self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
