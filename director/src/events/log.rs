//! The last events, in memory.

use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use std::{io, thread};

use time::OffsetDateTime;
use tracing::{error, info};

use super::kept::{CAPACITY, Kept};
use super::store::{self, Disk, Store};
use super::{Event, Kind, Occurrence, Severity, word};

/// What goes on is recorded again after this time.
const KNOWN: Duration = Duration::from_secs(3600);

/// What happened last, for all who record or read it; clones share it.
#[derive(Clone, Debug, Default)]
pub struct Events(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    log: Mutex<Log>,
    /// Something was recorded or written, or it's the end.
    news: Condvar,
}

#[derive(Debug, Default)]
struct Log {
    events: Kept,
    newest: u64,
    /// The newest that needn't be written any more.
    written: u64,
    is_closing: bool,
}

impl Events {
    /// What earlier runs have recorded in the state directory, and what their supervisor has left word of
    /// in the runtime directory. A thread writes down what is recorded from now on.
    ///
    /// # Errors
    /// When there is no thread.
    pub fn open(state_directory: &Path, runtime_directory: &Path) -> io::Result<Self> {
        let (store, found) = Store::open(state_directory);
        let events = Self::default();
        events.log().restore(found.events);
        if let Some(damage) = found.damage {
            error!("{damage}");
            let text = damage.to_string();
            events.record(Occurrence::new(
                Kind::EventsDamaged,
                Severity::Warning,
                text,
            ));
        }
        if let Some((time, occurrence)) = word::take(runtime_directory) {
            events.record_at(occurrence, time);
        } else if let Some(last) = events.last_sign_of_life() {
            let text = format!(
                "the run before ended without a word, after {}: the machine went down, or everything was \
                 killed at once",
                store::text_of(last)
            );
            events.record(Occurrence::new(Kind::Crashed, Severity::Error, text));
        }
        let shared = Arc::clone(&events.0);
        thread::Builder::new()
            .name("events".to_owned())
            .spawn(move || shared.write_down(store))?;
        Ok(events)
    }

    /// Records that something has happened now.
    pub fn record(&self, occurrence: Occurrence) {
        self.record_at(occurrence, OffsetDateTime::now_utc());
    }

    /// The same, unless just that was recorded within the last hour and isn't over since: for what may go
    /// on and on.
    pub fn record_unless_known(&self, occurrence: Occurrence) {
        let now = OffsetDateTime::now_utc();
        let is_same = |event: &Event| {
            event.kind == occurrence.kind
                && event.subject == occurrence.subject
                && event.text == occurrence.text
        };
        let is_end = |event: &Event| {
            occurrence.kind.end() == Some(event.kind)
                && event.subject == occurrence.subject
                && event.details == occurrence.details
        };
        let known = {
            let log = self.log();
            let recent = log.events.iter().rev();
            let mut recent = recent.take_while(|event| now - event.time < KNOWN && !is_end(event));
            recent.any(is_same)
        };
        if !known {
            self.record_at(occurrence, now);
        }
    }

    /// The last `last` of those with a number above `after`, oldest first. A number that was never
    /// given is of another log: then `after` counts for nothing.
    pub fn read(&self, last: Option<usize>, after: Option<u64>) -> Vec<Event> {
        let log = self.log();
        let after = after.filter(|after| *after <= log.newest).unwrap_or(0);
        log.events.after(after, last.unwrap_or(CAPACITY))
    }

    /// Waits until all is written down, but no longer than `patience`.
    pub fn close(&self, patience: Duration) {
        let mut log = self.log();
        log.is_closing = true;
        self.0.news.notify_all();
        let waits = |log: &mut Log| log.written < log.newest;
        // The disk's matter if it takes longer.
        drop(self.0.news.wait_timeout_while(log, patience, waits));
    }

    fn record_at(&self, occurrence: Occurrence, time: OffsetDateTime) {
        let mut log = self.log();
        log.newest += 1;
        let event = occurrence.at(log.newest, time);
        log.events.push(event);
        self.0.news.notify_all();
    }

    /// When the last run was last heard of, if nothing says that it ended.
    fn last_sign_of_life(&self) -> Option<OffsetDateTime> {
        let log = self.log();
        let mut newest_first = log.events.iter().rev();
        let end = newest_first
            .find(|event| matches!(event.kind, Kind::Started | Kind::Stopped | Kind::Crashed))?;
        (end.kind == Kind::Started).then(|| log.events.newest().map(|event| event.time))?
    }

