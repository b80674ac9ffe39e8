//! The configuration file.
//!
//! ```yaml
//! interface: lo                # for all VIPs that name none; `lo` is the default
//! vips:
//!   - 192.168.56.185           # the short form of `address: 192.168.56.185`
//!   - address: 2001:db8::53
//!     interface: dns0          # a dummy interface, made where it is missing
//! directors: [192.168.56.181]  # what must not be the next hop of answers
//! run:                         # what `rs-agent run` does besides
//!   agent_check: 0.0.0.0:5301
//!   metrics: 127.0.0.1:9154
//! ```
//!
//! With `mode: anycast` VIPs come and go by the word of their checks:
//!
//! ```yaml
//! mode: anycast                # `real-server` is the default
//! anycast: { minimum_hold: 10s, maximum_hold: 300s, lifetime: 3s }
//! vips:
//!   - address: 192.0.2.53
//!     check: { dns: { name: example.org, type: SOA } }   # as a director's
//!     probe: 127.0.0.1         # where the DNS is asked while the VIP isn't here
//!     degraded: { interface: dns1, check: { dns: { name: localhost } } }
//!     last_site: { ask: [10.0.0.1] }
//! ```

mod anycast;
mod run;
mod vip;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::Path;

use lvs_configuration::document::{Node, Value};
use lvs_configuration::error::{Findings, already};
use lvs_configuration::reader::{self, Mapping, Place};
use lvs_configuration::{Errors, address};

pub use vip::parse_label;

use crate::anycast::{self as announcing, AnycastVip};
use crate::run::Settings;
use crate::vip::{LOOPBACK, Vip};

/// Read when neither `--vip` nor `--config` is given.
pub const DEFAULT_PATH: &str = "/etc/rs-agent.yaml";

/// What a valid file says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Configuration {
    /// At least one, no address twice, in the file's order.
    pub vips: Vec<Vip>,
    /// The directors' own addresses; none where the file doesn't say.
    pub directors: BTreeSet<IpAddr>,
    /// What `rs-agent run` does besides.
    pub run: Settings,
    /// With `mode: anycast`, when the VIPs come and go.
    pub anycast: Option<announcing::Settings>,
}

impl Configuration {
    /// What is legal, and an operator should know of, a line each.
    pub fn warnings(&self) -> Vec<String> {
        let open = self
            .run
            .agent_check
            .filter(|at| at.ip().is_unspecified() && self.directors.is_empty());
        let warning = |at| {
            format!(
                "whoever reaches {at} may read the agent-check line, and counts as a director in a drain; \
                 name the directors' own addresses in `directors`, and only they may"
            )
        };
        open.map(warning).into_iter().collect()
    }
}

/// Reads and checks a file of at most [`lvs_configuration::MAXIMUM_FILE_SIZE`] bytes.
///
/// # Errors
/// All mistakes, each with its place; a syntax error hides the others.
pub fn load(path: &Path) -> Result<Configuration, Errors> {
    parse(path, &lvs_configuration::read(path)?)
}

/// Checks a file's contents; the path is only for messages.
///
/// # Errors
/// As [`load`].
pub fn parse(path: &Path, text: &str) -> Result<Configuration, Errors> {
    // What is legal and hardly meant is in the warnings of what was read.
    let (configuration, _) = lvs_configuration::parse(path, text, configuration)?;
    Ok(configuration)
}

const KEYS: &[&str] = &["mode", "interface", "vips", "directors", "anycast", "run"];
const NO_VIP: &str = "write at least one VIP, as in `vips: [192.168.56.185]`";

