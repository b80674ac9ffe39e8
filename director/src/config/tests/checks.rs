//! What a check may be, and for whom it speaks.

use std::path::Path;

use super::*;

/// A service over UDP and TCP with this check, on line 3.
fn with_check(check: &str) -> String {
    format!(
        "services:\n  - {{ name: a, address: 192.0.2.1, port: 53, protocols: [udp, tcp], external: true, \
         real_servers: [{{ address: 10.0.0.1 }}],\n check: {check} }}\n"
    )
}

fn found(check: &str) -> Service {
    configuration(&with_check(check), "any").services.remove(0)
}

fn mistakes(check: &str) -> Vec<String> {
    let mistakes = errors(&with_check(check)).into_iter();
    mistakes
        .map(|mistake| {
            let (_, words) = mistake.split_once("services[0].check").unwrap();
            words.to_owned()
        })
        .collect()
}

#[test]
fn every_kind_in_its_own_words() {
    for (check, words, protocols) in [
        ("{ tcp: }", "TCP connection", vec![Protocol::Tcp]),
        ("{ tcp: {} }", "TCP connection", vec![Protocol::Tcp]),
        ("{ udp: }", "UDP empty datagram", vec![Protocol::Udp]),
        (
            "{ udp: { payload: ping, require_reply: true } }",
            "UDP `ping`, with a reply",
            vec![Protocol::Udp],
        ),
        (
            "{ udp: { payload_hex: \"e3000aFF\" } }",
            "UDP `\\xe3\\x00\\n\\xff`",
            vec![Protocol::Udp],
        ),
        (
            "{ http: {}, port: 80 }",
            "HTTP / is 200-299",
            vec![Protocol::Udp, Protocol::Tcp],
        ),
        (
            "{ https: { host: www.example.org, path: \"/h?a=b\", status: [204, 300-399], body: \"^ok$\" } }",
            "HTTPS www.example.org/h?a=b is 204,300-399, body has `^ok$`",
            vec![Protocol::Udp, Protocol::Tcp],
        ),
        (
            "{ https: { verify: false }, protocols: [tcp] }",
            "HTTPS, unverified, / is 200-299",
            vec![Protocol::Tcp],
        ),
        (
            "{ exec: { command: [/bin/x, \"{address}\"], weight_by_exit: true } }",
            "program /bin/x {address}, with weights",
            vec![Protocol::Udp, Protocol::Tcp],
        ),
        (
            "{ agent: , port: 9777 }",
            "agent",
            vec![Protocol::Udp, Protocol::Tcp],
        ),
    ] {
        let service = found(check);
        let check = &service.checks[0];
        assert_eq!(check.probing.kind.to_string(), words);
        assert_eq!(check.protocols, protocols, "{words}");
        assert_eq!(service.protocols, protocols, "{words}");
    }
}

#[test]
fn programs_have_more_time() {
    let exec = found("{ exec: { command: [/bin/x] } }");
    let tcp = found("{ tcp: }");
    let times = |service: &Service| {
        let probing = &service.checks[0].probing;
        (probing.interval.as_millis(), probing.timeout.as_millis())
    };
    assert_eq!((times(&exec), times(&tcp)), ((5000, 3000), (500, 300)));
}

#[test]
fn several_checks_speak_together() {
    let service = found("[{ dns: { name: . }, protocols: [udp] }, { tcp: }, { agent: , port: 9 }]");
    let spoken: Vec<_> = service
        .checks
        .iter()
        .map(|check| check.protocols.len())
        .collect();
    assert_eq!(spoken, [1, 1, 2]);
    assert_eq!(service.protocols, [Protocol::Udp, Protocol::Tcp]);
}

