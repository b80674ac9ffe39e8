//! The cases with our packages, which have to be made first: `make lab-packages`.

use std::process::ExitCode;

fn main() -> ExitCode {
    lvs_tests::runner::packages()
}
