//! The cases that need IPVS: in the guest, or on this kernel where it has IPVS.

use std::process::ExitCode;

fn main() -> ExitCode {
    lvs_tests::runner::guest()
}
