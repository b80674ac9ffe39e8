//! The namespaces that all labs of this program live in.
//!
//! The program runs itself again as process 1 of a PID namespace. When that process ends, however
//! it ends, the kernel kills everything that was started in the lab; and it is told to die with
//! its parent, so Ctrl-C, SIGTERM and even SIGKILL leave nothing behind.

use std::fs;
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, ExitStatus, exit};
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result, bail};
use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::Signal;
use nix::unistd::{getegid, geteuid, getpid, sethostname};

use crate::binaries;

/// Set for the second run of the program, which is inside.
const MARKER: &str = "LVS_LAB_ENTERED";
const NETWORK_NAMESPACES: &str = "/run/netns";
static ENTERED: AtomicBool = AtomicBool::new(false);

/// Enters the lab's own user (unless root), PID, network, mount, IPC and UTS namespaces.
///
/// Call it first in `main`, while the program has one thread. It returns in the process that is
/// inside; the outer one waits for it and exits with its status. Calling it inside does nothing.
///
/// # Errors
/// Names the namespace or mount that the kernel refused and what would allow it.
pub fn enter() -> Result<()> {
    if is_inside() {
        return Ok(());
    }
    if std::env::var_os(MARKER).is_some() && getpid().as_raw() == 1 {
        binaries::this_program()?;
        return furnish();
    }
    let program = binaries::this_program()?;
    isolate()?;
    let status = run_again(&program)?;
    exit(
        status
            .code()
            .unwrap_or_else(|| 128 + status.signal().unwrap_or(0)),
    );
}

/// Whether this process is the one that [`enter`] made: process 1 of a lab's PID namespace.
pub(crate) fn is_inside() -> bool {
    ENTERED.load(Ordering::SeqCst)
}

/// Whether this process has the rights of root in the first user namespace, which IPVS asks for.
pub fn is_initial_root() -> bool {
    geteuid().is_root()
        && fs::read_to_string("/proc/self/uid_map")
            .is_ok_and(|map| map.split_whitespace().eq(["0", "0", "4294967295"]))
}

/// The machine's number for the user that runs the lab: inside, everybody is 0.
pub(crate) fn outer_user() -> String {
    let map = fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    map.split_whitespace().nth(1).unwrap_or("0").to_owned()
}

/// Leaves the namespaces of the machine; the PID namespace counts for children only.
fn isolate() -> Result<()> {
    let namespaces = CloneFlags::CLONE_NEWPID
        | CloneFlags::CLONE_NEWNET
        | CloneFlags::CLONE_NEWNS
        | CloneFlags::CLONE_NEWIPC
        | CloneFlags::CLONE_NEWUTS;
    if geteuid().is_root() {
        match unshare(namespaces) {
            Ok(()) => return Ok(()),
            // Root without CAP_SYS_ADMIN, as in most containers: as an ordinary user then.
            Err(Errno::EPERM) => {}
            Err(error) => bail!("the kernel refuses new namespaces: {error}"),
        }
    }
    let (user, group) = (geteuid(), getegid());
    unshare(namespaces | CloneFlags::CLONE_NEWUSER).map_err(|error| {
        anyhow::anyhow!(
            "the lab needs a user namespace and the kernel refuses one ({error}): run as root, or \
             allow them (sysctl kernel.unprivileged_userns_clone=1, user.max_user_namespaces, \
             kernel.apparmor_restrict_unprivileged_userns=0; a container needs a seccomp profile \
             that permits unshare)"
        )
    })?;
    let map = |file: &str, text: String| {
        fs::write(file, text).with_context(|| format!("the lab cannot write {file}"))
    };
    map("/proc/self/setgroups", "deny".into())?;
    map("/proc/self/uid_map", format!("0 {user} 1"))?;
    map("/proc/self/gid_map", format!("0 {group} 1"))
}

fn run_again(program: &Path) -> Result<ExitStatus> {
    Command::new(program)
        .args(std::env::args_os().skip(1))
        .env(MARKER, "1")
        .status()
        .with_context(|| format!("cannot run {} inside the lab", program.display()))
}

/// Makes the new namespaces usable.
fn furnish() -> Result<()> {
    set_pdeathsig(Signal::SIGKILL).context("the lab cannot tie itself to its parent")?;
    sethostname("lab").context("the lab cannot set its host name")?;
    let nothing = None::<&str>;
    let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    mount(nothing, "/", nothing, private, nothing)
        .context("the lab cannot keep its mounts to itself")?;
    mount(
        Some("proc"),
        "/proc",
        Some("proc"),
        MsFlags::empty(),
        nothing,
    )
    .context(
        "the lab cannot mount its own /proc (a container that masks parts of /proc forbids it: \
         run with --security-opt systempaths=unconfined, or on a machine)",
    )?;
    mount_tmpfs("/run")?;
    fs::create_dir_all(NETWORK_NAMESPACES)?;
    ENTERED.store(true, Ordering::SeqCst);
    Ok(())
}

/// Mounts an empty file system in memory over a folder.
pub(crate) fn mount_tmpfs(folder: impl AsRef<Path>) -> Result<()> {
    let folder = folder.as_ref();
    mount(
        Some("tmpfs"),
        folder,
        Some("tmpfs"),
        MsFlags::empty(),
        Some("mode=755"),
    )
    .with_context(|| format!("the lab cannot mount a tmpfs over {}", folder.display()))
}

/// Gives a network namespace a name that `ip netns` finds.
///
/// `namespace` is a file of `/proc/…/ns/net`, opened by a thread that is inside.
pub(crate) fn name_network(name: &str, namespace: &fs::File) -> Result<()> {
    use std::os::fd::AsRawFd;
    let path = Path::new(NETWORK_NAMESPACES).join(name);
    fs::File::create(&path)?;
    let source = format!("/proc/self/fd/{}", namespace.as_raw_fd());
    let nothing = None::<&str>;
    mount(
        Some(source.as_str()),
        &path,
        nothing,
        MsFlags::MS_BIND,
        nothing,
    )
    .map_err(io::Error::from)
    .with_context(|| format!("the lab cannot name the network of {name}"))
}

/// Takes the name away again; the namespace itself goes with the last thread inside.
pub(crate) fn forget_network(name: &str) {
    let path = Path::new(NETWORK_NAMESPACES).join(name);
    let _ = nix::mount::umount2(&path, nix::mount::MntFlags::MNT_DETACH);
    let _ = fs::remove_file(path);
}
