//! Messages on a stream: two octets of length before each (RFC 1035, section 4.2.2).

const LENGTH: usize = 2;

/// The message with its length before it, to be written in one call (RFC 7766, section 8).
///
/// `None` when the message is longer than 65535 octets.
pub fn frame(message: &[u8]) -> Option<Vec<u8>> {
    let length = u16::try_from(message.len()).ok()?;
    let mut framed = Vec::with_capacity(LENGTH + message.len());
    framed.extend_from_slice(&length.to_be_bytes());
    framed.extend_from_slice(message);
    Some(framed)
}

/// What has been read from a stream so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Frame<'a> {
    /// A whole message, and what follows it.
    Whole {
        /// The message without its length.
        message: &'a [u8],
        /// Octets of the next messages.
        rest: &'a [u8],
    },
    /// At least this many octets are missing.
    Partial(usize),
}

impl<'a> Frame<'a> {
    /// Takes the first message from `stream`.
    pub fn split(stream: &'a [u8]) -> Self {
        let Some((prefix, rest)) = stream.split_first_chunk::<LENGTH>() else {
            return Self::Partial(LENGTH - stream.len());
        };
        let length = usize::from(u16::from_be_bytes(*prefix));
        match rest.split_at_checked(length) {
            Some((message, rest)) => Self::Whole { message, rest },
            None => Self::Partial(length - rest.len()),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_read_back_from_any_cut() {
        let mut stream = frame(b"first").unwrap();
        stream.extend(frame(b"second").unwrap());
        assert_eq!(
            Frame::split(&stream),
            Frame::Whole {
                message: b"first",
                rest: b"\0\x06second"
            }
        );
        for (read, missing) in [(0, 2), (1, 1), (2, 5), (6, 1)] {
            assert_eq!(Frame::split(&stream[..read]), Frame::Partial(missing));
        }
    }

    #[test]
    fn a_message_that_no_length_can_name_is_refused() {
        assert_eq!(frame(&vec![0; 65535]).unwrap().len(), 65537);
        assert_eq!(frame(&vec![0; 65536]), None);
    }
}
