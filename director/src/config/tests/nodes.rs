//! One file for several nodes.

use lvs_proto::vrrp::{ChecksumForm, Password, Version};

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
