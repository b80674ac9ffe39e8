//! Requests and replies against those that a kernel was recorded to take and give.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::num::{NonZeroU8, NonZeroU16, NonZeroU32};

use proptest::prelude::*;

use super::attribute::{
    CommandNumber, OfDestination, OfService, OfStatistics, Top, attribute, message, nest,
};
use super::*;
use crate::Family;

/// Length of the netlink header, which isn't this module's.
const NETLINK_HEADER: usize = 16;

struct Exchange {
    request: Vec<u8>,
    replies: Vec<Vec<u8>>,
}

/// By name; everything behind the netlink headers, without the closing acknowledgement.
fn exchanges() -> BTreeMap<String, Exchange> {
    let recorded: serde_json::Value =
        serde_json::from_str(include_str!("recorded_messages.json")).unwrap();
    let exchanges: BTreeMap<_, _> = recorded["messages"]
        .as_array()
        .unwrap()
        .iter()
        .map(|message| {
            let mut replies: Vec<Vec<u8>> = message["reply_hex"]
                .as_array()
                .unwrap()
                .iter()
                .flat_map(payloads)
                .collect();
            replies.pop();
            let exchange = Exchange {
                request: payloads(&message["request_hex"]).remove(0),
                replies,
            };
            (message["name"].as_str().unwrap().to_owned(), exchange)
        })
        .collect();
    assert_eq!(exchanges.len(), 70);
    exchanges
}

/// What stands behind each netlink header.
fn payloads(hexadecimal: &serde_json::Value) -> Vec<Vec<u8>> {
    let digits = hexadecimal.as_str().unwrap();
    let octets: Vec<u8> = (0..digits.len())
        .step_by(2)
        .map(|place| u8::from_str_radix(&digits[place..place + 2], 16).unwrap())
        .collect();
    let mut rest = octets.as_slice();
    let mut payloads = Vec::new();
    while let Some(length) = rest.first_chunk::<4>() {
        let length = u32::from_le_bytes(*length) as usize;
        payloads.push(rest[NETLINK_HEADER..length].to_vec());
        rest = &rest[length.next_multiple_of(4)..];
    }
    payloads
}

fn service_key(address: &str, port: u16, protocol: Protocol) -> ServiceKey {
    ServiceKey::Socket {
        address: address.parse().unwrap(),
        port,
        protocol,
    }
}

fn service(address: &str, port: u16, protocol: Protocol) -> Service {
    Service {
        key: service_key(address, port, protocol),
        scheduler: Some(Scheduler::WeightedRoundRobin),
        flags: ServiceFlags::NONE,
        persistence: None,
    }
}

fn destination(address: &str, weight: u32) -> Destination {
    Destination {
        key: DestinationKey {
            address: address.parse().unwrap(),
            port: 53,
        },
        forwarding: Forwarding::DirectRouting,
        weight,
        upper_threshold: 0,
        lower_threshold: 0,
    }
}

fn marked_service() -> Service {
    Service {
        key: ServiceKey::FirewallMark {
            mark: NonZeroU32::new(7).unwrap(),
            family: Family::Ipv4,
        },
        ..service("192.0.2.100", 53, Protocol::Udp)
    }
}

fn daemon(interface: &str) -> Daemon {
    Daemon {
        role: DaemonRole::Backup,
        interface: interface.to_owned(),
        identifier: 1,
        maximum_length: None,
        group: None,
        port: None,
        time_to_live: None,
    }
}

/// Marks nests as such, which the recorded requests leave out and the kernel doesn't mind.
fn with_nests_marked(mut request: Vec<u8>) -> Vec<u8> {
    let mut place = 4;
    while place < request.len() {
        let length = usize::from(u16::from_ne_bytes([request[place], request[place + 1]]));
        if request[place + 2] <= 3 {
            request[place + 3] |= 0x80;
        }
        place += length.next_multiple_of(4);
    }
    request
}

