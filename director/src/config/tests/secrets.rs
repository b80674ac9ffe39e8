//! What is written under `authentication` and `also_accept`.

use lvs_proto::vrrp::Password;

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
