//! What virtual routers track, and who is told.

use std::num::NonZeroI16;
use std::path::PathBuf;
use std::time::Duration;

use super::*;

fn weight(weight: i16) -> Effect {
    Effect::Weight(NonZeroI16::new(weight).unwrap())
}

#[test]
fn all_that_can_be_tracked() {
    let text = with(
        "track:
  interfaces: [eth1, { name: eth3, weight: -50 }, { name: eth4 }]
  scripts:
    - { name: a, command: [/bin/a, '1'], interval: 2s, timeout: 1s, rise: 3, fall: 4, weight: 253 }
    - { name: b, command: [/bin/b] }
  files: [{ path: /run/bias, weight: -2 }, { path: /run/other }]
  services: [resolver]
hooks:
  - { on: [active, stopped], command: [/bin/tell, 'x y'], timeout: 1s }
  - { command: [/bin/all] }",
    );
    let found = configuration(&text, "ds1").instances.remove(0);
    let script = |name: &str, command: &[&str], interval, timeout, rise: u8, fall: u8, effect| {
        TrackedScript {
            name: name.to_owned(),
            command: command.iter().map(|&word| word.to_owned()).collect(),
            interval: Duration::from_secs(interval),
            timeout: Duration::from_secs(timeout),
            rise: rise.try_into().unwrap(),
            fall: fall.try_into().unwrap(),
            effect,
        }
    };
    let file = |path: &str, weight| TrackedFile {
        path: PathBuf::from(path),
        weight: NonZeroI16::new(weight).unwrap(),
    };
    let expected = Track {
        interfaces: vec![
            ("eth1".to_owned(), Effect::Fault),
            ("eth3".to_owned(), weight(-50)),
            ("eth4".to_owned(), Effect::Fault),
        ],
        scripts: vec![
            script("a", &["/bin/a", "1"], 2, 1, 3, 4, weight(253)),
            script("b", &["/bin/b"], 1, 1, 1, 1, Effect::Fault),
        ],
        files: vec![file("/run/bias", -2), file("/run/other", 1)],
        services: vec![("resolver".to_owned(), Effect::Fault)],
    };
    assert_eq!(found.track, expected);
    let hook = |on: &[HookState], command: &[&str], timeout| Hook {
        on: on.to_vec(),
        command: command.iter().map(|&word| word.to_owned()).collect(),
        timeout: Duration::from_secs(timeout),
    };
    let expected = [
        hook(
            &[HookState::Active, HookState::Stopped],
            &["/bin/tell", "x y"],
            1,
        ),
        hook(&HookState::ALL, &["/bin/all"], 10),
    ];
    assert_eq!(found.hooks, expected);
}

#[test]
fn wrong_values_of_what_is_tracked() {
    check_lines(&[
        (
            "track: { interfaces: [{ name: eth1, weight: 0 }, { name: e, weight: 254 }] }",
            &[
                "6:49 track.interfaces[0].weight: 0 changes nothing; must be a whole number from \
                 -253 to 253 other than 0",
                "6:73 track.interfaces[1].weight: 254 is out of range; must be a whole number from \
                 -253 to 253",
            ],
        ),
        (
            "track: { interfaces: [eth2] }",
            &[
                "6:27 track.interfaces[0]: `eth2` is the virtual router's own interface, which is \
               watched anyway; leave it out",
            ],
        ),
        (
            "track: { interfaces: [eth1, { name: eth1, weight: 1 }] }",
            &["6:33 track.interfaces[1]: `eth1` is already tracked in line 6; list it once"],
        ),
        (
            "track: { scripts: [{ name: a, command: check }, { name: b, command: [check, /a] }] }",
            &[
                "6:44 track.scripts[0].command: must be a list of a program and its arguments, such \
                 as [/usr/local/bin/check, eth0], but is a text",
                "6:74 track.scripts[1].command[0]: `check` is not an absolute path; write the program \
                 with its whole path, since neither a shell nor PATH is asked",
            ],
        ),
        (
            "track: { scripts: [{ name: a, command: [/a, 5] }] }",
            &[
                "6:49 track.scripts[0].command[1]: must be a text, but is a number; write it in quotes",
            ],
        ),
        (
            "track: { scripts: [{ name: a, command: [/a, \"\\0\"] }] }",
            &["6:49 track.scripts[0].command[1]: has a zero byte, which no argument can"],
        ),
        (
            "track: { scripts: [{ name: a, command: [/a], interval: 1s, timeout: 2s }] }",
            &[
                "6:73 track.scripts[0].timeout: 2s is longer than the interval, so that the next would \
               start while one still waits; must be at most 1s",
            ],
        ),
        (
            "track: { scripts: [{ name: a, command: [/a], interval: 99ms, timeout: 0s, rise: 0 }] }",
            &[
                "6:60 track.scripts[0].interval: 99ms is out of range; must be from 100ms to 3600s",
                "6:85 track.scripts[0].rise: 0 is out of range; must be a whole number from 1 to 255",
            ],
        ),
        (
            "track: { files: [{ path: bias }, { weight: 1 }] }",
            &[
                "6:30 track.files[0].path: `bias` is not an absolute path; write the file with its \
                 whole path",
                "6:38 track.files[1]: `path` is missing; write the file with its whole path",
            ],
        ),
        (
            "track: { services: [resolver, other] }",
            &["6:35 track.services[1]: there is no service `other`; the file has resolver"],
        ),
        (
            "track: { script: [] }",
            &["6:14 track.script: unknown key; did you mean `scripts`?"],
        ),
        (
            "track: { services: [] }",
            &["6:24 track.services: is empty; must be a list of services by name"],
        ),
    ]);
    let text = "vrrp: [{ name: a, interface: e, virtual_router_id: 1, priority: 1, addresses: \
                [192.0.2.1/24], track: { services: [dns] } }]";
    assert_eq!(
        errors(text),
        ["d.yaml:1:115: vrrp[0].track.services[0]: there is no service `dns`; the file has none"]
    );
    let broken = with("track: { services: [other] }").replace("port: 53", "port: 0");
    let found = errors(&broken).concat();
    assert!(
        !found.contains("no service"),
        "who knows which it has: {found}"
    );
}

