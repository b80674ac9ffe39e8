//! What a program changed on this machine, kept in a file where the program's death doesn't
//! reach it.
//!
//! A record belongs to one network namespace and one boot. Its file's name carries the namespace,
//! so that hosts that are only namespaces may share a directory; a file of an earlier boot says
//! nothing about this machine's state and counts as absent.
//!
//! A file that is no record counts as absent too, since a program that can't start or stop is worse
//! than one that has forgotten something. It is kept aside, and the program has to say so, with
//! what is lost by it ([`Record::damage`]).

use std::fmt;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::file::{self, Unreadable};

/// A value of type `T` in a JSON file; the default value is the file's absence.
#[derive(Debug)]
pub struct Record<T> {
    path: PathBuf,
    boot: String,
    contents: T,
    damage: Option<Damage>,
}

/// A file that is no record; its display says what became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// Where the file was found.
    pub path: PathBuf,
    /// Where it is kept now, for a person to read; the next damaged one takes its place.
    pub kept_as: PathBuf,
    /// What is wrong with it: the parser's words.
    pub reason: String,
}

/// The number of the calling thread's network namespace, by which what belongs to it is told from what
/// belongs to others on the same machine.
///
/// # Errors
/// What the system says of `/proc`.
pub fn namespace() -> io::Result<u64> {
    fs::metadata(NAMESPACE).map(|namespace| namespace.ino())
}

/// Why a record could not be read or kept.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} the record {}: {reason}", .path.display())]
pub struct Error {
    action: &'static str,
    path: PathBuf,
    reason: io::Error,
}

#[derive(Serialize, Deserialize)]
struct Stamped<T> {
    /// The kernel's `boot_id` (random(4)).
    boot: String,
    contents: T,
}

impl<T: Clone + Default + PartialEq + Serialize + DeserializeOwned> Record<T> {
    /// Reads the record `name` of the calling thread's network namespace from `directory`.
    ///
    /// Nothing is made or changed yet, but a file that isn't a record is renamed to `.damaged`.
    /// Its caller must be the only one that has the record open.
    pub fn open(directory: &Path, name: &str) -> Result<Self, Error> {
        let (mut record, fault) = Self::find(directory, name)?;
        if let Some(reason) = fault {
            let path = record.path.clone();
            let kept_as = file::set_aside(&path).map_err(error("set aside", &path))?;
            record.damage = Some(Damage {
                path,
                kept_as,
                reason,
            });
        }
        Ok(record)
    }

    /// What is recorded, for a look beside whoever has the record open; changes no file. One that
    /// isn't a record counts as absent.
    pub fn peek(directory: &Path, name: &str) -> Result<T, Error> {
        Ok(Self::find(directory, name)?.0.contents)
    }

    /// The record, and what is wrong with its file.
    fn find(directory: &Path, name: &str) -> Result<(Self, Option<String>), Error> {
        let boot = read_boot().map_err(error("read", Path::new(BOOT)))?;
        let namespace = namespace().map_err(error("read", Path::new(NAMESPACE)))?;
        let path = directory.join(format!("{name}-{namespace}.json"));
        let mut record = Self {
            path,
            boot,
            contents: T::default(),
            damage: None,
        };
        let mut fault = None;
        match file::read(&record.path, LARGEST) {
            Ok(None) => {}
            Ok(Some(bytes)) => match read(&bytes) {
                Ok((boot, contents)) if boot == record.boot => record.contents = contents,
                Ok(_) => {}
                Err(reason) => fault = Some(reason.to_string()),
            },
            Err(Unreadable::Damaged(reason)) => fault = Some(reason),
            Err(Unreadable::Refused(reason)) => return Err(error("read", &record.path)(reason)),
        }
        Ok((record, fault))
    }

    /// What [`Self::open`] found in the record's place and could not read.
    pub fn damage(&self) -> Option<&Damage> {
        self.damage.as_ref()
    }

    /// What is recorded.
    pub fn contents(&self) -> &T {
        &self.contents
    }

    /// Changes the value and the file together; when the file can't be written, neither changes.
    pub fn update(&mut self, change: impl FnOnce(&mut T)) -> Result<(), Error> {
        let mut contents = self.contents.clone();
        change(&mut contents);
        if contents == self.contents {
            return Ok(());
        }
        if contents == T::default() {
            self.remove().map_err(error("remove", &self.path))?;
        } else {
            write(&self.boot, &contents)
                .map_err(io::Error::from)
                .and_then(|text| file::replace(&self.path, &text))
                .map_err(error("write", &self.path))?;
        }
        self.contents = contents;
        Ok(())
    }

    fn remove(&self) -> io::Result<()> {
        match fs::remove_file(&self.path) {
            Err(reason) if reason.kind() != io::ErrorKind::NotFound => Err(reason),
            _ => Ok(()),
        }
    }
}

