//! `rs-agent status`: how each VIP stands on this machine, and what is wrong.

use std::path::Path;
use std::process::ExitCode;

use super::check::{Arguments, audit, exit_code, findings};
use super::{failed, finish, json};
use crate::audit::{Quiet, Standing};

/// Shown after the options.
pub(super) const HELP: &str = "\
Examples:
  rs-agent status
  rs-agent status --json

Exit status:
  0   nothing is wrong
  1   the file is invalid, or the machine can't be judged
  2   an error: queries are lost, or go past the directors
  3   warnings only
  64  wrong command line";

/// Prints a line for each VIP, and the findings below. Ends as `check` does.
pub(super) fn run(arguments: &Arguments, state_directory: &Path) -> ExitCode {
    match audit(arguments, state_directory) {
        Ok(report) if arguments.json => finish(&json(&report), exit_code(&report)),
        Ok(report) => {
            let announcements = report.announcements.iter();
            let announcements: String = announcements.map(|it| format!("{it}\n")).collect();
            let text = table(&report.vips) + &announcements + &findings(&report);
            finish(&text, exit_code(&report))
        }
        Err(error) => failed("status", &error),
    }
}

fn table(vips: &[Standing]) -> String {
    let heads = ["VIP", "INTERFACE", "STATE", "QUIET BY", "UDP", "TCP"].map(str::to_owned);
    let mut rows = vec![heads];
    rows.extend(vips.iter().map(row));
    let mut widths = [0; 6];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.len().max(*width);
        }
    }
    let line = |row: &[String; 6]| {
        let cells: Vec<String> = row
            .iter()
            .zip(widths)
            .map(|(cell, width)| format!("{cell:width$}"))
            .collect();
        cells.join("  ").trim_end().to_owned() + "\n"
    };
    rows.iter().map(line).collect()
}

fn row(vip: &Standing) -> [String; 6] {
    let state = match (vip.present, vip.ours) {
        (true, true) => "held",
        (true, false) => "held by others",
        (false, _) if vip.stopped => "stopped",
        (false, _) => "absent",
    };
    let quiet = match vip.quiet {
        Quiet::Sysctls => "sysctls",
        Quiet::Filter => "packet filter",
        Quiet::Ipv6 => "IPv6",
        Quiet::No => "nothing",
    };
    [
        vip.address.to_string(),
        vip.interface.clone(),
        state.to_owned(),
        quiet.to_owned(),
        vip.udp.to_string(),
        vip.tcp.to_string(),
    ]
}
