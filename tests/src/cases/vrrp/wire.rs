//! What RFC 9568 lets the LAN see of an Active and of a Backup, frame by frame.

use std::net::{IpAddr, Ipv6Addr};
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;

use super::PAUSE;
use crate::capture::{Capture, Frame};
use crate::cases::neighbour::neighbour;
use crate::lab::{Host, Lab, Mac, Process, wait_until};
use crate::peer::{
    Cast, Director, Family, INTERFACE, Router, Seat, VIRTUAL_ROUTER_ID, VirtualRouter,
};
use crate::ping;
use crate::scenario::PATIENCE;
use crate::topology::{director_file, start_director, two_seats};

/// How long nobody may answer, to count as silence.
const SILENCE: Duration = Duration::from_millis(300);

pub(super) fn over_ipv4(lab: &mut Lab) -> Result<()> {
    play(lab, Family::Ipv4, None)
}

pub(super) fn over_ipv6(lab: &mut Lab) -> Result<()> {
    play(lab, Family::Ipv6, None)
}

pub(super) fn over_ipv4_with_a_virtual_mac(lab: &mut Lab) -> Result<()> {
    play(lab, Family::Ipv4, Some("vrrp.50"))
}

pub(super) fn over_ipv6_with_a_virtual_mac(lab: &mut Lab) -> Result<()> {
    play(lab, Family::Ipv6, Some("vrrp6.50"))
}

/// Both have the same Ethernet address, and must hear each other nevertheless.
pub(super) fn two_actives_with_a_virtual_mac_settle(lab: &mut Lab) -> Result<()> {
    for (family, macvlan, prefix) in [
        (Family::Ipv4, "vrrp.50", "four-"),
        (Family::Ipv6, "vrrp6.50", "six-"),
    ] {
        let router = VirtualRouter {
            family,
            ..VirtualRouter::VERSION_3
        };
        let (client, seats) = two_seats(lab, prefix)?;
        let lan = Lan {
            capture: Capture::start(&client)?,
            client,
            router,
            macvlan: Some(macvlan),
        };
        let [lower, higher] = &seats.each_ref().map(|seat| &seat.host);
        lower.split_off(INTERFACE)?;
        let _lower = lan.start(lower, 100)?;
        let _higher = lan.start(higher, 200)?;
        for host in [lower, higher] {
            wait_until("there are two Actives", PATIENCE, || lan.holds_all(host))?;
        }
        lower.rejoin(INTERFACE)?;
        wait_until("the lower one yields", 5 * router.interval, || {
            lan.vips().into_iter().all(|vip| !lower.holds(vip))
        })?;
        sleep(router.active_down_interval(100) + PAUSE);
        ensure!(lan.holds_all(higher), "the higher one yields too");
        let again = lan.vips().into_iter().any(|vip| lower.holds(vip));
        ensure!(!again, "the lower one takes over again");
    }
    Ok(())
}

pub(super) fn a_reload_moves_the_vips_to_a_virtual_mac_and_back(lab: &mut Lab) -> Result<()> {
    for (family, macvlan, prefix) in [
        (Family::Ipv4, "vrrp.50", "four-"),
        (Family::Ipv6, "vrrp6.50", "six-"),
    ] {
        let (client, [seat, _]) = two_seats(lab, prefix)?;
        let mut lan = Lan {
            capture: Capture::start(&client)?,
            client,
            router: VirtualRouter {
                family,
                ..VirtualRouter::VERSION_3
            },
            macvlan: None,
        };
        let director = lan.start(&seat.host, 100)?;
        wait_until("it holds the VIPs", PATIENCE, || lan.holds_all(&seat.host))?;
        for macvlan in [Some(macvlan), None] {
            lan.macvlan = macvlan;
            lan.capture = Capture::start(&lan.client)?;
            director_file(&seat.host, &lan.yaml(100))?;
            director.signal(Signal::SIGHUP)?;
            let mac = lan.mac(&seat.host);
            for vip in lan.vips() {
                let announced = |frame: &Frame| frame.announcement() == Some((vip, mac));
                lan.capture.wait_for("announcement", PATIENCE, announced)?;
            }
            lan.asks_anew(&seat.host)
                .with_context(|| format!("{macvlan:?}"))?;
        }
    }
    Ok(())
}

