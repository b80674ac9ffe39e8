//! Programs on a host.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{Read, Seek};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::errno::Errno;
use nix::sys::signal::{self, Signal};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Pid, getpid};

use super::Host;
use super::enter::is_inside;
use crate::binaries;

/// Debian keeps daemons in the sbin folders, which an ordinary user's PATH may lack.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

static LOGS: AtomicUsize = AtomicUsize::new(0);

/// What a finished program left.
#[derive(Debug)]
pub struct Output {
    /// How it ended.
    pub status: ExitStatus,
    /// Its standard output; bytes that are no UTF-8 are replaced.
    pub stdout: String,
    /// Its standard error, likewise.
    pub stderr: String,
}

impl Output {
    /// Whether it exited with status 0.
    pub fn success(&self) -> bool {
        self.status.success()
    }

    /// Its exit status; `None` when a signal ended it.
    pub fn code(&self) -> Option<i32> {
        self.status.code()
    }
}

/// A running program, killed when this value is dropped.
#[derive(Debug)]
pub struct Process {
    child: Child,
    name: String,
    log: PathBuf,
    status: Option<ExitStatus>,
}

impl Process {
    pub(crate) fn spawn(
        host: &Host,
        program: &str,
        arguments: Vec<OsString>,
        directory: &Path,
    ) -> Result<Self> {
        let number = LOGS.fetch_add(1, Ordering::Relaxed);
        let name = Path::new(program)
            .file_name()
            .unwrap_or_default()
            .to_string_lossy();
        let log = directory.join(format!("{number:03}-{}-{name}.log", host.name()));
        let output =
            File::create(&log).with_context(|| format!("cannot write {}", log.display()))?;
        let errors = output.try_clone()?;
        let mut command = command(program, arguments)?;
        command.stdout(output).stderr(errors);
        let child = start(host, command, program)?;
        Ok(Self {
            child,
            name: format!("{program} on {}", host.name()),
            log,
            status: None,
        })
    }

    /// The process number.
    pub fn pid(&self) -> i32 {
        self.child.id().cast_signed()
    }

    /// Everything the program printed until now.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// The file that it prints to.
    pub fn log_path(&self) -> &Path {
        &self.log
    }

    /// Sends a signal.
    ///
    /// # Errors
    /// When the process has ended.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        signal::kill(Pid::from_raw(self.pid()), signal)
            .with_context(|| format!("cannot send {signal} to {}", self.name))
    }

    /// `kill -9`, and waits until the process is gone. Its children are left alone.
    pub fn kill(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        if let Ok(status) = self.child.wait() {
            self.status = Some(status);
        }
    }

    /// `kill -9` for it and its children; none of them lives to see another one die.
    pub fn kill_family(&mut self) {
        // Stopped, it starts no more of them; it may have ended by itself.
        let _ = self.signal(Signal::SIGSTOP);
        for child in self.children() {
            kill(child);
        }
        self.kill();
    }

    /// SIGTERM, and waits up to `limit` for the end.
    pub fn terminate(&mut self, limit: Duration) -> Result<ExitStatus> {
        self.signal(Signal::SIGTERM)?;
        self.wait(limit)
    }

    /// Waits for the end.
    ///
    /// # Errors
    /// When it still runs after `limit`.
    pub fn wait(&mut self, limit: Duration) -> Result<ExitStatus> {
        let start = Instant::now();
        loop {
            if let Some(status) = self.finished() {
                return Ok(status);
            }
            if start.elapsed() >= limit {
                bail!("{} still runs after {limit:?}", self.name);
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> bool {
        self.finished().is_none()
    }

    /// How it ended, or `None` while it runs.
    pub fn finished(&mut self) -> Option<ExitStatus> {
        if self.status.is_none() {
            self.status = self.child.try_wait().ok().flatten();
        }
        self.status
    }

    /// The process numbers of its children, such as a supervisor's worker.
    pub fn children(&self) -> Vec<i32> {
        children(self.pid())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.finished().is_none() {
            for child in self.children() {
                kill(child);
            }
            self.kill();
        }
    }
}

/// The process numbers of a process's children.
pub(crate) fn children(of: i32) -> Vec<i32> {
    all().filter(|pid| parent(*pid) == Some(of)).collect()
}

/// Runs a program to its end.
pub(crate) fn run(
    host: &Host,
    program: &str,
    arguments: Vec<OsString>,
    limit: Duration,
) -> Result<Output> {
    // Files instead of pipes: a daemon that inherits them can't keep this waiting.
    let mut stdout = tempfile::tempfile()?;
    let mut stderr = tempfile::tempfile()?;
    let mut command = command(program, arguments)?;
    command.stdout(stdout.try_clone()?);
    command.stderr(stderr.try_clone()?);
    let mut child = start(host, command, program)?;
    let deadline = Instant::now() + limit;
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        if Instant::now() > deadline {
            kill(child.id().cast_signed());
            let _ = child.wait();
            bail!(
                "{program} on {} took over {limit:?}: {}{}",
                host.name(),
                content(&mut stdout),
                content(&mut stderr)
            );
        }
        std::thread::sleep(Duration::from_millis(2));
    };
    Ok(Output {
        status,
        stdout: content(&mut stdout),
        stderr: content(&mut stderr),
    })
}

/// The numbers of all processes that the lab sees.
pub(crate) fn all() -> impl Iterator<Item = i32> {
    fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

/// `kill -9` for one process other than this one; a process that is gone already is fine.
pub(crate) fn kill(pid: i32) {
    signal(pid, Signal::SIGKILL);
}

/// A signal for one process other than this one; a process that is gone already is fine.
pub(crate) fn signal(pid: i32, signal: Signal) {
    if pid > 1 && pid != getpid().as_raw() {
        let _ = signal::kill(Pid::from_raw(pid), signal);
    }
}

/// Kills everything that was started in the lab, and waits until it is gone.
pub(crate) fn end_everything() {
    // "All processes" must mean those of the lab's own PID namespace.
    if !is_inside() || getpid().as_raw() != 1 {
        return;
    }
    let _ = signal::kill(Pid::from_raw(-1), Signal::SIGKILL);
    loop {
        match waitpid(None, Some(WaitPidFlag::empty())) {
            Ok(WaitStatus::StillAlive) | Err(Errno::EINTR) => {}
            Ok(_) => {}
            // No child is left; orphans of the namespace are children of its process 1.
            Err(_) => return,
        }
    }
}

fn command(program: &str, arguments: Vec<OsString>) -> Result<Command> {
    let path = if binaries::NAMES.contains(&program) {
        binaries::path(program)?
    } else {
        PathBuf::from(program)
    };
    let mut command = Command::new(path);
    command
        .args(arguments)
        .stdin(Stdio::null())
        .env("PATH", PATH)
        .env("LC_ALL", "C")
        // A terminal's Ctrl-C is for the test program.
        .process_group(0);
    Ok(command)
}

fn start(host: &Host, mut command: Command, program: &str) -> Result<Child> {
    host.within(move || command.spawn()).with_context(|| {
        format!("cannot start {program} (tests/setup installs what the lab needs)")
    })
}

fn content(file: &mut File) -> String {
    let mut bytes = Vec::new();
    let _ = file.rewind().and_then(|()| file.read_to_end(&mut bytes));
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The parent of a process, from the field behind the command's name in `/proc/PID/stat`.
fn parent(pid: i32) -> Option<i32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(')')?
        .1
        .split_whitespace()
        .nth(1)?
        .parse()
        .ok()
}
