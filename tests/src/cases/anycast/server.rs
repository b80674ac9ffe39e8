//! A DNS server: BIND, and the agent that keeps the VIP on the machine while that answers.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use anyhow::{Context, Result};
use nix::sys::signal::Signal;

use crate::bind;
use crate::lab::{Host, Process};

/// What the agent is told beside its VIPs. Its own minimum would make every return take 10 s.
const AGENT: &str = "mode: anycast
anycast: { minimum_hold: 1s, maximum_hold: 1s }
vips:
";

/// A drain at its default limit, and some more.
const LEAVING: Duration = Duration::from_secs(40);

/// A DNS server at work.
#[derive(Debug)]
pub(super) struct Server {
    pub(super) host: Host,
    answer: Ipv4Addr,
    /// Of its zone.
    serial: u32,
    named: Option<Process>,
    _agent: Process,
}

impl Server {
    /// Starts BIND, which answers 1.2.3.NUMBER, and the agent.
    pub(super) fn start(host: &Host, number: u8, vips: &[IpAddr]) -> Result<Self> {
        let check = "    check: { dns: { name: www.abc.local, type: A } }\n";
        Self::start_with(host, number, vips, check)
    }

    /// The same with tiers: the VIPs go to dns1 while BIND knows its zone, and a name in it no more.
    pub(super) fn start_in_tiers(host: &Host, number: u8, vips: &[IpAddr]) -> Result<Self> {
        let check = "    check: { dns: { name: healthy.abc.local, type: A } }
    degraded: { interface: dns1, check: { dns: { name: www.abc.local, type: A } } }
";
        let mut server = Self::start_with(host, number, vips, check)?;
        server.improve()?;
        Ok(server)
    }

    fn start_with(host: &Host, number: u8, vips: &[IpAddr], check: &str) -> Result<Self> {
        let answer = Ipv4Addr::new(1, 2, 3, number);
        let named = bind::start(host, answer)?;
        let mut yaml = AGENT.to_owned();
        for vip in vips {
            yaml += &format!("  - address: {vip}\n{check}");
        }
        let file = host.write_file("rs-agent.yaml", &yaml)?;
        let agent = host.spawn("rs-agent", ["run", "--config", &file.to_string_lossy()])?;
        Ok(Self {
            host: host.clone(),
            answer,
            serial: 1,
            named: Some(named),
            _agent: agent,
        })
    }

    /// `kill -9` for BIND.
    pub(super) fn die(&mut self) -> Result<()> {
        self.named.take().context("BIND doesn't run")?.kill();
        Ok(())
    }

    /// `kill -STOP` for BIND: nothing answers, and nothing says so.
    pub(super) fn hang(&mut self) -> Result<()> {
        self.running()?.signal(Signal::SIGSTOP)
    }

    /// The DNS answers, and not as it should.
    pub(super) fn degrade(&mut self) -> Result<()> {
        self.rewrite(false)
    }

    /// All is as it should be again.
    pub(super) fn improve(&mut self) -> Result<()> {
        self.rewrite(true)
    }

    fn rewrite(&mut self, healthy: bool) -> Result<()> {
        self.serial += 1;
        bind::rewrite(&self.host, self.answer, self.serial, healthy)?;
        self.running()?.signal(Signal::SIGHUP)
    }

    /// `rs-agent stop` with these arguments; its exit status.
    pub(super) fn leave(&self, arguments: &[&str]) -> Result<Option<i32>> {
        let arguments = ["stop"].iter().chain(arguments);
        let output = self.host.output("rs-agent", arguments, LEAVING)?;
        println!("{}", output.stdout);
        Ok(output.code())
    }

    /// Starts BIND, and waits until it answers.
    pub(super) fn recover(&mut self) -> Result<()> {
        self.named = Some(bind::start(&self.host, self.answer)?);
        Ok(())
    }

    fn running(&self) -> Result<&Process> {
        self.named.as_ref().context("BIND doesn't run")
    }
}