#[test]
fn wrong_values_of_hooks() {
    check_lines(&[
        (
            "hooks: [{ on: [master], command: [/a] }, { on: [fault, fault], command: [/a] }]",
            &[
                "6:20 hooks[0].on[0]: `master` is not known; must be one of active, backup, fault, \
                 stopped",
                "6:60 hooks[1].on[1]: `fault` is already listed; list it once",
            ],
        ),
        (
            "hooks: [{ command: [a], timeout: 0s }, { on: [] }]",
            &[
                "6:25 hooks[0].command[0]: `a` is not an absolute path; write the program with its \
                 whole path, since neither a shell nor PATH is asked",
                "6:38 hooks[0].timeout: 0s is out of range; must be from 100ms to 3600s",
                "6:44 hooks[1]: `command` is missing; write the program and its first arguments, such \
                 as [/usr/local/bin/notify]",
                "6:50 hooks[1].on: is empty; must be a list such as [active, fault]",
            ],
        ),
        (
            "hooks: { command: [/a] }",
            &["6:24 hooks.command[0]: must be a mapping, but is a text"],
        ),
    ]);
}

#[test]
fn a_service_that_never_fails_is_warned_of() {
    let text = with("track: { services: [resolver] }");
    assert_eq!(warnings(&text), Vec::<String>::new());
    let unchecked = text.replace(
        "check:\n      dns: { name: www.abc.local, type: A }\n      interval: 500ms\n      \
         timeout: 300ms\n      rise: 2\n      fall: 2\n",
        "check: none\n",
    );
    assert_eq!(
        warnings(&unchecked),
        ["d.yaml:6:25: vrrp[0].track.services[0]: `resolver` has no check, so that it never fails"]
    );
}

#[test]
fn weights_that_leave_the_best_best_are_warned_of() {
    let track = |weight: i16| {
        with(&format!(
            "track: {{ interfaces: [{{ name: e, weight: {weight} }}] }}"
        ))
    };
    let expected = "d.yaml:6:12: vrrp[0].track: on `ds1` the weights take the priority from 200 to no \
                    less than 151, and no other node has more than 150: whatever fails, it stays \
                    Active; write larger weights, or leave them out where failing means fault";
    assert_eq!(warnings(&track(-49)), [expected]);
    // Equal priorities are settled by address.
    assert_eq!(warnings(&track(-50)), Vec::<String>::new());
    assert_eq!(
        warnings(&track(50)),
        Vec::<String>::new(),
        "the other may be 200 too"
    );
    assert_eq!(
        warnings(&with("track: { interfaces: [e] }")),
        Vec::<String>::new()
    );
    let with_file = with("track: { interfaces: [{ name: e, weight: -1 }], files: [{ path: /a }] }");
    assert_eq!(
        warnings(&with_file),
        Vec::<String>::new(),
        "who knows what a file says"
    );
    let weights = |text: &str| {
        let possible = configuration(text, "ds1").instances[0].priorities();
        (*possible.start(), *possible.end())
    };
    assert_eq!(weights(&track(-253)), (1, 200));
    assert_eq!(weights(&track(253)), (200, 254));
}
