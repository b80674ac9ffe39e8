//! What a valid file means.

use std::time::Duration;

use lvs_proto::ipvs::Scheduler;
use lvs_proto::vrrp::{
    AlsoAccept, Announcements, ChecksumForm, Family, Password, Peers, Priority, Version,
};

use super::*;

fn covered(service: &Service) -> bool {
    let mut keys = service.virtual_services.iter().map(|one| one.key);
    keys.any(|key| service.has_one_packet_scheduling(&key))
}

#[test]
fn the_example_says_what_it_says() {
    let file = parsed(EXAMPLE)
        .map_err(|errors| errors.to_string())
        .unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(file.nodes().into_iter().collect::<Vec<_>>(), ["ds1", "ds2"]);
    let first = file.for_node("ds1").unwrap();
    let second = file.for_node("ds2").unwrap();
    assert_eq!(first.instances[0].priority.get(), 200);
    assert_eq!(second.instances[0].priority.get(), 150);
    assert_eq!(first.services, second.services);
    let instance = &first.instances[0];
    assert_eq!(instance.name, "dns");
    assert_eq!(instance.interface, "eth2");
    assert_eq!(instance.virtual_router_id.get(), 50);
    assert_eq!(instance.advert_interval.get().as_millis(), 100);
    assert_eq!(
        instance.version,
        VersionSettings::V3 {
            checksum: ChecksumForm::PseudoHeader,
            hmac: None
        }
    );
    assert!(instance.preempt);
    assert_eq!(instance.addresses[0].to_string(), "192.168.56.185/24");
    let service = &first.services[0];
    assert_eq!(
        service.virtual_services[0].holder,
        Holder::Instance("dns".to_owned())
    );
    assert_eq!(service.protocols, [Protocol::Udp, Protocol::Tcp]);
    assert_eq!(service.scheduler, Scheduler::WeightedRoundRobin);
    assert_eq!(service.one_packet_scheduling, OnePacketScheduling::ByPort);
    let servers: Vec<_> = service
        .real_servers
        .iter()
        .map(|it| (it.key.to_string(), it.weight))
        .collect();
    assert_eq!(
        servers,
        [
            ("192.168.56.183".to_owned(), 1),
            ("192.168.56.184".to_owned(), 1)
        ]
    );
    assert_eq!(first.metrics.unwrap().listen.to_string(), "127.0.0.1:9712");
    assert_eq!(first.dataplane, Dataplane::Ipvs);
}

#[test]
fn what_the_file_leaves_out_has_its_default() {
    let text = "\
vrrp: [{ name: a, interface: e, virtual_router_id: 1, priority: 1, addresses: [192.0.2.1/32] }]
services:
  - name: a
    address: 192.0.2.1
    port: 53
    protocols: [tcp]
    check: { dns: { name: . } }
    real_servers: [{ address: 192.0.2.2, port: 53 }]
";
    let found = configuration(text, "anywhere");
    let instance = &found.instances[0];
    assert_eq!(instance.advert_interval.get().as_millis(), 100);
    assert_eq!(instance.version.version(), Version::V3);
    assert!(instance.preempt);
    let service = &found.services[0];
    assert_eq!(service.scheduler, Scheduler::WeightedRoundRobin);
    assert_eq!(
        service.real_servers[0].forwarding,
        Forwarding::DirectRouting
    );
    assert!(!covered(service), "there is no UDP");
    let check = &*service.checks[0].probing;
    let CheckKind::Dns(DnsCheck { probes, .. }) = &check.kind else {
        panic!("{}", check.kind)
    };
    assert_eq!(probes[0].record_type.mnemonic(), "A");
    assert_eq!(
        (check.interval.as_millis(), check.timeout.as_millis()),
        (500, 300)
    );
    assert_eq!((check.rise.get(), check.fall.get()), (2, 2));
    assert_eq!(service.real_servers[0].weight, 1);
    assert_eq!((found.metrics, found.dataplane), (None, Dataplane::Ipvs));
}

