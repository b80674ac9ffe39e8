//! What is watched of the DNS data that real servers have.

use std::time::Duration;

use lvs_proto::health::Percent;

use super::*;

fn with_watch(watch: &str) -> String {
    changed("    check:\n", &format!("    watch: {watch}\n    check:\n"))
}

#[test]
fn zones_and_validation() {
    let text = with_watch(
        "{ interval: 20s, zones: [{ name: a }, { name: b, maximum_lag: 5, weight: 50% }], \
         dnssec: { signed: c, bogus: d.c } }",
    );
    let found = configuration(&text, "ds1");
    let watch = found.services[0].watch.clone().unwrap();
    assert_eq!(watch.interval, Duration::from_secs(20));
    let [a, b] = &watch.zones[..] else {
        panic!("{watch:?}")
    };
    assert_eq!(a.rules.maximum_time, Some(Duration::from_secs(300)));
    assert_eq!((a.rules.maximum_lag, a.weight), (None, Percent::NONE));
    assert_eq!(a.rules.memory, Duration::from_secs(60));
    assert_eq!((b.rules.maximum_lag, b.rules.maximum_time), (Some(5), None));
    assert_eq!(b.weight, Percent::new(50));
    let dnssec = watch.dnssec.unwrap();
    assert_eq!(dnssec.signed, Some("c".parse().unwrap()));
    assert_eq!(dnssec.bogus, Some("d.c".parse().unwrap()));
    assert_eq!(dnssec.weight, Percent::NONE);
    assert_eq!(configuration(EXAMPLE, "ds1").services[0].watch, None);
}

#[test]
fn mistakes_say_what_would_be_right() {
    for (watch, place, message) in [
        (
            "{}",
            "",
            "watches nothing; write `zones` or `dnssec`, or leave it out",
        ),
        (
            "{ zones: [{}] }",
            ".zones[0]",
            "`name` is missing; write the zone's name, such as example.org",
        ),
        (
            "{ zones: [{ name: a }, { name: A. }] }",
            ".zones[1]",
            "`A` is already listed; list it once",
        ),
        (
            "{ zones: [{ name: a, weight: 101% }] }",
            ".zones[0].weight",
            "`101%` is not a part; must be from \"0%\" to \"100%\"",
        ),
        (
            "{ zones: [{ name: a, for: 500ms }] }",
            ".zones[0].for",
            "500ms is out of range; must be from 1s to 604800s",
        ),
        (
            "{ dnssec: { weight: 10% } }",
            ".dnssec",
            "needs `signed`, the name of a zone whose signatures are good, or `bogus`, a name whose \
             signatures are bad",
        ),
    ] {
        let found = errors(&with_watch(watch));
        let [error] = &found[..] else {
            panic!("{watch}: {found:?}")
        };
        let expected = format!(": services[0].watch{place}: {message}");
        assert!(error.ends_with(&expected), "{error}\n{expected}");
    }
}
