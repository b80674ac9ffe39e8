//! The guest: Debian's kernel in QEMU, for what the host's kernel lacks.
//!
//! `tests/setup` puts a kernel, its modules and an initramfs into `target/guest`. The guest mounts
//! the host's root read-only over 9p with an overlay in memory above it, runs this same program
//! inside, and talks with it over a virtio-serial port in JSON lines: a [`Request`] in, any number
//! of [`Reply::Output`] and one [`Reply::Ended`] out. It needs no rights and no KVM.

use std::fs;
use std::io::{self, BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};

use crate::bench::Part;
use crate::case::Mode;
use crate::figures::{self, Figure};
use crate::{binaries, lab};

/// How long the guest may take from power to the first word of its program: ten times what it
/// takes on two idle processors.
const BOOT_LIMIT: Duration = Duration::from_secs(120);
/// How long it may take to switch itself off.
const END_LIMIT: Duration = Duration::from_secs(5);
/// The argument with which guest-init runs the program.
const INSIDE: &str = "--inside";

/// What the program inside is asked to do.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Request {
    /// Run a case by its name.
    Run {
        /// The name.
        case: String,
        /// How.
        mode: Mode,
    },
    /// Play the demo.
    Demo {
        /// Whether its output goes to a terminal: colours and a live line then.
        terminal: bool,
    },
    /// Measure.
    Bench {
        /// What.
        part: Part,
        /// Today.
        date: String,
    },
}

/// What the program inside says.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reply {
    /// It waits for the first request.
    Ready,
    /// Text for the user, as it is.
    Output(String),
    /// The request is done.
    Ended {
        /// What went wrong, if anything did.
        failure: Option<String>,
        /// What was measured.
        figures: Vec<Figure>,
    },
}

/// A running guest; dropping it ends it.
#[derive(Debug)]
pub struct Guest {
    qemu: Child,
    requests: Option<ChildStdin>,
    replies: Receiver<Reply>,
    console: PathBuf,
}

impl Guest {
    /// Boots a guest that runs this program with the argument `--inside`.
    ///
    /// # Errors
    /// When the kernel was not prepared (`tests/setup`), QEMU is missing, or the program inside
    /// does not report within two minutes; the message has the end of the guest's console.
    pub fn boot() -> Result<Self> {
        let folder = binaries::target_directory()?.join("guest");
        let kernel = folder.join("vmlinuz");
        let initramfs = folder.join("initramfs");
        ensure!(
            kernel.exists() && initramfs.exists(),
            "{} has no guest kernel: run tests/setup",
            folder.display()
        );
        let program = binaries::this_program()?;
        let console = std::env::temp_dir().join(format!("lvs-guest-{}.log", std::process::id()));
        let mut qemu = qemu(&kernel, &initramfs, &console)
            .spawn()
            .context("cannot start QEMU (tests/setup installs it)")?;
        let (sender, replies) = channel();
        let output = qemu.stdout.take().context("QEMU has no output")?;
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                // What is no reply was printed by mistake; the user may want to see it.
                let reply = serde_json::from_str(&line).unwrap_or(Reply::Output(line + "\n"));
                if sender.send(reply).is_err() {
                    break;
                }
            }
        });
        let requests = qemu.stdin.take();
        let mut guest = Self {
            qemu,
            requests,
            replies,
            console,
        };
        guest.write(&format!(
            "{}\n{}\n",
            program.display(),
            folder.join("modules").display()
        ))?;
        match guest.next(Instant::now() + BOOT_LIMIT)? {
            Reply::Ready => Ok(guest),
            other => bail!("the guest began with {other:?}\n{}", guest.console_tail()),
        }
    }

    /// Sends a request and waits for its end; `output` gets what is printed meanwhile.
    ///
    /// Returns what went wrong inside, or `None` when all went well, and what was measured.
    ///
    /// # Errors
    /// When the guest ends or `limit` passes before; the guest is of no use then.
    pub fn ask(
        &mut self,
        request: &Request,
        limit: Duration,
        mut output: impl FnMut(&str),
    ) -> Result<(Option<String>, Vec<Figure>)> {
        self.write(&format!("{}\n", serde_json::to_string(request)?))?;
        let deadline = Instant::now() + limit;
        loop {
            match self.next(deadline)? {
                Reply::Ended { failure, figures } => return Ok((failure, figures)),
                Reply::Output(text) => output(&text),
                Reply::Ready => {}
            }
        }
    }

    fn write(&mut self, text: &str) -> Result<()> {
        let requests = self.requests.as_mut().context("the guest is off")?;
        requests.write_all(text.as_bytes())?;
        requests.flush().context("the guest is gone")
    }

    fn next(&self, deadline: Instant) -> Result<Reply> {
        let wait = deadline.saturating_duration_since(Instant::now());
        self.replies.recv_timeout(wait).map_err(|error| {
            let what = match error {
                RecvTimeoutError::Timeout => format!("the guest hangs: no answer in {wait:.0?}"),
                RecvTimeoutError::Disconnected => "the guest ended".into(),
            };
            anyhow::anyhow!("{what}\n{}", self.console_tail())
        })
    }

    fn console_tail(&self) -> String {
        let bytes = fs::read(&self.console).unwrap_or_default();
        let text = String::from_utf8_lossy(&bytes);
        let lines: Vec<&str> = text.lines().collect();
        let tail = lines[lines.len().saturating_sub(30)..].join("\n");
        format!("--- the end of the guest's console\n{tail}")
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        // The end of its input is the end of the program inside, and then of the guest.
        drop(self.requests.take());
        let start = Instant::now();
        while start.elapsed() < END_LIMIT && !matches!(self.qemu.try_wait(), Ok(Some(_))) {
            std::thread::sleep(Duration::from_millis(10));
        }
        // A no-op when it has ended.
        let _ = self.qemu.kill();
        let _ = self.qemu.wait();
        let _ = fs::remove_file(&self.console);
    }
}

