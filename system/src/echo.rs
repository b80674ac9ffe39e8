//! Whether a machine answers an ICMP echo request of a given size, that is whether packets of that size
//! reach it.

use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, Socket, Type};

/// Of the requests of this program (RFC 792).
const IDENTIFIER: u16 = 0x4c56;
/// Type, code, checksum, identifier and number.
const HEADER_LENGTH: usize = 8;

/// Sends an echo request to each address in an IP packet of so many bytes, which isn't fragmented on its
/// way, and waits no longer than `limit` for the answers. Which of them answered, in the same order.
/// Needs `CAP_NET_RAW`.
///
/// # Errors
/// When there is no socket. An address that can't be reached is one that doesn't answer.
pub fn answering(requests: &[(IpAddr, usize)], limit: Duration) -> io::Result<Vec<bool>> {
    let four = Echo::open(false)?;
    let six = Echo::open(true);
    let socket = |address: &IpAddr| match address {
        IpAddr::V4(_) => Some(&four),
        IpAddr::V6(_) => six.as_ref().ok(),
    };
    let mut answered = vec![false; requests.len()];
    for (number, (address, length)) in requests.iter().enumerate() {
        if let (Some(socket), Ok(number)) = (socket(address), u16::try_from(number)) {
            // The kernel refuses one that is too long for the interface: nobody answers it.
            let _ = socket.ask(*address, number, *length);
        }
    }
    let deadline = Instant::now() + limit;
    while answered.contains(&false) && Instant::now() < deadline {
        for socket in [Some(&four), six.as_ref().ok()].into_iter().flatten() {
            while let Some((from, number)) = socket.hear() {
                let asked = requests.get(usize::from(number));
                if asked.is_some_and(|(address, _)| *address == from) {
                    answered[usize::from(number)] = true;
                }
            }
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(answered)
}

struct Echo {
    /// A raw one, of which the standard library needs no more than the descriptor.
    socket: UdpSocket,
    is_ipv6: bool,
}

impl Echo {
    fn open(is_ipv6: bool) -> io::Result<Self> {
        let (domain, protocol) = if is_ipv6 {
            (Domain::IPV6, Protocol::ICMPV6)
        } else {
            (Domain::IPV4, Protocol::ICMPV4)
        };
        let socket = Socket::new(domain, Type::RAW.nonblocking(), Some(protocol))?;
        Ok(Self {
            socket: OwnedFd::from(socket).into(),
            is_ipv6,
        })
    }

    fn ask(&self, address: IpAddr, number: u16, length: usize) -> io::Result<()> {
        let header = if self.is_ipv6 { 40 } else { 20 };
        let mut message = vec![0; length.saturating_sub(header).max(HEADER_LENGTH)];
        message[0] = if self.is_ipv6 { 128 } else { 8 };
        message[4..6].copy_from_slice(&IDENTIFIER.to_be_bytes());
        message[6..8].copy_from_slice(&number.to_be_bytes());
        if !self.is_ipv6 {
            // Of ICMPv6 the kernel makes it.
            let sum = checksum(&message);
            message[2..4].copy_from_slice(&sum.to_be_bytes());
        }
        self.socket.send_to(&message, SocketAddr::new(address, 0))?;
        Ok(())
    }

    /// Who answered which request; `None` when nothing is queued any more.
    fn hear(&self) -> Option<(IpAddr, u16)> {
        loop {
            // What is longer is cut off, and not needed.
            let mut buffer = [0; 128];
            let (length, from) = self.socket.recv_from(&mut buffer).ok()?;
            if let Some(number) = reply_number(buffer.get(..length)?, self.is_ipv6) {
                return Some((from.ip(), number));
            }
        }
    }
}

fn reply_number(octets: &[u8], is_ipv6: bool) -> Option<u16> {
    let message = if is_ipv6 {
        octets
    } else {
        octets.get(usize::from(octets.first()? & 0x0f) * 4..)?
    };
    let header = message.first_chunk::<HEADER_LENGTH>()?;
    let reply = if is_ipv6 { 129 } else { 0 };
    let identifier = u16::from_be_bytes([header[4], header[5]]);
    (header[0] == reply && identifier == IDENTIFIER)
        .then(|| u16::from_be_bytes([header[6], header[7]]))
}

/// RFC 1071.
fn checksum(message: &[u8]) -> u16 {
    let words = message
        .chunks(2)
        .map(|pair| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0)));
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_answers_and_nobody_else_does() {
        let here: IpAddr = [127, 0, 0, 1].into();
        // TEST-NET-1 of RFC 5737 on lo's own network would answer too.
        match answering(&[(here, 28), (here, 1400)], Duration::from_secs(2)) {
            Ok(answered) => assert_eq!(answered, [true, true]),
            // Not everybody who runs the tests may have raw sockets.
            Err(error) => assert_eq!(error.kind(), io::ErrorKind::PermissionDenied),
        }
    }

    #[test]
    fn the_checksum_is_that_of_rfc_1071() {
        let example = [0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7];
        assert_eq!(checksum(&example), !0xddf2);
    }

    #[test]
    fn only_answers_to_this_program_count() {
        let mut packet = vec![0x45; 20];
        packet.extend([0, 0, 0, 0, 0x4c, 0x56, 0, 7]);
        assert_eq!(reply_number(&packet, false), Some(7));
        packet[24] = 0;
        assert_eq!(reply_number(&packet, false), None);
        for length in 0..28 {
            assert_eq!(reply_number(&packet[..length], false), None);
        }
    }
}
