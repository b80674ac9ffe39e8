//! Hooks: programs that are told of transitions, one after the other, in the order of the
//! transitions.
//!
//! One task runs them, so that a slow one delays the next and nothing else. What waits is bounded:
//! when hooks can't keep up, the oldest goes. Owned by [`crate::worker`], on the main thread.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use lvs_health::program::{Failure, GRACE, Program, Run};
use lvs_proto::vrrp::{Priority, State};
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until, timeout_at};
use tracing::warn;

use crate::config::{Hook, HookState, Instance};

/// Runs that may wait.
const WAITING: usize = 256;

/// Between SIGTERM and SIGKILL when the worker is about to end.
const LAST_GRACE: Duration = Duration::from_millis(200);

/// A transition, as hooks are told of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// The instance's name.
    pub instance: String,
    /// The state that it has entered.
    pub state: HookState,
    /// The one that it has left.
    pub previous: HookState,
    /// Why.
    pub reason: String,
    /// Its effective priority.
    pub priority: Priority,
}

impl From<State> for HookState {
    fn from(state: State) -> Self {
        match state {
            State::Initialize => Self::Stopped,
            State::Backup => Self::Backup,
            State::Active => Self::Active,
            State::Fault => Self::Fault,
        }
    }
}

/// The hooks of each instance, by its name.
pub fn by_instance(instances: &[Instance]) -> HashMap<String, Vec<Hook>> {
    let hooks = |instance: &Instance| (instance.name.clone(), instance.hooks.clone());
    instances.iter().map(hooks).collect()
}

/// Runs hooks.
pub struct Hooks {
    hooks: HashMap<String, Vec<Hook>>,
    configured: HashSet<String>,
    queue: Arc<Queue>,
    worker: JoinHandle<()>,
}

impl Hooks {
    /// Starts with the hooks of each instance. Within a tokio runtime only.
    pub fn start(hooks: HashMap<String, Vec<Hook>>) -> Self {
        let queue = Arc::new(Queue::new());
        let worker = tokio::spawn(Arc::clone(&queue).work());
        Self {
            configured: hooks.keys().cloned().collect(),
            hooks,
            queue,
            worker,
        }
    }

    /// Goes on with other hooks. An instance that has been removed keeps its own until it has
    /// stopped; what waits already is run as it was.
    pub fn configure(&mut self, hooks: HashMap<String, Vec<Hook>>) {
        self.configured = hooks.keys().cloned().collect();
        self.hooks.extend(hooks);
    }

    /// Has the instance's hooks run that want to know of this. Never waits.
    pub fn tell(&mut self, notice: &Notice) {
        let hooks = self.hooks.get(&notice.instance).into_iter().flatten();
        for hook in hooks.filter(|hook| hook.on.contains(&notice.state)) {
            self.queue.add(Errand::new(hook, notice));
        }
        if notice.state == HookState::Stopped && !self.configured.contains(&notice.instance) {
            self.hooks.remove(&notice.instance);
        }
    }

    /// Lets what waits run to its end, and returns after `limit` at most. Every hook gets an equal
    /// share of what is left of it, so that one that hangs doesn't cost the others their run.
    pub async fn drain(mut self, limit: Duration) {
        let deadline = Instant::now() + limit;
        self.queue.close(deadline);
        if timeout_at(deadline, &mut self.worker).await.is_ok() {
            return;
        }
        self.worker.abort();
        // Its end kills the program that still runs.
        let _ = (&mut self.worker).await;
        let left = self.queue.waiting().len();
        if left > 0 {
            warn!(left, "hooks were not run: those before them took too long");
        }
    }
}

impl Drop for Hooks {
    fn drop(&mut self) {
        self.worker.abort();
    }
}

/// One program to run for one transition.
#[derive(Debug)]
struct Errand {
    instance: String,
    state: HookState,
    program: Program,
    timeout: Duration,
}

