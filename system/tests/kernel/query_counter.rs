//! What a counter of queries takes for one.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use lvs_system::query_counter::{QueryCounter, Transport};
use socket2::{Domain, Socket, Type};

use crate::Case;
use crate::namespace::{Namespace, within_five_seconds};

pub const CASES: &[Case] = &[
    (
        "query_counter::queries_of_clients_count_each_once",
        queries_of_clients_count_each_once,
    ),
    (
        "query_counter::what_is_no_query_or_a_director_s_does_not_count",
        what_is_no_query_or_a_director_s_does_not_count,
    ),
];

const VIP: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 185));
const VIP_6: IpAddr = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 2, 0, 0, 0, 0, 0x185));
const CLIENT: [&str; 2] = ["10.0.0.1", "2001:db8::1"];
const DIRECTOR: [&str; 2] = ["10.0.0.2", "2001:db8::2"];

/// Two machines: one with all senders' addresses, one with the VIPs on `lo`.
fn machines() -> (Namespace, Namespace) {
    let (clients, server) = (Namespace::new(), Namespace::new());
    clients.connect("eth0", &server, "eth0");
    for address in [CLIENT, DIRECTOR].concat() {
        let length = if address.contains(':') { 64 } else { 24 };
        clients.add_address(address, length, "eth0");
    }
    server.add_address("10.0.0.3", 24, "eth0");
    server.add_address("2001:db8::3", 64, "eth0");
    server.add_address(&VIP.to_string(), 32, "lo");
    server.add_address(&VIP_6.to_string(), 128, "lo");
    clients.ip(&format!("route add {VIP} via 10.0.0.3"));
    clients.ip(&format!("-6 route add {VIP_6} via 2001:db8::3"));
    (clients, server)
}

fn counter(server: &Namespace, vip: IpAddr, transport: Transport) -> QueryCounter {
    let directors = DIRECTOR.map(|address| address.parse().unwrap());
    server.within(|| QueryCounter::open(vip, transport, &directors).unwrap())
}

/// Sends so many datagrams of this length to port 53.
fn ask(machine: &Namespace, source: &str, vip: IpAddr, times: usize, length: usize) {
    let source: IpAddr = source.parse().unwrap();
    machine.within(|| {
        let socket = UdpSocket::bind((source, 0)).unwrap();
        for _ in 0..times {
            socket.send_to(&vec![0; length], (vip, 53)).unwrap();
        }
    });
}

/// Waits until a counter has counted so many, for the kernel may deliver a little later than it sends. None
/// may be left then.
fn takes(counter: &QueryCounter, number: u64) {
    let mut taken = 0;
    within_five_seconds("queries counted", || {
        taken += counter.take().unwrap();
        taken >= number
    });
    assert_eq!((taken, counter.take().unwrap()), (number, 0));
}

fn connect(source: &str, address: SocketAddr) {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None).unwrap();
    let source = SocketAddr::new(source.parse().unwrap(), 0);
    socket.bind(&source.into()).unwrap();
    socket.connect(&address.into()).unwrap();
}

fn queries_of_clients_count_each_once() {
    let (clients, server) = machines();
    for (vip, client) in [(VIP, CLIENT[0]), (VIP_6, CLIENT[1])] {
        let udp = counter(&server, vip, Transport::Udp);
        let tcp = counter(&server, vip, Transport::Tcp);
        // More than any queue of the socket holds; a closed port doesn't matter. What waits for a processor
        // is less.
        for _ in 0..10 {
            ask(&clients, client, vip, 100, 40);
            takes(&udp, 100);
        }
        assert_eq!(tcp.take().unwrap(), 0);

        let address = SocketAddr::new(vip, 53);
        let listener = server.within(|| TcpListener::bind(address).unwrap());
        for _ in 0..5 {
            clients.within(|| connect(client, address));
            drop(listener.accept().unwrap());
        }
        takes(&tcp, 5);
        assert_eq!(udp.take().unwrap(), 0);
    }
    // Three fragments are one query.
    let udp = counter(&server, VIP, Transport::Udp);
    ask(&clients, CLIENT[0], VIP, 1, 4000);
    takes(&udp, 1);
}

fn what_is_no_query_or_a_director_s_does_not_count() {
    let (clients, server) = machines();
    for (family, vip) in [VIP, VIP_6].into_iter().enumerate() {
        let udp = counter(&server, vip, Transport::Udp);
        let tcp = counter(&server, vip, Transport::Tcp);
        ask(&clients, DIRECTOR[family], vip, 3, 40);
        // To another address, and on the machine itself.
        let own: IpAddr = ["10.0.0.3", "2001:db8::3"][family].parse().unwrap();
        ask(&clients, CLIENT[family], own, 3, 40);
        ask(&server, &vip.to_string(), vip, 3, 40);
        // What the machine sends, in the VIP's name too.
        ask(
            &server,
            &vip.to_string(),
            CLIENT[family].parse().unwrap(),
            3,
            40,
        );
        server.within(|| {
            TcpStream::connect_timeout(&SocketAddr::new(vip, 53), Duration::from_secs(1))
                .unwrap_err()
        });
        assert_eq!((udp.take().unwrap(), tcp.take().unwrap()), (0, 0));

        // Whom a counter leaves out can change while it counts.
        udp.set_uncounted(&[CLIENT[family].parse().unwrap()])
            .unwrap();
        // Those that count come last, so that the others have passed before them.
        ask(&clients, CLIENT[family], vip, 4, 40);
        ask(&clients, DIRECTOR[family], vip, 3, 40);
        takes(&udp, 3);
    }
}
