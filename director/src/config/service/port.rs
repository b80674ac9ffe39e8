//! Reads ports and ranges of them.

use std::num::NonZeroU16;
use std::ops::RangeInclusive;

use lvs_configuration::document::Value;
use lvs_configuration::error::{Findings, Located};
use lvs_configuration::reader::{self, Place};

use super::intervals::Intervals;

/// The ports of a service.
pub(in crate::config) enum Ports {
    /// Every port, whatever clients ask.
    Any,
    /// Those of ranges that don't overlap.
    These(Vec<RangeInclusive<u16>>),
}

impl Ports {
    /// One by one, as the kernel writes them: 0 is every port.
    pub(in crate::config) fn numbers(&self) -> impl Iterator<Item = u16> {
        let ranges = match self {
            Self::Any => vec![0..=0],
            Self::These(ranges) => ranges.clone(),
        };
        ranges.into_iter().flatten()
    }
}

pub(super) fn one(place: &Place<'_>, findings: &mut Findings) -> Option<Located<Ports>> {
    if let Value::Text(text) = place.value()
        && (text == "any" || range(text).is_ok())
    {
        let written = if text == "any" {
            "ports: any".to_owned()
        } else {
            format!("ports: [{text}]")
        };
        let message = format!("must be one port; write `{written}` for this");
        findings.add(&place.origin(), message);
        return None;
    }
    let port = reader::port(place, findings)?.get();
    Some(place.located(Ports::These(vec![port..=port])))
}

pub(super) fn several(place: &Place<'_>, findings: &mut Findings) -> Option<Located<Ports>> {
    let what = "`any`, or a list of ports and ranges, such as [53, 8000-8009]";
    match place.value() {
        Value::Text(text) if text == "any" => return Some(place.located(Ports::Any)),
        Value::List(_) => {}
        _ => {
            place.expected(what, findings);
            return None;
        }
    }
    let mut taken = Intervals::new();
    let ranges = reader::filled_list(place, what, findings, |place, findings| {
        let range = match place.value() {
            Value::Text(text) => range(text)
                .map_err(|message| findings.add(&place.origin(), message))
                .ok()?,
            _ => {
                let port = reader::port(place, findings)?.get();
                port..=port
            }
        };
        let origin = place.origin();
        if let Err((port, line)) = taken.take(*range.start(), *range.end(), origin.line()) {
            let message = format!("{port} is already listed in line {line}; list it once");
            findings.add(&origin, message);
            return None;
        }
        Some(range)
    })?;
    Some(place.located(Ports::These(ranges)))
}

fn range(text: &str) -> Result<RangeInclusive<u16>, String> {
    let wrong = || format!("`{text}` is not a range of ports; write one such as 8000-8009");
    let (first, last) = text.split_once('-').ok_or_else(wrong)?;
    let port = |text: &str| text.trim().parse::<NonZeroU16>().map_err(|_| wrong());
    let (first, last) = (port(first)?.get(), port(last)?.get());
    if first > last {
        return Err(format!("runs backwards; write {last}-{first}"));
    }
    Ok(first..=last)
}
