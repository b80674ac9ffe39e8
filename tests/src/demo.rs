//! The demo's story. `make demo` plays it in the guest, or on this kernel where it has IPVS.

use std::io::Write;

use anyhow::Result;

use crate::lab::Lab;
use crate::topology::DnsPair;

/// Where the story is told.
pub struct Screen<'a> {
    /// Takes the text. What doesn't end a line is seen when it is flushed.
    pub out: &'a mut dyn Write,
    /// Whether it is a terminal, with colours and a live line; plain text otherwise.
    pub terminal: bool,
}

/// Plays the scenes in an empty lab.
pub fn story(lab: &mut Lab, screen: &mut Screen<'_>) -> Result<()> {
    let pair = DnsPair::new(lab)?;
    for host in pair.hosts() {
        writeln!(screen.out, "{} is up", host.name())?;
    }
    let _named = pair.start_named()?;
    writeln!(screen.out, "both DNS servers answer")?;
    Ok(())
}