#[test]
#[cfg(target_endian = "little")]
fn requests_are_the_recorded_ones() {
    use Protocol::{Tcp, Udp};

    let vip = "192.0.2.100";
    let v6 = "2001:db8::100";
    let ours = service_key(vip, 53, Udp);
    let ours_v6 = service_key(v6, 53, Udp);
    let missing = service_key(vip, 60, Udp);
    let scheduled = |scheduler| Service {
        scheduler,
        ..service(vip, 53, Udp)
    };
    let one_packet = |protocol| Service {
        flags: ServiceFlags::ONE_PACKET,
        ..service(vip, 58, protocol)
    };
    let tunnelled = Destination {
        forwarding: Forwarding::Tunnel(Tunnel::IpIp),
        ..destination("2001:db8::21", 1)
    };
    let on_other_port = Destination {
        key: DestinationKey {
            address: "192.0.2.23".parse().unwrap(),
            port: 5353,
        },
        ..destination(vip, 1)
    };
    let thresholds = Destination {
        upper_threshold: 1,
        lower_threshold: 2,
        ..destination("192.0.2.22", 1)
    };
    let udp_timeout = |udp| {
        Command::SetTimeouts(Timeouts {
            udp,
            ..Timeouts::default()
        })
    };
    let commands = [
        ("new_service_ok", Command::NewService(service(vip, 53, Udp))),
        (
            "new_service_sched_none",
            Command::NewService(Service {
                scheduler: None,
                ..service(vip, 56, Udp)
            }),
        ),
        (
            "new_service_nested_flag",
            Command::NewService(service(vip, 57, Udp)),
        ),
        (
            "new_service_v6_ok",
            Command::NewService(service(v6, 53, Udp)),
        ),
        ("new_service_ops", Command::NewService(one_packet(Udp))),
        ("new_service_ops_tcp", Command::NewService(one_packet(Tcp))),
        (
            "new_service_port0_nonpersistent",
            Command::NewService(service(vip, 0, Udp)),
        ),
        (
            "set_service_missing",
            Command::SetService(service(vip, 60, Udp)),
        ),
        ("del_service_missing", Command::DeleteService(missing)),
        (
            "set_service_sched_rr",
            Command::SetService(scheduled(Some(Scheduler::RoundRobin))),
        ),
        (
            "set_service_sched_wrr",
            Command::SetService(scheduled(Some(Scheduler::WeightedRoundRobin))),
        ),
        (
            "new_dest_ok",
            Command::NewDestination(ours, destination("192.0.2.21", 1)),
        ),
        (
            "new_dest_lt_gt_ut",
            Command::NewDestination(ours, thresholds),
        ),
        (
            "new_dest_other_port_dr",
            Command::NewDestination(ours, on_other_port),
        ),
        (
            "new_dest_v6_in_v4_dr",
            Command::NewDestination(ours, destination("2001:db8::21", 1)),
        ),
        (
            "new_dest_v6_in_v4_tun",
            Command::NewDestination(ours, tunnelled),
        ),
        (
            "new_dest_v6_ok",
            Command::NewDestination(ours_v6, destination("2001:db8::21", 1)),
        ),
        (
            "set_dest_ok_weight0",
            Command::SetDestination(ours, destination("192.0.2.21", 0)),
        ),
        (
            "del_dest_missing",
            Command::DeleteDestination(ours, destination("192.0.2.99", 1).key),
        ),
        ("set_config_udp_30", udp_timeout(30)),
        ("set_config_restore", udp_timeout(300)),
        ("flush", Command::Flush),
        ("new_service_fwmark", Command::NewService(marked_service())),
        ("new_daemon_backup", Command::NewDaemon(daemon("dum0"))),
        (
            "new_daemon_bad_if",
            Command::NewDaemon(Daemon {
                role: DaemonRole::Master,
                ..daemon("nope")
            }),
        ),
        ("del_daemon", Command::DeleteDaemon(DaemonRole::Backup)),
    ];
    let queries = [
        ("dump_services", Query::Services),
        ("get_service_ok", Query::Service(ours)),
        ("get_service_missing", Query::Service(missing)),
        ("dump_dests", Query::Destinations(ours)),
        ("get_info", Query::Information),
        ("get_config", Query::Timeouts),
        ("get_daemon", Query::Daemons),
    ];
    let encoded = commands
        .map(|(name, command)| (name, command.encode()))
        .into_iter()
        .chain(queries.map(|(name, query)| (name, query.encode())));
    let exchanges = exchanges();
    for (name, octets) in encoded {
        assert_eq!(
            octets,
            with_nests_marked(exchanges[name].request.clone()),
            "{name}"
        );
    }
}

