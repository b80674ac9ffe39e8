//! Whether the other director goes by the same configuration.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::Duration;

use lvs_proto::vrrp::{Peers, Received};
use serde::Deserialize;

use super::Report;
use super::lan::Heard;
use super::machine::Machine;
use super::speaker;
use crate::config::Hashes;

/// For each step of asking.
const PATIENCE: Duration = Duration::from_secs(2);
/// In bytes; the status of thousands of real servers fits.
const LONGEST_ANSWER: u64 = 64 * 1024 * 1024;
/// Where a director shows its status beside its metrics.
const PATH: &str = "/api/status";

/// What is needed of another director's status, whose version may be another.
#[derive(Deserialize)]
struct Told {
    version: String,
    node: String,
    configuration_hash: String,
    configuration_parts: BTreeMap<String, String>,
}

pub(super) fn examine(machine: &Machine<'_>, heard: &Heard, report: &mut Report) {
    let configuration = machine.configuration();
    if configuration.instances.is_empty() {
        return;
    }
    let own = Hashes::of(configuration);
    let peers = match machine.patient.peer {
        Some(peer) => BTreeSet::from([peer]),
        None => peers(machine, heard),
    };
    if peers.is_empty() {
        let text = format!(
            "whether the other director goes by the same configuration isn't known: {}",
            own.all
        );
        let advice = "run `director check --hash` with the files of both and compare, or say where the other \
                      one's metrics are: `--peer ADDRESS:PORT`";
        return report.note("peer", "", text, Some(advice.to_owned()));
    }
    for peer in peers {
        match ask(peer) {
            Ok(told) => judge(&own, &told, peer, report),
            Err(error) => report.unknown(
                "peer",
                peer,
                format!("its configuration can't be asked for: {error}"),
                Some(format!(
                    "see whether a director runs there with `metrics: {{ listen }}` on that port, and whether the way \
                     is open; or compare `director check --hash`, here {}",
                    own.all
                )),
            ),
        }
    }
}

/// The other directors, as far as their metrics are where they can be reached.
fn peers(machine: &Machine<'_>, heard: &Heard) -> BTreeSet<SocketAddr> {
    let configuration = machine.configuration();
    let Some(listen) = configuration.metrics.as_ref().map(|metrics| metrics.listen) else {
        return BTreeSet::new();
    };
    // Both go by one file: one that listens on an address of its own is found there only.
    if !listen.ip().is_unspecified() {
        return BTreeSet::new();
    }
    let listed = configuration
        .instances
        .iter()
        .flat_map(|instance| match &instance.peers {
            Peers::Multicast => [].iter(),
            Peers::Unicast { addresses, .. } => addresses.iter(),
        });
    let heard = configuration.instances.iter().flat_map(|instance| {
        let speakers = heard.of(&instance.name);
        // A stranger's configuration is none of ours.
        let is_peer = |source, advert: &Received| !speaker::is_stranger(instance, source, advert);
        speakers.filter_map(move |(source, advert)| {
            let advert = advert.as_ref().ok()?;
            is_peer(source, advert).then_some(source)
        })
    });
    listed
        .copied()
        .chain(heard)
        // A link-local one needs its interface, and has another address mostly.
        .filter(|address| !is_link_local(address) && !machine.is_own(*address))
        .map(|address| SocketAddr::new(address, listen.port()))
        .collect()
}

fn is_link_local(address: &IpAddr) -> bool {
    matches!(address, IpAddr::V6(address) if address.is_unicast_link_local())
}

