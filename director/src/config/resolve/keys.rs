//! Keys that stand in files of their own.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use lvs_configuration::error::{Findings, Located};
use lvs_proto::vrrp::hmac::{KEY_LENGTH, Key};

use crate::config::vrrp::KeyDraft;

/// Bytes of a key file, at most: more than any key in any form has.
pub(in crate::config) const MAXIMUM_KEY_FILE_SIZE: u64 = 1024;

/// What becomes of keys that stand in files of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::config) enum Keys {
    /// They are read.
    Read,
    /// The machine isn't looked at: zeros stand in for them.
    LeaveAlone,
}

impl Keys {
    pub(super) fn of(self, draft: &Located<KeyDraft>, findings: &mut Findings) -> Option<Key> {
        let key = match (&draft.value, self) {
            (KeyDraft::Written(key), _) => return Some(key.clone()),
            (KeyDraft::File(path), Self::Read) => read(path),
            (KeyDraft::File(_), Self::LeaveAlone) => {
                Key::new([0; *KEY_LENGTH.start()]).map_err(|error| error.to_string())
            }
        };
        key.map_err(|message| findings.add(&draft.origin, message))
            .ok()
    }
}

/// One key as text, in the forms that the configuration has too but for `file:`; a line end behind
/// it doesn't count. Nothing of the file is ever quoted.
fn read(path: &Path) -> Result<Key, String> {
    let about = |what: String| format!("the key file {} {what}", path.display());
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(MAXIMUM_KEY_FILE_SIZE).read_to_end(&mut bytes))
        .map_err(|error| about(format!("cannot be read: {error}")))?;
    let text = str::from_utf8(&bytes).map_err(|_| {
        about("is not text; write \"hex:\" and the key's hexadecimal digits into it".to_owned())
    })?;
    let text = text.strip_suffix('\n').unwrap_or(text);
    let text = text.strip_suffix('\r').unwrap_or(text);
    text.parse()
        .map_err(|error| about(format!("holds no key: {error}")))
}
