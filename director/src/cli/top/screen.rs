//! What is on the screen, and what a key does. Pure: keys and news in, acts out.

use std::time::Instant;

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use ratatui::widgets::TableState;

use super::feed::{News, Picture};
use crate::control::{
    Family, HandReport, PoolStatus, ServerState, ServerStatus, ServiceStatus, Status,
};
use crate::hand::{Pattern, State};

/// Lines that a page is.
const PAGE: usize = 10;

/// What a key asks of others.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Act {
    Quit,
    Order(Order),
}

/// What the director is to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Order {
    pub(super) servers: Pattern,
    pub(super) state: State,
}

/// What keys mean now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    Watching,
    /// Waits for a yes to this question.
    Confirming(Order, Question),
    Help,
}

/// What is asked before an order goes out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Question {
    pub(super) text: String,
    /// Where nobody would be left.
    pub(super) warning: Option<String>,
}

/// A line of the table: a pool, and below it its servers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Row<'s> {
    pub(super) service: &'s ServiceStatus,
    pub(super) pool: &'s PoolStatus,
    /// None for the line of the pool itself.
    pub(super) server: Option<&'s ServerStatus>,
}

/// Which line is meant, whatever comes and goes around it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Identity {
    service: String,
    family: Family,
    protocol: Option<String>,
    server: Option<String>,
}

/// Something to tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Message {
    pub(super) text: String,
    pub(super) is_error: bool,
}

/// Everything that is shown.
#[derive(Debug)]
pub(super) struct Screen {
    pub(super) picture: Box<Picture>,
    /// Why the picture isn't of now.
    pub(super) silence: Option<String>,
    pub(super) mode: Mode,
    pub(super) message: Option<Message>,
    /// The selected line, and how far the table is scrolled.
    pub(super) table: TableState,
}

impl Screen {
    pub(super) fn new(picture: Box<Picture>) -> Self {
        let first = rows(&picture.status)
            .iter()
            .position(|row| row.server.is_some());
        Self {
            picture,
            silence: None,
            mode: Mode::Watching,
            message: None,
            table: TableState::new().with_selected(first),
        }
    }

    /// Takes over what was told; the line that was selected stays so.
    pub(super) fn hear(&mut self, news: News) {
        match news {
            News::Picture(Ok(picture)) => {
                let selected = self.selected().map(|row| row.identity());
                self.picture = picture;
                self.silence = None;
                self.select_again(selected);
            }
            News::Picture(Err(reason)) => self.silence = Some(reason),
            News::Done(Ok(report)) => self.message = Some(outcome(&report)),
            News::Done(Err(text)) => {
                self.message = Some(Message {
                    text,
                    is_error: true,
                });
            }
        }
    }

    pub(super) fn key(&mut self, key: KeyEvent) -> Option<Act> {
        let control = key.modifiers.contains(KeyModifiers::CONTROL);
        if control && key.code == KeyCode::Char('c') {
            return Some(Act::Quit);
        }
        match std::mem::replace(&mut self.mode, Mode::Watching) {
            Mode::Confirming(order, _) => {
                let yes = matches!(key.code, KeyCode::Char('y' | 'Y'));
                let text = if yes {
                    "asking the director"
                } else {
                    "nothing was done"
                };
                self.tell(text, false);
                yes.then_some(Act::Order(order))
            }
            // Any key ends it.
            Mode::Help => None,
            Mode::Watching => self.key_while_watching(key.code),
        }
    }

