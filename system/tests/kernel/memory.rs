//! Locking memory, in a process of its own because it can't be taken back for certain.

use std::env;
use std::fs;
use std::process::Command;

use lvs_system::memory;

use crate::Case;

const CHILD: &str = "LVS_SYSTEM_LOCKS_MEMORY";

pub const CASES: &[Case] = &[
    (
        "memory::a_limit_without_the_capability_locks_nothing",
        a_limit_without_the_capability_locks_nothing,
    ),
    (
        "memory::locks_what_is_used_where_allowed",
        locks_what_is_used_where_allowed,
    ),
];

pub fn is_child() -> bool {
    env::var_os(CHILD).is_some()
}

/// Locks, and prints the outcome, and how much is locked after 1 MiB more is in use.
pub fn child() {
    let outcome = match memory::lock_on_fault() {
        Ok(()) => "locked".to_owned(),
        Err(error) => format!("{error:?}"),
    };
    let memory = vec![1u8; 1 << 20];
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let locked = status
        .lines()
        .find_map(|line| line.strip_prefix("VmLck:"))
        .map(|text| text.trim().trim_end_matches(" kB").to_owned());
    print!("{outcome} {}", locked.unwrap());
    drop(memory);
}

fn run(wrapper: &str) -> String {
    let mut words = wrapper.split_whitespace();
    let output = Command::new(words.next().unwrap())
        .args(words)
        .arg(env::current_exe().unwrap())
        .env(CHILD, "1")
        .output()
        .expect("this test needs prlimit and unshare, of the Debian package util-linux");
    assert!(output.status.success(), "{wrapper}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// A user namespace has the capability over nothing that the machine's memory is among.
fn a_limit_without_the_capability_locks_nothing() {
    for limit in ["0:0", "0:65536", "65536:65536"] {
        let answer = run(&format!("prlimit --memlock={limit} unshare --user"));
        assert_eq!(answer, "NotAllowed 0", "{limit}");
    }
}

fn locks_what_is_used_where_allowed() {
    let answer = run("env");
    let locked = answer.strip_prefix("locked ");
    // Only where the limit is infinite or this is the machine's root.
    if let Some(kibibytes) = locked {
        assert!(kibibytes.parse::<u64>().unwrap() >= 1024, "{answer}");
    } else {
        assert_eq!(answer, "NotAllowed 0");
        assert_ne!(
            fs::read_to_string("/proc/self/uid_map")
                .unwrap()
                .split_whitespace()
                .last(),
            Some("4294967295"),
            "root may lock memory"
        );
    }
}
