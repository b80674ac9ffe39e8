//! Adverts that must not be believed, injected on the wire.
//!
//! Each would win if it were: its priority is 254, above both directors.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use pnet::packet::ip::IpNextHeaderProtocol;
use pnet::util::{checksum, ipv4_checksum};

use super::news::News;
use super::pair::{ADDRESSES, Pair, Settings, adverts_of, within};
use super::{PAUSE, PING_INTERVAL};
use crate::capture::Capture;
use crate::cases::metrics::Scrape;
use crate::inject::{self, Ipv4Header};
use crate::lab::{Host, Lab, wait_until};
use crate::ping;
use crate::stall::{Watchers, adverts_in_time};
use crate::topology::{DnsPair, VIP};
use crate::traffic::Load;

/// A neighbour that is nobody's; its address is larger than those of the directors.
const STRANGER: Ipv4Addr = Ipv4Addr::new(192, 168, 56, 200);
const GROUP: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 18);
pub(super) const VRRP: u8 = 112;
pub(super) const PRIORITY: u8 = 254;
/// How often each bad advert is sent.
const REPEAT: u64 = 3;
/// What a router takes to yield to an advert, on a machine that does nothing else.
const AT_ONCE: Duration = Duration::from_millis(50);
/// How long a packet may take to be counted.
const LIMIT: Duration = Duration::from_secs(3);

/// What the checksum covers.
#[derive(Clone, Copy, Debug)]
enum Form {
    Message,
    PseudoHeader,
}

/// A VRRP packet in the making.
#[derive(Clone, Debug)]
struct Draft {
    ttl: u8,
    message: Vec<u8>,
}

impl Draft {
    /// RFC 9568, section 5.2: one address, 100 ms.
    fn version_3() -> Self {
        let mut message = vec![0x31, 50, PRIORITY, 1, 0, 10, 0, 0];
        message.extend(VIP.octets());
        Self { ttl: 255, message }
    }

    /// RFC 3768, section 5.1, with RFC 2338's password: one address, 1 s.
    fn version_2() -> Self {
        let mut message = vec![0x21, 50, PRIORITY, 1, 1, 1, 0, 0];
        message.extend(VIP.octets());
        message.extend(b"s3cret\0\0");
        Self { ttl: 255, message }
    }

    /// Changes the message; the checksum is right afterwards.
    fn with(mut self, change: impl FnOnce(&mut Vec<u8>)) -> Self {
        change(&mut self.message);
        self.sealed(Form::Message)
    }

    fn sealed(mut self, form: Form) -> Self {
        /// The checksum's own place, in 16-bit words.
        const PLACE: usize = 3;
        let vrrp = IpNextHeaderProtocol(VRRP);
        let sum = match form {
            Form::Message => checksum(&self.message, PLACE),
            Form::PseudoHeader => ipv4_checksum(&self.message, PLACE, &[], &STRANGER, &GROUP, vrrp),
        };
        if let Some(place) = self.message.get_mut(2 * PLACE..2 * PLACE + 2) {
            place.copy_from_slice(&sum.to_be_bytes());
        }
        self
    }

    fn send(&self, from: &Host) -> Result<()> {
        self.send_to(from, "eth2", GROUP)
    }

    fn send_to(&self, from: &Host, interface: &str, destination: Ipv4Addr) -> Result<()> {
        let header = Ipv4Header {
            source: STRANGER,
            destination,
            ttl: self.ttl,
            protocol: VRRP,
        };
        inject::ipv4(from, interface, header, &self.message)
    }
}

pub(super) fn bad_adverts_of_version_3_change_nothing(lab: &mut Lab) -> Result<()> {
    let good = || Draft::version_3().sealed(Form::PseudoHeader);
    let watch = Watch::start(Pair::start(lab, Settings::FAST)?)?;
    let bad = [
        ("length", good().with(Vec::clear)),
        ("length", good().with(|message| message.truncate(1))),
        ("length", good().with(|message| message.truncate(7))),
        ("length", good().with(|message| message.truncate(11))),
        ("length", good().with(|message| message.extend([0; 4]))),
        ("length", good().with(|message| message[3] = 2)),
        ("time_to_live", Draft { ttl: 254, ..good() }),
        ("time_to_live", Draft { ttl: 1, ..good() }),
        ("version", good().with(|message| message[0] = 0x41)),
        ("version", good().with(|message| message[0] = 0x01)),
        // Well-formed, but not what is configured.
        ("version", Draft::version_2().sealed(Form::Message)),
        ("type", good().with(|message| message[0] = 0x32)),
        ("checksum", good().flipped(7)),
        ("checksum", good().sealed(Form::Message).flipped(6)),
        ("checksum", good().flipped(2)),
        ("virtual_router", good().with(|message| message[1] = 51)),
        ("virtual_router", good().with(|message| message[1] = 0)),
        (
            "address_count",
            good().with(|message| {
                message[3] = 0;
                message.truncate(8);
            }),
        ),
        ("interval", good().with(|message| message[5] = 0)),
        // Reserved bits are none of the interval's.
        (
            "interval",
            good().with(|message| message[4..6].copy_from_slice(&[0xf0, 0])),
        ),
    ];
    for (reason, draft) in bad {
        watch.expect(reason, &draft)?;
    }
    watch.own_address()?;
    watch.end()
}

