//! The page at `/` on the listener of metrics: how everything is, for people, and the JSON behind it.
//! Read-only, and made of nothing but what is in this folder. Used by [`crate::worker`].
//!
//! All who ask within a moment get the same answer, so that a crowd of clients, or a hostile one, costs the
//! director no more than one of them.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use lvs_metrics::{Bytes, Document};
use serde::Serialize;
use tokio::sync::{mpsc, oneshot};
use tokio::task::AbortHandle;
use tokio::time::MissedTickBehavior;

use crate::control::{Answer, Query, Request};
use crate::events::Events;
use crate::history::{History, STEP};
use crate::metrics::Census;

/// How old an answer may be.
const MOMENT: Duration = Duration::from_millis(500);

/// Events that are told.
const LAST_EVENTS: usize = 100;

const JSON: &str = "application/json";
const SCRIPT: &str = "text/javascript; charset=utf-8";

/// What never changes: its path, what it is, and its content.
const FILES: &[(&str, &str, &str)] = &[
    ("/", "text/html; charset=utf-8", include_str!("index.html")),
    (
        "/page.css",
        "text/css; charset=utf-8",
        include_str!("page.css"),
    ),
    ("/icon.svg", "image/svg+xml", include_str!("icon.svg")),
    ("/page.js", SCRIPT, include_str!("page.js")),
    ("/dom.js", SCRIPT, include_str!("dom.js")),
    ("/events.js", SCRIPT, include_str!("events.js")),
    ("/plots.js", SCRIPT, include_str!("plots.js")),
    ("/routers.js", SCRIPT, include_str!("routers.js")),
    ("/servers.js", SCRIPT, include_str!("servers.js")),
    ("/services.js", SCRIPT, include_str!("services.js")),
    ("/topology.js", SCRIPT, include_str!("topology.js")),
    ("/words.js", SCRIPT, include_str!("words.js")),
];

/// The page and the JSON behind it.
pub struct Page {
    queries: mpsc::Sender<Query>,
    happened: Events,
    history: Arc<Mutex<History>>,
    status: Shared,
    events: Shared,
    past: Shared,
}

/// Writes the last hour down while somebody may look. Used on the worker's main thread.
pub struct Recorder {
    census: Census,
    began: tokio::time::Instant,
    history: Arc<Mutex<History>>,
    writing: Option<AbortHandle>,
}

/// An answer that is kept for a moment.
#[derive(Default)]
struct Shared(Mutex<Option<(Instant, Bytes)>>);

impl Page {
    /// One that asks for status as the control socket does, and shows what `recorder` writes down.
    pub fn new(queries: mpsc::Sender<Query>, happened: Events, recorder: &Recorder) -> Self {
        Self {
            queries,
            happened,
            history: Arc::clone(&recorder.history),
            status: Shared::default(),
            events: Shared::default(),
            past: Shared::default(),
        }
    }

    /// What is at a path, if anything is; without a body while the director is stopping. Blocks until it
    /// is known.
    pub fn document(&self, path: &str) -> Option<Document> {
        let body = match path {
            "/api/status" => self.status.get(|| match self.ask(Request::Status)? {
                Answer::Status(status) => Some(json(&status)),
                _ => None,
            }),
            "/api/events" => self
                .events
                .get(|| Some(json(&self.happened.read(Some(LAST_EVENTS), None)))),
            "/api/history" => self.past.get(|| {
                let history = self.history.lock();
                // Who writes it down waits for the lock, and probes wait for that.
                let history = history.unwrap_or_else(PoisonError::into_inner).clone();
                Some(json(&history))
            }),
            _ => {
                let mut files = FILES.iter();
                let (_, content_type, content) = files.find(|(name, ..)| *name == path)?;
                return Some(Document {
                    content_type,
                    body: Some(Bytes::from_static(content.as_bytes())),
                });
            }
        };
        Some(Document {
            content_type: JSON,
            body,
        })
    }

    /// Nothing while the director is stopping.
    fn ask(&self, request: Request) -> Option<Answer> {
        let (answer, answered) = oneshot::channel();
        let query = Query { request, answer };
        self.queries.blocking_send(query).ok()?;
        answered.blocking_recv().ok()
    }
}

impl Shared {
    /// Those who come while it is being made wait for it.
    fn get(&self, make: impl FnOnce() -> Option<Bytes>) -> Option<Bytes> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((made, bytes)) = &*kept
            && made.elapsed() < MOMENT
        {
            return Some(bytes.clone());
        }
        let bytes = make()?;
        // What is old by the time that it's there is made anew for the next one.
        *kept = Some((Instant::now(), bytes.clone()));
        Some(bytes)
    }
}

