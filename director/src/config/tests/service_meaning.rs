//! What valid services and settings of the table mean.

use std::num::NonZeroU16;
use std::time::Duration;

use lvs_proto::Family;
use lvs_proto::ipvs::{
    Daemon, DaemonRole, Scheduler, ServiceFlags, ServiceKey, Timeouts, Tunnel, TunnelChecksum,
};

use super::*;

fn service(text: &str) -> Service {
    configuration(text, "ds1").services.remove(0)
}

fn keys(service: &Service) -> Vec<String> {
    let keys = service.virtual_services.iter().map(|one| one.key);
    keys.map(|key| key.to_string()).collect()
}

#[test]
fn addresses_ports_and_protocols_are_multiplied() {
    let service = service(
        "services: [{ name: a, addresses: [192.0.2.1, 192.0.2.8-192.0.2.9, 198.51.100.254-255, \
         '2001:db8::1', '2001:db8::1f-20', '2001:db8::ffff-2001:db8::1:0'], \
         ports: [53, 8000-8001], protocols: [udp, sctp], external: true, check: none, \
         real_servers: [{ address: 10.0.0.1 }, { address: 'fd00::1' }] }]",
    );
    let mut expected = Vec::new();
    for address in [
        "192.0.2.1",
        "192.0.2.8",
        "192.0.2.9",
        "198.51.100.254",
        "198.51.100.255",
        "[2001:db8::1]",
        "[2001:db8::1f]",
        "[2001:db8::20]",
        "[2001:db8::ffff]",
        "[2001:db8::1:0]",
    ] {
        for port in [53, 8000, 8001] {
            for protocol in ["udp", "sctp"] {
                expected.push(format!("{address}:{port}/{protocol}"));
            }
        }
    }
    assert_eq!(keys(&service), expected);
    assert!(
        service
            .virtual_services
            .iter()
            .all(|one| one.holder == Holder::External)
    );
    let covered: Vec<String> = service
        .virtual_services
        .iter()
        .filter(|one| service.has_one_packet_scheduling(&one.key))
        .map(|one| one.key.to_string())
        .collect();
    assert_eq!(covered.len(), 10, "{covered:?}");
    assert!(covered.iter().all(|key| key.ends_with(":53/udp")));
}

#[test]
fn any_port_is_port_0() {
    let service = service(
        "services: [{ name: a, address: 192.0.2.1, ports: any, protocols: [tcp], external: true, \
         persistence: 300s, check: { dns: { name: . }, port: 5353 }, \
         real_servers: [{ address: 10.0.0.1 }] }]",
    );
    assert_eq!(keys(&service), ["192.0.2.1:0/tcp"]);
    let probed = service.probed_port(&service.checks[0], &service.real_servers[0]);
    assert_eq!(probed, NonZeroU16::new(5353));
}

#[test]
fn every_address_has_its_own_holder() {
    let text = "\
vrrp:
  - { name: dns, interface: eth2, virtual_router_id: 1, priority: 1, addresses: [192.0.2.1/24] }
  - { name: dns6, interface: eth2, virtual_router_id: 1, priority: 1, addresses: ['fe80::1/64', '2001:db8::1/64'] }
services:
  - { name: a, addresses: ['2001:db8::1', 192.0.2.1], port: 80, protocols: [tcp], check: none,
      real_servers: [{ address: 10.0.0.1 }, { address: 'fd00::1' }] }
  - { name: b, firewall_mark: 7, family: ipv6, instance: dns6, check: none, real_servers: [{ address: 'fd00::1' }] }
";
    let found = configuration(text, "any").services;
    let holders = |service: &Service| -> Vec<Holder> {
        let all = service.virtual_services.iter();
        all.map(|one| one.holder.clone()).collect()
    };
    let held = |name: &str| Holder::Instance(name.to_owned());
    assert_eq!(holders(&found[0]), [held("dns6"), held("dns")]);
    assert_eq!(holders(&found[1]), [held("dns6")]);
    assert_eq!(keys(&found[1]), ["mark 7/ipv6"]);
    assert_eq!(found[1].protocols, []);
}

