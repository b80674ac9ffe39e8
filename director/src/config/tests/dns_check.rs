//! What a DNS check asks and expects.

use lvs_proto::dns::{Class, Expectation, Flag, RecordType, Records, Requirement, ResponseCode};

use super::*;

/// The example's check with these keys in braces.
fn dns(keys: &str) -> DnsCheck {
    let text = changed("{ name: www.abc.local, type: A }", &format!("{{ {keys} }}"));
    let found = configuration(&text, "ds1");
    let CheckKind::Dns(check) = &found.services[0].checks[0].probing.kind else {
        panic!("{keys}")
    };
    check.clone()
}

/// Expects this mistake of a check with such keys, as `KEY: MESSAGE`.
fn wrong(cases: &[(&str, &str)]) {
    for (keys, expected) in cases {
        let text = changed("{ name: www.abc.local, type: A }", &format!("{{ {keys} }}"));
        let errors = errors(&text);
        let [error] = &errors[..] else {
            panic!("{keys}: {errors:?}")
        };
        let (place, message) = error.split_once(": services[0].check.dns").unwrap();
        assert!(place.starts_with("d.yaml:16:"), "{error}");
        assert_eq!(message, *expected, "{keys}");
    }
}

#[test]
fn the_plain_check_suits_either_kind_of_server() {
    let check = dns("name: example.org");
    assert!(check.follows_truncation, "the service has TCP");
    let probe = &check.probes[0];
    assert_eq!(probe.record_type, RecordType::A);
    assert!(probe.recursion_desired);
    assert_eq!(probe.edns, None);
    assert_eq!(probe.expected, Expectation::default());
}

#[test]
fn presets_choose_what_is_not_written() {
    let check = dns("name: example.org, preset: recursive");
    let probe = &check.probes[0];
    assert_eq!((probe.record_type, probe.edns), (RecordType::A, Some(1232)));
    assert!(probe.recursion_desired);
    assert_eq!(probe.expected.flags, [Flag::RecursionAvailable].into());

    let check = dns("name: example.org, preset: authoritative");
    let probe = &check.probes[0];
    assert_eq!(
        (probe.record_type, probe.edns),
        (RecordType::Soa, Some(1232))
    );
    assert!(!probe.recursion_desired);
    assert_eq!(probe.expected.flags, [Flag::AuthoritativeAnswer].into());

    let check = dns(
        "name: example.org, preset: authoritative, type: NS, flags: [], edns_size: none, \
         recursion_desired: true",
    );
    let probe = &check.probes[0];
    assert_eq!((probe.record_type, probe.edns), (RecordType::Ns, None));
    assert!(probe.recursion_desired && probe.expected.flags.is_empty());
}

#[test]
fn all_that_is_written_counts() {
    let check = dns(
        "names: [a.example, b.example], require: majority, type: a, checking_disabled: true, \
         dnssec_ok: true, edns_size: 4096, nsid: true, cookie: true, mixed_case: true, \
         response_codes: [noerror, NXDOMAIN], flags: [ra, aa], records: { any_of: [192.0.2.1] }, \
         minimum_records: 2, ttl: { from: 60s, to: 300s }",
    );
    assert_eq!(check.require, Requirement::Majority);
    assert_eq!(check.probes.len(), 2);
    assert_eq!(check.to_string(), "majority of a.example, b.example A");
    let probe = &check.probes[1];
    assert!(probe.checking_disabled && probe.dnssec_ok && probe.nsid && probe.cookie);
    assert!(probe.mixed_case);
    assert_eq!(probe.edns, Some(4096));
    let expected = &probe.expected;
    assert_eq!(
        expected.response_codes,
        [ResponseCode::NO_ERROR, ResponseCode::NAME_ERROR].into()
    );
    assert_eq!(
        expected.flags,
        [Flag::RecursionAvailable, Flag::AuthoritativeAnswer].into()
    );
    assert!(matches!(&expected.records, Some(Records::AnyOf(data)) if data.len() == 1));
    assert_eq!(expected.minimum_records, 2);
    assert_eq!(expected.time_to_live, Some(60..=300));

    let check = dns("name: id.server, class: CH, records: { pattern: 'rs-[0-9]+' }");
    let probe = &check.probes[0];
    assert_eq!(
        (probe.class, probe.record_type),
        (Class::Chaos, RecordType::Txt)
    );
    assert_eq!(check.to_string(), "id.server CH TXT");
    assert_eq!(
        dns("name: a, ttl: { to: 5s }").probes[0]
            .expected
            .time_to_live,
        Some(0..=5)
    );
    assert_eq!(dns("name: a, nsid: true").probes[0].edns, Some(1232));
}

