//! Adverts that are signed (keepalived's `auth_hmac`), and those that aren't.

use std::net::{IpAddr, Ipv4Addr};
use std::thread::sleep;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result, ensure};
use lvs_proto::vrrp::{Advert, AdvertInterval, ChecksumForm, Version, VirtualRouterId, hmac, seal};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::duo::{
    Duo, INTERVAL, PRIORITIES, TOLERANCE, file, instance, never_active, skew_time, wait_for,
};
use super::news::News;
use super::pair::{ADDRESSES, first_advert, within};
use super::{PAUSE, PING_INTERVAL};
use crate::capture::Capture;
use crate::inject::{self, Ipv4Header};
use crate::lab::{Lab, wait_until};
use crate::ping;
use crate::scenario::{PATIENCE, worker};
use crate::topology::VIP;

const ADDRESS: &str = "addresses: [192.168.56.185/24]";
const OLD: &str = "1: 'the first key, of 32 bytes and more'";
const NEW: &str = "2: 'another key, of 32 bytes and more, too'";
const OLD_SECRET: &[u8] = b"the first key, of 32 bytes and more";
/// The message without a trailer: one IPv4 address.
const UNSIGNED: usize = 12;

pub(super) fn only_signed_adverts_count(lab: &mut Lab) -> Result<()> {
    let mut duo = Duo::start(lab, &enforced(&[OLD], 1))?;
    let capture = Capture::start(&duo.client)?;
    let load = ping::start(&duo.client, VIP, PING_INTERVAL);
    sleep(PAUSE);
    let forged = |priority, key: Option<(&[u8], u8)>| forgery(&duo, priority, key);
    // Each would make ds1 yield, or ds2 take over.
    forged(254, None)?;
    rejected(&duo, 0, "trailer_missing")?;
    forged(254, Some((b"a key that nobody has, 32 bytes long", 1)))?;
    rejected(&duo, 0, "trailer_code")?;
    forged(254, Some((OLD_SECRET, 9)))?;
    rejected(&duo, 0, "trailer_key")?;
    let heard = capture.frames(|frame| {
        let advert = frame.advert();
        advert.is_some_and(|advert| advert.source == IpAddr::from(ADDRESSES[0]))
    });
    let recorded = heard.first().context("no advert of ds1")?;
    inject::frame(&duo.client, "eth2", recorded.bytes.clone())?;
    rejected(&duo, 1, "trailer_replayed")?;
    sleep(PAUSE);
    never_active(&capture, ADDRESSES[1])?;
    // The same packet is believed with the right key.
    ensure!(duo.hosts[0].holds(VIP), "ds1 gave up");
    let report = load.stop();
    ensure!(report.lost() == 0, "{report}");
    let news = News::start(&duo.hosts[0])?;
    forged(254, Some((OLD_SECRET, 1)))?;
    news.wait_for_loss("ds1 yields", VIP)?;
    duo.wait_for_active(0)?;

    // The supervisor signs too.
    let killed = Instant::now();
    kill(Pid::from_raw(worker(&duo.directors[0])?), Signal::SIGKILL)?;
    wait_until("ds2 holds the VIP", PATIENCE, || duo.hosts[1].holds(VIP))?;
    let resigned = first_advert(&capture, ADDRESSES[0], 0, killed)?;
    let taken = first_advert(&capture, ADDRESSES[1], PRIORITIES[1], killed)?;
    within("until priority 0", resigned - killed, TOLERANCE)?;
    within(
        "after the supervisor's priority 0",
        taken.saturating_duration_since(resigned),
        skew_time() + TOLERANCE,
    )?;
    duo.directors[0].wait(PATIENCE)?;
    let adverts = capture.adverts().into_iter();
    let mut unsigned =
        adverts.filter(|(frame, advert)| !frame.outgoing && advert.bytes.len() <= UNSIGNED);
    ensure!(unsigned.next().is_none(), "an advert without a trailer");
    Ok(())
}

