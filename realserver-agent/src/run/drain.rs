//! Leaving without loss: when the VIP may go, and what can be said for it. Pure: no clock, no I/O.
//!
//! Once `drain` stands on the agent-check line, a director that reads it sends nothing new. What it had
//! sent before is still on its way, so the quiet is counted from the last of: the announcement, the
//! first time that each director read it, the last query.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use lvs_system::seconds;

/// How long is waited.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Patience {
    /// So long no query may have come.
    #[serde(rename = "quiet_seconds", with = "seconds")]
    pub quiet: Duration,
    /// After so long the VIP goes anyway.
    #[serde(rename = "limit_seconds", with = "seconds")]
    pub limit: Duration,
}

impl Patience {
    /// With these times instead, where there are any.
    #[must_use]
    pub fn with(self, quiet: Option<Duration>, limit: Option<Duration>) -> Self {
        Self {
            quiet: quiet.unwrap_or(self.quiet),
            limit: limit.unwrap_or(self.limit),
        }
    }
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            quiet: Duration::from_secs(2),
            limit: Duration::from_secs(30),
        }
    }
}

/// A drain under way.
#[derive(Clone, Debug)]
pub struct Drain {
    patience: Patience,
    announced: Instant,
    /// Directors that read the line lately, and when they first read it since the announcement.
    directors: BTreeMap<IpAddr, Option<Instant>>,
    /// Directors that can't be told, since they don't read the line.
    silent: BTreeSet<IpAddr>,
    /// `None` where queries can't be counted.
    queries: Option<u64>,
    last_query: Option<Instant>,
}

/// How a drain stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Look again at this time at the latest, and whenever something was heard.
    Waiting(Instant),
    /// The VIP can go: all is quiet, or the limit has come.
    Over,
}

/// What can be said when the VIP is gone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Certificate {
    /// What it comes to.
    pub verdict: Verdict,
    /// Queries that came after the announcement and before the VIP went; `None` where they aren't counted.
    pub queries: Option<u64>,
    /// The last of them, from the announcement on.
    #[serde(rename = "last_query_after_seconds", with = "seconds::optional")]
    pub last_query_after: Option<Duration>,
    /// How long nothing had come when the VIP went.
    #[serde(rename = "quiet_seconds", with = "seconds")]
    pub quiet: Duration,
    /// What was asked for.
    pub patience: Patience,
    /// From the announcement to the end of the wait.
    #[serde(rename = "waited_seconds", with = "seconds")]
    pub waited: Duration,
    /// Who has read the announcement.
    pub told: Vec<Told>,
    /// Who had read the line shortly before and hasn't since.
    pub untold: Vec<IpAddr>,
    /// Who is configured as a director and doesn't read the line.
    pub silent: Vec<IpAddr>,
    /// Queries that came for the VIP when it was gone, which were lost.
    pub lost: Option<u64>,
    /// Who was sending them.
    #[serde(default)]
    pub senders: Senders,
}

/// Who sends queries here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Senders {
    /// Directors, which read the line.
    #[default]
    Directors,
    /// With anycast, routers that were told of a worse way to every VIP, its degraded tier.
    RoutersOfTiers,
    /// With anycast, routers that are told nothing of a drain.
    Routers,
}

/// A director that has read the announcement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Told {
    /// The address that it asked from.
    pub director: IpAddr,
    /// From the announcement to its first reading.
    #[serde(rename = "after_seconds", with = "seconds")]
    pub after: Duration,
}

/// What a certificate comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Every director was told, and then nothing came any more.
    Safe,
    /// Nothing came any more, but not every director was told: another may send the next query at any time.
    QuietOnly,
    /// Queries may have been lost.
    Unsafe,
}

