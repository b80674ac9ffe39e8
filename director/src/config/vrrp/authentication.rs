//! Reads what adverts prove themselves by, and what a peer may still send. Nothing here is ever
//! quoted.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use lvs_configuration::error::{Findings, Located};
use lvs_configuration::reader::{self, Mapping, Place};
use lvs_proto::vrrp::hmac::{Key, KeyId, Mode, WINDOW};
use lvs_proto::vrrp::{Password, Version};

pub(super) const KEYS: [&str; 2] = ["password", "hmac"];
pub(super) const ALSO_ACCEPT_KEYS: [&str; 2] = ["version", "password"];

/// What adverts prove themselves by.
pub(in crate::config) enum Credentials {
    Password(Password),
    Hmac(HmacDraft),
}

/// Keys that have yet to be read, where they stand in files of their own.
pub(in crate::config) struct HmacDraft {
    pub(in crate::config) mode: Option<Mode>,
    pub(in crate::config) send: KeyId,
    pub(in crate::config) keys: BTreeMap<KeyId, Located<KeyDraft>>,
    pub(in crate::config) window: Option<Duration>,
}

/// A key, or where it is.
pub(in crate::config) enum KeyDraft {
    Written(Key),
    File(PathBuf),
}

/// What a peer may still send.
pub(in crate::config) struct AlsoAcceptDraft {
    pub(in crate::config) version: Option<Located<Version>>,
    pub(in crate::config) password: Option<Located<Password>>,
}

pub(super) fn credentials(place: &Place<'_>, findings: &mut Findings) -> Option<Credentials> {
    let keys = Mapping::of_known_keys(place, &KEYS, findings)?;
    let password = keys.optional("password", findings, password);
    let hmac = keys.optional("hmac", findings, hmac);
    let message = match (password?, hmac?) {
        (Some(password), None) => return Some(Credentials::Password(password)),
        (None, Some(hmac)) => return Some(Credentials::Hmac(hmac)),
        (None, None) => "write `password` for version 2, or `hmac` for version 3",
        (Some(_), Some(_)) => "has both; `password` is version 2's, `hmac` version 3's",
    };
    findings.add(&place.origin(), message);
    None
}

fn password(place: &Place<'_>, findings: &mut Findings) -> Option<Password> {
    let text = reader::text(place, "a text of 1 to 8 bytes", findings)?;
    let password = Password::new(text).ok().filter(|_| !text.is_empty());
    if password.is_none() {
        let bytes = text.len();
        let message = format!("must be a text of 1 to 8 bytes, but has {bytes} bytes");
        findings.add(&place.origin(), message);
    }
    password
}

fn hmac(place: &Place<'_>, findings: &mut Findings) -> Option<HmacDraft> {
    let known = ["mode", "send", "keys", "window"];
    let keys = Mapping::of_known_keys(place, &known, findings)?;
    let mode = keys.optional("mode", findings, |place, findings| {
        let words = [
            ("enforce", Mode::Enforce),
            ("permissive", Mode::Permissive),
            ("receive-only", Mode::ReceiveOnly),
        ];
        reader::word(place, &words, findings)
    });
    let right = "write the number of the key to send with";
    let send = keys.required("send", right, findings, |place, findings| {
        let number = reader::integer(place, 1..=255, findings)?;
        Some(place.located(KeyId::new(u8::try_from(number).ok()?)?))
    });
    let what =
        "numbers from 1 to 255 with a key each, such as { 1: \"file:/etc/lvs-director/key\" }";
    let right = format!("write {what}");
    let own_keys = keys.required("keys", &right, findings, |place, findings| {
        reader::numbered(place, 1..=255, what, findings, |place, findings| {
            Some(place.located(key(place, findings)?))
        })
    });
    let window = keys.optional("window", findings, |place, findings| {
        let window = reader::duration_in(place, WINDOW, findings)?;
        if window.subsec_nanos() != 0 {
            findings.add(&place.origin(), "must be whole seconds");
            return None;
        }
        Some(window)
    });
    let (mode, send, window) = (mode?, send?, window?);
    let keys: BTreeMap<KeyId, Located<KeyDraft>> = own_keys?
        .into_iter()
        .filter_map(|(number, key)| Some((KeyId::new(number)?, key)))
        .collect();
    if !keys.contains_key(&send.value) {
        let message = "`send` is the number of none of the `keys`; write that of one";
        findings.add(&send.origin, message);
        return None;
    }
    Some(HmacDraft {
        mode,
        send: send.value,
        keys,
        window,
    })
}

fn key(place: &Place<'_>, findings: &mut Findings) -> Option<KeyDraft> {
    const WHAT: &str = "a text: \"hex:…\", \"file:/…\", or a key of 32 to 64 bytes";
    let text = reader::text(place, WHAT, findings)?;
    if let Some(path) = text.strip_prefix("file:") {
        if path.starts_with('/') {
            return Some(KeyDraft::File(PathBuf::from(path)));
        }
        let message = "what follows \"file:\" must be an absolute path, such as \
                       file:/etc/lvs-director/key";
        findings.add(&place.origin(), message);
        return None;
    }
    match text.parse() {
        Ok(key) => Some(KeyDraft::Written(key)),
        Err(error) => {
            findings.add(&place.origin(), format!("{error}; must be {WHAT}"));
            None
        }
    }
}

pub(super) fn also_accept(place: &Place<'_>, findings: &mut Findings) -> Option<AlsoAcceptDraft> {
    let keys = Mapping::of_known_keys(place, &ALSO_ACCEPT_KEYS, findings)?;
    let version = keys.optional("version", findings, |place, findings| {
        Some(place.located(version(place, findings)?))
    });
    let password = keys.optional("password", findings, |place, findings| {
        Some(place.located(password(place, findings)?))
    });
    let (version, password) = (version?, password?);
    if version.is_none() && password.is_none() {
        let message = "says nothing; write `version`, `password` or both, or leave it out";
        findings.add(&place.origin(), message);
        return None;
    }
    Some(AlsoAcceptDraft { version, password })
}

pub(super) fn version(place: &Place<'_>, findings: &mut Findings) -> Option<Version> {
    Some(match reader::integer(place, 2..=3, findings)? {
        2 => Version::V2,
        _ => Version::V3,
    })
}
