//! A terminal with a shell in it (tmux): keys go in, the screen is read.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, ensure};

use crate::lab::{Host, wait_until};

/// How long tmux may take for what it does at once.
const LIMIT: Duration = Duration::from_secs(20);

/// The shell's prompt when it waits for a command.
const PROMPT: &str = "READY>";

/// A terminal on a host, until this is dropped.
#[derive(Debug)]
pub struct Terminal {
    host: Host,
    socket: PathBuf,
}

impl Terminal {
    /// Opens one of so many columns and lines, and waits for the prompt.
    ///
    /// # Errors
    /// When tmux doesn't start.
    pub fn start(host: &Host, columns: u16, lines: u16) -> Result<Self> {
        // Each host has a /run of its own.
        let terminal = Self {
            host: host.clone(),
            socket: "/run/tmux.sock".into(),
        };
        let (columns, lines) = (columns.to_string(), lines.to_string());
        let shell = format!("env PS1='{PROMPT} ' ENV= sh");
        terminal.tmux(&[
            "-f",
            "/dev/null",
            "new-session",
            "-d",
            "-x",
            &columns,
            "-y",
            &lines,
            &shell,
        ])?;
        terminal.wait_for("the prompt", |screen| screen.contains(PROMPT))?;
        Ok(terminal)
    }

    /// Presses keys, by tmux's names for them: `Down`, `C-c`, `d`.
    ///
    /// # Errors
    /// When the terminal is gone.
    pub fn press(&self, keys: &[&str]) -> Result<()> {
        self.tmux(&[&["send-keys"], keys].concat()).map(drop)
    }

    /// Types a line and ends it.
    ///
    /// # Errors
    /// When the terminal is gone.
    pub fn enter(&self, line: &str) -> Result<()> {
        self.tmux(&["send-keys", "-l", line])?;
        self.press(&["Enter"])
    }

    /// What is on the screen, without blanks at the ends of lines.
    ///
    /// # Errors
    /// When the terminal is gone.
    pub fn screen(&self) -> Result<String> {
        let screen = self.tmux(&["capture-pane", "-p"])?;
        let lines = screen.lines().map(|line| line.trim_end().to_owned() + "\n");
        Ok(lines.collect())
    }

    /// Waits until the screen is so, and returns it.
    ///
    /// # Errors
    /// When that takes too long; the message has the screen.
    pub fn wait_for(&self, what: &str, is_so: impl Fn(&str) -> bool) -> Result<String> {
        let mut screen = String::new();
        let waited = wait_until(what, LIMIT, || {
            screen = self.screen().unwrap_or_default();
            is_so(&screen)
        });
        ensure!(waited.is_ok(), "waited in vain for {what}:\n{screen}");
        Ok(screen)
    }

    /// Makes it larger or smaller.
    ///
    /// # Errors
    /// When the terminal is gone.
    pub fn resize(&self, columns: u16, lines: u16) -> Result<()> {
        let (columns, lines) = (columns.to_string(), lines.to_string());
        self.tmux(&["resize-window", "-x", &columns, "-y", &lines])
            .map(drop)
    }

    /// Waits until the shell is back with a terminal as it was, and returns the last command's exit status.
    ///
    /// # Errors
    /// When a program has left something: the other screen, a hidden cursor, raw keys.
    pub fn restored(&self) -> Result<u8> {
        self.wait_for("the prompt", |screen| screen.trim_end().ends_with(PROMPT))?;
        let state = self.tmux(&["display-message", "-p", "#{alternate_on} #{cursor_flag}"])?;
        ensure!(state.trim() == "0 1", "other screen, cursor: {state}");
        // Both on one line, so that the terminal's echo shows too.
        self.enter(
            "echo status=$?=; stty -a | grep -ow -e -echo -e -icanon -e -opost; echo checked",
        )?;
        let screen = self.wait_for("the answer", |screen| screen.contains("\nchecked\n"))?;
        for setting in ["\n-echo\n", "\n-icanon\n", "\n-opost\n"] {
            ensure!(!screen.contains(setting), "raw terminal:\n{screen}");
        }
        ensure!(screen.contains("echo status=$?="), "no echo:\n{screen}");
        let mut statuses = screen.lines().rev().filter_map(|line| {
            let status = line.strip_prefix("status=")?.strip_suffix('=')?;
            status.parse().ok()
        });
        let status = statuses.next();
        self.enter("clear")?;
        self.wait_for("an empty screen", |screen| !screen.contains("checked"))?;
        status.ok_or_else(|| anyhow::anyhow!("no exit status:\n{screen}"))
    }

    fn tmux(&self, arguments: &[&str]) -> Result<String> {
        let socket = self.socket.display().to_string();
        let all = [&["-u", "-S", &socket], arguments].concat();
        let output = self.host.output("tmux", &all, LIMIT)?;
        ensure!(output.success(), "tmux {arguments:?}: {}", output.stderr);
        Ok(output.stdout)
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // The lab ends what is left.
        let _ = self.tmux(&["kill-server"]);
    }
}
