//! The authentication trailer of VRRP version 3: an HMAC with SHA-256 and a time stamp behind the
//! message, as keepalived 2.4.2 and draft-cassen-vrrp-auth-hmac have it.
//!
//! ```text
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |     Type 1    |     Key ID    |          Reserved: 0          |
//! |                     Seconds since the epoch                   |
//! |    Fraction of a second, 2^-16 s    |         Counter         |
//! |                 HMAC-SHA-256, its first 16 octets             |
//! ```
//! The HMAC covers a pseudo-header of 20 octets (4 or 6 for the address family, VRRP's version, the
//! virtual router, 0, the source address padded with zeros to 16), then the message and the trailer,
//! in which the VRRP checksum and the HMAC itself are read as zero. So the destination isn't covered:
//! one sealed message may go to several peers.
//!
//! Who does what with the checksum: [`Sealer`] and [`Verifier`] never read or write it. Over IPv4 the
//! VRRP checksum covers the message without the trailer, so it may be written before or after the
//! sealing. Over IPv6 it covers the trailer too (the kernel of a peer treats it as a transport
//! checksum over the whole payload), so the encoder must write it after the sealing.
//!
//! What the trailer can't do: it doesn't hide anything, whoever has the key can be any router, and
//! a receiver that just started takes a copy of an advert that is younger than the window, once. Its
//! clock and the sender's must agree within the window.

use core::fmt;
use core::net::IpAddr;
use core::num::NonZeroU8;
use core::ops::RangeInclusive;
use core::str::FromStr;
use core::time::Duration;
use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use ::hmac::{KeyInit, Mac};

/// Bytes that a trailer adds to a message.
pub const TRAILER_LENGTH: usize = 28;

/// How long a key may be, in bytes.
pub const KEY_LENGTH: RangeInclusive<usize> = 32..=64;

/// What the window may be.
pub const WINDOW: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(300);

const TYPE_HMAC_SHA256_128: u8 = 1;
const CODE_START: usize = 12;
const MESSAGE_HEADER_LENGTH: usize = 8;
const CHECKSUM: core::ops::Range<usize> = 6..8;

/// How many senders are remembered. A virtual router has a few, and only holders of a key get here:
/// beyond that the one heard longest ago is forgotten, and a copy of its last advert accepted once.
const MOST_SENDERS: usize = 16;

/// Names a key on the wire: 1 to 255.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyId(NonZeroU8);

impl KeyId {
    /// `None` for 0.
    pub fn new(value: u8) -> Option<Self> {
        NonZeroU8::new(value).map(Self)
    }

    /// The number on the wire.
    pub fn get(self) -> u8 {
        self.0.get()
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

/// A secret that the routers of a virtual router share: 32 to 64 bytes. No log shows it.
#[derive(Clone, PartialEq, Eq)]
pub struct Key(Vec<u8>);

/// Why a text is no key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Shorter or longer than [`KEY_LENGTH`]; holds the length in bytes.
    #[error("a key has {least} to {most} bytes, this one has {0}", least = KEY_LENGTH.start(), most = KEY_LENGTH.end())]
    Length(usize),
    /// Something else than pairs of hexadecimal digits behind `hex:`.
    #[error("what follows \"hex:\" must be pairs of hexadecimal digits")]
    Hexadecimal,
}

impl Key {
    /// Takes 32 to 64 bytes.
    pub fn new(bytes: impl Into<Vec<u8>>) -> Result<Self, KeyError> {
        let bytes = bytes.into();
        if KEY_LENGTH.contains(&bytes.len()) {
            Ok(Self(bytes))
        } else {
            Err(KeyError::Length(bytes.len()))
        }
    }

    /// The secret itself, for a process that must be handed the key.
    pub fn secret(&self) -> &[u8] {
        &self.0
    }
}

/// `hex:` and hexadecimal digits, or the key's bytes as plain text: keepalived's two forms, in its
/// configuration and in the files that it names. White space counts, so trim what a file holds.
impl FromStr for Key {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        let Some(digits) = text.strip_prefix("hex:") else {
            return Self::new(text);
        };
        if !digits.len().is_multiple_of(2) || !digits.bytes().all(|digit| digit.is_ascii_hexdigit())
        {
            return Err(KeyError::Hexadecimal);
        }
        let bytes: Result<Vec<u8>, _> = (0..digits.len())
            .step_by(2)
            .map(|start| u8::from_str_radix(&digits[start..start + 2], 16))
            .collect();
        Self::new(bytes.map_err(|_| KeyError::Hexadecimal)?)
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Key(hidden)")
    }
}

