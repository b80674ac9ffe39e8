//! Reads files with a number in them, on a thread of its own: a file on a disk that hangs keeps
//! nothing else waiting.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::fs::OpenOptions;
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::Duration;

use nix::fcntl::OFlag;
use tokio::sync::mpsc::UnboundedSender;
use tracing::warn;

use super::News;

/// How often files are read.
const POLL: Duration = Duration::from_millis(250);

/// A number with its sign and some space around it.
const LONGEST: u64 = 64;

/// What a file says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Content {
    /// There is no such file.
    Absent,
    /// A whole number.
    Number(i64),
    /// Something else.
    Malformed,
}

impl Content {
    /// The number to go by.
    pub(super) fn number(self) -> i64 {
        match self {
            Self::Number(number) => number,
            Self::Absent | Self::Malformed => 0,
        }
    }
}

/// The thread that reads; it ends when this is dropped.
#[derive(Debug)]
pub(super) struct Files {
    wanted: Sender<BTreeSet<PathBuf>>,
}

impl Files {
    /// Starts the thread. What files say goes to `news` when it changes, at first too.
    ///
    /// # Errors
    /// When there can be no thread.
    pub(super) fn start(news: UnboundedSender<News>) -> io::Result<Self> {
        let (wanted, inbox) = mpsc::channel();
        let reader = Reader::new(inbox, news);
        thread::Builder::new()
            .name("files".into())
            .spawn(|| reader.run())?;
        Ok(Self { wanted })
    }

    /// Reads these files from now on.
    pub(super) fn want(&self, files: BTreeSet<PathBuf>) {
        // The thread ends after us.
        let _ = self.wanted.send(files);
    }
}

struct Reader {
    inbox: Receiver<BTreeSet<PathBuf>>,
    news: UnboundedSender<News>,
    files: BTreeSet<PathBuf>,
    said: HashMap<PathBuf, Content>,
    /// Malformed at the last look: somebody may be writing them.
    doubtful: HashSet<PathBuf>,
}

impl Reader {
    fn new(inbox: Receiver<BTreeSet<PathBuf>>, news: UnboundedSender<News>) -> Self {
        Self {
            inbox,
            news,
            files: BTreeSet::new(),
            said: HashMap::new(),
            doubtful: HashSet::new(),
        }
    }

    fn run(mut self) {
        loop {
            let wanted = if self.files.is_empty() {
                self.inbox
                    .recv()
                    .map_err(|_| RecvTimeoutError::Disconnected)
            } else {
                self.inbox.recv_timeout(POLL)
            };
            match wanted {
                Ok(files) => {
                    self.said.retain(|path, _| files.contains(path));
                    self.files = files;
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            for path in self.files.clone() {
                self.look(path);
            }
        }
    }

    fn look(&mut self, path: PathBuf) {
        let content = match read(&path) {
            Ok(content) => {
                self.doubtful.remove(&path);
                content
            }
            Err(_) if self.doubtful.insert(path.clone()) => return,
            Err(error) => {
                if self.said.get(&path) != Some(&Content::Malformed) {
                    let file = path.display();
                    warn!(%file, "counts as 0: {error}; write a whole number into it, or remove it");
                }
                Content::Malformed
            }
        };
        if self.said.insert(path.clone(), content) != Some(content) {
            // Nobody listens any more when the tracker is gone.
            let _ = self.news.send(News::File { path, content });
        }
    }
}

/// Never waits for another process, whatever the path leads to.
fn read(path: &Path) -> io::Result<Content> {
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(OFlag::O_NONBLOCK.bits())
        .open(path);
    let file = match file {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Content::Absent),
        opened => opened?,
    };
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("it is not a file"));
    }
    let mut text = String::new();
    file.take(LONGEST).read_to_string(&mut text)?;
    let number = text.trim().parse();
    number
        .map(Content::Number)
        .map_err(|_| io::Error::other("it has no whole number"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::fs;

    use nix::sys::stat::Mode;
    use nix::unistd::mkfifo;
    use tokio::sync::mpsc::UnboundedReceiver;

    use super::*;

    async fn next(news: &mut UnboundedReceiver<News>) -> Content {
        let news = tokio::time::timeout(Duration::from_secs(20), news.recv());
        match news.await.expect("news in time").unwrap() {
            News::File { content, .. } => content,
            News::Script { .. } => unreachable!(),
        }
    }

    #[tokio::test]
    async fn changes_are_told_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("bias");
        let (sender, mut news) = tokio::sync::mpsc::unbounded_channel();
        let files = Files::start(sender).unwrap();
        files.want(BTreeSet::from([path.clone()]));
        assert_eq!(next(&mut news).await, Content::Absent);
        fs::write(&path, "  -5\n").unwrap();
        assert_eq!(next(&mut news).await, Content::Number(-5));
        fs::write(&path, "five").unwrap();
        assert_eq!(next(&mut news).await, Content::Malformed);
        fs::write(&path, "+7").unwrap();
        assert_eq!(next(&mut news).await, Content::Number(7));
        fs::remove_file(&path).unwrap();
        assert_eq!(next(&mut news).await, Content::Absent);
        tokio::time::sleep(3 * POLL).await;
        assert!(news.is_empty());
        drop(files);
        assert_eq!(news.recv().await.map(|_| ()), None, "the thread has ended");
    }

    #[test]
    fn a_file_that_is_being_written_keeps_its_number() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("bias");
        let (sender, mut news) = tokio::sync::mpsc::unbounded_channel();
        let (_wanted, inbox) = mpsc::channel();
        let mut reader = Reader::new(inbox, sender);
        let mut content = |text: &str| {
            fs::write(&path, text).unwrap();
            reader.look(path.clone());
            match news.try_recv() {
                Ok(News::File { content, .. }) => Some(content),
                _ => None,
            }
        };
        assert_eq!(content("-254"), Some(Content::Number(-254)));
        assert_eq!(content(""), None, "empty for one look");
        assert_eq!(content("-254"), None);
        assert_eq!(content(""), None);
        assert_eq!(content(""), Some(Content::Malformed), "empty for two");
        assert_eq!(content(""), None);
        assert_eq!(content("1"), Some(Content::Number(1)));
    }

    #[test]
    fn strange_things_are_malformed_and_never_wait() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("pipe");
        mkfifo(&pipe, Mode::S_IRWXU).unwrap();
        assert!(read(&pipe).is_err());
        assert!(read(folder.path()).is_err());
        assert!(read(Path::new("/dev/zero")).is_err());
        let path = folder.path().join("bias");
        for text in [
            &b"1.5"[..],
            b"1 2",
            b"",
            b"\xff",
            b"99999999999999999999",
            &[b'1'; 9999],
        ] {
            fs::write(&path, text).unwrap();
            assert!(read(&path).is_err(), "{text:?}");
        }
    }
}