#[test]
fn what_the_file_says_counts() {
    let text = changed(
        "    advert_interval: 100ms\n",
        "    version: 2\n    preempt: false\n",
    )
    .replace("[udp, tcp]\n", "[udp]\n    one_packet_scheduling: false\n")
    .replace("scheduler: wrr", "scheduler: mh")
    .replace("interval: 500ms\n      timeout: 300ms", "interval: 100ms")
    .replace("184, weight: 1", "184, weight: 0")
        + "dataplane: none\n";
    let found = configuration(&text, "ds1");
    let instance = &found.instances[0];
    assert_eq!(instance.version, VersionSettings::V2 { password: None });
    assert_eq!(
        instance.advert_interval.get().as_secs(),
        1,
        "the least that version 2 can say"
    );
    assert!(!instance.preempt);
    let service = &found.services[0];
    assert_eq!(service.one_packet_scheduling, OnePacketScheduling::Off);
    assert_eq!(service.scheduler, Scheduler::MaglevHashing);
    let timeout = service.checks[0].probing.timeout;
    assert_eq!(timeout.as_millis(), 100, "no longer than the interval");
    assert_eq!(service.real_servers[1].weight, 0);
    assert_eq!(found.dataplane, Dataplane::None);
    let none = changed(
        "check:\n      dns: { name: www.abc.local, type: A }\n      interval: 500ms\n      \
         timeout: 300ms\n      rise: 2\n      fall: 2\n",
        "check: none\n",
    );
    assert_eq!(configuration(&none, "ds1").services[0].checks, []);
    let external = changed("port: 53\n", "port: 5353\n    external: true\n")
        .replace("[192.168.56.185/24]", "[192.168.56.186/24]");
    let service = &configuration(&external, "ds1").services[0];
    assert_eq!(service.virtual_services[0].holder, Holder::External);
    assert!(!covered(service), "the default is for port 53");
}

#[test]
fn yaml_anchors_and_merge_keys_work() {
    let text = changed(
        "      - { address: 192.168.56.183, weight: 1 }\n      - { address: 192.168.56.184, weight: 1 }\n",
        "      - &first { address: 192.168.56.183, weight: 7 }\n      - { <<: *first, address: 192.168.56.184 }\n",
    );
    let servers = &configuration(&text, "ds1").services[0].real_servers;
    assert_eq!(
        (servers[1].key.to_string().as_str(), servers[1].weight),
        ("192.168.56.184", 7)
    );
}

#[test]
fn a_virtual_router_has_its_defaults() {
    let found = configuration(EXAMPLE, "ds1").instances.remove(0);
    let accepted = found.accepted_intervals;
    assert_eq!(
        (accepted.least.as_millis(), accepted.most.as_millis()),
        (10, 1000)
    );
    assert_eq!(found.also_accept, AlsoAccept::default());
    assert_eq!(found.preempt_delay, Duration::ZERO);
    assert_eq!((found.source, &found.peers), (None, &Peers::Multicast));
    assert_eq!(found.virtual_mac, None);
    assert_eq!(found.further_addresses, []);
    let Announcements {
        burst,
        second_after,
        refresh,
    } = found.announcements;
    let seconds = |time: Option<Duration>| time.unwrap().as_secs();
    assert_eq!((burst, seconds(second_after), seconds(refresh)), (5, 5, 60));
    assert_eq!(found.announcement_pause, Duration::ZERO);
    assert_eq!(found.group, None);
    assert_eq!(found.track, Track::default());
    assert_eq!(found.hooks, []);
    assert_eq!(found.family(), Family::Ipv4);
    assert_eq!(
        configuration(EXAMPLE, "ds1").control,
        Control { group: None }
    );
}