fn judge(own: &Hashes, told: &Told, peer: SocketAddr, report: &mut Report) {
    let theirs = Hashes {
        all: told.configuration_hash.clone(),
        parts: told.configuration_parts.clone(),
    };
    let subject = format!("{} ({peer})", told.node);
    if theirs.all == own.all {
        return report.ok("peer", subject, "goes by the same configuration");
    }
    if told.version != env!("CARGO_PKG_VERSION") {
        let text = format!(
            "runs version {}, and this is {}: their hashes can't be compared",
            told.version,
            env!("CARGO_PKG_VERSION")
        );
        return report.note("peer", subject, text, None);
    }
    let parts: Vec<&str> = own.differing(&theirs).collect();
    report.error(
        "peer",
        subject,
        format!(
            "goes by another configuration than this file: {} differ; after a failover clients are served \
             by that",
            parts.join(", ")
        ),
        "bring the same file to both, and `director reload` on both",
    );
}

fn ask(peer: SocketAddr) -> io::Result<Told> {
    let mut stream = TcpStream::connect_timeout(&peer, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    // HTTP/1.0 (RFC 1945): the answer ends with the connection.
    write!(
        stream,
        "GET {PATH} HTTP/1.0\r\nHost: {peer}\r\nAccept: application/json\r\n\r\n"
    )?;
    let mut answer = Vec::new();
    stream.take(LONGEST_ANSWER).read_to_end(&mut answer)?;
    read(&answer)
}

fn read(answer: &[u8]) -> io::Result<Told> {
    let strange = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what.to_owned());
    let end = answer.windows(4).position(|window| window == b"\r\n\r\n");
    let end = end.ok_or_else(|| strange("what answers isn't HTTP"))?;
    let head = String::from_utf8_lossy(&answer[..end]);
    let status = head.split_whitespace().nth(1).unwrap_or_default();
    if status != "200" {
        return Err(strange(&format!(
            "it answers {status}; it may be an older version"
        )));
    }
    serde_json::from_slice(&answer[end + 4..])
        .map_err(|error| strange(&format!("what it answers isn't understood: {error}")))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config;
    use crate::doctor::Verdict;

    fn hashes(weight: u16) -> Hashes {
        let text = format!(
            "services: [{{ name: a, address: 192.0.2.1, port: 53, protocols: [udp], external: true, check: none, \
             real_servers: [{{ address: 192.0.2.2, weight: {weight} }}] }}]"
        );
        let file =
            config::parse(Path::new("d.yaml"), &text).unwrap_or_else(|errors| panic!("{errors}"));
        Hashes::of(&file.outline("").unwrap())
    }

    fn told(hashes: Hashes, version: &str) -> Told {
        let Hashes { all, parts } = hashes;
        Told {
            version: version.to_owned(),
            node: "ds2".to_owned(),
            configuration_hash: all,
            configuration_parts: parts,
        }
    }

    #[test]
    fn what_differs_is_named_unless_versions_do() {
        let mut report = Report::default();
        let peer = SocketAddr::from(([192, 0, 2, 3], 9712));
        let own = env!("CARGO_PKG_VERSION");
        judge(&hashes(1), &told(hashes(1), "0.0.1"), peer, &mut report);
        judge(&hashes(1), &told(hashes(2), "0.0.1"), peer, &mut report);
        judge(&hashes(1), &told(hashes(2), own), peer, &mut report);
        let verdicts: Vec<Verdict> = report
            .verdicts()
            .into_iter()
            .map(|(.., verdict)| verdict)
            .collect();
        assert_eq!(verdicts, [Verdict::Ok, Verdict::Note, Verdict::Error]);
        assert!(report.0[2].text.contains("service a differ"), "{report:?}");
    }

    #[test]
    fn what_answers_may_be_anything() {
        for answer in [
            "",
            "nonsense",
            "HTTP/1.0 404 Not Found\r\n\r\n",
            "HTTP/1.0 200 OK\r\n\r\n{}",
        ] {
            assert!(read(answer.as_bytes()).is_err(), "{answer}");
        }
        let answer = "HTTP/1.0 200 OK\r\ncontent-type: application/json\r\n\r\n\
                      {\"version\":\"1\",\"node\":\"b\",\"uptime_seconds\":1,\"configuration_hash\":\"0\",\"configuration_parts\":{}}";
        assert_eq!(read(answer.as_bytes()).unwrap().node, "b");
    }
}
