//! What is watched of the real servers' DNS data, and what follows for their weights.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use lvs_health::watched::Watched;
use lvs_proto::dns::Name;
use lvs_proto::health::serial::{Standing, ZoneSerials};
use lvs_proto::health::{FailureKind, Percent};
use tokio::sync::mpsc::UnboundedSender;
use tokio::task::AbortHandle;
use tracing::{info, warn};

use crate::config::{Configuration, DnssecWatch, RealServerKey, Watch, ZoneWatch};
use crate::control::Failure;
use crate::health::{Event, Observation, watch};
use crate::metrics::Metrics;

/// A server of a service.
type Place = (String, RealServerKey);

/// What zones and validation leave of servers' weights; those that aren't here have all of it.
pub(super) type Leftovers = HashMap<Place, Percent>;

/// So many looks in a row show that a resolver doesn't validate.
const LOOKS: u32 = 2;

/// All that is watched.
pub(super) struct Watches {
    running: HashMap<Place, Running>,
    watchers: HashMap<Watched, Watcher>,
    /// What those look at, by their numbers.
    numbers: HashMap<u64, Watched>,
    zones: HashMap<(String, Name), Zone>,
    started: u64,
    metrics: Arc<Metrics>,
    events: UnboundedSender<Event>,
}

/// A server of a service that is watched.
struct Running {
    server: SocketAddr,
    watch: Arc<Watch>,
    signed: Looks,
    bogus: Looks,
}

/// What speaks against a server.
pub(super) struct Complaint<'w> {
    /// The service's name.
    pub(super) service: &'w str,
    /// As status has it.
    pub(super) real_server: String,
    /// In words.
    pub(super) failure: Failure,
}

/// Who looks, and for whom.
struct Watcher {
    number: u64,
    handle: AbortHandle,
    places: Vec<Place>,
}

/// How looks at one name came out.
#[derive(Clone, Copy, Default)]
struct Looks {
    bad_in_a_row: u32,
    good: bool,
}

struct Zone {
    settings: ZoneWatch,
    serials: ZoneSerials<RealServerKey>,
}

impl Watches {
    /// Nothing is watched yet. Watchers will tell `events`.
    pub(super) fn new(metrics: Arc<Metrics>, events: UnboundedSender<Event>) -> Self {
        Self {
            running: HashMap::new(),
            watchers: HashMap::new(),
            numbers: HashMap::new(),
            zones: HashMap::new(),
            started: 0,
            metrics,
            events,
        }
    }

    /// Watches what a configuration asks for, and nothing else. What is known of servers that are
    /// watched as before stays.
    pub(super) fn arrange(&mut self, configuration: &Configuration) {
        let mut wanted = HashMap::<Place, (SocketAddr, Arc<Watch>)>::new();
        let mut zones = HashMap::new();
        for service in &configuration.services {
            let Some(watch) = &service.watch else {
                continue;
            };
            let shared = Arc::new(watch.clone());
            for server in &service.real_servers {
                let port = service.watched_port(server).get();
                let address = SocketAddr::new(server.key.address, port);
                let place = (service.name.clone(), server.key);
                wanted.insert(place, (address, Arc::clone(&shared)));
            }
            for settings in &watch.zones {
                zones.insert(
                    (service.name.clone(), settings.name.clone()),
                    settings.clone(),
                );
            }
        }
        let ended: Vec<Place> = self
            .running
            .iter()
            .filter(|(place, running)| {
                wanted.get(place).is_none_or(|(server, watch)| {
                    *server != running.server || *watch != running.watch
                })
            })
            .map(|(place, _)| place.clone())
            .collect();
        for place in ended {
            self.running.remove(&place);
            self.metrics.watches().forget(&place.0, place.1);
        }
        self.zones.retain(|key, _| zones.contains_key(key));
        for (key, settings) in zones {
            let service = key.0.clone();
            let zone = self.zones.entry(key).or_insert_with(|| Zone {
                settings: settings.clone(),
                serials: ZoneSerials::default(),
            });
            zone.settings = settings;
            zone.serials
                .retain(|server| wanted.contains_key(&(service.clone(), *server)));
        }
        for (place, (server, watch)) in wanted {
            self.running.entry(place).or_insert_with(|| Running {
                server,
                watch,
                signed: Looks::default(),
                bogus: Looks::default(),
            });
        }
        self.arrange_watchers();
    }

