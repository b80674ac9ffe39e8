//! The supervisor: starts the worker, passes signals on, and cleans up after its death.
//!
//! Single-threaded and small, so that it outlives whatever ends the worker. The worker reports what
//! it holds ([`Holding`]) before the kernel has it; when the worker dies, however it dies, the
//! supervisor says priority 0 for it, takes its VIPs away and exits non-zero; SIGABRT, which a service
//! manager's watchdog sends, makes it end the worker. The table in the
//! kernel stays as it is, for the next start, but for services that could pass packets to and fro
//! with the peer.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::ffi::OsString;
use std::fmt;
use std::io::{self, Read, Write};
use std::net::IpAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, ExitStatus, Stdio};
use std::time::{Duration, Instant, SystemTime};

use lvs_proto::vrrp::{self, Family, hmac};
use lvs_system::netlink::{Connection, Protocol};
use lvs_system::vrrp_socket::{Mode, VrrpSocket};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};
use tracing::{error, warn};

use crate::address::{Placed, VirtualAddresses};
use crate::dataplane;
use crate::events;
use crate::worker;

/// How long a worker may take to stop when it has handed over; its own steps take milliseconds, and
/// hooks seconds.
const STOP_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a worker may take from closing its channel to its end. What it held is given up before that
/// is waited for.
const END_TIMEOUT: Duration = worker::LONGEST_END;

/// What a virtual router holds on this machine, and how to leave for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holding {
    /// The instance's name.
    pub instance: String,
    /// The VIPs and where they are.
    pub addresses: Vec<Placed>,
    /// How adverts are sent.
    pub outlet: Outlet,
    /// The address that they are sent from.
    pub source: IpAddr,
    /// The adverts with priority 0.
    pub resignations: Vec<Resignation>,
    /// What they have to be signed with at that moment.
    pub key: Option<SigningKey>,
    /// How long it may wait for another Active when it is told to stop.
    pub handover_limit: Duration,
}

/// The socket that adverts are sent with.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Outlet {
    /// IPv6 rather than IPv4.
    pub ipv6: bool,
    /// The interface's name.
    pub interface: String,
    /// The interface's number.
    pub interface_index: u32,
}

/// An advert with priority 0.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resignation {
    /// Where it goes.
    pub destination: IpAddr,
    /// Its bytes, without a trailer.
    pub message: Vec<u8>,
}

/// A key that adverts are signed with. It goes from worker to supervisor, and nowhere else.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SigningKey {
    id: u8,
    secret: Vec<u8>,
}

impl From<(hmac::KeyId, &hmac::Key)> for SigningKey {
    fn from((id, key): (hmac::KeyId, &hmac::Key)) -> Self {
        Self {
            id: id.get(),
            secret: key.secret().to_vec(),
        }
    }
}

impl SigningKey {
    fn sealer(&self) -> Option<hmac::Sealer> {
        let id = hmac::KeyId::new(self.id)?;
        let key = hmac::Key::new(self.secret.clone()).ok()?;
        Some(hmac::Sealer::from_key(id, key))
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("SigningKey(hidden)")
    }
}

impl Outlet {
    fn open(&self) -> io::Result<VrrpSocket> {
        let family = if self.ipv6 {
            Family::Ipv6
        } else {
            Family::Ipv4
        };
        VrrpSocket::open(
            family,
            &self.interface,
            self.interface_index,
            Mode::SendOnly,
        )
    }
}

/// One line that the worker writes: an instance holds this now, or nothing.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Report {
    instance: String,
    holding: Option<Holding>,
}

impl Report {
    pub(crate) fn read(line: &[u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(line)
    }

    pub(crate) fn line(&self) -> Vec<u8> {
        let mut line = serde_json::to_vec(self).expect("a report has only string keys");
        line.push(b'\n');
        line
    }
}

/// The worker's end: tells the supervisor what would have to be undone.
#[derive(Debug)]
pub struct Estate {
    supervisor: UnixStream,
}

impl Estate {
    /// Writes to the supervisor through `stream`.
    pub fn new(stream: UnixStream) -> Self {
        Self { supervisor: stream }
    }