#[test]
fn what_is_wrong_with_a_check() {
    for (check, expected) in [
        (
            "{ port: 53 }",
            &[
                ": nothing says what is probed; write one of dns, tcp, udp, http, https, exec, \
               agent, such as dns: { name: example.org }",
            ][..],
        ),
        (
            "{ tcp: , dns: { name: . } }",
            &[
                ".tcp: there is `dns` too, and a check is of one kind; write a list of two checks, \
               or leave `tcp` out",
            ],
        ),
        ("[]", &[": is empty; must be a list of checks"]),
        (
            "{ smtp: {} }",
            &[
                ": nothing says what is probed; write one of dns, tcp, udp, http, https, exec, \
                 agent, such as dns: { name: example.org }",
                ".smtp: unknown key; known here: dns, tcp, udp, http, https, exec, agent, port, \
                 interval, timeout, rise, fall, protocols, path",
            ],
        ),
        (
            "{ tcp: {}, path: true }",
            &[".path: a `tcp` check has no probes by the VIP, `dns` has; leave it out"],
        ),
        (
            "{ tcp: { port: 80 } }",
            &[".tcp.port: unknown key; there is nothing to be set"],
        ),
        (
            "{ tcp: , protocols: [udp] }",
            &[".protocols: a `tcp` check can't speak for udp; leave it out"],
        ),
        (
            "{ http: , protocols: [sctp] }",
            &[".protocols: the service hasn't sctp; leave it out, or add it to the service"],
        ),
        (
            "{ udp: { payload: a, payload_hex: \"00\" } }",
            &[".udp: has `payload` and `payload_hex`; leave one of the two out"],
        ),
        (
            "{ udp: { payload_hex: \"012\" } }",
            &[
                ".udp.payload_hex: `012` isn't a whole number of bytes; must be the bytes to send \
               in hexadecimal digits, such as \"e30000\"",
            ],
        ),
        (
            "{ http: { path: health } }",
            &[".http.path: `health` can't be asked for; must be a path, such as /health"],
        ),
        (
            "{ http: { host: \"a b\", verify: false } }",
            &[
                ".http.host: `a b` isn't a host name; must be the name that is asked for, such \
                 as www.example.org",
                ".http.verify: unknown key; known here: host, path, status, body",
            ],
        ),
        (
            "{ http: { status: [99, 300-200, abc] } }",
            &[
                ".http.status[0]: isn't a status; must be one from 100 to 599, or a range such \
                 as 200-299",
                ".http.status[1]: isn't a status; must be one from 100 to 599, or a range such \
                 as 200-299",
                ".http.status[2]: isn't a status; must be one from 100 to 599, or a range such \
                 as 200-299",
            ],
        ),
        (
            "{ exec: {} }",
            &[
                ".exec: `command` is missing; write the program and its arguments, such as \
               [/usr/local/bin/UDP_CHECK.sh, \"{address}\", \"{port}\", word]",
            ],
        ),
        (
            "{ exec: { command: [dig] } }",
            &[
                ".exec.command[0]: `dig` is not an absolute path; write the program with its whole \
               path, since neither a shell nor PATH is asked",
            ],
        ),
    ] {
        assert_eq!(mistakes(check), expected, "{check}");
    }
}

#[test]
fn a_program_needs_a_port_only_where_it_is_told_one() {
    let service = |command: &str| {
        errors(&format!(
            "services:\n  - {{ name: a, firewall_mark: 1, protocols: [udp], external: true, \
             one_packet_scheduling: true, real_servers: [{{ address: 10.0.0.1 }}], check: {{ exec: {{ \
             command: [/bin/x, {command}] }} }} }}\n"
        ))
    };
    assert_eq!(service("word"), Vec::<String>::new());
    let told = service("\"-p{port}\"");
    assert!(told[0].contains("`port` is missing"), "{told:?}");
}

#[test]
fn programs_are_looked_for_on_request() {
    let text = with_check("[{ exec: { command: [/nonexistent/UDP_CHECK.sh] } }, { tcp: }]");
    let file = parse(Path::new("d.yaml"), &text).unwrap_or_else(|errors| panic!("{errors}"));
    let missing = file.find_programs().unwrap_err().to_string();
    assert_eq!(
        missing,
        "d.yaml:3:29: services[0].check[0].exec.command: there is no `/nonexistent/UDP_CHECK.sh` on \
         this machine; write the right path, or use `--elsewhere` for another machine's file"
    );
    let text = with_check("{ exec: { command: [/bin/sh] } }");
    let file = parse(Path::new("d.yaml"), &text).unwrap_or_else(|errors| panic!("{errors}"));
    assert!(file.find_programs().is_ok());
}
