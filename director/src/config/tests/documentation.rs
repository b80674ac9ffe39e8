//! What the documentation shows.

use super::*;

#[test]
fn the_packaged_example_is_the_issues() {
    let packaged = include_str!("../../../../deploy/director.yaml");
    for node in ["ds1", "ds2"] {
        assert_eq!(configuration(packaged, node), configuration(EXAMPLE, node));
    }
}

const DOCUMENTATION: &str = include_str!("../../../../docs/configuration.md");

fn yaml_blocks() -> Vec<&'static str> {
    let behind = DOCUMENTATION.split("```yaml\n").skip(1);
    behind
        .map(|rest| rest.split("```").next().unwrap())
        .collect()
}

/// Blocks are whole files, or keys of a virtual router.
#[test]
fn every_block_of_the_documentation_is_valid() {
    let blocks = yaml_blocks();
    assert!(blocks.len() >= 4, "{} blocks", blocks.len());
    for block in blocks {
        let text = if block.contains("vrrp:\n") {
            block.to_owned()
        } else {
            let needed = [
                "name: dns",
                "interface: eth2",
                "virtual_router_id: 50",
                "priority: 1",
                "addresses: [192.0.2.1/24]",
            ];
            let missing = needed.into_iter().filter(|line| {
                let key = line.split_inclusive(':').next().unwrap();
                !block.lines().any(|line| line.starts_with(key))
            });
            let lines: String = missing
                .chain(block.lines())
                .map(|line| format!("    {line}\n"))
                .collect();
            format!("vrrp:\n  -\n{lines}")
        };
        assert_eq!(errors(&text), Vec::<String>::new(), "{text}");
    }
}

/// Nothing can be written that the documentation doesn't name.
#[test]
fn every_key_is_documented() {
    for key in documented_keys() {
        assert!(
            DOCUMENTATION.contains(&format!("`{key}`")),
            "`{key}` is missing in docs/configuration.md"
        );
    }
}

/// The keys that a mapping says it knows.
fn documented_keys() -> Vec<String> {
    let track = "track: { zzzzzzzzzzzz: 1, scripts: [{ zzzzzzzzzzzz: 1 }] }";
    let addresses = "further_addresses: [{ zzzzzzzzzzzz: 1 }]";
    [
        "zzzzzzzzzzzz: 1".to_owned(),
        "vrrp: [{ zzzzzzzzzzzz: 1 }]".to_owned(),
        "services: [{ zzzzzzzzzzzz: 1, real_servers: [{ zzzzzzzzzzzz: 1 }] }]".to_owned(),
        with(track),
        with(addresses),
        with("announce: { zzzzzzzzzzzz: 1 }"),
        with("authentication: { hmac: { zzzzzzzzzzzz: 1 } }"),
        with("also_accept: { zzzzzzzzzzzz: 1 }"),
        with("hooks: [{ zzzzzzzzzzzz: 1 }]"),
    ]
    .iter()
    .flat_map(|text| errors(text))
    .filter_map(|error| {
        let (_, keys) = error.split_once("unknown key; known here: ")?;
        Some(keys.split(", ").map(str::to_owned).collect::<Vec<_>>())
    })
    .flatten()
    .collect()
}
