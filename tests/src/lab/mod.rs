//! Machines and wires.
//!
//! A [`Host`] is one thread of this program that moved into network, mount and UTS namespaces of
//! its own: what it spawns or opens belongs there, so no launcher and no `nsenter` is needed. A
//! [`Lab`] owns its hosts; when it is dropped, after a panic too, every process started in it is
//! killed and waited for and its namespaces are gone.

mod enter;
mod host;
mod process;
mod wire;

use std::collections::BTreeMap;
use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use nix::unistd::{AccessFlags, access};

pub use enter::{enter, is_initial_root};
pub use host::Host;
pub(crate) use process::children;
pub use process::{Output, Process};
pub use wire::Mac;

use self::host::Port;
use self::wire::Forwarding;
use crate::binaries::target_directory;
use crate::case::Mode;
use crate::lock::lock;

/// Ending a lab kills all processes of the PID namespace: two at a time would end each other.
static ONE_LAB: Mutex<()> = Mutex::new(());

/// A LAN: an Ethernet switch that hosts are attached to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lan {
    bridge: String,
}

/// A set of hosts and the LANs between them. There is one at a time in a program.
#[derive(Debug)]
pub struct Lab {
    directory: PathBuf,
    hosts: BTreeMap<String, Host>,
    switches: Host,
    interfaces: u16,
    mode: Mode,
    _one_lab: MutexGuard<'static, ()>,
}

impl Lab {
    /// Makes an empty lab. Its log files go to a folder of that name, emptied first, below
    /// `target/lab` (below the temporary folder where `target` can't be written).
    ///
    /// # Errors
    /// When [`enter`] was not called, or the kernel refuses a namespace.
    pub fn new(name: &str) -> Result<Self> {
        ensure!(
            enter::is_inside(),
            "call lab::enter() first in the program's main function"
        );
        let directory = log_directory(name)?;
        let one_lab = lock(&ONE_LAB);
        let switches = Host::new("switches", &directory)?;
        Ok(Self {
            directory,
            hosts: BTreeMap::new(),
            switches,
            interfaces: 0,
            mode: Mode::default(),
            _one_lab: one_lab,
        })
    }

    /// How the case that this lab is for is run.
    pub fn mode(&self) -> Mode {
        self.mode
    }

    pub(crate) fn set_mode(&mut self, mode: Mode) {
        self.mode = mode;
    }

    /// Adds a host. Its name is its host name and the name of its network namespace.
    pub fn add_host(&mut self, name: &str) -> Result<Host> {
        ensure!(
            !self.hosts.contains_key(name) && name != "switches",
            "there is a host {name} already"
        );
        let host = Host::new(name, &self.directory)?;
        self.hosts.insert(name.into(), host.clone());
        Ok(host)
    }

    /// The host of that name.
    ///
    /// # Panics
    /// When no such host was added: a mistake of the test.
    pub fn host(&self, name: &str) -> Host {
        match self.hosts.get(name) {
            Some(host) => host.clone(),
            None => panic!("the lab has no host {name}"),
        }
    }

    /// All hosts, by name.
    pub fn hosts(&self) -> impl Iterator<Item = &Host> {
        self.hosts.values()
    }

    /// Adds a LAN; its name has up to 15 characters.
    pub fn add_lan(&mut self, name: &str) -> Result<Lan> {
        self.add_bridge(name, Forwarding::Switch)
    }

    /// As [`Lab::add_lan`], but everybody hears everything, unicast too.
    pub fn add_hub(&mut self, name: &str) -> Result<Lan> {
        self.add_bridge(name, Forwarding::Hub)
    }
    /// Gives `host` an interface on `lan`, up, with `addresses` such as `"192.168.56.181/24"`.
    pub fn attach(
        &mut self,
        host: &Host,
        interface: &str,
        lan: &Lan,
        addresses: &[impl AsRef<str>],
    ) -> Result<()> {
        self.attach_to(host, interface, Some(lan), addresses)
    }

    /// Gives `host` an interface on a wire of its own with nobody else there, so that several
    /// hosts can carry the same address.
    pub fn attach_alone(
        &mut self,
        host: &Host,
        interface: &str,
        addresses: &[impl AsRef<str>],
    ) -> Result<()> {
        self.attach_to(host, interface, None, addresses)
    }

