//! One machine: a thread in namespaces of its own.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::Signal;
use nix::unistd::sethostname;

use super::process::{self, Output, Process};
use super::wire::Mac;
use super::{enter, parse_address, wire};
use crate::lock::lock;

/// How long [`Host::run`] waits for a program: generous, since the guest's processor is slow.
const RUN_TIMEOUT: Duration = Duration::from_secs(20);

type Job = Box<dyn FnOnce() + Send>;

/// A machine of the lab: its own interfaces, addresses, sysctls, host name and `/run`.
///
/// It is a handle and cheap to clone; the machine ends with its [`super::Lab`].
#[derive(Clone, Debug)]
pub struct Host(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    name: String,
    directory: PathBuf,
    network_inode: u64,
    jobs: Mutex<Option<Sender<Job>>>,
    thread: Mutex<Option<JoinHandle<()>>>,
    ports: Mutex<BTreeMap<String, Port>>,
}

/// Where an interface of a host ends.
#[derive(Clone, Debug)]
pub(crate) struct Port {
    pub(crate) mac: Mac,
    /// The other end of the cable, and the switch that it is plugged into.
    pub(crate) name: String,
    pub(crate) bridge: Option<String>,
    pub(crate) switches: Host,
}

impl Host {
    pub(crate) fn new(name: &str, directory: &Path) -> Result<Self> {
        let (jobs, queue) = channel::<Job>();
        let (ready, made) = channel();
        let host_name = name.to_owned();
        let thread = std::thread::Builder::new()
            .name(name.into())
            .spawn(move || {
                let furnished = furnish(&host_name);
                let succeeded = furnished.is_ok();
                // The receiver waits for exactly this message.
                let _ = ready.send(furnished);
                if succeeded {
                    queue.iter().for_each(|job| job());
                }
            })
            .context("no thread for a host")?;
        let namespace = made
            .recv()
            .context("the thread of a host ended early")?
            .with_context(|| format!("host {name}"))?;
        enter::name_network(name, &namespace)?;
        Ok(Self(Arc::new(Inner {
            name: name.into(),
            directory: directory.into(),
            network_inode: namespace.metadata()?.ino(),
            jobs: Mutex::new(Some(jobs)),
            thread: Mutex::new(Some(thread)),
            ports: Mutex::new(BTreeMap::new()),
        })))
    }

