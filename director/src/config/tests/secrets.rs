//! What is written under `authentication` and `also_accept`.

use lvs_proto::vrrp::{Password, hmac};
use std::fs;

use super::*;

const SECRET: &str = "s3cr3t";

/// Whatever is written under `authentication`, in whatever broken way, is never printed.
#[test]
fn secrets_are_never_printed() {
    let at = "d.yaml:6:21: vrrp[0].authentication";
    let known = "unknown key; known here: password, hmac";
    let missing = "write `password` for version 2, or `hmac` for version 3";
    let cases = [
        // A scalar, a list or nothing where a mapping should be.
        (
            "s3cr3t",
            vec![format!("{at}: must be a mapping, but is a text")],
        ),
        (
            "[s3cr3t]",
            vec![format!("{at}: must be a mapping, but is a list")],
        ),
        (
            "",
            vec!["d.yaml:6:19: vrrp[0].authentication: must be a mapping, but is empty".to_owned()],
        ),
        ("{}", vec![format!("{at}: {missing}")]),
        // Misspelt keys, which may be the password itself.
        (
            "{ pasword: s3cr3t }",
            vec![
                format!("{at}: {missing}"),
                format!("d.yaml:6:23: vrrp[0].authentication: {known}"),
            ],
        ),
        (
            "{ s3cr3t }",
            vec![
                format!("{at}: {missing}"),
                format!("d.yaml:6:23: vrrp[0].authentication: {known}"),
            ],
        ),
        (
            "{ password: { s3cr3t: s3cr3t } }",
            vec![
                "d.yaml:6:33: vrrp[0].authentication: must be a text of 1 to 8 bytes, but is a \
                 mapping"
                    .to_owned(),
            ],
        ),
        (
            "{ s3cr3t: { s3cr3t: s3cr3t } }",
            vec![
                format!("d.yaml:6:31: vrrp[0].authentication: {missing}"),
                format!("d.yaml:6:33: vrrp[0].authentication: {known}"),
            ],
        ),
        // Too long, empty, of another type, written twice.
        (
            "{ password: s3cr3ts3cr3t }",
            vec![
                "d.yaml:6:33: vrrp[0].authentication: must be a text of 1 to 8 bytes, but has 12 \
                 bytes"
                    .to_owned(),
            ],
        ),
        (
            "{ password: '' }",
            vec![
                "d.yaml:6:33: vrrp[0].authentication: must be a text of 1 to 8 bytes, but has 0 \
                 bytes"
                    .to_owned(),
            ],
        ),
        (
            "{ password: 12345678 }",
            vec![
                "d.yaml:6:33: vrrp[0].authentication: must be a text of 1 to 8 bytes, but is a \
                 number; write it in quotes"
                    .to_owned(),
            ],
        ),
        (
            "{ password: s3cr3t, password: s3cr3t }",
            vec![
                "d.yaml:6:41: vrrp[0].authentication: is written twice, first in line 6; keep one"
                    .to_owned(),
            ],
        ),
        // Where a version or a node has no use for it.
        (
            "{ password: s3cr3t }\n    version: 3",
            vec![format!(
                "{at}: a password is version 2's; write `hmac`, leave it out, or set version: 2"
            )],
        ),
        (
            "{ s3cr3t: { password: s3cr3t } }",
            vec![
                format!("{at}: has no value for node `ds1`"),
                format!("{at}: has no value for node `ds2`"),
            ],
        ),
        // Not YAML.
        (
            "{ password: @s3cr3t }",
            vec!["d.yaml:6:33: not valid YAML: unexpected character".into()],
        ),
        (
            "{ password: *s3cr3t }",
            vec!["d.yaml:6:33: not valid YAML: alias references unknown anchor".into()],
        ),
        (
            "{ password: \"s3cr3t\\q\" }",
            vec![
                "d.yaml:6:33: not valid YAML: while parsing a quoted scalar, found unknown escape \
                 character"
                    .into(),
            ],
        ),
        (
            "{ password: s3cr3t",
            vec!["d.yaml:7:12: not valid YAML: while parsing a flow mapping, did not find expected ',' or '}'".to_owned()],
        ),
        (
            "{ password: !!int s3cr3t }",
            vec!["d.yaml:6:39: not valid YAML: invalid u64".to_owned()],
        ),
    ];
    for (authentication, expected) in cases {
        let version = if authentication.contains("version") {
            ""
        } else {
            "    version: 2\n"
        };
        let text = changed(
            "    advert_interval: 100ms\n",
            &format!("    authentication: {authentication}\n{version}"),
        );
        let found = errors(&text);
        assert!(!found.concat().contains(SECRET), "printed: {found:?}");
        assert!(!found.concat().contains("12345678"), "printed: {found:?}");
        assert_eq!(found, expected, "{authentication}");
    }
    let text = changed(
        "    advert_interval: 100ms\n",
        "    authentication: { password: s3cr3t }\n    version: 2\n",
    );
    let found = configuration(&text, "ds1");
    let misplaced = errors("vrrp: [{ password:s3cr3t }, { password: s3cr3t }]").concat();
    assert!(
        misplaced.contains("unknown key") && !misplaced.contains(SECRET),
        "{misplaced}"
    );
    assert!(!format!("{found:?}").contains(SECRET));
    let password = Some(Password::new(SECRET).unwrap());
    assert_eq!(found.instances[0].version, VersionSettings::V2 { password });
}

