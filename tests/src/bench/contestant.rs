//! The programs that are compared.

use std::fmt::Write;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Result, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::{SERVERS, SERVICES};
use crate::binaries;
use crate::lab::{Host, Process};
use crate::peer::virtual_server::{self, VirtualServer};
use crate::topology::STATE_DIRECTORY;

/// Calls on sockets alone; at others nothing is stopped.
const TRACE: [&str; 7] = [
    "-f",
    "-qq",
    "-s",
    "0",
    "--seccomp-bpf",
    "-e",
    "trace=%network",
];

/// A program that keeps an IPVS table.
pub(super) trait Contestant {
    fn name(&self) -> &'static str;

    /// Starts it with the table; under strace if there is a file for it.
    fn start(&mut self, trace: Option<&Path>) -> Result<()>;

    /// Has it read its configuration again, with one server more or not; `false` if it has none.
    fn reload(&mut self, one_more: bool) -> Result<bool>;

    /// Whether [`Self::reload`] returns when it is done; otherwise it's done when it is quiet.
    fn says_when_done(&self) -> bool;

    /// Ends it with its table.
    fn stop(&mut self, limit: Duration) -> Result<()>;

    /// All its processes.
    fn processes(&self) -> Vec<i32>;
}

/// Address of a service.
fn service(number: usize) -> Ipv4Addr {
    let octet = |number: usize| u8::try_from(number).unwrap_or(u8::MAX);
    Ipv4Addr::new(10, 1, octet(number / 250), octet(number % 250 + 1))
}

/// Address of a real server.
fn server(number: usize) -> String {
    format!("10.2.0.{}", number + 1)
}

/// Servers of a service; the first one may have one more.
fn servers(of: usize, one_more: bool) -> usize {
    SERVERS + usize::from(one_more && of == 0)
}

/// A daemon, perhaps below strace.
struct Daemon {
    process: Option<Process>,
    traced: bool,
}

impl Daemon {
    fn start(&mut self, host: &Host, command: &[&str], trace: Option<&Path>) -> Result<()> {
        let process = match trace {
            None => host.spawn(command[0], &command[1..])?,
            Some(trace) => {
                let file = trace.to_string_lossy();
                let mut strace = TRACE.to_vec();
                strace.extend(["-o", &file]);
                host.spawn("strace", strace.iter().chain(command))?
            }
        };
        self.traced = trace.is_some();
        self.process = Some(process);
        Ok(())
    }

    /// The daemon itself, which is strace's child where it is traced.
    fn leader(&self) -> Option<i32> {
        let process = self.process.as_ref()?;
        if self.traced {
            process.children().first().copied()
        } else {
            Some(process.pid())
        }
    }

    fn processes(&self) -> Vec<i32> {
        let mut family: Vec<i32> = self.leader().into_iter().collect();
        let mut next = 0;
        while let Some(parent) = family.get(next).copied() {
            family.extend(crate::lab::children(parent));
            next += 1;
        }
        family
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        let Some(leader) = self.leader() else {
            bail!("it has ended");
        };
        Ok(kill(Pid::from_raw(leader), signal)?)
    }

    fn stop(&mut self, limit: Duration) -> Result<()> {
        self.signal(Signal::SIGTERM)?;
        if let Some(mut process) = self.process.take() {
            process.wait(limit)?;
        }
        Ok(())
    }
}

/// Ours.
pub(super) struct Director {
    host: Host,
    program: String,
    daemon: Daemon,
}

impl Director {
    pub(super) fn new(host: &Host) -> Result<Self> {
        Ok(Self {
            host: host.clone(),
            program: binaries::path("director")?.to_string_lossy().into_owned(),
            daemon: Daemon {
                process: None,
                traced: false,
            },
        })
    }

    fn write(&self, one_more: bool) -> Result<String> {
        let mut yaml = String::from("services:\n");
        for number in 0..SERVICES {
            writeln!(
                yaml,
                "  - name: s{number}\n    address: {}\n    external: true\n    port: 53\n    \
                 protocols: [udp]\n    check: none\n    real_servers:",
                service(number)
            )?;
            for server in (0..servers(number, one_more)).map(server) {
                writeln!(yaml, "      - {{ address: {server}, weight: 1 }}")?;
            }
        }
        let path = self.host.write_file("bench.yaml", &yaml)?;
        Ok(path.to_string_lossy().into_owned())
    }
}

