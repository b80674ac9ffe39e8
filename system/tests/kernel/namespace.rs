//! Network namespaces, and commands in them.

use std::fs::{self, File};
use std::io::Write;
use std::os::fd::AsRawFd;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use lvs_system::link::{self, Link};
use lvs_system::netlink::{Connection, Protocol};
use nix::errno::Errno;
use nix::sched::{CloneFlags, setns, unshare};
use nix::unistd::{getegid, geteuid};

/// Leaves the machine's network. Called while the process has one thread, because a user namespace
/// can't be entered later.
pub fn enter() {
    let namespaces = CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS;
    match unshare(namespaces) {
        Ok(()) => return,
        Err(Errno::EPERM) => {}
        Err(error) => panic!("the kernel refuses new namespaces: {error}"),
    }
    let (user, group) = (geteuid(), getegid());
    unshare(namespaces | CloneFlags::CLONE_NEWUSER).expect(
        "these tests need a user namespace (sysctl kernel.unprivileged_userns_clone=1, \
         user.max_user_namespaces, kernel.apparmor_restrict_unprivileged_userns=0), or root",
    );
    fs::write("/proc/self/setgroups", "deny").unwrap();
    fs::write("/proc/self/uid_map", format!("0 {user} 1")).unwrap();
    fs::write("/proc/self/gid_map", format!("0 {group} 1")).unwrap();
}

/// A network namespace that ends with the last thing in it.
pub struct Namespace(File);

impl Namespace {
    /// With nothing but a loopback interface, which is up.
    pub fn new() -> Self {
        let make = || {
            unshare(CloneFlags::CLONE_NEWNET).unwrap();
            File::open("/proc/thread-self/ns/net").unwrap()
        };
        let namespace = Self(thread::spawn(make).join().unwrap());
        namespace.ip("link set lo up");
        namespace
    }

    /// Runs `work` on a thread inside.
    pub fn within<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        thread::scope(|scope| {
            let inside = || {
                setns(&self.0, CloneFlags::CLONE_NEWNET).unwrap();
                work()
            };
            scope.spawn(inside).join().unwrap()
        })
    }

    /// A netlink connection inside, usable from anywhere.
    pub fn route(&self) -> Connection {
        self.within(|| Connection::open(Protocol::Route).unwrap())
    }

    pub fn link(&self, name: &str) -> Link {
        link::find(&mut self.route(), name).unwrap()
    }

    /// Adds an address, without duplicate address detection, and waits until packets for it are
    /// taken: the kernel leaves that to a work queue for IPv6 (`addrconf_dad_work()`).
    pub fn add_address(&self, address: &str, prefix_length: u8, interface: &str) {
        self.ip(&format!(
            "address add {address}/{prefix_length} dev {interface} nodad"
        ));
        let route = format!("local {address} ");
        let family = if address.contains(':') { "-6" } else { "-4" };
        let taken = || {
            self.ip(&format!("{family} route show table local"))
                .contains(&route)
        };
        within_five_seconds(&route, taken);
    }

    /// Runs ip(8), here separated at spaces, and returns what it prints.
    pub fn ip(&self, arguments: &str) -> String {
        self.ip_with(arguments, "")
    }

    /// The same with something to read.
    pub fn ip_with(&self, arguments: &str, input: &str) -> String {
        let mut ip = Command::new("ip");
        ip.args(arguments.split_whitespace())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let mut child = self
            .within(|| ip.spawn())
            .expect("these tests need ip, of the Debian package iproute2");
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(input.as_bytes()).unwrap();
        drop(stdin);
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "ip {arguments}: {}", output.status);
        String::from_utf8(output.stdout).unwrap()
    }

    /// Reads a file that shows this namespace, such as a sysctl.
    pub fn read(&self, path: &str) -> String {
        let text = self.within(|| fs::read_to_string(path).unwrap());
        text.trim_end().to_owned()
    }

    /// Joins `near` here and `far` there by a cable, and waits until both carry packets, which may
    /// be a second after they were set up (`net/core/link_watch.c`).
    pub fn connect(&self, near: &str, other: &Self, far: &str) {
        // The descriptor's number means the same in ip(8)'s parent only by its path.
        let path = format!("/proc/{}/fd/{}", std::process::id(), other.0.as_raw_fd());
        self.ip(&format!(
            "link add {near} type veth peer name {far} netns {path}"
        ));
        self.ip(&format!("link set {near} up"));
        other.ip(&format!("link set {far} up"));
        within_five_seconds("a carrier", || self.link(near).up && other.link(far).up);
    }
}

/// Waits until something holds.
pub fn within_five_seconds(what: &str, mut holds: impl FnMut() -> bool) {
    let started = Instant::now();
    while !holds() {
        assert!(started.elapsed() < Duration::from_secs(5), "no {what}");
        thread::sleep(Duration::from_millis(1));
    }
}
