//! A DNS check: what is asked and expected.

use lvs_proto::dns::{Expectation, Flag, Probe, RecordData, Records, ResponseCode};

use super::{OFF, Setting};

/// How the question is put.
pub(crate) fn asked(probe: &Probe) -> Vec<Setting> {
    let switch = |on: bool, word: &str| if on { word } else { OFF }.to_owned();
    let edns = probe.edns.map(|size| format!("of {size} octets"));
    vec![
        ("recursion", switch(probe.recursion_desired, "desired")),
        ("validation", switch(probe.checking_disabled, "declined")),
        ("EDNS", edns.unwrap_or_else(|| OFF.to_owned())),
        ("signatures", switch(probe.dnssec_ok, "wanted")),
        ("NSID", switch(probe.nsid, "wanted")),
        ("cookie", switch(probe.cookie, "sent")),
        ("case", switch(probe.mixed_case, "mixed")),
    ]
}

/// What a good answer is like.
pub(crate) fn expected(expected: &Expectation) -> Vec<Setting> {
    let codes = expected.response_codes.iter().map(ResponseCode::to_string);
    let flags: Vec<String> = expected.flags.iter().map(Flag::to_string).collect();
    let minimum = match expected.minimum_records {
        0 => OFF.to_owned(),
        number => format!("at least {number}"),
    };
    let time_to_live = expected.time_to_live.as_ref();
    vec![
        ("code", codes.collect::<Vec<_>>().join(" or ")),
        ("flags", off_if_empty(flags.join(" "))),
        ("records", minimum),
        (
            "saying",
            expected
                .records
                .as_ref()
                .map_or_else(|| OFF.to_owned(), saying),
        ),
        (
            "ttl",
            time_to_live.map_or_else(
                || OFF.to_owned(),
                |range| format!("{}s to {}s", range.start(), range.end()),
            ),
        ),
    ]
}

fn saying(records: &Records) -> String {
    let list = |data: &mut dyn Iterator<Item = &RecordData>| {
        let texts: Vec<String> = data.map(|it| format!("`{it}`")).collect();
        texts.join(", ")
    };
    match records {
        Records::Exact(data) => format!("exactly {}", list(&mut data.iter())),
        Records::AnyOf(data) => format!("any of {}", list(&mut data.iter())),
        Records::Pattern(pattern) => format!("each `{pattern}`"),
    }
}

fn off_if_empty(text: String) -> String {
    if text.is_empty() {
        OFF.to_owned()
    } else {
        text
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use lvs_proto::dns::RecordType;

    use super::*;
    use crate::wording::described;

    #[test]
    fn says_what_is_used() {
        let mut probe = Probe::new("example.org".parse().unwrap(), RecordType::A);
        assert_eq!(described(&asked(&probe)), "recursion desired");
        assert_eq!(
            described(&expected(&probe.expected)),
            "code NOERROR, records at least 1"
        );
        probe.edns = Some(1232);
        probe.cookie = true;
        probe.expected.flags = [Flag::AuthenticData].into();
        probe
            .expected
            .response_codes
            .extend([ResponseCode::NAME_ERROR]);
        probe.expected.records = Some(Records::Pattern("192.*".parse().unwrap()));
        probe.expected.time_to_live = Some(0..=300);
        assert_eq!(
            described(&asked(&probe)),
            "recursion desired, EDNS of 1232 octets, cookie sent"
        );
        assert_eq!(
            described(&expected(&probe.expected)),
            "code NOERROR or NXDOMAIN, flags AD, records at least 1, saying each `192.*`, ttl 0s to 300s"
        );
    }
}
