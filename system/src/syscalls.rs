//! The few system calls that no library wraps, and the only `unsafe` code of the project.
#![allow(unsafe_code)]

use std::io;
use std::mem::size_of;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use socket2::SockAddr;

/// The address (`struct sockaddr_ll`, packet(7)) that sends a ready-made frame out of an
/// interface.
pub(crate) fn packet_address(interface_index: u32) -> io::Result<SockAddr> {
    let index = i32::try_from(interface_index).map_err(|_| io::ErrorKind::InvalidInput)?;
    // SAFETY: the storage is zeroed, aligned and large enough for every socket address; all zero
    // is a valid sockaddr_ll, whose family and length are set to match.
    let ((), address) = unsafe {
        SockAddr::try_init(|storage, length| {
            let address = storage.cast::<libc::sockaddr_ll>();
            (*address).sll_family = libc::AF_PACKET as u16;
            (*address).sll_ifindex = index;
            *length = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
            Ok(())
        })
    }?;
    Ok(address)
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
        let address = packet_address(0x0102).unwrap();
        assert_eq!(i32::from(address.family()), libc::AF_PACKET);
        assert_eq!(address.len() as usize, size_of::<libc::sockaddr_ll>());
        // SAFETY: the address is a sockaddr_ll of that length, as checked above.
        let raw = unsafe { &*address.as_ptr().cast::<libc::sockaddr_ll>() };
        assert_eq!(raw.sll_ifindex, 0x0102);
        assert_eq!(raw.sll_protocol, 0);
        assert!(packet_address(u32::MAX).is_err());
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
