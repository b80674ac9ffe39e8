//! Somebody changes addresses and links of a running director: the pair is right again within a
//! second of the last change.
//!
//! After every change the client's pings, the kernels' tables, the metrics and `director status`
//! must agree on who has the VIP.

use std::fs;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use lvs_system::watch::Event;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use super::news::News;
use super::pair::{Pair, Settings, within};
use super::{PAUSE, PING_INTERVAL};
use crate::cases::metrics::Scrape;
use crate::figures;
use crate::lab::{Host, Lab, wait_until};
use crate::ping;
use crate::scenario::{PATIENCE, worker};
use crate::topology::{DnsPair, VIP};
use crate::traffic::Load;

/// The promise.
const SETTLED_WITHIN: Duration = Duration::from_secs(1);

/// How ds1 is found on the LAN.
const OWN_ADDRESSES: [&str; 2] = ["192.168.56.181/24", "2001:db8:56::181/64"];

pub(super) fn a_deleted_vip_comes_back(lab: &mut Lab) -> Result<()> {
    let pair = Pair::start(lab, Settings::FAST)?;
    for deletion in [
        format!("ip address del {VIP}/24 dev eth2"),
        format!("ip address flush dev eth2 to {VIP}"),
        // With the address whose subnet it shares the kernel takes the VIP.
        "ip address del 192.168.56.181/24 dev eth2".into(),
    ] {
        let watched = Watched::start(&pair)?;
        pair.hosts[0].run(&deletion)?;
        if deletion.contains("181") {
            pair.hosts[0].add_address("eth2", OWN_ADDRESSES[0])?;
        }
        watched.settles("a deleted VIP", Instant::now(), SETTLED_WITHIN)?;
        pair.wait_for_active(0)?;
        pair.wait_for_backup(1)?;
    }
    Ok(())
}

pub(super) fn a_flapping_interface_settles(lab: &mut Lab) -> Result<()> {
    let pair = Pair::start(lab, Settings::FAST)?;
    for (what, flaps, down) in [
        ("one long flap", 1, Duration::from_millis(500)),
        ("ten short flaps", 10, Duration::from_millis(20)),
    ] {
        let watched = Watched::start(&pair)?;
        for flap in 0..flaps {
            if flap > 0 {
                sleep(down);
            }
            pair.hosts[0].link_down("eth2")?;
            sleep(down);
            pair.hosts[0].link_up("eth2")?;
        }
        watched.settles_and_returns(what, Instant::now())?;
    }
    Ok(())
}

pub(super) fn an_interface_made_anew_is_used(lab: &mut Lab) -> Result<()> {
    let hosts = DnsPair::with_service_lan_only(lab)?;
    let lan = hosts.service_lan.clone();
    let pair = Pair::start_on(hosts, Settings::FAST)?;
    let watched = Watched::start(&pair)?;
    pair.hosts[0].run("ip link delete eth2")?;
    wait_until("ds2 holds the VIP", PATIENCE, || pair.hosts[1].holds(VIP))?;
    sleep(PAUSE);
    lab.attach(&pair.hosts[0], "eth2", &lan, &OWN_ADDRESSES)?;
    watched.settles_and_returns("the Active's interface", Instant::now())?;

    // The Backup's own troubles are nobody else's.
    let load = ping::start(&pair.client, VIP, PING_INTERVAL);
    pair.hosts[1].run("ip link delete eth2")?;
    sleep(PAUSE);
    let addresses = ["192.168.56.182/24", "2001:db8:56::182/64"];
    lab.attach(&pair.hosts[1], "eth2", &lan, &addresses)?;
    let made = Instant::now();
    pair.wait_for_backup(1)?;
    within(
        "the Backup's interface: until it is one again",
        made.elapsed(),
        SETTLED_WITHIN,
    )?;
    sleep(pair.settings.active_down_interval(1) * 2);
    ensure!(!pair.hosts[1].holds(VIP), "ds2 is deaf and took over");
    let report = load.stop();
    ensure!(report.lost() == 0, "{report}");
    Ok(())
}

/// More news than the director's socket has room for; among them that the VIP is gone.
pub(super) fn an_overrun_hides_nothing(lab: &mut Lab) -> Result<()> {
    const ADDRESSES: u32 = 10_000;
    // The director is stopped until it has lost something, which has to be less than the other one waits.
    let settings = Settings {
        interval: Duration::from_secs(1),
        ..Settings::FAST
    };
    let pair = Pair::start(lab, settings)?;
    let [active, _] = &pair.hosts;
    let watched = Watched::start(&pair)?;
    let mut batch = String::new();
    for number in 0..ADDRESSES {
        let [.., high, low] = number.to_be_bytes();
        batch.push_str(&format!("address add 10.1.{high}.{low}/32 dev eth2\n"));
        if number == ADDRESSES / 20 {
            batch.push_str(&format!("address del {VIP}/24 dev eth2\n"));
        }
    }
    let file = active.write_file("addresses", &batch)?;
    let process = Pid::from_raw(worker(&pair.directors[0])?);
    let before = lost_messages(active, process.as_raw())?;
    // It may be quick enough to hear everything.
    kill(process, Signal::SIGSTOP)?;
    let mut adding = active.spawn("ip", ["-batch".as_ref(), file.as_os_str()])?;
    // It loses all that comes then, the deletion too.
    let lost = wait_until("messages that the director loses", PATIENCE, || {
        !active.holds(VIP)
            && lost_messages(active, process.as_raw()).is_ok_and(|lost| lost > before)
    });
    kill(process, Signal::SIGCONT)?;
    lost?;
    let added = adding.wait(PATIENCE)?;
    ensure!(added.success(), "{}", adding.log());
    let end = Instant::now();
    watched.settles("10,000 addresses", end, SETTLED_WITHIN)?;
    pair.wait_for_active(0)?;
    let lost = lost_messages(active, worker(&pair.directors[0])?)? - before;
    figures::note("messages that the director lost", lost as f64, "", None);
    ensure!(lost > 0, "the director's socket had room for everything");
    let restored = "director_vrrp_addresses_restored_total{virtual_router=\"dns\"}";
    ensure!(
        Scrape::of(active)?.value(restored) == Some(1),
        "it wasn't the director that put the VIP back"
    );

    // What came and went unheard is known nevertheless: the next change is understood.
    let watched = Watched::start(&pair)?;
    active.run("ip address flush dev eth2 to 10.1.0.0/16")?;
    active.run(&format!("ip address del {VIP}/24 dev eth2"))?;
    watched.settles("a deletion after that", Instant::now(), SETTLED_WITHIN)
}

