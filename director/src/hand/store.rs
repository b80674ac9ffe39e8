//! The file in the state directory.
//!
//! A file that can't be read isn't written over: it is kept aside, and said.

use std::io;
use std::path::Path;
use std::time::{Duration, SystemTime};

use lvs_system::file::{self, Unreadable};
use serde::{Deserialize, Serialize};

use super::{Entry, Hands, Place, State};
use crate::state_file::{self, StateFileError};

const FILE: &str = "hand.json";

/// In bytes: more than any operator says.
const LARGEST: u64 = 16 * 1024 * 1024;

/// What follows where it's damaged, and what to do.
const CONSEQUENCE: &str = "all servers count as enabled now, those that were drained or disabled too; read it, and \
                           see to these servers with `director drain`";

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Contents {
    /// Of this form.
    version: Version,
    servers: Vec<Line>,
}

#[derive(Serialize, Deserialize)]
enum Version {
    #[serde(rename = "1")]
    First,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    server: Place,
    state: State,
    /// Seconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    until: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

/// Reads what was said. A file that isn't understood is moved aside first; nothing is read then.
pub(super) fn load(directory: &Path) -> (Hands, Option<StateFileError>) {
    let path = directory.join(FILE);
    match read(&path) {
        Ok(hands) => (hands, None),
        Err(unreadable) => {
            let error = match unreadable {
                Unreadable::Refused(reason) => StateFileError::refused("read", &path, reason),
                Unreadable::Damaged(reason) => state_file::keep_aside(&path, reason, CONSEQUENCE),
            };
            (Hands::default(), Some(error))
        }
    }
}

/// What was said, for a look beside a director that may run; changes no file.
///
/// # Errors
/// In words for people.
pub fn peek(directory: &Path) -> Result<Hands, String> {
    let path = directory.join(FILE);
    read(&path).map_err(|error| format!("cannot read {}: {error}", path.display()))
}

fn read(path: &Path) -> Result<Hands, Unreadable> {
    match file::read(path, LARGEST)? {
        Some(bytes) => parse(&bytes).map_err(|error| Unreadable::Damaged(error.to_string())),
        None => Ok(Hands::default()),
    }
}

fn parse(bytes: &[u8]) -> Result<Hands, serde_json::Error> {
    let contents: Contents = serde_json::from_slice(bytes)?;
    let entry = |line: Line| {
        let until = |seconds| SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds));
        let entry = Entry {
            state: line.state,
            until: line.until.and_then(until),
            reason: line.reason,
        };
        (line.server, entry)
    };
    let entries = contents.servers.into_iter().map(entry);
    Ok(entries
        .filter(|(_, entry)| entry.state != State::Enabled)
        .collect())
}

/// Writes it anew.
pub(super) fn save(directory: &Path, hands: &Hands) -> Result<(), StateFileError> {
    let path = directory.join(FILE);
    let written = written(hands).and_then(|contents| file::replace(&path, &contents));
    written.map_err(|reason| StateFileError::refused("write", &path, reason))
}

fn written(hands: &Hands) -> io::Result<Vec<u8>> {
    let line = |(place, entry): (&Place, &Entry)| Line {
        server: place.clone(),
        state: entry.state,
        until: entry.until.map(|until| {
            let since = until.duration_since(SystemTime::UNIX_EPOCH);
            since.unwrap_or_default().as_secs()
        }),
        reason: entry.reason.clone(),
    };
    let contents = Contents {
        version: Version::First,
        servers: hands.iter().map(line).collect(),
    };
    let mut text = serde_json::to_vec_pretty(&contents)?;
    text.push(b'\n');
    Ok(text)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::fs;

    use super::*;

    fn hands() -> Hands {
        let entry = |text: &str, state, until: Option<u64>, reason: Option<&str>| {
            let entry = Entry {
                state,
                until: until.map(|until| SystemTime::UNIX_EPOCH + Duration::from_secs(until)),
                reason: reason.map(str::to_owned),
            };
            (text.parse().unwrap(), entry)
        };
        [
            entry(
                "a/192.0.2.1",
                State::Drained,
                Some(1_800_000_000),
                Some("a \"word\"\n"),
            ),
            entry("b/[2001:db8::1]:53", State::Disabled, None, None),
        ]
        .into_iter()
        .collect()
    }

    #[test]
    fn what_was_said_is_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let directory = folder.path().join("made");
        assert!(load(&directory).1.is_none(), "an absent file is no fault");
        for hands in [hands(), Hands::default(), hands()] {
            save(&directory, &hands).unwrap();
            let (read, error) = load(&directory);
            assert!(error.is_none());
            assert_eq!(read, hands);
            assert_eq!(peek(&directory).unwrap(), hands);
        }
        let files: Vec<_> = fs::read_dir(&directory).unwrap().collect();
        assert_eq!(files.len(), 1, "nothing else is left");
    }

    #[test]
    fn a_damaged_file_is_kept_and_said() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(FILE);
        save(folder.path(), &hands()).unwrap();
        let whole = fs::read(&path).unwrap();
        for damaged in [
            &whole[..whole.len() / 2],
            b"",
            b"{\"version\":\"2\",\"servers\":[]}",
            b"{\"version\":\"1\",\"servers\":[{\"server\":\"a\",\"state\":\"drained\"}]}",
        ] {
            fs::write(&path, damaged).unwrap();
            assert!(peek(folder.path()).is_err());
            let (hands, error) = load(folder.path());
            assert_eq!(hands, Hands::default());
            let said = error.unwrap().to_string();
            assert!(said.contains("hand.json is damaged (") && said.contains("hand.json.damaged"));
            assert_eq!(
                fs::read(folder.path().join("hand.json.damaged")).unwrap(),
                damaged
            );
            assert!(!path.exists());
        }
    }

    #[test]
    fn what_cannot_be_written_is_said() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        fs::write(&file, "").unwrap();
        let error = save(&file, &hands()).unwrap_err().to_string();
        assert!(
            error.starts_with("cannot write ") && error.contains("file/hand.json"),
            "{error}"
        );
    }
}
