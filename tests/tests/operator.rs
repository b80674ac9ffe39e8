//! The cases of what an operator sees and does: screens, packages, the machine's fitness.

use std::process::ExitCode;

fn main() -> ExitCode {
    lvs_tests::runner::operator()
}