fn json(value: &impl Serialize) -> Bytes {
    let text = serde_json::to_vec(value).expect("all keys are strings");
    Bytes::from(text)
}

impl Recorder {
    /// One that asks `census` how services are, and doesn't write yet. Needs a tokio runtime with time.
    pub fn new(census: Census) -> Self {
        Self {
            census,
            began: tokio::time::Instant::now(),
            history: Arc::default(),
            writing: None,
        }
    }

    /// Writes from now on, or not any more.
    pub fn write(&mut self, wanted: bool) {
        if wanted && self.writing.is_none() {
            let history = Arc::clone(&self.history);
            let writing = write_down(self.census.clone(), self.began, history);
            self.writing = Some(tokio::spawn(writing).abort_handle());
        } else if !wanted && let Some(writing) = self.writing.take() {
            writing.abort();
        }
    }
}

/// Until the director stops, or nobody listens any more.
async fn write_down(census: Census, began: tokio::time::Instant, history: Arc<Mutex<History>>) {
    let mut ticks = tokio::time::interval(STEP);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        let tick = ticks.tick().await;
        let (answer, services) = oneshot::channel();
        if census.send(answer).await.is_err() {
            return;
        }
        let Ok(services) = services.await else {
            return;
        };
        // Ticks are late by as much as the director is busy.
        let step = (tick - began + STEP / 2).as_secs() / STEP.as_secs();
        let mut history = history.lock().unwrap_or_else(PoisonError::into_inner);
        history.record(step, &services);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs;
    use std::path::Path;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    fn page() -> (Page, mpsc::Receiver<Query>) {
        let (queries, inbox) = mpsc::channel(1);
        let happened = Events::default();
        let page = Page {
            queries,
            happened,
            history: Arc::default(),
            status: Shared::default(),
            events: Shared::default(),
            past: Shared::default(),
        };
        (page, inbox)
    }

    #[test]
    fn every_file_of_this_folder_is_served_and_names_no_other_place() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/page");
        let files = fs::read_dir(folder).unwrap();
        let files = files.map(|file| file.unwrap().file_name().into_string().unwrap());
        let present: BTreeSet<String> = files.filter(|name| name != "mod.rs").collect();
        let (page, _inbox) = page();
        for name in &present {
            let path = match name.as_str() {
                "index.html" => "/".to_owned(),
                name => format!("/{name}"),
            };
            let body = page.document(&path).unwrap().body.unwrap();
            let text = String::from_utf8(body.to_vec()).unwrap();
            // The name of SVG's namespace is no address that anybody asks.
            let text = text.replace("http://www.w3.org/2000/svg", "");
            for outside in [
                "http:",
                "https:",
                "//cdn",
                "style=",
                "innerHTML",
                "onclick=",
            ] {
                assert!(!text.contains(outside), "{outside} in {name}");
            }
        }
        assert_eq!(present.len(), FILES.len());
        assert!(page.document("/page").is_none());
        assert!(page.document("/index.html").is_none());
    }

    #[test]
    fn a_crowd_costs_as_much_as_one() {
        let shared = Shared::default();
        let made = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..50 {
                scope.spawn(|| {
                    shared.get(|| {
                        made.fetch_add(1, Ordering::SeqCst);
                        std::thread::sleep(Duration::from_millis(20));
                        Some(Bytes::from_static(b"{}"))
                    })
                });
            }
        });
        assert_eq!(made.load(Ordering::SeqCst), 1);
        std::thread::sleep(MOMENT);
        shared.get(|| {
            made.fetch_add(1, Ordering::SeqCst);
            None
        });
        assert_eq!(made.load(Ordering::SeqCst), 2);
    }

    #[test]
    fn a_director_that_stops_says_so() {
        let (page, inbox) = page();
        drop(inbox);
        assert!(page.document("/api/status").unwrap().body.is_none());
        assert!(page.document("/api/events").unwrap().body.is_some());
        assert!(page.document("/api/history").unwrap().body.is_some());
    }

    /// Nobody is asked while nobody can look, and what goes on later knows how much was left out.
    #[tokio::test]
    async fn nothing_is_written_down_while_nobody_listens() {
        let (census, mut inbox) = mpsc::channel(1);
        let mut recorder = Recorder::new(census);
        let asked = async |inbox: &mut mpsc::Receiver<oneshot::Sender<_>>| {
            let patience = Duration::from_millis(200);
            tokio::time::timeout(patience, inbox.recv()).await.is_ok()
        };
        assert!(!asked(&mut inbox).await);
        recorder.write(true);
        recorder.write(true);
        assert!(asked(&mut inbox).await);
        assert!(!asked(&mut inbox).await, "once in a while");
        recorder.write(false);
        recorder.write(true);
        assert!(asked(&mut inbox).await);
    }
}
