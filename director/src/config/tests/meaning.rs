//! What a valid file means.

use lvs_proto::ipvs::Scheduler;
use lvs_proto::vrrp::{ChecksumForm, Version};

use super::*;

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
    assert_eq!(service.holder, Holder::Instance("dns".to_owned()));
    assert_eq!(service.protocols, [Protocol::Udp, Protocol::Tcp]);
    assert_eq!(service.scheduler, Scheduler::WeightedRoundRobin);
    assert_eq!(
        service.one_packet_scheduling,
        OnePacketScheduling {
            enabled: true,
            configured: false
        }
    );
    let servers: Vec<_> = service
        .real_servers
        .iter()
        .map(|it| (it.address.to_string(), it.weight))
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
    assert_eq!(service.forwarding, Forwarding::DirectRouting);
    assert!(!service.one_packet_scheduling.enabled, "there is no UDP");
    let check = service.check.as_ref().unwrap();
    let Probe::Dns { record_type, .. } = &check.probe;
    assert_eq!(record_type.mnemonic(), "A");
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
    assert_eq!(
        service.one_packet_scheduling,
        OnePacketScheduling {
            enabled: false,
            configured: true
        }
    );
    assert_eq!(service.scheduler, Scheduler::MaglevHashing);
    let timeout = service.check.as_ref().unwrap().timeout;
    assert_eq!(timeout.as_millis(), 100, "no longer than the interval");
    assert_eq!(service.real_servers[1].weight, 0);
    assert_eq!(found.dataplane, Dataplane::None);
    let none = changed(
        "check:\n      dns: { name: www.abc.local, type: A }\n      interval: 500ms\n      \
         timeout: 300ms\n      rise: 2\n      fall: 2\n",
        "check: none\n",
    );
    assert_eq!(configuration(&none, "ds1").services[0].check, None);
    let external = changed("port: 53\n", "port: 5353\n    external: true\n")
        .replace("[192.168.56.185/24]", "[192.168.56.186/24]");
    let service = &configuration(&external, "ds1").services[0];
    assert_eq!(service.holder, Holder::External);
    assert!(
        !service.one_packet_scheduling.enabled,
        "the default is for port 53"
    );
}

#[test]
fn yaml_anchors_and_merge_keys_work() {
    let text = changed(
        "      - { address: 192.168.56.183, weight: 1 }\n      - { address: 192.168.56.184, weight: 1 }\n",
        "      - &first { address: 192.168.56.183, weight: 7 }\n      - { <<: *first, address: 192.168.56.184 }\n",
    );
    let servers = &configuration(&text, "ds1").services[0].real_servers;
    assert_eq!(
        (servers[1].address.to_string().as_str(), servers[1].weight),
        ("192.168.56.184", 7)
    );
}
