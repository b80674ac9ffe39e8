//! What a server says of itself: a line in the words of HAProxy's agent check (HAProxy's
//! configuration manual, `agent-check`).
//!
//! Words are parted by spaces, tabs and commas, in any order and in letters of any case:
//! `up`, or `down`, `fail`, `failed`, `stopped`; `ready`, `drain` or `maint`; a weight such as `75%`;
//! `maxconn:N`, which is read and has no effect. Behind a `#` is a description. What a line doesn't
//! mention stays as it was said last.

use core::fmt;
use core::str;

/// Bytes that a line has at most, its end included.
pub const LONGEST_LINE: usize = 512;

/// As much of a description is kept, in characters.
const LONGEST_DESCRIPTION: usize = 200;

/// How much a server takes, as it has said so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Report {
    /// What may be sent to it.
    pub mode: Mode,
    /// Of its configured weight: 0 to 100 %.
    pub weight: u8,
}

/// What may be sent to a server; the greater, the less.
///
/// Displays as its word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Mode {
    /// Everything.
    Ready,
    /// Nothing new.
    Drain,
    /// Nothing.
    Maintenance,
}

/// Whether a server works, in its own words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Health {
    /// It does.
    Up,
    /// It doesn't: its word, and why where it says so, for people.
    Down(String),
}

/// What one line mentions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Line {
    /// Whether it works.
    pub health: Option<Health>,
    /// What may be sent to it.
    pub mode: Option<Mode>,
    /// Of its configured weight: 0 to 100 %.
    pub weight: Option<u8>,
}

/// Why a line says nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    /// No word.
    #[error("the agent says nothing")]
    Empty,
    /// Bytes that aren't text (UTF-8).
    #[error("the agent doesn't say text")]
    NotText,
    /// A word that isn't one.
    #[error("`{0}` is not a word of an agent")]
    UnknownWord(String),
    /// Two words of a kind.
    #[error("the agent says `{0}` and something else")]
    Contradiction(String),
}

impl Default for Report {
    /// Of a server that hasn't said anything.
    fn default() -> Self {
        Self {
            mode: Mode::Ready,
            weight: 100,
        }
    }
}

impl Report {
    /// What two that speak for a server agree on.
    pub fn least(self, other: Self) -> Self {
        Self {
            mode: self.mode.max(other.mode),
            weight: self.weight.min(other.weight),
        }
    }

    /// Takes what a line mentions.
    pub fn hear(&mut self, line: &Line) {
        if let Some(mode) = line.mode {
            self.mode = mode;
        }
        if let Some(weight) = line.weight {
            self.weight = weight;
        }
    }
}

impl Line {
    /// Reads what an agent sent, up to the first line's end; the rest means nothing.
    ///
    /// # Errors
    /// When it isn't a line of known words; nothing of it counts then.
    pub fn parse(sent: &[u8]) -> Result<Self, Unreadable> {
        let end = sent.iter().position(|byte| matches!(byte, b'\n' | b'\r'));
        let text = str::from_utf8(&sent[..end.unwrap_or(sent.len())]);
        let text = text.map_err(|_| Unreadable::NotText)?;
        let (words, description) = text.split_once('#').unwrap_or((text, ""));
        let mut line = Self::default();
        let mut words = words.split([' ', '\t', ',']).filter(|it| !it.is_empty());
        let first = words.next().ok_or(Unreadable::Empty)?;
        line.take(first, description)?;
        for word in words {
            line.take(word, description)?;
        }
        Ok(line)
    }

    fn take(&mut self, word: &str, description: &str) -> Result<(), Unreadable> {
        let unknown = || Unreadable::UnknownWord(printable(word));
        let small = word.to_ascii_lowercase();
        match small.as_str() {
            "up" => once(&mut self.health, Health::Up, word),
            "down" | "fail" | "failed" | "stopped" => {
                let description = printable(description);
                let description = description.trim();
                let why = if description.is_empty() {
                    small
                } else {
                    format!("{small}: {description}")
                };
                once(&mut self.health, Health::Down(why), word)
            }
            "ready" => once(&mut self.mode, Mode::Ready, word),
            "drain" => once(&mut self.mode, Mode::Drain, word),
            "maint" => once(&mut self.mode, Mode::Maintenance, word),
            _ => {
                if let Some(number) = small.strip_suffix('%') {
                    let weight = number_of(number).ok_or_else(unknown)?;
                    // A director never gives more than what is configured.
                    let weight = u8::try_from(weight.min(100)).map_err(|_| unknown())?;
                    return once(&mut self.weight, weight, word);
                }
                let number = small.strip_prefix("maxconn:").ok_or_else(unknown)?;
                number_of(number).map(|_| ()).ok_or_else(unknown)
            }
        }
    }
}

fn once<T>(place: &mut Option<T>, value: T, word: &str) -> Result<(), Unreadable> {
    if place.is_some() {
        return Err(Unreadable::Contradiction(printable(word)));
    }
    *place = Some(value);
    Ok(())
}

/// Digits only.
fn number_of(text: &str) -> Option<u32> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().ok())?
}

/// Fit for a log line.
fn printable(text: &str) -> String {
    let shown = text.chars().take(LONGEST_DESCRIPTION);
    shown
        .map(|letter| if letter.is_control() { ' ' } else { letter })
        .collect()
}