#[test]
fn mistakes_name_the_key_and_what_would_be_right() {
    wrong(&[
        (
            "type: A",
            ": `name` is missing; write a name that every real server answers, such as example.org",
        ),
        (
            "name: a, names: [b]",
            ".names: there is `name` too; write all of them here, and leave it out",
        ),
        (
            "names: [a, A.]",
            ".names[1]: `A` is already listed; list it once",
        ),
        (
            "names: []",
            ".names: is empty; must be a list of domain names",
        ),
        (
            "name: a, require: any",
            ".require: is for several names; write `names`, or leave this out",
        ),
        (
            "names: [a, b], require: some",
            ".require: `some` is not known; must be one of all, any, majority",
        ),
        (
            "name: a, preset: resolver",
            ".preset: `resolver` is not known; must be one of recursive, authoritative",
        ),
        (
            "name: a, class: HS",
            ".class: unknown class `HS`; known are IN and CH",
        ),
        (
            "name: a, edns_size: 100",
            ".edns_size: 100 is out of range; must be a whole number from 512 to 4096",
        ),
        (
            "name: a, flags: [tc]",
            ".flags[0]: unknown flag `tc`; known are aa, ra and ad",
        ),
        (
            "name: a, records: {}",
            ".records: needs one of `exact`, `any_of` and `pattern`, such as { any_of: [192.0.2.1] }",
        ),
        (
            "name: a, records: { exact: [b] }",
            ".records.exact[0]: `b` isn't what A records say; write an IPv4 address, such as 192.0.2.1",
        ),
        (
            "name: a, ttl: {}",
            ".ttl: needs a bound, such as { from: 60s, to: 3600s }",
        ),
        (
            "name: a, ttl: { from: 9s, to: 8s }",
            ".ttl.to: is below `from`, 9s; exchange them",
        ),
        (
            "name: a, ttl: { from: 1500ms }",
            ".ttl.from: must be whole seconds, such as 60s",
        ),
    ]);
    let text = changed(
        "{ name: www.abc.local, type: A }",
        "{ name: a, records: { pattern: '(' } }",
    );
    let found = errors(&text);
    assert!(
        found[0].contains("records.pattern: `(` isn't a regular expression: "),
        "{found:?}"
    );
    let text = changed(
        "{ name: www.abc.local, type: A }",
        "{ name: a, response_codes: [OK] }",
    );
    assert!(errors(&text)[0].contains("unknown response code `OK`; known are NOERROR, "));
}

#[test]
fn what_contradicts_itself_is_an_error() {
    wrong(&[
        (
            "name: a, preset: recursive, recursion_desired: false",
            ".recursion_desired: the preset `recursive` asks for recursion; leave out one of the two",
        ),
        (
            "name: a, class: CH, type: A",
            ".type: class CH has only TXT records; leave this out",
        ),
        (
            "name: a, edns_size: none, nsid: true",
            ".nsid: travels in EDNS, which `edns_size: none` switches off; leave out one of the two",
        ),
        (
            "name: a, checking_disabled: true, flags: [ad]",
            ".flags: no answer has `ad`: `checking_disabled` asks a resolver not to look at signatures; leave out one of the two",
        ),
        (
            "name: a, preset: authoritative, flags: [ad]",
            ".flags: no answer has `ad`: only a resolver that is asked for recursion says it; leave out one of the two",
        ),
        (
            "name: a, response_codes: [NXDOMAIN], minimum_records: 1",
            ".minimum_records: is looked at in answers with NOERROR only, which `response_codes` doesn't list; leave out one of the two",
        ),
        (
            "name: a, records: { exact: [192.0.2.1] }, minimum_records: 2",
            ".minimum_records: `records.exact` has 1, and no others pass; leave this out",
        ),
        (
            "name: ., mixed_case: true",
            ".mixed_case: `.` has no letters; leave this out",
        ),
    ]);
}
