//! IPv6, and adverts to single routers.

use std::net::{IpAddr, Ipv6Addr};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use lvs_proto::vrrp::{Advert, AdvertInterval, ChecksumForm, Version, VirtualRouterId};

use super::duo::{
    Duo, INTERVAL, TOLERANCE, VIRTUAL_ROUTER_ID, active_down_interval, claims, configuration,
    entry, file, instance, skew_time, wait_for,
};
use super::pair::{adverts_of, within};
use super::{PAUSE, PING_INTERVAL};
use crate::capture::Capture;
use crate::cases::neighbour::neighbour;
use crate::inject::{self, Ipv4Header, Ipv6Header};
use crate::lab::{Host, Lab, wait_until};
use crate::peer::INTERFACE;
use crate::ping;
use crate::scenario::PATIENCE;

const LINK_LOCAL: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0x185);
const GLOBAL: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0x56, 0, 0, 0, 0, 0x185);
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
const ADDRESSES: &str = "addresses: ['fe80::185/64', '2001:db8:56::185/64']";

pub(super) fn an_ipv6_pair_moves_its_neighbours(lab: &mut Lab) -> Result<()> {
    let mut duo = Duo::start(lab, &file(&[ADDRESSES]))?;
    let macs = [0, 1].map(|director| duo.hosts[director].mac(INTERFACE));
    let (first, second) = (source(&duo.hosts[0])?, source(&duo.hosts[1])?);
    ensure!(duo.hosts[0].holds(LINK_LOCAL), "no link-local VIP");
    ensure!(ping::answers(&duo.client, GLOBAL, PATIENCE), "no answer");
    ensure!(neighbour(&duo.client, GLOBAL) == Some(macs[0]), "whose?");

    // Nobody loses anything by a handover, there and back.
    let load = ping::start(&duo.client, GLOBAL, PING_INTERVAL);
    sleep(PAUSE);
    ensure!(duo.directors[0].terminate(PATIENCE)?.success(), "SIGTERM");
    ensure!(!duo.hosts[0].holds(GLOBAL), "the VIP stayed");
    sleep(PAUSE);
    duo.restart(0)?;
    duo.wait_for_active(0)?;
    sleep(PAUSE);
    let report = load.stop();
    println!("measured: there and back: {report}");
    // The kernel takes packets to a new IPv6 address only when a worker of its own has made the route
    // (`addrconf_dad_work()`). The director waits for that before it tells the LAN, but not for ever,
    // and on a busy machine that worker may be late: a few in each direction.
    ensure!(report.lost() <= 4, "{report}");

    let capture = Capture::start(&duo.client)?;
    let load = ping::start(&duo.client, GLOBAL, PING_INTERVAL);
    sleep(PAUSE);
    let cut = Instant::now();
    duo.cut_off(0)?;
    wait_until("the client's entry names ds2", PATIENCE, || {
        neighbour(&duo.client, GLOBAL) == Some(macs[1])
    })?;
    sleep(PAUSE);
    let gap = load.stop().longest_gap();
    within("gap of a crash", gap, active_down_interval() + TOLERANCE)?;
    let silent = claims(&capture, first, cut - PAUSE);
    let (silent, _) = silent.last().context("no advert of ds1")?;
    let taken = claims(&capture, second, cut);
    let (taken, _) = taken.first().context("no advert of ds2")?;
    let took = *taken - *silent;
    within("takeover", took, active_down_interval() + TOLERANCE)?;
    ensure!(took + TOLERANCE >= active_down_interval(), "only {took:?}");
    let announced = capture.neighbour_advertisements().into_iter();
    let announced: Vec<_> = announced
        .filter(|(frame, told)| !frame.outgoing && !told.solicited && frame.at >= *taken)
        .map(|(_, told)| told)
        .collect();
    for vip in [LINK_LOCAL, GLOBAL] {
        let mut told = announced.iter().filter(|told| told.target == vip);
        let told = told
            .next()
            .with_context(|| format!("{vip} not announced"))?;
        ensure!(
            (told.destination, told.hop_limit, told.replaces) == (ALL_NODES, 255, true)
                && (told.source_mac, told.target_mac) == (macs[1], Some(macs[1])),
            "{told:02x?}"
        );
    }
    Ok(())
}