fn play(lab: &mut Lab, family: Family, macvlan: Option<&'static str>) -> Result<()> {
    let router = VirtualRouter {
        family,
        ..VirtualRouter::VERSION_3
    };
    let (client, seats) = two_seats(lab, "")?;
    // A machine that forwards says so when it is asked for its neighbour, and another doesn't.
    const FORWARDING: &str = "net.ipv6.conf.all.forwarding";
    seats[0].host.set_sysctl(FORWARDING, "1")?;
    let capture = Capture::start(&client)?;
    let lan = Lan {
        client,
        capture,
        router,
        macvlan,
    };
    let mut active = lan.start(&seats[0].host, 200)?;
    wait_until("the first holds the VIPs", PATIENCE, || {
        lan.holds_all(&seats[0].host)
    })?;
    // The first advert is sent beside the addresses, not before them.
    sleep(PAUSE);
    lan.announcements_are_right(&seats[0], 0, After::Silence)?;
    let sent = Capture::start(&seats[1].host)?;
    let _backup = lan.start(&seats[1].host, 100)?;
    sleep(router.active_down_interval(100) + PAUSE);
    lan.says_nothing_as_another(&sent)?;
    lan.one_serves(&seats[0], &seats[1], true)
        .context("the first as Active")?;

    let changed = lan.capture.frames(|_| true).len();
    ensure!(active.terminate(PATIENCE)?.success(), "SIGTERM");
    seats[0].host.set_sysctl(FORWARDING, "0")?;
    wait_until("the second holds the VIPs", PATIENCE, || {
        lan.holds_all(&seats[1].host)
    })?;
    sleep(PAUSE);
    lan.announcements_are_right(&seats[1], changed, After::Resignation)?;
    let _first = lan.start(&seats[0].host, 50)?;
    sleep(router.active_down_interval(50) + PAUSE);
    lan.one_serves(&seats[1], &seats[0], false)
        .context("the second as Active")
}

/// Why somebody takes over.
#[derive(Clone, Copy, PartialEq, Eq)]
enum After {
    Silence,
    Resignation,
}

/// A client, what it hears, and the virtual router of the two others.
struct Lan {
    client: Host,
    capture: Capture,
    router: VirtualRouter,
    /// Where the VIPs are, if not on the interface itself.
    macvlan: Option<&'static str>,
}

impl Lan {
    fn start(&self, host: &Host, priority: u8) -> Result<Process> {
        start_director(host, &self.yaml(priority))
    }

    fn yaml(&self, priority: u8) -> String {
        let addresses: Vec<String> = self
            .router
            .addresses()
            .iter()
            .map(|address| format!("\"{address}\""))
            .collect();
        format!(
            "vrrp:\n  - name: dns\n    interface: {INTERFACE}\n    \
             virtual_router_id: {VIRTUAL_ROUTER_ID}\n    priority: {priority}\n    \
             advert_interval: {}ms\n    addresses: [{}]\n    virtual_mac: {}\n",
            self.router.interval.as_millis(),
            addresses.join(", "),
            self.macvlan.is_some()
        )
    }

    fn vips(&self) -> Vec<IpAddr> {
        let addresses = self.router.addresses().iter();
        addresses
            .filter_map(|text| text.split('/').next()?.parse().ok())
            .collect()
    }

    fn holds_all(&self, host: &Host) -> bool {
        self.vips().into_iter().all(|vip| host.holds(vip))
    }

    /// The Ethernet address under which this machine should be found for the VIPs.
    fn mac(&self, host: &Host) -> Mac {
        match (self.macvlan, self.router.family) {
            (None, _) => host.mac(INTERFACE),
            (Some(_), Family::Ipv4) => [0, 0, 0x5e, 0, 1, VIRTUAL_ROUTER_ID],
            (Some(_), Family::Ipv6) => [0, 0, 0x5e, 0, 2, VIRTUAL_ROUTER_ID],
        }
    }

    fn one_serves(&self, active: &Seat, backup: &Seat, forwards: bool) -> Result<()> {
        let begin = self.capture.frames(|_| true).len();
        self.asks_anew(&active.host)?;
        let since = |frames: Vec<Frame>| frames.into_iter().skip(begin).collect::<Vec<_>>();
        let frames = since(self.capture.frames(|_| true));
        self.adverts_are_right(active, &frames)?;
        self.answers_are_right(active, forwards, &frames)?;
        self.a_backup_takes_nothing(active, backup)?;
        self.addresses_are_right(&active.host, &backup.host)
    }

