//! What else decides over an instance: interfaces, scripts, files and services that it tracks.
//!
//! `score` says what the conditions of all these do to an instance's priority; `script` and `file`
//! find out how scripts and files are, and the links monitor and the engine tell of interfaces and
//! services. The [`Tracker`] brings them together. Owned by [`crate::worker`], on the main thread.
//!
//! Where nothing is known yet: an interface that nobody has said to be up is down; a service and a
//! file do nothing; a script counts as well, except that one whose failing is a fault keeps an
//! instance that has just started in fault until its first verdict. One that is added to an
//! instance at work takes nothing away before it has a verdict.

mod file;
mod score;
mod script;

use std::collections::{BTreeSet, HashMap, HashSet};
use std::io;
use std::path::PathBuf;

use lvs_proto::vrrp::Priority;
use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};
use tracing::{info, warn};

use crate::config::{Instance, Track};
use crate::events::{Events, Kind as EventKind, Occurrence, Severity};
use file::{Content, Files};
use score::Score;
pub use score::{Condition, Kind, Tracked};
use script::{Runner, Script};

/// An instance with what it tracks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subject {
    /// The instance's name.
    pub instance: String,
    /// Its configured priority.
    pub priority: Priority,
    /// What it tracks.
    pub track: Track,
}

impl From<&Instance> for Subject {
    fn from(instance: &Instance) -> Self {
        Self {
            instance: instance.name.clone(),
            priority: instance.priority,
            track: instance.track.clone(),
        }
    }
}

/// What all that an instance tracks does to it now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// The instance's name.
    pub instance: String,
    /// The effective priority: 1 to 254, or 255 for an owner.
    pub priority: Priority,
    /// What keeps it in fault, as words for people.
    pub fault: Option<String>,
}

/// What runners find out.
#[derive(Debug)]
enum News {
    Script {
        script: Script,
        condition: Condition,
    },
    File {
        path: PathBuf,
        content: Content,
    },
}

/// Knows how everything is that any instance tracks.
pub struct Tracker {
    watched: Vec<Watched>,
    scripts: HashMap<Script, RunningScript>,
    interfaces_up: HashSet<String>,
    services: HashMap<String, bool>,
    contents: HashMap<PathBuf, Content>,
    files: Files,
    /// Something has changed since the scores were looked at.
    stale: bool,
    news: UnboundedSender<News>,
    inbox: UnboundedReceiver<News>,
    events: Events,
}

struct Watched {
    subject: Subject,
    /// What was told last.
    told: Option<Score>,
    /// It is told again, even if it is the same: a virtual router that was opened anew by a reload
    /// has heard nothing yet.
    repeat: bool,
    /// It was without fault since it started.
    has_been_well: bool,
}

struct RunningScript {
    condition: Condition,
    _runner: Runner,
}

impl Tracker {
    /// Starts the runners for these instances. Within a tokio runtime only.
    ///
    /// # Errors
    /// When the thread that reads files can't start.
    pub fn start(subjects: Vec<Subject>, events: Events) -> io::Result<Self> {
        let (news, inbox) = mpsc::unbounded_channel();
        let mut tracker = Self {
            watched: Vec::new(),
            scripts: HashMap::new(),
            interfaces_up: HashSet::new(),
            services: HashMap::new(),
            contents: HashMap::new(),
            files: Files::start(news.clone())?,
            stale: false,
            news,
            inbox,
            events,
        };
        tracker.configure(subjects);
        Ok(tracker)
    }

    /// Goes on with these instances. What stays the same keeps its state; a script that has only
    /// been changed keeps its condition until its first verdict in the new form.
    pub fn configure(&mut self, subjects: Vec<Subject>) {
        let mut previous = std::mem::take(&mut self.watched);
        let mut watch = |subject: Subject| {
            let known = previous
                .iter()
                .position(|watched| watched.subject.instance == subject.instance);
            match known.map(|index| previous.swap_remove(index)) {
                Some(watched) => Watched {
                    subject,
                    repeat: true,
                    ..watched
                },
                None => Watched {
                    subject,
                    told: None,
                    repeat: false,
                    has_been_well: false,
                },
            }
        };
        self.watched = subjects.into_iter().map(&mut watch).collect();
        self.arrange_scripts();
        self.arrange_files();
        self.stale = true;
    }