impl Drain {
    /// Begins at the announcement. `readers` have read the line lately, while the others of `configured`
    /// haven't: those aren't waited for. `counted` says whether queries are counted.
    pub fn announce(
        now: Instant,
        patience: Patience,
        readers: impl IntoIterator<Item = IpAddr>,
        configured: impl IntoIterator<Item = IpAddr>,
        counted: bool,
    ) -> Self {
        let directors: BTreeMap<IpAddr, Option<Instant>> =
            readers.into_iter().map(|reader| (reader, None)).collect();
        let configured = configured.into_iter();
        Self {
            patience,
            announced: now,
            silent: configured
                .filter(|director| !directors.contains_key(director))
                .collect(),
            directors,
            queries: counted.then_some(0),
            last_query: None,
        }
    }

    /// A director has read the announcement.
    pub fn hear_reader(&mut self, now: Instant, director: IpAddr) {
        self.silent.remove(&director);
        self.directors
            .entry(director)
            .or_default()
            .get_or_insert(now);
    }

    /// So many queries have come since this was called last.
    pub fn hear_queries(&mut self, now: Instant, queries: u64) {
        if let Some(sum) = &mut self.queries
            && queries > 0
        {
            *sum += queries;
            self.last_query = Some(now);
        }
    }

    /// How it stands.
    pub fn progress(&self, now: Instant) -> Progress {
        let limit = self.announced + self.patience.limit;
        let quiet = self.quiet_from().map(|from| from + self.patience.quiet);
        let end = quiet.map_or(limit, |quiet| quiet.min(limit));
        if now >= end {
            Progress::Over
        } else {
            Progress::Waiting(end)
        }
    }

    /// When the VIP went at `now`; `lost` came for it afterwards.
    pub fn certify(&self, now: Instant, lost: Option<u64>) -> Certificate {
        let is_quiet = self
            .quiet_from()
            .is_some_and(|from| now >= from + self.patience.quiet);
        let told = self.directors.iter().filter_map(|(director, read)| {
            Some(Told {
                director: *director,
                after: (*read)? - self.announced,
            })
        });
        let told: Vec<Told> = told.collect();
        let verdict = match (is_quiet, lost) {
            (false, _) | (_, Some(1..)) => Verdict::Unsafe,
            (true, _) if told.is_empty() || !self.silent.is_empty() => Verdict::QuietOnly,
            (true, _) => Verdict::Safe,
        };
        let untold = self.directors.iter().filter(|(_, read)| read.is_none());
        Certificate {
            verdict,
            queries: self.queries,
            last_query_after: self.last_query.map(|at| at - self.announced),
            quiet: now - self.last_query.unwrap_or(self.announced),
            patience: self.patience,
            waited: now - self.announced,
            told,
            untold: untold.map(|(director, _)| *director).collect(),
            silent: self.silent.iter().copied().collect(),
            lost,
            senders: Senders::Directors,
        }
    }

    /// From when on nothing should come any more; `None` while a director isn't told, and where nothing is
    /// counted.
    fn quiet_from(&self) -> Option<Instant> {
        self.queries?;
        let mut from = self.last_query.unwrap_or(self.announced);
        for read in self.directors.values() {
            from = from.max((*read)?);
        }
        Some(from)
    }
}

impl Certificate {
    /// The same where others than directors may send, too: nobody knows who of them was told.
    #[must_use]
    pub fn with_senders(self, senders: Senders) -> Self {
        let verdict = match (self.verdict, senders) {
            (Verdict::Safe, Senders::Routers | Senders::RoutersOfTiers) => Verdict::QuietOnly,
            (verdict, _) => verdict,
        };
        Self {
            verdict,
            senders,
            ..self
        }
    }
}

