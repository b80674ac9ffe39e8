//! What the documentation shows.

use super::*;
use std::fs;

#[test]
fn the_packaged_example_is_the_issues() {
    let packaged = include_str!("../../../../deploy/director.yaml");
    for node in ["ds1", "ds2"] {
        assert_eq!(configuration(packaged, node), configuration(EXAMPLE, node));
    }
}

#[test]
fn every_packaged_example_is_valid_and_warned_of_nothing() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/examples");
    let mut files: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|file| file.unwrap().path())
        .collect();
    files.sort();
    assert_eq!(files.len(), 6, "{files:?}");
    for path in files {
        let file = load(&path).unwrap_or_else(|errors| panic!("{errors}"));
        assert_eq!(file.warnings(), [], "{}", path.display());
        let nodes = file.nodes();
        let nodes = if nodes.is_empty() { [""].into() } else { nodes };
        for node in nodes {
            let found = file.for_node(node);
            assert!(
                found.is_ok_and(|found| !found.services.is_empty()),
                "{node}"
            );
        }
    }
}

const DOCUMENTATION: &str = include_str!("../../../../docs/configuration.md");

fn yaml_blocks(page: &str) -> Vec<&str> {
    let behind = page.split("```yaml\n").skip(1);
    behind
        .map(|rest| rest.split("```").next().unwrap())
        .collect()
}

#[test]
fn what_takes_keepaliveds_place_is_valid_and_warned_of_nothing() {
    let page = include_str!("../../../../docs/from-keepalived.md");
    let blocks = yaml_blocks(page);
    assert_eq!(blocks.len(), 1);
    for node in ["ds1", "ds2"] {
        assert_eq!(configuration(blocks[0], node).services.len(), 1);
    }
    assert_eq!(warnings(blocks[0]), Vec::<String>::new());
}

/// Blocks are whole files, or keys of a virtual router.
#[test]
fn every_block_of_the_documentation_is_valid() {
    let blocks = yaml_blocks(DOCUMENTATION);
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
            DOCUMENTATION.contains(&format!("`{key}`"))
                || DOCUMENTATION.contains(&format!(".{key}`")),
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
        changed(
            "    check:\n",
            "    pool: { zzzzzzzzzzzz: 1, quorum: { zzzzzzzzzzzz: 1 }, latency: { zzzzzzzzzzzz: 1 } }\n    check:\n",
        ),
        changed(
            "check:\n",
            "persistence: { zzzzzzzzzzzz: 1 }\n    check:\n      zzzzzzzzzzzz: 1\n",
        ),
        changed(
            "forwarding: direct-routing",
            "forwarding: { zzzzzzzzzzzz: 1 }",
        ),
        "services: [{ check: [{ dns: { zzzzzzzzzzzz: 1 } }, { udp: { zzzzzzzzzzzz: 1 } }, { https: { \
         zzzzzzzzzzzz: 1 } }, { exec: { zzzzzzzzzzzz: 1 } }] }]"
            .to_owned(),
        "ipvs: { zzzzzzzzzzzz: 1, timeouts: { zzzzzzzzzzzz: 1 }, sync: { zzzzzzzzzzzz: 1 } }"
            .to_owned(),
        with(track),
        with(addresses),
        with("announce: { zzzzzzzzzzzz: 1 }"),
        with("authentication: { hmac: { zzzzzzzzzzzz: 1 } }"),
        with("also_accept: { zzzzzzzzzzzz: 1 }"),
        with("hooks: [{ zzzzzzzzzzzz: 1 }]"),
        changed(
            "check:\n",
            "watch: { zzzzzzzzzzzz: 1, zones: [{ zzzzzzzzzzzz: 1 }], dnssec: { zzzzzzzzzzzz: 1 } }\n    \
             check:\n",
        ),
        changed(
            "type: A }",
            "zzzzzzzzzzzz: 1, records: { zzzzzzzzzzzz: 1 }, ttl: { zzzzzzzzzzzz: 1 } }",
        ),
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
