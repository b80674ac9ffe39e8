//! Keys, types and files as a whole.

use std::io::Write;

use super::*;

#[test]
fn unknown_missing_and_repeated_keys() {
    check(&[
        (
            "priority:",
            "prioritty:",
            &[
                "d.yaml:2:5: vrrp[0]: `priority` is missing; write a number from 1 to 254 for each \
                 node, the highest for the one to be Active",
                "d.yaml:5:5: vrrp[0].prioritty: unknown key; did you mean `priority`?",
            ],
        ),
        (
            "    port: 53\n",
            "    port: 53\n    lb_algo: rr\n",
            &[
                "d.yaml:12:5: services[0].lb_algo: unknown key; known here: name, address, \
               addresses, port, ports, protocols, firewall_mark, family, instance, external, \
               scheduler, scheduler_flags, forwarding, persistence, one_packet_scheduling, check, pool, \
               watch, real_servers",
            ],
        ),
        (
            "metrics:",
            "metric:",
            &["d.yaml:24:1: metric: unknown key; did you mean `metrics`?"],
        ),
        (
            "183, weight: 1",
            "183, wieght: 1",
            &[
                "d.yaml:22:36: services[0].real_servers[0].wieght: unknown key; did you mean \
               `weight`?",
            ],
        ),
        (
            "    interface: eth2\n",
            "    interface: eth2\n    interface: eth2\n",
            &["d.yaml:4:5: vrrp[0].interface: is written twice, first in line 3; keep one"],
        ),
        (
            "    interface: eth2\n",
            "",
            &[
                "d.yaml:2:5: vrrp[0]: `interface` is missing; write the interface that carries the \
               adverts, such as eth0",
            ],
        ),
        (
            "    port: 53\n",
            "    1: 2\n    port: 53\n",
            &[
                "d.yaml:11:5: services[0]: a key must be a text, but is a number; write it in \
               quotes",
            ],
        ),
        (
            "    check:\n      dns: { name: www.abc.local, type: A }\n      interval: 500ms\n      \
             timeout: 300ms\n      rise: 2\n      fall: 2\n",
            "",
            &[
                "d.yaml:9:5: services[0]: `check` is missing; without one a dead real server keeps \
               its share of the clients; write a `dns` check, or `check: none` to have it so",
            ],
        ),
    ]);
}

#[test]
fn wrong_types() {
    check(&[
        (
            "virtual_router_id: 50",
            "virtual_router_id: fifty",
            &[
                "d.yaml:4:24: vrrp[0].virtual_router_id: must be a whole number from 1 to 255, but \
               is a text",
            ],
        ),
        (
            "virtual_router_id: 50",
            "virtual_router_id: \"50\"",
            &[
                "d.yaml:4:24: vrrp[0].virtual_router_id: must be a whole number from 1 to 255, but \
               is a text; write it without quotes",
            ],
        ),
        (
            "virtual_router_id: 50",
            "virtual_router_id: 050",
            &[
                "d.yaml:4:24: vrrp[0].virtual_router_id: must be a whole number from 1 to 255, but \
               is a number that is not whole",
            ],
        ),
        (
            "ds2: 150",
            "ds2: [1]",
            &[
                "d.yaml:5:32: vrrp[0].priority.ds2: must be a whole number from 1 to 255, but is a \
               list",
            ],
        ),
        (
            "name: dns",
            "name: 5",
            &["d.yaml:2:11: vrrp[0].name: must be a name, but is a number; write it in quotes"],
        ),
        (
            "    advert_interval: 100ms\n",
            "    preempt: yes\n",
            &["d.yaml:6:14: vrrp[0].preempt: must be `true` or `false`, but is a text"],
        ),
        (
            "addresses: [192.168.56.185/24]",
            "addresses: 192.168.56.185/24",
            &[
                "d.yaml:7:16: vrrp[0].addresses: must be a list of VIPs, such as [192.0.2.1/24], \
               but is a text",
            ],
        ),
        (
            "metrics: { listen: \"127.0.0.1:9712\" }",
            "metrics: 9712",
            &["d.yaml:24:10: metrics: must be a mapping, but is a number"],
        ),
        (
            "check:\n      dns: { name: www.abc.local, type: A }\n      interval: 500ms\n      \
             timeout: 300ms\n      rise: 2\n      fall: 2\n",
            "check:\n",
            &[
                "d.yaml:15:10: services[0].check: must be `none`, a mapping with one of dns, \
               tcp, udp, http, https, exec, agent, or a list of such mappings, but is empty",
            ],
        ),
    ]);
    let nothing = "d.yaml:1:1: must be a mapping, but is";
    assert_eq!(errors(""), [format!("{nothing} empty")]);
    assert_eq!(errors("- a"), [format!("{nothing} a list")]);
    assert_eq!(errors("vrrp"), [format!("{nothing} a text")]);
    assert_eq!(
        errors("metrics: { listen: '[::1]:9712' }"),
        ["d.yaml:1:1: configures nothing; write `vrrp`, `services` or both"]
    );
    assert_eq!(
        errors("vrrp: []"),
        ["d.yaml:1:7: vrrp: is empty; must be a list of virtual routers"]
    );
}

