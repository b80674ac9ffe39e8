//! Frames on the interfaces of a host, with the kernel's time stamps.

use std::io::IoSliceMut;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddrV4};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};
use nix::net::if_::if_indextoname;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    AddressFamily, ControlMessageOwned, LinkAddr, MsgFlags, SockFlag, SockProtocol, SockType,
    recvmsg, setsockopt, socket, sockopt,
};
use pnet::packet::Packet;
use pnet::packet::arp::{ArpOperations, ArpPacket};
use pnet::packet::ethernet::{EtherTypes, EthernetPacket};
use pnet::packet::icmpv6::ndp::{NdpOptionTypes, NeighborAdvertPacket};
use pnet::packet::icmpv6::{Icmpv6Packet, Icmpv6Types};
use pnet::packet::ip::{IpNextHeaderProtocol, IpNextHeaderProtocols};
use pnet::packet::ipv4::Ipv4Packet;
use pnet::packet::ipv6::Ipv6Packet;
use pnet::packet::udp::UdpPacket;

use crate::lab::{Host, Mac};
use crate::lock::lock;

/// `PACKET_OUTGOING` (`linux/if_packet.h`).
const OUTGOING: u8 = 4;
/// VRRP's protocol number (RFC 9568, section 5.1.1.4).
const VRRP: IpNextHeaderProtocol = IpNextHeaderProtocol(112);

/// Frames that come faster than they are read are not waited for longer.
const CATCH_UP: Duration = Duration::from_millis(500);

/// One frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// When the kernel saw it.
    pub at: Instant,
    /// The interface's name.
    pub interface: String,
    /// Whether the host sent it.
    pub outgoing: bool,
    /// From the Ethernet header on.
    pub bytes: Vec<u8>,
}

/// An ARP message (RFC 826) over Ethernet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arp {
    /// Whether it is a request; a reply otherwise.
    pub request: bool,
    /// The Ethernet header's source.
    pub source: Mac,
    /// The Ethernet header's destination.
    pub destination: Mac,
    /// Sender hardware address.
    pub sender_mac: Mac,
    /// Sender protocol address.
    pub sender: Ipv4Addr,
    /// Target hardware address.
    pub target_mac: Mac,
    /// Target protocol address.
    pub target: Ipv4Addr,
}

impl Arp {
    /// Whether sender and target are the same address: an announcement.
    pub fn is_gratuitous(&self) -> bool {
        self.sender == self.target
    }
}

/// A neighbour advertisement (RFC 4861, section 4.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NeighbourAdvertisement {
    /// The Ethernet header's source.
    pub source_mac: Mac,
    /// The Ethernet header's destination.
    pub destination_mac: Mac,
    /// Source address of the IPv6 header.
    pub source: Ipv6Addr,
    /// Destination address of the IPv6 header.
    pub destination: Ipv6Addr,
    /// Hop limit of the IPv6 header.
    pub hop_limit: u8,
    /// R: the sender is a router.
    pub router: bool,
    /// S: it answers a solicitation; an announcement otherwise.
    pub solicited: bool,
    /// O: it replaces what neighbours know.
    pub replaces: bool,
    /// Whose link-layer address this is about.
    pub target: Ipv6Addr,
    /// The target link-layer address option.
    pub target_mac: Option<Mac>,
}

/// A VRRP advert (RFC 9568, section 5; version 2: RFC 3768). Nothing is verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Advert {
    /// Source address of the IP header.
    pub source: IpAddr,
    /// Destination address of the IP header.
    pub destination: IpAddr,
    /// Time to live or hop limit of the IP header.
    pub hop_limit: u8,
    /// Version, 2 or 3.
    pub version: u8,
    /// Virtual router identifier.
    pub virtual_router_id: u8,
    /// Priority; 0 says that the sender stops.
    pub priority: u8,
    /// The VRRP message, from its first byte.
    pub bytes: Vec<u8>,
}

/// A UDP datagram over IPv4.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Datagram {
    /// Where it comes from.
    pub source: SocketAddrV4,
    /// Where it goes.
    pub destination: SocketAddrV4,
    /// Time to live of the IP header.
    pub ttl: u8,
}

impl Frame {
    /// The UDP datagram in it, if it is one by IPv4 and no later fragment.
    pub fn datagram(&self) -> Option<Datagram> {
        let ethernet = EthernetPacket::new(&self.bytes)?;
        let packet = Ipv4Packet::new(ethernet.payload())?;
        let is_udp = ethernet.get_ethertype() == EtherTypes::Ipv4
            && packet.get_next_level_protocol() == IpNextHeaderProtocols::Udp
            && packet.get_fragment_offset() == 0;
        let udp = UdpPacket::new(packet.payload())?;
        is_udp.then(|| Datagram {
            source: SocketAddrV4::new(packet.get_source(), udp.get_source()),
            destination: SocketAddrV4::new(packet.get_destination(), udp.get_destination()),
            ttl: packet.get_ttl(),
        })
    }

