//! `rs-agent start` and `rs-agent reload`.

use std::collections::BTreeSet;
use std::path::Path;

use clap::Args;

use super::{Error, Selection, ask, open};
use crate::agent;
use crate::plan::Others;
use crate::run::{self as service, Request, Stopped};

/// Shown after the options of `start`.
pub(super) const START_HELP: &str = "\
Examples:
  rs-agent start
      The VIPs of /etc/rs-agent.yaml.
  rs-agent start --vip 192.0.2.53 --vip 2001:db8::53

Exit status:
  0   the VIPs are there
  1   they can't be, or the file is invalid; what was changed is taken back
  64  wrong command line";

/// Shown after the options of `reload`.
pub(super) const RELOAD_HELP: &str = "\
Examples:
  rs-agent reload
  rs-agent reload --config /etc/other.yaml

Exit status:
  0   the machine is what the configuration says
  1   it can't be, or the file is invalid; what was changed is taken back
  64  wrong command line";

#[derive(Args, Debug)]
pub(super) struct Arguments {
    #[command(flatten)]
    pub(super) selection: Selection,
    /// Print it as JSON
    #[arg(long)]
    pub(super) json: bool,
}

/// Brings the VIPs that are meant to the machine, or has the service that runs do it. Returns what a
/// person should know.
pub(super) fn run(
    arguments: &Arguments,
    others: Others,
    state_directory: &Path,
) -> Result<Vec<String>, Error> {
    let selection = &arguments.selection;
    let (vips, config) = (selection.vips.clone(), selection.other_file());
    let request = match others {
        Others::Keep => Request::Start { vips, config },
        Others::Remove => Request::Reload { vips, config },
    };
    let bring = match others {
        Others::Keep => agent::start,
        Others::Remove => agent::reload,
    };
    if let Some(notes) = ask(state_directory, &request)? {
        return Ok(notes);
    }
    let configuration = selection.read_lasting()?;
    let (_lock, mut machine) = open(state_directory)?;
    let done = bring(&mut machine, &configuration.vips)?;
    // The next service goes on with what is here now.
    let mut stopped = Stopped::open(state_directory).map_err(service::Error::from)?;
    stopped
        .update(|stopped| stopped.start(&selection.vips, &BTreeSet::new()))
        .map_err(service::Error::from)?;
    Ok(agent::foreign_notes(&done.foreign))
}