impl Errand {
    fn new(hook: &Hook, notice: &Notice) -> Self {
        let state = notice.state.to_string();
        let priority = notice.priority.to_string();
        let instance = notice.instance.clone();
        let mut command = hook.command.clone();
        command.extend([instance.clone(), state.clone(), priority.clone()]);
        Self {
            instance: instance.clone(),
            state: notice.state,
            program: Program {
                command,
                environment: vec![
                    ("DIRECTOR_INSTANCE", instance),
                    ("DIRECTOR_STATE", state),
                    ("DIRECTOR_PREVIOUS_STATE", notice.previous.to_string()),
                    ("DIRECTOR_REASON", notice.reason.clone()),
                    ("DIRECTOR_PRIORITY", priority),
                ],
            },
            timeout: hook.timeout,
        }
    }

    fn program(&self) -> &str {
        self.program.command.first().map_or("", String::as_str)
    }

    fn log(&self, failure: &Failure) {
        let instance = &self.instance;
        let hook = self.program();
        warn!(%instance, state = %self.state, hook, "hook failed: {failure}");
    }
}

struct Queue {
    errands: Mutex<VecDeque<Errand>>,
    /// Hooks are behind: said once, until they have caught up.
    behind: Mutex<bool>,
    added: Notify,
    deadline: watch::Sender<Option<Instant>>,
}

impl Queue {
    fn new() -> Self {
        Self {
            errands: Mutex::default(),
            behind: Mutex::default(),
            added: Notify::new(),
            deadline: watch::Sender::new(None),
        }
    }