    /// The ARP message in it, if it is one.
    pub fn arp(&self) -> Option<Arp> {
        let ethernet = EthernetPacket::new(&self.bytes)?;
        if ethernet.get_ethertype() != EtherTypes::Arp {
            return None;
        }
        let arp = ArpPacket::new(ethernet.payload())?;
        Some(Arp {
            request: arp.get_operation() == ArpOperations::Request,
            source: ethernet.get_source().octets(),
            destination: ethernet.get_destination().octets(),
            sender_mac: arp.get_sender_hw_addr().octets(),
            sender: arp.get_sender_proto_addr(),
            target_mac: arp.get_target_hw_addr().octets(),
            target: arp.get_target_proto_addr(),
        })
    }

    /// The neighbour advertisement in it, if it is one.
    pub fn neighbour_advertisement(&self) -> Option<NeighbourAdvertisement> {
        let ethernet = EthernetPacket::new(&self.bytes)?;
        if ethernet.get_ethertype() != EtherTypes::Ipv6 {
            return None;
        }
        let packet = Ipv6Packet::new(ethernet.payload())?;
        let is_icmp = packet.get_next_header() == IpNextHeaderProtocols::Icmpv6;
        let kind = Icmpv6Packet::new(packet.payload())?.get_icmpv6_type();
        if !is_icmp || kind != Icmpv6Types::NeighborAdvert {
            return None;
        }
        let advertisement = NeighborAdvertPacket::new(packet.payload())?;
        let flags = advertisement.get_flags();
        let options = advertisement.get_options();
        let target_mac = options
            .iter()
            .find(|option| option.option_type == NdpOptionTypes::TargetLLAddr)
            .and_then(|option| Mac::try_from(option.data.as_slice()).ok());
        Some(NeighbourAdvertisement {
            source_mac: ethernet.get_source().octets(),
            destination_mac: ethernet.get_destination().octets(),
            source: packet.get_source(),
            destination: packet.get_destination(),
            hop_limit: packet.get_hop_limit(),
            router: flags & 0x80 != 0,
            solicited: flags & 0x40 != 0,
            replaces: flags & 0x20 != 0,
            target: advertisement.get_target_addr(),
            target_mac,
        })
    }

    /// The VRRP advert in it, if it is one.
    pub fn advert(&self) -> Option<Advert> {
        let ethernet = EthernetPacket::new(&self.bytes)?;
        match ethernet.get_ethertype() {
            EtherTypes::Ipv4 => {
                let packet = Ipv4Packet::new(ethernet.payload())?;
                let (source, destination) = (packet.get_source(), packet.get_destination());
                Advert::read(
                    packet.get_next_level_protocol(),
                    (source.into(), destination.into(), packet.get_ttl()),
                    packet.payload(),
                )
            }
            EtherTypes::Ipv6 => {
                let packet = Ipv6Packet::new(ethernet.payload())?;
                let (source, destination) = (packet.get_source(), packet.get_destination());
                Advert::read(
                    packet.get_next_header(),
                    (source.into(), destination.into(), packet.get_hop_limit()),
                    packet.payload(),
                )
            }
            _ => None,
        }
    }

    /// Which address this frame announces to all neighbours, and as whose: a gratuitous ARP, or a
    /// neighbour advertisement that nobody asked for.
    pub fn announcement(&self) -> Option<(IpAddr, Mac)> {
        if let Some(arp) = self.arp() {
            return arp
                .is_gratuitous()
                .then_some((arp.sender.into(), arp.sender_mac));
        }
        let advertisement = self.neighbour_advertisement()?;
        let mac = advertisement.target_mac?;
        (!advertisement.solicited).then_some((advertisement.target.into(), mac))
    }
}

impl Advert {
    fn read(
        protocol: IpNextHeaderProtocol,
        (source, destination, hop_limit): (IpAddr, IpAddr, u8),
        message: &[u8],
    ) -> Option<Self> {
        let [first, virtual_router_id, priority, ..] = *message else {
            return None;
        };
        (protocol == VRRP).then(|| Self {
            source,
            destination,
            hop_limit,
            version: first >> 4,
            virtual_router_id,
            priority,
            bytes: message.to_vec(),
        })
    }
}

