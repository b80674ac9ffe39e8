//! Paints the screen. Sections give way to the table of servers in the order of their use: the last
//! events first.

use std::time::{Duration, Instant};

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Style, Stylize};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Cell, Clear, Paragraph, Row as TableRow, Table, Wrap};
use time::OffsetDateTime;

use super::screen::{Mode, Row, Screen, rows};
use crate::cli::status::services::words;
use crate::cli::status::{role, who_is_active};
use crate::control::findings::{is_near, name};
use crate::control::{InstanceStatus, Margin, PoolStatus, ServerState, ServerStatus, State};
use crate::events::{Event, Severity};
use crate::wording::age;

/// A picture that is older than this is said to be old: some looks are missing.
const OLD: Duration = Duration::from_secs(4);

/// Below this height of the screen there are no events.
const HEIGHT_FOR_EVENTS: u16 = 16;

/// What the keys do, for the help.
const KEYS: &[(&str, &str)] = &[
    ("up down k j", "move; Page Up, Page Down, Home and End too"),
    (
        "d",
        "drain: the server takes nothing new and keeps what it has",
    ),
    ("x", "disable: the server is out at once"),
    ("e", "enable: the server takes part again"),
    ("?", "this help"),
    ("q Escape", "end; the director goes on"),
];

/// What the help says below the keys.
const NOTES: &[&str] = &[
    "On the line of a service the keys d, x and e mean all of its servers. Each asks before anything is \
     done, and concerns this director only.",
    "MARGIN: of a Backup the longest silence of the Active against that at which it takes over; of an \
     Active the longest that an advert was late against that at which it steps down.",
    "`director status` says what is wrong in full, `director events` what has happened.",
];

/// The time at which is painted.
pub(super) struct Now {
    pub(super) clock: OffsetDateTime,
    pub(super) instant: Instant,
}

/// Paints all of it.
pub(super) fn draw(frame: &mut Frame<'_>, screen: &mut Screen, now: &Now) {
    let area = frame.area();
    let status = &screen.picture.status;
    let lines = |count: usize| u16::try_from(count).unwrap_or(u16::MAX);
    let findings = status.findings.clone();
    let instances = lines(status.instances.len()).saturating_add(1);
    let shown_findings = lines(findings.len()).min(area.height / 8);
    let events = if area.height < HEIGHT_FOR_EVENTS {
        0
    } else {
        lines(screen.picture.events.len()).min(area.height / 6) + 1
    };
    let [head, vrrp, servers, problems, recent, detail, foot] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Length(instances.min(1 + area.height / 4)),
        Constraint::Min(3),
        Constraint::Length(shown_findings),
        Constraint::Length(events),
        Constraint::Length(1),
        Constraint::Length(1),
    ])
    .areas(area);
    header(frame, head, screen, now);
    frame.render_widget(instances_table(&screen.picture.status.instances), vrrp);
    services(frame, servers, screen);
    problem_lines(frame, problems, &findings);
    if events > 0 {
        event_lines(frame, recent, &screen.picture.events, now.clock);
    }
    frame.render_widget(selected_line(screen), detail);
    frame.render_widget(footer(screen), foot);
    if screen.mode == Mode::Help {
        help(frame, area);
    }
}

fn header(frame: &mut Frame<'_>, area: Rect, screen: &Screen, now: &Now) {
    let status = &screen.picture.status;
    let age_of_picture = screen.age(now.instant);
    let who = format!("director {} on {}", status.version, status.node);
    let line = match &screen.silence {
        Some(reason) => Line::from(format!(
            "{who}: {} old, asked again and again: {reason}",
            age(age_of_picture)
        ))
        .style(Style::new().bold().white().on_red()),
        None if age_of_picture > OLD => Line::from(format!(
            "{who}: {} old, waiting for its answer",
            age(age_of_picture)
        ))
        .style(Style::new().bold().black().on_yellow()),
        None => Line::from(format!("{who}, up {}", age(status.uptime))).bold(),
    };
    frame.render_widget(line, area);
}

fn instances_table(instances: &[InstanceStatus]) -> Table<'_> {
    let heads = ["INSTANCE", "STATE", "FOR", "PRIORITY", "ACTIVE", "MARGIN"];
    let row = |instance: &InstanceStatus| {
        let priority = instance.priority;
        let priority = if priority.base == priority.effective {
            priority.base.to_string()
        } else {
            format!("{} of {}", priority.effective, priority.base)
        };
        let (margin, near) = margin(instance);
        TableRow::new([
            Cell::from(instance.name.clone()),
            Cell::from(role(instance)).style(color(match instance.state {
                State::Active => Color::Green,
                State::Backup => Color::Cyan,
                State::Initialize => Color::Yellow,
                State::Fault => Color::Red,
            })),
            Cell::from(age(instance.in_state)),
            Cell::from(priority),
            Cell::from(who_is_active(instance)),
            Cell::from(margin).style(if near {
                color(Color::Red)
            } else {
                Style::new()
            }),
        ])
    };
    let role = instances.iter().map(|instance| role(instance).len()).max();
    let role = u16::try_from(role.unwrap_or(0)).unwrap_or(u16::MAX).max(7);
    let widths = [
        Constraint::Min(8),
        Constraint::Length(role),
        Constraint::Length(7),
        Constraint::Length(10),
        Constraint::Max(22),
        Constraint::Length(20),
    ];
    Table::new(instances.iter().map(row), widths).header(heading(heads))
}

