#![allow(clippy::unwrap_used)]

mod checks;
mod dns_check;
mod documentation;
mod files;
mod meaning;
mod nodes;
mod pool;
mod secrets;
mod service_keys;
mod service_meaning;
mod services;
mod together;
mod tracking;
mod virtual_routers;
mod watch;

use super::*;

/// The example, line by line: positions in the cases below count in it.
const EXAMPLE: &str = "\
vrrp:
  - name: dns
    interface: eth2
    virtual_router_id: 50
    priority: { ds1: 200, ds2: 150 }
    advert_interval: 100ms
    addresses: [192.168.56.185/24]
services:
  - name: resolver
    address: 192.168.56.185
    port: 53
    protocols: [udp, tcp]
    scheduler: wrr
    forwarding: direct-routing
    check:
      dns: { name: www.abc.local, type: A }
      interval: 500ms
      timeout: 300ms
      rise: 2
      fall: 2
    real_servers:
      - { address: 192.168.56.183, weight: 1 }
      - { address: 192.168.56.184, weight: 1 }
metrics: { listen: \"127.0.0.1:9712\" }
";

fn parsed(text: &str) -> Result<File, Errors> {
    parse(Path::new("d.yaml"), text)
}

fn errors(text: &str) -> Vec<String> {
    match parsed(text) {
        Ok(_) => Vec::new(),
        Err(errors) => errors.to_string().lines().map(str::to_owned).collect(),
    }
}

/// The example with one of its texts exchanged, which must be there.
fn changed(from: &str, to: &str) -> String {
    assert_eq!(
        EXAMPLE.matches(from).count(),
        1,
        "`{from}` must be in the example once"
    );
    EXAMPLE.replace(from, to)
}

/// Exchanges one text of the example and expects exactly these errors.
fn check(cases: &[(&str, &str, &[&str])]) {
    for (from, to, expected) in cases {
        assert_eq!(errors(&changed(from, to)), *expected, "`{from}` to `{to}`");
    }
}

fn configuration(text: &str, node: &str) -> Configuration {
    match parsed(text).and_then(|file| file.for_node(node)) {
        Ok(configuration) => configuration,
        Err(errors) => panic!("{errors}"),
    }
}

/// The example with these lines in place of its line 6, the interval: they count from 6.
fn with(lines: &str) -> String {
    let lines: String = lines.lines().map(|line| format!("    {line}\n")).collect();
    changed("    advert_interval: 100ms\n", &lines)
}

fn warnings(text: &str) -> Vec<String> {
    match parsed(text) {
        Ok(file) => file.warnings().iter().map(ToString::to_string).collect(),
        Err(errors) => panic!("{errors}"),
    }
}

/// Expects exactly these mistakes of the example with other lines, as `LINE:COLUMN KEY: MESSAGE` with
/// the keys of its virtual router.
fn check_lines(cases: &[(&str, &[&str])]) {
    for (lines, expected) in cases {
        let expected: Vec<String> = expected
            .iter()
            .map(|mistake| {
                let (place, words) = mistake.split_once(' ').unwrap();
                format!("d.yaml:{place}: vrrp[0].{words}")
            })
            .collect();
        assert_eq!(errors(&with(lines)), expected, "{lines}");
    }
}