    /// The host's name, which is its UTS host name too.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// Runs `job` on the host: sockets it opens and files it reads are the host's.
    ///
    /// A long job keeps other uses of the host waiting: see [`Host::thread`].
    ///
    /// # Panics
    /// When the lab has ended, and when `job` panics.
    pub fn within<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> T {
        let (answer, result) = channel();
        let job: Job = Box::new(move || {
            let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(job));
            // The asking thread waits below.
            let _ = answer.send(outcome);
        });
        let sent = match &*self.lock_jobs() {
            Some(jobs) => jobs.send(job).is_ok(),
            None => false,
        };
        assert!(sent, "the lab of host {} has ended", self.name());
        match result.recv() {
            Ok(Ok(value)) => value,
            Ok(Err(panic)) => std::panic::resume_unwind(panic),
            Err(_) => panic!("host {} ended during a job", self.name()),
        }
    }

    /// Starts a thread on the host for something that takes a while.
    pub fn thread<T: Send + 'static>(
        &self,
        job: impl FnOnce() -> T + Send + 'static,
    ) -> JoinHandle<T> {
        let name = self.name().to_owned();
        // A new thread lives in the namespaces of the thread that starts it.
        match self.within(move || std::thread::Builder::new().name(name).spawn(job)) {
            Ok(handle) => handle,
            Err(error) => panic!("no thread on host {}: {error}", self.name()),
        }
    }

    /// Starts a program; its output goes to a log file of its own.
    ///
    /// `director` and `rs-agent` are the ones this workspace built, anything else is looked up in
    /// PATH and the sbin folders.
    pub fn spawn(
        &self,
        program: &str,
        arguments: impl IntoIterator<Item = impl AsRef<OsStr>>,
    ) -> Result<Process> {
        Process::spawn(self, program, collect(arguments), &self.0.directory)
    }

    /// Runs a command to its end and returns its standard output. Words are split at blanks.
    ///
    /// # Errors
    /// When it can't be started, takes over 20 s, or exits with another status than 0; the message
    /// has its standard error.
    pub fn run(&self, command: &str) -> Result<String> {
        let mut words = command.split_whitespace();
        let program = words.next().context("an empty command")?;
        let output = self.output(program, words, RUN_TIMEOUT)?;
        if !output.success() {
            bail!(
                "`{command}` on {} ended with {}: {}{}",
                self.name(),
                output.status,
                output.stdout,
                output.stderr
            );
        }
        Ok(output.stdout)
    }

    /// Runs a program to its end, whatever its exit status, killing it after `limit`.
    ///
    /// # Errors
    /// When it can't be started or had to be killed.
    pub fn output(
        &self,
        program: &str,
        arguments: impl IntoIterator<Item = impl AsRef<OsStr>>,
        limit: Duration,
    ) -> Result<Output> {
        process::run(self, program, collect(arguments), limit)
    }

    /// Sets an interface up.
    pub fn link_up(&self, interface: &str) -> Result<()> {
        let interface = interface.to_owned();
        self.within(move || wire::set_up(&interface, true))
    }

    /// Sets an interface down: frames are lost in both directions from then on.
    pub fn link_down(&self, interface: &str) -> Result<()> {
        let interface = interface.to_owned();
        self.within(move || wire::set_up(&interface, false))
    }

    /// Splits an interface from its LAN: the switch passes nothing on in either direction, while
    /// both sides see their links up.
    ///
    /// # Panics
    /// When the lab made no such interface.
    pub fn split_off(&self, interface: &str) -> Result<()> {
        let port = self.port(interface);
        port.switches.within(move || wire::unplug(&port.name))
    }

    /// Heals what [`Host::split_off`] split.
    ///
    /// # Panics
    /// When the lab made no such interface, or it was never on a LAN.
    pub fn rejoin(&self, interface: &str) -> Result<()> {
        let Port {
            name,
            bridge: Some(bridge),
            switches,
            ..
        } = self.port(interface)
        else {
            panic!("{interface} of host {} is on no LAN", self.name());
        };
        switches.within(move || wire::plug(&name, &bridge))
    }

    /// Adds an address such as `"192.168.56.185/32"` to an interface.
    pub fn add_address(&self, interface: &str, address: &str) -> Result<()> {
        let interface = interface.to_owned();
        let (address, prefix) = parse_address(address)?;
        self.within(move || wire::add_address(&interface, address, prefix))
    }

    /// Writes a sysctl by its dotted name; an interface with dots in its name can't be named so.
    pub fn set_sysctl(&self, name: &str, value: &str) -> Result<()> {
        let path = sysctl_path(name);
        let value = value.to_owned();
        self.within(move || fs::write(&path, &value))
            .with_context(|| format!("sysctl {name} on {}", self.name()))
    }

    /// Reads a sysctl by its dotted name, without the line's end.
    pub fn sysctl(&self, name: &str) -> Result<String> {
        let path = sysctl_path(name);
        let text = self
            .within(move || fs::read_to_string(&path))
            .with_context(|| format!("sysctl {name} on {}", self.name()))?;
        Ok(text.trim_end().into())
    }

    /// Every sysctl below `net/ipv4/conf` with its value, to compare before and after.
    pub fn interface_sysctls(&self) -> BTreeMap<String, String> {
        self.within(|| {
            let mut all = BTreeMap::new();
            let folders = fs::read_dir("/proc/sys/net/ipv4/conf")
                .into_iter()
                .flatten();
            for folder in folders.flatten() {
                for file in fs::read_dir(folder.path()).into_iter().flatten().flatten() {
                    // Some sysctls can't be read; then they can't change either.
                    if let Ok(value) = fs::read_to_string(file.path()) {
                        all.insert(file.path().display().to_string(), value.trim_end().into());
                    }
                }
            }
            all
        })
    }

    /// Whether an interface of the host carries this address, by the kernel's own tables.
    pub fn holds(&self, address: impl Into<IpAddr>) -> bool {
        let address = address.into();
        self.within(move || match address {
            IpAddr::V4(address) => {
                fs::read_to_string("/proc/thread-self/net/fib_trie").is_ok_and(|trie| {
                    let leaf = format!("|-- {address}");
                    let lines: Vec<&str> = trie.lines().map(str::trim).collect();
                    lines
                        .windows(2)
                        .any(|pair| pair[0] == leaf && pair[1] == "/32 host LOCAL")
                })
            }
            IpAddr::V6(address) => {
                fs::read_to_string("/proc/thread-self/net/if_inet6").is_ok_and(|table| {
                    let digits = format!("{:032x}", address.to_bits());
                    table.lines().any(|line| line.starts_with(&digits))
                })
            }
        })
    }

    /// The Ethernet address that the lab gave an interface.
    ///
    /// # Panics
    /// When the lab made no such interface.
    pub fn mac(&self, interface: &str) -> Mac {
        self.port(interface).mac
    }

    /// Writes a file that only this host sees, below `/run/lab`, and returns its path.
    pub fn write_file(&self, name: &str, content: &str) -> Result<PathBuf> {
        let path = Path::new("/run/lab").join(name);
        let (to, content) = (path.clone(), content.to_owned());
        self.within(move || {
            if let Some(folder) = to.parent() {
                fs::create_dir_all(folder)?;
            }
            fs::write(&to, content)
        })
        .with_context(|| format!("{} on {}", path.display(), self.name()))?;
        Ok(path)
    }

    /// Hides a folder of the machine under an empty one that only this host sees.
    pub fn hide_folder(&self, folder: impl Into<PathBuf>) -> Result<()> {
        let folder = folder.into();
        self.within(move || enter::mount_tmpfs(folder))
    }

    /// The numbers of all processes that run on this host, however they were started.
    pub fn processes(&self) -> Vec<i32> {
        process::all()
            .filter(|pid| {
                fs::metadata(format!("/proc/{pid}/ns/net"))
                    .is_ok_and(|namespace| namespace.ino() == self.0.network_inode)
            })
            .collect()
    }

    /// `kill -9` for all processes of the host, as when its power fails; its links stay as they are.
    pub fn kill_processes(&self) {
        // Stopped, none of them lives to see another one die.
        for end in [Signal::SIGSTOP, Signal::SIGKILL] {
            for pid in self.processes() {
                process::signal(pid, end);
            }
        }
    }

    pub(crate) fn network(&self) -> Result<OwnedFd> {
        self.within(|| File::open("/proc/thread-self/ns/net"))
            .map(OwnedFd::from)
            .context("a host cannot open its own network namespace")
    }

    pub(crate) fn remember_port(&self, interface: &str, port: Port) {
        lock(&self.0.ports).insert(interface.into(), port);
    }

    /// Ends the host's thread and with it the last hold on its namespaces.
    pub(crate) fn end(&self) {
        drop(self.lock_jobs().take());
        if let Some(thread) = lock(&self.0.thread).take() {
            // A panic on it was already handed to whoever asked.
            let _ = thread.join();
        }
        enter::forget_network(self.name());
    }

    fn port(&self, interface: &str) -> Port {
        match lock(&self.0.ports).get(interface) {
            Some(port) => port.clone(),
            None => panic!("host {} has no interface {interface}", self.name()),
        }
    }

    fn lock_jobs(&self) -> MutexGuard<'_, Option<Sender<Job>>> {
        lock(&self.0.jobs)
    }
}

