//! The files that an operator writes.

use std::collections::BTreeSet;
use std::path::Path;

use director::config::Finding;

/// `director.yaml`.
pub(super) fn director(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else {
        return;
    };
    match director::config::parse(Path::new("director.yaml"), text) {
        Ok(file) => {
            let nodes = file.nodes();
            for node in nodes
                .iter()
                .copied()
                .chain(nodes.is_empty().then_some("any"))
            {
                let outline = file.outline(node);
                assert!(outline.is_ok(), "judged good, then bad for {node}");
            }
            check(file.warnings(), text);
        }
        Err(errors) => {
            assert_ne!(errors.iter().count(), 0, "refused without a reason");
            check(errors.iter().as_slice(), text);
        }
    }
}

/// Every finding has words, and a place in the file.
fn check(findings: &[Finding], text: &str) {
    // A carriage return alone ends a line too (YAML 1.2, section 5.4).
    let lines = 1 + text.matches(['\n', '\r']).count() as u64;
    for finding in findings {
        assert!(!finding.message.is_empty());
        let line = finding.position.map_or(1, |position| position.line);
        assert!((1..=lines).contains(&line), "{finding}");
    }
}

/// `rs-agent.yaml`.
pub(super) fn agent(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else {
        return;
    };
    let parse = |text| realserver_agent::config::parse(Path::new("rs-agent.yaml"), text);
    match parse(text) {
        Ok(configuration) => {
            let vips = &configuration.vips;
            let addresses: Vec<_> = vips.iter().map(|vip| vip.address.to_string()).collect();
            let different: BTreeSet<_> = addresses.iter().collect();
            assert!(!vips.is_empty() && different.len() == vips.len());
            let again = parse(&format!("vips: {addresses:?}")).expect("VIPs that were accepted");
            let again: Vec<_> = again.vips.iter().map(|vip| vip.address).collect();
            assert!(again.iter().eq(vips.iter().map(|vip| &vip.address)));
            if let Some(anycast) = &configuration.anycast {
                let watched = anycast.vips.iter().map(|anycast| &anycast.vip);
                assert!(watched.eq(vips));
            }
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}
