//! Programs of the operator's: checks, tracked scripts and hooks.
//!
//! They run without a shell, as the daemon's own user, each in a process group of its own, with a
//! minimal environment, in `/`. Nothing here keeps the main thread from its work: a program on a slow disk
//! is started by another thread, and one that writes without end is read slowly.
//!
//! `posix_spawn` starts them, since a `fork` would copy the page tables of the worker and make the VRRP
//! thread fault its memory in again. The parent-death signal would need a `fork`, so a worker that is killed
//! leaves a running program to systemd, which ends the whole control group.

use std::convert::Infallible;
use std::fmt;
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use lvs_system::syscalls;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::net::unix::pipe::Receiver;
use tokio::process::{Child, Command};

/// Where programs find others by name.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Between SIGTERM and SIGKILL for a program that takes too long.
pub const GRACE: Duration = Duration::from_secs(2);

/// As much of the end of a program's output is kept, in bytes.
const KEPT_OUTPUT: usize = 512;

/// As much of the last line is shown, in characters.
const SHOWN_OUTPUT: usize = 200;

/// Output is looked at this often at most, a pipe's content at a time.
const READ_PAUSE: Duration = Duration::from_millis(10);

/// What to run.
#[derive(Clone, Debug)]
pub struct Program {
    /// The program, by its absolute path, and its arguments.
    pub command: Vec<String>,
    /// What its environment has besides `PATH`.
    pub environment: Vec<(&'static str, String)>,
}

/// Why a run was not good.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// It could not be started.
    #[error("cannot be run: {0}")]
    NotRun(#[from] io::Error),
    /// Its exit status was not 0.
    #[error("ended with {}{output}", .status)]
    Ended {
        /// How.
        status: Ending,
        /// What it said last.
        output: LastLine,
    },
    /// It did not end in time.
    #[error("did not end within {} ms{output}", .limit.as_millis())]
    TooSlow {
        /// The time it had.
        limit: Duration,
        /// What it said last.
        output: LastLine,
    },
    /// It should have been run again, but did not end although it was told to.
    #[error("still runs, although it was told to end")]
    StillRunning,
}

impl Failure {
    /// The status with which it ended by itself.
    pub fn exit_status(&self) -> Option<u8> {
        match self {
            Self::Ended { status, .. } => status.0.code()?.try_into().ok(),
            _ => None,
        }
    }
}

/// How a program ended.
#[derive(Clone, Copy, Debug)]
pub struct Ending(ExitStatus);

impl fmt::Display for Ending {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.0.code(), self.0.signal()) {
            (Some(code), _) => write!(formatter, "exit status {code}"),
            (None, Some(number)) => match Signal::try_from(number) {
                Ok(signal) => signal.as_str().fmt(formatter),
                Err(_) => write!(formatter, "signal {number}"),
            },
            (None, None) => self.0.fmt(formatter),
        }
    }
}

/// The last line that a program wrote, fit for a log line, if it wrote any.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LastLine(String);

impl LastLine {
    fn of(output: &[u8]) -> Self {
        let text = String::from_utf8_lossy(output);
        let line = text.lines().map(str::trim).rfind(|line| !line.is_empty());
        let shown = line.unwrap_or_default().chars().take(SHOWN_OUTPUT);
        let printable = |letter: char| if letter.is_control() { ' ' } else { letter };
        Self(shown.map(printable).collect())
    }
}

impl fmt::Display for LastLine {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return Ok(());
        }
        write!(formatter, ": {}", self.0)
    }
}

/// A program that runs. When it is dropped before it has ended, its whole group is killed.
#[derive(Debug)]
pub struct Run {
    child: Child,
    /// Its process group, until it has ended.
    group: Option<Pid>,
    output: Output,
}

impl Run {
    /// Starts it.
    ///
    /// # Errors
    /// [`Failure::NotRun`].
    pub async fn start(program: Program) -> Result<Self, Failure> {
        // Reading the program's file may take as long as its disk likes.
        let started = tokio::task::spawn_blocking(move || Self::spawn(&program)).await;
        Ok(started.map_err(io::Error::other)??)
    }

    fn spawn(program: &Program) -> io::Result<Self> {
        let (path, arguments) = program
            .command
            .split_first()
            .ok_or(io::ErrorKind::InvalidInput)?;
        // What we open ourselves is never inherited; what we were started with may be. On a kernel
        // too old for this, it is not ours to close.
        let _ = syscalls::close_on_exec_from(3);
        let (reader, writer) = io::pipe()?;
        let child = Command::new(path)
            .args(arguments)
            .env_clear()
            .env("PATH", PATH)
            .envs(program.environment.iter().map(|(key, value)| (key, value)))
            .current_dir("/")
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(writer.try_clone()?)
            .stderr(writer)
            .spawn()?;
        if let Some(id) = child.id() {
            // A daemon that is spared when memory runs out spares nobody else. It may have ended already.
            let _ = fs::write(format!("/proc/{id}/oom_score_adj"), "0");
        }
        let group = child.id().and_then(|id| i32::try_from(id).ok());
        Ok(Self {
            group: group.map(Pid::from_raw),
            child,
            output: Output {
                pipe: Some(Receiver::from_owned_fd(OwnedFd::from(reader))?),
                tail: Vec::new(),
            },
        })
    }

