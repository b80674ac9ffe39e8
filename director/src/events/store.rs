//! The file in the state directory: an event a line, as JSON.
//!
//! Lines are added one after the other, and the file is written anew when it has twice as many as are
//! kept. A line that was cut off by a crash is dropped; any other damage keeps the whole file aside.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use lvs_system::file::{self, Unreadable};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::Event;
use super::kept::{CAPACITY, Kept};
use crate::state_file::{self, StateFileError};

/// Its name.
pub(super) const FILE: &str = "events.jsonl";

/// In bytes: far more than two thousand events take.
const LARGEST: u64 = 64 * 1024 * 1024;

/// What follows where it's damaged.
const CONSEQUENCE: &str = "events of it that can't be read are not shown";

/// What was in the file.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// Oldest first, with growing numbers.
    pub(super) events: Vec<Event>,
    /// What is wrong with the rest.
    pub(super) damage: Option<StateFileError>,
}

/// The file.
#[derive(Debug)]
pub(super) struct Store {
    directory: PathBuf,
    /// In the file; `None` if it has to be written anew.
    lines: Option<usize>,
}

impl Store {
    /// Reads the file. One that isn't understood is moved aside.
    pub(super) fn open(directory: &Path) -> (Self, Found) {
        let mut store = Self {
            directory: directory.to_owned(),
            lines: None,
        };
        let path = store.path();
        let contents = match read(&path) {
            Ok(contents) => contents,
            Err(reason) => {
                let damage = Some(StateFileError::refused("read", &path, reason));
                let events = Vec::new();
                return (store, Found { events, damage });
            }
        };
        let Contents {
            events,
            is_whole,
            damage,
        } = contents;
        if is_whole && damage.is_none() {
            store.lines = Some(events.len());
        }
        let damage = damage.map(|reason| state_file::keep_aside(&path, reason, CONSEQUENCE));
        (store, Found { events, damage })
    }

    fn note(&mut self, written: io::Result<usize>) -> Result<(), StateFileError> {
        self.lines = written.as_ref().ok().copied();
        let refused = |reason| StateFileError::refused("write", &self.path(), reason);
        written.map(|_| ()).map_err(refused)
    }

    fn path(&self) -> PathBuf {
        self.directory.join(FILE)
    }
}

/// Where events are written down.
pub(super) trait Disk {
    /// Whether `new` ones can't be added, and all have to be written.
    fn has_to_rewrite(&self, new: usize) -> bool;

    /// Adds them.
    fn append(&mut self, new: &[Event]) -> Result<(), StateFileError>;

    /// Has these instead of all others.
    fn rewrite(&mut self, all: &[Event]) -> Result<(), StateFileError>;
}

impl Disk for Store {
    fn has_to_rewrite(&self, new: usize) -> bool {
        self.lines.is_none_or(|lines| lines + new > 2 * CAPACITY)
    }

    fn append(&mut self, new: &[Event]) -> Result<(), StateFileError> {
        let append = || {
            // A file that somebody has removed has to be written anew, with all.
            let mut file = file::append(&self.path())?;
            file.write_all(&lines(new)?)?;
            file.sync_data()
        };
        let written = append().map(|()| self.lines.unwrap_or_default() + new.len());
        self.note(written)
    }

    fn rewrite(&mut self, all: &[Event]) -> Result<(), StateFileError> {
        let written = lines(all).and_then(|lines| file::replace(&self.path(), &lines));
        self.note(written.map(|()| all.len()))
    }
}

/// What was recorded, for a look beside a director that may run; changes no file.
///
/// # Errors
/// When the file can't be read.
pub(super) fn peek(directory: &Path) -> Result<Vec<Event>, StateFileError> {
    let path = directory.join(FILE);
    let contents = read(&path).map_err(|reason| StateFileError::refused("read", &path, reason))?;
    Ok(contents.events)
}

/// As RFC 3339 has it.
pub(super) fn text_of(time: OffsetDateTime) -> String {
    time.format(&Rfc3339).unwrap_or_else(|_| time.to_string())
}

#[derive(Default)]
pub(super) struct Contents {
    pub(super) events: Vec<Event>,
    /// Ends with the end of a line.
    is_whole: bool,
    damage: Option<String>,
}

fn read(path: &Path) -> io::Result<Contents> {
    match file::read(path, LARGEST) {
        Ok(None) => Ok(Contents::default()),
        Ok(Some(bytes)) => Ok(parse(&bytes)),
        Err(Unreadable::Refused(reason)) => Err(reason),
        Err(Unreadable::Damaged(damage)) => Ok(Contents {
            damage: Some(damage),
            ..Contents::default()
        }),
    }
}