    /// The line that keys are about.
    pub(super) fn selected(&self) -> Option<Row<'_>> {
        let rows = rows(&self.picture.status);
        rows.get(self.table.selected()?).copied()
    }

    /// How long the picture has been the last one.
    pub(super) fn age(&self, now: Instant) -> std::time::Duration {
        now.saturating_duration_since(self.picture.at)
    }

    fn key_while_watching(&mut self, code: KeyCode) -> Option<Act> {
        self.message = None;
        match code {
            KeyCode::Char('q') | KeyCode::Esc => return Some(Act::Quit),
            KeyCode::Char('?' | 'h') | KeyCode::F(1) => self.mode = Mode::Help,
            KeyCode::Char('d') => self.propose(State::Drained),
            KeyCode::Char('x') => self.propose(State::Disabled),
            KeyCode::Char('e') => self.propose(State::Enabled),
            KeyCode::Up | KeyCode::Char('k') => self.go(|line, _| line.saturating_sub(1)),
            KeyCode::Down | KeyCode::Char('j') => self.go(|line, _| line + 1),
            KeyCode::PageUp => self.go(|line, _| line.saturating_sub(PAGE)),
            KeyCode::PageDown => self.go(|line, _| line + PAGE),
            KeyCode::Home => self.go(|_, _| 0),
            KeyCode::End => self.go(|_, last| last),
            _ => {}
        }
        None
    }

    /// From the selected line and the last one to another.
    fn go(&mut self, to: impl Fn(usize, usize) -> usize) {
        let Some(last) = rows(&self.picture.status).len().checked_sub(1) else {
            return;
        };
        let from = self.table.selected().unwrap_or(0);
        self.table.select(Some(to(from, last).min(last)));
    }

    fn select_again(&mut self, selected: Option<Identity>) {
        let rows = rows(&self.picture.status);
        let same = rows
            .iter()
            .position(|row| selected.as_ref() == Some(&row.identity()));
        let last = rows.len().checked_sub(1);
        let near = self.table.selected().unwrap_or(0);
        let line = same.or_else(|| last.map(|last| near.min(last)));
        self.table.select(line);
    }

    fn propose(&mut self, state: State) {
        if self.silence.is_some() {
            self.tell("the director doesn't answer; nothing was done", true);
            return;
        }
        let Some(row) = self.selected() else {
            self.tell("there is no server here", true);
            return;
        };
        let place = row.place();
        match place.parse::<Pattern>() {
            Ok(servers) => {
                let question = question(row.service, &place, &servers, state);
                self.mode = Mode::Confirming(Order { servers, state }, question);
            }
            Err(error) => self.tell(&error.to_string(), true),
        }
    }

    fn tell(&mut self, text: &str, is_error: bool) {
        self.message = Some(Message {
            text: text.to_owned(),
            is_error,
        });
    }
}

impl Row<'_> {
    fn identity(&self) -> Identity {
        Identity {
            service: self.service.name.clone(),
            family: self.pool.family,
            protocol: self.pool.protocol.clone(),
            server: self.server.map(|server| server.server.clone()),
        }
    }

    /// As `director drain` takes it.
    fn place(&self) -> String {
        let server = self.server.map_or("*", |server| &server.server);
        format!("{}/{server}", self.service.name)
    }
}

/// Every line of the table.
pub(super) fn rows(status: &Status) -> Vec<Row<'_>> {
    let mut rows = Vec::new();
    for service in &status.services {
        for pool in &service.pools {
            let row = |server| Row {
                service,
                pool,
                server,
            };
            rows.push(row(None));
            rows.extend(pool.servers.iter().map(|server| row(Some(server))));
        }
    }
    rows
}

/// The question before an order, and who would be left.
fn question(service: &ServiceStatus, place: &str, servers: &Pattern, state: State) -> Question {
    let verb = match state {
        State::Enabled => "enable",
        State::Drained => "drain",
        State::Disabled => "disable",
    };
    let text = format!("{verb} {place} on this director?");
    if state == State::Enabled {
        return Question {
            text,
            warning: None,
        };
    }
    let others = |pool: &PoolStatus| {
        let takes = |server: &ServerStatus| {
            let place = format!("{}/{}", service.name, server.server);
            let meant = place.parse().is_ok_and(|place| servers.matches(&place));
            !meant && matches!(server.state, ServerState::In | ServerState::Kept)
        };
        pool.servers.iter().any(takes)
    };
    let empty: Vec<&str> = service
        .pools
        .iter()
        .filter(|pool| !others(pool))
        .map(|pool| pool.protocol.as_deref().unwrap_or("marked"))
        .collect();
    let warning = (!empty.is_empty())
        .then(|| format!("NOBODY ELSE TAKES QUERIES over {}", empty.join(" and ")));
    Question { text, warning }
}

