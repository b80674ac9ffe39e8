//! Reads a DNS query, and what is expected of the answer.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;
use std::time::Duration;

use lvs_configuration::document::Value;
use lvs_configuration::error::{Findings, Located, Origin};
use lvs_configuration::reader::{self, Mapping, Place};
use lvs_proto::Pattern;
use lvs_proto::dns::{
    Class, Expectation, Flag, Name, Probe, RecordData, RecordType, Records, Requirement,
    ResponseCode,
};

use crate::check::DnsCheck;
use crate::defaults;

const KEYS: [&str; 18] = [
    "name",
    "names",
    "require",
    "type",
    "class",
    "preset",
    "recursion_desired",
    "checking_disabled",
    "dnssec_ok",
    "edns_size",
    "nsid",
    "cookie",
    "mixed_case",
    "response_codes",
    "flags",
    "records",
    "minimum_records",
    "ttl",
];

/// What a server is taken for, which decides what isn't written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Preset {
    /// Either kind of server.
    Plain,
    /// A resolver: it says RA.
    Recursive,
    /// An authoritative server: it says AA, and is asked for what makes it one, an SOA.
    Authoritative,
}

impl Preset {
    fn record_type(self, class: Class) -> RecordType {
        match (self, class) {
            (_, Class::Chaos) => RecordType::Txt,
            (Self::Authoritative, Class::Internet) => RecordType::Soa,
            (Self::Plain | Self::Recursive, Class::Internet) => defaults::RECORD_TYPE,
        }
    }

    fn flags(self) -> BTreeSet<Flag> {
        match self {
            Self::Plain => BTreeSet::new(),
            Self::Recursive => BTreeSet::from([Flag::RecursionAvailable]),
            Self::Authoritative => BTreeSet::from([Flag::AuthoritativeAnswer]),
        }
    }

    fn edns_size(self) -> Option<u16> {
        match self {
            Self::Plain => None,
            Self::Recursive | Self::Authoritative => Some(defaults::EDNS_SIZE),
        }
    }
}

pub(super) fn read(place: &Place<'_>, findings: &mut Findings) -> Option<DnsCheck> {
    let keys = Mapping::of_known_keys(place, &KEYS, findings)?;
    let names = names(&keys, findings);
    let require = keys.optional("require", findings, |place, findings| {
        let words = [Requirement::All, Requirement::Any, Requirement::Majority];
        reader::word(place, &words.map(|it| (it.word(), it)), findings)
    });
    let preset = keys.optional("preset", findings, |place, findings| {
        let words = [
            ("recursive", Preset::Recursive),
            ("authoritative", Preset::Authoritative),
        ];
        reader::word(place, &words, findings)
    });
    let class = keys.optional("class", findings, |place, findings| {
        reader::parsed::<Class>(place, "a class, such as IN", findings)
    });
    let record_type = keys.optional("type", findings, |place, findings| {
        reader::parsed::<RecordType>(place, "a record type, such as A", findings)
    });
    let [
        recursion_desired,
        checking_disabled,
        dnssec_ok,
        nsid,
        cookie,
        mixed_case,
    ] = [
        "recursion_desired",
        "checking_disabled",
        "dnssec_ok",
        "nsid",
        "cookie",
        "mixed_case",
    ]
    .map(|key| keys.optional(key, findings, reader::boolean));
    let edns_size = keys.optional("edns_size", findings, edns_size);
    let (preset, class) = (preset?.unwrap_or(Preset::Plain), class?.unwrap_or_default());
    let record_type = record_type?.unwrap_or_else(|| preset.record_type(class));
    let expected = expectation(&keys, preset, record_type, findings);
    let (dnssec_ok, nsid, cookie) = (
        dnssec_ok?.unwrap_or(false),
        nsid?.unwrap_or(false),
        cookie?.unwrap_or(false),
    );
    let edns = match edns_size? {
        Some(size) => size,
        None if dnssec_ok || nsid || cookie => Some(defaults::EDNS_SIZE),
        None => preset.edns_size(),
    };
    let names = names?;
    let probe = |name| Probe {
        name,
        record_type,
        class,
        recursion_desired: true,
        checking_disabled: false,
        dnssec_ok,
        edns,
        nsid,
        cookie,
        mixed_case: false,
        expected: Expectation::default(),
    };
    let mut first = probe(names.first()?.clone());
    first.recursion_desired = recursion_desired?.unwrap_or(preset != Preset::Authoritative);
    first.checking_disabled = checking_disabled?.unwrap_or(false);
    first.mixed_case = mixed_case?.unwrap_or(false);
    first.expected = expected?;
    judge(&keys, preset, &first, findings);
    let probes = names.into_iter().map(|name| Probe {
        name,
        ..first.clone()
    });
    Some(DnsCheck {
        probes: probes.collect(),
        require: require?.unwrap_or_default(),
        follows_truncation: false,
    })
}

