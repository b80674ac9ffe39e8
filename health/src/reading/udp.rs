//! Reads a datagram.

use lvs_configuration::error::Findings;
use lvs_configuration::reader::{self, Mapping, Place};

use crate::check::UdpCheck;

/// What one Ethernet frame carries over IPv6.
const LONGEST_PAYLOAD: usize = 1452;

pub(super) fn read(place: &Place<'_>, findings: &mut Findings) -> Option<UdpCheck> {
    let known = ["payload", "payload_hex", "require_reply"];
    let keys = Mapping::of_known_keys_if_any(place, &known, findings)?;
    let text = keys.optional("payload", findings, |place, findings| {
        let text = reader::text(place, "the text to send", findings)?;
        short_enough(place, text.as_bytes().to_vec(), findings)
    });
    let digits = keys.optional("payload_hex", findings, |place, findings| {
        let what = "the bytes to send in hexadecimal digits, such as \"e30000\"";
        let digits = reader::text(place, what, findings)?;
        let Some(bytes) = bytes_of(digits) else {
            let message = format!("`{digits}` isn't a whole number of bytes; must be {what}");
            findings.add(&place.origin(), message);
            return None;
        };
        short_enough(place, bytes, findings)
    });
    let require_reply = keys.optional("require_reply", findings, reader::boolean);
    let (text, digits) = (text?, digits?);
    if let (Some(_), Some(_)) = (&text, &digits) {
        let message = "has `payload` and `payload_hex`; leave one of the two out";
        findings.add(keys.origin(), message);
        return None;
    }
    Some(UdpCheck {
        payload: text.or(digits).unwrap_or_default(),
        require_reply: require_reply?.unwrap_or(false),
    })
}

fn short_enough(place: &Place<'_>, payload: Vec<u8>, findings: &mut Findings) -> Option<Vec<u8>> {
    if payload.len() <= LONGEST_PAYLOAD {
        return Some(payload);
    }
    let message = format!("is longer than one datagram; must be at most {LONGEST_PAYLOAD} bytes");
    findings.add(&place.origin(), message);
    None
}

fn bytes_of(digits: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u8>> = digits
        .chars()
        .map(|digit| u8::try_from(digit.to_digit(16)?).ok())
        .collect();
    let (pairs, rest) = digits.as_ref()?.as_chunks::<2>();
    let byte = |[high, low]: &[u8; 2]| high << 4 | low;
    rest.is_empty().then(|| pairs.iter().map(byte).collect())
}