#[test]
fn servers_serve_their_family_and_tunnels_cross() {
    let servers = |text: &str, family| -> Vec<String> {
        let service = service(&format!(
            "services: [{{ name: a, port: 80, protocols: [tcp], external: true, check: none, {text} }}]"
        ));
        let servers = service.real_servers_of(family);
        servers.map(|server| server.key.to_string()).collect()
    };
    let (v4, v6) = (Family::Ipv4, Family::Ipv6);
    let both = "addresses: [192.0.2.1, '2001:db8::1'], real_servers: \
                [{ address: 10.0.0.1 }, { address: 'fd00::1' }, { address: 'fd00::2', forwarding: tunnel }]";
    assert_eq!(servers(both, v4), ["10.0.0.1"]);
    assert_eq!(servers(both, v6), ["fd00::1", "fd00::2"]);
    let one = "address: 192.0.2.1, real_servers: \
               [{ address: 10.0.0.1 }, { address: 'fd00::2', forwarding: tunnel }]";
    assert_eq!(servers(one, v4), ["10.0.0.1", "fd00::2"]);
    let nobody_else = "addresses: [192.0.2.1, '2001:db8::1'], real_servers: \
                       [{ address: 'fd00::2', forwarding: { tunnel: gre } }]";
    assert_eq!(servers(nobody_else, v4), ["fd00::2"]);
    assert_eq!(servers(nobody_else, v6), ["fd00::2"]);
}

#[test]
fn forwarding_by_service_and_server() {
    let service = service(
        "services: [{ name: a, address: 192.0.2.1, port: 53, protocols: [udp], external: true, \
         check: { dns: { name: . } }, forwarding: { tunnel: gue, port: 6080, checksum: remote }, \
         real_servers: [{ address: 10.0.0.1 }, { address: 10.0.0.2, forwarding: { tunnel: gre, \
         checksum: plain } }, { address: 10.0.0.3, forwarding: { tunnel: ipip } }, { address: \
         10.0.0.4, forwarding: direct-routing, port: 53 }, { address: 10.0.0.5, forwarding: \
         masquerade, port: 5353, stop_at: 1000, resume_below: 800 }, { address: 10.0.0.5, \
         forwarding: masquerade, stop_at: 10 }] }]",
    );
    let forwarding: Vec<Forwarding> = service
        .real_servers
        .iter()
        .map(|it| it.forwarding)
        .collect();
    let gue = Tunnel::Gue {
        port: NonZeroU16::new(6080).unwrap(),
        checksum: TunnelChecksum::Remote,
    };
    let gre = Tunnel::Gre {
        checksum: TunnelChecksum::Plain,
    };
    assert_eq!(
        forwarding,
        [
            Forwarding::Tunnel(gue),
            Forwarding::Tunnel(gre),
            Forwarding::Tunnel(Tunnel::IpIp),
            Forwarding::DirectRouting,
            Forwarding::Masquerading,
            Forwarding::Masquerading,
        ]
    );
    let keys: Vec<String> = service
        .real_servers
        .iter()
        .map(|server| server.key.to_string())
        .collect();
    assert_eq!(keys[3..], ["10.0.0.4", "10.0.0.5:5353", "10.0.0.5"]);
    let thresholds = |index: usize| {
        let server = &service.real_servers[index];
        (server.upper_threshold, server.lower_threshold)
    };
    assert_eq!(
        (thresholds(0), thresholds(4), thresholds(5)),
        ((0, 0), (1000, 800), (10, 0))
    );
    let check = &service.checks[0];
    let ports = [4, 5].map(|index| service.probed_port(check, &service.real_servers[index]));
    assert_eq!(ports, [NonZeroU16::new(5353), NonZeroU16::new(53)]);
}

#[test]
fn scheduling_by_hash_and_by_client() {
    let text = |persistence: &str| {
        changed(
            "scheduler: wrr\n",
            &format!(
                "scheduler: mh\n    scheduler_flags: [port, fallback]\n    persistence: {persistence}\n"
            ),
        )
    };
    let found = service(&text("{ timeout: 60s, ipv4_mask: 24 }"));
    assert_eq!(found.scheduler, Scheduler::MaglevHashing);
    let flags = ServiceFlags::SCHEDULER_1 | ServiceFlags::SCHEDULER_2;
    assert_eq!(found.scheduler_flags, flags);
    let settings = |timeout, ipv4_prefix_length, ipv6_prefix_length| PersistenceSettings {
        timeout: Duration::from_secs(timeout),
        ipv4_prefix_length,
        ipv6_prefix_length,
    };
    assert_eq!(found.persistence, Some(settings(60, 24, 128)));
    let found = service(&text("{ timeout: 60s, ipv6_mask: 64 }"));
    assert_eq!(found.persistence, Some(settings(60, 32, 64)));
    let found = service(&text("360s")).persistence;
    assert_eq!(found, Some(settings(360, 32, 128)));
    assert_eq!(service(&text("0s")).persistence, None);
    assert_eq!(service(&text("{ timeout: 0s }")).persistence, None);
}