    fn log(&self) -> MutexGuard<'_, Log> {
        self.0.log()
    }
}

impl Log {
    fn restore(&mut self, events: Vec<Event>) {
        self.newest = events.last().map_or(0, |event| event.number);
        self.written = self.newest;
        self.events.extend(events);
    }
}

impl Shared {
    /// Writes until it's the end. What can't be written is tried again with what comes next.
    fn write_down(&self, mut disk: impl Disk) {
        let mut has_failed = false;
        loop {
            let log = self.log();
            let idle = |log: &mut Log| log.written == log.newest && !log.is_closing;
            let log = self
                .news
                .wait_while(log, idle)
                .unwrap_or_else(PoisonError::into_inner);
            if log.written == log.newest {
                return;
            }
            let newest = log.newest;
            let new = log.events.after(log.written, CAPACITY);
            // Who records waits for this: all of them are many.
            let all = disk
                .has_to_rewrite(new.len())
                .then(|| log.events.after(0, CAPACITY));
            drop(log);
            let written = match all {
                Some(all) => disk.rewrite(&all),
                None => disk.append(&new),
            };
            match &written {
                Ok(()) if has_failed => info!("events are written down again"),
                Err(error) if !has_failed => {
                    error!("{error}; a restart forgets what happens meanwhile");
                }
                _ => {}
            }
            has_failed = written.is_err();
            let mut log = self.log();
            if written.is_ok() || log.is_closing {
                log.written = newest;
            } else {
                let unchanged = |log: &mut Log| log.newest == newest && !log.is_closing;
                drop(self.news.wait_while(log, unchanged));
                continue;
            }
            drop(log);
            self.news.notify_all();
        }
    }

    fn log(&self) -> MutexGuard<'_, Log> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::mpsc;
    use std::time::Instant;

    use super::*;
    use crate::state_file::StateFileError;

    const PATIENCE: Duration = Duration::from_secs(5);

    fn numbers(events: &[Event]) -> Vec<u64> {
        events.iter().map(|event| event.number).collect()
    }

    fn record(events: &Events, kind: Kind, text: &str) {
        events.record(Occurrence::new(kind, Severity::Info, text));
    }

    fn texts(events: &Events) -> Vec<(Kind, String)> {
        let all = events.read(None, None);
        all.into_iter()
            .map(|event| (event.kind, event.text))
            .collect()
    }

    #[test]
    fn the_last_are_kept_and_told_after_a_number() {
        let events = Events::default();
        assert!(events.read(None, None).is_empty());
        for number in 1..=CAPACITY + 5 {
            record(&events, Kind::RoleChanged, &number.to_string());
        }
        let all = events.read(None, None);
        assert_eq!(numbers(&all), (6..=1005).collect::<Vec<u64>>());
        assert!(
            all.iter()
                .all(|event| event.text == event.number.to_string())
        );
        for (last, after, expected) in [
            (Some(2), None, &[1004, 1005][..]),
            (None, Some(1003), &[1004, 1005]),
            (Some(1), Some(1003), &[1005]),
            (Some(5), Some(1004), &[1005]),
            (None, Some(1005), &[]),
            (Some(0), None, &[]),
            // Of a director that has forgotten more than this one knows.
            (Some(1), Some(2000), &[1005]),
        ] {
            assert_eq!(numbers(&events.read(last, after)), expected);
        }
    }

    #[test]
    fn the_next_run_goes_on_where_this_one_ended() {
        let folder = tempfile::tempdir().unwrap();
        let open = || Events::open(folder.path(), folder.path()).unwrap();
        let events = open();
        record(&events, Kind::Started, "first");
        for number in 0..2 * CAPACITY {
            record(&events, Kind::RoleChanged, &number.to_string());
        }
        record(&events, Kind::Stopped, "first");
        events.close(PATIENCE);
        let before = events.read(None, None);
        let events = open();
        assert_eq!(events.read(None, None), before);
        record(&events, Kind::Started, "second");
        let newest = events.read(Some(1), None);
        assert_eq!(numbers(&newest), [2 * CAPACITY as u64 + 3]);
        events.close(PATIENCE);
    }

