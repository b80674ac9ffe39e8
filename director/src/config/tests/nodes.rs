//! One file for several nodes.

use lvs_proto::vrrp::{ChecksumForm, Password, Peers, Version};

use super::*;

#[test]
fn every_vrrp_field_may_differ_by_node() {
    let text = "\
vrrp:
  - name: { a: left, b: right }
    interface: { a: eth1, b: eth2 }
    virtual_router_id: { a: 1, b: 2 }
    priority: { a: 10, b: 20 }
    advert_interval: { a: 10ms, b: 2s }
    version: { a: 3, b: 2 }
    addresses: { a: [192.0.2.1/24], b: [192.0.2.2/24, 192.0.2.3/32] }
    preempt: { a: true, b: false }
";
    let a = configuration(text, "a").instances.remove(0);
    let b = configuration(text, "b").instances.remove(0);
    assert_eq!((a.name.as_str(), b.name.as_str()), ("left", "right"));
    assert_eq!(
        (a.interface.as_str(), b.interface.as_str()),
        ("eth1", "eth2")
    );
    assert_eq!(
        (a.virtual_router_id.get(), b.virtual_router_id.get()),
        (1, 2)
    );
    assert_eq!((a.priority.get(), b.priority.get()), (10, 20));
    assert_eq!(
        (
            a.advert_interval.get().as_millis(),
            b.advert_interval.get().as_secs()
        ),
        (10, 2)
    );
    assert_eq!(
        (a.version.version(), b.version.version()),
        (Version::V3, Version::V2)
    );
    assert_eq!((a.addresses.len(), b.addresses.len()), (1, 2));
    assert_eq!((a.preempt, b.preempt), (true, false));
    let text = changed(
        "    advert_interval: 100ms\n",
        "    checksum: { ds1: message-only, ds2: pseudo-header }\n",
    );
    let checksum = |node| configuration(&text, node).instances.remove(0).version;
    assert_eq!(
        checksum("ds1"),
        VersionSettings::V3 {
            checksum: ChecksumForm::MessageOnly,
            hmac: None
        }
    );
    assert_eq!(
        checksum("ds2"),
        VersionSettings::V3 {
            checksum: ChecksumForm::PseudoHeader,
            hmac: None
        }
    );
    let text = changed(
        "    advert_interval: 100ms\n",
        "    version: 2\n    authentication: { ds1: { password: one }, ds2: { password: two } }\n",
    );
    for (node, word) in [("ds1", "one"), ("ds2", "two")] {
        let password = Some(Password::new(word).unwrap());
        let version = configuration(&text, node).instances.remove(0).version;
        assert_eq!(version, VersionSettings::V2 { password });
    }
}

#[test]
fn nodes_that_a_map_lacks_are_named() {
    check(&[(
        "addresses: [192.168.56.185/24]",
        "addresses: { ds1: [192.168.56.185/24], ds3: [192.168.56.185/24] }",
        &[
            "d.yaml:5:15: vrrp[0].priority: has no value for node `ds3`; it has ds1, ds2",
            "d.yaml:7:16: vrrp[0].addresses: has no value for node `ds2`; it has ds1, ds3",
        ],
    )]);
    let errors = parsed(EXAMPLE)
        .unwrap_or_else(|e| panic!("{e}"))
        .for_node("ds9")
        .unwrap_err();
    assert_eq!(
        errors.to_string(),
        "d.yaml:5:15: vrrp[0].priority: has no value for node `ds9`; it has ds1, ds2"
    );
    check(&[(
        "priority: { ds1: 200, ds2: 150 }",
        "priority: {}",
        &["d.yaml:5:15: vrrp[0].priority: is empty; write a value, or a value for each node"],
    )]);
}

#[test]
fn every_mapping_and_list_may_differ_by_node_too() {
    let text = "\
vrrp:
  - name: dns
    interface: eth2
    virtual_router_id: 1
    priority: 1
    addresses: [192.0.2.1/24]
    accept_intervals: { a: { from: 50ms, to: 200ms }, b: { from: 100ms, to: 1s } }
    authentication: { a: { hmac: { send: 1, keys: { 1: 0123456789abcdef0123456789abcdef } } }, b: ~ }
    also_accept: { a: ~, b: { version: 2 } }
    preempt_delay: { a: 1s, b: 2s }
    source: { a: 192.0.2.2, b: 192.0.2.3 }
    peers: { a: [192.0.2.3], b: [192.0.2.2] }
    minimum_ttl: { a: 255, b: 254 }
    virtual_mac: { a: true, b: mac }
    further_addresses: { a: ~, b: [192.0.2.9/32] }
    announce: { a: { burst: 1 }, b: { burst: 2 } }
    group: { a: one, b: ~ }
    track: { a: { interfaces: [e1] }, b: { interfaces: [e2] } }
    hooks: { a: [{ command: [/a] }], b: [{ command: [/b] }] }
";
    let a = configuration(text, "a").instances.remove(0);
    let b = configuration(text, "b").instances.remove(0);
    let milliseconds = |instance: &Instance| {
        let accepted = instance.accepted_intervals;
        (accepted.least.as_millis(), accepted.most.as_millis())
    };
    assert_eq!(
        (milliseconds(&a), milliseconds(&b)),
        ((50, 200), (100, 1000))
    );
    assert!(matches!(
        a.version,
        VersionSettings::V3 { hmac: Some(_), .. }
    ));
    assert!(matches!(b.version, VersionSettings::V3 { hmac: None, .. }));
    assert_eq!(
        (a.also_accept.version, b.also_accept.version),
        (None, Some(Version::V2))
    );
    assert_eq!(
        (a.preempt_delay.as_secs(), b.preempt_delay.as_secs()),
        (1, 2)
    );
    let unicast = |peer: &str, minimum_hop_limit| Peers::Unicast {
        addresses: vec![peer.parse().unwrap()],
        minimum_hop_limit,
    };
    assert_eq!(a.source, Some("192.0.2.2".parse().unwrap()));
    assert_eq!(b.source, Some("192.0.2.3".parse().unwrap()));
    assert_eq!(a.peers, unicast("192.0.2.3", 255));
    assert_eq!(b.peers, unicast("192.0.2.2", 254));
    assert_eq!(a.virtual_mac.as_deref(), Some("vrrp.1"));
    assert_eq!(b.virtual_mac.as_deref(), Some("mac"));
    assert_eq!(
        (a.further_addresses.len(), b.further_addresses.len()),
        (0, 1)
    );
    assert_eq!((a.announcements.burst, b.announcements.burst), (1, 2));
    assert_eq!(
        (a.group.as_deref(), b.group.as_deref()),
        (Some("one"), None)
    );
    let tracked = |instance: &Instance| instance.track.interfaces[0].0.clone();
    assert_eq!(
        (tracked(&a), tracked(&b)),
        ("e1".to_owned(), "e2".to_owned())
    );
    assert_eq!(a.hooks[0].command, ["/a"]);
    assert_eq!(b.hooks[0].command, ["/b"]);
}

#[test]
fn what_must_be_there_cannot_be_left_empty_for_a_node() {
    check(&[(
        "priority: { ds1: 200, ds2: 150 }",
        "priority: { ds1: 200, ds2: }",
        &["d.yaml:5:15: vrrp[0].priority: is empty for node `ds2`"],
    )]);
    // Without a map there is no node to be left out for.
    check(&[(
        "advert_interval: 100ms",
        "preempt:",
        &["d.yaml:6:12: vrrp[0].preempt: must be `true` or `false`, but is empty"],
    )]);
}
