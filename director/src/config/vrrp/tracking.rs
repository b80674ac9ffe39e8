//! Reads what a virtual router tracks, and the hooks that are told of its transitions.

use std::collections::BTreeMap;
use std::num::NonZeroI16;
use std::path::PathBuf;

use lvs_configuration::document::Value;
use lvs_configuration::error::{Findings, Located, already};
use lvs_configuration::reader::{self, Mapping, Place};

use crate::config::defaults;
use crate::config::model::{Effect, Hook, HookState, TrackedFile, TrackedScript};

pub(super) const KEYS: [&str; 4] = ["interfaces", "scripts", "files", "services"];

/// What is tracked, each with its place.
pub(in crate::config) struct TrackDraft {
    pub(in crate::config) interfaces: Vec<Located<(String, Effect)>>,
    pub(in crate::config) scripts: Vec<Located<TrackedScript>>,
    pub(in crate::config) files: Vec<Located<TrackedFile>>,
    pub(in crate::config) services: Vec<Located<(String, Effect)>>,
}

impl TrackDraft {
    pub(super) fn read(place: &Place<'_>, findings: &mut Findings) -> Option<Self> {
        let keys = Mapping::of_known_keys(place, &KEYS, findings)?;
        let interfaces = keys.optional("interfaces", findings, |place, findings| {
            let what = "a list of interfaces, such as [eth1]";
            let read = |place: &Place<'_>, findings: &mut Findings| {
                named(place, reader::interface, findings)
            };
            different(place, what, findings, read, |(name, _)| name.clone())
        });
        let scripts = keys.optional("scripts", findings, |place, findings| {
            let what = "a list such as [{ name: upstream, command: [/usr/local/bin/check] }]";
            different(place, what, findings, script, |script| script.name.clone())
        });
        let files = keys.optional("files", findings, |place, findings| {
            let what = "a list such as [{ path: /run/lvs-director/bias }]";
            different(place, what, findings, file, |file| {
                file.path.display().to_string()
            })
        });
        let services = keys.optional("services", findings, |place, findings| {
            let what = "a list of services by name";
            let read =
                |place: &Place<'_>, findings: &mut Findings| named(place, reader::name, findings);
            different(place, what, findings, read, |(name, _)| name.clone())
        });
        Some(Self {
            interfaces: interfaces?.unwrap_or_default(),
            scripts: scripts?.unwrap_or_default(),
            files: files?.unwrap_or_default(),
            services: services?.unwrap_or_default(),
        })
    }
}

/// A list of things that differ in what `key` gives.
fn different<'n, T>(
    place: &Place<'n>,
    what: &str,
    findings: &mut Findings,
    mut read: impl FnMut(&Place<'n>, &mut Findings) -> Option<T>,
    key: impl Fn(&T) -> String,
) -> Option<Vec<Located<T>>> {
    let mut seen = BTreeMap::new();
    reader::filled_list(place, what, findings, |place, findings| {
        let item = place.located(read(place, findings)?);
        let key = key(&item.value);
        if let Some(line) = already(&mut seen, key.clone(), &item.origin) {
            let message = format!("`{key}` is already tracked in line {line}; list it once");
            findings.add(&item.origin, message);
            return None;
        }
        Some(item)
    })
}

/// A bare name, which means fault, or a mapping with a weight.
fn named<'n>(
    place: &Place<'n>,
    read: impl Fn(&Place<'n>, &mut Findings) -> Option<String>,
    findings: &mut Findings,
) -> Option<(String, Effect)> {
    if !matches!(place.value(), Value::Mapping(_)) {
        return Some((read(place, findings)?, Effect::Fault));
    }
    let keys = Mapping::of_known_keys(place, &["name", "weight"], findings)?;
    let name = keys.required("name", "write what is tracked", findings, read);
    let effect = effect(&keys, findings);
    Some((name?, effect?))
}

fn effect(keys: &Mapping<'_>, findings: &mut Findings) -> Option<Effect> {
    let weight = keys.optional("weight", findings, weight)?;
    Some(weight.map_or(Effect::Fault, Effect::Weight))
}

