//! What programs cost: time, processor time, memory, netlink messages, system calls.

use std::fs;
use std::io::IoSliceMut;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{JoinHandle, sleep};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::socket::{
    AddressFamily, LinkAddr, MsgFlags, SockFlag, SockProtocol, SockType, recvmsg, setsockopt,
    socket, sockopt,
};
use nix::sys::time::{TimeVal, TimeValLike};

use crate::lab::Host;

/// `ARPHRD_NETLINK` (`linux/if_arp.h`).
const NETLINK_DEVICE: u16 = 824;
/// `NETLINK_GENERIC` (`linux/netlink.h`).
const GENERIC: u16 = 16;
/// `GENL_ID_CTRL`, which is `NLMSG_MIN_TYPE` too: numbers below are netlink's own messages.
const CONTROLLER: u16 = 0x10;
/// `NLM_F_REQUEST`: a program asks, the kernel doesn't.
const REQUEST: u16 = 1;
/// `IPVS_CMD_DEL_DEST`: the numbers up to it, but for `IPVS_CMD_GET_SERVICE`, change the table.
const LAST_CHANGE: u8 = 7;
const GET_SERVICE: u8 = 4;
/// No processor time for so long is quiet.
const QUIET: Duration = Duration::from_millis(1500);

/// What something has cost.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cost {
    /// From its start to its end.
    pub time: Duration,
    /// Of all processes concerned.
    pub processor_time: Duration,
    /// Generic netlink messages to the kernel.
    pub messages: usize,
}

/// Counts the netlink messages of a host.
pub(super) struct Netlink {
    counts: Arc<Counts>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Counts {
    messages: AtomicUsize,
    changes: AtomicUsize,
    stop: AtomicBool,
}

impl Netlink {
    /// Counts from now on what the host's `nlmon` device shows.
    pub(super) fn start(host: &Host) -> Result<Self> {
        let socket = host.within(open)?;
        let counts = Arc::new(Counts::default());
        let own = Arc::clone(&counts);
        let thread = host.thread(move || count(&socket, &own));
        Ok(Self {
            counts,
            thread: Some(thread),
        })
    }

    /// Generic netlink messages until now.
    fn messages(&self) -> usize {
        self.counts.messages.load(Ordering::Relaxed)
    }

    /// Changes of the IPVS table until now, that of the whole table at once left aside.
    pub(super) fn changes(&self) -> usize {
        self.counts.changes.load(Ordering::Relaxed)
    }

    pub(super) fn wait_for_changes(&self, wanted: usize, limit: Duration) -> Result<()> {
        let start = Instant::now();
        while self.changes() < wanted {
            if start.elapsed() > limit {
                bail!(
                    "{} changes instead of {wanted} in {limit:?}",
                    self.changes()
                );
            }
            sleep(Duration::from_millis(1));
        }
        Ok(())
    }
}

impl Drop for Netlink {
    fn drop(&mut self) {
        self.counts.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // Its panic would show as missing messages.
            let _ = thread.join();
        }
    }
}

fn open() -> Result<OwnedFd> {
    let socket = socket(
        AddressFamily::Packet,
        SockType::Raw,
        SockFlag::SOCK_CLOEXEC,
        SockProtocol::EthAll,
    )?;
    // A burst of some thousand messages fits.
    setsockopt(&socket, sockopt::RcvBufForce, &(64 << 20))?;
    setsockopt(
        &socket,
        sockopt::ReceiveTimeout,
        &TimeVal::milliseconds(100),
    )?;
    Ok(socket)
}

fn count(socket: &OwnedFd, counts: &Counts) {
    let mut buffer = vec![0; 1 << 20];
    while !counts.stop.load(Ordering::Relaxed) {
        let mut buffers = [IoSliceMut::new(&mut buffer)];
        let received =
            recvmsg::<LinkAddr>(socket.as_raw_fd(), &mut buffers, None, MsgFlags::empty());
        // Nothing came in time, and whether it shall stop is looked at.
        let Ok(received) = received else { continue };
        let Some(from) = received.address else {
            continue;
        };
        let length = received.bytes;
        if from.hatype() == NETLINK_DEVICE && u16::from_be(from.protocol()) == GENERIC {
            let (messages, changes) = messages(&buffer[..length]);
            counts.messages.fetch_add(messages, Ordering::Relaxed);
            counts.changes.fetch_add(changes, Ordering::Relaxed);
        }
    }
}

/// How many requests one call sent, and how many of them change the table. None in what the kernel
/// answers.
fn messages(mut octets: &[u8]) -> (usize, usize) {
    let (mut messages, mut changes) = (0, 0);
    // `struct nlmsghdr`: length, type, flags, sequence, port; then `struct genlmsghdr`: command.
    while let Some(header) = octets.first_chunk::<17>() {
        let length = u32::from_ne_bytes([header[0], header[1], header[2], header[3]]) as usize;
        let kind = u16::from_ne_bytes([header[4], header[5]]);
        let command = header[16];
        let request = u16::from_ne_bytes([header[6], header[7]]) & REQUEST != 0;
        messages += usize::from(request && kind >= CONTROLLER);
        if request && kind > CONTROLLER && command <= LAST_CHANGE && command != GET_SERVICE {
            changes += 1;
        }
        octets = octets
            .get(length.next_multiple_of(4).max(4)..)
            .unwrap_or(&[]);
    }
    (messages, changes)
}

