//! Makes this machine a direct-routing real server; see `rs-agent --help`.

use std::process::ExitCode;

fn main() -> ExitCode {
    realserver_agent::cli::main()
}