    /// An interface has got or lost its carrier, or has gone, under its name too. Interfaces that
    /// nobody tracks may be told of as well, and should be: one may be tracked later.
    pub fn interface_changed(&mut self, name: &str, up: bool) {
        self.stale |= if up {
            self.interfaces_up.insert(name.to_owned())
        } else {
            self.interfaces_up.remove(name)
        };
    }

    /// A service has or hasn't got its quorum.
    pub fn service_changed(&mut self, name: &str, has_quorum: bool) {
        let before = self.services.insert(name.to_owned(), has_quorum);
        self.stale |= before != Some(has_quorum);
    }

    /// Waits until something changes for an instance; each is told once at first. What happens
    /// between two calls is told as one change. May be cancelled.
    pub async fn changed(&mut self) -> Event {
        loop {
            if let Some(event) = self.next_change() {
                return event;
            }
            match self.inbox.recv().await {
                Some(news) => self.note(news),
                // We hold a sender ourselves.
                None => std::future::pending().await,
            }
        }
    }

    /// What an instance tracks, for people; nothing for one that isn't there.
    pub fn tracked(&self, instance: &str) -> Vec<Tracked> {
        self.watched
            .iter()
            .find(|watched| watched.subject.instance == instance)
            .map(|watched| self.look(watched))
            .unwrap_or_default()
    }

    fn next_change(&mut self) -> Option<Event> {
        if !self.stale {
            return None;
        }
        for index in 0..self.watched.len() {
            let watched = &self.watched[index];
            let tracked = self.look(watched);
            let score = Score::of(watched.subject.priority, &tracked);
            if watched.told.as_ref() == Some(&score) && !watched.repeat {
                continue;
            }
            let watched = &mut self.watched[index];
            log(watched, &score, &tracked, &self.events);
            watched.has_been_well |= score.fault.is_none();
            watched.told = Some(score.clone());
            watched.repeat = false;
            return Some(Event {
                instance: watched.subject.instance.clone(),
                priority: score.priority,
                fault: score.fault,
            });
        }
        self.stale = false;
        None
    }

    fn note(&mut self, news: News) {
        match news {
            News::Script { script, condition } => {
                if let Some(running) = self.scripts.get_mut(&script) {
                    running.condition = condition;
                }
            }
            News::File { path, content } => {
                self.contents.insert(path, content);
            }
        }
        self.stale = true;
    }

    fn arrange_scripts(&mut self) {
        let mut previous = std::mem::take(&mut self.scripts);
        let tracks = self.watched.iter().map(|watched| &watched.subject.track);
        for script in tracks.flat_map(|track| &track.scripts).map(Script::from) {
            if self.scripts.contains_key(&script) {
                continue;
            }
            let running = previous.remove(&script).unwrap_or_else(|| {
                let namesake = previous.iter().find(|(one, _)| one.name == script.name);
                RunningScript {
                    condition: namesake.map_or(Condition::Unknown, |(_, one)| one.condition),
                    _runner: Runner::start(script.clone(), self.news.clone()),
                }
            });
            self.scripts.insert(script, running);
        }
    }

    fn arrange_files(&mut self) {
        let tracks = self.watched.iter().map(|watched| &watched.subject.track);
        let wanted: BTreeSet<PathBuf> = tracks
            .flat_map(|track| &track.files)
            .map(|file| file.path.clone())
            .collect();
        self.contents.retain(|path, _| wanted.contains(path));
        self.files.want(wanted);
    }