#[test]
fn all_mistakes_are_reported_at_once_by_position() {
    let text = EXAMPLE
        .replace("eth2", "eth/2")
        .replace("port: 53", "port: 70000")
        .replace("rise: 2", "rize: 2")
        .replace("9712", "97120");
    assert_eq!(
        errors(&text),
        [
            "d.yaml:3:16: vrrp[0].interface: `eth/2` is not the name of an interface; must be 1 to \
             15 printable characters other than `/` and `:`",
            "d.yaml:11:11: services[0].port: 70000 is out of range; must be a whole number from 1 \
             to 65535",
            "d.yaml:19:7: services[0].check.rize: unknown key; did you mean `rise`?",
            "d.yaml:24:20: metrics.listen: `127.0.0.1:97120` can't be listened on; must be an \
             address and a port, such as \"127.0.0.1:9712\" or \"[::1]:9712\"",
        ]
    );
}

#[test]
fn syntax_errors_have_positions() {
    let cases = [
        (
            "vrrp: [1\n",
            "d.yaml:1:7: not valid YAML: unclosed bracket '['",
        ),
        (
            "vrrp:\n\t- a\n",
            "d.yaml:2:2: not valid YAML: tabs disallowed within this context (block indentation)",
        ),
        (
            "a: b: c\n",
            "d.yaml:1:5: not valid YAML: mapping values are not allowed in this context",
        ),
        (
            "a: *b\n",
            "d.yaml:1:4: not valid YAML: alias references unknown anchor",
        ),
        (
            "a: 1\n---\nb: 1\n",
            "d.yaml:3:1: a second YAML document starts here; a configuration is one",
        ),
    ];
    for (text, expected) in cases {
        assert_eq!(errors(text), [expected]);
    }
}

#[test]
fn files_that_cannot_be_read() {
    let missing = Path::new("/nonexistent/director.yaml");
    assert_eq!(
        load(missing).err().unwrap().to_string(),
        "/nonexistent/director.yaml: cannot be read: No such file or directory (os error 2)"
    );
    let loaded = |bytes: &[u8]| {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(bytes).unwrap();
        let path = file.path().display().to_string();
        load(file.path())
            .map(|_| ())
            .map_err(|errors| errors.to_string().replace(&path, "FILE"))
    };
    assert_eq!(loaded(EXAMPLE.as_bytes()), Ok(()));
    assert_eq!(
        loaded(b"vrrp: \xff"),
        Err("FILE: is not UTF-8 at byte 6".to_owned())
    );
    let mut large = EXAMPLE.as_bytes().to_vec();
    large.resize(1024 * 1024, b'\n');
    assert_eq!(loaded(&large), Ok(()));
    large.push(b'\n');
    let expected = "FILE: is larger than 1 MiB; a configuration has at most that";
    assert_eq!(loaded(&large), Err(expected.to_owned()));
}

const SERVICES: &str = include_str!("../../../../deploy/examples/external-address.yaml");

#[test]
fn hostile_files_end_soon_and_with_an_error() {
    let bomb = "a: &a [x, x, x, x, x, x, x, x, x]\n".to_owned()
        + &('b'..='k')
            .map(|letter| {
                let before = char::from(letter as u8 - 1);
                let aliases = vec![format!("*{before}"); 9].join(", ");
                format!("{letter}: &{letter} [{aliases}]\n")
            })
            .collect::<String>();
    for text in [
        "[".repeat(100_000),
        "{a: ".repeat(100_000),
        "- ".repeat(100_000),
        bomb,
    ] {
        assert!(!errors(&text).is_empty());
    }
    // As deep as the parser lets through.
    for depth in [60, 100, 500, 1900] {
        let text = format!("vrrp: {}{}", "[".repeat(depth), "]".repeat(depth));
        assert!(!errors(&text).is_empty());
    }
}

proptest::proptest! {
    #[test]
    fn no_text_panics(text in "[a-z:\\-\\[\\]{}&*!|>'\"%@`#, \n0-9.]{0,200}") {
        let _ = errors(&text);
    }

    #[test]
    fn no_change_of_the_example_panics(at in 0..EXAMPLE.len(), byte in 0x20u8..0x7f) {
        let mut bytes = EXAMPLE.as_bytes().to_vec();
        bytes[at] = byte;
        let _ = errors(&String::from_utf8(bytes).unwrap_or_default());
    }

    #[test]
    fn no_change_of_services_panics(at in 0..SERVICES.len(), byte in 0x20u8..0x7f) {
        let mut bytes = SERVICES.as_bytes().to_vec();
        bytes[at] = byte;
        let _ = errors(&String::from_utf8(bytes).unwrap_or_default());
    }
}