const KEY: &str = "s3cr3ts3cr3ts3cr3ts3cr3ts3cr3ts3cr3t";

/// Nor what is written under `hmac` and `also_accept`.
#[test]
fn secrets_of_keys_and_of_peers_are_never_printed() {
    let at =
        |place: &str, key: &str, message: &str| format!("d.yaml:{place}: vrrp[0].{key}: {message}");
    let hmac = |place, message| at(place, "authentication", message);
    let also = |place, message| at(place, "also_accept", message);
    let forms = "must be a text: \"hex:…\", \"file:/…\", or a key of 32 to 64 bytes";
    let cases = [
        (
            "authentication: { hmac: { send: 1, keys: { 1: s3cr3t } } }",
            vec![hmac(
                "6:51",
                &format!("a key has 32 to 64 bytes, this one has 6; {forms}"),
            )],
        ),
        (
            "authentication: { hmac: { send: 1, keys: { 1: 'hex:s3cr3t' } } }",
            vec![hmac(
                "6:51",
                &format!("what follows \"hex:\" must be pairs of hexadecimal digits; {forms}"),
            )],
        ),
        (
            "authentication: { hmac: { send: 1, keys: { 1: 'file:s3cr3t' } } }",
            vec![hmac(
                "6:51",
                "what follows \"file:\" must be an absolute path, such as file:/etc/lvs-director/key",
            )],
        ),
        (
            "authentication: { hmac: { send: 1, keys: { s3cr3t: s3cr3t } } }",
            vec![
                hmac(
                    "6:48",
                    "must be a whole number from 1 to 255, but is a text",
                ),
                hmac(
                    "6:56",
                    &format!("a key has 32 to 64 bytes, this one has 6; {forms}"),
                ),
            ],
        ),
        (
            "authentication: { hmac: { send: 1, keys: { 1: KEY, 1: KEY } } }",
            vec!["d.yaml:6:89: a key is written twice; keep one".to_owned()],
        ),
        (
            "authentication: { hmac: { send: 12345678, keys: [KEY] } }",
            vec![
                hmac(
                    "6:37",
                    "is out of range; must be a whole number from 1 to 255",
                ),
                hmac(
                    "6:53",
                    "must be numbers from 1 to 255 with a key each, such as { 1: \
                     \"file:/etc/lvs-director/key\" }, but is a list",
                ),
            ],
        ),
        (
            "authentication: { hmac: { send: 2, keys: { 1: KEY } } }",
            vec![hmac(
                "6:37",
                "`send` is the number of none of the `keys`; write that of one",
            )],
        ),
        (
            "authentication: { hmac: { send: 1, keys: { 1: KEY }, mode: s3cr3t, window: s3cr3t } }",
            vec![
                hmac(
                    "6:97",
                    "is not known; must be one of enforce, permissive, receive-only",
                ),
                hmac(
                    "6:113",
                    "is not a time; must be a whole number with its unit, such as 500ms or 2s",
                ),
            ],
        ),
        (
            "authentication: { hmac: { send: 1, keys: { 1: KEY }, window: 12345678 } }",
            vec![hmac(
                "6:99",
                "has no unit; must be a whole number with its unit, such as 500ms or 2s",
            )],
        ),
        (
            "authentication: { hmac: { send: 1, keys: { 1: KEY }, window: 500ms } }",
            vec![hmac("6:99", "is out of range; must be from 1s to 300s")],
        ),
        (
            "authentication: { hmac: { send: 1, keys: { 1: KEY }, window: 1500ms } }",
            vec![hmac("6:99", "must be whole seconds")],
        ),
        (
            "authentication: { hmac: { send: 1, keys: { 1: KEY } }, password: s3cr3t }",
            vec![hmac(
                "6:21",
                "has both; `password` is version 2's, `hmac` version 3's",
            )],
        ),
        (
            "also_accept: s3cr3t",
            vec![also("6:18", "must be a mapping, but is a text")],
        ),
        (
            "also_accept: { s3cr3t }",
            vec![
                also(
                    "6:18",
                    "says nothing; write `version`, `password` or both, or leave it out",
                ),
                also("6:20", "unknown key; known here: version, password"),
            ],
        ),
        (
            "also_accept: { version: s3cr3t, password: s3cr3ts3cr3t }",
            vec![
                also("6:29", "must be a whole number from 2 to 3, but is a text"),
                also("6:47", "must be a text of 1 to 8 bytes, but has 12 bytes"),
            ],
        ),
        (
            "also_accept: { version: 12345678 }",
            vec![also(
                "6:29",
                "is out of range; must be a whole number from 2 to 3",
            )],
        ),
        (
            "also_accept: { s3cr3t: { version: 2 } }",
            vec![
                also("6:18", "has no value for node `ds1`"),
                also("6:18", "has no value for node `ds2`"),
            ],
        ),
    ];
    for (lines, expected) in cases {
        let lines = lines.replace("KEY", KEY);
        let found = errors(&with(&lines));
        assert!(!found.concat().contains(SECRET), "printed: {found:?}");
        assert!(!found.concat().contains("12345678"), "printed: {found:?}");
        assert_eq!(found, expected, "{lines}");
    }
    let text = with(&format!(
        "authentication: {{ hmac: {{ send: 1, keys: {{ 1: {KEY} }} }} }}\nalso_accept: {{ version: 2, \
         password: s3cr3t }}"
    ));
    assert!(!format!("{:?}", configuration(&text, "ds1")).contains(SECRET));
}