/// Whether this program was started inside the guest and shall call [`serve`].
pub fn is_asked_inside() -> bool {
    std::env::args().any(|argument| argument == INSIDE)
}

/// Inside the guest: hands each request to `run` until there are no more. `run` returns what went
/// wrong, if anything did.
pub fn serve(mut run: impl FnMut(Request) -> Option<String>) -> Result<()> {
    send(&Reply::Ready)?;
    for line in io::stdin().lock().lines() {
        let request = serde_json::from_str(&line?).context("a malformed request")?;
        let failure = run(request);
        let figures = figures::take();
        send(&Reply::Ended { failure, figures })?;
    }
    Ok(())
}

/// Inside the guest: text for the user. It leaves at the end of each line and when flushed.
#[derive(Debug, Default)]
pub struct Output {
    text: Vec<u8>,
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.text.extend_from_slice(bytes);
        if bytes.ends_with(b"\n") {
            self.flush()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.text.is_empty() {
            return Ok(());
        }
        let text = String::from_utf8_lossy(&self.text).into_owned();
        self.text.clear();
        send(&Reply::Output(text)).map_err(io::Error::other)
    }
}

fn send(reply: &Reply) -> Result<()> {
    let mut line = serde_json::to_string(reply)?;
    line.push('\n');
    let mut output = io::stdout().lock();
    output.write_all(line.as_bytes())?;
    output.flush().context("the host's side is gone")
}

/// Whether IPVS can be used without a guest: its module is there, and this is root in the first
/// user namespace, which its netlink interface asks for.
pub fn ipvs_is_here() -> bool {
    let present = || Path::new("/proc/net/ip_vs").exists();
    lab::is_initial_root()
        && (present()
            || Command::new("modprobe")
                .args(["-q", "ip_vs"])
                .stderr(Stdio::null())
                .status()
                .is_ok_and(|status| status.success() && present()))
}

fn qemu(kernel: &Path, initramfs: &Path, console: &Path) -> Command {
    // setpriv: QEMU dies with this program, however that ends.
    let mut command = Command::new("setpriv");
    command
        .args(["--pdeathsig", "KILL", "qemu-system-x86_64"])
        .args(["-accel", "tcg,thread=multi", "-cpu", "max"])
        .args(["-smp", "2", "-m", "2048"])
        .args(["-display", "none", "-monitor", "none", "-no-reboot"])
        .args(["-nodefaults", "-no-user-config", "-nic", "none"])
        .arg("-kernel")
        .arg(kernel)
        .arg("-initrd")
        .arg(initramfs)
        .args(["-append", "console=ttyS0 quiet panic=-1"])
        .arg("-serial")
        .arg(format!("file:{}", escape(console)))
        .args(["-chardev", "stdio,id=port,signal=off"])
        .args(["-device", "virtio-serial-pci"])
        .args(["-device", "virtserialport,chardev=port"])
        .arg("-virtfs")
        .arg("local,path=/,mount_tag=hostroot,security_model=none,readonly=on,multidevs=remap")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped());
    command
}

/// A comma in a value of QEMU's options is written twice.
fn escape(path: &Path) -> String {
    path.display().to_string().replace(',', ",,")
}
