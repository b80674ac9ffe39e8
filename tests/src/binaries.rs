//! Where this workspace's programs are.

use std::path::PathBuf;
use std::sync::OnceLock;

use anyhow::{Context, Result, ensure};

/// The programs under test.
pub const NAMES: &[&str] = &["director", "rs-agent"];

/// The path of one of [`NAMES`], in the folder of the profile that this test program is built in.
///
/// # Errors
/// When it was not built. `make` builds all programs before it runs a test, so that none is stale.
pub fn path(name: &str) -> Result<PathBuf> {
    let this = this_program()?;
    let path = this
        .ancestors()
        .skip(1)
        .find(|folder| !folder.ends_with("deps"))
        .context("the test program lies in no folder")?
        .join(name);
    ensure!(
        path.exists(),
        "{} is missing: build it first (make build)",
        path.display()
    );
    Ok(path)
}

/// The path of the running program.
///
/// It is looked up once, before any namespace is entered: a thread in another mount namespace than
/// the program was started in, below a chroot, gets a path from the wrong root.
pub fn this_program() -> Result<PathBuf> {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    if let Some(program) = PROGRAM.get() {
        return Ok(program.clone());
    }
    let program = std::env::current_exe().context("the test program cannot find itself")?;
    Ok(PROGRAM.get_or_init(|| program).clone())
}
