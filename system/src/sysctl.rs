//! Kernel settings under `/proc/sys`, and a journal that puts them back.
//!
//! Names are written as sysctl(8) writes them: `net.ipv4.conf.all.arp_ignore`, with a dot that
//! belongs to an interface's name turned into a slash (`net.ipv4.conf.eth0/100.arp_ignore`).

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::record::{self, Damage, Record};

/// Why a setting could not be read, written or recorded.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The name has an empty part, or one that would lead out of `/proc/sys/net`.
    #[error("{name} is not the name of a sysctl of the network")]
    Name {
        /// The name given.
        name: String,
    },
    /// The kernel doesn't have the setting, or refused to show it.
    #[error("cannot read {name}: {reason}")]
    Read {
        /// The setting.
        name: String,
        /// The kernel's answer.
        reason: io::Error,
    },
    /// The kernel refused the value.
    #[error("cannot set {name} to {value}: {reason}")]
    Write {
        /// The setting.
        name: String,
        /// The value.
        value: String,
        /// The kernel's answer.
        reason: io::Error,
    },
    /// The setting's value is no number where one was expected.
    #[error("{name} is {value:?}, which is not a number")]
    NotANumber {
        /// The setting.
        name: String,
        /// Its value.
        value: String,
    },
    /// The journal's file could not be read or written.
    #[error(transparent)]
    Record(#[from] record::Error),
}

impl Error {
    /// Whether the setting doesn't exist, as after its interface has gone.
    pub fn is_absence(&self) -> bool {
        matches!(self, Self::Read { reason, .. } | Self::Write { reason, .. }
            if reason.kind() == io::ErrorKind::NotFound)
    }
}

/// Remembers the values found before the first change, in a file that outlives the process.
///
/// A recorded value is never overwritten, however often a setting is written, until it has been
/// restored.
#[derive(Debug)]
pub struct Journal {
    root: PathBuf,
    originals: Record<BTreeMap<String, String>>,
}

/// One change made by [`Journal::set`], enough to take it back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The setting.
    pub name: String,
    /// Its value before the change.
    pub found: String,
    /// Whether that value was recorded by this change, or an earlier one before it.
    pub newly_recorded: bool,
}