    /// One for each thing to look at, however many services want to know.
    fn arrange_watchers(&mut self) {
        let mut wanted = HashMap::<Watched, Vec<Place>>::new();
        for (place, running) in &self.running {
            for look in running.watch.looks() {
                let watched = Watched {
                    server: running.server,
                    interval: running.watch.interval,
                    look,
                };
                wanted.entry(watched).or_default().push(place.clone());
            }
        }
        self.watchers.retain(|watched, watcher| {
            let goes_on = wanted.contains_key(watched);
            if !goes_on {
                watcher.handle.abort();
                self.numbers.remove(&watcher.number);
            }
            goes_on
        });
        for (watched, places) in wanted {
            match self.watchers.get_mut(&watched) {
                Some(watcher) => watcher.places = places,
                None => self.start(watched, places),
            }
        }
    }

    /// Takes a watcher's word.
    pub(super) fn hear(&mut self, number: u64, observation: &Observation) {
        // A watcher that was ended may have had a last word.
        let watched = self.numbers.get(&number);
        let watcher = watched.and_then(|watched| self.watchers.get(watched));
        let places = watcher.map(|watcher| watcher.places.clone());
        for place in places.unwrap_or_default() {
            self.hear_of(&place, observation.clone());
        }
    }

    fn hear_of(&mut self, place: &Place, observation: Observation) {
        let Some(running) = self.running.get_mut(place) else {
            return;
        };
        let (service, real_server) = (&place.0, place.1);
        match observation {
            Observation::Zone {
                name,
                serial,
                signature_expiry,
            } => {
                if let Some(expiry) = signature_expiry {
                    let zone = name.to_string();
                    let metrics = self.metrics.watches();
                    metrics.set_expiry(service, &zone, real_server, expiry);
                }
                let key = (service.clone(), name);
                if let (Some(serial), Some(zone)) = (serial, self.zones.get_mut(&key)) {
                    let before = zone.standings(&self.running, service);
                    let rules = zone.settings.rules;
                    zone.serials
                        .hear(real_server, serial, &rules, Instant::now());
                    zone.tell(service, &before, &self.running, &self.metrics);
                }
            }
            Observation::Signed {
                validated,
                signature_expiry,
            } => {
                let watched = running.watch.dnssec.as_ref();
                let name = watched.and_then(|dnssec| dnssec.signed.as_ref());
                let Some(name) = name.map(ToString::to_string) else {
                    return;
                };
                let metrics = self.metrics.watches();
                if let Some(expiry) = signature_expiry {
                    metrics.set_expiry(service, &name, real_server, expiry);
                }
                metrics.set_validates(service, "signed", real_server, validated);
                if let Some(good) = running.signed.count(validated) {
                    if good {
                        info!(%service, %real_server, %name, "the resolver validates: the signed zone has AD");
                    } else {
                        warn!(%service, %real_server, %name, "the resolver doesn't validate: the answer for the signed zone has no AD");
                    }
                }
            }
            Observation::Bogus { refused } => {
                let metrics = self.metrics.watches();
                metrics.set_validates(service, "bogus", real_server, refused);
                if let Some(good) = running.bogus.count(refused) {
                    if good {
                        info!(%service, %real_server, "the resolver validates: the bogus name is SERVFAIL");
                    } else {
                        warn!(%service, %real_server, "the resolver doesn't validate: it answers for the bogus name");
                    }
                }
            }
        }
    }

    /// Time has passed.
    pub(super) fn hear_time(&mut self, now: Instant) {
        for ((service, _), zone) in &mut self.zones {
            let before = zone.standings(&self.running, service);
            let rules = zone.settings.rules;
            zone.serials.hear_time(&rules, now);
            zone.tell(service, &before, &self.running, &self.metrics);
        }
    }

    /// When a server has been behind for too long, if nothing more is heard.
    pub(super) fn next(&self, now: Instant) -> Option<Instant> {
        let zones = self.zones.values();
        zones
            .filter_map(|zone| zone.serials.next(&zone.settings.rules, now))
            .min()
    }

    /// What all of that leaves of servers' weights: the least, where several things speak against one.
    pub(super) fn leftovers(&self) -> Leftovers {
        let mut leftovers = Leftovers::new();
        let mut leave = |place: &Place, weight: Percent| {
            let left = leftovers.entry(place.clone()).or_insert(Percent::ALL);
            *left = weight.min(*left);
        };
        for (place, running) in &self.running {
            for ((service, _), zone) in &self.zones {
                let standing = zone.serials.standing(&place.1);
                if *service == place.0 && standing.is_some_and(|it| it.lags) {
                    leave(place, zone.settings.weight);
                }
            }
            if let Some(DnssecWatch { weight, .. }) = running.watch.dnssec
                && (running.signed.shows_fault() || running.bogus.shows_fault())
            {
                leave(place, weight);
            }
        }
        leftovers
    }