/// What is sent, and what is accepted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Mode {
    /// Trailers are sent, and only adverts with a good one are accepted.
    #[default]
    Enforce,
    /// Trailers are sent, adverts without one are accepted too: for the time in which some peers
    /// don't send them yet. It protects against nobody.
    Permissive,
    /// As `Permissive`, but none are sent: for peers that don't know the trailer yet, who would
    /// discard adverts that have one.
    ReceiveOnly,
}

/// The keys, and how they are used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Configuration {
    mode: Mode,
    send: KeyId,
    keys: BTreeMap<KeyId, Key>,
    window: Duration,
}

/// Why a configuration can't be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigurationError {
    /// The key to send with is not one of the keys.
    #[error("there is no key {0}, which adverts are to be sent with")]
    NoSuchKey(KeyId),
    /// Outside of [`WINDOW`].
    #[error("the window must be {least:?} to {most:?}, not {0:?}", least = WINDOW.start(), most = WINDOW.end())]
    Window(Duration),
}

impl Configuration {
    /// Every key of `keys` is accepted, `send` is the one to send with: a key is changed by adding
    /// the new one everywhere, then sending with it everywhere, then removing the old one.
    /// `window` is how far a sender's clock may be from ours, in whole seconds.
    pub fn new(
        mode: Mode,
        send: KeyId,
        keys: BTreeMap<KeyId, Key>,
        window: Duration,
    ) -> Result<Self, ConfigurationError> {
        if !keys.contains_key(&send) {
            return Err(ConfigurationError::NoSuchKey(send));
        }
        if !WINDOW.contains(&window) {
            return Err(ConfigurationError::Window(window));
        }
        Ok(Self {
            mode,
            send,
            keys,
            window,
        })
    }

    /// The window where none is configured: three intervals, at least 5 s, within [`WINDOW`].
    pub fn default_window(advert_interval: Duration) -> Duration {
        (advert_interval * 3).clamp(Duration::from_secs(5), *WINDOW.end())
    }

    /// What is sent, and what is accepted.
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// The key to send with, for a process that must sign in our place; `None` if nothing is signed.
    pub fn signing_key(&self) -> Option<(KeyId, &Key)> {
        let key = self.keys.get_key_value(&self.send);
        key.filter(|_| self.mode != Mode::ReceiveOnly)
            .map(|(id, key)| (*id, key))
    }

    /// How far a sender's clock may be from ours.
    pub fn window(&self) -> Duration {
        self.window
    }
}

/// Appends trailers, with stamps that always grow.
#[derive(Clone, Debug)]
pub struct Sealer {
    signing: Option<(KeyId, Key)>,
    window: Duration,
    last: Option<Stamp>,
}

impl Sealer {
    /// For one virtual router.
    pub fn new(configuration: &Configuration) -> Self {
        Self {
            signing: configuration
                .signing_key()
                .map(|(id, key)| (id, key.clone())),
            window: configuration.window,
            last: None,
        }
    }

    /// For a process that sends the last adverts of another one that is gone. It doesn't know the
    /// other's last stamp: if the wall clock was set back since, receivers take its adverts for
    /// copies and wait as if the router had just gone silent.
    pub fn from_key(id: KeyId, key: Key) -> Self {
        Self {
            signing: Some((id, key)),
            window: *WINDOW.end(),
            last: None,
        }
    }

    /// Takes another configuration; stamps go on growing.
    pub fn configure(&mut self, configuration: &Configuration) {
        let last = self.last;
        *self = Self {
            last,
            ..Self::new(configuration)
        };
    }

    /// How many bytes [`Self::seal`] adds: [`TRAILER_LENGTH`], or none in [`Mode::ReceiveOnly`].
    pub fn trailer_length(&self) -> usize {
        self.signing.as_ref().map_or(0, |_| TRAILER_LENGTH)
    }