/// What is kept of what can be read.
pub(super) fn parse(bytes: &[u8]) -> Contents {
    let (whole, cut_off) = match bytes.iter().rposition(|byte| *byte == b'\n') {
        Some(end) => bytes.split_at(end + 1),
        None => (&[][..], bytes),
    };
    let mut events = Kept::default();
    let mut damage = None;
    let lines = whole.split_inclusive(|byte| *byte == b'\n');
    for (number, line) in (1..).zip(lines) {
        let last = events.newest().map_or(0, |event| event.number);
        match serde_json::from_slice::<Event>(line) {
            Ok(event) if event.number > last => events.push(event),
            Ok(_) => {
                damage.get_or_insert_with(|| format!("line {number} is out of order"));
            }
            Err(error) => {
                damage.get_or_insert_with(|| format!("line {number}: {error}"));
            }
        }
    }
    Contents {
        events: events.into(),
        is_whole: cut_off.is_empty(),
        damage,
    }
}

pub(super) fn lines(events: &[Event]) -> io::Result<Vec<u8>> {
    let mut lines = Vec::new();
    for event in events {
        serde_json::to_writer(&mut lines, event)?;
        lines.push(b'\n');
    }
    Ok(lines)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::fs;

    use super::super::{Kind, Occurrence, Severity};
    use super::*;

    fn event(number: u64) -> Event {
        let occurrence = Occurrence::new(Kind::RoleChanged, Severity::Info, "a \"text\"\n");
        occurrence.at(number, OffsetDateTime::UNIX_EPOCH)
    }

    fn write(store: &mut Store, kept: &[Event], new: usize) -> Result<(), StateFileError> {
        if store.has_to_rewrite(kept.len() - new) {
            store.rewrite(kept)
        } else {
            store.append(&kept[new..])
        }
    }

    fn opened(directory: &Path) -> (Store, Vec<Event>) {
        let (store, found) = Store::open(directory);
        assert!(found.damage.is_none(), "{:?}", found.damage);
        (store, found.events)
    }

    #[test]
    fn a_file_stays_small_and_has_the_last() {
        let folder = tempfile::tempdir().unwrap();
        let directory = folder.path().join("made");
        let (mut store, found) = opened(&directory);
        assert!(found.is_empty());
        let all: Vec<Event> = (1..=3 * CAPACITY as u64).map(event).collect();
        for newest in (100..=all.len()).step_by(100) {
            let kept = &all[newest.saturating_sub(CAPACITY)..newest];
            write(&mut store, kept, kept.len() - 100).unwrap();
            let lines = fs::read_to_string(directory.join(FILE)).unwrap();
            assert!(lines.lines().count() <= 2 * CAPACITY);
            assert_eq!(opened(&directory).1, kept);
            assert_eq!(peek(&directory).unwrap(), kept);
        }
        fs::remove_file(directory.join(FILE)).unwrap();
        let kept = &all[..CAPACITY];
        assert!(write(&mut store, kept, CAPACITY - 1).is_err());
        write(&mut store, kept, CAPACITY - 1).unwrap();
        assert_eq!(opened(&directory).1, kept);
    }

    #[test]
    fn a_line_that_was_cut_off_is_dropped() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(FILE);
        let whole = lines(&[event(1), event(2)]).unwrap();
        for length in 0..whole.len() {
            fs::write(&path, &whole[..length]).unwrap();
            let (mut store, found) = opened(folder.path());
            assert!(found.len() < 2);
            let next = [found, vec![event(7)]].concat();
            write(&mut store, &next, next.len() - 1).unwrap();
            assert_eq!(opened(folder.path()).1, next);
        }
    }

    #[test]
    fn a_damaged_file_is_kept_and_what_can_be_read_is_known() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(FILE);
        let good = lines(&[event(1), event(2)]).unwrap();
        for damage in [&b"\x00\xff\n"[..], b"\n", b"{}\n", &good] {
            let damaged = [&good[..], damage, &lines(&[event(9)]).unwrap()].concat();
            fs::write(&path, &damaged).unwrap();
            let (mut store, found) = Store::open(folder.path());
            assert_eq!(found.events, [1, 2, 9].map(event));
            let said = found.damage.unwrap().to_string();
            assert!(said.contains("events.jsonl is damaged (line 3"), "{said}");
            assert_eq!(
                fs::read(folder.path().join("events.jsonl.damaged")).unwrap(),
                damaged
            );
            let next = [1, 2, 9, 10].map(event);
            write(&mut store, &next, 3).unwrap();
            assert_eq!(opened(folder.path()).1, next);
        }
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join(FILE)).unwrap();
        let said = Store::open(folder.path()).1.damage.unwrap().to_string();
        assert!(said.contains("it is no file"), "{said}");
    }
}
