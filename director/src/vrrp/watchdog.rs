//! The service manager's watchdog, fed by the VRRP thread itself: as long as it is fed, adverts are heard
//! and timers run.
//!
//! As in `sd_watchdog_enabled(3)` and `sd_notify(3)`, but without ever waiting for the manager.

use std::ffi::OsStr;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::{Duration, Instant};

/// How often it is fed within the time that the manager waits.
const MEALS: u32 = 4;

#[derive(Debug)]
pub(super) struct Watchdog {
    socket: UnixDatagram,
    manager: SocketAddr,
    every: Duration,
    next: Instant,
}

impl Watchdog {
    /// Of the manager that started this process or its parent; `None` when there is none that waits.
    pub(super) fn from_environment(now: Instant) -> Option<Self> {
        let number = |name| std::env::var(name).ok()?.parse::<u64>().ok();
        let meant = number("WATCHDOG_PID").is_none_or(|meant| {
            // The supervisor is the main process.
            [std::process::id(), std::os::unix::process::parent_id()]
                .map(u64::from)
                .contains(&meant)
        });
        let patience = Duration::from_micros(number("WATCHDOG_USEC")?);
        if !meant || patience.is_zero() {
            return None;
        }
        let manager = address(&std::env::var_os("NOTIFY_SOCKET")?)?;
        Self::new(manager, patience, now).ok()
    }

    fn new(manager: SocketAddr, patience: Duration, now: Instant) -> std::io::Result<Self> {
        let socket = UnixDatagram::unbound()?;
        socket.set_nonblocking(true)?;
        Ok(Self {
            socket,
            manager,
            every: patience / MEALS,
            next: now,
        })
    }

    /// When it wants to be fed again.
    pub(super) fn next(&self) -> Instant {
        self.next
    }

    /// Feeds it when it is time to.
    pub(super) fn feed(&mut self, now: Instant) {
        if now >= self.next {
            // A manager that doesn't listen just now hears it the next time.
            let _ = self.socket.send_to_addr(b"WATCHDOG=1", &self.manager);
            self.next = now + self.every;
        }
    }
}

/// A path, or a name in the abstract namespace, which is written with an @.
fn address(name: &OsStr) -> Option<SocketAddr> {
    match name.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name).ok(),
        _ => SocketAddr::from_pathname(name).ok(),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn it_is_fed_four_times_within_the_manager_s_patience() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let manager = UnixDatagram::bind(&path).unwrap();
        manager.set_nonblocking(true).unwrap();
        let start = Instant::now();
        let patience = Duration::from_secs(10);
        let mut watchdog =
            Watchdog::new(address(path.as_os_str()).unwrap(), patience, start).unwrap();
        let mut heard = 0;
        for tenth in 0..=100 {
            watchdog.feed(start + Duration::from_millis(100) * tenth);
            let mut message = [0; 64];
            while let Ok(length) = manager.recv(&mut message) {
                assert_eq!(&message[..length], b"WATCHDOG=1");
                heard += 1;
            }
        }
        assert_eq!(heard, 5);
        assert_eq!(
            watchdog.next(),
            start + patience + Duration::from_millis(2500)
        );
    }

    #[test]
    fn a_manager_that_does_not_read_holds_up_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let _manager = UnixDatagram::bind(&path).unwrap();
        let manager = address(path.as_os_str()).unwrap();
        let start = Instant::now();
        let mut watchdog = Watchdog::new(manager, Duration::from_secs(4), start).unwrap();
        for second in 0..10_000 {
            watchdog.feed(start + Duration::from_secs(second));
        }
    }

    #[test]
    fn a_manager_s_name_may_be_abstract() {
        let name = address(OsStr::new("@manager")).unwrap();
        assert_eq!(name.as_abstract_name(), Some(&b"manager"[..]));
        assert!(address(OsStr::new(&"x".repeat(200))).is_none());
    }
}
