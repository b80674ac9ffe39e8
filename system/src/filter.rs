//! Instructions of a socket's filter, which the kernel runs on each packet (classic BPF, linux/filter.h).

use socket2::SockFilter;

/// One instruction; a jump skips `yes` or `no` instructions.
pub(crate) const fn instruction(code: u32, yes: u8, no: u8, operand: u32) -> SockFilter {
    SockFilter::new(code as u16, yes, no, operand)
}

/// Skips so many instructions if what was loaded is `value`, so many others if not.
pub(crate) const fn equals(value: u32, yes: u8, no: u8) -> SockFilter {
    instruction(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, yes, no, value)
}

/// Skips so many instructions if what was loaded has a bit of `bits`, so many others if not.
pub(crate) const fn has_any(bits: u32, yes: u8, no: u8) -> SockFilter {
    instruction(libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K, yes, no, bits)
}

/// Ends the filter: the packet is not taken.
pub(crate) const REJECT: SockFilter = instruction(libc::BPF_RET | libc::BPF_K, 0, 0, 0);

/// Loads a byte, a half word or a word (`BPF_B`, `BPF_H`, `BPF_W`) at an offset.
pub(crate) const fn load(size: u32, offset: u32) -> SockFilter {
    instruction(libc::BPF_LD | size | libc::BPF_ABS, 0, 0, offset)
}