/// `name`, or `names`.
fn names(keys: &Mapping<'_>, findings: &mut Findings) -> Option<Vec<Name>> {
    let name = |place: &Place<'_>, findings: &mut Findings| {
        reader::parsed::<Name>(place, "a domain name", findings)
    };
    if let (Some(_), Some(several)) = (keys.get("name"), keys.get("names")) {
        let message = "there is `name` too; write all of them here, and leave it out";
        findings.add(&several.origin(), message);
        return None;
    }
    let Some(several) = keys.get("names") else {
        if let Some(require) = keys.get("require") {
            let message = "is for several names; write `names`, or leave this out";
            findings.add(&require.origin(), message);
        }
        let right = "write a name that every real server answers, such as example.org";
        return Some(vec![keys.required("name", right, findings, name)?]);
    };
    let mut seen = Vec::new();
    reader::filled_list(
        several,
        "a list of domain names",
        findings,
        |place, findings| {
            let name = name(place, findings)?;
            if seen.contains(&name) {
                findings.add(
                    &place.origin(),
                    format!("`{name}` is already listed; list it once"),
                );
                return None;
            }
            seen.push(name.clone());
            Some(name)
        },
    )
}

/// The inner `None` is `none`.
fn edns_size(place: &Place<'_>, findings: &mut Findings) -> Option<Option<u16>> {
    if matches!(place.value(), Value::Text(text) if text == "none") {
        return Some(None);
    }
    let size = reader::integer(place, defaults::EDNS_SIZES, findings)?;
    Some(Some(u16::try_from(size).ok()?))
}

fn expectation(
    keys: &Mapping<'_>,
    preset: Preset,
    record_type: RecordType,
    findings: &mut Findings,
) -> Option<Expectation> {
    let response_codes = keys.optional("response_codes", findings, |place, findings| {
        let what = "a list of response codes, such as [NOERROR, NXDOMAIN]";
        reader::filled_list(place, what, findings, |place, findings| {
            reader::parsed::<ResponseCode>(place, "a response code, such as NOERROR", findings)
        })
    });
    let flags = keys.optional("flags", findings, |place, findings| {
        let what = "a list of flags, such as [aa]";
        reader::list(place, what, findings, |place, findings| {
            reader::parsed::<Flag>(place, "a flag: aa, ra or ad", findings)
        })
    });
    let records = keys.optional("records", findings, |place, findings| {
        records(place, record_type, findings)
    });
    let minimum_records = keys.optional("minimum_records", findings, |place, findings| {
        u16::try_from(reader::integer(place, 0..=1000, findings)?).ok()
    });
    let time_to_live = keys.optional("ttl", findings, time_to_live);
    let plain = Expectation::default();
    let expected = Expectation {
        response_codes: response_codes?.map_or(plain.response_codes, BTreeSet::from_iter),
        flags: flags?.map_or_else(|| preset.flags(), BTreeSet::from_iter),
        records: records?,
        minimum_records: minimum_records?.unwrap_or(plain.minimum_records),
        time_to_live: time_to_live?,
    };
    if let (Some(Records::Exact(data)), Some(minimum)) =
        (&expected.records, keys.get("minimum_records"))
        && data.len() < usize::from(expected.minimum_records)
    {
        let message = format!(
            "`records.exact` has {}, and no others pass; leave this out",
            data.len()
        );
        findings.add(&minimum.origin(), message);
    }
    Some(expected)
}