#[test]
fn what_the_file_says_of_a_virtual_router_counts() {
    let text = with(
        "accept_intervals: { from: 50ms, to: 40950ms }
also_accept: { version: 2, password: old }
preempt_delay: 30s
source: 192.168.56.181
peers: [192.168.56.182, 192.168.56.183]
minimum_ttl: 1
virtual_mac: mac50
further_addresses:
  - 2001:db8::185/64
  - { address: 192.168.56.186/32, interface: eth3, scope: host, label: 'eth3:vip' }
announce: { burst: 255, pause: 1s, again_after: 0s, refresh: 0s }
group: lan",
    )
    .replace("56.183, weight", "56.199, weight")
        + "control: { group: lvs }\n";
    let mut found = configuration(&text, "ds1");
    assert_eq!(found.control.group.as_deref(), Some("lvs"));
    let found = found.instances.remove(0);
    let accepted = found.accepted_intervals;
    assert_eq!(
        (accepted.least.as_millis(), accepted.most.as_millis()),
        (50, 40_950)
    );
    assert_eq!(found.also_accept.version, Some(Version::V2));
    assert_eq!(
        found.also_accept.password,
        Some(Password::new("old").unwrap())
    );
    assert_eq!(found.preempt_delay.as_secs(), 30);
    assert_eq!(found.source, Some("192.168.56.181".parse().unwrap()));
    let peers = ["192.168.56.182", "192.168.56.183"].map(|peer| peer.parse().unwrap());
    let expected = Peers::Unicast {
        addresses: peers.to_vec(),
        minimum_hop_limit: 1,
    };
    assert_eq!(found.peers, expected);
    assert_eq!(found.virtual_mac.as_deref(), Some("mac50"));
    let expected = [
        VirtualAddress {
            address: "2001:db8::185".parse().unwrap(),
            prefix_length: 64,
            interface: None,
            scope: AddressScope::Global,
            label: None,
        },
        VirtualAddress {
            address: "192.168.56.186".parse().unwrap(),
            prefix_length: 32,
            interface: Some("eth3".to_owned()),
            scope: AddressScope::Host,
            label: Some("eth3:vip".to_owned()),
        },
    ];
    assert_eq!(found.further_addresses, expected);
    assert_eq!(found.interface_of(&expected[0]), "mac50");
    assert_eq!(found.interface_of(&expected[1]), "eth3");
    let expected = Announcements {
        burst: 255,
        second_after: None,
        refresh: None,
    };
    assert_eq!(found.announcements, expected);
    assert_eq!(found.announcement_pause.as_secs(), 1);
    assert_eq!(found.group.as_deref(), Some("lan"));
}

#[test]
fn version_2_accepts_its_own_interval_unless_version_3_is_accepted() {
    let accepted = |lines: &str| {
        let accepted = configuration(&with(lines), "ds1").instances[0].accepted_intervals;
        (accepted.least.as_millis(), accepted.most.as_millis())
    };
    assert_eq!(accepted("version: 2\nadvert_interval: 3s"), (3000, 3000));
    assert_eq!(
        accepted("version: 2\nalso_accept: { version: 3 }"),
        (100, 10_000)
    );
}

#[test]
fn an_ipv6_virtual_router_is_one_of_its_own() {
    let text = "vrrp: [{ name: a, interface: e, virtual_router_id: 7, priority: 255, virtual_mac: true, \
                addresses: ['fe80::53/64', '2001:db8::53/64'] }]";
    let found = configuration(text, "anywhere").instances.remove(0);
    assert_eq!(found.family(), Family::Ipv6);
    assert_eq!(found.priority, Priority::OWNER);
    assert_eq!(found.virtual_mac.as_deref(), Some("vrrp6.7"));
    let addresses: Vec<String> = found.addresses.iter().map(ToString::to_string).collect();
    assert_eq!(addresses, ["fe80::53/64", "2001:db8::53/64"]);
}

#[test]
fn an_address_that_is_not_advertised_serves_too() {
    let text = with("further_addresses: [192.168.56.190/24]")
        .replace("    address: 192.168.56.185", "    address: 192.168.56.190");
    let service = configuration(&text, "ds1").services.remove(0);
    assert_eq!(
        service.virtual_services[0].holder,
        Holder::Instance("dns".to_owned())
    );
    let taken = text.replace("address: 192.168.56.183", "address: 192.168.56.190");
    assert_eq!(
        errors(&taken),
        [
            "d.yaml:22:20: services[0].real_servers[0].address: 192.168.56.190 is a VIP; write the real \
          server's own address"
        ]
    );
}