    /// The client forgets whom it knows, asks, and is answered.
    fn asks_anew(&self, active: &Host) -> Result<()> {
        for vip in self.vips() {
            self.client
                .run(&format!("ip neighbour flush to {vip} dev {INTERFACE}"))?;
            self.reachable(vip)?;
            let found = neighbour(&self.client, vip);
            let expected = Some(self.mac(active));
            ensure!(found == expected, "{vip} is at {found:02x?}");
        }
        sleep(2 * self.router.interval);
        Ok(())
    }

    fn reachable(&self, vip: IpAddr) -> Result<()> {
        if is_link_local(vip) {
            // Without an interface it says nothing to a socket.
            let answer = format!("ping -6 -n -c 1 -W 5 {vip}%{INTERFACE}");
            self.client.run(&answer)?;
            return Ok(());
        }
        ensure!(
            ping::answers(&self.client, vip, PATIENCE),
            "{vip} doesn't answer"
        );
        Ok(())
    }

    /// Sections 5.1 and 7.2; a Backup sends none (section 6.4.2).
    fn adverts_are_right(&self, active: &Seat, frames: &[Frame]) -> Result<()> {
        let group: IpAddr = match self.router.family {
            Family::Ipv4 => "224.0.0.18".parse()?,
            Family::Ipv6 => "ff02::12".parse()?,
        };
        let source = Director::new(active.clone(), self.router).source();
        let mut sent = 0;
        for frame in frames {
            let Some(advert) = frame.advert() else {
                continue;
            };
            sent += 1;
            ensure!(advert.source == source, "{advert:?}");
            ensure!(advert.destination == group, "{advert:?}");
            ensure!(advert.hop_limit == 255, "{advert:?}");
            ensure!(source_mac(frame) == self.mac(&active.host), "{frame:02x?}");
        }
        ensure!(sent >= 2, "only {sent} adverts");
        if self.router.family == Family::Ipv6 {
            let first = frames.iter().find_map(Frame::advert).context("no advert")?;
            let first = first.bytes.get(8..10).map(<[u8]>::to_vec);
            ensure!(first == Some(vec![0xfe, 0x80]), "the first address");
        }
        Ok(())
    }

    /// Sections 6.4.3, 8.1.2 and 8.2.2: only the Active answers, and only as what it should be.
    fn answers_are_right(&self, active: &Seat, forwards: bool, frames: &[Frame]) -> Result<()> {
        let mac = self.mac(&active.host);
        for vip in self.vips() {
            let mut answers = 0;
            for frame in frames.iter().filter(|frame| !frame.outgoing) {
                if let Some(arp) = frame.arp()
                    && !arp.request
                    && vip == arp.sender
                {
                    answers += 1;
                    ensure!(arp.sender_mac == mac && arp.source == mac, "{arp:02x?}");
                }
                if let Some(answer) = frame.neighbour_advertisement()
                    && answer.solicited
                    && vip == answer.target
                {
                    answers += 1;
                    ensure!(answer.target_mac == Some(mac), "{answer:02x?}");
                    ensure!(answer.source_mac == mac, "{answer:02x?}");
                    ensure!(answer.router == forwards, "{answer:02x?}");
                }
            }
            ensure!(answers > 0, "nobody answers for {vip}");
        }
        Ok(())
    }

    /// Errata 7947 and 7949, and section 8.2.2, of what was announced after `begin` frames: each VIP,
    /// after this machine's first advert, or before it where another lets go at that advert, and never
    /// under another Ethernet address.
    fn announcements_are_right(&self, active: &Seat, begin: usize, after: After) -> Result<()> {
        let mac = self.mac(&active.host);
        let source = Director::new(active.clone(), self.router).source();
        let frames = self.capture.frames(|_| true).split_off(begin);
        let promoted = frames
            .iter()
            .position(|frame| frame.advert().is_some_and(|advert| advert.source == source))
            .context("no advert of the new Active")?;
        for vip in self.vips() {
            let mut announced = 0;
            for (position, frame) in frames.iter().enumerate() {
                // An Active that is being relieved may answer an announcement.
                let reply = frame.arp().is_some_and(|arp| !arp.request);
                let announcement = frame.announcement().filter(|_| !reply);
                let Some((_, by)) = announcement.filter(|(address, _)| *address == vip) else {
                    continue;
                };
                announced += 1;
                if announced == 1 {
                    let is_first = position < promoted;
                    let expected = after == After::Resignation;
                    ensure!(is_first == expected, "{vip} announced first: {is_first}");
                }
                ensure!(by == mac && source_mac(frame) == mac, "{frame:02x?}");
                if let Some(arp) = frame.arp() {
                    ensure!(
                        arp.target_mac == mac && arp.destination == [0xff; 6],
                        "{arp:02x?}"
                    );
                }
                if let Some(said) = frame.neighbour_advertisement() {
                    let all_nodes = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
                    ensure!(said.replaces && !said.router, "{said:02x?}");
                    ensure!(said.destination == all_nodes, "{said:02x?}");
                    ensure!(said.hop_limit == 255, "{said:02x?}");
                }
            }
            ensure!(announced > 0, "{vip} is not announced");
        }
        Ok(())
    }

