//! Finding the IPVS family: its number changes with every start of the kernel.

use neli::consts::genl::{CtrlAttr, CtrlCmd};

use super::DecodeError;
use super::attribute::{Attributes, attribute, message};

/// The name that the number is found by.
pub const FAMILY_NAME: &str = "IPVS";

/// `GENL_ID_CTRL`, the message type of the family that knows all others.
pub const CONTROLLER: u16 = 0x10;

/// `IPVS_GENL_VERSION`.
pub(super) const VERSION: u8 = 1;

/// `CTRL_CMD_GETFAMILY` is part of version 1 and 2 of the controller.
const CONTROLLER_VERSION: u8 = 1;

/// Asks [`CONTROLLER`] for the number of [`FAMILY_NAME`].
///
/// This alone makes the kernel load its IPVS module where it has one; ENOENT means that it has
/// none or may not load it.
pub fn family_request() -> Vec<u8> {
    message(
        CtrlCmd::Getfamily,
        CONTROLLER_VERSION,
        vec![attribute(CtrlAttr::FamilyName, FAMILY_NAME)],
    )
}

/// Reads the family's number, the message type of all its messages, from the reply.
pub fn family_identifier(payload: &[u8]) -> Result<u16, DecodeError> {
    Attributes::of_message(payload)?.u16(CtrlAttr::FamilyId)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_endian = "little")]
    fn asks_by_name_and_finds_the_number_among_the_rest() {
        assert_eq!(family_request(), b"\x03\x01\0\0\x09\0\x02\0IPVS\0\0\0\0");
        let reply = b"\x01\x02\0\0\x09\0\x02\0IPVS\0\0\0\0\x06\0\x01\0\x22\0\0\0\
            \x08\0\x03\0\x01\0\0\0\x08\0\x04\0\0\0\0\0\x08\0\x05\0\x0f\0\0\0";
        assert_eq!(family_identifier(reply), Ok(0x22));
        assert_eq!(
            family_identifier(&reply[..16]),
            Err(DecodeError::Missing("FamilyId".to_owned()))
        );
    }
}