pub(super) fn bad_adverts_of_version_2_change_nothing(lab: &mut Lab) -> Result<()> {
    const AUTHENTICATION: std::ops::Range<usize> = 12..20;
    let good = || Draft::version_2().sealed(Form::Message);
    let watch = Watch::start(Pair::start(lab, Settings::VERSION_2)?)?;
    let bad = [
        ("password", good().with(|message| message[12] = b'S')),
        // The last octet counts as the first does.
        ("password", good().with(|message| message[19] = b'!')),
        (
            "password",
            good().with(|message| message[AUTHENTICATION].fill(0)),
        ),
        (
            "authentication_type",
            good().with(|message| {
                message[4] = 0;
                message[AUTHENTICATION].fill(0);
            }),
        ),
        ("authentication_type", good().with(|message| message[4] = 2)),
        ("interval", good().with(|message| message[5] = 2)),
        ("interval", good().with(|message| message[5] = 0)),
        ("length", good().with(|message| message.truncate(12))),
        ("length", good().with(|message| message.extend([0; 4]))),
        ("time_to_live", Draft { ttl: 64, ..good() }),
        ("version", Draft::version_3().sealed(Form::PseudoHeader)),
        ("type", good().with(|message| message[0] = 0x20)),
        ("checksum", good().flipped(6)),
        // Version 2 knows no pseudo-header.
        ("checksum", good().sealed(Form::PseudoHeader)),
        ("virtual_router", good().with(|message| message[1] = 49)),
    ];
    for (reason, draft) in bad {
        watch.expect(reason, &draft)?;
    }
    watch.end()
}

/// A good advert on another interface is none of the director's, to whomever it is sent.
pub(super) fn adverts_on_other_interfaces_change_nothing(lab: &mut Lab) -> Result<()> {
    let watch = Watch::start(Pair::start_on(DnsPair::new(lab)?, Settings::FAST)?)?;
    let [active, neighbour] = &watch.pair.hosts;
    for destination in [GROUP, "192.168.1.181".parse()?] {
        for form in [Form::Message, Form::PseudoHeader] {
            let good = Draft::version_3().sealed(form);
            good.send_to(neighbour, "eth1", destination)?;
        }
    }
    sleep(PAUSE);
    let counted = rejected(active)?;
    ensure!(counted == watch.rejected[0], "{counted:#?}");
    watch.end()
}

/// The same packets without their fault are believed, in both checksum forms: so the injector and
/// the bad ones' priority are right.
pub(super) fn good_adverts_are_heard(lab: &mut Lab) -> Result<()> {
    let pair = Pair::start(lab, Settings::FAST)?;
    for form in [Form::Message, Form::PseudoHeader] {
        let news = News::start(&pair.hosts[0])?;
        let sent = Instant::now();
        Draft::version_3().sealed(form).send(&pair.client)?;
        let given_up = news
            .wait_for_loss("ds1 gives up its VIP", VIP)
            .with_context(|| format!("{form:?}"))?;
        let took = given_up - sent;
        let what = format!("{form:?} believed after");
        let limit = lab.mode().choose(10 * pair.settings.interval, AT_ONCE);
        within(&what, took, limit)?;
        // Nobody follows it up: the better director is back after its time-out.
        pair.wait_for_active(0)?;
    }
    Ok(())
}

impl Draft {
    /// With one bit wrong.
    fn flipped(mut self, place: usize) -> Self {
        self.message[place] ^= 1;
        self
    }
}

/// A pair in which nothing may change.
pub(super) struct Watch {
    pub(super) pair: Pair,
    capture: Capture,
    load: Load,
    watchers: Watchers,
    transitions: [BTreeMap<String, u64>; 2],
    pub(super) rejected: [BTreeMap<String, u64>; 2],
}