    /// Waits for it to end. What it leaves running in the background is its own matter.
    ///
    /// May be cancelled and called again.
    ///
    /// # Errors
    /// [`Failure::Ended`] unless its exit status is 0.
    pub async fn finished(&mut self) -> Result<(), Failure> {
        let status = tokio::select! {
            status = self.child.wait() => status?,
            never = self.output.keep_reading() => match never {},
        };
        self.group = None;
        if status.success() {
            return Ok(());
        }
        Err(Failure::Ended {
            status: Ending(status),
            output: self.last_line(),
        })
    }

    /// Ends it and its whole group: with SIGTERM, and after `grace` with SIGKILL. Returns when it
    /// has ended.
    pub async fn end(mut self, grace: Duration) {
        let Some(group) = self.group else {
            return;
        };
        // Who has ended meanwhile needs no signal.
        let _ = killpg(group, Signal::SIGTERM);
        let _ = tokio::time::timeout(grace, self.finished()).await;
        // Others of the group may have ignored the first one.
        let _ = killpg(group, Signal::SIGKILL);
        let _ = self.finished().await;
    }

    /// The last line of what it wrote so far.
    pub fn last_line(&mut self) -> LastLine {
        self.output.read_rest();
        LastLine::of(&self.output.tail)
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        if let Some(group) = self.group {
            let _ = killpg(group, Signal::SIGKILL);
        }
    }
}

/// What a program writes: read, so that it is not held up, and forgotten but for the end.
#[derive(Debug)]
struct Output {
    pipe: Option<Receiver>,
    tail: Vec<u8>,
}

impl Output {
    async fn keep_reading(&mut self) -> Infallible {
        while let Some(pipe) = &self.pipe {
            if pipe.readable().await.is_err() {
                self.pipe = None;
            }
            self.read();
            tokio::time::sleep(READ_PAUSE).await;
        }
        std::future::pending().await
    }

    fn read(&mut self) {
        self.read_by(Receiver::try_read);
    }

    /// Reads what the program wrote before its end, of which the runtime may not know yet.
    fn read_rest(&mut self) {
        self.read_by(|pipe, buffer| Ok(nix::unistd::read(pipe, buffer)?));
    }