impl Contestant for Director {
    fn name(&self) -> &'static str {
        "director"
    }

    fn start(&mut self, trace: Option<&Path>) -> Result<()> {
        let file = self.write(false)?;
        let state = ["--state-directory", STATE_DIRECTORY];
        let command = [&*self.program, "run", "--config", &file, state[0], state[1]];
        self.daemon.start(&self.host, &command, trace)
    }

    fn reload(&mut self, one_more: bool) -> Result<bool> {
        self.write(one_more)?;
        let limit = Duration::from_secs(60);
        let output = self.host.output(&self.program, ["reload"], limit)?;
        ensure!(output.success(), "{}{}", output.stdout, output.stderr);
        Ok(true)
    }

    fn says_when_done(&self) -> bool {
        true
    }

    fn stop(&mut self, limit: Duration) -> Result<()> {
        self.daemon.stop(limit)
    }

    fn processes(&self) -> Vec<i32> {
        self.daemon.processes()
    }
}

/// Debian's keepalived, its checkers only.
pub(super) struct Keepalived {
    host: Host,
    daemon: Daemon,
}

impl Keepalived {
    pub(super) fn new(host: &Host) -> Self {
        Self {
            host: host.clone(),
            daemon: Daemon {
                process: None,
                traced: false,
            },
        }
    }

    fn write(&self, one_more: bool) -> Result<String> {
        let services: Vec<VirtualServer> = (0..SERVICES)
            .map(|number| {
                let servers = (0..servers(number, one_more)).map(|number| (server(number), 1));
                VirtualServer::new(service(number), servers).one_packet()
            })
            .collect();
        let path = virtual_server::write(&self.host, &services)?;
        Ok(path.to_string_lossy().into_owned())
    }
}

impl Contestant for Keepalived {
    fn name(&self) -> &'static str {
        "keepalived"
    }

    fn start(&mut self, trace: Option<&Path>) -> Result<()> {
        let file = self.write(false)?;
        let command = ["keepalived", "-C", "-n", "-l", "-f", &file];
        self.daemon.start(&self.host, &command, trace)
    }

    fn reload(&mut self, one_more: bool) -> Result<bool> {
        self.write(one_more)?;
        self.daemon.signal(Signal::SIGHUP)?;
        Ok(true)
    }

    fn says_when_done(&self) -> bool {
        false
    }

    fn stop(&mut self, limit: Duration) -> Result<()> {
        self.daemon.stop(limit)
    }

    fn processes(&self) -> Vec<i32> {
        self.daemon.processes()
    }
}

/// `ipvsadm -R` and `ipvsadm -C`.
pub(super) struct Ipvsadm {
    host: Host,
    /// Where its calls are written, from its start to its end.
    trace: Option<PathBuf>,
}

impl Ipvsadm {
    pub(super) fn new(host: &Host) -> Self {
        Self {
            host: host.clone(),
            trace: None,
        }
    }

    fn run(&self, command: &str, limit: Duration) -> Result<()> {
        let traced;
        let command = match &self.trace {
            None => command,
            Some(trace) => {
                traced = format!(
                    "strace {} -A -o {} {command}",
                    TRACE.join(" "),
                    trace.display()
                );
                &traced
            }
        };
        // A shell, for the table is read from standard input.
        let output = self.host.output("sh", ["-c", command], limit)?;
        ensure!(output.success(), "{}{}", output.stdout, output.stderr);
        Ok(())
    }
}

impl Contestant for Ipvsadm {
    fn name(&self) -> &'static str {
        "ipvsadm"
    }

    fn start(&mut self, trace: Option<&Path>) -> Result<()> {
        let mut table = String::new();
        for number in 0..SERVICES {
            let service = service(number);
            writeln!(table, "-A -u {service}:53 -s wrr -o")?;
            for server in (0..SERVERS).map(server) {
                writeln!(table, "-a -u {service}:53 -r {server}:53 -g -w 1")?;
            }
        }
        let file = self.host.write_file("bench.ipvs", &table)?;
        let command = format!("ipvsadm -R < {}", file.display());
        self.trace = trace.map(Path::to_owned);
        self.run(&command, Duration::from_secs(120))
    }

    fn reload(&mut self, _one_more: bool) -> Result<bool> {
        Ok(false)
    }

    fn says_when_done(&self) -> bool {
        true
    }

    fn stop(&mut self, limit: Duration) -> Result<()> {
        self.run("ipvsadm -C", limit)
    }

    fn processes(&self) -> Vec<i32> {
        Vec::new()
    }
}