    /// Where the lab's log files are.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The last `lines` lines of every log in the lab, for the report of a failed test.
    pub fn logs(&self, lines: usize) -> String {
        let mut text = String::new();
        let mut paths: Vec<PathBuf> = fs::read_dir(&self.directory)
            .map(|entries| entries.flatten().map(|entry| entry.path()).collect())
            .unwrap_or_default();
        paths.sort();
        for path in paths {
            let content = fs::read(&path).unwrap_or_default();
            let content = String::from_utf8_lossy(&content);
            let all: Vec<&str> = content.lines().collect();
            let tail = &all[all.len().saturating_sub(lines)..];
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            text.push_str(&format!("--- {name}\n{}\n", tail.join("\n")));
        }
        text
    }

    fn add_bridge(&mut self, name: &str, forwarding: Forwarding) -> Result<Lan> {
        let bridge = name.to_owned();
        self.switches
            .within(move || wire::add_bridge(&bridge, forwarding))
            .with_context(|| format!("LAN {name}"))?;
        Ok(Lan {
            bridge: name.into(),
        })
    }

    fn attach_to(
        &mut self,
        host: &Host,
        interface: &str,
        lan: Option<&Lan>,
        addresses: &[impl AsRef<str>],
    ) -> Result<()> {
        self.interfaces += 1;
        let [high, low] = self.interfaces.to_be_bytes();
        // Locally administered, and the same in every run, so that captures are comparable.
        let mac = [0x02, 0x4c, 0x56, 0x53, high, low];
        let port = format!("port{}", self.interfaces);
        let far = interface.to_owned();
        let namespace = host.network()?;
        let bridge = lan.map(|lan| lan.bridge.clone());
        host.remember_port(
            interface,
            Port {
                mac,
                name: port.clone(),
                bridge: bridge.clone(),
                switches: self.switches.clone(),
            },
        );
        self.switches.within(move || {
            use std::os::fd::AsFd;
            wire::add_pair(&port, &far, mac, namespace.as_fd())?;
            if let Some(bridge) = bridge {
                wire::plug(&port, &bridge)?;
            }
            wire::set_up(&port, true)
        })?;
        host.link_up(interface)?;
        for address in addresses {
            host.add_address(interface, address.as_ref())?;
        }
        Ok(())
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        process::end_everything();
        for host in self.hosts.values() {
            host.end();
        }
        self.switches.end();
        // Programs that a host's thread was just starting.
        process::end_everything();
    }
}

/// Asks again and again, every 5 ms, until `ready` says yes.
///
/// # Errors
/// When `limit` has passed; the message says what was waited for.
pub fn wait_until(
    what: &str,
    limit: Duration,
    mut ready: impl FnMut() -> bool,
) -> Result<Duration> {
    let start = Instant::now();
    while !ready() {
        ensure!(
            start.elapsed() < limit,
            "waited {limit:?} in vain for: {what}"
        );
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(start.elapsed())
}

/// The numbers of all processes of the lab's PID namespace, this program's own 1 included, sorted.
pub fn processes() -> Vec<i32> {
    let mut all: Vec<i32> = process::all().collect();
    all.sort_unstable();
    all
}

/// A new folder for a lab's logs.
fn log_directory(name: &str) -> Result<PathBuf> {
    let name = name.replace("::", ".");
    let below_target = target_directory()?.join("lab").join(&name);
    let user = enter::outer_user();
    let temporary = std::env::temp_dir().join(format!("lvs-lab-{user}/{name}"));
    for directory in [below_target, temporary] {
        // What can't be removed can't be written either.
        let _ = fs::remove_dir_all(&directory);
        if fs::create_dir_all(&directory).is_ok() && access(&directory, AccessFlags::W_OK).is_ok() {
            return Ok(directory);
        }
    }
    bail!("the lab finds no folder for its logs")
}

/// Reads `address/prefix`.
fn parse_address(text: &str) -> Result<(IpAddr, u8)> {
    let (address, prefix) = text
        .split_once('/')
        .with_context(|| format!("{text} lacks its prefix length"))?;
    Ok((
        address
            .parse()
            .with_context(|| format!("{address} is no address"))?,
        prefix
            .parse()
            .with_context(|| format!("{prefix} is no prefix length"))?,
    ))
}
