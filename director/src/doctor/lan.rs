//! Listening to the LANs of the VIPs: adverts, and who claims which address. The only thing that is sent
//! is who-has questions.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use lvs_proto::sentinel::{Claim, Form};
use lvs_proto::vrrp::{Peers, Received, Rejection};
use lvs_proto::{arp, ndp};
use lvs_system::address;
use lvs_system::neighbour_socket::NeighbourSockets;
use lvs_system::packet::PacketSocket;
use lvs_system::vrrp_socket::{Mode, VrrpSocket};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::Report;
use super::machine::Machine;
use crate::config::Instance;

/// Bounds of how long is listened.
const SHORTEST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(10);
/// How long an answer to a who-has question may take.
const ANSWERS: Duration = Duration::from_millis(500);
/// Questions are lost now and then.
const ROUNDS: u32 = 3;
/// Of each kind of address, so that nobody takes this for a scan.
const MOST_ASKED: usize = 64;
/// The longest advert, 255 IPv6 addresses, and a trailer.
const LONGEST_MESSAGE: usize = 8192;

/// What was heard.
#[derive(Debug, Default)]
pub(super) struct Heard {
    /// By instance and source, the last advert of each: those of this machine are none.
    pub(super) adverts: BTreeMap<(String, IpAddr), Result<Received, Rejection>>,
    /// Who has which address, by interface: as answered or announced, own Ethernet addresses left out.
    pub(super) owners: BTreeMap<(u32, IpAddr), BTreeSet<[u8; 6]>>,
    /// Addresses that were asked for.
    pub(super) asked: BTreeSet<(u32, IpAddr)>,
    /// Instances that could not be listened for.
    pub(super) deaf: BTreeSet<String>,
}

impl Heard {
    pub(super) fn owners_of(&self, interface_index: u32, address: IpAddr) -> BTreeSet<[u8; 6]> {
        let owners = self.owners.get(&(interface_index, address));
        owners.cloned().unwrap_or_default()
    }

    /// The routers that are heard for an instance.
    pub(super) fn of<'h>(
        &'h self,
        instance: &'h str,
    ) -> impl Iterator<Item = (IpAddr, &'h Result<Received, Rejection>)> {
        let adverts = self.adverts.iter();
        adverts
            .filter(move |((name, _), _)| name == instance)
            .map(|((_, source), advert)| (*source, advert))
    }
}

/// Listens for as long as three and a half adverts of the slowest instance take.
pub(super) fn listen(machine: &Machine<'_>, report: &mut Report) -> Heard {
    let mut heard = Heard::default();
    let instances = &machine.configuration().instances;
    let mut sockets = Vec::new();
    for instance in instances {
        match open(machine, instance) {
            Some(Ok(socket)) => sockets.push((instance, socket)),
            Some(Err(error)) => {
                heard.deaf.insert(instance.name.clone());
                report.unknown(
                    "speaker",
                    &instance.name,
                    format!("adverts can't be listened for: {error}"),
                    Some("run it as root".to_owned()),
                );
            }
            // That there is no interface has been said.
            None => _ = heard.deaf.insert(instance.name.clone()),
        }
    }
    let mut neighbours = match NeighbourSockets::open() {
        Ok(neighbours) => Some(neighbours),
        Err(error) => {
            let advice = Some("run it as root".to_owned());
            report.unknown(
                "neighbour",
                "",
                format!("nobody can be asked: {error}"),
                advice,
            );
            None
        }
    };
    let slowest = instances.iter().map(|one| one.advert_interval.get()).max();
    let time = slowest.map_or(SHORTEST, |slowest| slowest * 7 / 2);
    let end = Instant::now() + time.clamp(SHORTEST, LONGEST);
    let mut asker = Asker::new(machine);
    let questions = questions(machine);
    hear_until(end, &sockets, &mut neighbours, machine, &mut heard, || {
        asker.ask(&questions);
    });
    // Who sends adverts is asked for as well, so that it is known by its Ethernet address.
    let speakers = speakers(machine, &heard);
    let end = Instant::now() + ANSWERS;
    hear_until(end, &sockets, &mut neighbours, machine, &mut heard, || {
        asker.ask(&speakers);
    });
    if neighbours.is_some() {
        heard.asked = questions.into_iter().chain(speakers).collect();
    }
    heard
}

fn open(machine: &Machine<'_>, instance: &Instance) -> Option<std::io::Result<VrrpSocket>> {
    let link = machine.link(&instance.interface).filter(|link| link.up)?;
    let mode = match instance.peers {
        Peers::Multicast => Mode::Multicast,
        Peers::Unicast { .. } => Mode::Unicast,
    };
    Some(VrrpSocket::open(
        instance.family(),
        &link.name,
        link.index,
        mode,
    ))
}

/// VIPs, real servers on the same LAN, and this machine's own addresses there.
fn questions(machine: &Machine<'_>) -> BTreeSet<(u32, IpAddr)> {
    let mut questions = BTreeSet::new();
    for vip in machine.vips().take(MOST_ASKED) {
        if let Some(link) = machine.link(vip.interface) {
            questions.insert((link.index, vip.address));
            let own = machine.picture.addresses.iter();
            // The kernel has asked for IPv6 addresses itself when they were given.
            let own = own.filter(|own| own.interface_index == link.index && own.address.is_ipv4());
            questions.extend(own.map(|own| (link.index, own.address)));
        }
    }
    for (address, ..) in machine.servers().into_iter().take(MOST_ASKED) {
        let way = machine.way_to(address);
        if let Some(way) = way.filter(|way| !way.local && way.gateway.is_none()) {
            questions.insert((way.interface_index, address));
        }
    }
    questions
}