#[test]
#[cfg(target_endian = "little")]
fn services_are_read_from_a_recorded_dump() {
    let replies = &exchanges()["dump_services"].replies;
    let mut found: Vec<Service> = Vec::new();
    let mut without_key = 0;
    for reply in replies {
        match FoundService::decode(reply).unwrap() {
            Some(FoundService {
                service,
                statistics,
            }) => {
                assert_eq!(statistics, Statistics::default());
                found.push(service);
            }
            None => without_key += 1,
        }
    }
    found.sort_by_key(|service| service.key);
    let vip = "192.0.2.100";
    let mut expected = vec![
        service(vip, 0, Protocol::Udp),
        service(vip, 53, Protocol::Udp),
        service(vip, 55, Protocol::Udp),
        Service {
            scheduler: None,
            ..service(vip, 56, Protocol::Udp)
        },
        service(vip, 57, Protocol::Udp),
        Service {
            flags: ServiceFlags::ONE_PACKET,
            ..service(vip, 58, Protocol::Udp)
        },
        Service {
            flags: ServiceFlags::ONE_PACKET,
            ..service(vip, 58, Protocol::Tcp)
        },
        service("2001:db8::100", 53, Protocol::Udp),
        marked_service(),
    ];
    expected.sort_by_key(|service| service.key);
    assert_eq!(found, expected);
    // The ICMP service.
    assert_eq!(without_key, 1);
}

#[test]
#[cfg(target_endian = "little")]
fn destinations_are_read_from_a_recorded_dump() {
    let key = service_key("192.0.2.100", 53, Protocol::Udp);
    let mut found: Vec<Destination> = exchanges()["dump_dests"]
        .replies
        .iter()
        .map(|reply| {
            let found = FoundDestination::decode(&key, reply).unwrap();
            assert_eq!(found.statistics, Statistics::default());
            found.destination
        })
        .collect();
    found.sort_by_key(|destination| destination.key);
    let expected = [
        destination("192.0.2.21", 0),
        Destination {
            key: DestinationKey {
                address: "192.0.2.23".parse().unwrap(),
                port: 5353,
            },
            ..destination("192.0.2.23", 1)
        },
        destination("192.0.2.24", 1),
        destination("203.0.113.9", 1),
        Destination {
            forwarding: Forwarding::Tunnel(Tunnel::IpIp),
            ..destination("2001:db8::21", 1)
        },
    ];
    assert_eq!(found, expected);
    assert!(exchanges()["dump_dests_missing_service"].replies.is_empty());
}

#[test]
#[cfg(target_endian = "little")]
fn information_and_timeouts_are_read_from_recorded_replies() {
    let exchanges = exchanges();
    assert_eq!(
        Information::decode(&exchanges["get_info"].replies[0]),
        Ok(Information {
            version: (1, 2, 1),
            connection_table_size: 4096,
        })
    );
    assert_eq!(
        Timeouts::decode(&exchanges["get_config_after"].replies[0]),
        Ok(Timeouts {
            tcp: 900,
            tcp_fin: 120,
            udp: 30,
        })
    );
}

#[test]
#[cfg(target_endian = "little")]
fn a_daemon_is_read_from_a_recorded_reply() {
    let running = Daemon::decode(&exchanges()["get_daemon"].replies[0]).unwrap();
    let expected = Daemon {
        maximum_length: NonZeroU16::new(1472),
        group: Some("224.0.0.81".parse().unwrap()),
        port: NonZeroU16::new(8848),
        time_to_live: NonZeroU8::new(1),
        ..daemon("dum0")
    };
    assert_eq!(running, expected);
    assert!(daemon("dum0").is_satisfied_by(&running));
    assert!(!daemon("dum1").is_satisfied_by(&running));
    let other_port = Daemon {
        port: NonZeroU16::new(1),
        ..daemon("dum0")
    };
    assert!(!other_port.is_satisfied_by(&running));
    assert_eq!(
        running.to_string(),
        "backup on dum0, id 1, group 224.0.0.81, port 8848, ttl 1, maximum length 1472"
    );
}

