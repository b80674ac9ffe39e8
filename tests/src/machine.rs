//! A machine of the lab with Debian and its systemd, to install packages on as an operator does.
//!
//! `tests/setup` keeps a clean Debian in `target/debian`. A [`Machine`] is a container (`systemd-nspawn`) on a
//! [`Host`], with the host's interfaces: systemd is its process 1, over a copy of that Debian in memory. It
//! takes root in the first user namespace.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use crate::binaries;
use crate::lab::{Host, Output, Process, is_initial_root, wait_until};

/// Where the copy is, as the host sees it.
const ROOT: &str = "/run/debian/root";
const BOOT_LIMIT: Duration = Duration::from_secs(60);
const COMMAND_LIMIT: Duration = Duration::from_secs(60);

/// In a control group of its own, since two containers in one would meet; `$1` is its name.
const START: &str = r#"
umount --lazy /sys
enter() {
    [ -w "$1/cgroup.procs" ] || return 0
    own="$1/$(sed -n "s/^[0-9]*:$2://p" /proc/self/cgroup)/$name"
    mkdir -p "$own" && echo $$ >"$own/cgroup.procs"
}
name=$1
enter /sys/fs/cgroup ''
enter /sys/fs/cgroup/unified ''
enter /sys/fs/cgroup/systemd name=systemd
export SYSTEMD_NSPAWN_API_VFS_WRITABLE=network
exec systemd-nspawn --quiet --register=no --keep-unit --console=pipe --boot --machine=debian \
    --network-namespace-path=/proc/self/ns/net --capability=CAP_NET_ADMIN --directory="$2"
"#;

/// Empty control groups stay for ever otherwise; those of processes that are just dying aren't empty yet.
const CLEAN_UP: &str = r#"
for _ in $(seq 50); do
    [ "$(find /sys/fs/cgroup -type d -name "$1")" ] || exit 0
    find /sys/fs/cgroup -depth -type d -path "*/$1*" -exec rmdir {} + 2>/dev/null
    sleep 0.1
done
"#;

/// A running Debian; dropping it ends it.
#[derive(Debug)]
pub struct Machine {
    host: Host,
    container: Process,
    /// Its systemd.
    leader: i32,
    group: String,
}

impl Machine {
    /// Boots a clean Debian on `host`, with the packages of `target/package` in `/root`.
    ///
    /// # Errors
    /// When it can't be made, or isn't up within a minute.
    pub fn boot(host: &Host) -> Result<Self> {
        ensure!(is_initial_root(), "only root can boot a clean Debian");
        let (clean, packages) = (clean()?, packages()?);
        ensure!(
            clean.exists(),
            "{} is missing: run tests/setup packages",
            clean.display()
        );
        let name = host.name().to_owned();
        host.within(move || prepare(&clean, &packages, &name))?;
        // Labs on one machine have the same names, and the same process numbers.
        let group = host.within(lvs_system::record::namespace)?;
        let group = format!("lvs-lab-{group}");
        let container = host.spawn("sh", ["-c", START, "sh", &group, ROOT])?;
        let mut machine = Self {
            host: host.clone(),
            container,
            leader: 0,
            group,
        };
        machine.wait_until_up()?;
        // The container has a number of the boot of its own, which units with a fresh /proc don't see.
        machine.run("while umount /proc/sys/kernel/random/boot_id 2>/dev/null; do :; done")?;
        Ok(machine)
    }

    /// Runs a command line of its shell to its end, and returns what it printed.
    ///
    /// # Errors
    /// When it ends with another status than 0; the message has its standard error.
    pub fn run(&self, command: &str) -> Result<String> {
        let output = self.output(command)?;
        if !output.success() {
            bail!(
                "`{command}` on {} ended with {}: {}{}",
                self.host.name(),
                output.status,
                output.stdout,
                output.stderr
            );
        }
        Ok(output.stdout)
    }

    /// The same, whatever its exit status.
    pub fn output(&self, command: &str) -> Result<Output> {
        let leader = self.leader.to_string();
        let arguments = ["--all", "--target", &leader, "--", "sh", "-c", command];
        self.host.output("nsenter", arguments, COMMAND_LIMIT)
    }

    /// Writes a file.
    pub fn write(&self, path: &str, content: &str) -> Result<()> {
        let (to, content) = (inside(path), content.to_owned());
        self.host
            .within(move || {
                to.parent().map_or(Ok(()), fs::create_dir_all)?;
                fs::write(&to, content)
            })
            .with_context(|| format!("{path} on {}", self.host.name()))
    }

    /// The host that it has its network from.
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// The newest lines that a service has logged.
    pub fn journal(&self, service: &str) -> Result<String> {
        self.run(&format!(
            "journalctl --unit {service} --output cat --no-pager --lines 30"
        ))
    }

    fn wait_until_up(&mut self) -> Result<()> {
        let name = self.host.name().to_owned();
        wait_until(&format!("Debian on {name}"), BOOT_LIMIT, || {
            let Some(leader) = self.container.children().first().copied() else {
                return false;
            };
            self.leader = leader;
            self.output("systemctl is-system-running")
                .is_ok_and(|output| matches!(output.stdout.trim(), "running" | "degraded"))
        })
        .map(drop)
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.container.kill_family();
        let limit = Duration::from_secs(10);
        let _ = self
            .host
            .output("sh", ["-c", CLEAN_UP, "sh", &self.group], limit);
    }
}

fn clean() -> Result<PathBuf> {
    Ok(binaries::target_directory()?.join("debian"))
}

/// The Debian packages, the newest first where there are several of a name.
fn packages() -> Result<Vec<PathBuf>> {
    let folder = binaries::target_directory()?.join("package");
    let files = fs::read_dir(&folder).into_iter().flatten().flatten();
    let mut packages: Vec<PathBuf> = files
        .map(|file| file.path())
        .filter(|path| path.extension().is_some_and(|ending| ending == "deb"))
        .collect();
    packages.sort();
    ensure!(
        packages.len() == 2,
        "{} has {} packages rather than two: make deb PROFILE=dev",
        folder.display(),
        packages.len()
    );
    Ok(packages)
}

/// Lays the clean Debian under a folder in memory.
fn prepare(clean: &Path, packages: &[PathBuf], name: &str) -> Result<()> {
    let nothing = None::<&str>;
    for folder in ["changes", "work", "root"] {
        fs::create_dir_all(Path::new("/run/debian").join(folder))?;
    }
    let layers = format!(
        "lowerdir={},upperdir=/run/debian/changes,workdir=/run/debian/work",
        clean.display()
    );
    let flags = nix::mount::MsFlags::empty();
    nix::mount::mount(nothing, ROOT, Some("overlay"), flags, Some(layers.as_str()))
        .context("no overlay over the clean Debian")?;
    fs::write(inside("/etc/hostname"), format!("{name}\n"))?;
    for package in packages {
        let file = package.file_name().context("a package has no name")?;
        fs::copy(package, Path::new(ROOT).join("root").join(file))?;
    }
    Ok(())
}

fn inside(path: &str) -> PathBuf {
    Path::new(ROOT).join(path.trim_start_matches('/'))
}