impl fmt::Display for Mode {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(match self {
            Self::Ready => "ready",
            Self::Drain => "drain",
            Self::Maintenance => "maint",
        })
    }
}

/// As an agent sends it, with its end.
impl fmt::Display for Line {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts = Vec::new();
        parts.extend(self.weight.map(|weight| format!("{weight}%")));
        parts.extend(self.mode.map(|mode| mode.to_string()));
        match &self.health {
            None => {}
            Some(Health::Up) => parts.push("up".to_owned()),
            Some(Health::Down(why)) => parts.push(match why.split_once(": ") {
                Some((word, description)) => format!("{word} #{description}"),
                None => why.clone(),
            }),
        }
        writeln!(formatter, "{}", parts.join(" "))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    fn line(health: Option<Health>, mode: Option<Mode>, weight: Option<u8>) -> Line {
        Line {
            health,
            mode,
            weight,
        }
    }

    #[test]
    fn haproxys_words() {
        let down = |why: &str| Some(Health::Down(why.to_owned()));
        for (sent, expected) in [
            ("up\n", line(Some(Health::Up), None, None)),
            ("UP", line(Some(Health::Up), None, None)),
            (
                "ready up 75%\r\n",
                line(Some(Health::Up), Some(Mode::Ready), Some(75)),
            ),
            (
                "up,75%\tready",
                line(Some(Health::Up), Some(Mode::Ready), Some(75)),
            ),
            ("drain\nup", line(None, Some(Mode::Drain), None)),
            ("maint", line(None, Some(Mode::Maintenance), None)),
            ("0%", line(None, None, Some(0))),
            ("250%", line(None, None, Some(100))),
            ("maxconn:30 50%", line(None, None, Some(50))),
            ("down", line(down("down"), None, None)),
            ("failed", line(down("failed"), None, None)),
            (
                "stopped#disk full, up soon",
                line(down("stopped: disk full, up soon"), None, None),
            ),
            (
                "20% fail # no\tupstream\n",
                line(down("fail: no upstream"), None, Some(20)),
            ),
        ] {
            assert_eq!(Line::parse(sent.as_bytes()), Ok(expected), "{sent:?}");
        }
    }

    #[test]
    fn what_is_no_line_says_so() {
        let unknown = |word: &str| Unreadable::UnknownWord(word.to_owned());
        let contradiction = |word: &str| Unreadable::Contradiction(word.to_owned());
        for (sent, expected) in [
            (&b""[..], Unreadable::Empty),
            (b"\nup", Unreadable::Empty),
            (b"# up", Unreadable::Empty),
            (b"\xff", Unreadable::NotText),
            (b"up and running", unknown("and")),
            (b"HTTP/1.1 200 OK\r\n", unknown("HTTP/1.1")),
            (b"%", unknown("%")),
            (b"-5%", unknown("-5%")),
            (b"7.5%", unknown("7.5%")),
            (b"99999999999%", unknown("99999999999%")),
            (b"maxconn:", unknown("maxconn:")),
            (b"a\x1b[2J", unknown("a [2J")),
            (b"up down", contradiction("down")),
            (b"drain ready", contradiction("ready")),
            (b"10% 20%", contradiction("20%")),
        ] {
            assert_eq!(Line::parse(sent), Err(expected), "{sent:?}");
        }
    }

    #[test]
    fn what_is_not_mentioned_stays() {
        let mut report = Report::default();
        let mut hear = |sent: &str| {
            report.hear(&Line::parse(sent.as_bytes()).unwrap());
            (report.mode, report.weight)
        };
        assert_eq!(hear("up"), (Mode::Ready, 100));
        assert_eq!(hear("drain 50%"), (Mode::Drain, 50));
        assert_eq!(hear("up"), (Mode::Drain, 50));
        assert_eq!(hear("ready"), (Mode::Ready, 50));
        assert_eq!(hear("100% maint"), (Mode::Maintenance, 100));
    }

    fn any_line() -> impl Strategy<Value = Line> {
        let why = prop_oneof![
            prop::sample::select(vec!["down", "fail", "failed", "stopped"]).prop_map(str::to_owned),
            ("down|stopped", "[a-z][a-z #:%]{0,30}[a-z]")
                .prop_map(|(word, why)| format!("{word}: {why}")),
        ];
        let health = prop_oneof![Just(Health::Up), why.prop_map(Health::Down)];
        let modes = vec![Mode::Ready, Mode::Drain, Mode::Maintenance];
        let all = (
            prop::option::of(health),
            prop::option::of(prop::sample::select(modes)),
            prop::option::of(0..=100_u8),
        );
        all.prop_filter_map("a line says something", |(health, mode, weight)| {
            let said = line(health, mode, weight);
            (said != Line::default()).then_some(said)
        })
    }

    proptest! {
        #[test]
        fn what_is_written_reads_the_same(said in any_line()) {
            prop_assert_eq!(Line::parse(said.to_string().as_bytes()), Ok(said));
        }

        #[test]
        fn any_bytes_are_read(sent in prop::collection::vec(any::<u8>(), 0..LONGEST_LINE)) {
            let _ = Line::parse(&sent);
        }
    }
}
