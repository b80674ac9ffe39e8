//! The cases with routing daemons, which mostly wait.

use std::process::ExitCode;

fn main() -> ExitCode {
    lvs_tests::runner::anycast()
}
