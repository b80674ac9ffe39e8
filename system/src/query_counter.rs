//! Counts, in the kernel, the queries that come to an address.
//!
//! A packet socket has a filter that only they pass, and is never read: the kernel counts what passes,
//! whether or not there is room for it (`PACKET_STATISTICS`). So a query costs a run of the filter, and
//! nothing is copied, queued or woken up. It sees what comes in, on every interface but `lo`, before a
//! packet filter or a full socket can drop it.

use std::io;
use std::net::IpAddr;
use std::os::fd::AsFd;

use socket2::{Domain, SockFilter, Socket, Type};

use crate::filter::{REJECT, equals, has_any, instruction, load};
use crate::syscalls::{packet_address, take_packet_count};

/// What carries a query.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Transport {
    /// Every datagram counts; of one that comes in fragments, the first.
    Udp,
    /// Connections count, by their first segment (SYN).
    Tcp,
}

/// Counts the queries of one transport that come to one address, from all but some senders.
#[derive(Debug)]
pub struct QueryCounter {
    socket: Socket,
    address: IpAddr,
    transport: Transport,
}

impl Transport {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Udp, Self::Tcp];

    /// As metrics have it.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Udp => "udp",
            Self::Tcp => "tcp",
        }
    }

    /// Its number (RFC 768, RFC 9293).
    const fn number(self) -> u32 {
        match self {
            Self::Udp => 17,
            Self::Tcp => 6,
        }
    }
}

impl QueryCounter {
    /// Counts from now on what comes to `address` in the calling thread's network namespace, except from
    /// `uncounted`, of which those of the other family mean nothing.
    ///
    /// IPv6 packets with extension headers are not seen.
    ///
    /// # Errors
    /// `EPERM` without `CAP_NET_RAW`; `EINVAL` with more than about 400 senders.
    pub fn open(address: IpAddr, transport: Transport, uncounted: &[IpAddr]) -> io::Result<Self> {
        // Protocol 0 hears nothing until the filter is there.
        let socket = Socket::new(Domain::PACKET, Type::DGRAM.nonblocking(), None)?;
        // The least there is: what is queued is never read.
        socket.set_recv_buffer_size(1)?;
        let counter = Self {
            socket,
            address,
            transport,
        };
        counter.set_uncounted(uncounted)?;
        let protocol = match address {
            IpAddr::V4(_) => libc::ETH_P_IP,
            IpAddr::V6(_) => libc::ETH_P_IPV6,
        };
        counter.socket.bind(&packet_address(0, protocol as u16)?)?;
        Ok(counter)
    }

    /// Leaves out other senders from now on.
    ///
    /// # Errors
    /// As [`QueryCounter::open`].
    pub fn set_uncounted(&self, uncounted: &[IpAddr]) -> io::Result<()> {
        self.socket
            .attach_filter(&filter(self.address, self.transport, uncounted))
    }

    /// How many there were since the last call.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn take(&self) -> io::Result<u64> {
        take_packet_count(self.socket.as_fd()).map(u64::from)
    }
}

/// The number of `lo` in every network namespace (linux/netdevice.h, `LOOPBACK_IFINDEX`).
const LOOPBACK_INDEX: u32 = 1;
/// Of TCP's flags (RFC 9293, section 3.1).
const SYN: u32 = 0x02;
const ACK: u32 = 0x10;

/// The packet begins at its IP header (packet(7), `SOCK_DGRAM`).
fn filter(address: IpAddr, transport: Transport, uncounted: &[IpAddr]) -> Vec<SockFilter> {
    let mut program = vec![
        load(
            libc::BPF_W,
            (libc::SKF_AD_OFF + libc::SKF_AD_PKTTYPE) as u32,
        ),
        equals(u32::from(libc::PACKET_HOST), 1, 0),
        REJECT,
        load(
            libc::BPF_W,
            (libc::SKF_AD_OFF + libc::SKF_AD_IFINDEX) as u32,
        ),
        equals(LOOPBACK_INDEX, 0, 1),
        REJECT,
    ];
    match address {
        IpAddr::V4(address) => {
            program.extend([
                load(libc::BPF_B, 9),
                equals(transport.number(), 1, 0),
                REJECT,
                load(libc::BPF_W, 16),
                equals(address.to_bits(), 1, 0),
                REJECT,
                // The offset of a fragment: the first one has the header.
                load(libc::BPF_H, 6),
                has_any(0x1fff, 0, 1),
                REJECT,
                load(libc::BPF_W, 12),
            ]);
            for sender in uncounted {
                if let IpAddr::V4(sender) = sender {
                    program.extend([equals(sender.to_bits(), 0, 1), REJECT]);
                }
            }
        }
        IpAddr::V6(address) => {
            program.extend([
                load(libc::BPF_B, 6),
                equals(transport.number(), 1, 0),
                REJECT,
            ]);
            for (offset, word) in words(address.to_bits(), 24) {
                program.extend([load(libc::BPF_W, offset), equals(word, 1, 0), REJECT]);
            }
            for sender in uncounted {
                if let IpAddr::V6(sender) = sender {
                    // To the instruction behind the rejection, as soon as a word differs.
                    for (left, (offset, word)) in (0..4).rev().zip(words(sender.to_bits(), 8)) {
                        program.extend([load(libc::BPF_W, offset), equals(word, 0, 2 * left + 1)]);
                    }
                    program.push(REJECT);
                }
            }
        }
    }
    if transport == Transport::Tcp {
        let flags = match address {
            IpAddr::V4(_) => {
                // The header's length in X.
                program.push(instruction(
                    libc::BPF_LDX | libc::BPF_B | libc::BPF_MSH,
                    0,
                    0,
                    0,
                ));
                instruction(libc::BPF_LD | libc::BPF_B | libc::BPF_IND, 0, 0, 13)
            }
            IpAddr::V6(_) => load(libc::BPF_B, 40 + 13),
        };
        program.extend([
            flags,
            has_any(ACK, 0, 1),
            REJECT,
            has_any(SYN, 1, 0),
            REJECT,
        ]);
    }
    // One byte of it is kept, while there is room.
    program.push(instruction(libc::BPF_RET | libc::BPF_K, 0, 0, 1));
    program
}

/// The four words of an address, each with its offset.
fn words(address: u128, offset: u32) -> impl Iterator<Item = (u32, u32)> {
    (0..4).map(move |word| (offset + 4 * word, (address >> (96 - 32 * word)) as u32))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_read_by_words() {
        let words: Vec<_> = words(0x2001_0db8_0056_0000_0000_0000_0000_0185, 24).collect();
        assert_eq!(
            words,
            [(24, 0x2001_0db8), (28, 0x0056_0000), (32, 0), (36, 0x0185)]
        );
    }
}