    /// Appends the trailer to `message`, a version 3 message of at least its header's 8 bytes, sent
    /// from `source`. Its checksum is neither read nor written: see the module.
    ///
    /// The stamp is `wall`, or just after the last one where the clock stood still or went back. If
    /// it went back by more than the window the stamp follows it, because receivers would find
    /// anything else too new.
    pub fn seal(&mut self, message: &mut Vec<u8>, source: IpAddr, wall: SystemTime) {
        let Some((id, key)) = &self.signing else {
            return;
        };
        let stamp = Stamp::next(self.last, wall, self.window);
        self.last = Some(stamp);
        message.extend([TYPE_HMAC_SHA256_128, id.get(), 0, 0]);
        message.extend(stamp.0.to_be_bytes());
        let code = code(key, message, source).finalize().into_bytes();
        message.extend(&code[..TRAILER_LENGTH - CODE_START]);
    }
}

/// What is known of an advert that was accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A holder of the key sent it, recently, and for the first time.
    Proven,
    /// It has no trailer, which the mode allows: anybody may have sent it.
    Unsigned,
}

/// Why an advert's trailer is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// No trailer, in [`Mode::Enforce`].
    #[error("it has no authentication trailer")]
    MissingTrailer,
    /// More or fewer bytes than a trailer has, or its reserved ones aren't zero.
    #[error("what follows the addresses is no authentication trailer")]
    Malformed,
    /// Another type than HMAC-SHA-256-128; holds the type.
    #[error("its authentication trailer is of type {0}, which is not known here")]
    UnknownType(u8),
    /// A key that isn't configured; holds the key's number.
    #[error("it is signed with key {0}, which is not configured here")]
    UnknownKey(u8),
    /// Signed with another key of the same number, or changed on its way.
    #[error("its signature is wrong: another key of the same number, or somebody forged it")]
    WrongCode,
    /// The stamp is too far from our clock; holds how many seconds it is behind, negative if ahead.
    #[error("its time stamp is {} s {side} our clock: keep both clocks right (NTP)", .0.unsigned_abs(), side = if *.0 < 0 { "ahead of" } else { "behind" })]
    OutsideWindow(i32),
    /// Not newer than what was last accepted from this sender.
    #[error("it is a copy of an earlier advert, or older than the last one")]
    Replayed,
}

/// Checks trailers, and remembers the last stamp of each sender.
#[derive(Clone, Debug)]
pub struct Verifier {
    configuration: Configuration,
    /// Who sent what last; the sender that was heard last is at the end. Nobody gets in without a
    /// right code.
    senders: Vec<(IpAddr, Stamp)>,
}

impl Verifier {
    /// For one virtual router.
    pub fn new(configuration: Configuration) -> Self {
        Self {
            configuration,
            senders: Vec::new(),
        }
    }

    /// Takes another configuration; what was heard stays known, so that nothing old is accepted.
    pub fn configure(&mut self, configuration: Configuration) {
        self.configuration = configuration;
    }

