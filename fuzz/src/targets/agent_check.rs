//! What a server says of itself, a line over TCP.

use lvs_proto::agent_check::{Health, Line};

/// What came, up to its end.
pub(super) fn line(data: &[u8]) {
    let Ok(line) = Line::parse(data) else {
        return;
    };
    if line == Line::default() {
        // `maxconn:30` alone is a good line, and says nothing that has an effect.
        return;
    }
    assert!(line.weight.is_none_or(|weight| weight <= 100));
    if let Some(Health::Down(why)) = &line.health {
        assert!(!why.is_empty() && !why.contains(char::is_control));
    }
    assert_eq!(Line::parse(line.to_string().as_bytes()), Ok(line));
}