#[test]
fn tunnels_are_written_and_read_back() {
    let key = service_key("192.0.2.100", 53, Protocol::Udp);
    let port = NonZeroU16::new(6080).unwrap();
    for (tunnel, flags) in [
        (Tunnel::IpIp, None),
        (
            Tunnel::Gue {
                port,
                checksum: TunnelChecksum::Remote,
            },
            Some(2),
        ),
        (
            Tunnel::Gue {
                port,
                checksum: TunnelChecksum::Plain,
            },
            Some(1),
        ),
        (
            Tunnel::Gre {
                checksum: TunnelChecksum::None,
            },
            Some(0),
        ),
    ] {
        let tunnelled = Destination {
            forwarding: Forwarding::Tunnel(tunnel),
            ..destination("192.0.2.21", 1)
        };
        let request = Command::NewDestination(key, tunnelled).encode();
        let attributes = attribute::Attributes::of_message(&request)
            .unwrap()
            .nested::<OfDestination>(Top::Destination)
            .unwrap();
        assert_eq!(attributes.u16(OfDestination::TunnelFlags).ok(), flags);
        let kept = [
            OfDestination::TunnelType,
            OfDestination::TunnelPort,
            OfDestination::TunnelFlags,
        ];
        let mut told: Vec<_> = kept
            .into_iter()
            .filter_map(|kind| {
                let octets = attributes.find(kind).ok()?.to_vec();
                Some(attribute(kind, octets))
            })
            .collect();
        let counters = [
            OfStatistics::Connections,
            OfStatistics::IncomingPackets,
            OfStatistics::OutgoingPackets,
            OfStatistics::IncomingBytes,
            OfStatistics::OutgoingBytes,
        ];
        told.push(nest(
            OfDestination::Statistics64,
            counters.map(|kind| attribute(kind, 0u64)).into(),
        ));
        let mut reply = counted_destination(told);
        let method = reply
            .windows(8)
            .position(|window| window == [8, 0, 3, 0, 3, 0, 0, 0])
            .unwrap();
        reply[method + 4] = 2;
        let found = FoundDestination::decode(&key, &reply).unwrap();
        assert_eq!(found.destination.forwarding, tunnelled.forwarding);
    }
}

/// A reply with the attributes of a whole destination, and those in `statistics`.
fn counted_destination(statistics: Vec<attribute::Attribute<OfDestination>>) -> Vec<u8> {
    let mut attributes = vec![
        attribute(OfDestination::Address, vec![192u8, 0, 2, 21]),
        attribute(OfDestination::Port, 53u16.to_be()),
        attribute(OfDestination::ForwardingMethod, 3u32),
        attribute(OfDestination::Weight, 7u32),
        attribute(OfDestination::UpperThreshold, 0u32),
        attribute(OfDestination::LowerThreshold, 0u32),
        attribute(OfDestination::ActiveConnections, 1u32),
        attribute(OfDestination::InactiveConnections, 2u32),
        attribute(OfDestination::PersistentConnections, 3u32),
    ];
    attributes.extend(statistics);
    message(
        CommandNumber::NewDestination,
        1,
        vec![nest(Top::Destination, attributes)],
    )
}