    /// Reports what an instance holds from now on. Returns when the supervisor can read it.
    pub fn record(&self, instance: &str, holding: Option<Holding>) {
        let report = Report {
            instance: instance.to_owned(),
            holding,
        };
        if let Err(error) = (&self.supervisor).write_all(&report.line()) {
            // The worker stops by itself when its supervisor is gone.
            warn!(instance, %error, "the supervisor cannot be told what is held");
        }
    }
}

/// Runs `arguments` of this program as the worker until it ends, and cleans up after it.
///
/// The worker's standard input is the channel of its [`Estate`]; its records are in `directory`.
pub fn run(arguments: &[OsString], directory: &Path) -> ExitCode {
    match Supervisor::start(arguments, directory) {
        Ok(supervisor) => supervisor.supervise(),
        Err(error) => {
            error!(%error, "cannot start the worker");
            ExitCode::FAILURE
        }
    }
}

struct Supervisor {
    worker: Child,
    directory: PathBuf,
    reports: UnixStream,
    signals: SignalFd,
    unread: Vec<u8>,
    holdings: BTreeMap<String, Holding>,
    /// Opened while the worker is well, so that nothing can be missing when it isn't.
    sockets: BTreeMap<Outlet, VrrpSocket>,
    stop: Option<Stop>,
}

/// The worker was told to stop.
struct Stop {
    at: Instant,
    within: Duration,
}

impl Supervisor {
    fn start(arguments: &[OsString], directory: &Path) -> io::Result<Self> {
        let mut handled = SigSet::empty();
        for signal in [
            Signal::SIGTERM,
            Signal::SIGINT,
            Signal::SIGHUP,
            Signal::SIGABRT,
        ] {
            handled.add(signal);
        }
        handled.thread_block()?;
        let signals =
            SignalFd::with_flags(&handled, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?;
        let (reports, channel) = UnixStream::pair()?;
        reports.set_nonblocking(true)?;
        // The worker inherits the blocked signals, and takes them once it has its handlers.
        // By its path, so that it has its name in lists of processes.
        let program = std::env::current_exe().unwrap_or_else(|_| "/proc/self/exe".into());
        let worker = Command::new(program)
            .arg0("director")
            .args(arguments)
            .stdin(Stdio::from(OwnedFd::from(channel)))
            .spawn()?;
        Ok(Self {
            worker,
            directory: directory.to_owned(),
            reports,
            signals,
            unread: Vec::new(),
            holdings: BTreeMap::new(),
            sockets: BTreeMap::new(),
            stop: None,
        })
    }

    fn supervise(mut self) -> ExitCode {
        loop {
            self.wait();
            if !self.read_reports() {
                // The kernel closes the files of a dying process before it can be waited for.
                return self.bury();
            }
            self.pass_signals();
            if let Some(stop) = self.stop.take_if(|stop| stop.at.elapsed() >= stop.within) {
                error!(
                    "the worker did not stop within {} s: ending it",
                    stop.within.as_secs()
                );
                self.signal_worker(Signal::SIGKILL);
            }
        }
    }

    fn wait(&self) {
        let timeout = self.stop.as_ref().map_or(PollTimeout::NONE, |stop| {
            let remaining = stop.within.saturating_sub(stop.at.elapsed());
            PollTimeout::try_from(remaining + Duration::from_millis(1)).unwrap_or(PollTimeout::MAX)
        });
        let mut descriptors = [
            PollFd::new(self.signals.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.reports.as_fd(), PollFlags::POLLIN),
        ];
        match poll(&mut descriptors, timeout) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => error!(error = %errno, "the supervisor cannot wait"),
        }
    }

    /// Whether the worker's end of the channel is still open.
    fn read_reports(&mut self) -> bool {
        let mut buffer = [0; 4096];
        let open = loop {
            match self.reports.read(&mut buffer) {
                Ok(0) => break false,
                Ok(length) => self.unread.extend_from_slice(&buffer[..length]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break true,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    error!(%error, "cannot read what the worker holds");
                    break false;
                }
            }
        };
        while let Some(end) = self.unread.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.unread.drain(..=end).collect();
            match Report::read(&line) {
                Ok(report) => self.note(report),
                Err(error) => error!(%error, "the worker's report cannot be read"),
            }
        }
        open
    }

    fn note(&mut self, report: Report) {
        let Some(holding) = report.holding else {
            self.holdings.remove(&report.instance);
            return;
        };
        if let Entry::Vacant(place) = self.sockets.entry(holding.outlet.clone()) {
            match place.key().open() {
                Ok(socket) => {
                    place.insert(socket);
                }
                Err(error) => {
                    error!(interface = %holding.outlet.interface, %error, "the supervisor has no socket to say that the worker died");
                }
            }
        }
        self.holdings.insert(report.instance, holding);
    }

    fn pass_signals(&mut self) {
        while let Ok(Some(information)) = self.signals.read_signal() {
            let Ok(signal) = Signal::try_from(information.ssi_signo as i32) else {
                continue;
            };
            if signal == Signal::SIGABRT {
                // What systemd's watchdog sends to both; a worker that is stopped doesn't hear it.
                error!(
                    "aborted, as by a watchdog that the VRRP thread has not fed: ending the worker"
                );
                self.signal_worker(Signal::SIGKILL);
                continue;
            }
            self.signal_worker(signal);
            if signal != Signal::SIGHUP && self.stop.is_none() {
                let held = self.holdings.values();
                let handover = held.map(|holding| holding.handover_limit).max();
                self.stop = Some(Stop {
                    at: Instant::now(),
                    within: handover.unwrap_or_default() + STOP_TIMEOUT,
                });
            }
        }
    }