impl Watch {
    pub(super) fn start(pair: Pair) -> Result<Self> {
        let of_both = |name| -> Result<[BTreeMap<String, u64>; 2]> {
            let of = |host: &Host| anyhow::Ok(Scrape::of(host)?.family(name));
            Ok([of(&pair.hosts[0])?, of(&pair.hosts[1])?])
        };
        Ok(Self {
            watchers: Watchers::start()?,
            transitions: of_both("director_vrrp_transitions_total")?,
            rejected: of_both("director_vrrp_adverts_rejected_total")?,
            capture: Capture::start(&pair.client)?,
            load: ping::start(&pair.client, VIP, PING_INTERVAL),
            pair,
        })
    }

    /// Both directors count the packet for this reason and for no other.
    fn expect(&self, reason: &str, draft: &Draft) -> Result<()> {
        let [first, second] = &self.pair.hosts;
        let before = [rejected(first)?, rejected(second)?];
        for _ in 0..REPEAT {
            draft.send(&self.pair.client)?;
        }
        for (host, before) in [first, second].into_iter().zip(before) {
            counted(host, before, reason).with_context(|| format!("{draft:02x?}"))?;
        }
        Ok(())
    }

    /// A packet that comes back to its sender, which the kernel delivers only where it is told to.
    fn own_address(&self) -> Result<()> {
        for (host, address) in self.pair.hosts.iter().zip(ADDRESSES) {
            host.set_sysctl("net.ipv4.conf.eth2.accept_local", "1")?;
            let before = rejected(host)?;
            let mut packet = Draft::version_3().sealed(Form::Message).message;
            let mut header = vec![
                0x45,
                0xc0,
                0,
                20 + packet.len() as u8,
                0,
                0,
                0,
                0,
                255,
                VRRP,
            ];
            header.extend([0, 0]);
            header.extend(address.octets());
            header.extend(GROUP.octets());
            let sum = checksum(&header, 5);
            header[10..12].copy_from_slice(&sum.to_be_bytes());
            // To this director alone: the other would rightly believe it.
            let mut frame = host.mac("eth2").to_vec();
            frame.extend(self.pair.client.mac("eth2"));
            frame.extend([0x08, 0]);
            frame.append(&mut header);
            frame.append(&mut packet);
            for _ in 0..REPEAT {
                inject::frame(&self.pair.client, "eth2", frame.clone())?;
            }
            counted(host, before, "own_address")?;
        }
        Ok(())
    }

    /// Nobody changed its state, the VIP was never away, and the Active went on as ever.
    pub(super) fn end(self) -> Result<()> {
        sleep(self.pair.settings.active_down_interval(1));
        for (host, before) in self.pair.hosts.iter().zip(&self.transitions) {
            let after = Scrape::of(host)?.family("director_vrrp_transitions_total");
            ensure!(after == *before, "{}: {after:#?}", host.name());
        }
        let [active, backup] = &self.pair.hosts;
        ensure!(active.holds(VIP) && !backup.holds(VIP), "the VIP has moved");
        ensure!(
            adverts_of(&self.capture, ADDRESSES[1]).is_empty(),
            "the Backup has advertised"
        );
        let adverts = adverts_of(&self.capture, ADDRESSES[0]);
        ensure!(
            adverts.iter().all(|(_, advert)| advert.priority == 200),
            "the Active's priority has changed"
        );
        let interval = self.pair.settings.interval;
        let times = adverts.into_iter().map(|(at, _)| at);
        adverts_in_time(times, interval, interval / 2, self.watchers)?;
        let report = self.load.stop();
        ensure!(report.lost() == 0, "{report}");
        Ok(())
    }
}

pub(super) fn rejected(host: &Host) -> Result<BTreeMap<String, u64>> {
    Ok(Scrape::of(host)?.family("director_vrrp_adverts_rejected_total"))
}

/// Waits until [`REPEAT`] more are counted for `reason`, and none for another.
fn counted(host: &Host, before: BTreeMap<String, u64>, reason: &str) -> Result<()> {
    let series = format!(
        "director_vrrp_adverts_rejected_total{{reason=\"{reason}\",virtual_router=\"dns\"}}"
    );
    let mut expected = before;
    *expected.get_mut(&series).with_context(|| series.clone())? += REPEAT;
    let mut last = BTreeMap::new();
    let waited = wait_until(&format!("{REPEAT} more for {reason}"), LIMIT, || {
        last = rejected(host).unwrap_or_default();
        last.get(&series) >= expected.get(&series)
    });
    let wrong: Vec<_> = last
        .iter()
        .filter(|(s, n)| expected.get(*s) != Some(n))
        .collect();
    waited.with_context(|| format!("{}: instead {wrong:?}", host.name()))?;
    ensure!(wrong.is_empty(), "{} also counted {wrong:?}", host.name());
    Ok(())
}
