//! FRR: zebra, and the daemons of single protocols beside it.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::lab::{Host, Process, wait_until};

/// Where Debian keeps FRR's daemons.
pub const FOLDER: &str = "/usr/lib/frr";

/// How long a daemon may take to start, and vtysh to tell all of them.
const PATIENCE: Duration = Duration::from_secs(20);

/// Makes a host fit for FRR: run by root, in folders that this host alone sees.
pub(crate) fn furnish(host: &Host) -> Result<()> {
    if host.within(|| Path::new("/run/frr").exists()) {
        return Ok(());
    }
    let groups = fs::read_to_string("/etc/group").context("/etc/group")?;
    let groups: Vec<String> = groups
        .lines()
        .map(|line| match line.strip_prefix("frrvty:") {
            // FRR insists that its user belongs to this group.
            Some(_) => {
                line.rsplit_once(':')
                    .map_or(line, |(head, _)| head)
                    .to_owned()
                    + ":root"
            }
            None => line.to_owned(),
        })
        .collect();
    let file = host.write_file("group", &(groups.join("\n") + "\n"))?;
    host.run(&format!("mount --bind {} /etc/group", file.display()))?;
    host.run("mkdir /run/frr")?;
    // Where it keeps notes for the case that it crashes.
    host.hide_folder("/var/tmp")
}

/// Daemons of FRR at work on a host, until this is dropped.
#[derive(Debug)]
pub struct Frr {
    host: Host,
    _daemons: Vec<Process>,
}

impl Frr {
    /// Starts zebra and these daemons, and gives them their configuration as vtysh does at boot.
    ///
    /// # Errors
    /// When one doesn't start, or vtysh refuses a line.
    pub fn start(host: &Host, daemons: &[&str], configuration: &str) -> Result<Self> {
        furnish(host)?;
        let mut running = vec![spawn(host, "zebra")?];
        // The others would try again after seconds only.
        ready(host, "/run/frr/zserv.api".into())?;
        for daemon in daemons {
            running.push(spawn(host, daemon)?);
        }
        for daemon in ["zebra"].iter().chain(daemons) {
            ready(host, format!("/run/frr/{daemon}.vty").into())?;
        }
        let frr = Self {
            host: host.clone(),
            _daemons: running,
        };
        let file = host.write_file("frr.conf", configuration)?;
        frr.vtysh(&["-f", &file.to_string_lossy()])?;
        Ok(frr)
    }

    /// Carries out lines of configuration, as an operator types them.
    ///
    /// # Errors
    /// When vtysh refuses one.
    pub fn configure(&self, lines: &[&str]) -> Result<()> {
        let mut arguments = vec!["-c", "configure terminal"];
        for line in lines {
            arguments.extend(["-c", line]);
        }
        self.vtysh(&arguments).map(drop)
    }

    /// What one of the daemons shows, for the report of a failure.
    pub fn show(&self, command: &str) -> String {
        self.vtysh(&["-c", command])
            .unwrap_or_else(|error| format!("{error:#}"))
    }

    fn vtysh(&self, arguments: &[&str]) -> Result<String> {
        let output = self.host.output("vtysh", arguments, PATIENCE)?;
        // It exits with 0 after some mistakes, but marks them all.
        let refused = !output.success()
            || output.stdout.lines().any(|line| line.starts_with('%'))
            || output.stderr.contains("% ");
        ensure!(
            !refused,
            "vtysh on {}: {}{}",
            self.host.name(),
            output.stdout,
            output.stderr
        );
        Ok(output.stdout)
    }
}

fn spawn(host: &Host, daemon: &str) -> Result<Process> {
    // An empty file: each would read the machine's own otherwise.
    let file = host.write_file(&format!("{daemon}.conf"), "")?;
    let file = file.to_string_lossy();
    host.spawn(
        &format!("{FOLDER}/{daemon}"),
        ["-u", "root", "-g", "root", "-f", &file, "--log", "stdout"],
    )
}

fn ready(host: &Host, socket: PathBuf) -> Result<()> {
    let name = socket.display().to_string();
    wait_until(&name, PATIENCE, || {
        let socket = socket.clone();
        host.within(move || socket.exists())
    })?;
    Ok(())
}