    fn signal_worker(&self, signal: Signal) {
        // A worker that has ended meanwhile is noticed by its channel.
        let _ = kill(Pid::from_raw(self.worker.id() as i32), signal);
    }

    /// Ends with the worker: nothing it held stays behind.
    fn bury(mut self) -> ExitCode {
        self.give_up_holdings();
        match self.await_end() {
            Ok(status) => {
                if let Some(how) = death(status) {
                    events::leave_word_of_death(&self.directory, &how);
                }
                exit_code(status)
            }
            Err(error) => {
                error!(%error, "cannot wait for the worker");
                ExitCode::FAILURE
            }
        }
    }

    /// The channel's end means that the worker ends; one that only closed it is ended.
    fn await_end(&mut self) -> io::Result<ExitStatus> {
        let deadline = Instant::now() + END_TIMEOUT;
        while Instant::now() < deadline {
            if let Some(status) = self.worker.try_wait()? {
                return Ok(status);
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        self.signal_worker(Signal::SIGKILL);
        self.worker.wait()
    }

    /// Priority 0 first, so that the peer takes over while the addresses go. Words come last: a log
    /// reader that is stuck must not keep an address here.
    fn give_up_holdings(&self) {
        let unsaid: Vec<(&Holding, io::Error)> = self
            .holdings
            .values()
            .filter_map(|holding| Some((holding, self.resign(holding).err()?)))
            .collect();
        let mut left_behind = Vec::new();
        if !self.holdings.is_empty() {
            match Connection::open(Protocol::Route) {
                Ok(mut route) => {
                    for holding in self.holdings.values() {
                        let addresses = VirtualAddresses::new(holding.addresses.clone());
                        left_behind.extend(addresses.remove(&mut route));
                    }
                }
                Err(error) => error!(%error, "cannot remove the addresses of the dead worker"),
            }
        }
        // A worker that held nothing had none of these in the kernel.
        let mutual =
            (!self.holdings.is_empty()).then(|| dataplane::remove_mutual_services(&self.directory));
        for (holding, error) in unsaid {
            error!(instance = %holding.instance, %error, "cannot say that the worker died");
        }
        for failure in left_behind {
            error!(error = %failure, "an address of the dead worker stays behind");
        }
        for instance in self.holdings.keys() {
            warn!(%instance, "the worker died: gave up what it held");
        }
        match mutual {
            Some(Ok(removal)) => tell_removal(&removal),
            Some(Err(error)) => error!(
                %error,
                "the table of the dead worker cannot be looked at: where this machine is a real \
                 server of its own service, remove that with `ipvsadm -C`"
            ),
            None => {}
        }
    }

    fn resign(&self, holding: &Holding) -> io::Result<()> {
        let missing = || io::Error::from(io::ErrorKind::NotConnected);
        let socket = self.sockets.get(&holding.outlet).ok_or_else(missing)?;
        let mut sealer = holding.key.as_ref().and_then(SigningKey::sealer);
        let mut result = Ok(());
        for resignation in &holding.resignations {
            let mut message = resignation.message.clone();
            let destination = resignation.destination;
            if let Some(sealer) = &mut sealer {
                let wall = SystemTime::now();
                vrrp::seal(&mut message, sealer, holding.source, destination, wall);
            }
            let sent = socket.send(&message, holding.source, destination);
            result = result.and(sent);
        }
        result
    }
}

fn tell_removal(removal: &dataplane::Removal) {
    for change in &removal.removed {
        warn!("the worker died: {change}, since this machine is one of its real servers");
    }
    for failure in &removal.failures {
        error!(
            "the worker died, and a service that sends packets back to the peer stays: {failure}"
        );
    }
}

/// How the worker has died, unless it ended in order or couldn't start.
fn death(status: ExitStatus) -> Option<String> {
    let signal = status.signal()?;
    let name = Signal::try_from(signal).map_or("an unknown signal", Signal::as_str);
    let core = if status.core_dumped() {
        "; `coredumpctl info director` may say more"
    } else {
        ""
    };
    Some(format!(
        "the worker was ended by {name}: its supervisor gave up what it held{core}"
    ))
}

/// The worker's own exit code, or failure when a signal ended it.
fn exit_code(status: ExitStatus) -> ExitCode {
    match status.code().map(u8::try_from) {
        Some(Ok(code)) => ExitCode::from(code),
        _ => {
            let signal = status
                .signal()
                .and_then(|number| Signal::try_from(number).ok());
            let signal = signal.map_or("an unknown signal", Signal::as_str);
            error!(signal, "the worker was ended");
            ExitCode::FAILURE
        }
    }
}