#[test]
fn one_packet_scheduling_of_marks_is_asked_for() {
    let covered = |word: &str| {
        let service = service(&format!(
            "services: [{{ name: a, firewall_mark: 1, external: true, check: none, {word} \
             real_servers: [{{ address: 10.0.0.1 }}] }}]"
        ));
        let key = service.virtual_services[0].key;
        assert!(matches!(
            key,
            ServiceKey::FirewallMark {
                family: Family::Ipv4,
                ..
            }
        ));
        service.has_one_packet_scheduling(&key)
    };
    assert!(!covered(""));
    assert!(covered("one_packet_scheduling: true,"));
    assert!(!covered("one_packet_scheduling: false,"));
}

/// Answers of a masqueraded server would leave with its own address.
#[test]
fn masqueraded_servers_keep_their_flows() {
    let covered = |servers: &str| -> Vec<Family> {
        let service = service(&format!(
            "services: [{{ name: a, addresses: [192.0.2.1, '2001:db8::1'], port: 53, protocols: \
             [udp], external: true, check: none, real_servers: [{servers}] }}]"
        ));
        let keys = service.virtual_services.iter().map(|one| one.key);
        keys.filter(|key| service.has_one_packet_scheduling(key))
            .map(|key| key.family())
            .collect()
    };
    let direct = "{ address: 10.0.0.1 }, { address: 'fd00::1' }";
    assert_eq!(covered(direct), [Family::Ipv4, Family::Ipv6]);
    let mixed = format!("{direct}, {{ address: 10.0.0.2, forwarding: masquerade }}");
    assert_eq!(covered(&mixed), [Family::Ipv6]);
}

#[test]
fn what_is_probed_is_what_a_query_can_be_asked_over() {
    let found = service(&changed("[udp, tcp]", "[sctp, tcp]"));
    assert_eq!(found.protocols, [Protocol::Tcp]);
    assert_eq!(found.virtual_services.len(), 2);
}

#[test]
fn the_table_has_its_defaults() {
    let found = configuration(EXAMPLE, "ds1").ipvs;
    assert_eq!(found, Ipvs::default());
    assert_eq!(found.program, Program::Always);
    let empty = configuration(&format!("{EXAMPLE}ipvs: {{}}\n"), "ds1").ipvs;
    assert_eq!(empty, found);
}

#[test]
fn what_the_file_says_of_the_table_counts() {
    let text = "ipvs: { program: when-active, exclusive: true, timeouts: { tcp: 900s, udp: 30s }, \
                sync: { instance: dns, interface: { ds1: eth1, ds2: ens5 }, id: 0, group: 'ff02::5', \
                port: 1, ttl: 255, maximum_length: 1400 } }\n";
    let found = |node| configuration(&format!("{EXAMPLE}{text}"), node).ipvs;
    let daemon = |interface: &str| Daemon {
        role: DaemonRole::Backup,
        interface: interface.to_owned(),
        identifier: 0,
        maximum_length: NonZeroU16::new(1400),
        group: Some("ff02::5".parse().unwrap()),
        port: NonZeroU16::new(1),
        time_to_live: std::num::NonZeroU8::new(255),
    };
    for (node, interface) in [("ds1", "eth1"), ("ds2", "ens5")] {
        let expected = Ipvs {
            program: Program::WhenActive,
            exclusive: true,
            timeouts: Timeouts {
                tcp: 900,
                tcp_fin: 0,
                udp: 30,
            },
            synchronization: Some(Synchronization {
                instance: "dns".to_owned(),
                daemon: daemon(interface),
            }),
        };
        assert_eq!(found(node), expected);
    }
    let text = "ipvs: { sync: { instance: dns, interface: eth1 } }\n";
    let found = configuration(&format!("{EXAMPLE}{text}"), "ds1").ipvs;
    let daemon = found.synchronization.unwrap().daemon;
    assert_eq!((daemon.identifier, daemon.group), (50, None));
}