    /// Checks what follows the first `pdu_length` bytes of `message`, a version 3 message sent from
    /// `source`; `pdu_length` is what its count of addresses says, header included. Its checksum is
    /// not read: see the module. A trailer that is there must be good, whatever the mode.
    ///
    /// Only `Ok` changes anything here.
    pub fn verify(
        &mut self,
        message: &[u8],
        pdu_length: usize,
        source: IpAddr,
        wall: SystemTime,
    ) -> Result<Origin, Failure> {
        let (pdu, trailer) = message
            .split_at_checked(pdu_length)
            .filter(|(pdu, _)| pdu.len() >= MESSAGE_HEADER_LENGTH)
            .ok_or(Failure::Malformed)?;
        if trailer.is_empty() {
            return match self.configuration.mode {
                Mode::Enforce => Err(Failure::MissingTrailer),
                Mode::Permissive | Mode::ReceiveOnly => Ok(Origin::Unsigned),
            };
        }
        let trailer: &[u8; TRAILER_LENGTH] = trailer.try_into().map_err(|_| Failure::Malformed)?;
        let [kind, id, reserved @ ..] = *trailer.first_chunk::<4>().expect("a part of 28 bytes");
        if kind != TYPE_HMAC_SHA256_128 {
            return Err(Failure::UnknownType(kind));
        }
        if reserved != [0, 0] {
            return Err(Failure::Malformed);
        }
        let (signed, received) = trailer.split_at(CODE_START);
        let stamp = Stamp(u64::from_be_bytes(
            *signed.last_chunk().expect("8 of 12 bytes"),
        ));

        // The stamp comes first because it is cheap; it can only refuse.
        let window = self.configuration.window;
        let behind = stamp.behind(wall);
        if !is_within(behind, window) {
            return Err(Failure::OutsideWindow(behind));
        }
        let key = KeyId::new(id)
            .and_then(|id| self.configuration.keys.get(&id))
            .ok_or(Failure::UnknownKey(id))?;
        code(key, &message[..pdu.len() + CODE_START], source)
            .verify_truncated_left(received)
            .map_err(|_| Failure::WrongCode)?;

        let known = self
            .senders
            .iter()
            .position(|(sender, _)| *sender == source);
        if let Some(position) = known {
            let (_, last) = self.senders[position];
            // What a mark outside the window forbids is refused already, unless a clock was set:
            // then the mark would shut the sender out until time has caught up.
            if is_within(last.behind(wall), window) && !stamp.is_after(last) {
                return Err(Failure::Replayed);
            }
            self.senders.remove(position);
        } else if self.senders.len() == MOST_SENDERS {
            self.senders.remove(0);
        }
        self.senders.push((source, stamp));
        Ok(Origin::Proven)
    }
}

/// Seconds, 65,536ths of a second and a counter as one number. It wraps, so order is that of serial
/// numbers (RFC 1982).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp(u64);

impl Stamp {
    fn at(wall: SystemTime) -> Self {
        let since = wall.duration_since(UNIX_EPOCH).unwrap_or_default();
        let fraction = (u64::from(since.subsec_nanos()) << 16) / 1_000_000_000;
        Self(since.as_secs() << 32 | fraction << 16)
    }

    fn next(last: Option<Self>, wall: SystemTime, window: Duration) -> Self {
        let clock = Self::at(wall);
        match last {
            Some(last) if !clock.is_after(last) && is_within(last.behind(wall), window) => {
                Self(last.0.wrapping_add(1))
            }
            _ => clock,
        }
    }

    fn is_after(self, other: Self) -> bool {
        self.0.wrapping_sub(other.0) as i64 > 0
    }

    /// Whole seconds of the clock less those of the stamp.
    fn behind(self, wall: SystemTime) -> i32 {
        ((Self::at(wall).0 >> 32) as u32).wrapping_sub((self.0 >> 32) as u32) as i32
    }
}

fn is_within(seconds: i32, window: Duration) -> bool {
    u64::from(seconds.unsigned_abs()) <= window.as_secs()
}