/// A pair with a client that pings the VIP.
struct Watched<'a> {
    pair: &'a Pair,
    load: Load,
    news: News,
}

impl<'a> Watched<'a> {
    fn start(pair: &'a Pair) -> Result<Self> {
        let load = ping::start(&pair.client, VIP, PING_INTERVAL);
        sleep(PAUSE);
        Ok(Self {
            pair,
            load,
            news: News::start(&pair.hosts[0])?,
        })
    }

    /// One director alone has the VIP and says so, the other one says that it hasn't, and the VIP
    /// answers, all within `limit` after `last`, the last change.
    fn settles(self, what: &str, last: Instant, limit: Duration) -> Result<()> {
        wait_until(&format!("{what}: one has the VIP"), PATIENCE, || {
            self.holder().is_some()
        })?;
        let agreed = last.elapsed();
        sleep(PAUSE);
        self.agrees_with_status()?;
        self.answers_after(what, last, agreed, limit)
    }

    /// As [`Self::settles`], and then ds1 takes the VIP back, within a second after the kernel has
    /// told that its interface carries packets, which it may do up to a second late
    /// (`net/core/link_watch.c`).
    fn settles_and_returns(self, what: &str, last: Instant) -> Result<()> {
        wait_until(&format!("{what}: one has the VIP"), PATIENCE, || {
            self.holder().is_some()
        })?;
        let agreed = last.elapsed();
        wait_until(&format!("{what}: ds1 has the VIP"), PATIENCE, || {
            self.holder() == Some(0)
        })?;
        let returned = last.elapsed();
        let told = |event: &Event| matches!(event, Event::LinkChanged(link) if link.up);
        let carrier = self.news.last(told).context("no carrier")?;
        let carrier = carrier.saturating_duration_since(last);
        figures::time(
            &format!("{what}: until the kernel told of the carrier"),
            carrier,
        );
        within(
            &format!("{what}: until the preferred one is Active"),
            returned,
            carrier + SETTLED_WITHIN,
        )?;
        sleep(PAUSE);
        self.agrees_with_status()?;
        self.answers_after(what, last, agreed, SETTLED_WITHIN)
    }

    /// Who alone has the VIP, if kernels and metrics agree on that.
    fn holder(&self) -> Option<usize> {
        let holds = [0, 1].map(|director: usize| self.pair.hosts[director].holds(VIP));
        let says = [0, 1].map(|director: usize| {
            let active = "director_vrrp_state{state=\"active\",virtual_router=\"dns\"}";
            let scrape = Scrape::of(&self.pair.hosts[director]).ok()?;
            scrape.value(active)
        });
        match (holds, says) {
            ([true, false], [Some(1), Some(0)]) => Some(0),
            ([false, true], [Some(0), Some(1)]) => Some(1),
            _ => None,
        }
    }

    fn agrees_with_status(&self) -> Result<()> {
        let holder = self.holder().context("they disagree again")?;
        for (director, host) in self.pair.hosts.iter().enumerate() {
            let text = host.run("director status --json")?;
            let status: Value = serde_json::from_str(&text)?;
            let instance = &status["instances"][0];
            let (state, held) = match director == holder {
                true => ("active", json!([format!("{VIP}/24")])),
                false => ("backup", json!([])),
            };
            ensure!(
                instance["state"] == state && instance["addresses"] == held,
                "{}: {text}",
                host.name()
            );
        }
        Ok(())
    }

    /// The last ping that got no answer was sent in time.
    fn answers_after(
        self,
        what: &str,
        last: Instant,
        agreed: Duration,
        limit: Duration,
    ) -> Result<()> {
        let report = self.load.stop();
        let answered = report.last_loss().map_or(Duration::ZERO, |loss| {
            (loss + PING_INTERVAL).saturating_duration_since(last)
        });
        println!("measured: {what}: {report}");
        within(
            &format!("{what}: until it was right"),
            agreed.max(answered),
            limit,
        )
    }
}

/// How many netlink messages the kernel couldn't deliver to a process.
fn lost_messages(host: &Host, process: i32) -> Result<u64> {
    let sockets: Vec<String> = fs::read_dir(format!("/proc/{process}/fd"))?
        .flatten()
        .filter_map(|entry| {
            let target = fs::read_link(entry.path()).ok()?;
            let inode = target
                .to_str()?
                .strip_prefix("socket:[")?
                .strip_suffix(']')?;
            Some(inode.to_owned())
        })
        .collect();
    let table = host.within(|| fs::read_to_string("/proc/thread-self/net/netlink"))?;
    let drops = table.lines().skip(1).filter_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let [.., drops, inode] = fields[..] else {
            return None;
        };
        let own = sockets.iter().any(|socket| socket == inode);
        own.then(|| drops.parse::<u64>().ok()).flatten()
    });
    Ok(drops.sum())
}