    #[test]
    fn a_run_that_ends_without_a_word_is_noticed_by_the_next() {
        let folder = tempfile::tempdir().unwrap();
        let open = || Events::open(folder.path(), folder.path()).unwrap();
        let events = open();
        assert!(texts(&events).is_empty(), "the first of all");
        record(&events, Kind::Started, "");
        record(&events, Kind::RoleChanged, "");
        events.close(PATIENCE);
        let events = open();
        let (kind, text) = texts(&events).pop().unwrap();
        assert_eq!(kind, Kind::Crashed);
        assert!(
            text.starts_with("the run before ended without a word, after 20"),
            "{text}"
        );
        events.close(PATIENCE);
        assert_eq!(texts(&open()).len(), 3, "it is said once");
    }

    #[test]
    fn a_word_of_the_supervisor_is_recorded_with_the_time_of_the_death() {
        let [state, runtime] = [(); 2].map(|()| tempfile::tempdir().unwrap());
        let open = || Events::open(state.path(), runtime.path()).unwrap();
        let events = open();
        record(&events, Kind::Started, "");
        events.close(PATIENCE);
        let died = OffsetDateTime::now_utc() - Duration::from_secs(60);
        word::leave(runtime.path(), died, "SIGSEGV ended it").unwrap();
        let events = open();
        let event = events.read(Some(1), None).pop().unwrap();
        assert_eq!(
            (event.kind, event.text.as_str()),
            (Kind::Crashed, "SIGSEGV ended it")
        );
        let lost = died - event.time;
        assert!(
            lost < Duration::from_millis(1) && lost >= Duration::ZERO,
            "{lost}"
        );
        events.close(PATIENCE);
        assert_eq!(open().read(None, None).len(), 2, "it is taken once");
    }

    #[test]
    fn what_comes_back_after_it_was_over_is_recorded_again() {
        let conflict = |kind, machine: &str| {
            Occurrence::new(kind, Severity::Error, format!("{kind:?} {machine}"))
                .of("dns")
                .with("hardware_address", machine)
        };
        let events = Events::default();
        for (kind, machine) in [
            (Kind::AddressConflict, "a"),
            (Kind::AddressConflict, "b"),
            (Kind::AddressConflict, "a"),
            (Kind::AddressConflictOver, "a"),
            (Kind::AddressConflict, "b"),
            (Kind::AddressConflict, "a"),
            (Kind::AddressConflict, "a"),
        ] {
            let occurrence = conflict(kind, machine);
            match kind {
                Kind::AddressConflict => events.record_unless_known(occurrence),
                _ => events.record(occurrence),
            }
        }
        let said: Vec<String> = texts(&events).into_iter().map(|(_, text)| text).collect();
        let [begins, over] = ["AddressConflict", "AddressConflictOver"];
        let expected = [(begins, "a"), (begins, "b"), (over, "a"), (begins, "a")];
        assert_eq!(
            said,
            expected.map(|(kind, machine)| format!("{kind} {machine}"))
        );
    }

    /// It takes nothing until it's let go, and then tells each time what is on it.
    struct Stuck {
        go: mpsc::Receiver<()>,
        contents: Vec<u64>,
        told: mpsc::Sender<Vec<u64>>,
    }

    impl Disk for Stuck {
        fn has_to_rewrite(&self, new: usize) -> bool {
            new == CAPACITY
        }

        fn append(&mut self, new: &[Event]) -> Result<(), StateFileError> {
            let _ = self.go.recv();
            self.contents.extend(numbers(new));
            self.told.send(self.contents.clone()).unwrap();
            Ok(())
        }

        fn rewrite(&mut self, all: &[Event]) -> Result<(), StateFileError> {
            self.contents.clear();
            self.append(all)
        }
    }

    #[test]
    fn a_disk_that_is_stuck_holds_up_nobody() {
        let events = Events::default();
        let (release, go) = mpsc::channel();
        let (told, contents) = mpsc::channel();
        let shared = Arc::clone(&events.0);
        let stuck = Stuck {
            go,
            contents: Vec::new(),
            told,
        };
        let writer = thread::spawn(move || shared.write_down(stuck));
        let start = Instant::now();
        for number in 0..3 * CAPACITY {
            record(&events, Kind::RoleChanged, &number.to_string());
        }
        let patience = Duration::from_millis(50);
        events.close(patience);
        assert!(start.elapsed() >= patience, "nothing was written");
        assert!(start.elapsed() < PATIENCE);
        let kept = numbers(&events.read(None, None));
        assert_eq!(kept.len(), CAPACITY);
        drop(release);
        writer.join().unwrap();
        let on_disk = contents.iter().last().unwrap();
        assert!(on_disk.ends_with(&kept), "all that are kept, in the end");
    }
}
