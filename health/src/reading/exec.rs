//! Reads a program.

use lvs_configuration::error::{Findings, Located};
use lvs_configuration::reader::{self, Mapping, Place};

use crate::check::ExecCheck;

/// The check, and where its program stands.
pub(super) fn read(place: &Place<'_>, findings: &mut Findings) -> Option<Located<ExecCheck>> {
    let keys = Mapping::of_known_keys(place, &["command", "weight_by_exit"], findings)?;
    let right = "write the program and its arguments, such as \
                 [/usr/local/bin/UDP_CHECK.sh, \"{address}\", \"{port}\", word]";
    let command = keys.required("command", right, findings, |place, findings| {
        Some(place.located(reader::command(place, findings)?))
    });
    let weight_by_exit = keys.optional("weight_by_exit", findings, reader::boolean);
    let command = command?;
    Some(Located {
        value: ExecCheck {
            command: command.value,
            weight_by_exit: weight_by_exit?.unwrap_or(false),
        },
        origin: command.origin,
    })
}