/// Both families on one LAN, each with the same identifier.
pub(super) fn unicast_pairs_hear_only_their_peers(lab: &mut Lab) -> Result<()> {
    let yaml = |minimum: &[&str]| {
        let lines = |family: &[&'static str]| [family, minimum].concat();
        configuration(&[
            entry(
                "ipv4",
                VIRTUAL_ROUTER_ID,
                &lines(&[
                    "addresses: [192.168.56.185/24]",
                    "peers: { ds1: [192.168.56.182], ds2: [192.168.56.181] }",
                ]),
            ),
            entry(
                "ipv6",
                VIRTUAL_ROUTER_ID,
                &lines(&[
                    ADDRESSES,
                    "source: { ds1: '2001:db8:56::181', ds2: '2001:db8:56::182' }",
                    "peers: { ds1: ['2001:db8:56::182'], ds2: ['2001:db8:56::181'] }",
                ]),
            ),
        ])
    };
    let families: [(&str, [IpAddr; 2], IpAddr); 2] = [
        (
            "ipv4",
            ["192.168.56.181".parse()?, "192.168.56.182".parse()?],
            "192.168.56.10".parse()?,
        ),
        (
            "ipv6",
            ["2001:db8:56::181".parse()?, "2001:db8:56::182".parse()?],
            "2001:db8:56::10".parse()?,
        ),
    ];
    let mut duo = Duo::start(lab, &yaml(&[]))?;
    let capture = Capture::start(&duo.client)?;
    sleep(PAUSE);
    for (name, [first, second], stranger) in families {
        // From its peer, but through a router; and from somebody who is no peer.
        forge(&duo, second, first, 254)?;
        counted(&duo, name, "time_to_live")?;
        forge(&duo, stranger, first, 255)?;
        counted(&duo, name, "peer")?;
        sleep(PAUSE);
        ensure!(
            instance(&duo.hosts[0], name)?["state"] == "active",
            "{name}: it yielded"
        );
    }
    for (_, advert) in capture.adverts() {
        ensure!(!advert.destination.is_multicast(), "{advert:02x?}");
    }
    // Where there is a router in between, the same packet makes it yield.
    duo.reload(0, &yaml(&["minimum_ttl: 254"]))?;
    for (name, [first, second], _) in families {
        forge(&duo, second, first, 254)?;
        // For as long as it would wait for that router.
        wait_for("it yields", &duo.hosts[0], name, |one| {
            one["state"] == "backup"
        })?;
    }
    duo.wait_for_active(0)?;

    let begin = Instant::now();
    ensure!(duo.directors[0].terminate(PATIENCE)?.success(), "SIGTERM");
    for (name, [first, second], _) in families {
        let said = adverts_of(&capture, first);
        let resigned = said
            .iter()
            .find(|(at, advert)| *at >= begin && advert.priority == 0);
        let (resigned, _) = resigned.context("no priority 0")?;
        let taken = claims(&capture, second, *resigned);
        let (taken, _) = taken.first().context("no advert of ds2")?;
        within(
            &format!("{name}: after priority 0"),
            *taken - *resigned,
            skew_time() + TOLERANCE,
        )?;
    }
    duo.restart(0)?;
    duo.wait_for_active(0)?;
    let begin = Instant::now();
    duo.cut_off(0)?;
    for (name, [first, second], _) in families {
        wait_for("ds2 is Active", &duo.hosts[1], name, |one| {
            one["state"] == "active"
        })?;
        let silent = claims(&capture, first, begin - PAUSE);
        let (silent, _) = silent.last().context("no advert of ds1")?;
        let taken = claims(&capture, second, begin);
        let (taken, _) = taken.first().context("no advert of ds2")?;
        let took = *taken - *silent;
        within(
            &format!("{name}: after a crash"),
            took,
            active_down_interval() + TOLERANCE,
        )?;
    }
    Ok(())
}

/// Where the adverts of a machine come from: its own link-local address, before it has that of the VIP.
fn source(host: &Host) -> Result<IpAddr> {
    let found = host.run("ip -6 -o address show dev eth2 scope link")?;
    let own = found
        .split_whitespace()
        .filter_map(|word| word.strip_suffix("/64"));
    let mut own = own.filter_map(|word| word.parse().ok());
    let own = own.find(|address| *address != IpAddr::from(LINK_LOCAL));
    own.context("no link-local address")
}

/// An advert that makes an Active of these files yield, from the client.
fn forge(duo: &Duo, source: IpAddr, destination: IpAddr, hop_limit: u8) -> Result<()> {
    let advert = Advert {
        version: Version::V3,
        virtual_router: VirtualRouterId::new(VIRTUAL_ROUTER_ID).context("no identifier")?,
        priority: 254,
        interval: AdvertInterval::new(Version::V3, INTERVAL).context("no interval")?,
        addresses: match source {
            IpAddr::V4(_) => vec![crate::topology::VIP.into()],
            IpAddr::V6(_) => vec![LINK_LOCAL.into(), GLOBAL.into()],
        },
        password: None,
    };
    let message = advert.to_bytes(source, destination, ChecksumForm::PseudoHeader);
    match (source, destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            let header = Ipv4Header {
                source,
                destination,
                ttl: hop_limit,
                protocol: VRRP,
            };
            inject::ipv4(&duo.client, INTERFACE, header, &message)
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            let header = Ipv6Header {
                source,
                destination,
                hop_limit,
                next_header: VRRP,
            };
            inject::ipv6(&duo.client, INTERFACE, header, &message)
        }
        _ => anyhow::bail!("two families"),
    }
}

const VRRP: u8 = 112;

/// ds1 has refused one for this reason.
fn counted(duo: &Duo, name: &str, reason: &str) -> Result<()> {
    let count = || {
        let found = instance(&duo.hosts[0], name).ok()?;
        found["counters"]["adverts_rejected"][reason].as_u64()
    };
    let what = format!("{name}: {reason} is counted");
    wait_until(&what, Duration::from_secs(3), || {
        count().is_some_and(|count| count > 0)
    })?;
    Ok(())
}