    fn look(&self, watched: &Watched) -> Vec<Tracked> {
        let track = &watched.subject.track;
        let unknown_is_fault = !watched.has_been_well;
        let by_effect = |kind, name: &str, condition, effect| {
            Tracked::by_effect(kind, name, condition, effect, unknown_is_fault)
        };
        let interfaces = track.interfaces.iter().map(|(name, effect)| {
            let condition = Condition::of(self.interfaces_up.contains(name));
            by_effect(Kind::Interface, name, condition, *effect)
        });
        let scripts = track.scripts.iter().map(|script| {
            let running = self.scripts.get(&Script::from(script));
            let condition = running.map_or(Condition::Unknown, |running| running.condition);
            by_effect(Kind::Script, &script.name, condition, script.effect)
        });
        let files = track.files.iter().map(|file| {
            let content = self.contents.get(&file.path).copied();
            let condition = match content {
                None => Condition::Unknown,
                Some(Content::Malformed) => Condition::Failing,
                Some(Content::Absent | Content::Number(_)) => Condition::Well,
            };
            let number = content.map_or(0, Content::number);
            let name = file.path.display().to_string();
            Tracked::by_number(name, condition, file.weight, number)
        });
        let services = track.services.iter().map(|(name, effect)| {
            let quorum = self.services.get(name).copied();
            let condition = quorum.map_or(Condition::Unknown, Condition::of);
            by_effect(Kind::Service, name, condition, *effect)
        });
        interfaces
            .chain(scripts)
            .chain(files)
            .chain(services)
            .collect()
    }
}