/// Add on both, send on both, remove on both: each step on the Backup first, once on the Active first.
pub(super) fn keys_change_without_a_gap(lab: &mut Lab) -> Result<()> {
    let duo = Duo::start(lab, &file(&[ADDRESS]))?;
    let capture = Capture::start(&duo.client)?;
    let load = ping::start(&duo.client, VIP, PING_INTERVAL);
    let signed = |mode: &str, send: u8, keys: &[&str]| {
        let keys = keys.join(", ");
        file(&[
            ADDRESS,
            &format!(
                "authentication: {{ hmac: {{ mode: {mode}, send: {send}, keys: {{ {keys} }} }} }}"
            ),
        ])
    };
    for (order, yaml) in [
        ([1, 0], signed("receive-only", 1, &[OLD])),
        ([1, 0], signed("permissive", 1, &[OLD])),
        ([0, 1], signed("enforce", 1, &[OLD])),
        ([0, 1], signed("enforce", 1, &[OLD, NEW])),
        ([1, 0], signed("enforce", 2, &[OLD, NEW])),
        ([0, 1], signed("enforce", 2, &[NEW])),
    ] {
        for director in order {
            duo.reload(director, &yaml)?;
            // Longer than ds2 would wait.
            sleep(5 * INTERVAL);
            for (host, state) in duo.hosts.iter().zip(["active", "backup"]) {
                let found = instance(host, "dns")?;
                ensure!(found["state"] == state, "{yaml}: {found:#}");
            }
        }
    }
    let report = load.stop();
    println!("measured: twelve reloads: {report}");
    ensure!(report.lost() == 0, "{report}");
    never_active(&capture, ADDRESSES[1])?;
    wait_for("it is proven", &duo.hosts[1], "dns", |one| {
        one["active"]["authenticated"] == true
    })?;
    let (_, last) = capture.adverts().pop().context("no advert")?;
    ensure!(last.bytes.len() > UNSIGNED, "not signed at the end");
    Ok(())
}

fn enforced(keys: &[&str], send: u8) -> String {
    let keys = keys.join(", ");
    let line = format!("authentication: {{ hmac: {{ send: {send}, keys: {{ {keys} }} }} }}");
    file(&[ADDRESS, &line])
}

/// An advert of a stranger, signed or not.
fn forgery(duo: &Duo, priority: u8, key: Option<(&[u8], u8)>) -> Result<()> {
    let (source, destination) = (
        Ipv4Addr::new(192, 168, 56, 200),
        Ipv4Addr::new(224, 0, 0, 18),
    );
    let advert = Advert {
        version: Version::V3,
        virtual_router: VirtualRouterId::new(50).context("no identifier")?,
        priority,
        interval: AdvertInterval::new(Version::V3, INTERVAL).context("no interval")?,
        addresses: vec![VIP.into()],
        password: None,
    };
    let (from, to) = (IpAddr::from(source), IpAddr::from(destination));
    let mut message = advert.to_bytes(from, to, ChecksumForm::PseudoHeader);
    if let Some((secret, id)) = key {
        let id = hmac::KeyId::new(id).context("no key number")?;
        let mut sealer = hmac::Sealer::from_key(id, hmac::Key::new(secret)?);
        seal(&mut message, &mut sealer, from, to, SystemTime::now());
    }
    let header = Ipv4Header {
        source,
        destination,
        ttl: 255,
        protocol: 112,
    };
    inject::ipv4(&duo.client, "eth2", header, &message)
}

/// A director has counted one for this reason; it took nothing from the others.
fn rejected(duo: &Duo, director: usize, reason: &str) -> Result<()> {
    let count = || {
        let found = instance(&duo.hosts[director], "dns").ok()?;
        found["counters"]["adverts_rejected"][reason].as_u64()
    };
    wait_until(
        &format!("{reason} is counted"),
        Duration::from_secs(3),
        || count().is_some_and(|count| count > 0),
    )?;
    Ok(())
}
