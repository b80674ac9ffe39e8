//! Reads how real servers are probed.

mod dns;
mod exec;
mod http;
mod udp;

use std::num::NonZeroU16;
use std::sync::Arc;

use lvs_configuration::document::Value;
use lvs_configuration::error::{Findings, Located, Origin};
use lvs_configuration::reader::{self, Mapping, Place};
use lvs_proto::ipvs::Protocol;

use crate::check::{Check, CheckKind, Probing};
use crate::defaults;

/// What a check does; it has one of these keys.
const KINDS: [&str; 7] = ["dns", "tcp", "udp", "http", "https", "exec", "agent"];

/// What every check has.
const COMMON: [&str; 7] = [
    "port",
    "interval",
    "timeout",
    "rise",
    "fall",
    "protocols",
    "path",
];

/// A check of which it's not yet known for which of the service's protocols it speaks.
pub struct CheckDraft {
    origin: Origin,
    probing: Probing,
    port: Option<NonZeroU16>,
    protocols: Option<Located<Vec<Protocol>>>,
    /// Where its program stands.
    program: Option<Origin>,
    path: Option<Located<bool>>,
}

/// One mapping, a list of them, or `none`.
pub fn read(place: &Place<'_>, findings: &mut Findings) -> Option<Vec<CheckDraft>> {
    match place.value() {
        Value::Text(text) if text == "none" => Some(Vec::new()),
        Value::Mapping(_) => Some(vec![one(place, findings)?]),
        Value::List(_) => reader::filled_list(place, "a list of checks", findings, one),
        value => {
            let kind = value.kind();
            let message = format!(
                "must be `none`, a mapping with one of {}, or a list of such mappings, but is {kind}",
                KINDS.join(", ")
            );
            findings.add(&place.origin(), message);
            None
        }
    }
}

/// One check of a server by itself, which is no service's. Checks that are made over each protocol by itself
/// are made over the first that they can speak for, unless `protocols` says otherwise.
pub fn alone(place: &Place<'_>, findings: &mut Findings) -> Option<Check> {
    let draft = one(place, findings)?;
    if let Some(path) = &draft.path {
        let message = "is for a director, which reaches a VIP on several servers; leave it out";
        findings.add(&path.origin, message);
        return None;
    }
    let can = draft.probing.kind.speaks_for();
    let protocols = match &draft.protocols {
        Some(chosen) => {
            draft.judge_chosen(chosen, can, findings)?;
            chosen.value.clone()
        }
        None => can[..1].to_vec(),
    };
    let mut probing = draft.probing;
    if let CheckKind::Dns(dns) = &mut probing.kind {
        dns.follows_truncation = protocols.contains(&Protocol::Tcp);
    }
    Some(Check {
        probing: Arc::new(probing),
        port: draft.port,
        protocols,
        path: false,
    })
}

fn one(place: &Place<'_>, findings: &mut Findings) -> Option<CheckDraft> {
    let known = [KINDS.as_slice(), &COMMON].concat();
    let keys = Mapping::of_known_keys(place, &known, findings)?;
    let (kind, program) = kind(&keys, findings).unzip();
    let (usual_interval, usual_timeout) = match kind {
        Some(CheckKind::Exec(_)) => (defaults::EXEC_INTERVAL, defaults::EXEC_TIMEOUT),
        _ => (defaults::CHECK_INTERVAL, defaults::CHECK_TIMEOUT),
    };
    let port = keys.optional("port", findings, reader::port);
    let interval = keys.optional("interval", findings, |place, findings| {
        reader::duration_in(place, defaults::CHECK_INTERVALS, findings)
    });
    let known_interval = interval.map(|interval| interval.unwrap_or(usual_interval));
    let timeout = keys.optional("timeout", findings, |place, findings| {
        reader::timeout(place, known_interval, findings)
    });
    let rise = keys.optional("rise", findings, reader::count);
    let fall = keys.optional("fall", findings, reader::count);
    let protocols = keys.optional("protocols", findings, |place, findings| {
        Some(place.located(protocols(place, findings)?))
    });
    let path = keys.optional("path", findings, |place, findings| {
        Some(place.located(reader::boolean(place, findings)?))
    });
    let interval = known_interval?;
    Some(CheckDraft {
        origin: place.origin(),
        probing: Probing {
            kind: kind?,
            interval,
            timeout: timeout?.unwrap_or_else(|| usual_timeout.min(interval)),
            rise: rise?.unwrap_or(defaults::RISE),
            fall: fall?.unwrap_or(defaults::FALL),
        },
        port: port?,
        protocols: protocols?,
        program: program.flatten(),
        path: path?,
    })
}

/// A list of different protocols.
pub fn protocols(place: &Place<'_>, findings: &mut Findings) -> Option<Vec<Protocol>> {
    let words = [
        ("udp", Protocol::Udp),
        ("tcp", Protocol::Tcp),
        ("sctp", Protocol::Sctp),
    ];
    reader::distinct_words(place, "a list such as [udp, tcp]", &words, findings)
}