/// What was wrong is in `findings`, and then what is given is of no use.
fn configuration(root: &Node<'_>, findings: &mut Findings) -> Configuration {
    let place = Place::root(root);
    let mut configuration = Configuration {
        vips: Vec::new(),
        directors: BTreeSet::new(),
        run: Settings::default(),
        anycast: None,
    };
    let Some(mapping) = Mapping::of_known_keys_if_any(&place, KEYS, findings) else {
        return configuration;
    };
    let interface = mapping.optional("interface", findings, reader::interface);
    let interface = interface.flatten().unwrap_or_else(|| LOOPBACK.into());
    let is_anycast = mapping.optional("mode", findings, |place, findings| {
        reader::word(
            place,
            &[("real-server", false), ("anycast", true)],
            findings,
        )
    });
    let common = mapping.optional("anycast", findings, anycast::common);
    let is_anycast = is_anycast.map(Option::unwrap_or_default);
    if let (Some(false), Some(place)) = (is_anycast, mapping.get("anycast")) {
        let message = "is for `mode: anycast`; write that too, or leave this out";
        findings.add(&place.origin(), message);
    }
    let common = is_anycast
        .unwrap_or_default()
        .then(|| common.flatten().unwrap_or_default());
    let vips = mapping.required("vips", NO_VIP, findings, |place, findings| {
        vips(place, &interface, common.as_ref(), findings)
    });
    let (vips, anycast): (_, Vec<_>) = vips.unwrap_or_default().into_iter().unzip();
    configuration.vips = vips;
    configuration.anycast = common.map(|common| announcing::Settings {
        lifetime: common.lifetime,
        vips: anycast.into_iter().flatten().collect(),
    });
    let directors = mapping.optional("directors", findings, directors);
    configuration.directors = directors.flatten().unwrap_or_default();
    let run = mapping.optional("run", findings, run::settings);
    configuration.run = run.flatten().unwrap_or_default();
    configuration
}

/// Each VIP, and in anycast mode, which has `common`, how it comes and goes.
fn vips(
    place: &Place<'_>,
    interface: &str,
    common: Option<&anycast::Common>,
    findings: &mut Findings,
) -> Option<Vec<(Vip, Option<AnycastVip>)>> {
    if matches!(place.value(), Value::List(items) if items.is_empty()) {
        findings.add(&place.origin(), format!("names no VIP; {NO_VIP}"));
        return None;
    }
    let mut seen = BTreeMap::new();
    let what = "a list of VIPs, as in `vips: [192.168.56.185]`";
    reader::list(place, what, findings, |place, findings| {
        let (vip, keys) = vip::read(place, interface, findings)?;
        if let Some(line) = already(&mut seen, vip.value.address, &vip.origin) {
            let message = format!(
                "{} is a VIP already, in line {line}; remove one",
                vip.value.address
            );
            findings.add(&vip.origin, message);
        }
        let Some(common) = common else {
            if let Some(keys) = &keys {
                anycast::refuse(keys, findings);
            }
            return Some((vip.value, None));
        };
        let anycast = anycast::vip(keys.as_ref(), &vip.value, common, findings)?;
        Some((anycast.vip.clone(), Some(anycast)))
    })
}