/// What became of an order, in a line.
fn outcome(report: &HandReport) -> Message {
    let mut text = Vec::new();
    match report.servers.as_slice() {
        [one] => text.push(format!(
            "{}: {}, was {}",
            one.server,
            one.state.word(),
            one.was.word()
        )),
        [first, ..] => text.push(format!(
            "{} servers: {}",
            report.servers.len(),
            first.state.word()
        )),
        [] => {}
    }
    text.extend(report.notes.iter().cloned());
    let not_kept = report.not_kept.as_ref();
    text.extend(not_kept.map(|error| format!("a restart forgets it: {error}")));
    Message {
        text: text.join("; "),
        is_error: report.not_kept.is_some(),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
pub(super) mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::control::findings;

    /// A Backup with one service, and a server of it that is out over UDP.
    pub(in crate::cli::top) fn picture() -> Box<Picture> {
        let status = json!({
            "version": "0.1.0", "node": "ds2", "uptime_seconds": 185.0,
            "configuration_hash": "0123", "configuration_parts": {},
            "instances": [{
                "name": "dns", "state": "backup", "in_state_seconds": 184.0, "ownership": "absent",
                "ready": true, "obstacle": null, "last_transition": null,
                "priority": { "base": 150, "effective": 100 }, "vrrp_version": 3, "family": "ipv4",
                "interface": "eth2", "virtual_router_id": 50, "group": null, "addresses": [],
                "active": {
                    "address": "192.168.56.181", "priority": 200, "interval_seconds": 0.1,
                    "checksum": "pseudo-header", "authenticated": false,
                },
                "stands_aside": null,
                "silence": { "longest_seconds": 0.110, "limit_seconds": 0.341 }, "lateness": null,
                "tracked": [{
                    "kind": "script", "name": "upstream", "condition": "failing", "fault": false,
                    "adds": -50,
                }],
                "faults": [],
                "counters": { "adverts_sent": 0, "adverts_received": 9, "adverts_rejected": {} },
            }],
            "services": [{ "name": "resolver", "pools": [
                pool("udp", 1, json!(1024.0), &[
                    server("192.168.56.183", "in", (20, 100), json!(0.0032), json!(1024.0)),
                    server("192.168.56.184", "out", (0, 1), Value::Null, json!(0.0)),
                ]),
                pool("tcp", 2, Value::Null, &[
                    server("192.168.56.183", "in", (1, 1), json!(0.35), Value::Null),
                    server("192.168.56.184", "in", (1, 1), json!(0.0005), json!(2.5)),
                ]),
            ] }],
            "hand_problems": [], "address_conflicts": [], "path_problems": [], "table_problems": [],
            "findings": [],
        });
        let mut status: Status = serde_json::from_value(status).unwrap();
        status.findings = findings::findings(&status);
        let event = |number, time, subject, text| {
            json!({
                "number": number, "time": time, "severity": "info", "kind": "role_changed",
                "subject": subject, "text": text,
            })
        };
        let events = json!([
            event(1, "1970-01-01T00:00:15Z", "dns", "backup"),
            event(2, "1970-01-01T00:01:40Z", "resolver/192.168.56.184", "out"),
        ]);
        Box::new(Picture {
            status,
            events: serde_json::from_value(events).unwrap(),
            at: Instant::now(),
        })
    }

    fn pool(protocol: &str, healthy: usize, rate: Value, servers: &[Value]) -> Value {
        json!({
            "family": "ipv4", "protocol": protocol, "healthy": healthy, "needed": 1, "quorum": true,
            "floor": null, "sorry_server": null, "queries_per_second": rate, "servers": servers,
        })
    }

    fn server(name: &str, state: &str, weight: (u16, u16), latency: Value, rate: Value) -> Value {
        let failure = (state == "out")
            .then(|| json!({ "kind": "timeout", "text": "no answer within 300 ms" }));
        let slow_start = if weight.1 == 100 { 20 } else { 100 };
        json!({
            "server": name, "state": state, "failure": failure,
            "weight": weight.0, "configured_weight": weight.1,
            "factors": { "agent": 100, "latency": 100, "slow_start": slow_start, "serial": 100 },
            "agent": null, "latency_seconds": latency, "queries_per_second": rate, "hand": null,
            "identity": null,
        })
    }

    fn press(screen: &mut Screen, keys: &str) -> Option<Act> {
        keys.chars().fold(None, |_, key| {
            screen.key(KeyEvent::from(KeyCode::Char(key)))
        })
    }

    fn selected(screen: &Screen) -> String {
        let row = screen.selected().unwrap();
        format!("{} {}", row.place(), row.pool.protocol.as_deref().unwrap())
    }

    #[test]
    fn nothing_is_done_without_a_yes() {
        let mut screen = Screen::new(picture());
        assert_eq!(press(&mut screen, "d"), None);
        assert!(matches!(screen.mode, Mode::Confirming(..)));
        assert_eq!(
            press(&mut screen, "d"),
            None,
            "the same key again is no yes"
        );
        assert_eq!(screen.mode, Mode::Watching);
        assert_eq!(screen.message.as_ref().unwrap().text, "nothing was done");
        let order = |servers: &str, state| {
            Some(Act::Order(Order {
                servers: servers.parse().unwrap(),
                state,
            }))
        };
        let drain = order("resolver/192.168.56.183", State::Drained);
        assert_eq!(press(&mut screen, "dy"), drain);
        let disable = order("resolver/192.168.56.184", State::Disabled);
        assert_eq!(press(&mut screen, "jxy"), disable);
        let enable = order("resolver/*", State::Enabled);
        assert_eq!(
            press(&mut screen, "kkey"),
            enable,
            "on the line of the service"
        );
    }

    #[test]
    fn who_would_be_left_is_said_before() {
        let mut screen = Screen::new(picture());
        press(&mut screen, "d");
        let Mode::Confirming(_, question) = &screen.mode else {
            panic!("{:?}", screen.mode);
        };
        let warning = question.warning.as_deref();
        assert_eq!(warning, Some("NOBODY ELSE TAKES QUERIES over udp"));
        press(&mut screen, "njd");
        let Mode::Confirming(_, question) = &screen.mode else {
            panic!("{:?}", screen.mode);
        };
        let text = "drain resolver/192.168.56.184 on this director?";
        assert_eq!((question.text.as_str(), &question.warning), (text, &None));
    }

    #[test]
    fn the_selection_stays_with_its_server() {
        let mut screen = Screen::new(picture());
        assert_eq!(selected(&screen), "resolver/192.168.56.183 udp");
        press(&mut screen, "j");
        let mut next = picture();
        let servers = &mut next.status.services[0].pools[0].servers;
        let mut newcomer = servers[0].clone();
        newcomer.server = "192.168.56.1".to_owned();
        servers.insert(0, newcomer);
        screen.hear(News::Picture(Ok(next)));
        assert_eq!(selected(&screen), "resolver/192.168.56.184 udp");
        let mut less = picture();
        less.status.services.clear();
        screen.hear(News::Picture(Ok(less)));
        assert!(screen.selected().is_none());
        press(&mut screen, "jk");
        assert_eq!(press(&mut screen, "d"), None);
        assert!(screen.message.as_ref().unwrap().is_error);
        screen.hear(News::Picture(Ok(picture())));
        for (key, line) in [
            (KeyCode::End, "resolver/192.168.56.184 tcp"),
            (KeyCode::Down, "resolver/192.168.56.184 tcp"),
            (KeyCode::Home, "resolver/* udp"),
            (KeyCode::Up, "resolver/* udp"),
            (KeyCode::PageDown, "resolver/192.168.56.184 tcp"),
            (KeyCode::PageUp, "resolver/* udp"),
        ] {
            screen.key(KeyEvent::from(key));
            assert_eq!(selected(&screen), line, "{key:?}");
        }
    }

    #[test]
    fn a_director_that_is_away_gets_no_orders() {
        let mut screen = Screen::new(picture());
        screen.hear(News::Picture(Err("gone".to_owned())));
        assert_eq!(press(&mut screen, "dy"), None);
        screen.hear(News::Picture(Ok(picture())));
        assert_eq!(screen.silence, None);
        assert!(press(&mut screen, "dy").is_some());
    }

    #[test]
    fn what_became_of_an_order_is_said() {
        let mut screen = Screen::new(picture());
        let report = json!({
            "servers": [{ "server": "resolver/192.0.2.1", "state": "drained", "was": "enabled" }],
            "notes": ["nobody is left over udp"], "not_kept": null,
        });
        screen.hear(News::Done(Ok(serde_json::from_value(report).unwrap())));
        let message = screen.message.clone().unwrap();
        let text = "resolver/192.0.2.1: drained, was enabled; nobody is left over udp";
        assert_eq!((message.text.as_str(), message.is_error), (text, false));
        screen.hear(News::Done(Err("no".to_owned())));
        assert!(screen.message.as_ref().unwrap().is_error);
    }

    #[test]
    fn every_way_out_ends_it() {
        let control_c = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
        for key in [KeyCode::Char('q').into(), KeyCode::Esc.into(), control_c] {
            assert_eq!(Screen::new(picture()).key(key), Some(Act::Quit));
        }
        let mut screen = Screen::new(picture());
        press(&mut screen, "d");
        assert_eq!(
            screen.key(control_c),
            Some(Act::Quit),
            "from a question too"
        );
    }
}