/// The one kind that is written, and where its program stands if it has one.
fn kind(keys: &Mapping<'_>, findings: &mut Findings) -> Option<(CheckKind, Option<Origin>)> {
    let mut written = KINDS
        .iter()
        .filter_map(|word| Some((*word, keys.get(word)?)));
    let Some((word, place)) = written.next() else {
        let message = format!(
            "nothing says what is probed; write one of {}, such as dns: {{ name: example.org }}",
            KINDS.join(", ")
        );
        findings.add(keys.origin(), message);
        return None;
    };
    if let Some((another, place)) = written.next() {
        let message = format!(
            "there is `{word}` too, and a check is of one kind; write a list of two checks, or leave \
             `{another}` out"
        );
        findings.add(&place.origin(), message);
        return None;
    }
    let kind = match word {
        "dns" => CheckKind::Dns(dns::read(place, findings)?),
        "udp" => CheckKind::Udp(udp::read(place, findings)?),
        "http" => CheckKind::Http(http::plain(place, findings)?),
        "https" => CheckKind::Http(http::secure(place, findings)?),
        "exec" => {
            let Located { value, origin } = exec::read(place, findings)?;
            return Some((CheckKind::Exec(value), Some(origin)));
        }
        word => {
            Mapping::of_known_keys_if_any(place, &[], findings)?;
            if word == "tcp" {
                CheckKind::Tcp
            } else {
                CheckKind::Agent
            }
        }
    };
    Some((kind, None))
}

impl CheckDraft {
    /// The check of a service with these protocols and, where it has ports, this first one.
    pub fn resolve(
        &self,
        service: &[Protocol],
        first_port: Option<NonZeroU16>,
        findings: &mut Findings,
    ) -> Option<Check> {
        if self.needs_port() && self.port.is_none() && first_port.is_none() {
            let message = "`port` is missing; the service hasn't one, so write which is probed";
            findings.add(&self.origin, message);
        }
        let mut probing = self.probing.clone();
        if let CheckKind::Dns(dns) = &mut probing.kind {
            dns.follows_truncation = service.contains(&Protocol::Tcp);
        }
        Some(Check {
            probing: Arc::new(probing),
            port: self.port,
            protocols: self.speaks_for(service, findings)?,
            path: self.path(findings),
        })
    }

    /// Its program, and where that stands.
    pub fn program(&self) -> Option<Located<String>> {
        let CheckKind::Exec(check) = &self.probing.kind else {
            return None;
        };
        Some(Located {
            value: check.command.first()?.clone(),
            origin: self.program.clone()?,
        })
    }

    fn needs_port(&self) -> bool {
        match &self.probing.kind {
            CheckKind::Exec(check) => check.command.iter().any(|word| word.contains("{port}")),
            _ => true,
        }
    }

    fn path(&self, findings: &mut Findings) -> bool {
        let can = self.probing.kind.has_transports();
        match &self.path {
            None => can,
            Some(asked) if can => asked.value,
            Some(asked) => {
                let word = self.probing.kind.word();
                let message =
                    format!("a `{word}` check has no probes by the VIP, `dns` has; leave it out");
                findings.add(&asked.origin, message);
                false
            }
        }
    }

    fn speaks_for(&self, service: &[Protocol], findings: &mut Findings) -> Option<Vec<Protocol>> {
        let can = self.probing.kind.speaks_for();
        let chosen = match &self.protocols {
            Some(chosen) => {
                self.judge_chosen(chosen, service, findings)?;
                &chosen.value
            }
            None => service,
        };
        let spoken: Vec<Protocol> = chosen
            .iter()
            .filter(|protocol| can.contains(protocol))
            .copied()
            .collect();
        if !spoken.is_empty() {
            return Some(spoken);
        }
        let message = match (&self.probing.kind, service.is_empty()) {
            (_, true) => "nothing says what is probed; write `protocols: [udp, tcp]`".to_owned(),
            (CheckKind::Dns(_), false) => "a DNS check asks over UDP and TCP, and `protocols` has \
                                           neither; write `check: none`"
                .to_owned(),
            (kind, false) => format!(
                "a `{}` check speaks for {}, which `protocols` hasn't; write another check",
                kind.word(),
                can.iter()
                    .map(ToString::to_string)
                    .collect::<Vec<_>>()
                    .join(", ")
            ),
        };
        findings.add(&self.origin, message);
        None
    }

    fn judge_chosen(
        &self,
        chosen: &Located<Vec<Protocol>>,
        service: &[Protocol],
        findings: &mut Findings,
    ) -> Option<()> {
        let can = self.probing.kind.speaks_for();
        for protocol in &chosen.value {
            let message = if !can.contains(protocol) {
                let word = self.probing.kind.word();
                format!("a `{word}` check can't speak for {protocol}; leave it out")
            } else if !service.contains(protocol) {
                format!("the service hasn't {protocol}; leave it out, or add it to the service")
            } else {
                continue;
            };
            findings.add(&chosen.origin, message);
            return None;
        }
        Some(())
    }
}