    /// What speaks against servers, in words.
    pub(super) fn complaints(&self) -> impl Iterator<Item = Complaint<'_>> {
        self.running.iter().filter_map(|(place, running)| {
            Some(Complaint {
                service: &place.0,
                real_server: place.1.to_string(),
                failure: self.complaint(place, running)?,
            })
        })
    }

    fn complaint(&self, place: &Place, running: &Running) -> Option<Failure> {
        let mut zones = self.zones.iter();
        let lag = zones.find_map(|((name, zone), watched)| {
            let standing = watched.serials.standing(&place.1)?;
            let head = watched.serials.head()?;
            (*name == place.0 && standing.lags).then(|| {
                let Standing { serial, lag, .. } = standing;
                format!("zone {zone} is at serial {serial}, {lag} behind {head}")
            })
        });
        let validation = if running.signed.shows_fault() {
            Some("doesn't validate: no AD for the signed zone")
        } else if running.bogus.shows_fault() {
            Some("doesn't validate: it answers for the bogus name")
        } else {
            None
        };
        let text = lag.or_else(|| validation.map(str::to_owned))?;
        Some(Failure {
            kind: FailureKind::Content.to_string(),
            text,
        })
    }

    /// Ends them all.
    pub(super) fn stop(self) {
        for watcher in self.watchers.into_values() {
            watcher.handle.abort();
        }
    }

    fn start(&mut self, watched: Watched, places: Vec<Place>) {
        self.started += 1;
        let number = self.started;
        let handle = watch::spawn(number, watched.clone(), self.events.clone());
        self.numbers.insert(number, watched.clone());
        let watcher = Watcher {
            number,
            handle,
            places,
        };
        self.watchers.insert(watched, watcher);
    }
}

impl Looks {
    /// Counts one, and says what is known now if that is something else.
    fn count(&mut self, good: bool) -> Option<bool> {
        let before = (self.good, self.shows_fault());
        self.bad_in_a_row = if good { 0 } else { self.bad_in_a_row + 1 };
        self.good = good || self.good && !self.shows_fault();
        let after = (self.good, self.shows_fault());
        (before != after && (after.0 || after.1)).then_some(!after.1)
    }

    fn shows_fault(self) -> bool {
        self.bad_in_a_row >= LOOKS
    }
}

impl Zone {
    fn standings(
        &self,
        running: &HashMap<Place, Running>,
        service: &str,
    ) -> HashMap<RealServerKey, Standing> {
        let servers = running.keys().filter(|(name, _)| name == service);
        servers
            .filter_map(|(_, server)| Some((*server, self.serials.standing(server)?)))
            .collect()
    }