/// A running capture on all interfaces of a host, `lo` included.
#[derive(Debug)]
pub struct Capture {
    socket: Arc<OwnedFd>,
    frames: Arc<Mutex<Vec<Frame>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Capture {
    /// Starts to capture; every frame from the return of this call on is there.
    pub fn start(host: &Host) -> Result<Self> {
        let socket = host
            .within(open)
            .with_context(|| format!("no capture on {}", host.name()))?;
        let socket = Arc::new(socket);
        let frames = Arc::default();
        let stop = Arc::new(AtomicBool::new(false));
        let (own_socket, own_frames) = (Arc::clone(&socket), Arc::clone(&frames));
        let own_stop = stop.clone();
        let thread = host.thread(move || read(&own_socket, &own_frames, &own_stop));
        Ok(Self {
            socket,
            frames,
            stop,
            thread: Some(thread),
        })
    }

    /// The frames until now for which `wanted` is true.
    pub fn frames(&self, wanted: impl Fn(&Frame) -> bool) -> Vec<Frame> {
        self.lock().iter().filter(|f| wanted(f)).cloned().collect()
    }

    /// All ARP messages until now, with the frames they came in.
    pub fn arps(&self) -> Vec<(Frame, Arp)> {
        self.decoded(Frame::arp)
    }

    /// All neighbour advertisements until now, with the frames they came in.
    pub fn neighbour_advertisements(&self) -> Vec<(Frame, NeighbourAdvertisement)> {
        self.decoded(Frame::neighbour_advertisement)
    }

    /// All VRRP adverts until now, with the frames they came in.
    pub fn adverts(&self) -> Vec<(Frame, Advert)> {
        self.decoded(Frame::advert)
    }

    /// Waits for a frame for which `wanted` is true; one that was captured already counts.
    ///
    /// # Errors
    /// When none came within `limit`.
    pub fn wait_for(
        &self,
        what: &str,
        limit: Duration,
        wanted: impl Fn(&Frame) -> bool,
    ) -> Result<Frame> {
        let start = Instant::now();
        loop {
            if let Some(frame) = self.lock().iter().find(|frame| wanted(frame)) {
                return Ok(frame.clone());
            }
            if start.elapsed() > limit {
                bail!("no {what} within {limit:?}");
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    fn decoded<T>(&self, decode: impl Fn(&Frame) -> Option<T>) -> Vec<(Frame, T)> {
        self.lock()
            .iter()
            .filter_map(|frame| Some((frame.clone(), decode(frame)?)))
            .collect()
    }

    /// All that the kernel has captured until now, as far as its stream ever pauses.
    fn lock(&self) -> MutexGuard<'_, Vec<Frame>> {
        let begin = Instant::now();
        loop {
            // What was taken from the socket is there: the reader does both under the lock.
            let frames = lock(&self.frames);
            if !is_readable(&self.socket, PollTimeout::ZERO) || begin.elapsed() > CATCH_UP {
                return frames;
            }
            drop(frames);
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            // Its panic would show as missing frames.
            let _ = thread.join();
        }
    }
}

fn open() -> Result<OwnedFd> {
    // Not bound, it hears all interfaces, and each frame says which one it came by.
    let socket = socket(
        AddressFamily::Packet,
        SockType::Raw,
        SockFlag::SOCK_CLOEXEC,
        SockProtocol::EthAll,
    )?;
    setsockopt(&socket, sockopt::ReceiveTimestampns, &true)?;
    setsockopt(&socket, sockopt::RcvBuf, &(4 << 20))?;
    Ok(socket)
}

fn read(socket: &OwnedFd, frames: &Mutex<Vec<Frame>>, stop: &AtomicBool) {
    let (instant, wall) = (Instant::now(), SystemTime::now());
    let mut buffer = vec![0; 1 << 16];
    let mut control = nix::cmsg_space!(nix::sys::time::TimeSpec);
    // Looks now and then whether it shall stop.
    while !stop.load(Ordering::SeqCst) {
        if !is_readable(socket, PollTimeout::from(50_u8)) {
            continue;
        }
        let mut frames = lock(frames);
        let mut parts = [IoSliceMut::new(&mut buffer)];
        let Ok(message) = recvmsg::<LinkAddr>(
            socket.as_raw_fd(),
            &mut parts,
            Some(&mut control),
            MsgFlags::MSG_DONTWAIT,
        ) else {
            continue;
        };
        let Some(address) = message.address else {
            continue;
        };
        let stamp = message
            .cmsgs()
            .into_iter()
            .flatten()
            .find_map(|item| match item {
                ControlMessageOwned::ScmTimestampns(stamp) => Some(Duration::from(stamp)),
                _ => None,
            });
        let at = stamp
            .and_then(|stamp| monotonic(instant, wall, UNIX_EPOCH + stamp))
            .unwrap_or_else(Instant::now);
        frames.push(Frame {
            at,
            interface: interface_name(address.ifindex()),
            outgoing: address.pkttype() == OUTGOING,
            bytes: message.iovs().next().unwrap_or_default().to_vec(),
        });
    }
}

fn is_readable(socket: &OwnedFd, patience: PollTimeout) -> bool {
    let mut wanted = [PollFd::new(socket.as_fd(), PollFlags::POLLIN)];
    poll(&mut wanted, patience).is_ok_and(|ready| ready > 0)
}

/// The kernel stamps with the wall clock; tests compare with [`Instant`].
fn monotonic(instant: Instant, wall: SystemTime, stamp: SystemTime) -> Option<Instant> {
    match stamp.duration_since(wall) {
        Ok(later) => instant.checked_add(later),
        Err(earlier) => instant.checked_sub(earlier.duration()),
    }
}

fn interface_name(index: usize) -> String {
    if_indextoname(index as u32)
        .ok()
        .and_then(|name| name.into_string().ok())
        .unwrap_or_else(|| index.to_string())
}