/// One of three ways to say what they are.
fn records(place: &Place<'_>, record_type: RecordType, findings: &mut Findings) -> Option<Records> {
    const WAYS: [&str; 3] = ["exact", "any_of", "pattern"];
    let keys = Mapping::of_known_keys(place, &WAYS, findings)?;
    let data = |place: &Place<'_>, findings: &mut Findings| {
        let what = "a list of what records say, such as [192.0.2.1]";
        let data = reader::filled_list(place, what, findings, |place, findings| {
            let text = reader::text(place, "what a record says, as dig shows it", findings)?;
            match RecordData::parse(record_type, text) {
                Ok(data) => Some(data),
                Err(error) => {
                    findings.add(&place.origin(), error.to_string());
                    None
                }
            }
        })?;
        Some(BTreeSet::from_iter(data))
    };
    match WAYS.map(|way| keys.get(way)) {
        [Some(exact), None, None] => Some(Records::Exact(data(exact, findings)?)),
        [None, Some(any_of), None] => Some(Records::AnyOf(data(any_of, findings)?)),
        [None, None, Some(pattern)] => Some(Records::Pattern(reader::parsed::<Pattern>(
            pattern,
            "a regular expression",
            findings,
        )?)),
        _ => {
            let message = "needs one of `exact`, `any_of` and `pattern`, such as { any_of: \
                           [192.0.2.1] }";
            findings.add(&place.origin(), message);
            None
        }
    }
}

/// In seconds.
fn time_to_live(place: &Place<'_>, findings: &mut Findings) -> Option<RangeInclusive<u32>> {
    let keys = Mapping::of_known_keys(place, &["from", "to"], findings)?;
    let bounds = Duration::ZERO..=Duration::from_secs(defaults::LONGEST_TIME_TO_LIVE.into());
    let bound = |place: &Place<'_>, findings: &mut Findings| -> Option<Located<u32>> {
        let time = reader::duration_in(place, bounds.clone(), findings)?;
        if time.subsec_nanos() != 0 {
            findings.add(&place.origin(), "must be whole seconds, such as 60s");
            return None;
        }
        Some(place.located(u32::try_from(time.as_secs()).ok()?))
    };
    let from = keys.optional("from", findings, bound)?;
    let to = keys.optional("to", findings, bound)?;
    let (Some(lowest), Some(highest)) = (&from, &to) else {
        if from.is_none() && to.is_none() {
            let message = "needs a bound, such as { from: 60s, to: 3600s }";
            findings.add(&place.origin(), message);
            return None;
        }
        let (lowest, highest) = (from.map(|it| it.value), to.map(|it| it.value));
        return Some(
            lowest.unwrap_or_default()..=highest.unwrap_or(defaults::LONGEST_TIME_TO_LIVE),
        );
    };
    if lowest.value > highest.value {
        let message = format!("is below `from`, {}s; exchange them", lowest.value);
        findings.add(&highest.origin, message);
        return None;
    }
    Some(lowest.value..=highest.value)
}

/// What no answer can fulfil, and what nothing comes of.
fn judge(keys: &Mapping<'_>, preset: Preset, probe: &Probe, findings: &mut Findings) {
    let origin = |key: &str| -> Origin {
        keys.get(key)
            .map_or_else(|| keys.origin().clone(), Place::origin)
    };
    let expected = &probe.expected;
    if preset == Preset::Recursive && !probe.recursion_desired {
        let message = "the preset `recursive` asks for recursion; leave out one of the two";
        findings.add(&origin("recursion_desired"), message);
    }
    if probe.class == Class::Chaos && probe.record_type != RecordType::Txt {
        let message = "class CH has only TXT records; leave this out";
        findings.add(&origin("type"), message);
    }
    if probe.edns.is_none() {
        for (key, _) in [
            ("dnssec_ok", probe.dnssec_ok),
            ("nsid", probe.nsid),
            ("cookie", probe.cookie),
        ]
        .iter()
        .filter(|(_, asked)| *asked)
        {
            let message = "travels in EDNS, which `edns_size: none` switches off; leave out one \
                           of the two";
            findings.add(&origin(key), message);
        }
    }
    if expected.flags.contains(&Flag::AuthenticData) {
        let why = if probe.checking_disabled {
            Some("`checking_disabled` asks a resolver not to look at signatures")
        } else if preset == Preset::Authoritative || !probe.recursion_desired {
            Some("only a resolver that is asked for recursion says it")
        } else {
            None
        };
        if let Some(why) = why {
            let message = format!("no answer has `ad`: {why}; leave out one of the two");
            findings.add(&origin("flags"), message);
        }
    }
    if !expected.response_codes.contains(&ResponseCode::NO_ERROR) {
        for key in ["records", "minimum_records", "ttl"] {
            if keys.get(key).is_some() {
                let message = "is looked at in answers with NOERROR only, which `response_codes` \
                               doesn't list; leave out one of the two";
                findings.add(&origin(key), message);
            }
        }
    }
    if probe.mixed_case && keys.get("name").is_some() && !probe.name.has_letters() {
        let message = format!("`{}` has no letters; leave this out", probe.name);
        findings.add(&origin("mixed_case"), message);
    }
}