    /// Section 6.4.2. The client is told wrong Ethernet addresses, at which the Backup must not answer;
    /// the Active shows that the question can be answered.
    fn a_backup_takes_nothing(&self, active: &Seat, backup: &Seat) -> Result<()> {
        let vip = self.router.vip();
        let mac = self.mac(&active.host);
        ensure!(self.asked_at(vip, mac, PATIENCE)?, "the Active is silent");
        let answered = self.asked_at(vip, backup.host.mac(INTERFACE), SILENCE)?;
        ensure!(!answered, "the Backup takes what is for the VIP");
        if self.macvlan.is_some() {
            let own = |seat: &Seat| {
                let router = VirtualRouter {
                    cast: Cast::Unicast,
                    ..self.router
                };
                Director::new(seat.clone(), router).source()
            };
            let answered = self.asked_at(own(active), mac, PATIENCE)?;
            ensure!(answered, "the Active takes nothing for the virtual MAC");
            let answered = self.asked_at(own(backup), mac, SILENCE)?;
            ensure!(!answered, "the Backup takes what is for the virtual MAC");
        }
        Ok(())
    }

    /// Whether a ping to `address` is answered that the client sends to `mac`.
    fn asked_at(&self, address: IpAddr, mac: Mac, limit: Duration) -> Result<bool> {
        let mac = mac.map(|octet| format!("{octet:02x}")).join(":");
        let entry = format!("{address} lladdr {mac} dev {INTERFACE} nud permanent");
        self.client.run(&format!("ip neighbour replace {entry}"))?;
        let answered = ping::answers(&self.client, address, limit);
        self.client
            .run(&format!("ip neighbour delete {address} dev {INTERFACE}"))?;
        Ok(answered)
    }

    /// A frame from the virtual MAC would draw the switch to a Backup.
    fn says_nothing_as_another(&self, backup: &Capture) -> Result<()> {
        let is_virtual = |mac: Mac| mac[..3] == [0, 0, 0x5e];
        let frames = backup.frames(|frame| frame.outgoing && is_virtual(source_mac(frame)));
        ensure!(frames.is_empty(), "a Backup sent {frames:02x?}");
        Ok(())
    }

    fn addresses_are_right(&self, active: &Host, backup: &Host) -> Result<()> {
        let interface = self.macvlan.unwrap_or(INTERFACE);
        if let Some(name) = self.macvlan {
            // Section 7.4: none of its own, and none derived from the virtual MAC.
            for host in [active, backup] {
                let shown = host.run("ip -oneline -6 address show")?;
                ensure!(!shown.contains("fe80::200:5eff:fe00"), "{shown}");
            }
            let shown = active.run(&format!("ip -oneline address show dev {name}"))?;
            let all = self.vips().len();
            ensure!(shown.lines().count() == all, "{shown}");
            let shown = active.run(&format!("ip -oneline address show dev {INTERFACE}"))?;
            let vip = self.router.vip();
            ensure!(!shown.contains(&format!(" {vip}/")), "{shown}");
        }
        if self.router.family == Family::Ipv6 {
            // Section 6.4.3: the group of ::185.
            let joined = |host: &Host| -> Result<bool> {
                let groups = host.run(&format!("ip -6 maddress show dev {interface}"))?;
                Ok(groups.contains("ff02::1:ff00:185"))
            };
            ensure!(joined(active)?, "not in the solicited-node group");
            ensure!(
                !joined(backup)?,
                "the Backup is in the solicited-node group"
            );
        }
        Ok(())
    }
}

fn is_link_local(address: IpAddr) -> bool {
    matches!(address, IpAddr::V6(address) if address.is_unicast_link_local())
}

fn source_mac(frame: &Frame) -> Mac {
    let mut mac = Mac::default();
    mac.copy_from_slice(&frame.bytes[6..12]);
    mac
}
