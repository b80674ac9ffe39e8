//! The kernel settings under which a virtual router's macvlan and its parent share one LAN.
//!
//! The macvlan carries the VIPs and their Ethernet address, the parent the machine's own; each must
//! answer ARP for its own addresses only, and packets for the VIPs come in on the macvlan though the
//! way back is by the parent. Nor may the parent ask for a neighbour in a VIP's name, or the
//! neighbour takes the parent's Ethernet address for the VIP's.

use crate::arp::{ANNOUNCE, IGNORE};
use crate::sysctl::{self, Error, Journal};

/// On the macvlan: packets whose sender is reached by the parent are taken, and the VIPs of a subnet
/// don't go with its first one. Not `accept_local`: who holds a VIP would answer the gratuitous ARP of
/// another that takes it over, from the virtual MAC, and switches would turn back.
const ON_MACVLAN: [(&str, &str); 2] = [("rp_filter", "0"), ("promote_secondaries", "1")];
/// On the parent: ARP is answered only to whom it is the way.
const ON_PARENT: [(&str, &str); 1] = [("arp_filter", "1")];

/// Joining and leaving the group of VRRP routers would be told to the LAN from the virtual MAC, by a
/// Backup too, and switches would send it the Active's packets. Switches pass groups of the link on to
/// everybody without having been told (RFC 4541, section 2.1.2).
const REPORTS_OF_LINK_GROUPS: &str = "net.ipv4.igmp_link_local_mcast_reports";

const REVERSE_PATH_FILTER: &str = "rp_filter";
const CONFIGURATIONS: &str = "net.ipv4.conf";
const ALL: &str = "all";

/// Makes the settings for the interface called `macvlan` on the one called `parent`, and records
/// what was found in `journal`, whose [restoration](Journal::restore) takes them back.
///
/// Reverse path filtering has to be off on `all`, because the kernel takes the larger of that and
/// the interface's own (`IN_DEV_RPFILTER`, `include/linux/inetdevice.h`). What it did for the other
/// interfaces is set on each of them instead, and on `default` for those to come.
///
/// # Errors
/// When a value can't be read, written or recorded; what was written before stays.
pub fn settle(journal: &mut Journal, parent: &str, macvlan: &str) -> Result<(), Error> {
    let (parent, macvlan) = (sysctl::part(parent), sysctl::part(macvlan));
    // First, because what is written to `default` changes every interface that was never set itself.
    spread_reverse_path_filter(journal, &macvlan)?;
    match journal.set(REPORTS_OF_LINK_GROUPS, "0") {
        Err(error) if error.is_absence() => {} // a kernel older than 4.3
        other => _ = other?,
    }
    IGNORE.make_on(journal, &parent)?;
    ANNOUNCE.make_on(journal, &parent)?;
    IGNORE.make_on(journal, &macvlan)?;
    for (name, value) in ON_PARENT {
        journal.set(&setting(&parent, name), value)?;
    }
    for (name, value) in ON_MACVLAN {
        journal.set(&setting(&macvlan, name), value)?;
    }
    // Or a router's advertisement would give the macvlan addresses of its own.
    match journal.set(&format!("net.ipv6.conf.{macvlan}.accept_ra"), "0") {
        Err(error) if error.is_absence() => Ok(()), // a kernel without IPv6
        other => other.map(|_| ()),
    }
}

fn spread_reverse_path_filter(journal: &mut Journal, macvlan: &str) -> Result<(), Error> {
    let on_all = setting(ALL, REVERSE_PATH_FILTER);
    let value = sysctl::read_number_below(journal.root(), &on_all)?;
    if value == 0 {
        return Ok(());
    }
    for interface in sysctl::children_below(journal.root(), CONFIGURATIONS)? {
        if interface != ALL && interface != macvlan {
            match raise(journal, &setting(&interface, REVERSE_PATH_FILTER), value) {
                // The interface has gone since.
                Err(error) if error.is_absence() => {}
                other => other?,
            }
        }
    }
    journal.set(&on_all, "0")?;
    Ok(())
}

fn raise(journal: &mut Journal, name: &str, least: i32) -> Result<(), Error> {
    if sysctl::read_number_below(journal.root(), name)? < least {
        journal.set(name, &least.to_string())?;
    }
    Ok(())
}

fn setting(interface: &str, name: &str) -> String {
    format!("{CONFIGURATIONS}.{interface}.{name}")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::sysctl::tests::Fixture;

    const INTERFACES: [&str; 5] = ["all", "default", "eth0", "eth1", "vrrp/50"];

    fn fixture(on_all: &str) -> Fixture {
        let fixture = Fixture::new();
        for interface in INTERFACES {
            for name in [
                "arp_announce",
                "arp_ignore",
                "arp_filter",
                "promote_secondaries",
            ] {
                fixture.write(&setting(interface, name), "0");
            }
            fixture.write(&setting(interface, REVERSE_PATH_FILTER), "0");
        }
        fixture.write(&setting("all", REVERSE_PATH_FILTER), on_all);
        fixture.write(&setting("eth1", REVERSE_PATH_FILTER), "2");
        fixture.write(&setting("vrrp/50", REVERSE_PATH_FILTER), "1");
        fixture
    }

    fn filters(fixture: &Fixture) -> [String; 5] {
        INTERFACES.map(|interface| fixture.value(&setting(interface, REVERSE_PATH_FILTER)))
    }

    #[test]
    fn the_macvlan_and_its_parent_get_what_they_need() {
        let fixture = fixture("0");
        fixture.write("net.ipv6.conf.vrrp/50.accept_ra", "1");
        fixture.write(&setting("eth0", "arp_ignore"), "8");
        let mut journal = fixture.journal();
        settle(&mut journal, "eth0", "vrrp.50").unwrap();
        for (interface, name, value) in [
            ("vrrp/50", "arp_ignore", "1"),
            ("vrrp/50", "promote_secondaries", "1"),
            ("vrrp/50", "arp_filter", "0"),
            ("eth0", "arp_filter", "1"),
            ("eth0", "arp_announce", "2"),
            ("eth0", "arp_ignore", "8"), // an administrator's choice, which does as well
            ("eth1", "arp_ignore", "0"),
            ("all", "arp_filter", "0"),
        ] {
            let found = fixture.value(&setting(interface, name));
            assert_eq!(found, value, "{interface} {name}");
        }
        assert_eq!(fixture.value("net.ipv6.conf.vrrp/50.accept_ra"), "0");
        assert_eq!(filters(&fixture), ["0", "0", "0", "2", "0"]);
        journal.restore().unwrap();
        assert_eq!(fixture.value("net.ipv6.conf.vrrp/50.accept_ra"), "1");
        assert_eq!(fixture.value(&setting("eth0", "arp_filter")), "0");
        assert_eq!(filters(&fixture), ["0", "0", "0", "2", "1"]);
    }

    #[test]
    fn other_interfaces_keep_the_reverse_path_filter_that_all_gave_them() {
        let fixture = fixture("1");
        let mut journal = fixture.journal();
        settle(&mut journal, "eth0", "vrrp.50").unwrap();
        assert_eq!(filters(&fixture), ["0", "1", "1", "2", "0"]);
        journal.restore().unwrap();
        assert_eq!(filters(&fixture), ["1", "0", "0", "2", "1"]);
    }

    #[test]
    fn a_missing_interface_is_an_error_that_names_the_setting() {
        let fixture = fixture("0");
        let error = settle(&mut fixture.journal(), "eth9", "vrrp.50").unwrap_err();
        assert!(error.to_string().contains("net.ipv4.conf.eth9."), "{error}");
    }
}
