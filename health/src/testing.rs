//! What tests of programs that run share.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

/// Writes a shell script that can be run, and gives its path.
///
/// Another program writes it: if this one did, a child that another test forks meanwhile could have it open
/// for writing, and then the kernel runs it for nobody (ETXTBSY).
pub fn script(folder: &Path, name: &str, body: &str) -> String {
    let path = folder.join(name);
    let mut writer = Command::new("sh")
        .args(["-c", "cat >\"$0\" && chmod 755 \"$0\""])
        .arg(&path)
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let mut text = writer.stdin.take().unwrap();
    write!(text, "#!/bin/sh\n{body}\n").unwrap();
    drop(text);
    assert!(writer.wait().unwrap().success(), "{}", path.display());
    path.to_str().unwrap().to_owned()
}

/// Waits until `path` has a whole line, and gives it.
pub async fn line_of(path: &Path) -> String {
    for _ in 0..500 {
        match fs::read_to_string(path) {
            Ok(text) if text.ends_with('\n') => return text.trim().to_owned(),
            _ => tokio::time::sleep(Duration::from_millis(10)).await,
        }
    }
    panic!("{} has no line", path.display());
}

/// Whether a process is there and runs, rather than waiting to be reaped.
pub fn runs(process: &str) -> bool {
    let status = fs::read_to_string(format!("/proc/{process}/stat"));
    status.is_ok_and(|text| !text.rsplit(") ").next().unwrap().starts_with('Z'))
}

pub async fn gone(process: &str) -> bool {
    for _ in 0..300 {
        if !runs(process) {
            return true;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    false
}