    /// Shows how servers stand now, and says who has begun or ceased to lag.
    fn tell(
        &self,
        service: &str,
        before: &HashMap<RealServerKey, Standing>,
        running: &HashMap<Place, Running>,
        metrics: &Metrics,
    ) {
        let zone = &self.settings.name;
        for (real_server, standing) in self.standings(running, service) {
            let (serial, lag) = (standing.serial, standing.lag);
            let name = zone.to_string();
            metrics
                .watches()
                .set_standing(service, &name, real_server, &standing);
            let lagged = before.get(&real_server).is_some_and(|it| it.lags);
            if standing.lags && !lagged {
                let head = self.serials.head().unwrap_or(serial);
                warn!(%service, %real_server, %zone, serial, head, lag, "the zone is behind: see to its transfer from the primary");
            } else if lagged && !standing.lags {
                info!(%service, %real_server, %zone, serial, "the zone is up to date again");
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::time::Duration;

    use lvs_health::watched::Look;
    use tokio::sync::mpsc;

    use super::*;
    use crate::engine::tests::configuration;

    const FILE: &str = "\
services:
  - name: s
    address: 192.0.2.1
    external: true
    port: 53
    protocols: [udp]
    check: { dns: { name: a } }
    watch:
      zones: [{ name: a, maximum_lag: 5 }, { name: b, for: 60s, weight: 50% }]
      dnssec: { signed: c, bogus: d, weight: 20% }
    real_servers: [{ address: 10.0.0.1 }, { address: 10.0.0.2 }]
";

    fn watches() -> Watches {
        let mut watches = Watches::new(Arc::new(Metrics::new()), mpsc::unbounded_channel().0);
        watches.arrange(&configuration(FILE));
        watches
    }

    fn place(last: u8) -> Place {
        let real_server = RealServerKey {
            address: [10, 0, 0, last].into(),
            port: None,
        };
        ("s".to_owned(), real_server)
    }

    fn hear(watches: &mut Watches, last: u8, observation: Observation) {
        let number = number_of(watches, &place(last));
        watches.hear(number, &observation);
    }

    /// Of one of those who look for a server of a service.
    fn number_of(watches: &Watches, place: &Place) -> u64 {
        let mut watchers = watches.watchers.values();
        let looks = |watcher: &&Watcher| watcher.places.contains(place);
        watchers.find(looks).unwrap().number
    }

    fn zone(name: &str, serial: u32) -> Observation {
        Observation::Zone {
            name: name.parse().unwrap(),
            serial: Some(serial),
            signature_expiry: None,
        }
    }

    #[tokio::test]
    async fn who_lags_loses_weight_until_it_has_caught_up() {
        let mut watches = watches();
        for last in [1, 2] {
            hear(&mut watches, last, zone("a", 7));
            hear(&mut watches, last, zone("b", 7));
        }
        assert_eq!(watches.leftovers(), Leftovers::new());
        hear(&mut watches, 1, zone("a", 12));
        hear(&mut watches, 1, zone("b", 8));
        assert_eq!(watches.leftovers(), Leftovers::new());
        let next = watches.next(Instant::now()).unwrap();
        assert!(next <= Instant::now() + Duration::from_secs(60));
        // What was told counts for three intervals, and that is asked every 10 s.
        hear(&mut watches, 1, zone("a", 13));
        assert_eq!(
            watches.leftovers(),
            Leftovers::from([(place(2), Percent::NONE)])
        );
        let complaints: Vec<Complaint<'_>> = watches.complaints().collect();
        let [complaint] = &complaints[..] else {
            panic!("{} complaints", complaints.len())
        };
        assert_eq!(
            (complaint.service, complaint.real_server.as_str()),
            ("s", "10.0.0.2")
        );
        assert_eq!(complaint.failure.text, "zone a is at serial 7, 6 behind 13");
        hear(&mut watches, 2, zone("a", 13));
        assert_eq!(watches.leftovers(), Leftovers::new());
    }

    #[tokio::test]
    async fn two_looks_show_that_nothing_is_validated() {
        let mut watches = watches();
        let signed = |validated| Observation::Signed {
            validated,
            signature_expiry: None,
        };
        hear(&mut watches, 1, signed(true));
        hear(&mut watches, 1, signed(false));
        assert_eq!(watches.leftovers(), Leftovers::new());
        hear(&mut watches, 1, signed(false));
        let left = Leftovers::from([(place(1), Percent::new(20))]);
        assert_eq!(watches.leftovers(), left);
        hear(&mut watches, 1, signed(true));
        for _ in 0..2 {
            assert_eq!(watches.leftovers(), Leftovers::new());
            hear(&mut watches, 1, Observation::Bogus { refused: false });
        }
        assert_eq!(watches.leftovers(), left);
        hear(&mut watches, 1, Observation::Bogus { refused: true });
        assert_eq!(watches.leftovers(), Leftovers::new());
    }

    #[tokio::test]
    async fn who_is_not_watched_any_more_has_all_of_its_weight() {
        let mut watches = watches();
        hear(&mut watches, 1, zone("a", 9));
        hear(&mut watches, 2, zone("a", 1));
        assert_eq!(watches.leftovers().len(), 1);
        let number = number_of(&watches, &place(2));
        watches.arrange(&configuration(&FILE.replace(", { address: 10.0.0.2 }", "")));
        assert_eq!(watches.leftovers(), Leftovers::new());
        watches.hear(number, &zone("a", 1));
        assert_eq!(watches.leftovers(), Leftovers::new());
        watches.arrange(&configuration(FILE));
        assert!(number_of(&watches, &place(2)) > number);
    }

    #[tokio::test]
    async fn services_that_watch_the_same_share_the_look() {
        let (_, service) = FILE.split_once('\n').unwrap();
        let other = service
            .replace("name: s", "name: t")
            .replace("192.0.2.1", "192.0.2.2")
            .replace("maximum_lag: 5", "maximum_lag: 1")
            .replace(", { name: b, for: 60s, weight: 50% }", "");
        let mut watches = watches();
        // Two zones and two names at two servers.
        assert_eq!(watches.watchers.len(), 8);
        watches.arrange(&configuration(&format!("{FILE}{other}")));
        assert_eq!(watches.watchers.len(), 8);
        let number = |watches: &Watches, last: u8| {
            let mut watchers = watches.watchers.iter();
            let looks = |(watched, _): &(&Watched, &Watcher)| {
                watched.look == Look::Zone("a".parse().unwrap())
                    && watched.server.ip() == std::net::IpAddr::from([10, 0, 0, last])
            };
            watchers.find(looks).unwrap().1.number
        };
        for (last, serial) in [(1, 9), (2, 7)] {
            watches.hear(number(&watches, last), &zone("a", serial));
        }
        // By the other service's rules only.
        let late = ("t".to_owned(), place(2).1);
        assert_eq!(
            watches.leftovers(),
            Leftovers::from([(late, Percent::NONE)])
        );
        watches.arrange(&configuration(&format!("services:\n{other}")));
        assert_eq!(watches.watchers.len(), 6);
    }
}
