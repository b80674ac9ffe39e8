//! Keeps what was said, in memory and on disk. The disk may be slow: nothing waits for it but the
//! answer to who said it.

use std::path::{Path, PathBuf};

use tokio::sync::{mpsc, oneshot};
use tracing::error;

use super::{Hands, store};

/// What was said, and whoever writes it down.
#[derive(Debug)]
pub struct Keeper {
    hands: Hands,
    damage: Option<String>,
    outbox: mpsc::UnboundedSender<(Hands, oneshot::Sender<Result<(), String>>)>,
}

impl Keeper {
    /// Reads what was said, and says what is wrong with the file. In a tokio runtime.
    pub fn open(state_directory: &Path) -> Self {
        let (hands, damage) = store::load(state_directory);
        if let Some(damage) = &damage {
            error!("{damage}");
        }
        let (outbox, inbox) = mpsc::unbounded_channel();
        tokio::spawn(write_down(state_directory.to_owned(), inbox));
        Self {
            hands,
            damage: damage.map(|damage| damage.to_string()),
            outbox,
        }
    }

    /// What was said.
    pub fn hands(&self) -> &Hands {
        &self.hands
    }

    /// What was wrong with the file when it was read.
    pub fn damage(&self) -> Option<&str> {
        self.damage.as_deref()
    }

    /// Changes what was said; what comes back tells when it's on the disk.
    pub fn change<T>(
        &mut self,
        change: impl FnOnce(&mut Hands) -> T,
    ) -> (T, oneshot::Receiver<Result<(), String>>) {
        let before = self.hands.clone();
        let changed = change(&mut self.hands);
        let (sender, receiver) = oneshot::channel();
        if before == self.hands && self.damage.is_none() {
            let _ = sender.send(Ok(()));
        } else {
            // The runtime and whoever writes end together.
            let _ = self.outbox.send((self.hands.clone(), sender));
        }
        (changed, receiver)
    }
}

/// One after the other, so that the newest is there at last.
async fn write_down(
    directory: PathBuf,
    mut inbox: mpsc::UnboundedReceiver<(Hands, oneshot::Sender<Result<(), String>>)>,
) {
    while let Some((hands, done)) = inbox.recv().await {
        let directory = directory.clone();
        let written = tokio::task::spawn_blocking(move || store::save(&directory, &hands)).await;
        // A panic has ended the process.
        let Ok(written) = written else { return };
        if let Err(error) = &written {
            error!("{error}; a restart forgets what was drained or disabled last");
        }
        // Whoever said it may be gone.
        let _ = done.send(written.map_err(|error| error.to_string()));
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::time::SystemTime;

    use super::*;
    use crate::hand::{Order, State};

    #[tokio::test]
    async fn what_was_said_is_there_for_the_next_one() {
        let folder = tempfile::tempdir().unwrap();
        let order = |state| Order {
            servers: "*/*".parse().unwrap(),
            state,
            time: None,
            reason: None,
        };
        for state in [State::Drained, State::Disabled] {
            let mut keeper = Keeper::open(folder.path());
            let present = ["a/192.0.2.1".parse().unwrap()];
            let (touched, kept) =
                keeper.change(|hands| hands.obey(&order(state), present, SystemTime::now()));
            assert_eq!(touched.len(), 1);
            kept.await.unwrap().unwrap();
            let next = Keeper::open(folder.path());
            let entry = next.hands().of("a", "192.0.2.1".parse().unwrap()).unwrap();
            assert_eq!(entry.state, state);
        }
    }
}
