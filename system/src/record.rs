//! What a program changed on this machine, kept in a file where the program's death doesn't
//! reach it.
//!
//! A record belongs to one network namespace and one boot. Its file's name carries the namespace,
//! so that hosts that are only namespaces may share a directory; a file of an earlier boot says
//! nothing about this machine's state and counts as absent.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// A value of type `T` in a JSON file; the default value is the file's absence.
#[derive(Debug)]
pub struct Record<T> {
    path: PathBuf,
    boot: String,
    contents: T,
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
    /// Nothing is made or changed yet. A file that isn't a record is an error, since what it held
    /// may be needed to restore the machine.
    pub fn open(directory: &Path, name: &str) -> Result<Self, Error> {
        let boot = read_boot().map_err(error("read", Path::new(BOOT)))?;
        let namespace = fs::metadata(NAMESPACE).map_err(error("read", Path::new(NAMESPACE)))?;
        let path = directory.join(format!("{name}-{}.json", namespace.ino()));
        let contents = match fs::read(&path) {
            Ok(bytes) => serde_json::from_slice::<Stamped<T>>(&bytes)
                .map_err(|reason| error("read", &path)(reason.into()))
                .map(|stamped| (stamped.boot == boot).then_some(stamped.contents))?
                .unwrap_or_default(),
            Err(reason) if reason.kind() == io::ErrorKind::NotFound => T::default(),
            Err(reason) => return Err(error("read", &path)(reason)),
        };
        Ok(Self {
            path,
            boot,
            contents,
        })
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
            self.write(&contents).map_err(error("write", &self.path))?;
        }
        self.contents = contents;
        Ok(())
    }

    /// Writes a new file and renames it over the old one, so that a reader finds a whole one.
    fn write(&self, contents: &T) -> io::Result<()> {
        let stamped = Stamped {
            boot: self.boot.clone(),
            contents: contents.clone(),
        };
        let mut text = serde_json::to_vec_pretty(&stamped)?;
        text.push(b'\n');
        if let Some(directory) = self.path.parent() {
            fs::create_dir_all(directory)?;
        }
        let temporary = self.path.with_extension("json.new");
        let mut file = File::create(&temporary)?;
        file.write_all(&text)?;
        file.sync_all()?;
        fs::rename(&temporary, &self.path)
    }

    fn remove(&self) -> io::Result<()> {
        match fs::remove_file(&self.path) {
            Err(reason) if reason.kind() != io::ErrorKind::NotFound => Err(reason),
            _ => Ok(()),
        }
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

fn read_boot() -> io::Result<String> {
    Ok(fs::read_to_string(BOOT)?.trim_end().to_owned())
}

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
    fn a_damaged_file_is_an_error_that_names_it() {
        let directory = tempfile::tempdir().unwrap();
        let mut record = Record::<Names>::open(directory.path(), "names").unwrap();
        record.update(|names| names.push("one".into())).unwrap();
        fs::write(&record.path, "{\"boot\"").unwrap();
        let error = Record::<Names>::open(directory.path(), "names").unwrap_err();
        assert!(
            error
                .to_string()
                .contains(&record.path.display().to_string())
        );
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