impl fmt::Display for Damage {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "{} was damaged ({}); it counts as absent and is kept as {}",
            self.path.display(),
            self.reason,
            self.kept_as.display()
        )
    }
}

fn error(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
    let path = path.to_owned();
    move |reason| Error {
        action,
        path,
        reason,
    }
}

/// What [`Record::open`] makes of a file's bytes, whatever boot they are from.
pub(crate) fn read<T: DeserializeOwned>(bytes: &[u8]) -> Result<(String, T), serde_json::Error> {
    let Stamped { boot, contents } = serde_json::from_slice(bytes)?;
    Ok((boot, contents))
}

/// The bytes of a file.
pub(crate) fn write<T: Serialize>(boot: &str, contents: &T) -> Result<Vec<u8>, serde_json::Error> {
    let boot = boot.to_owned();
    let mut text = serde_json::to_vec_pretty(&Stamped { boot, contents })?;
    text.push(b'\n');
    Ok(text)
}

fn read_boot() -> io::Result<String> {
    Ok(fs::read_to_string(BOOT)?.trim_end().to_owned())
}

/// In bytes: far more than any record takes.
const LARGEST: u64 = 64 * 1024 * 1024;

const BOOT: &str = "/proc/sys/kernel/random/boot_id";
const NAMESPACE: &str = "/proc/thread-self/ns/net";

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    type Names = Vec<String>;

    fn files(directory: &Path) -> usize {
        fs::read_dir(directory).unwrap().count()
    }

    #[test]
    fn survives_its_writer_and_leaves_no_file_when_empty() {
        let directory = tempfile::tempdir().unwrap();
        let directory = directory.path().join("made/when/needed");
        let mut record = Record::<Names>::open(&directory, "names").unwrap();
        assert!(record.contents().is_empty());
        record.update(|names| names.push("one".into())).unwrap();
        let mut again = Record::<Names>::open(&directory, "names").unwrap();
        assert_eq!(again.contents(), &["one"]);
        assert_eq!(Record::<Names>::peek(&directory, "names").unwrap(), ["one"]);
        assert_eq!(files(&directory), 1);
        again.update(Vec::clear).unwrap();
        assert_eq!(files(&directory), 0);
        let empty = Record::<Names>::open(&directory, "names").unwrap();
        assert!(empty.contents().is_empty());
    }

    #[test]
    fn another_boot_s_record_counts_as_absent() {
        let directory = tempfile::tempdir().unwrap();
        let mut record = Record::<Names>::open(directory.path(), "names").unwrap();
        record.boot = "an earlier one".into();
        record.update(|names| names.push("one".into())).unwrap();
        let record = Record::<Names>::open(directory.path(), "names").unwrap();
        assert!(record.contents().is_empty());
    }

    #[test]
    fn a_damaged_file_is_kept_aside_and_said_once() {
        let directory = tempfile::tempdir().unwrap();
        let open = || Record::<Names>::open(directory.path(), "names").unwrap();
        for damaged in [
            "",
            "{\"boot\"",
            "\u{0}\u{0}\u{0}",
            "{\"boot\": \"b\", \"contents\": 7}",
            "[]",
        ] {
            let mut record = open();
            record.update(|names| names.push("one".into())).unwrap();
            fs::write(&record.path, damaged).unwrap();
            let peeked = Record::<Names>::peek(directory.path(), "names").unwrap();
            assert!(peeked.is_empty());
            assert!(record.path.exists());
            let mut again = open();
            assert!(again.contents().is_empty());
            let damage = again.damage().unwrap().clone();
            assert_eq!(fs::read_to_string(&damage.kept_as).unwrap(), damaged);
            assert!(!damage.path.exists());
            for path in [&damage.path, &damage.kept_as] {
                let path = path.display().to_string();
                assert!(damage.to_string().contains(&path), "{damage}");
            }
            again.update(|names| names.push("two".into())).unwrap();
            let mut healed = open();
            assert_eq!(healed.damage(), None);
            assert_eq!(healed.contents(), &["two"]);
            healed.update(Vec::clear).unwrap();
        }
    }

    #[test]
    fn what_can_not_be_read_at_all_is_an_error_that_names_it() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("file");
        fs::write(&file, "no directory").unwrap();
        let error = Record::<Names>::open(&file, "names").unwrap_err();
        assert!(error.to_string().contains(&file.display().to_string()));
    }

    #[test]
    fn a_failed_write_changes_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("file");
        fs::write(&file, "in the way of the directory").unwrap();
        let mut record = Record::<Names>::open(&directory.path().join("other"), "names").unwrap();
        record.path = file.join("names.json");
        record.update(|names| names.push("one".into())).unwrap_err();
        assert!(record.contents().is_empty());
    }
}