    /// Reads what is there, at most a pipe's usual capacity.
    fn read_by(&mut self, read: impl Fn(&Receiver, &mut [u8]) -> io::Result<usize>) {
        let mut buffer = [0; 4096];
        for _ in 0..16 {
            let Some(pipe) = &self.pipe else {
                return;
            };
            match read(pipe, &mut buffer) {
                Ok(0) => self.pipe = None,
                Ok(length) => self.tail.extend_from_slice(&buffer[..length]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(_) => self.pipe = None,
            }
            let surplus = self.tail.len().saturating_sub(KEPT_OUTPUT);
            self.tail.drain(..surplus);
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::time::Instant;

    use nix::sys::signal::kill;
    use tokio::time::timeout;

    use super::*;
    use crate::testing::{gone, line_of, runs, script};

    fn program(command: &[&str]) -> Program {
        Program {
            command: command.iter().map(|&word| word.to_owned()).collect(),
            environment: Vec::new(),
        }
    }

    async fn outcome(command: &[&str]) -> Result<(), String> {
        let mut run = Run::start(program(command))
            .await
            .map_err(|failure| failure.to_string())?;
        run.finished().await.map_err(|failure| failure.to_string())
    }

    #[tokio::test]
    async fn the_exit_status_is_what_counts() {
        assert_eq!(outcome(&["/bin/true"]).await, Ok(()));
        let failed = outcome(&["/bin/sh", "-c", "echo one; echo two >&2; echo; exit 3"]).await;
        assert_eq!(failed, Err("ended with exit status 3: two".to_owned()));
        let killed = outcome(&["/bin/sh", "-c", "kill -SEGV $$"]).await;
        assert_eq!(killed, Err("ended with SIGSEGV".to_owned()));
        let missing = outcome(&["/nonexistent/check"]).await.unwrap_err();
        assert!(
            missing.starts_with("cannot be run: No such file"),
            "{missing}"
        );
    }

    #[tokio::test]
    async fn no_shell_reads_the_arguments() {
        let folder = tempfile::tempdir().unwrap();
        let path = script(folder.path(), "show", "echo \"$1\"; exit 1");
        let failed = outcome(&[&path, "$(id) ; `id` *"]).await.unwrap_err();
        assert_eq!(failed, "ended with exit status 1: $(id) ; `id` *");
    }

    #[tokio::test]
    async fn programs_start_with_a_clean_slate() {
        async fn says(command: &[&str]) -> String {
            let mut asked = program(command);
            asked.environment = vec![("DIRECTOR_STATE", "active".to_owned())];
            let mut run = Run::start(asked).await.unwrap();
            run.finished().await.unwrap();
            run.output.read_rest();
            String::from_utf8(std::mem::take(&mut run.output.tail)).unwrap()
        }
        let environment = format!("DIRECTOR_STATE=active\nPATH={PATH}\n");
        assert_eq!(says(&["/usr/bin/env"]).await, environment);
        assert_eq!(says(&["/bin/pwd"]).await, "/\n");
        let input = says(&["/bin/readlink", "/proc/self/fd/0"]).await;
        assert_eq!(input, "/dev/null\n");
        let blocked = says(&["/bin/grep", "SigBlk", "/proc/self/status"]).await;
        assert_eq!(blocked, "SigBlk:\t0000000000000000\n");
        // One that was not opened as it should be, or came from whoever started us.
        let _stray = nix::unistd::dup(fs::File::open("/dev/null").unwrap()).unwrap();
        // The last one is the folder that `ls` reads.
        let descriptors = says(&["/bin/ls", "/proc/self/fd"]).await;
        assert_eq!(descriptors, "0\n1\n2\n3\n");
    }

    #[tokio::test]
    async fn programs_are_not_spared_when_memory_runs_out() {
        const OWN: &str = "/proc/self/oom_score_adj";
        let before = fs::read_to_string(OWN).unwrap();
        // Who isn't root can only give itself a higher one.
        fs::write(OWN, "7").unwrap();
        let said = outcome(&[
            "/bin/sh",
            "-c",
            "sleep 0.3; cat /proc/$$/oom_score_adj; exit 1",
        ])
        .await;
        let _ = fs::write(OWN, before.trim());
        assert_eq!(said, Err("ended with exit status 1: 0".to_owned()));
    }

    #[tokio::test]
    async fn a_flood_of_output_is_read_and_its_end_kept() {
        let flood = "head -c 1000000 /dev/zero | tr '\\0' x; echo; printf 'last \\033[1m'; exit 1";
        let failed = outcome(&["/bin/sh", "-c", flood]).await.unwrap_err();
        assert_eq!(failed, "ended with exit status 1: last  [1m");
        let long = LastLine::of("ä".repeat(5000).as_bytes());
        assert_eq!(long.0.chars().count(), SHOWN_OUTPUT);
    }

    #[tokio::test]
    async fn what_is_left_in_the_background_is_not_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let pid = folder.path().join("pid");
        let path = script(
            folder.path(),
            "leave",
            &format!("sleep 30 & echo $! > {}; exit 1", pid.display()),
        );
        let start = Instant::now();
        outcome(&[&path]).await.unwrap_err();
        assert!(start.elapsed() < Duration::from_secs(10));
        let left = line_of(&pid).await;
        assert!(runs(&left));
        kill(Pid::from_raw(left.parse().unwrap()), Signal::SIGKILL).unwrap();
    }

    #[tokio::test]
    async fn a_program_that_is_ended_takes_its_group_along() {
        let folder = tempfile::tempdir().unwrap();
        let pid = folder.path().join("pid");
        // Both ignore SIGTERM.
        let body = format!(
            "trap '' TERM; sleep 60 & echo $! > {}; wait; sleep 60",
            pid.display()
        );
        let path = script(folder.path(), "stay", &body);
        let run = Run::start(program(&[&path])).await.unwrap();
        let child = line_of(&pid).await;
        let start = Instant::now();
        run.end(Duration::from_millis(200)).await;
        assert!(start.elapsed() >= Duration::from_millis(200));
        assert!(start.elapsed() < Duration::from_secs(10));
        assert!(gone(&child).await);
    }

    #[tokio::test]
    async fn sigterm_is_enough_for_a_well_behaved_program() {
        let folder = tempfile::tempdir().unwrap();
        let said = folder.path().join("said");
        let ready = folder.path().join("ready");
        let body = format!(
            "trap 'echo leaving > {}; exit 0' TERM; echo > {}; while :; do sleep 0.05; done",
            said.display(),
            ready.display()
        );
        let path = script(folder.path(), "polite", &body);
        let run = Run::start(program(&[&path])).await.unwrap();
        line_of(&ready).await;
        timeout(Duration::from_secs(10), run.end(Duration::from_secs(60)))
            .await
            .unwrap();
        assert_eq!(line_of(&said).await, "leaving");
    }

    #[tokio::test]
    async fn a_run_that_is_dropped_ends() {
        let folder = tempfile::tempdir().unwrap();
        let pid = folder.path().join("pid");
        let path = script(
            folder.path(),
            "dropped",
            &format!("echo $$ > {}; sleep 60", pid.display()),
        );
        let run = Run::start(program(&[&path])).await.unwrap();
        let process = line_of(&pid).await;
        drop(run);
        assert!(gone(&process).await);
    }
}
