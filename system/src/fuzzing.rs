//! Entrances for the fuzz targets, and for nobody else: what reads bytes from outside, without the
//! socket or the file that they come from.

use std::fmt::Debug;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::netlink::{self, Content};
use crate::{address, link, macvlan, record, route, watch};

/// Reads a netlink datagram: as events, and each reply in it as all that it could be.
pub fn netlink(datagram: &[u8]) {
    let _ = watch::read(datagram, &mut Vec::new());
    for message in netlink::split(datagram).unwrap_or_default() {
        if let Ok(Content::Reply(reply)) = message.content() {
            let _ = link::parse(&reply.payload);
            let _ = address::parse(&reply.payload);
            let _ = macvlan::parse(&reply.payload);
            let _ = route::parse(&reply);
        }
    }
}

/// Reads a record.
///
/// # Panics
/// When what was read isn't what is read again after it was written.
pub fn record<T: DeserializeOwned + Serialize + Debug + PartialEq>(file: &[u8]) {
    let Ok((boot, contents)) = record::read::<T>(file) else {
        return;
    };
    let again = record::write(&boot, &contents).and_then(|text| record::read::<T>(&text));
    assert_eq!(again.ok(), Some((boot, contents)));
}