fn speakers(machine: &Machine<'_>, heard: &Heard) -> BTreeSet<(u32, IpAddr)> {
    let adverts = heard.adverts.keys();
    adverts
        .filter_map(|(name, source)| {
            let mut instances = machine.configuration().instances.iter();
            let instance = instances.find(|one| one.name == *name)?;
            Some((machine.link(&instance.interface)?.index, *source))
        })
        .collect()
}

fn hear_until(
    end: Instant,
    sockets: &[(&Instance, VrrpSocket)],
    neighbours: &mut Option<NeighbourSockets>,
    machine: &Machine<'_>,
    heard: &mut Heard,
    mut ask: impl FnMut(),
) {
    let own = machine.own_hardware();
    let pause = end.saturating_duration_since(Instant::now()) / (ROUNDS + 1);
    let (mut next, mut rounds) = (Instant::now(), 0);
    loop {
        let now = Instant::now();
        if now >= end {
            return;
        }
        if rounds < ROUNDS && now >= next {
            ask();
            rounds += 1;
            next = now + pause;
        }
        let due = if rounds < ROUNDS { next.min(end) } else { end };
        wait(
            sockets,
            neighbours.as_ref(),
            due.saturating_duration_since(now),
        );
        for (instance, socket) in sockets {
            take_adverts(instance, socket, machine, heard);
        }
        if let Some(neighbours) = neighbours {
            // One that fails, as after an interface has gone, hears the rest all the same.
            let _ = neighbours.take(usize::MAX, |interface, claim| {
                if !own.contains(&claim.hardware_address) && is_telling(claim) {
                    let place = (interface, claim.address);
                    heard
                        .owners
                        .entry(place)
                        .or_default()
                        .insert(claim.hardware_address);
                }
            });
        }
    }
}

/// Who asks in an address's name has it, too; but somebody who probes for one has not.
fn is_telling(claim: &Claim) -> bool {
    matches!(
        claim.form,
        Form::Answer | Form::Announcement | Form::Question
    ) && !claim.address.is_unspecified()
}

fn wait(
    sockets: &[(&Instance, VrrpSocket)],
    neighbours: Option<&NeighbourSockets>,
    time: Duration,
) {
    let adverts = sockets.iter().map(|(_, socket)| socket.as_fd());
    let neighbours = neighbours
        .into_iter()
        .flat_map(NeighbourSockets::descriptors);
    let mut descriptors: Vec<PollFd<'_>> = adverts
        .chain(neighbours)
        .map(|descriptor| PollFd::new(descriptor, PollFlags::POLLIN))
        .collect();
    let time = time + Duration::from_millis(1);
    // Interrupted, it is called again by its caller.
    let _ = poll(
        &mut descriptors,
        PollTimeout::try_from(time).unwrap_or(PollTimeout::MAX),
    );
}

fn take_adverts(
    instance: &Instance,
    socket: &VrrpSocket,
    machine: &Machine<'_>,
    heard: &mut Heard,
) {
    let mut buffer = vec![0; LONGEST_MESSAGE];
    // The socket fails once after its interface was down, and hears again when it is up.
    while let Ok(Some(datagram)) = socket.receive(&mut buffer) {
        let is_meant = datagram.virtual_router() == Some(instance.virtual_router_id);
        if !is_meant || machine.is_own(datagram.source) {
            continue;
        }
        let least = match instance.peers {
            Peers::Multicast => lvs_proto::vrrp::TIME_TO_LIVE,
            Peers::Unicast {
                minimum_hop_limit, ..
            } => minimum_hop_limit,
        };
        let advert = if datagram.hop_limit < least {
            Err(Rejection::TimeToLive)
        } else {
            datagram.read()
        };
        // Somebody who says goodbye is none any more.
        if !matches!(&advert, Ok(received) if received.advert.priority == 0) {
            let key = (instance.name.clone(), datagram.source);
            heard.adverts.insert(key, advert);
        }
    }
}

/// Asks who has addresses.
struct Asker<'m, 'p> {
    machine: &'m Machine<'p>,
    frames: HashMap<u32, Option<PacketSocket>>,
}

impl<'m, 'p> Asker<'m, 'p> {
    fn new(machine: &'m Machine<'p>) -> Self {
        Self {
            machine,
            frames: HashMap::new(),
        }
    }

    fn ask(&mut self, questions: &BTreeSet<(u32, IpAddr)>) {
        for (interface_index, address) in questions {
            // What can't be sent isn't answered.
            let _ = self.put(*interface_index, *address);
        }
    }

    /// Asks from this machine's own address, with its own Ethernet address. One of its own is asked for
    /// without an address of the sender (RFC 5227, section 2.1.1), so that nobody learns anything.
    fn put(&mut self, interface_index: u32, address: IpAddr) -> Option<()> {
        let picture = &self.machine.picture;
        let mut links = picture.links.iter();
        let link = links.find(|link| link.index == interface_index && link.up)?;
        let vips: Vec<IpAddr> = self.machine.vips().map(|vip| vip.address).collect();
        let own = link.hardware_address;
        let frame = match address {
            IpAddr::V4(address) => {
                let source = address::primary_ipv4(&picture.addresses, interface_index, &vips);
                let source = source.filter(|_| !self.machine.is_own(address.into()));
                arp::question(own, source.unwrap_or(Ipv4Addr::UNSPECIFIED), address).to_vec()
            }
            IpAddr::V6(address) => {
                let source = address::primary_ipv6(&picture.addresses, interface_index, &vips)?;
                ndp::solicitation(own, source, address).to_vec()
            }
        };
        let socket = self
            .frames
            .entry(interface_index)
            .or_insert_with(|| PacketSocket::open(interface_index).ok());
        socket.as_ref()?.send(&frame).ok()
    }
}
