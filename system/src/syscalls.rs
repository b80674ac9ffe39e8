//! The few system calls that no library wraps, and the only `unsafe` code of the project.
#![allow(unsafe_code)]

use std::io;
use std::mem::size_of;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use socket2::SockAddr;

/// The address (`struct sockaddr_ll`, packet(7)) that sends a ready-made frame out of an
/// interface; with a protocol (`ETH_P_*`), a socket bound to it hears that alone, on all interfaces where
/// the index is 0.
pub(crate) fn packet_address(interface_index: u32, protocol: u16) -> io::Result<SockAddr> {
    let index = i32::try_from(interface_index).map_err(|_| io::ErrorKind::InvalidInput)?;
    // SAFETY: the storage is zeroed, aligned and large enough for every socket address; all zero
    // is a valid sockaddr_ll, whose family and length are set to match.
    let ((), address) = unsafe {
        SockAddr::try_init(|storage, length| {
            let address = storage.cast::<libc::sockaddr_ll>();
            (*address).sll_family = libc::AF_PACKET as u16;
            (*address).sll_ifindex = index;
            (*address).sll_protocol = protocol.to_be();
            *length = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
            Ok(())
        })
    }?;
    Ok(address)
}

/// How many packets have passed the filter of a packet socket since the last call, those that found its
/// queue full among them (`PACKET_STATISTICS`, packet(7)).
pub(crate) fn take_packet_count(socket: BorrowedFd<'_>) -> io::Result<u32> {
    let mut statistics = libc::tpacket_stats {
        tp_packets: 0,
        tp_drops: 0,
    };
    let mut length = size_of::<libc::tpacket_stats>() as libc::socklen_t;
    // SAFETY: the descriptor is open while it is borrowed; the kernel writes at most `length` bytes, the
    // size of the live structure that the pointer is to, and of which all bytes are valid.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_PACKET,
            libc::PACKET_STATISTICS,
            (&raw mut statistics).cast(),
            &raw mut length,
        )
    };
    if result == -1 {
        return Err(io::Error::last_os_error());
    }
    Ok(statistics.tp_packets)
}