#[test]
fn counters_are_wide_where_the_kernel_has_wide_ones() {
    let narrow = nest(
        OfDestination::Statistics,
        vec![
            attribute(OfStatistics::Connections, 1u32),
            attribute(OfStatistics::IncomingPackets, 2u32),
            attribute(OfStatistics::OutgoingPackets, 3u32),
            attribute(OfStatistics::IncomingBytes, 4u64),
            attribute(OfStatistics::OutgoingBytes, 5u64),
        ],
    );
    let large = u64::from(u32::MAX) + 1;
    let wide = nest(
        OfDestination::Statistics64,
        vec![
            attribute(OfStatistics::Connections, large + 1),
            attribute(OfStatistics::IncomingPackets, large + 2),
            attribute(OfStatistics::OutgoingPackets, large + 3),
            attribute(OfStatistics::IncomingBytes, large + 4),
            attribute(OfStatistics::OutgoingBytes, large + 5),
        ],
    );
    let key = service_key("192.0.2.100", 53, Protocol::Udp);
    let decode = |statistics| FoundDestination::decode(&key, &counted_destination(statistics));
    let counted = |base: u64| Statistics {
        connections: base + 1,
        incoming_packets: base + 2,
        outgoing_packets: base + 3,
        incoming_bytes: base + 4,
        outgoing_bytes: base + 5,
    };

    let found = decode(vec![narrow.clone(), wide]).unwrap();
    assert_eq!(found.statistics, counted(large));
    assert_eq!(found.destination, destination("192.0.2.21", 7));
    assert_eq!(
        (
            found.active_connections,
            found.inactive_connections,
            found.persistent_connections
        ),
        (1, 2, 3)
    );
    assert_eq!(decode(vec![narrow]).unwrap().statistics, counted(0));
    assert_eq!(
        decode(vec![]),
        Err(DecodeError::Missing("Statistics".to_owned()))
    );
}

#[test]
fn persistence_is_written_and_read_back() {
    for (address, prefix_length, netmask) in [
        ("192.0.2.100", 24, 0xffff_ff00u32.to_be()),
        ("192.0.2.100", 32, u32::MAX),
        ("2001:db8::100", 64, 64),
    ] {
        let persistent = Service {
            flags: ServiceFlags::SCHEDULER_1,
            persistence: Some(Persistence {
                timeout: std::time::Duration::from_secs(360),
                prefix_length,
            }),
            ..service(address, 53, Protocol::Tcp)
        };
        let request = Command::NewService(persistent).encode();
        let sent = attribute::Attributes::of_message(&request)
            .unwrap()
            .nested::<OfService>(Top::Service)
            .unwrap();
        assert_eq!(sent.u32(OfService::Netmask), Ok(netmask));
        assert_eq!(sent.u32(OfService::Flags), Ok(0x9));

        // A reply is a request with counters behind.
        let mut reply = request;
        let counters = nest(
            OfService::Statistics64,
            [
                OfStatistics::Connections,
                OfStatistics::IncomingPackets,
                OfStatistics::OutgoingPackets,
                OfStatistics::IncomingBytes,
                OfStatistics::OutgoingBytes,
            ]
            .into_iter()
            .map(|kind| attribute(kind, 0u64))
            .collect(),
        );
        reply.extend(counters.octets());
        let length = u16::try_from(reply.len() - 4).unwrap();
        reply[4..6].copy_from_slice(&length.to_ne_bytes());
        assert_eq!(
            FoundService::decode(&reply).unwrap().unwrap().service,
            persistent
        );
    }
}

proptest! {
    #[test]
    fn mutated_replies_never_panic(
        choice in any::<prop::sample::Index>(),
        flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..12),
        cut in any::<prop::sample::Index>(),
        shorten: bool,
    ) {
        let mut replies: Vec<Vec<u8>> =
            exchanges().into_values().flat_map(|exchange| exchange.replies).collect();
        let mut reply = replies.swap_remove(choice.index(replies.len()));
        for (place, octet) in flips {
            let place = place.index(reply.len());
            reply[place] = octet;
        }
        if shorten {
            reply.truncate(cut.index(reply.len() + 1));
        }
        decode_as_everything(&reply);
    }

    #[test]
    fn octets_of_any_kind_never_panic(octets in prop::collection::vec(any::<u8>(), 0..200)) {
        decode_as_everything(&octets);
    }
}

fn decode_as_everything(reply: &[u8]) {
    let _ = FoundService::decode(reply);
    let _ = FoundDestination::decode(&service_key("192.0.2.100", 53, Protocol::Udp), reply);
    let _ = Information::decode(reply);
    let _ = Timeouts::decode(reply);
    let _ = Daemon::decode(reply);
    let _ = family_identifier(reply);
}