impl Journal {
    /// Opens the journal in `directory`, such as `/run/rs-agent`, which is made when needed.
    pub fn open(directory: &Path) -> Result<Self, Error> {
        Ok(Self {
            root: ROOT.into(),
            originals: Record::open(directory, RECORD)?,
        })
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// What was found in the record's place and could not be read, and with it the values that
    /// would have been restored.
    pub fn damage(&self) -> Option<&Damage> {
        self.originals.damage()
    }

    /// The recorded values, by name.
    pub fn originals(&self) -> &BTreeMap<String, String> {
        self.originals.contents()
    }

    /// Records the value found, unless one is recorded already, then writes `value`.
    ///
    /// `None` when the setting has this value: nothing is recorded or written then.
    pub fn set(&mut self, name: &str, value: &str) -> Result<Option<Change>, Error> {
        let found = read_below(&self.root, name)?;
        if found == value {
            return Ok(None);
        }
        let newly_recorded = !self.originals().contains_key(name);
        if newly_recorded {
            self.originals
                .update(|originals| _ = originals.insert(name.into(), found.clone()))?;
        }
        let change = Change {
            name: name.into(),
            found,
            newly_recorded,
        };
        if let Err(error) = write_below(&self.root, name, value) {
            self.forget_again(&change)?;
            return Err(error);
        }
        Ok(Some(change))
    }

    /// Takes one change back: the value before it is written, and the record is as before it.
    pub fn undo(&mut self, change: &Change) -> Result<(), Error> {
        write_below(&self.root, &change.name, &change.found)?;
        self.forget_again(change)
    }

    /// Writes all recorded values back and forgets them.
    ///
    /// One that fails doesn't keep the others from being restored; it stays recorded, and its
    /// error is returned. A setting that is gone, with its interface, needs no restoring.
    pub fn restore(&mut self) -> Result<(), Error> {
        let mut result = Ok(());
        let names: Vec<String> = self.originals().keys().cloned().collect();
        for name in names {
            let restored = self.put_back(&name);
            result = result.and(restored);
        }
        result
    }

    /// Writes the recorded value of one setting back, if there is one, and forgets it.
    ///
    /// It stays recorded when that fails; a setting that is gone needs no restoring.
    pub fn put_back(&mut self, name: &str) -> Result<(), Error> {
        let Some(value) = self.originals().get(name) else {
            return Ok(());
        };
        match write_below(&self.root, name, value) {
            Err(error) if error.is_absence() => {}
            other => other?,
        }
        self.forget(name)
    }

    /// Forgets the recorded value of one setting, which stays as it is.
    pub fn forget(&mut self, name: &str) -> Result<(), Error> {
        let forget = |originals: &mut BTreeMap<String, String>| _ = originals.remove(name);
        Ok(self.originals.update(forget)?)
    }

    fn forget_again(&mut self, change: &Change) -> Result<(), Error> {
        if change.newly_recorded {
            self.forget(&change.name)?;
        }
        Ok(())
    }
}

/// The present value of a setting.
pub fn read(name: &str) -> Result<String, Error> {
    read_below(Path::new(ROOT), name)
}

/// What a journal in `directory` has recorded, for a look beside its owner.
pub fn recorded(directory: &Path) -> Result<BTreeMap<String, String>, Error> {
    Ok(Record::peek(directory, RECORD)?)
}

/// The journal's name.
const RECORD: &str = "sysctls";

/// An interface's name as a part of a setting's name, `eth0.100` to `eth0/100`, and back.
pub fn part(name: &str) -> String {
    name.chars()
        .map(|character| match character {
            '.' => '/',
            '/' => '.',
            other => other,
        })
        .collect()
}

/// Where the kernel shows its settings.
pub(crate) const ROOT: &str = "/proc/sys";

/// The names below a folder of settings, sorted, in the form that fits into a setting's name:
/// `net.ipv4.conf` has `all`, `default` and every interface.
pub(crate) fn children_below(root: &Path, name: &str) -> Result<Vec<String>, Error> {
    let read = |reason| Error::Read {
        name: name.into(),
        reason,
    };
    let mut names = Vec::new();
    for entry in fs::read_dir(path(root, name)?).map_err(read)? {
        let entry = entry.map_err(read)?;
        names.extend(entry.file_name().to_str().map(part));
    }
    names.sort();
    Ok(names)
}

/// Reads a setting that is a whole number.
pub(crate) fn read_number_below(root: &Path, name: &str) -> Result<i32, Error> {
    let value = read_below(root, name)?;
    value.parse().map_err(|_| Error::NotANumber {
        name: name.into(),
        value,
    })
}

/// Reads a setting, without the line's end.
pub(crate) fn read_below(root: &Path, name: &str) -> Result<String, Error> {
    match fs::read_to_string(path(root, name)?) {
        Ok(text) => Ok(text.trim_end_matches('\n').to_owned()),
        Err(reason) => Err(Error::Read {
            name: name.into(),
            reason,
        }),
    }
}

fn write_below(root: &Path, name: &str, value: &str) -> Result<(), Error> {
    // Opened without O_CREAT: a missing setting is an error, never a new file.
    fs::OpenOptions::new()
        .write(true)
        .open(path(root, name)?)
        .and_then(|mut file| io::Write::write_all(&mut file, value.as_bytes()))
        .map_err(|reason| Error::Write {
            name: name.into(),
            value: value.into(),
            reason,
        })
}

fn path(root: &Path, name: &str) -> Result<PathBuf, Error> {
    let parts: Vec<String> = name.split('.').map(part).collect();
    let escapes =
        |part: &String| part.is_empty() || part.contains('/') || part == "." || part == "..";
    // What a journal says is its service's word, and root acts on it, too.
    if parts[0] != "net" || parts.iter().any(escapes) {
        return Err(Error::Name { name: name.into() });
    }
    Ok(parts
        .iter()
        .fold(root.to_owned(), |path, part| path.join(part)))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
pub(crate) mod tests {
    use super::*;

    const IGNORE: &str = "net.ipv4.conf.all.arp_ignore";
    const ANNOUNCE: &str = "net.ipv4.conf.eth0/100.arp_announce";

    /// A folder that stands for `/proc/sys`, and one for the record.
    pub(crate) struct Fixture {
        folder: tempfile::TempDir,
    }

    impl Fixture {
        pub(crate) fn new() -> Self {
            let fixture = Self {
                folder: tempfile::tempdir().unwrap(),
            };
            for (folder, file) in [("all", "arp_ignore"), ("eth0.100", "arp_announce")] {
                let folder = fixture.root().join("net/ipv4/conf").join(folder);
                fs::create_dir_all(&folder).unwrap();
                fs::write(folder.join(file), "7\n").unwrap();
            }
            fixture
        }

        fn root(&self) -> PathBuf {
            self.folder.path().join("sys")
        }

        pub(crate) fn journal(&self) -> Journal {
            Journal {
                root: self.root(),
                ..Journal::open(&self.folder.path().join("record")).unwrap()
            }
        }

        pub(crate) fn value(&self, name: &str) -> String {
            read_below(&self.root(), name).unwrap()
        }

        pub(crate) fn write(&self, name: &str, value: &str) {
            let path = path(&self.root(), name).unwrap();
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, format!("{value}\n")).unwrap();
        }
    }

    #[test]
    fn names_become_paths_as_sysctl_8_has_it() {
        let root = Path::new("/proc/sys");
        let path = |name| path(root, name);
        assert_eq!(
            path(ANNOUNCE).unwrap(),
            Path::new("/proc/sys/net/ipv4/conf/eth0.100/arp_announce")
        );
        for name in [
            "",
            "net..ipv4",
            "net.//.ipv4",
            "net./.ipv4",
            ".net",
            "kernel.core_pattern",
        ] {
            assert!(matches!(path(name), Err(Error::Name { .. })), "{name}");
        }
    }

    #[test]
    fn the_first_value_found_is_the_one_restored() {
        let fixture = Fixture::new();
        fixture.journal().set(IGNORE, "1").unwrap().unwrap();
        fixture.write(IGNORE, "0");
        fixture.journal().set(IGNORE, "1").unwrap().unwrap();
        assert_eq!(fixture.journal().set(IGNORE, "1").unwrap(), None);
        fixture.journal().set(ANNOUNCE, "2").unwrap().unwrap();
        fixture.journal().restore().unwrap();
        assert_eq!(fixture.value(IGNORE), "7");
        assert_eq!(fixture.value(ANNOUNCE), "7");
        assert!(fixture.journal().originals().is_empty());
        fixture.write(IGNORE, "3");
        fixture.journal().restore().unwrap();
        assert_eq!(fixture.value(IGNORE), "3");
    }

    #[test]
    fn a_value_that_is_there_already_is_not_recorded() {
        let fixture = Fixture::new();
        assert_eq!(fixture.journal().set(IGNORE, "7").unwrap(), None);
        assert!(fixture.journal().originals().is_empty());
    }

    #[test]
    fn undo_goes_back_one_change_only() {
        let fixture = Fixture::new();
        let mut journal = fixture.journal();
        let first = journal.set(IGNORE, "1").unwrap().unwrap();
        fixture.write(IGNORE, "0");
        let second = journal.set(IGNORE, "1").unwrap().unwrap();
        journal.undo(&second).unwrap();
        assert_eq!(fixture.value(IGNORE), "0");
        assert_eq!(journal.originals()[IGNORE], "7");
        journal.undo(&first).unwrap();
        assert_eq!(fixture.value(IGNORE), "7");
        assert!(fixture.journal().originals().is_empty());
    }

    #[test]
    fn a_setting_that_is_gone_is_forgotten_and_the_rest_restored() {
        let fixture = Fixture::new();
        let mut journal = fixture.journal();
        journal.set(IGNORE, "1").unwrap();
        journal.set(ANNOUNCE, "2").unwrap();
        fs::remove_file(path(&fixture.root(), ANNOUNCE).unwrap()).unwrap();
        journal.restore().unwrap();
        assert_eq!(fixture.value(IGNORE), "7");
        assert!(journal.originals().is_empty());
    }

    #[test]
    fn a_failed_restore_stays_recorded_and_stops_no_other() {
        let fixture = Fixture::new();
        let mut journal = fixture.journal();
        journal.set(IGNORE, "1").unwrap();
        journal.set(ANNOUNCE, "2").unwrap();
        let blocked = path(&fixture.root(), IGNORE).unwrap();
        fs::remove_file(&blocked).unwrap();
        fs::create_dir(&blocked).unwrap();
        assert!(matches!(journal.restore(), Err(Error::Write { .. })));
        assert_eq!(fixture.value(ANNOUNCE), "7");
        let left: Vec<_> = fixture.journal().originals().keys().cloned().collect();
        assert_eq!(left, [IGNORE]);
    }

    /// A service's user can write the journal; root restores from it.
    #[test]
    fn nothing_but_the_network_s_settings_is_restored() {
        let fixture = Fixture::new();
        let pattern = fixture.root().join("kernel/core_pattern");
        fs::create_dir_all(pattern.parent().unwrap()).unwrap();
        fs::write(&pattern, "core\n").unwrap();
        let mut journal = fixture.journal();
        let plant = |originals: &mut BTreeMap<String, String>| {
            originals.insert("kernel.core_pattern".into(), "|/tmp/program".into());
        };
        journal.originals.update(plant).unwrap();
        assert!(matches!(journal.restore(), Err(Error::Name { .. })));
        assert_eq!(fs::read_to_string(&pattern).unwrap(), "core\n");
    }

    #[test]
    fn reads_the_kernel() {
        let root = Path::new(ROOT);
        let interfaces = children_below(root, "net.ipv4.conf").unwrap();
        assert!(interfaces.contains(&"lo".into()));
        let value = read_below(root, IGNORE).unwrap();
        assert!(value.parse::<i32>().is_ok());
        let error = read_below(root, "net.ipv4.conf.all.none").unwrap_err();
        assert!(error.is_absence());
        assert!(error.to_string().contains("net.ipv4.conf.all.none"));
    }
}
