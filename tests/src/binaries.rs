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
    let path = profile_directory()?.join(name);
    ensure!(
        path.exists(),
        "{} is missing: build it first (make build)",
        path.display()
    );
    Ok(path)
}

/// Cargo's target folder.
pub fn target_directory() -> Result<PathBuf> {
    let profile = profile_directory()?;
    let target = profile.parent();
    Ok(target
        .context("the test program lies in no target folder")?
        .into())
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

/// `target/PROFILE`, where programs lie; test programs lie in `deps` below it.
fn profile_directory() -> Result<PathBuf> {
    let program = this_program()?;
    let folder = program
        .ancestors()
        .skip(1)
        .find(|folder| !folder.ends_with("deps"));
    Ok(folder.context("the test program lies in no folder")?.into())
}