/// How close it came to a failover since it has its role, and whether that is worth a look.
fn margin(instance: &InstanceStatus) -> (String, bool) {
    let (word, margin) = match (&instance.silence, &instance.lateness) {
        (Some(silence), _) => ("silent", silence),
        (None, Some(lateness)) => ("late", lateness),
        (None, None) => return ("-".to_owned(), false),
    };
    let Margin { longest, limit } = margin;
    let text = format!("{word} {} of {} ms", longest.as_millis(), limit.as_millis());
    (text, is_near(margin))
}

fn services(frame: &mut Frame<'_>, area: Rect, screen: &mut Screen) {
    let heads = ["SERVICE", "STATE", "WEIGHT", "LATENCY", "QUERIES/S", "WHY"];
    let lines = rows(&screen.picture.status);
    if lines.is_empty() {
        let nothing = Paragraph::new("no services are configured here").dim();
        frame.render_widget(nothing, area);
        return;
    }
    let widths = [
        Constraint::Min(24),
        Constraint::Length(8),
        Constraint::Length(9),
        Constraint::Length(8),
        Constraint::Length(9),
        Constraint::Percentage(30),
    ];
    let lines = lines.into_iter().map(|row| match row.server {
        None => pool_line(&row),
        Some(server) => server_line(&row, server),
    });
    let table = Table::new(lines.collect::<Vec<_>>(), widths)
        .header(heading(heads))
        .row_highlight_style(Style::new().reversed());
    frame.render_stateful_widget(table, area, &mut screen.table);
}

fn pool_line(row: &Row<'_>) -> TableRow<'static> {
    let pool = row.pool;
    let quorum = match pool.quorum {
        Some(true) => color(Color::Green),
        Some(false) => color(Color::Red),
        None => color(Color::DarkGray),
    };
    TableRow::new([
        Cell::from(format!("{} {}", row.service.name, name(row.service, pool))),
        Cell::from(health(pool)).style(quorum),
        Cell::from(""),
        Cell::from(""),
        Cell::from(rate(pool.queries_per_second)),
        Cell::from(pool.floor.clone().unwrap_or_default()),
    ])
    .bold()
}

fn server_line(row: &Row<'_>, server: &ServerStatus) -> TableRow<'static> {
    let [state, _, why] = words(row.service, server);
    let weight = if server.weight == server.configured_weight {
        server.weight.to_string()
    } else {
        format!("{} of {}", server.weight, server.configured_weight)
    };
    TableRow::new([
        Cell::from(format!("  {}", server.server)),
        Cell::from(state).style(color(match server.state {
            ServerState::In => Color::Green,
            ServerState::Kept | ServerState::Drained => Color::Yellow,
            ServerState::Out => Color::Red,
            ServerState::Disabled => Color::Magenta,
            ServerState::Unknown => Color::DarkGray,
        })),
        Cell::from(weight),
        Cell::from(server.latency.map_or_else(|| "-".to_owned(), latency)),
        Cell::from(rate(server.queries_per_second)),
        Cell::from(why),
    ])
}

fn health(pool: &PoolStatus) -> String {
    format!("{} of {}", pool.healthy, pool.servers.len())
}

fn problem_lines(frame: &mut Frame<'_>, area: Rect, findings: &[String]) {
    let shown = usize::from(area.height);
    let mut lines: Vec<Line<'_>> = findings
        .iter()
        .take(shown)
        .map(|finding| Line::from(finding.as_str()).style(color(Color::Yellow)))
        .collect();
    if findings.len() > shown
        && let Some(last) = lines.last_mut()
    {
        let more = findings.len() - shown + 1;
        *last =
            Line::from(format!("{more} more; see `director status`")).style(color(Color::Yellow));
    }
    frame.render_widget(Paragraph::new(lines), area);
}

fn event_lines(frame: &mut Frame<'_>, area: Rect, events: &[Event], now: OffsetDateTime) {
    let line = |event: &Event| {
        let ago = Duration::try_from(now - event.time).unwrap_or_default();
        let style = match event.severity {
            Severity::Info => Style::new(),
            Severity::Warning => color(Color::Yellow),
            Severity::Error => color(Color::Red),
        };
        Line::from(vec![
            Span::from(format!("{:>7} ago  ", age(ago))).dim(),
            Span::styled(said(event), style),
        ])
    };
    let shown = usize::from(area.height.saturating_sub(1));
    let mut lines = vec![Line::from("LAST EVENTS").style(HEADING)];
    lines.extend(events.iter().rev().take(shown).map(line));
    frame.render_widget(Paragraph::new(lines), area);
}

/// As `director events` says it.
fn said(event: &Event) -> String {
    let subject = event.subject.as_deref().unwrap_or("director");
    format!("{subject}: {}", event.text)
}

/// What is asked, or all of what may be cut off in the table.
fn selected_line(screen: &Screen) -> Line<'_> {
    if let Mode::Confirming(_, question) = &screen.mode {
        return Line::from(question.text.as_str()).style(QUESTION.bold());
    }
    let Some(row) = screen.selected() else {
        return Line::default();
    };
    let pool = name(row.service, row.pool);
    let text = match row.server {
        Some(server) => {
            let [state, _, why] = words(row.service, server);
            let why = if why.is_empty() {
                why
            } else {
                format!(", {why}")
            };
            format!(
                "{}/{} {pool}: {state}{why}",
                row.service.name, server.server
            )
        }
        None => format!(
            "{} {pool}: {} healthy, the quorum is {}",
            row.service.name,
            health(row.pool),
            row.pool.needed
        ),
    };
    Line::from(text).dim()
}

fn footer(screen: &Screen) -> Line<'_> {
    match (&screen.mode, &screen.message) {
        (Mode::Confirming(_, question), _) => {
            let warning = question.warning.as_ref();
            let warning = warning.map_or_else(String::new, |warning| format!("{warning}  "));
            Line::from(vec![
                Span::from(warning).bold(),
                Span::from("y: yes  any other key: no"),
            ])
            .style(QUESTION)
        }
        (_, Some(message)) if message.is_error => {
            Line::from(message.text.as_str()).style(color(Color::Red))
        }
        (_, Some(message)) => Line::from(message.text.as_str()).bold(),
        (_, None) => Line::from("d drain  x disable  e enable  ? help  q quit").dim(),
    }
}

