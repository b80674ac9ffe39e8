//! The simple text password of VRRP version 2 (RFC 2338, section 5.3.6.1).

use core::fmt;

const LENGTH: usize = 8;

/// Eight octets sent in clear with every version 2 advert.
///
/// It keeps a misconfigured neighbour out, never an attacker, and still never appears in a log.
#[derive(Clone, PartialEq, Eq)]
pub struct Password([u8; LENGTH]);

/// A password longer than the eight octets that the wire carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a VRRP password has at most {LENGTH} bytes")]
pub struct PasswordTooLong;

impl Password {
    /// Takes up to eight bytes; shorter passwords are padded with zeros as the RFC says.
    pub fn new(text: &str) -> Result<Self, PasswordTooLong> {
        let mut octets = [0; LENGTH];
        octets
            .get_mut(..text.len())
            .ok_or(PasswordTooLong)?
            .copy_from_slice(text.as_bytes());
        Ok(Self(octets))
    }

    pub(super) fn from_wire(octets: [u8; LENGTH]) -> Self {
        Self(octets)
    }

    pub(super) fn octets(&self) -> &[u8; LENGTH] {
        &self.0
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Password(hidden)")
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn all_eight_octets_count() {
        assert_ne!(
            Password::new("s3cr3").unwrap(),
            Password::new("s3cr3t").unwrap()
        );
        assert_eq!(Password::new("s3cr3t").unwrap().octets(), b"s3cr3t\0\0");
        assert_eq!(Password::new("ninebytes"), Err(PasswordTooLong));
    }

    #[test]
    fn debug_hides_the_password() {
        assert_eq!(
            format!("{:?}", Password::new("s3cr3t").unwrap()),
            "Password(hidden)"
        );
    }
}