#[test]
fn keys_of_adverts_are_read() {
    let instance = |mode: &str| {
        let text = with(&format!(
            "advert_interval: 2s\nauthentication: {{ hmac: {{ {mode}send: 7, keys: {{ 7: {KEY}, 255: \
             'hex:{}' }} }} }}",
            "5a".repeat(64)
        ));
        configuration(&text, "ds1").instances.remove(0)
    };
    let hmac = |mode| match instance(mode).version {
        VersionSettings::V3 {
            hmac: Some(hmac), ..
        } => hmac,
        other => panic!("{other:?}"),
    };
    let found = hmac("");
    assert_eq!(found.mode(), hmac::Mode::Enforce);
    let (id, key) = found.signing_key().unwrap();
    assert_eq!((id.get(), key.secret()), (7, KEY.as_bytes()));
    assert_eq!(found.window().as_secs(), 6, "three intervals");
    assert_eq!(hmac("window: 9s, ").window().as_secs(), 9);
    assert_eq!(hmac("mode: permissive, ").mode(), hmac::Mode::Permissive);
    assert_eq!(hmac("mode: receive-only, ").mode(), hmac::Mode::ReceiveOnly);
}

/// By the daemon, not by `director check`.
#[test]
fn key_files_are_read_for_a_node() {
    let key_in = |content: &[u8]| {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), content).unwrap();
        let path = file.path().display().to_string();
        let text = with(&format!(
            "authentication: {{ hmac: {{ send: 1, keys: {{ 1: 'file:{path}' }} }} }}"
        ));
        let file = parsed(&text).unwrap_or_else(|errors| panic!("{errors}"));
        file.outline("ds1").unwrap();
        let settings = file
            .for_node("ds1")
            .map(|mut found| found.instances.remove(0).version);
        settings
            .map(|version| match version {
                VersionSettings::V3 {
                    hmac: Some(hmac), ..
                } => hmac.signing_key().unwrap().1.secret().to_vec(),
                other => panic!("{other:?}"),
            })
            .map_err(|errors| errors.to_string().replace(&path, "FILE"))
    };
    let hexadecimal = format!("hex:{}\n", "00ff".repeat(16));
    assert_eq!(key_in(hexadecimal.as_bytes()).unwrap(), [0, 255].repeat(16));
    for end in ["", "\n", "\r\n"] {
        assert_eq!(
            key_in(format!("{KEY}{end}").as_bytes()).unwrap(),
            KEY.as_bytes()
        );
    }
    let wrong = |message: &str| {
        Err(format!(
            "d.yaml:6:51: vrrp[0].authentication: the key file FILE {message}"
        ))
    };
    assert_eq!(
        key_in(b"s3cr3t\n"),
        wrong("holds no key: a key has 32 to 64 bytes, this one has 6")
    );
    assert_eq!(
        key_in(b"hex:s3cr3t"),
        wrong("holds no key: what follows \"hex:\" must be pairs of hexadecimal digits")
    );
    assert_eq!(
        key_in(&[0xff; 32]),
        wrong("is not text; write \"hex:\" and the key's hexadecimal digits into it")
    );
    assert_eq!(
        key_in(&[b'x'; 100_000]),
        wrong("holds no key: a key has 32 to 64 bytes, this one has 1024")
    );
    let text = with("authentication: { hmac: { send: 1, keys: { 1: 'file:/nonexistent/key' } } }");
    let errors = parsed(&text)
        .unwrap_or_else(|e| panic!("{e}"))
        .for_node("ds1")
        .unwrap_err();
    assert_eq!(
        errors.to_string(),
        "d.yaml:6:51: vrrp[0].authentication: the key file /nonexistent/key cannot be read: No such \
         file or directory (os error 2)"
    );
}