fn script(place: &Place<'_>, findings: &mut Findings) -> Option<TrackedScript> {
    let known = [
        "name", "command", "interval", "timeout", "rise", "fall", "weight",
    ];
    let keys = Mapping::of_known_keys(place, &known, findings)?;
    let right = "write a name for logs, metrics and commands";
    let name = keys.required("name", right, findings, reader::name);
    let right = "write the program and its arguments, such as [/usr/local/bin/check]";
    let command = keys.required("command", right, findings, reader::command);
    let interval = keys.optional("interval", findings, |place, findings| {
        reader::duration_in(place, defaults::SCRIPT_INTERVALS, findings)
    });
    let interval = interval.map(|interval| interval.unwrap_or(defaults::SCRIPT_INTERVAL));
    let timeout = keys.optional("timeout", findings, |place, findings| {
        reader::timeout(place, interval, findings)
    });
    let rise = keys.optional("rise", findings, reader::count);
    let fall = keys.optional("fall", findings, reader::count);
    let effect = effect(&keys, findings);
    let interval = interval?;
    Some(TrackedScript {
        name: name?,
        command: command?,
        interval,
        timeout: timeout?.unwrap_or(interval),
        rise: rise?.unwrap_or(defaults::SCRIPT_COUNT),
        fall: fall?.unwrap_or(defaults::SCRIPT_COUNT),
        effect: effect?,
    })
}

fn file(place: &Place<'_>, findings: &mut Findings) -> Option<TrackedFile> {
    let keys = Mapping::of_known_keys(place, &["path", "weight"], findings)?;
    let right = "write the file with its whole path";
    let path = keys.required("path", right, findings, |place, findings| {
        let text = reader::text(place, "an absolute path", findings)?;
        if text.starts_with('/') && !text.contains('\0') {
            return Some(PathBuf::from(text));
        }
        let message =
            format!("`{text}` is not an absolute path; write the file with its whole path");
        findings.add(&place.origin(), message);
        None
    });
    let weight = keys.optional("weight", findings, weight);
    Some(TrackedFile {
        path: path?,
        weight: weight?.unwrap_or(defaults::FILE_WEIGHT),
    })
}

pub(super) fn hooks(place: &Place<'_>, findings: &mut Findings) -> Option<Vec<Hook>> {
    let what = "a list such as [{ command: [/usr/local/bin/notify] }]";
    reader::filled_list(place, what, findings, hook)
}

fn hook(place: &Place<'_>, findings: &mut Findings) -> Option<Hook> {
    let keys = Mapping::of_known_keys(place, &["on", "command", "timeout"], findings)?;
    let on = keys.optional("on", findings, states);
    let right = "write the program and its first arguments, such as [/usr/local/bin/notify]";
    let command = keys.required("command", right, findings, reader::command);
    let timeout = keys.optional("timeout", findings, |place, findings| {
        reader::duration_in(place, defaults::HOOK_TIMEOUTS, findings)
    });
    Some(Hook {
        on: on?.unwrap_or_else(|| HookState::ALL.to_vec()),
        command: command?,
        timeout: timeout?.unwrap_or(defaults::HOOK_TIMEOUT),
    })
}

fn states(place: &Place<'_>, findings: &mut Findings) -> Option<Vec<HookState>> {
    let names = HookState::ALL.map(|state| state.to_string());
    let words: Vec<(&str, HookState)> = names
        .iter()
        .map(String::as_str)
        .zip(HookState::ALL)
        .collect();
    let mut seen = Vec::new();
    let what = "a list such as [active, fault]";
    reader::filled_list(place, what, findings, |place, findings| {
        let state = reader::word(place, &words, findings)?;
        if seen.contains(&state) {
            let message = format!("`{state}` is already listed; list it once");
            findings.add(&place.origin(), message);
            return None;
        }
        seen.push(state);
        Some(state)
    })
}

/// What is added to a priority: -253 to 253 without 0.
fn weight(place: &Place<'_>, findings: &mut Findings) -> Option<NonZeroI16> {
    let number = reader::integer(place, defaults::WEIGHTS, findings)?;
    let weight = NonZeroI16::new(i16::try_from(number).ok()?);
    if weight.is_none() {
        findings.add(
            &place.origin(),
            "0 changes nothing; must be a whole number from -253 to 253 other than 0",
        );
    }
    weight
}
