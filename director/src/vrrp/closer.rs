//! The thread on which sockets are closed.

use std::io;
use std::sync::mpsc;
use std::thread;

/// Takes what is no longer needed, and drops it elsewhere.
///
/// Whoever closes a packet socket waits until no processor uses it any more (`packet_release()` in
/// `net/packet/af_packet.c`), which takes tens of milliseconds on a busy machine, and who leaves a
/// multicast group waits for a lock that others hold. Adverts can't.
#[derive(Clone, Debug)]
pub(super) struct Closer(mpsc::Sender<Box<dyn Send>>);

impl Closer {
    /// Starts the thread, which ends after the last of its senders.
    pub(super) fn spawn() -> io::Result<Self> {
        let (sender, sockets) = mpsc::channel::<Box<dyn Send>>();
        thread::Builder::new()
            .name("closer".into())
            .spawn(move || sockets.into_iter().for_each(drop))?;
        Ok(Self(sender))
    }

    /// Drops `sockets` soon, and returns at once.
    pub(super) fn close(&self, sockets: impl Send + 'static) {
        // Without that thread they are dropped here.
        let _ = self.0.send(Box::new(sockets));
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// Takes until it's told how long it takes, and tells where it is closed.
    struct Slow(mpsc::Receiver<()>, mpsc::Sender<thread::ThreadId>);

    impl Drop for Slow {
        fn drop(&mut self) {
            let _ = self.0.recv();
            let _ = self.1.send(thread::current().id());
        }
    }

    #[test]
    fn nobody_waits_for_a_socket_that_closes() {
        let closer = Closer::spawn().unwrap();
        let (finish, finished) = mpsc::channel();
        let (closed, was_closed) = mpsc::channel();
        closer.close(Slow(finished, closed));
        assert!(was_closed.try_recv().is_err());
        finish.send(()).unwrap();
        assert_ne!(was_closed.recv().unwrap(), thread::current().id());
    }
}
