//! One director at work, with servers in miniature behind it: for what needs no second one.

use std::net::Ipv4Addr;

use anyhow::Result;

use crate::dns::Questions;
use crate::lab::{Host, Lab, Process, wait_until};
use crate::responder::Responder;
use crate::scenario::PATIENCE;
use crate::service_file::ServiceFile;
use crate::topology::{DnsPair, VIP, director_file, hold_vip_silently, start_director};

/// The real servers, and what each of them answers: the third one is [`DnsPair::ds2`].
pub const SERVERS: [(&str, Ipv4Addr); 3] = [
    ("192.168.56.183", Ipv4Addr::new(1, 2, 3, 4)),
    ("192.168.56.184", Ipv4Addr::new(1, 2, 3, 5)),
    ("192.168.56.182", Ipv4Addr::new(1, 2, 3, 6)),
];

/// The director on ds1 of [`DnsPair`], and three real servers that answer at the VIP.
#[derive(Debug)]
pub struct Solo {
    /// The machines.
    pub hosts: DnsPair,
    /// `director run` on ds1.
    pub director: Process,
    _responders: [Responder; 3],
}

impl Solo {
    /// Starts everything, and waits until the VIP answers.
    ///
    /// # Errors
    /// When that takes longer than [`PATIENCE`].
    pub fn start(lab: &mut Lab, yaml: &str) -> Result<Self> {
        let hosts = DnsPair::with_service_lan_only(lab)?;
        Self::start_on(hosts, yaml)
    }

    /// The same on hosts that are there already.
    ///
    /// # Errors
    /// As [`Solo::start`].
    pub fn start_on(hosts: DnsPair, yaml: &str) -> Result<Self> {
        let servers = [&hosts.rs1, &hosts.rs2, &hosts.ds2];
        for server in servers {
            hold_vip_silently(server, VIP)?;
        }
        let respond = |index: usize| Responder::start(servers[index], VIP, SERVERS[index].1);
        let responders = [respond(0)?, respond(1)?, respond(2)?];
        let director = start_director(&hosts.ds1, yaml)?;
        let solo = Self {
            hosts,
            director,
            _responders: responders,
        };
        wait_until("the VIP answers", PATIENCE, || {
            solo.questions().ask(&solo.hosts.client).is_ok()
        })?;
        Ok(solo)
    }

    /// The director's machine.
    pub fn host(&self) -> &Host {
        &self.hosts.ds1
    }

    /// Starts the director again, which has ended, with the file that it has.
    ///
    /// # Errors
    /// When it can't be started.
    pub fn restart(&mut self, yaml: &str) -> Result<()> {
        self.director = start_director(self.host(), yaml)?;
        Ok(())
    }

    /// Changes the director's file, and has it read.
    ///
    /// # Errors
    /// When `director reload` fails; what it prints otherwise.
    pub fn reload(&self, yaml: &str) -> Result<String> {
        director_file(self.host(), yaml)?;
        self.host().run("director reload")
    }

    /// Questions from one source port.
    pub fn questions(&self) -> Questions {
        Questions::new(VIP)
            .from_port(40_000)
            .timeout(std::time::Duration::from_secs(2))
    }
}

/// A file with one service, DNS by UDP and TCP, and these real servers of [`SERVERS`] with these
/// weights. There are no probes.
pub fn configuration(weights: &[(usize, u32)]) -> String {
    let servers = weights.iter();
    let file = servers.fold(ServiceFile::new(), |file, (index, weight)| {
        file.server(SERVERS[*index].0, *weight)
    });
    file.to_string()
}