/// The HMAC over the pseudo-header and `signed`: the message and the trailer's first 12 bytes.
fn code(key: &Key, signed: &[u8], source: IpAddr) -> ::hmac::Hmac<sha2::Sha256> {
    let mut header = [0; 20];
    header[1] = signed[0] >> 4;
    header[2] = signed[1];
    match source {
        IpAddr::V4(source) => {
            header[0] = 4;
            header[4..8].copy_from_slice(&source.octets());
        }
        IpAddr::V6(source) => {
            header[0] = 6;
            header[4..].copy_from_slice(&source.octets());
        }
    }
    let mut code =
        ::hmac::Hmac::new_from_slice(&key.0).expect("HMAC takes keys of any length (RFC 2104)");
    code.update(&header);
    code.update(&signed[..CHECKSUM.start]);
    code.update(&[0; 2]);
    code.update(&signed[CHECKSUM.end..]);
    code.update(&[0; TRAILER_LENGTH - CODE_START]);
    code
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use core::net::{Ipv4Addr, Ipv6Addr};

    use proptest::prelude::*;

    use super::*;

    /// An image of the draft's appendix: key 00 to 1f, number 1, stamp 0x68000000.8000 (2025-04-16).
    struct Vector {
        source: IpAddr,
        pdu_length: usize,
        image: &'static str,
    }

    fn vectors() -> [Vector; 2] {
        [
            Vector {
                source: Ipv4Addr::new(198, 51, 100, 10).into(),
                pdu_length: 12,
                image: "3133c80100644402c0000264\
                        010100006800000080000000\
                        1b84bc4e8e43892dc6d98448f8ee2265",
            },
            Vector {
                source: Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0x10).into(),
                pdu_length: 24,
                image: "3133c8010064a2e9fe800000000000000000000000000100\
                        010100006800000080000000\
                        c8c56146ebfd66ee10ec4d8186461b78",
            },
        ]
    }

    impl Vector {
        fn bytes(&self) -> Vec<u8> {
            (0..self.image.len())
                .step_by(2)
                .map(|start| u8::from_str_radix(&self.image[start..start + 2], 16).unwrap())
                .collect()
        }

        fn verify(&self, verifier: &mut Verifier, bytes: &[u8]) -> Result<Origin, Failure> {
            verifier.verify(bytes, self.pdu_length, self.source, wall(0))
        }
    }

    /// The stamp of the vectors, and some milliseconds more or less.
    fn wall(milliseconds: i64) -> SystemTime {
        let stamp = UNIX_EPOCH + Duration::new(0x6800_0000, 500_000_000);
        let step = Duration::from_millis(milliseconds.unsigned_abs());
        if milliseconds < 0 {
            stamp - step
        } else {
            stamp + step
        }
    }

    fn key() -> Key {
        Key::new((0..32).collect::<Vec<u8>>()).unwrap()
    }

    fn other_key() -> Key {
        Key::new([0xa5; 64]).unwrap()
    }

    fn configuration(mode: Mode) -> Configuration {
        let id = KeyId::new(1).unwrap();
        let keys = BTreeMap::from([(id, key()), (KeyId::new(9).unwrap(), other_key())]);
        Configuration::new(mode, id, keys, Duration::from_secs(5)).unwrap()
    }

    fn sealer() -> Sealer {
        Sealer::new(&configuration(Mode::Enforce))
    }

    fn verifier() -> Verifier {
        Verifier::new(configuration(Mode::Enforce))
    }

    const SOURCE: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 168, 56, 181));
    const PDU: [u8; 12] = [0x31, 50, 200, 1, 0, 10, 0x0d, 0x60, 192, 168, 56, 185];

    fn sealed(sealer: &mut Sealer, wall: SystemTime) -> Vec<u8> {
        let mut message = PDU.to_vec();
        sealer.seal(&mut message, SOURCE, wall);
        message
    }

    fn heard(verifier: &mut Verifier, message: &[u8], wall: SystemTime) -> Result<Origin, Failure> {
        verifier.verify(message, PDU.len(), SOURCE, wall)
    }

    #[test]
    fn the_published_images_are_made_and_accepted() {
        for vector in vectors() {
            let expected = vector.bytes();
            let mut message = expected[..vector.pdu_length].to_vec();
            sealer().seal(&mut message, vector.source, wall(0));
            assert_eq!(message, expected);
            assert_eq!(
                vector.verify(&mut verifier(), &expected),
                Ok(Origin::Proven)
            );
        }
    }

    /// All of them: a flip can't make another good trailer, and the reasons are the right ones.
    #[test]
    fn any_flipped_bit_but_the_checksum_s_is_refused() {
        for vector in vectors() {
            let good = vector.bytes();
            for bit in 0..good.len() * 8 {
                let mut bytes = good.clone();
                bytes[bit / 8] ^= 1 << (bit % 8);
                let trailer = (bit / 8).wrapping_sub(vector.pdu_length);
                let result = vector.verify(&mut verifier(), &bytes);
                match (bit / 8, trailer) {
                    (6..8, _) => assert_eq!(result, Ok(Origin::Proven)),
                    (_, 0) => assert!(matches!(result, Err(Failure::UnknownType(_)))),
                    // Flipping bit 3 of 1 names key 9, which is configured too.
                    (_, 1) if bytes[bit / 8] == 9 => assert_eq!(result, Err(Failure::WrongCode)),
                    (_, 1) => assert!(matches!(result, Err(Failure::UnknownKey(_)))),
                    (_, 2..4) => assert_eq!(result, Err(Failure::Malformed)),
                    (_, 4..8) => assert!(matches!(
                        result,
                        Err(Failure::OutsideWindow(_) | Failure::WrongCode)
                    )),
                    _ => assert_eq!(result, Err(Failure::WrongCode)),
                }
            }
        }
    }

    #[test]
    fn another_source_or_another_length_is_refused() {
        let message = sealed(&mut sealer(), wall(0));
        let elsewhere = Ipv4Addr::new(192, 168, 56, 182).into();
        let mapped = Ipv4Addr::new(192, 168, 56, 181).to_ipv6_mapped().into();
        for source in [elsewhere, mapped] {
            assert_eq!(
                verifier().verify(&message, PDU.len(), source, wall(0)),
                Err(Failure::WrongCode)
            );
        }
        for length in 0..message.len() + 40 {
            let mut bytes = message.clone();
            bytes.resize(length, 0);
            let expected = match length {
                12 => Err(Failure::MissingTrailer),
                40 => Ok(Origin::Proven),
                _ => Err(Failure::Malformed),
            };
            assert_eq!(
                heard(&mut verifier(), &bytes, wall(0)),
                expected,
                "{length}"
            );
            assert!(
                verifier()
                    .verify(&bytes, length + 1, SOURCE, wall(0))
                    .is_err()
            );
            assert!(verifier().verify(&bytes, 3, SOURCE, wall(0)).is_err());
        }
    }

    #[test]
    fn the_mode_says_what_is_sent_and_what_an_unsigned_advert_is_worth() {
        let signed = sealed(&mut sealer(), wall(0));
        let mut forged = signed.clone();
        forged[2] = 255;
        for (mode, sent, unsigned) in [
            (Mode::Enforce, TRAILER_LENGTH, Err(Failure::MissingTrailer)),
            (Mode::Permissive, TRAILER_LENGTH, Ok(Origin::Unsigned)),
            (Mode::ReceiveOnly, 0, Ok(Origin::Unsigned)),
        ] {
            let mut sealer = Sealer::new(&configuration(mode));
            assert_eq!(sealer.trailer_length(), sent);
            assert_eq!(sealed(&mut sealer, wall(0)).len(), PDU.len() + sent);
            let mut verifier = Verifier::new(configuration(mode));
            assert_eq!(heard(&mut verifier, &PDU, wall(0)), unsigned);
            assert_eq!(
                heard(&mut verifier, &forged, wall(0)),
                Err(Failure::WrongCode)
            );
            assert_eq!(heard(&mut verifier, &signed, wall(0)), Ok(Origin::Proven));
        }
    }

    #[test]
    fn the_window_has_two_edges_in_whole_seconds() {
        // The stamp is half a second past; the window 5 s.
        let message = sealed(&mut sealer(), wall(0));
        for (milliseconds, expected) in [
            (5_499, Ok(Origin::Proven)),
            (5_500, Err(Failure::OutsideWindow(6))),
            (-5_500, Ok(Origin::Proven)),
            (-5_501, Err(Failure::OutsideWindow(-6))),
        ] {
            assert_eq!(
                heard(&mut verifier(), &message, wall(milliseconds)),
                expected
            );
        }
        assert_eq!(
            Failure::OutsideWindow(-6).to_string(),
            "its time stamp is 6 s ahead of our clock: keep both clocks right (NTP)"
        );
    }

    #[test]
    fn a_copy_is_refused_and_so_is_an_advert_that_was_overtaken() {
        let mut sealer = sealer();
        let [first, second, third] = [0, 100, 200].map(|at| sealed(&mut sealer, wall(at)));
        let mut verifier = verifier();
        assert_eq!(heard(&mut verifier, &first, wall(0)), Ok(Origin::Proven));
        assert_eq!(
            heard(&mut verifier, &first, wall(0)),
            Err(Failure::Replayed)
        );
        assert_eq!(heard(&mut verifier, &third, wall(300)), Ok(Origin::Proven));
        assert_eq!(
            heard(&mut verifier, &second, wall(300)),
            Err(Failure::Replayed)
        );
        // Another configuration forgets nothing.
        verifier.configure(configuration(Mode::Permissive));
        assert_eq!(
            heard(&mut verifier, &third, wall(300)),
            Err(Failure::Replayed)
        );
    }

    #[test]
    fn stamps_grow_when_the_clock_stands_still_or_is_set_back_a_little() {
        let mut sealer = sealer();
        let mut verifier = verifier();
        let mut hear = |at| {
            let message = sealed(&mut sealer, wall(at));
            heard(&mut verifier, &message, wall(0))
        };
        for at in [0, 0, 0, -1, -400, -3_000, -4_900, 0, 1] {
            assert_eq!(hear(at), Ok(Origin::Proven), "{at}");
        }
        // And across another configuration.
        let last = sealer.last;
        sealer.configure(&configuration(Mode::Permissive));
        sealed(&mut sealer, wall(-2_000));
        assert!(sealer.last.unwrap().is_after(last.unwrap()));
    }

    #[test]
    fn a_clock_that_was_an_hour_ahead_shuts_nobody_out() {
        let hour = 3_600_000;
        let (mut sealer, mut verifier) = (sealer(), verifier());
        let message = sealed(&mut sealer, wall(hour));
        assert_eq!(
            heard(&mut verifier, &message, wall(hour)),
            Ok(Origin::Proven)
        );
        // Both clocks are set right, the sender's stamps and the receiver's mark follow.
        let message = sealed(&mut sealer, wall(0));
        assert_eq!(heard(&mut verifier, &message, wall(0)), Ok(Origin::Proven));
        assert_eq!(
            heard(&mut verifier, &message, wall(1)),
            Err(Failure::Replayed)
        );
    }

    #[test]
    fn the_order_of_stamps_survives_the_year_2106() {
        let end = UNIX_EPOCH + Duration::from_secs(1 << 32);
        let (mut sealer, mut verifier) = (sealer(), verifier());
        for step in 0..4 {
            let now = end - Duration::from_secs(2) + Duration::from_secs(step);
            let message = sealed(&mut sealer, now);
            assert_eq!(heard(&mut verifier, &message, now), Ok(Origin::Proven));
            assert_eq!(heard(&mut verifier, &message, now), Err(Failure::Replayed));
        }
    }

    #[test]
    fn forged_senders_cost_no_memory_and_true_ones_a_bounded_one() {
        let mut verifier = verifier();
        let mut forger = Sealer::from_key(KeyId::new(1).unwrap(), other_key());
        for number in 0..=255 {
            let source = Ipv4Addr::new(10, 0, 0, number).into();
            let mut message = PDU.to_vec();
            forger.seal(&mut message, source, wall(0));
            let result = verifier.verify(&message, PDU.len(), source, wall(0));
            assert_eq!(result, Err(Failure::WrongCode));
        }
        assert_eq!(verifier.senders.capacity(), 0);
        let mut sealer = sealer();
        for number in 0..=255 {
            let source = Ipv4Addr::new(10, 0, 0, number).into();
            let mut message = PDU.to_vec();
            sealer.seal(&mut message, source, wall(0));
            let result = verifier.verify(&message, PDU.len(), source, wall(0));
            assert_eq!(result, Ok(Origin::Proven));
            let result = verifier.verify(&message, PDU.len(), source, wall(0));
            assert_eq!(result, Err(Failure::Replayed));
        }
        assert_eq!(verifier.senders.len(), MOST_SENDERS);
    }

    #[test]
    fn keys_change_without_a_gap_and_a_process_with_the_key_alone_can_sign() {
        let mut verifier = verifier();
        let (id, secret) = (KeyId::new(9).unwrap(), other_key().secret().to_vec());
        let old = sealed(&mut sealer(), wall(0));
        let mut next = Sealer::from_key(id, Key::new(secret).unwrap());
        let new = sealed(&mut next, wall(1));
        assert_eq!(heard(&mut verifier, &old, wall(1)), Ok(Origin::Proven));
        assert_eq!(heard(&mut verifier, &new, wall(1)), Ok(Origin::Proven));
    }

    #[test]
    fn keys_are_32_to_64_bytes_in_hexadecimal_or_plain() {
        let text = "hex:000102030405060708090a0b0c0d0e0f101112131415161718191A1B1C1D1E1F";
        assert_eq!(text.parse(), Ok(key()));
        let plain = "a phrase of two and thirty bytes";
        assert_eq!(plain.parse::<Key>().unwrap().secret(), plain.as_bytes());
        assert_eq!("hex:0".parse::<Key>(), Err(KeyError::Hexadecimal));
        assert_eq!("hex:+1".parse::<Key>(), Err(KeyError::Hexadecimal));
        assert_eq!("hex:€€".parse::<Key>(), Err(KeyError::Hexadecimal));
        assert_eq!("hex:00".parse::<Key>(), Err(KeyError::Length(1)));
        assert_eq!("".parse::<Key>(), Err(KeyError::Length(0)));
        assert_eq!(Key::new([1; 65]), Err(KeyError::Length(65)));
        assert!(Key::new([1; 31]).is_err() && Key::new([1; 64]).is_ok());
        assert_eq!(
            KeyError::Length(3).to_string(),
            "a key has 32 to 64 bytes, this one has 3"
        );
    }

    #[test]
    fn a_configuration_is_whole_and_shows_no_key() {
        let two = KeyId::new(2).unwrap();
        let keys = BTreeMap::from([(two, Key::new(*b"0123456789abcdef0123456789abcdef").unwrap())]);
        let new = |send, window| {
            let window = Duration::from_millis(window);
            Configuration::new(Mode::Enforce, send, keys.clone(), window)
        };
        let one = KeyId::new(1).unwrap();
        assert_eq!(new(one, 5_000), Err(ConfigurationError::NoSuchKey(one)));
        assert!(new(two, 999).is_err() && new(two, 300_001).is_err());
        assert!(new(two, 1_000).is_ok() && new(two, 300_000).is_ok());
        let shown = format!("{:?}", new(two, 1_000).unwrap());
        assert!(
            shown.contains("Key(hidden)") && !shown.contains("48, 49"),
            "{shown}"
        );
        let default = |milliseconds| {
            Configuration::default_window(Duration::from_millis(milliseconds)).as_secs()
        };
        assert_eq!([default(100), default(2_000), default(40_950)], [5, 6, 122]);
    }

    proptest! {
        #[test]
        fn what_is_sealed_is_accepted_once(
            key in prop::collection::vec(any::<u8>(), KEY_LENGTH),
            id in 1..=255u8,
            ipv6 in any::<bool>(),
            octets in any::<[u8; 16]>(),
            pdu in prop::collection::vec(any::<u8>(), 8..100),
            flip in any::<prop::sample::Index>(),
        ) {
            let [a, b, c, d, ..] = octets;
            let source = if ipv6 { IpAddr::from(octets) } else { IpAddr::from([a, b, c, d]) };
            let id = KeyId::new(id).unwrap();
            let keys = BTreeMap::from([(id, Key::new(key).unwrap())]);
            let configuration =
                Configuration::new(Mode::Enforce, id, keys, Duration::from_secs(5)).unwrap();
            let mut message = pdu.clone();
            Sealer::new(&configuration).seal(&mut message, source, wall(0));
            let mut verifier = Verifier::new(configuration);
            let mut check = |bytes: &[u8]| verifier.verify(bytes, pdu.len(), source, wall(0));
            let bit = flip.index(message.len() * 8);
            if !CHECKSUM.contains(&(bit / 8)) {
                let mut bytes = message.clone();
                bytes[bit / 8] ^= 1 << (bit % 8);
                prop_assert!(check(&bytes).is_err());
            }
            prop_assert_eq!(check(&message), Ok(Origin::Proven));
            prop_assert_eq!(check(&message), Err(Failure::Replayed));
        }

        #[test]
        fn any_bytes_are_refused_without_panic(
            bytes in prop::collection::vec(any::<u8>(), 0..80),
            pdu_length in 0..100usize,
        ) {
            let result = verifier().verify(&bytes, pdu_length, SOURCE, wall(0));
            prop_assert!(result.is_err());
        }

        #[test]
        fn stamps_grow_whatever_the_clock_does_within_the_window(
            steps in prop::collection::vec(-4_999..4_999i64, 1..50),
        ) {
            let mut last = None;
            let mut most = i64::MIN;
            for step in steps {
                // Never more than the window behind the furthest point.
                most = most.max(step);
                let at = step.max(most - 4_999);
                let stamp = Stamp::next(last, wall(at), Duration::from_secs(5));
                prop_assert!(last.is_none_or(|last| stamp.is_after(last)));
                last = Some(stamp);
            }
        }
    }
}