/// Moves the calling thread into namespaces of its own and makes them a machine.
fn furnish(name: &str) -> Result<File> {
    unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWUTS)
        .context("the kernel refuses its namespaces")?;
    sethostname(name).context("its host name")?;
    enter::mount_tmpfs("/run")?;
    fs::create_dir_all("/run/lock")?;
    mount_own_sys();
    wire::set_up("lo", true)?;
    for (name, value) in [
        // A new namespace may inherit what the machine's own configuration set.
        ("net.ipv4.conf.all.rp_filter", "0"),
        ("net.ipv4.conf.default.rp_filter", "0"),
        // Tentative IPv6 addresses would only delay the start.
        ("net.ipv6.conf.default.accept_dad", "0"),
        ("net.ipv4.ip_forward", "0"),
    ] {
        let path = sysctl_path(name);
        // A kernel without IPv6 lacks its sysctls.
        if path.exists() {
            fs::write(&path, value).with_context(|| format!("sysctl {name}"))?;
        }
    }
    File::open("/proc/thread-self/ns/net").context("its network namespace")
}

/// Shows the host's own interfaces in `/sys/class/net`, where the kernel allows a fresh mount.
fn mount_own_sys() {
    let nothing = None::<&str>;
    // Nothing in the lab depends on it; some programs print nicer messages with it.
    let _ = mount(
        Some("sysfs"),
        "/sys",
        Some("sysfs"),
        MsFlags::empty(),
        nothing,
    );
}

fn sysctl_path(name: &str) -> PathBuf {
    Path::new("/proc/sys").join(name.replace('.', "/"))
}

fn collect(arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Vec<std::ffi::OsString> {
    arguments
        .into_iter()
        .map(|argument| argument.as_ref().to_owned())
        .collect()
}