fn directors(place: &Place<'_>, findings: &mut Findings) -> Option<BTreeSet<IpAddr>> {
    let what = "a list of the directors' own addresses, such as [192.168.56.181, 192.168.56.182]";
    let directors = reader::filled_list(place, what, findings, |place, findings| {
        address::host(place, "a director's own address", findings)
    })?;
    Some(directors.into_iter().collect())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// `LINE:COLUMN: PROBLEM`, a line each, as [`load`] prints them behind the file's name.
    fn problems(text: &str) -> Vec<String> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("rs-agent.yaml");
        std::fs::write(&path, text).unwrap();
        let message = load(&path).unwrap_err().to_string();
        let prefix = format!("{}:", path.display());
        let line = |line: &str| line.strip_prefix(&prefix).unwrap().to_owned();
        message.lines().map(line).collect()
    }

    fn vips_of(text: &str) -> Vec<Vip> {
        parse(Path::new("rs-agent.yaml"), text).unwrap().vips
    }

    #[test]
    fn one_or_more_vips_in_order() {
        for text in [
            "vips: [192.168.56.186, 2001:db8::53]",
            "# comment\nvips:\n  - 192.168.56.186\n  - \"2001:db8::53\"\n",
            "vips:\n  - address: 192.168.56.186\n  - { address: 2001:db8::53 }\n",
        ] {
            let addresses = ["192.168.56.186", "2001:db8::53"];
            let expected = addresses.map(|address| Vip::on_loopback(address.parse().unwrap()));
            assert_eq!(vips_of(text), expected);
        }
    }

    #[test]
    fn the_long_form_says_where_and_under_which_label() {
        let text = "interface: dns0\nvips:\n  - 10.0.0.1\n  - { address: 10.0.0.2, interface: lo, label: 'lo:5' }\n  - { address: 10.0.0.3, label: 'dns0:ns' }\n";
        let vips = vips_of(text);
        let shown: Vec<_> = vips
            .iter()
            .map(|vip| (vip.interface.as_str(), vip.label.as_deref()))
            .collect();
        let expected = [
            ("dns0", None),
            ("lo", Some("lo:5")),
            ("dns0", Some("dns0:ns")),
        ];
        assert_eq!(shown, expected);
    }

    #[test]
    fn directors_are_hosts() {
        let read = |text| parse(Path::new("rs-agent.yaml"), text).unwrap().directors;
        assert!(read("vips: [10.0.0.1]").is_empty());
        let directors = read("vips: [10.0.0.1]\ndirectors: [10.0.0.8, fd00::8]");
        assert_eq!(directors.len(), 2);
    }

    #[test]
    fn a_line_that_is_for_anybody_is_warned_of() {
        for (rest, warned) in [
            ("run: { agent_check: '0.0.0.0:5301' }", true),
            ("run: { agent_check: '[::]:5301' }", true),
            ("run: { agent_check: '10.0.0.7:5301' }", false),
            (
                "run: { agent_check: '[::]:5301' }\ndirectors: [10.0.0.8]",
                false,
            ),
            ("run: { metrics: '0.0.0.0:9154' }", false),
        ] {
            let text = format!("vips: [10.0.0.1]\n{rest}\n");
            let warnings = parse(Path::new("f"), &text).unwrap().warnings();
            assert_eq!(!warnings.is_empty(), warned, "{rest}: {warnings:?}");
        }
        let shipped = include_str!("../../../deploy/rs-agent.yaml");
        let shipped = parse(Path::new("f"), shipped).unwrap();
        assert_eq!(shipped.warnings(), [""; 0]);
    }

    #[test]
    fn problems_say_where_and_what_all_at_once() {
        let text = "vips:\n  - 192.168.56.999\n  - { address: 10.0.0.1, label: eth0:1 }\n  - { address: 2001:db8::1, label: 'lo:1' }\n  - { label: 'lo:1' }\n  - fe80::1\nvip: 10.0.0.2\ndirectors: []\n";
        assert_eq!(
            problems(text),
            [
                "2:5: vips[0]: \"192.168.56.999\" is not an IP address; a VIP is written like 192.168.56.185 or 2001:db8::53, without a prefix length",
                "3:33: vips[1].label: eth0:1 is not a label on lo; must be lo, or lo: and something after it, at most 15 bytes in all",
                "4:36: vips[2].label: an IPv6 address has no label; remove it",
                "5:5: vips[3]: `address` is missing; write the VIP",
                "6:5: vips[4]: fe80::1 is a link-local address; a VIP is one that clients can reach",
                "7:1: vip: unknown key; did you mean `vips`?",
                "8:12: directors: is empty; must be a list of the directors' own addresses, such as [192.168.56.181, 192.168.56.182]",
            ]
        );
        assert_eq!(
            problems("vips: [10.0.0.1, 10.0.0.2, 10.0.0.1]"),
            ["1:28: vips[2]: 10.0.0.1 is a VIP already, in line 1; remove one"]
        );
        for (text, start) in [
            ("vips: []", "1:7: vips: names no VIP; write at least one"),
            ("vips: 10.0.0.1", "1:7: vips: must be a list of VIPs, as in"),
            (
                "vips: [10.0.0.1]\nvips: [10.0.0.2]",
                "2:1: vips: is written twice",
            ),
            ("vips: [10.0.0.1", "1:"),
            ("", "1:1: `vips` is missing; write at least one VIP"),
            ("{}", "1:1: `vips` is missing"),
            (
                "interface: a/b\nvips: [10.0.0.1]",
                "1:12: interface: `a/b` is not the name of an interface",
            ),
        ] {
            let found = problems(text);
            assert!(found[0].starts_with(start), "{found:?}");
        }
    }

    fn anycast(text: &str) -> announcing::Settings {
        let configuration = parse(Path::new("rs-agent.yaml"), text).unwrap();
        configuration.anycast.unwrap()
    }

    #[test]
    fn anycast_has_defaults_for_all_but_the_vips() {
        let text = "vips: [192.0.2.53, '2001:db8::53']";
        assert_eq!(parse(Path::new("f"), text).unwrap().anycast, None);
        let settings = anycast(&format!("mode: anycast\n{text}"));
        let second = Duration::from_secs(1);
        assert_eq!(settings.lifetime, 3 * second);
        let probes = ["127.0.0.1:53", "[::1]:53"];
        for (vip, probe) in settings.vips.iter().zip(probes) {
            assert_eq!(vip.probe.to_string(), probe);
            assert_eq!(vip.vip.lifetime, Some(3 * second));
            assert_eq!(
                (vip.minimum_hold, vip.maximum_hold),
                (10 * second, 300 * second)
            );
            assert_eq!(vip.check.probing.kind.to_string(), "DNS . NS");
            assert_eq!(vip.check.probing.interval, Duration::from_millis(500));
            assert_eq!(
                (&vip.degraded, vip.other_sites.as_slice()),
                (&None, [].as_slice())
            );
        }
    }

    #[test]
    fn each_vip_has_a_probe_of_its_own() {
        let text = "mode: anycast
anycast: { minimum_hold: 400s, lifetime: 5s }
vips:
  - { address: 192.0.2.53, check: { dns: { name: example.org, type: SOA }, fall: 3 } }
  - address: 192.0.2.54
    interface: dns0
    probe: 10.0.0.2:5353
    check: { http: {}, port: 80 }
    degraded: { interface: dns1, check: { dns: { name: localhost }, protocols: [udp, tcp] } }
    last_site: { ask: [10.0.1.1, '10.0.2.1:5300'] }
";
        let settings = anycast(text);
        let [first, second] = settings.vips.as_slice() else {
            panic!("{settings:?}");
        };
        assert_eq!(first.check.probing.kind.to_string(), "DNS example.org SOA");
        assert_eq!(first.check.probing.fall.get(), 3);
        assert_eq!(first.check.protocols.len(), 1);
        assert_eq!(first.maximum_hold, Duration::from_secs(400));
        assert_eq!(second.probe.to_string(), "10.0.0.2:5353");
        let degraded = second.degraded.as_ref().unwrap();
        assert_eq!(degraded.interface, "dns1");
        assert_eq!(degraded.check.protocols.len(), 2);
        assert_eq!(second.other_sites[1].to_string(), "10.0.2.1:5300");
        assert_eq!(second.other_sites[0].port(), 53);
        assert_eq!(second.vip.lifetime, Some(Duration::from_secs(5)));
    }

    #[test]
    fn problems_of_anycast_say_where_and_what_all_at_once() {
        let text = "mode: anycast
anycast: { minimum_hold: 20s, maximum_hold: 10s, lifetime: 1500ms }
vips:
  - { address: 10.0.0.1, probe: 10.0.0.1, check: none }
  - address: 10.0.0.2
    check: { dns: { name: a }, path: true }
    degraded: { interface: lo }
    last_site: { ask: [10.0.0.2] }
  - { address: 10.0.0.3, probe: 0.0.0.0, last_site: {}, check: { tcp: , protocols: [udp] } }
";
        let expected = [
            "2:45: anycast.maximum_hold: 10s is shorter than `minimum_hold`, 20s; must be at least that",
            "2:60: anycast.lifetime: 1.5s is out of range; must be from 2s to 60s",
            "4:33: vips[0].probe: is the VIP, which isn't on the machine",
            "4:50: vips[0].check: must be a mapping, but is a text",
            "6:38: vips[1].check.path: is for a director",
            "7:15: vips[1].degraded: `check` is missing; write what says",
            "7:28: vips[1].degraded.interface: lo is where the VIP is while all is well",
            "8:24: vips[1].last_site.ask[0]: is the VIP, by which this site would ask itself",
            "9:33: vips[2].probe: `0.0.0.0` can't be asked; must be an address of this machine's",
            "9:53: vips[2].last_site: `ask` is missing; write the other sites",
            "9:84: vips[2].check.protocols: a `tcp` check can't speak for udp",
        ];
        let found = problems(text);
        for (found, expected) in found.iter().zip(expected) {
            assert!(found.starts_with(expected), "{found}");
        }
        assert_eq!(found.len(), expected.len(), "{found:?}");
        let text = "vips:\n  - { address: 10.0.0.1, probe: 127.0.0.1 }\nanycast: {}\n";
        let found = problems(text);
        assert!(
            found[0].starts_with("2:33: vips[0].probe: is for `mode: anycast`"),
            "{found:?}"
        );
        assert!(
            found[1].starts_with("3:10: anycast: is for `mode: anycast`"),
            "{found:?}"
        );
        assert!(
            problems("mode: any\nvips: [10.0.0.1]")[0].starts_with("1:7: mode: `any` is not known")
        );
    }

    #[test]
    fn unreadable_files_are_named() {
        let error = load(Path::new("/nonexistent/rs-agent.yaml")).unwrap_err();
        let start = "/nonexistent/rs-agent.yaml: cannot be read: ";
        assert!(error.to_string().starts_with(start), "{error}");
    }
}