/// Hands memory that was freed back to the kernel (`malloc_trim(3)`), which the C library by itself
/// keeps for the next time. For after work that took much of it and is rare.
pub fn release_memory() {
    #[cfg(target_env = "gnu")]
    // SAFETY: it takes no pointer and may be called at any time from any thread.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Gives the calling thread real-time priority (`SCHED_FIFO`, sched(7)), which its children don't
/// inherit.
///
/// `priority` is 1 (lowest) to 99.
///
/// # Errors
/// `EINVAL` outside that range; `EPERM` without `CAP_SYS_NICE` or a sufficient `RLIMIT_RTPRIO`.
pub fn set_real_time_priority(priority: u8) -> io::Result<()> {
    let parameters = libc::sched_param {
        sched_priority: priority.into(),
    };
    // SAFETY: the pointer is to a live sched_param, which the call only reads; 0 is the caller.
    let result = unsafe {
        libc::sched_setscheduler(
            0,
            libc::SCHED_FIFO | libc::SCHED_RESET_ON_FORK,
            &raw const parameters,
        )
    };
    if result == -1 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Whether the kernel takes its clock for synchronized (`STA_UNSYNC` isn't set, adjtimex(2)). Nothing
/// is changed.
///
/// # Errors
/// What the kernel says.
pub fn is_clock_synchronized() -> io::Result<bool> {
    // SAFETY: all zero is a valid `timex`, integers only, and asks for no change.
    let mut clock: libc::timex = unsafe { std::mem::zeroed() };
    // SAFETY: the kernel writes no more than the live structure that the pointer is to.
    let state = unsafe { libc::adjtimex(&raw mut clock) };
    if state == -1 {
        return Err(io::Error::last_os_error());
    }
    Ok(clock.status & libc::STA_UNSYNC == 0)
}

/// Whether a network card puts packets together before Linux sees them, so that they can't be taken
/// apart again as they were (large receive offload: `ETHTOOL_GFLAGS`, `linux/ethtool.h`).
///
/// # Errors
/// What the kernel says; `ENODEV` where there is no such interface, `EINVAL` for a name that none can
/// have.
pub fn has_large_receive_offload(interface: &str) -> io::Result<bool> {
    const ETHTOOL_GFLAGS: u32 = 0x25;
    const ETH_FLAG_LRO: u32 = 1 << 15;
    const SIOCETHTOOL: libc::c_ulong = 0x8946;

    /// `struct ethtool_value`.
    #[repr(C)]
    struct Value {
        command: u32,
        data: u32,
    }
    // SAFETY: all zero is a valid `ifreq`.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    let name = interface.as_bytes();
    if name.len() >= request.ifr_name.len() || name.contains(&0) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    for (place, octet) in request.ifr_name.iter_mut().zip(name) {
        *place = *octet as libc::c_char;
    }
    let mut value = Value {
        command: ETHTOOL_GFLAGS,
        data: 0,
    };
    request.ifr_ifru.ifru_data = (&raw mut value).cast();
    let socket = std::net::UdpSocket::bind((std::net::Ipv4Addr::LOCALHOST, 0))
        .or_else(|_| std::net::UdpSocket::bind((std::net::Ipv4Addr::UNSPECIFIED, 0)))?;
    // SAFETY: the descriptor is open; the kernel reads and writes the request and the value that it
    // points to, both alive and of the sizes that this command has.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), SIOCETHTOOL, &raw mut request) };
    if result == -1 {
        return Err(io::Error::last_os_error());
    }
    Ok(value.data & ETH_FLAG_LRO != 0)
}

/// Duplicates a descriptor to the lowest free number that is at least `least`, close-on-exec
/// (`F_DUPFD_CLOEXEC`, fcntl(2)).
///
/// # Errors
/// `EINVAL` when the process may have no number so high (`RLIMIT_NOFILE`), `EMFILE` when all are
/// in use.
pub fn duplicate_from(descriptor: BorrowedFd<'_>, least: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: the descriptor is open while it is borrowed, and the call leaves it as it is.
    let copy = unsafe { libc::fcntl(descriptor.as_raw_fd(), libc::F_DUPFD_CLOEXEC, least) };
    if copy == -1 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just made it, and nobody else knows of it.
    Ok(unsafe { OwnedFd::from_raw_fd(copy) })
}

/// Keeps every descriptor from `first` on from programs that are started later
/// (`CLOSE_RANGE_CLOEXEC`, close_range(2)).
///
/// # Errors
/// `EINVAL` or `ENOSYS` before Linux 5.11.
pub fn close_on_exec_from(first: u32) -> io::Result<()> {
    // SAFETY: the call touches no memory, and descriptors stay open and their owners'.
    let result = unsafe {
        libc::syscall(
            libc::SYS_close_range,
            libc::c_ulong::from(first),
            libc::c_ulong::from(u32::MAX),
            libc::c_ulong::from(libc::CLOSE_RANGE_CLOEXEC),
        )
    };
    if result == -1 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn packet_address_names_family_and_interface() {
        let address = packet_address(0x0102, 0).unwrap();
        assert_eq!(i32::from(address.family()), libc::AF_PACKET);
        assert_eq!(address.len() as usize, size_of::<libc::sockaddr_ll>());
        // SAFETY: the address is a sockaddr_ll of that length, as checked above.
        let raw = unsafe { &*address.as_ptr().cast::<libc::sockaddr_ll>() };
        assert_eq!(raw.sll_ifindex, 0x0102);
        assert_eq!(raw.sll_protocol, 0);
        assert!(packet_address(u32::MAX, 0).is_err());
    }

    #[test]
    fn duplicates_have_the_number_asked_for() {
        let (near, far) = io::pipe().unwrap();
        let copy = duplicate_from(far.as_fd(), 200).unwrap();
        assert!(copy.as_raw_fd() >= 200);
        drop(far);
        io::Write::write_all(&mut io::PipeWriter::from(copy), b"!").unwrap();
        let mut read = String::new();
        io::Read::read_to_string(&mut &near, &mut read).unwrap();
        assert_eq!(read, "!");
        assert!(duplicate_from(near.as_fd(), RawFd::MAX).is_err());
    }

    #[test]
    fn priority_outside_the_range_is_refused() {
        for priority in [0, 100] {
            let error = set_real_time_priority(priority).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        }
    }
}