/// How things stand at one moment.
pub(super) struct Snapshot {
    at: Instant,
    processor_time: Duration,
    of_ended: Duration,
    messages: usize,
}

impl Snapshot {
    /// Of these processes, and of those that this one has waited for.
    pub(super) fn take(processes: &[i32], netlink: &Netlink) -> Self {
        Self {
            at: Instant::now(),
            processor_time: processor_time(processes),
            of_ended: of_ended(),
            messages: netlink.messages(),
        }
    }

    /// What was spent since; `processes` are those that run now.
    pub(super) fn cost(&self, processes: &[i32], netlink: &Netlink) -> Cost {
        let now = Self::take(processes, netlink);
        self.cost_between(&now)
    }

    /// What was spent until that moment.
    pub(super) fn cost_until(&self, end: (Instant, Duration), netlink: &Netlink) -> Cost {
        let (at, processor_time) = end;
        self.cost_between(&Self {
            at,
            processor_time,
            of_ended: self.of_ended,
            messages: netlink.messages(),
        })
    }

    /// When these processes spent time for the last time before they were quiet, and how much in
    /// all.
    pub(super) fn wait_until_quiet(
        &self,
        processes: &[i32],
        limit: Duration,
    ) -> Result<(Instant, Duration)> {
        let mut last = (Instant::now(), processor_time(processes));
        while last.0.elapsed() < QUIET {
            if self.at.elapsed() > limit {
                bail!("not quiet within {limit:?}");
            }
            sleep(Duration::from_millis(10));
            let now = processor_time(processes);
            if now > last.1 + Duration::from_millis(1) {
                last = (Instant::now(), now);
            }
        }
        Ok(last)
    }

    fn cost_between(&self, end: &Self) -> Cost {
        // Of processes that ended since, what they spent before is in both sums.
        let living = end.processor_time.saturating_sub(self.processor_time);
        let ended = end.of_ended.saturating_sub(self.of_ended);
        let counted_twice = self.processor_time.saturating_sub(end.processor_time);
        Cost {
            time: end.at - self.at,
            processor_time: living + ended.saturating_sub(counted_twice),
            messages: end.messages - self.messages,
        }
    }
}

/// Of all threads of these processes.
pub(super) fn processor_time(processes: &[i32]) -> Duration {
    let threads = processes.iter().flat_map(|process| {
        let threads = fs::read_dir(format!("/proc/{process}/task"));
        threads.into_iter().flatten().flatten()
    });
    let nanoseconds = threads.filter_map(|thread| {
        let statistics = fs::read_to_string(thread.path().join("schedstat")).ok()?;
        statistics.split(' ').next()?.parse::<u64>().ok()
    });
    Duration::from_nanos(nanoseconds.sum())
}

fn of_ended() -> Duration {
    let Ok(usage) = getrusage(UsageWho::RUSAGE_CHILDREN) else {
        return Duration::ZERO;
    };
    let all = usage.user_time() + usage.system_time();
    Duration::from_micros(u64::try_from(all.num_microseconds()).unwrap_or_default())
}

/// Resident and proportional bytes of these processes.
pub(super) fn memory(processes: &[i32]) -> Result<(u64, u64)> {
    let (mut resident, mut proportional) = (0, 0);
    for process in processes {
        let path = format!("/proc/{process}/smaps_rollup");
        let rollup = fs::read_to_string(&path).context(path)?;
        let kibibytes = |name: &str| {
            let line = rollup.lines().find_map(|line| line.strip_prefix(name));
            let number = line.and_then(|line| line.split_whitespace().next());
            number.and_then(|number| number.parse::<u64>().ok())
        };
        resident += kibibytes("Rss:").context("no resident size")? * 1024;
        proportional += kibibytes("Pss:").context("no proportional size")? * 1024;
    }
    Ok((resident, proportional))
}

/// What a minute without events costs these processes, from ten seconds of one.
pub(super) fn idle_minute(processes: &[i32]) -> Result<Duration> {
    const PART: u32 = 6;
    let before = processor_time(processes);
    sleep(Duration::from_secs(60) / PART);
    Ok(processor_time(processes).saturating_sub(before) * PART)
}

/// System calls that strace has written down until now.
pub(super) fn calls(trace: &Path) -> Result<usize> {
    let text = fs::read(trace).context("strace's file")?;
    let text = String::from_utf8_lossy(&text);
    // Signals, ends, and the second halves of calls that were interrupted aren't calls.
    let calls = text.lines().filter(|line| {
        let call = line
            .split_once(' ')
            .map_or("", |(_, call)| call.trim_start());
        !call.starts_with("---") && !call.starts_with("+++") && !call.starts_with("<...")
    });
    Ok(calls.count())
}
