//! Reads how packets reach real servers.

use lvs_configuration::document::Value;
use lvs_configuration::error::Findings;
use lvs_configuration::reader::{self, Mapping, Place};
use lvs_proto::ipvs::{Forwarding, Tunnel, TunnelChecksum};

const WORDS: [(&str, Forwarding); 3] = [
    ("direct-routing", Forwarding::DirectRouting),
    ("masquerade", Forwarding::Masquerading),
    ("tunnel", Forwarding::Tunnel(Tunnel::IpIp)),
];

/// A word, or a mapping with what there is to say of a tunnel.
pub(super) fn read(place: &Place<'_>, findings: &mut Findings) -> Option<Forwarding> {
    let what = "one of direct-routing, masquerade, tunnel, or a mapping such as \
                { tunnel: gue, port: 6080 }";
    match place.value() {
        Value::Text(text) => word(text).map_or_else(
            || {
                let message = match others_word(text) {
                    Some(word) => format!("`{text}` is not known here; write `{word}`"),
                    None => format!("`{text}` is not known; must be {what}"),
                };
                findings.add(&place.origin(), message);
                None
            },
            Some,
        ),
        Value::Mapping(_) => tunnel(place, findings).map(Forwarding::Tunnel),
        _ => {
            place.expected(what, findings);
            None
        }
    }
}

fn word(text: &str) -> Option<Forwarding> {
    WORDS
        .iter()
        .find(|(word, _)| *word == text)
        .map(|(_, forwarding)| *forwarding)
}

/// What `keepalived` and `ipvsadm` call it.
fn others_word(text: &str) -> Option<&'static str> {
    match text.to_ascii_lowercase().as_str() {
        "dr" | "route" | "gatewaying" | "direct_routing" | "direct" => Some("direct-routing"),
        "nat" | "masq" | "masquerading" => Some("masquerade"),
        "tun" | "ipip" | "tunneling" | "tunnelling" => Some("tunnel"),
        _ => None,
    }
}

fn tunnel(place: &Place<'_>, findings: &mut Findings) -> Option<Tunnel> {
    #[derive(Clone, Copy, PartialEq, Eq)]
    enum Kind {
        IpIp,
        Gue,
        Gre,
    }
    let keys = Mapping::of_known_keys(place, &["tunnel", "port", "checksum"], findings)?;
    let right = "write `tunnel: ipip`, `tunnel: gue` or `tunnel: gre`";
    let kind = keys.required("tunnel", right, findings, |place, findings| {
        let words = [("ipip", Kind::IpIp), ("gue", Kind::Gue), ("gre", Kind::Gre)];
        reader::word(place, &words, findings)
    });
    let port = keys.optional("port", findings, reader::port);
    let checksum = keys.optional("checksum", findings, |place, findings| {
        let words = [
            ("none", TunnelChecksum::None),
            ("plain", TunnelChecksum::Plain),
            ("remote", TunnelChecksum::Remote),
        ];
        Some(place.located(reader::word(place, &words, findings)?))
    });
    let (kind, port, checksum) = (kind?, port?, checksum?);
    if kind != Kind::Gue
        && let Some(place) = keys.get("port")
    {
        let message = "is for `tunnel: gue`, which is the one over UDP; leave it out";
        findings.add(&place.origin(), message);
        return None;
    }
    match (kind, checksum) {
        (Kind::IpIp, None) => Some(Tunnel::IpIp),
        (Kind::IpIp, Some(checksum)) => {
            let message = "is for `tunnel: gue` and `tunnel: gre`; IP in IP has none, so leave it \
                           out";
            findings.add(&checksum.origin, message);
            None
        }
        (Kind::Gre, Some(checksum)) if checksum.value == TunnelChecksum::Remote => {
            let message = "`remote` is for `tunnel: gue`; must be none or plain here";
            findings.add(&checksum.origin, message);
            None
        }
        (Kind::Gre, checksum) => Some(Tunnel::Gre {
            checksum: checksum.map_or(TunnelChecksum::None, |it| it.value),
        }),
        (Kind::Gue, checksum) => {
            if port.is_none() {
                let message = "`port` is missing; write the UDP port on which the real server \
                               takes the tunnel, such as 6080";
                findings.add(keys.origin(), message);
            }
            Some(Tunnel::Gue {
                port: port?,
                checksum: checksum.map_or(TunnelChecksum::None, |it| it.value),
            })
        }
    }
}
