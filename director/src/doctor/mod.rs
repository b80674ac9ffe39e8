//! `director doctor`: is this machine, this kernel, this LAN, this configuration fit?
//!
//! Each module looks at one thing and judges it; nothing is changed, no module of the kernel is loaded,
//! and what is sent are questions (ARP, neighbour solicitations, ICMP echo) from this machine's own
//! addresses. [`crate::cli`] calls [`examine`] and prints what it returns. Judging is apart from looking,
//! so that it can be tested without a machine to match.

mod capability;
mod firewall;
mod interface;
mod kernel;
mod lan;
mod listener;
mod machine;
mod modules;
mod neighbour;
mod peer;
mod reach;
mod resolver;
mod running;
mod setting;
mod speaker;

use std::fmt;
use std::net::SocketAddr;
use std::path::Path;

use lvs_proto::vrrp::hmac;
use lvs_system::syscalls;
use serde::Serialize;

use crate::config::{Configuration, File, VersionSettings};
use crate::control::Status;
use machine::Machine;

/// What was found of one thing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What was looked at; `docs/commands.md` lists all.
    pub check: &'static str,
    /// Which of these, such as an interface; empty where there is only one.
    pub subject: String,
    /// Whether it does.
    pub verdict: Verdict,
    /// What is so.
    pub text: String,
    /// What to do about it.
    pub advice: Option<String>,
}

/// Whether something does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// It does.
    Ok,
    /// It does, and there is something to know.
    Note,
    /// It can't be seen from here.
    Unknown,
    /// It does as long as nothing else happens, or not for everybody.
    Warning,
    /// It doesn't.
    Error,
}

impl fmt::Display for Verdict {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(match self {
            Self::Ok => "ok",
            Self::Note => "note",
            Self::Unknown => "unknown",
            Self::Warning => "warning",
            Self::Error => "error",
        })
    }
}

/// What is to be examined.
#[derive(Clone, Copy, Debug)]
pub struct Patient<'p> {
    /// What the file means on this machine.
    pub configuration: &'p Configuration,
    /// Whom to ask for the other director's configuration, if that was said.
    pub peer: Option<SocketAddr>,
    /// The director that runs here, if one does.
    pub running: Option<Running<'p>>,
}

/// A director at work.
#[derive(Clone, Copy, Debug)]
pub struct Running<'p> {
    /// What it tells of itself.
    pub status: &'p Status,
    /// Where it listens for commands.
    pub runtime_directory: &'p Path,
}

/// Looks at everything. Takes as long as some adverts need to be heard: a second at least, ten at most.
///
/// # Errors
/// When not even the interfaces of the machine can be read.
pub fn examine(file: &File, patient: Patient<'_>) -> anyhow::Result<Vec<Finding>> {
    let machine = Machine::look(patient)?;
    let mut report = Report::default();
    for warning in file.warnings() {
        let text = format!("{}: {}", warning.key, warning.message);
        report.note("configuration", "", text, None);
    }
    if let Err(errors) = file.find_programs() {
        for error in errors.iter() {
            let text = format!("{}: {}", error.key, error.message);
            report.error("configuration", "", text, "install it, or mend its path");
        }
    }
    running::examine(&machine, &mut report);
    kernel::examine(&machine, &mut report);
    capability::examine(&machine, &mut report);
    clock(&machine, &mut report);
    interface::examine(&machine, &mut report);
    setting::examine(&machine, &mut report);
    firewall::examine(&machine, &mut report);
    resolver::examine(&machine, &mut report);
    listener::examine(&machine, &mut report);
    let heard = lan::listen(&machine, &mut report);
    running::discarded_meanwhile(&machine, &mut report);
    speaker::examine(&machine, &heard, &mut report);
    neighbour::examine(&machine, &heard, &mut report);
    reach::examine(&machine, &heard, &mut report);
    peer::examine(&machine, &heard, &mut report);
    Ok(report.0)
}

/// Signed adverts carry the time.
fn clock(machine: &Machine<'_>, report: &mut Report) {
    let signs = |version: &VersionSettings| matches!(version, VersionSettings::V3 { hmac: Some(keys), .. } if keys.mode() == hmac::Mode::Enforce);
    let mut instances = machine.patient.configuration.instances.iter();
    let signed = instances.any(|instance| signs(&instance.version));
    match syscalls::is_clock_synchronized() {
        Ok(true) => report.ok("clock", "", "is synchronized"),
        Ok(false) if signed => report.error(
            "clock",
            "",
            "nothing keeps this machine's clock right, and adverts that are signed (`hmac`) are \
             refused when the clocks of two directors differ by more than the window",
            "run chrony, ntpd or systemd-timesyncd; `timedatectl` tells whether it has found the time",
        ),
        Ok(false) => report.ok("clock", "", "isn't synchronized, and nothing here needs it to be"),
        Err(error) => report.unknown("clock", "", format!("the kernel doesn't tell: {error}"), None),
    }
}

/// Findings so far.
#[derive(Debug, Default)]
struct Report(Vec<Finding>);

impl Report {
    fn ok(&mut self, check: &'static str, subject: impl fmt::Display, text: impl Into<String>) {
        self.add(Verdict::Ok, check, subject, text, None);
    }

    fn note(
        &mut self,
        check: &'static str,
        subject: impl fmt::Display,
        text: impl Into<String>,
        advice: Option<String>,
    ) {
        self.add(Verdict::Note, check, subject, text, advice);
    }

    fn unknown(
        &mut self,
        check: &'static str,
        subject: impl fmt::Display,
        text: impl Into<String>,
        advice: Option<String>,
    ) {
        self.add(Verdict::Unknown, check, subject, text, advice);
    }

    fn warning(
        &mut self,
        check: &'static str,
        subject: impl fmt::Display,
        text: impl Into<String>,
        advice: impl Into<String>,
    ) {
        self.add(Verdict::Warning, check, subject, text, Some(advice.into()));
    }

    fn error(
        &mut self,
        check: &'static str,
        subject: impl fmt::Display,
        text: impl Into<String>,
        advice: impl Into<String>,
    ) {
        self.add(Verdict::Error, check, subject, text, Some(advice.into()));
    }

    fn add(
        &mut self,
        verdict: Verdict,
        check: &'static str,
        subject: impl fmt::Display,
        text: impl Into<String>,
        advice: Option<String>,
    ) {
        self.0.push(Finding {
            check,
            subject: subject.to_string(),
            verdict,
            text: text.into(),
            advice,
        });
    }

    #[cfg(test)]
    fn verdicts(&self) -> Vec<(&str, &str, Verdict)> {
        self.0
            .iter()
            .map(|one| (one.check, one.subject.as_str(), one.verdict))
            .collect()
    }
}