    fn waiting(&self) -> MutexGuard<'_, VecDeque<Errand>> {
        // A panic ends the process.
        self.errands.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, errand: Errand) {
        let mut waiting = self.waiting();
        let oldest = if waiting.len() < WAITING {
            None
        } else {
            waiting.pop_front()
        };
        waiting.push_back(errand);
        drop(waiting);
        let mut behind = self.behind.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(oldest) = oldest
            && !std::mem::replace(&mut *behind, true)
        {
            let instance = &oldest.instance;
            let hook = oldest.program();
            warn!(
                %instance, hook,
                "hooks are {WAITING} runs behind: the oldest are left out; make them quicker",
            );
        }
        self.added.notify_one();
    }

    fn close(&self, deadline: Instant) {
        self.deadline.send_replace(Some(deadline));
        self.added.notify_one();
    }

    async fn work(self: Arc<Self>) {
        while let Some(errand) = self.next().await {
            if let Err(failure) = self.run(&errand).await {
                errand.log(&failure);
            }
        }
    }

    /// What waits longest; `None` once nothing more will come.
    async fn next(&self) -> Option<Errand> {
        loop {
            let errand = self.waiting().pop_front();
            if errand.is_some() {
                return errand;
            }
            *self.behind.lock().unwrap_or_else(PoisonError::into_inner) = false;
            if self.deadline.borrow().is_some() {
                return None;
            }
            self.added.notified().await;
        }
    }

    async fn run(&self, errand: &Errand) -> Result<(), Failure> {
        let started = Instant::now();
        let mut run = Run::start(errand.program.clone()).await?;
        tokio::select! {
            result = run.finished() => return result,
            () = self.time_out(started + errand.timeout) => {}
        }
        errand.log(&Failure::TooSlow {
            limit: started.elapsed(),
            output: run.last_line(),
        });
        let closing = self.deadline.borrow().is_some();
        run.end(if closing { LAST_GRACE } else { GRACE }).await;
        Ok(())
    }

    /// Returns at `due`, or when this run's share of the time until the end is used up.
    async fn time_out(&self, due: Instant) {
        let mut deadline = self.deadline.subscribe();
        let end = tokio::select! {
            () = sleep_until(due) => return,
            Ok(end) = deadline.wait_for(Option::is_some) => *end,
        };
        let now = Instant::now();
        let left = end.unwrap_or(now).saturating_duration_since(now);
        let runs = u32::try_from(self.waiting().len() + 1).unwrap_or(u32::MAX);
        sleep_until(due.min(now + left / runs)).await;
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::fs;
    use std::path::{Path, PathBuf};

    use tempfile::TempDir;

    use super::*;
    use lvs_health::testing::{gone, line_of, script};

    struct Fixture {
        folder: TempDir,
        log: PathBuf,
    }

    impl Fixture {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let log = folder.path().join("log");
            Self { folder, log }
        }

        /// A hook that does what `body` says, where `$LOG` is the log.
        fn hook(&self, name: &str, body: &str, on: &[HookState], timeout: Duration) -> Hook {
            let body = format!("LOG={}\n{body}", self.log.display());
            Hook {
                on: on.to_vec(),
                command: vec![script(self.folder.path(), name, &body), "first".to_owned()],
                timeout,
            }
        }

        fn lines(&self) -> Vec<String> {
            let text = fs::read_to_string(&self.log).unwrap_or_default();
            text.lines().map(str::to_owned).collect()
        }

        fn path(&self, name: &str) -> PathBuf {
            self.folder.path().join(name)
        }
    }

    const LONG: Duration = Duration::from_secs(20);

    fn of_dns(hooks: Vec<Hook>) -> HashMap<String, Vec<Hook>> {
        HashMap::from([("dns".to_owned(), hooks)])
    }

    fn notice(instance: &str, state: HookState, reason: &str) -> Notice {
        Notice {
            instance: instance.to_owned(),
            state,
            previous: HookState::Backup,
            reason: reason.to_owned(),
            priority: Priority::new(150).unwrap(),
        }
    }

    fn touch(path: &Path) {
        fs::write(path, "\n").unwrap();
    }

    #[tokio::test]
    async fn hooks_are_told_what_happened() {
        let fixture = Fixture::new();
        let body = "echo \"$@\" >> $LOG; env | grep DIRECTOR_ | sort >> $LOG";
        let hook = fixture.hook("tell", body, &[HookState::Active], LONG);
        let mut hooks = Hooks::start(of_dns(vec![hook]));
        hooks.tell(&notice("dns", HookState::Fault, "not asked for"));
        hooks.tell(&notice("lan", HookState::Active, "another instance"));
        hooks.tell(&notice("dns", HookState::Active, "nothing heard; $(id)"));
        hooks.drain(LONG).await;
        assert_eq!(
            fixture.lines(),
            [
                "first dns active 150",
                "DIRECTOR_INSTANCE=dns",
                "DIRECTOR_PREVIOUS_STATE=backup",
                "DIRECTOR_PRIORITY=150",
                "DIRECTOR_REASON=nothing heard; $(id)",
                "DIRECTOR_STATE=active",
            ]
        );
    }

    #[tokio::test]
    async fn hooks_run_one_after_the_other_in_the_order_of_transitions() {
        let fixture = Fixture::new();
        // The first state's hook is slow; the next must wait for it.
        let slow = "echo a $3 >> $LOG; test $3 = active && sleep 0.3; echo b $3 >> $LOG";
        let all = &HookState::ALL;
        let slow = fixture.hook("slow", slow, all, LONG);
        let quick = fixture.hook("quick", "echo c $3 >> $LOG; exit 1", all, LONG);
        let mut hooks = Hooks::start(of_dns(vec![slow, quick]));
        hooks.tell(&notice("dns", HookState::Active, ""));
        hooks.tell(&notice("dns", HookState::Backup, ""));
        hooks.drain(LONG).await;
        let expected = [
            "a active", "b active", "c active", "a backup", "b backup", "c backup",
        ];
        assert_eq!(fixture.lines(), expected);
    }

    #[tokio::test]
    async fn a_hook_that_hangs_is_ended_and_the_next_one_runs() {
        let fixture = Fixture::new();
        let pid = fixture.path("pid");
        let hang = format!("echo $$ > {}; sleep 60", pid.display());
        let all = &HookState::ALL;
        let hang = fixture.hook("hang", &hang, all, Duration::from_millis(200));
        let next = fixture.hook("next", "echo next >> $LOG", all, LONG);
        let mut missing = next.clone();
        missing.command = vec!["/nonexistent/hook".to_owned()];
        let mut hooks = Hooks::start(of_dns(vec![missing, hang, next]));
        hooks.tell(&notice("dns", HookState::Active, ""));
        assert_eq!(line_of(&fixture.log).await, "next");
        assert!(gone(&line_of(&pid).await).await);
    }

    #[tokio::test]
    async fn the_oldest_go_when_hooks_are_too_slow() {
        let fixture = Fixture::new();
        let (held, go) = (fixture.path("held"), fixture.path("go"));
        let body = format!(
            "echo > {}; while [ ! -e {} ]; do sleep 0.02; done; echo $3 >> $LOG",
            held.display(),
            go.display()
        );
        let first = fixture.hook("first", &body, &[HookState::Fault], LONG);
        let rest = fixture.hook(
            "rest",
            "echo $3 $DIRECTOR_REASON >> $LOG",
            &[HookState::Active],
            LONG,
        );
        let mut hooks = Hooks::start(of_dns(vec![first, rest]));
        hooks.tell(&notice("dns", HookState::Fault, ""));
        line_of(&held).await;
        for number in 0..WAITING + 3 {
            hooks.tell(&notice("dns", HookState::Active, &number.to_string()));
        }
        touch(&go);
        hooks.drain(Duration::from_secs(60)).await;
        let lines = fixture.lines();
        assert_eq!(lines.len(), 1 + WAITING);
        assert_eq!(lines[..2], ["fault", "active 3"]);
        assert_eq!(lines[WAITING], format!("active {}", WAITING + 2));
    }

    #[tokio::test]
    async fn a_hook_that_hangs_at_the_end_does_not_cost_the_others_their_run() {
        let fixture = Fixture::new();
        let pid = fixture.path("pid");
        let hang = format!("echo $$ > {}; sleep 60", pid.display());
        let hang = fixture.hook("hang", &hang, &[HookState::Backup], LONG);
        let stopped = fixture.hook("stopped", "echo $3 >> $LOG", &[HookState::Stopped], LONG);
        let mut hooks = Hooks::start(of_dns(vec![hang, stopped]));
        hooks.tell(&notice("dns", HookState::Backup, ""));
        hooks.tell(&notice("dns", HookState::Stopped, ""));
        let process = line_of(&pid).await;
        let start = Instant::now();
        hooks.drain(Duration::from_secs(4)).await;
        assert!(start.elapsed() < Duration::from_secs(4));
        assert_eq!(fixture.lines(), ["stopped"]);
        assert!(gone(&process).await);
    }

    #[tokio::test]
    async fn draining_ends_at_its_limit_and_leaves_nothing_behind() {
        let fixture = Fixture::new();
        let pid = fixture.path("pid");
        let hang = format!(
            "trap '' TERM; echo $$ > {}; while :; do sleep 1; done",
            pid.display()
        );
        let hang = fixture.hook("hang", &hang, &[HookState::Stopped], LONG);
        let mut hooks = Hooks::start(of_dns(vec![hang]));
        hooks.tell(&notice("dns", HookState::Stopped, ""));
        let process = line_of(&pid).await;
        let start = Instant::now();
        hooks.drain(Duration::from_millis(500)).await;
        assert!(start.elapsed() < Duration::from_secs(5));
        assert!(gone(&process).await);
    }

    #[tokio::test]
    async fn an_instance_that_was_removed_keeps_its_hooks_until_it_has_stopped() {
        let fixture = Fixture::new();
        let all = &HookState::ALL;
        let old = fixture.hook("old", "echo old $3 >> $LOG", all, LONG);
        let new = fixture.hook("new", "echo new $2 $3 >> $LOG", all, LONG);
        let mut hooks = Hooks::start(of_dns(vec![old]));
        hooks.configure(HashMap::from([("lan".to_owned(), vec![new])]));
        hooks.tell(&notice("dns", HookState::Stopped, ""));
        hooks.tell(&notice(
            "dns",
            HookState::Active,
            "nobody knows it any more",
        ));
        hooks.tell(&notice("lan", HookState::Active, ""));
        hooks.drain(LONG).await;
        assert_eq!(fixture.lines(), ["old stopped", "new lan active"]);
    }
}