fn help(frame: &mut Frame<'_>, area: Rect) {
    let mut lines: Vec<Line<'_>> = KEYS
        .iter()
        .map(|(keys, what)| {
            Line::from(vec![
                Span::from(format!("{keys:<13}")).bold(),
                Span::from(*what),
            ])
        })
        .collect();
    for note in NOTES {
        lines.push(Line::default());
        lines.push(Line::from(*note));
    }
    let block = Block::bordered()
        .title("director top")
        .title_bottom("any key: back");
    let [_, middle, _] = Layout::horizontal([
        Constraint::Fill(1),
        Constraint::Max(78),
        Constraint::Fill(1),
    ])
    .areas(area);
    frame.render_widget(Clear, middle);
    frame.render_widget(
        Paragraph::new(lines).wrap(Wrap { trim: true }).block(block),
        middle,
    );
}

const QUESTION: Style = Style::new().fg(Color::Black).bg(Color::Yellow);
const HEADING: Style = Style::new().underlined();

fn heading<const COLUMNS: usize>(heads: [&'static str; COLUMNS]) -> TableRow<'static> {
    TableRow::new(heads).style(HEADING)
}

fn color(color: Color) -> Style {
    Style::new().fg(color)
}

fn latency(time: Duration) -> String {
    let milliseconds = time.as_secs_f64() * 1000.0;
    if milliseconds < 100.0 {
        format!("{milliseconds:.1} ms")
    } else {
        format!("{milliseconds:.0} ms")
    }
}

/// Nothing where the kernel doesn't count.
fn rate(rate: Option<f64>) -> String {
    match rate {
        None => "-".to_owned(),
        Some(rate) if rate > 0.0 && rate < 10.0 => format!("{rate:.1}"),
        Some(rate) => grouped(&format!("{rate:.0}")),
    }
}

/// Thousands are set apart.
fn grouped(digits: &str) -> String {
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::time::SystemTime;

    use ratatui::Terminal;
    use ratatui::backend::TestBackend;
    use ratatui::crossterm::event::{KeyCode, KeyEvent};

    use super::*;
    use crate::cli::top::feed::News;
    use crate::cli::top::screen::tests::picture;

    fn painted(screen: &mut Screen, width: u16, height: u16, later: Duration) -> String {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        let now = Now {
            clock: OffsetDateTime::from(SystemTime::UNIX_EPOCH) + Duration::from_secs(200),
            instant: screen.picture.at + later,
        };
        terminal.draw(|frame| draw(frame, screen, &now)).unwrap();
        let buffer = terminal.backend().buffer();
        let lines = buffer
            .content()
            .chunks(usize::from(width).max(1))
            .map(|cells| {
                let line: String = cells.iter().map(|cell| cell.symbol()).collect();
                line.trim_end().to_owned() + "\n"
            });
        lines.collect()
    }

    fn shown(width: u16, height: u16) -> String {
        painted(&mut Screen::new(picture()), width, height, Duration::ZERO)
    }

    #[test]
    fn everything_fits_on_80_by_24() {
        let expected = "\
director 0.1.0 on ds2, up 3m 5s
INSTANCE  STATE   FOR     PRIORITY   ACTIVE                 MARGIN
dns       backup  3m 4s   100 of 150 192.168.56.181 (200)   silent 110 of 341 ms
SERVICE                  STATE    WEIGHT    LATENCY  QUERIES/S WHY
resolver udp             1 of 2                      1,024
  192.168.56.183         in       20 of 100 3.2 ms   1,024     slow start 20 %
  192.168.56.184         out      0 of 1    -        0         no answer within
resolver tcp             2 of 2                      -
  192.168.56.183         in       1         350 ms   -
  192.168.56.184         in       1         0.5 ms   2.5








dns: script upstream fails (-50); `journalctl -u director` has what it said
LAST EVENTS
 1m 40s ago  resolver/192.168.56.184: out
  3m 5s ago  dns: backup
resolver/192.168.56.183 udp: in, slow start 20 %
d drain  x disable  e enable  ? help  q quit
";
        let found = shown(80, 24);
        assert_eq!(found, expected, "\n{found}");
    }

    #[test]
    fn every_size_can_be_painted() {
        for height in 0..40 {
            for width in [0, 1, 7, 20, 79, 200] {
                shown(width, height);
            }
        }
        let small = shown(60, 12);
        assert!(small.contains("192.168.56.183"), "{small}");
        assert!(!small.contains("LAST EVENTS"), "{small}");
    }

    #[test]
    fn an_old_picture_says_so_and_why() {
        let mut screen = Screen::new(picture());
        let found = painted(&mut screen, 80, 24, Duration::from_secs(5));
        assert!(
            found.starts_with("director 0.1.0 on ds2: 5s old, waiting"),
            "{found}"
        );
        screen.hear(News::Picture(Err("no director answers".to_owned())));
        let found = painted(&mut screen, 80, 24, Duration::from_secs(7));
        let expected =
            "director 0.1.0 on ds2: 7s old, asked again and again: no director answers\n";
        assert!(found.starts_with(expected), "{found}");
        assert!(
            found.contains("192.168.56.183"),
            "the last picture stays: {found}"
        );
    }

    #[test]
    fn help_and_questions_are_seen() {
        let mut screen = Screen::new(picture());
        screen.key(KeyEvent::from(KeyCode::Char('d')));
        let found = painted(&mut screen, 80, 24, Duration::ZERO);
        let question = "\ndrain resolver/192.168.56.183 on this director?\n\
                        NOBODY ELSE TAKES QUERIES over udp  y: yes  any other key: no\n";
        assert!(found.ends_with(question), "{found}");
        screen.key(KeyEvent::from(KeyCode::Char('n')));
        screen.key(KeyEvent::from(KeyCode::Char('?')));
        let found = painted(&mut screen, 80, 24, Duration::ZERO);
        for (keys, what) in KEYS {
            assert!(
                found.contains(keys) && found.contains(what),
                "{keys}: {found}"
            );
        }
    }

    #[test]
    fn a_thousand_servers_can_be_walked_through() {
        let mut picture = picture();
        let pool = &mut picture.status.services[0].pools[0];
        let server = pool.servers[0].clone();
        pool.servers = (0..1000_u16)
            .map(|number| ServerStatus {
                server: format!("10.0.{}.{}", number / 250, number % 250),
                ..server.clone()
            })
            .collect();
        let mut screen = Screen::new(picture);
        for _ in 0..600 {
            screen.key(KeyEvent::from(KeyCode::Down));
        }
        let found = painted(&mut screen, 80, 24, Duration::ZERO);
        assert!(found.contains("  10.0.2.100  "), "{found}");
        assert!(found.contains("resolver/10.0.2.100 udp: in"), "{found}");
    }

    #[test]
    fn figures_are_short() {
        for (figure, said) in [
            (None, "-"),
            (Some(0.0), "0"),
            (Some(0.25), "0.2"),
            (Some(9.0), "9.0"),
            (Some(999.6), "1,000"),
            (Some(1_234_567.0), "1,234,567"),
        ] {
            assert_eq!(rate(figure), said);
        }
        assert_eq!(latency(Duration::from_micros(1_250)), "1.2 ms");
        assert_eq!(latency(Duration::from_millis(250)), "250 ms");
    }
}
