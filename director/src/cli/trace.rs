//! `director trace`: which server a query would go to, and why.

use std::fmt::Write;
use std::net::{IpAddr, SocketAddr};
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;

use super::{Target, finish, json, unanswered};
use crate::control::{Answer, Basis, Part, Request, Trace, Tracing, ask};

/// The kernel may have millions of connection entries.
const PATIENCE: Duration = Duration::from_secs(25);

/// A query would go to nobody.
const EXIT_NOBODY: u8 = 2;

/// Shown after the options.
pub(super) const HELP: &str = "\
Examples:
  director trace 198.51.100.7
      Which servers this client's queries go to, in each service.
  director trace 198.51.100.7:5353 --service resolver --protocol udp
      With the client's port, entries of its flow count too.
  director trace '[2001:db8::7]:5353'

Exit status:
  0   each query would go to a server
  1   it can't be said; the message says why
  2   a query would go to nobody
  64  wrong command line";

#[derive(Args, Debug)]
pub(super) struct Arguments {
    #[command(flatten)]
    target: Target,
    /// The client's address, and the port that it sends from where that is known
    #[arg(value_name = "CLIENT[:PORT]", value_parser = client)]
    client: Client,
    /// Only this service
    #[arg(long, value_name = "NAME")]
    service: Option<String>,
    /// Only over this protocol
    #[arg(long, value_parser = ["udp", "tcp", "sctp"])]
    protocol: Option<String>,
    /// Print it as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Client {
    address: IpAddr,
    port: Option<u16>,
}

/// Prints who gets it, and below that why.
pub(super) fn run(arguments: &Arguments) -> ExitCode {
    let request = Request::Trace {
        client: arguments.client.address,
        port: arguments.client.port,
        service: arguments.service.clone(),
        protocol: arguments.protocol.clone(),
    };
    match ask(&arguments.target.runtime_directory, &request, PATIENCE) {
        Ok(Answer::Trace(tracing)) => {
            let output = if arguments.json {
                json(&tracing)
            } else {
                for note in &tracing.notes {
                    eprintln!("note: {note}");
                }
                describe(&tracing)
            };
            finish(&output, exit_code(&tracing))
        }
        other => unanswered(other),
    }
}

fn exit_code(tracing: &Tracing) -> u8 {
    let goes_nowhere = |trace: &Trace| trace.basis == Basis::Nobody;
    if tracing.traces.is_empty() || tracing.traces.iter().any(goes_nowhere) {
        EXIT_NOBODY
    } else {
        0
    }
}

fn describe(tracing: &Tracing) -> String {
    let mut text = String::new();
    for trace in &tracing.traces {
        let Trace {
            service,
            virtual_service,
            servers,
            why,
            ..
        } = trace;
        let whom = match servers.as_slice() {
            [] => "nobody".to_owned(),
            [one] => one.server.clone(),
            several => {
                let several: Vec<String> = several.iter().map(part).collect();
                several.join(", ")
            }
        };
        // Writing to a text doesn't fail.
        let _ = writeln!(text, "{service} {virtual_service} → {whom}");
        for line in why {
            let _ = writeln!(text, "  {line}");
        }
    }
    text
}

fn part(part: &Part) -> String {
    format!("{} ({:.1} %)", part.server, part.share * 100.0)
}

fn client(text: &str) -> Result<Client, String> {
    if let Ok(address) = text.trim_matches(['[', ']']).parse() {
        return Ok(Client {
            address,
            port: None,
        });
    }
    match text.parse::<SocketAddr>() {
        Ok(socket) if socket.port() > 0 => Ok(Client {
            address: socket.ip(),
            port: Some(socket.port()),
        }),
        _ => Err("must be an address with or without a port, such as 198.51.100.7:5353 or [2001:db8::7]:5353".to_owned()),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_client_has_a_port_or_none() {
        for (text, address, port) in [
            ("198.51.100.7", "198.51.100.7", None),
            ("198.51.100.7:5353", "198.51.100.7", Some(5353)),
            ("2001:db8::7", "2001:db8::7", None),
            ("[2001:db8::7]", "2001:db8::7", None),
            ("[2001:db8::7]:5353", "2001:db8::7", Some(5353)),
        ] {
            let address = address.parse().unwrap();
            assert_eq!(client(text), Ok(Client { address, port }));
        }
        for wrong in [
            "",
            "host",
            "198.51.100.7:",
            "198.51.100.7:0",
            "198.51.100.7:65536",
        ] {
            assert!(client(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn each_service_has_a_line_with_reasons_below() {
        let part = |server: &str, share| Part {
            server: server.to_owned(),
            share,
        };
        let mut trace = Trace {
            service: "resolver".to_owned(),
            virtual_service: "192.0.2.53:53/udp".to_owned(),
            basis: Basis::Order,
            servers: vec![part("192.0.2.11", 0.75), part("192.0.2.12", 0.25)],
            why: vec!["wrr: by weights".to_owned()],
        };
        let mut tracing = Tracing::default();
        assert_eq!(exit_code(&tracing), EXIT_NOBODY);
        tracing.traces.push(trace.clone());
        assert_eq!(
            describe(&tracing),
            "resolver 192.0.2.53:53/udp → 192.0.2.11 (75.0 %), 192.0.2.12 (25.0 %)\n  wrr: by weights\n"
        );
        assert_eq!(exit_code(&tracing), 0);
        (trace.basis, trace.servers) = (Basis::Nobody, Vec::new());
        tracing.traces = vec![trace];
        assert!(describe(&tracing).starts_with("resolver 192.0.2.53:53/udp → nobody\n"));
        assert_eq!(exit_code(&tracing), EXIT_NOBODY);
        let again: Tracing = serde_json::from_str(&json(&tracing)).unwrap();
        assert_eq!(again, tracing);
    }
}