impl Senders {
    fn what_is_quiet(self) -> &'static str {
        match self {
            Self::Directors => "quiet, but no director was told",
            Self::RoutersOfTiers => "quiet, as far as routers follow the degraded tier",
            Self::Routers => "quiet, but no router was told",
        }
    }

    /// What is to be known when no director was told.
    fn what_was_not_told(self) -> &'static str {
        match self {
            Self::Directors => {
                "no director has read `drain` on the agent-check line: this is only as good as the \
                 quiet; have them check `agent`, or drain the server on each director first"
            }
            Self::RoutersOfTiers => {
                "the VIPs were on the interface of their degraded tier meanwhile: clients without a better \
                 site still came here"
            }
            Self::Routers => {
                "no router is told of a drain, and each sends here while the VIP is announced: have the \
                 routing daemon make its route worse first, or give the VIP a degraded tier"
            }
        }
    }

    /// What to see to when it was not quiet.
    fn whom_to_see(self) -> &'static str {
        match self {
            Self::Directors => "see who sends, and whether each director has taken this server out",
            Self::RoutersOfTiers | Self::Routers => {
                "see whether another site announces the VIP, and at a better metric"
            }
        }
    }
}

impl fmt::Display for Certificate {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = |duration: Duration| format!("{:.1} s", duration.as_secs_f64());
        let verdict = match self.verdict {
            Verdict::Safe => "safe",
            Verdict::QuietOnly if self.told.is_empty() || self.senders != Senders::Directors => {
                self.senders.what_is_quiet()
            }
            Verdict::QuietOnly => "quiet, but not every director was told",
            Verdict::Unsafe => "NOT safe",
        };
        writeln!(formatter, "left: {verdict}")?;
        if self.told.is_empty() || self.senders != Senders::Directors {
            writeln!(formatter, "  {}", self.senders.what_was_not_told())?;
        }
        for Told { director, after } in &self.told {
            writeln!(
                formatter,
                "  {director} read `drain` after {}",
                seconds(*after)
            )?;
        }
        for director in &self.untold {
            writeln!(
                formatter,
                "  {director} read the line before, and has not read `drain` in {}; is it still a \
                 director?",
                seconds(self.waited)
            )?;
        }
        for director in &self.silent {
            writeln!(
                formatter,
                "  {director} was not told: it is one of `directors`, and doesn't read the line; have it \
                 check `agent`, or drain the server there first"
            )?;
        }
        match (self.queries, self.last_query_after) {
            (None, _) => writeln!(
                formatter,
                "  queries were not counted, which takes CAP_NET_RAW; waited for {}",
                seconds(self.waited)
            )?,
            (Some(0), _) | (_, None) => writeln!(
                formatter,
                "  no query came after the announcement; quiet for {}",
                seconds(self.quiet)
            )?,
            (Some(queries), Some(after)) => writeln!(
                formatter,
                "  {queries} queries came here after the announcement, the last after {}; quiet for {}",
                seconds(after),
                seconds(self.quiet)
            )?,
        }
        if self.queries.is_some() && self.quiet < self.patience.quiet {
            writeln!(
                formatter,
                "  still not quiet for {} after {}, the limit: {}",
                seconds(self.patience.quiet),
                seconds(self.patience.limit),
                self.senders.whom_to_see()
            )?;
        }
        match self.lost {
            Some(0) => writeln!(formatter, "  none came after the VIP was gone"),
            Some(lost) => writeln!(
                formatter,
                "  {lost} came after the VIP was gone, and were lost"
            ),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::net::Ipv4Addr;

    use super::*;

    const PATIENCE: Patience = Patience {
        quiet: Duration::from_secs(2),
        limit: Duration::from_secs(30),
    };
    const DS1: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 168, 56, 181));
    const DS2: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 168, 56, 182));

    fn ms(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    fn drain(directors: &[IpAddr]) -> (Instant, Drain) {
        let start = Instant::now();
        let readers = directors.iter().copied();
        (start, Drain::announce(start, PATIENCE, readers, [], true))
    }

    /// From the announcement on.
    fn end(start: Instant, drain: &Drain) -> Duration {
        match drain.progress(start) {
            Progress::Waiting(until) => until - start,
            Progress::Over => Duration::ZERO,
        }
    }

    #[test]
    fn quiet_begins_when_all_are_told_and_the_last_query_has_come() {
        let (start, mut drain) = drain(&[DS1, DS2]);
        assert_eq!(end(start, &drain), PATIENCE.limit);
        drain.hear_reader(start + ms(200), DS1);
        drain.hear_queries(start + ms(300), 20);
        assert_eq!(end(start, &drain), PATIENCE.limit);
        drain.hear_reader(start + ms(400), DS2);
        assert_eq!(end(start, &drain), ms(2400));
        // That one reads it again makes no difference, a late query does.
        drain.hear_reader(start + ms(900), DS1);
        drain.hear_queries(start + ms(1000), 0);
        assert_eq!(end(start, &drain), ms(2400));
        drain.hear_queries(start + ms(1100), 1);
        assert_eq!(end(start, &drain), ms(3100));
        assert_eq!(
            drain.progress(start + ms(3099)),
            Progress::Waiting(start + ms(3100))
        );
        assert_eq!(drain.progress(start + ms(3100)), Progress::Over);
        let certificate = drain.certify(start + ms(3110), Some(0));
        assert_eq!(certificate.verdict, Verdict::Safe);
        assert_eq!(certificate.queries, Some(21));
        assert_eq!(certificate.last_query_after, Some(ms(1100)));
        assert_eq!(certificate.quiet, ms(2010));
        assert_eq!(
            certificate.to_string(),
            "left: safe\n\
             \x20 192.168.56.181 read `drain` after 0.2 s\n\
             \x20 192.168.56.182 read `drain` after 0.4 s\n\
             \x20 21 queries came here after the announcement, the last after 1.1 s; quiet for 2.0 s\n\
             \x20 none came after the VIP was gone\n"
        );
    }

    #[test]
    fn whoever_goes_on_sending_is_waited_for_up_to_the_limit() {
        let (start, mut drain) = drain(&[DS1]);
        drain.hear_reader(start, DS1);
        for at in (1000..=30_000).step_by(1000) {
            assert_eq!(
                drain.progress(start + ms(at - 1)),
                Progress::Waiting(start + ms(at + 1000).min(PATIENCE.limit)),
                "{at}"
            );
            drain.hear_queries(start + ms(at), 1);
        }
        assert_eq!(drain.progress(start + PATIENCE.limit), Progress::Over);
        let certificate = drain.certify(start + PATIENCE.limit, Some(0));
        assert_eq!(certificate.verdict, Verdict::Unsafe);
        assert!(
            certificate
                .to_string()
                .contains("still not quiet for 2.0 s after 30.0 s")
        );
    }

    #[test]
    fn without_a_reader_there_is_only_quiet() {
        let (start, drain) = drain(&[]);
        assert_eq!(end(start, &drain), PATIENCE.quiet);
        let certificate = drain.certify(start + PATIENCE.quiet, Some(0));
        assert_eq!(certificate.verdict, Verdict::QuietOnly);
        assert!(
            certificate
                .to_string()
                .contains("only as good as the quiet")
        );
    }

    #[test]
    fn a_director_that_was_not_told_makes_it_unsafe() {
        let (start, mut drain) = drain(&[DS1, DS2]);
        drain.hear_reader(start + ms(100), DS1);
        assert_eq!(end(start, &drain), PATIENCE.limit);
        let certificate = drain.certify(start + PATIENCE.limit, Some(0));
        assert_eq!(certificate.verdict, Verdict::Unsafe);
        assert_eq!(certificate.untold, [DS2]);
        assert!(
            certificate
                .to_string()
                .contains("192.168.56.182 read the line before")
        );
    }

    #[test]
    fn a_director_that_never_reads_is_not_waited_for_and_not_told() {
        let start = Instant::now();
        let announce = || Drain::announce(start, PATIENCE, [DS1], [DS1, DS2], true);
        let mut drain = announce();
        drain.hear_reader(start + ms(100), DS1);
        assert_eq!(end(start, &drain), ms(2100));
        let certificate = drain.certify(start + ms(2100), Some(0));
        assert_eq!(certificate.verdict, Verdict::QuietOnly);
        assert_eq!(
            (&certificate.untold, &certificate.silent),
            (&vec![], &vec![DS2])
        );
        let words = certificate.to_string();
        assert!(
            words.starts_with("left: quiet, but not every director was told\n")
                && words.contains("192.168.56.182 was not told: "),
            "{words}"
        );
        // It comes back while this server drains.
        drain.hear_reader(start + ms(900), DS2);
        assert_eq!(end(start, &drain), ms(2900));
        let certificate = drain.certify(start + ms(2900), Some(0));
        assert_eq!(certificate.verdict, Verdict::Safe);
        let mut drain = announce();
        drain.hear_reader(start, DS1);
        let certificate = drain.certify(start + ms(2100), Some(1));
        assert_eq!(certificate.verdict, Verdict::Unsafe);
    }

    #[test]
    fn a_director_that_comes_late_counts_too() {
        let (start, mut drain) = drain(&[DS1]);
        drain.hear_reader(start + ms(100), DS1);
        drain.hear_reader(start + ms(1500), DS2);
        assert_eq!(end(start, &drain), ms(3500));
    }

    #[test]
    fn a_query_that_comes_too_late_is_lost_and_makes_it_unsafe() {
        let (start, mut drain) = drain(&[DS1]);
        drain.hear_reader(start, DS1);
        let certificate = drain.certify(start + PATIENCE.quiet, Some(3));
        assert_eq!(certificate.verdict, Verdict::Unsafe);
        assert!(
            certificate
                .to_string()
                .ends_with("  3 came after the VIP was gone, and were lost\n")
        );
    }

    #[test]
    fn what_is_not_counted_can_not_be_quiet() {
        let start = Instant::now();
        let mut drain = Drain::announce(start, PATIENCE, [DS1], [], false);
        drain.hear_reader(start, DS1);
        drain.hear_queries(start, 1);
        assert_eq!(end(start, &drain), PATIENCE.limit);
        let certificate = drain.certify(start + PATIENCE.limit, None);
        assert_eq!(
            (certificate.verdict, certificate.queries),
            (Verdict::Unsafe, None)
        );
    }

    #[test]
    fn what_routers_send_is_never_safe() {
        let (start, mut drain) = drain(&[DS1]);
        drain.hear_reader(start, DS1);
        let certificate = drain.certify(start + PATIENCE.quiet, Some(0));
        for (senders, words) in [
            (Senders::Routers, "no router is told of a drain"),
            (
                Senders::RoutersOfTiers,
                "the interface of their degraded tier",
            ),
        ] {
            let certificate = certificate.clone().with_senders(senders);
            assert_eq!(certificate.verdict, Verdict::QuietOnly);
            let text = certificate.to_string();
            assert!(text.starts_with("left: quiet, "), "{text}");
            assert!(text.contains(words), "{text}");
        }
        let certificate = drain.certify(start, Some(0));
        let certificate = certificate.with_senders(Senders::Routers);
        assert_eq!(certificate.verdict, Verdict::Unsafe);
        assert!(
            certificate.to_string().contains("another site announces"),
            "{certificate}"
        );
    }

    #[test]
    fn a_certificate_goes_over_the_wire() {
        let (start, mut drain) = drain(&[DS1, DS2]);
        drain.hear_reader(start + ms(250), DS1);
        drain.hear_queries(start + ms(500), 1);
        let certificate = drain.certify(start + ms(4000), Some(0));
        let text = serde_json::to_string(&certificate).unwrap();
        assert!(text.contains(r#""verdict":"unsafe""#), "{text}");
        assert!(text.contains(r#""last_query_after_seconds":0.5"#), "{text}");
        assert_eq!(
            serde_json::from_str::<Certificate>(&text).unwrap(),
            certificate
        );
    }
}
