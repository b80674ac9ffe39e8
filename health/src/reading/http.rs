//! Reads a page.

use std::net::IpAddr;
use std::ops::RangeInclusive;

use lvs_configuration::document::Value;
use lvs_configuration::error::Findings;
use lvs_configuration::reader::{self, Mapping, Place};
use lvs_proto::Pattern;

use crate::check::HttpCheck;
use crate::defaults;

/// HTTP's statuses (RFC 9110, section 15).
const STATUSES: RangeInclusive<u16> = 100..=599;

const KEYS: [&str; 4] = ["host", "path", "status", "body"];

pub(super) fn plain(place: &Place<'_>, findings: &mut Findings) -> Option<HttpCheck> {
    let keys = Mapping::of_known_keys_if_any(place, &KEYS, findings)?;
    page(&keys, findings)
}

pub(super) fn secure(place: &Place<'_>, findings: &mut Findings) -> Option<HttpCheck> {
    let known = [KEYS.as_slice(), &["verify"]].concat();
    let keys = Mapping::of_known_keys_if_any(place, &known, findings)?;
    let verify = keys.optional("verify", findings, reader::boolean);
    let page = page(&keys, findings)?;
    Some(HttpCheck {
        verify: Some(verify?.unwrap_or(true)),
        ..page
    })
}

fn page(keys: &Mapping<'_>, findings: &mut Findings) -> Option<HttpCheck> {
    let host = keys.optional("host", findings, host);
    let path = keys.optional("path", findings, path);
    let status = keys.optional("status", findings, statuses);
    let body = keys.optional("body", findings, |place, findings| {
        reader::parsed::<Pattern>(place, "a regular expression", findings)
    });
    Some(HttpCheck {
        verify: None,
        host: host?,
        path: path?.unwrap_or_else(|| "/".to_owned()),
        status: status?.unwrap_or_else(|| vec![defaults::GOOD_STATUSES]),
        body: body?,
    })
}

/// A name that a certificate can be for, or an address.
fn host(place: &Place<'_>, findings: &mut Findings) -> Option<String> {
    let what = "the name that is asked for, such as www.example.org";
    let text = reader::text(place, what, findings)?;
    let allowed = |letter: char| letter.is_ascii_alphanumeric() || "-_.".contains(letter);
    let is_name = (1..=253).contains(&text.len()) && text.chars().all(allowed);
    if is_name || matches!(text.parse(), Ok(IpAddr::V4(_))) {
        return Some(text.to_owned());
    }
    let message = format!("`{text}` isn't a host name; must be {what}");
    findings.add(&place.origin(), message);
    None
}

fn path(place: &Place<'_>, findings: &mut Findings) -> Option<String> {
    let what = "a path, such as /health";
    let text = reader::text(place, what, findings)?;
    let is_path = text.starts_with('/')
        && text
            .parse::<hyper::Uri>()
            .is_ok_and(|uri| uri.path_and_query().is_some());
    if is_path && !text.contains('#') {
        return Some(text.to_owned());
    }
    let message = format!("`{text}` can't be asked for; must be {what}");
    findings.add(&place.origin(), message);
    None
}

fn statuses(place: &Place<'_>, findings: &mut Findings) -> Option<Vec<RangeInclusive<u16>>> {
    let what = "a list of statuses and ranges, such as [200, 300-399]";
    reader::filled_list(place, what, findings, |place, findings| {
        let range = match place.value() {
            Value::Text(text) => range(text),
            Value::Integer(number) => u16::try_from(*number).ok().map(|number| number..=number),
            _ => None,
        };
        let range = range.filter(|range| {
            !range.is_empty() && STATUSES.contains(range.start()) && STATUSES.contains(range.end())
        });
        if range.is_none() {
            let message = "isn't a status; must be one from 100 to 599, or a range such as 200-299";
            findings.add(&place.origin(), message);
        }
        range
    })
}

fn range(text: &str) -> Option<RangeInclusive<u16>> {
    let (first, last) = text.split_once('-')?;
    Some(first.trim().parse().ok()?..=last.trim().parse().ok()?)
}