/// Says what is new for people, once.
fn log(watched: &Watched, score: &Score, tracked: &[Tracked], events: &Events) {
    let instance = &watched.subject.instance;
    let told = watched.told.as_ref();
    let fault_before = told.and_then(|told| told.fault.as_deref());
    match (fault_before, score.fault.as_deref()) {
        (before, Some(fault)) if before != Some(fault) => {
            warn!(%instance, "kept in fault: {fault}");
            let text = format!("kept in fault: {fault}");
            let event = Occurrence::new(EventKind::FaultBegan, Severity::Error, text);
            events.record(event.of(instance).with("reason", fault));
        }
        (Some(_), None) => {
            let text = "no longer kept in fault by what it tracks";
            info!(%instance, "{text}");
            events
                .record(Occurrence::new(EventKind::FaultEnded, Severity::Info, text).of(instance));
        }
        _ => {}
    }
    let base = watched.subject.priority;
    let before = told.map_or(base, |told| told.priority);
    if before != score.priority {
        let causes: Vec<String> = tracked
            .iter()
            .filter(|one| one.adds != 0)
            .map(|one| format!("{one} ({:+})", one.adds))
            .collect();
        let causes = if causes.is_empty() {
            "nothing that it tracks changes it".to_owned()
        } else {
            causes.join(", ")
        };
        let priority = score.priority.get();
        let configured = base.get();
        info!(%instance, priority, configured, "priority changed: {causes}");
        let text = format!("priority {priority} instead of {}: {causes}", before.get());
        let event = Occurrence::new(EventKind::PriorityChanged, Severity::Info, text).of(instance);
        let event = event
            .with("priority", priority)
            .with("configured", configured);
        events.record(event.with("causes", causes));
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::fs;
    use std::num::{NonZeroI16, NonZeroU8};
    use std::path::Path;
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;
    use crate::config::{Effect, TrackedFile, TrackedScript};
    use lvs_health::testing::script;

    fn weight(weight: i16) -> NonZeroI16 {
        NonZeroI16::new(weight).unwrap()
    }

    fn subject(instance: &str, priority: u8, track: Track) -> Subject {
        Subject {
            instance: instance.to_owned(),
            priority: Priority::new(priority).unwrap(),
            track,
        }
    }

    fn tracked_script(command: &str, effect: Effect) -> TrackedScript {
        TrackedScript {
            name: "upstream".to_owned(),
            command: vec![command.to_owned()],
            interval: Duration::from_millis(100),
            timeout: Duration::from_secs(10),
            rise: NonZeroU8::MIN,
            fall: NonZeroU8::MIN,
            effect,
        }
    }

    fn by_script(command: &str, effect: Effect) -> Track {
        Track {
            scripts: vec![tracked_script(command, effect)],
            ..Track::default()
        }
    }

    async fn next(tracker: &mut Tracker) -> (String, u8, Option<String>) {
        let event = timeout(Duration::from_secs(20), tracker.changed());
        let event = event.await.expect("a change in time");
        (event.instance, event.priority.get(), event.fault)
    }

    async fn is_quiet(tracker: &mut Tracker) -> bool {
        let moment = Duration::from_millis(400);
        timeout(moment, tracker.changed()).await.is_err()
    }

    fn told(instance: &str, priority: u8, fault: Option<&str>) -> (String, u8, Option<String>) {
        (instance.to_owned(), priority, fault.map(str::to_owned))
    }

    #[tokio::test]
    async fn every_instance_is_told_once_and_then_only_what_changes() {
        let track = Track {
            interfaces: vec![
                ("eth1".to_owned(), Effect::Fault),
                ("eth3".to_owned(), Effect::Weight(weight(-50))),
            ],
            services: vec![("resolver".to_owned(), Effect::Weight(weight(-100)))],
            ..Track::default()
        };
        let subjects = vec![
            subject("dns", 200, track),
            subject("lan", 100, Track::default()),
        ];
        let mut tracker = Tracker::start(subjects, Events::default()).unwrap();
        // What is told before anybody asks is part of the first word.
        tracker.interface_changed("eth1", true);
        tracker.interface_changed("eth3", true);
        tracker.interface_changed("eth9", true);
        assert_eq!(next(&mut tracker).await, told("dns", 200, None));
        assert_eq!(next(&mut tracker).await, told("lan", 100, None));
        tracker.interface_changed("eth9", false);
        tracker.service_changed("resolver", true);
        assert!(is_quiet(&mut tracker).await);
        tracker.service_changed("resolver", false);
        tracker.interface_changed("eth3", false);
        assert_eq!(next(&mut tracker).await, told("dns", 50, None));
        tracker.interface_changed("eth1", false);
        let fault = "interface eth1 is missing or has no carrier";
        assert_eq!(next(&mut tracker).await, told("dns", 50, Some(fault)));
        tracker.interface_changed("eth1", true);
        tracker.interface_changed("eth3", true);
        tracker.service_changed("resolver", true);
        assert_eq!(next(&mut tracker).await, told("dns", 200, None));
        assert!(is_quiet(&mut tracker).await);
    }

    #[tokio::test]
    async fn a_script_without_a_verdict_keeps_a_new_instance_in_fault() {
        let subjects = vec![subject("dns", 200, by_script("/bin/true", Effect::Fault))];
        let mut tracker = Tracker::start(subjects, Events::default()).unwrap();
        let unknown = "script upstream is not known yet";
        assert_eq!(next(&mut tracker).await, told("dns", 200, Some(unknown)));
        assert_eq!(next(&mut tracker).await, told("dns", 200, None));
        assert_eq!(tracker.tracked("dns")[0].condition, Condition::Well);
        assert!(is_quiet(&mut tracker).await);
    }

    #[tokio::test]
    async fn a_script_that_is_added_takes_nothing_away_before_its_verdict() {
        let folder = tempfile::tempdir().unwrap();
        let go = folder.path().join("go");
        let body = format!("until [ -e {} ]; do sleep 0.02; done; exit 1", go.display());
        let slow = script(folder.path(), "slow", &body);
        let mut tracker = Tracker::start(
            vec![subject("dns", 200, Track::default())],
            Events::default(),
        )
        .unwrap();
        assert_eq!(next(&mut tracker).await, told("dns", 200, None));
        let mut track = by_script(&slow, Effect::Fault);
        track.scripts[0].interval = Duration::from_secs(10);
        tracker.configure(vec![subject("dns", 200, track)]);
        assert_eq!(next(&mut tracker).await, told("dns", 200, None));
        assert!(is_quiet(&mut tracker).await);
        assert_eq!(tracker.tracked("dns")[0].condition, Condition::Unknown);
        fs::write(go, "").unwrap();
        let fails = "script upstream fails";
        assert_eq!(next(&mut tracker).await, told("dns", 200, Some(fails)));
    }

    #[tokio::test]
    async fn a_script_shared_by_two_instances_is_run_once_and_weighs_for_each() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("log");
        let body = format!("echo run >> {}; exit 1", log.display());
        let command = script(folder.path(), "check", &body);
        let mut dns = by_script(&command, Effect::Weight(weight(-20)));
        dns.scripts[0].interval = Duration::from_secs(10);
        let mut lan = dns.clone();
        lan.scripts[0].effect = Effect::Fault;
        let subjects = vec![subject("dns", 200, dns), subject("lan", 100, lan)];
        let mut tracker = Tracker::start(subjects, Events::default()).unwrap();
        next(&mut tracker).await;
        next(&mut tracker).await;
        assert_eq!(next(&mut tracker).await, told("dns", 180, None));
        let fails = "script upstream fails";
        assert_eq!(next(&mut tracker).await, told("lan", 100, Some(fails)));
        assert_eq!(fs::read_to_string(&log).unwrap(), "run\n");
    }

    #[tokio::test]
    async fn what_stays_the_same_keeps_its_state_over_a_reload() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("log");
        let body = format!("echo run >> {}; exit 1", log.display());
        let command = script(folder.path(), "check", &body);
        let mut track = by_script(&command, Effect::Weight(weight(-20)));
        track.scripts[0].interval = Duration::from_secs(10);
        let mut tracker =
            Tracker::start(vec![subject("dns", 200, track.clone())], Events::default()).unwrap();
        assert_eq!(next(&mut tracker).await, told("dns", 200, None));
        assert_eq!(next(&mut tracker).await, told("dns", 180, None));
        tracker.configure(vec![subject("dns", 200, track.clone())]);
        assert_eq!(next(&mut tracker).await, told("dns", 180, None));
        assert!(is_quiet(&mut tracker).await);
        // The priority and the weight change, the script does not.
        track.scripts[0].effect = Effect::Weight(weight(-30));
        tracker.configure(vec![subject("dns", 150, track.clone())]);
        assert_eq!(next(&mut tracker).await, told("dns", 120, None));
        assert_eq!(fs::read_to_string(&log).unwrap(), "run\n");
        // Another form of it keeps the verdict until it has its own.
        track.scripts[0].command = vec!["/bin/true".to_owned()];
        tracker.configure(vec![subject("dns", 150, track)]);
        assert_eq!(tracker.tracked("dns")[0].condition, Condition::Failing);
        assert_eq!(next(&mut tracker).await, told("dns", 120, None));
        assert_eq!(next(&mut tracker).await, told("dns", 150, None));
        tracker.configure(Vec::new());
        assert!(tracker.scripts.is_empty());
        assert!(tracker.tracked("dns").is_empty());
        assert!(is_quiet(&mut tracker).await);
    }

    #[tokio::test]
    async fn a_number_in_a_file_moves_the_priority() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("bias");
        let track = Track {
            files: vec![TrackedFile {
                path: path.clone(),
                weight: weight(2),
            }],
            ..Track::default()
        };
        let mut tracker =
            Tracker::start(vec![subject("dns", 100, track)], Events::default()).unwrap();
        let write = |path: &Path, text: &str| {
            let new = path.with_extension("new");
            fs::write(&new, text).unwrap();
            fs::rename(new, path).unwrap();
        };
        assert_eq!(next(&mut tracker).await, told("dns", 100, None));
        write(&path, "-10\n");
        assert_eq!(next(&mut tracker).await, told("dns", 80, None));
        write(&path, "nonsense");
        assert_eq!(next(&mut tracker).await, told("dns", 100, None));
        assert_eq!(tracker.tracked("dns")[0].condition, Condition::Failing);
        write(&path, "-127");
        let fault = format!("file {} says so", path.display());
        assert_eq!(next(&mut tracker).await, told("dns", 100, Some(&fault)));
        fs::remove_file(&path).unwrap();
        assert_eq!(next(&mut tracker).await, told("dns", 100, None));
    }
}
