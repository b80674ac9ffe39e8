//! Version and password of a live pair, changed as docs/configuration.md has it.

use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};

use super::duo::{Duo, file, instance, never_active};
use super::pair::{ADDRESSES, first_advert, within};
use super::{PAUSE, PING_INTERVAL};
use crate::capture::Capture;
use crate::lab::Lab;
use crate::peer::INTERFACE;
use crate::ping;
use crate::scenario::PATIENCE;
use crate::topology::{VIP, two_seats};

/// One second, the least that version 2 has.
const INTERVAL: Duration = Duration::from_secs(1);
/// Longer than ds2 waits for an Active that it doesn't understand: at most 3.42 s.
const LONG_ENOUGH: Duration = Duration::from_millis(3800);
const TOLERANCE: Duration = Duration::from_millis(150);

/// What `version`, `authentication` and `also_accept` are.
type Manner = &'static [&'static str];

/// From, through the two in between, to.
#[derive(Clone, Copy, Debug)]
struct Change {
    name: &'static str,
    from: Manner,
    prepared: Manner,
    changed: Manner,
    to: Manner,
    /// Who changes first.
    order: [usize; 2],
}

const V2: &str = "version: 2";
const V3: &str = "version: 3";
const OLD: &str = "authentication: { password: 'old' }";
const NEW: &str = "authentication: { password: 'new' }";

const TO_VERSION_3: Change = Change {
    name: "version 2 with a password to version 3, ds1 first",
    from: &[V2, OLD],
    prepared: &[V2, OLD, "also_accept: { version: 3 }"],
    changed: &[V3, "also_accept: { version: 2, password: 'old' }"],
    to: &[V3],
    order: [0, 1],
};
const CHANGES: [Change; 3] = [
    TO_VERSION_3,
    Change {
        name: "the same, ds2 first",
        order: [1, 0],
        ..TO_VERSION_3
    },
    Change {
        name: "another password",
        from: &[V2, OLD],
        prepared: &[V2, OLD, "also_accept: { password: 'new' }"],
        changed: &[V2, NEW, "also_accept: { password: 'old' }"],
        to: &[V2, NEW],
        order: [0, 1],
    },
];

/// All at once, each on a LAN of its own: nearly all of the time is spent waiting for an Active that
/// must not come.
pub(super) fn of_version_and_password(lab: &mut Lab) -> Result<()> {
    let mut lans = Vec::new();
    for (number, change) in CHANGES.into_iter().enumerate() {
        let (client, seats) = two_seats(lab, &format!("{number}-"))?;
        lans.push((change, client, seats.map(|seat| seat.host)));
    }
    std::thread::scope(|scope| {
        let threads: Vec<_> = lans
            .into_iter()
            .map(|(change, client, hosts)| {
                scope.spawn(move || {
                    let duo = Duo::start_on(client, hosts, &yaml(change.from))?;
                    change.play(duo).context(change.name)
                })
            })
            .collect();
        let outcomes = threads.into_iter().map(|thread| {
            let outcome = thread.join();
            outcome.unwrap_or_else(|_| Err(anyhow!("a panic")))
        });
        outcomes.collect::<Vec<Result<()>>>()
    })
    .into_iter()
    .collect()
}

impl Change {
    fn play(&self, mut duo: Duo) -> Result<()> {
        let capture = Capture::start(&duo.client)?;
        let load = ping::start(&duo.client, VIP, PING_INTERVAL);
        for (order, manner) in [
            (self.order, self.prepared),
            (self.order, self.changed),
            (self.order, self.to),
        ] {
            for director in order {
                duo.reload(director, &yaml(manner))?;
                // Only a change of what is sent may be misunderstood.
                sleep(if manner == self.changed {
                    LONG_ENOUGH
                } else {
                    PAUSE
                });
                for (host, state) in duo.hosts.iter().zip(["active", "backup"]) {
                    let found = instance(host, "dns")?;
                    ensure!(found["state"] == state, "{manner:?}: {found:#}");
                }
            }
        }
        sleep(LONG_ENOUGH);
        let report = load.stop();
        println!("measured: {}: {report}", self.name);
        ensure!(report.lost() == 0, "{report}");
        never_active(&capture, ADDRESSES[1])?;
        let said = capture.adverts().into_iter().map(|(_, advert)| advert);
        let versions: Vec<u8> = said.map(|advert| advert.version).collect();
        ensure!(versions.is_sorted(), "{versions:?}");

        // ds2 has followed all the time, as the last configuration has it.
        let asked = Instant::now();
        duo.directors[0].terminate(PATIENCE)?;
        duo.hosts[0].link_down(INTERFACE)?;
        let resigned = first_advert(&capture, ADDRESSES[0], 0, asked)?;
        let taken = first_advert(&capture, ADDRESSES[1], 150, asked)?;
        let skew = INTERVAL * (256 - 150) / 256;
        let took = taken.saturating_duration_since(resigned);
        within(&format!("{}: takeover", self.name), took, skew + TOLERANCE)
    }
}

fn yaml(manner: Manner) -> String {
    let mut lines = vec!["addresses: [192.168.56.185/24]", "advert_interval: 1s"];
    lines.extend(manner);
    file(&lines)
}
