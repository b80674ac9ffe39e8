//! Changes as they are told, and what is done when some were missed.

use std::fmt::Write;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use lvs_system::address::{self, Address};
use lvs_system::netlink::Connection;
use lvs_system::watch::{self, Event, Picture, Watch};
use nix::poll::{PollFd, PollFlags, poll};

use crate::Case;
use crate::namespace::Namespace;

pub const CASES: &[Case] = &[
    ("watch::addresses_come_and_go", addresses_come_and_go),
    ("watch::links_change_and_go", links_change_and_go),
    (
        "watch::a_port_that_leaves_its_bridge_stays_an_interface",
        a_port_that_leaves_its_bridge_stays_an_interface,
    ),
    (
        "watch::an_overrun_is_told_and_healed_by_a_picture",
        an_overrun_is_told_and_healed_by_a_picture,
    ),
];

struct Watcher {
    watch: Watch,
    route: Connection,
    picture: Picture,
    overruns: usize,
}

impl Watcher {
    fn new(here: &Namespace) -> Self {
        let watch = here.within(|| Watch::open().unwrap());
        let mut route = here.route();
        let picture = watch::picture(&mut route).unwrap();
        Self {
            watch,
            route,
            picture,
            overruns: 0,
        }
    }

    /// Follows events for at most 5 s until one of them, or what they amount to, is as wanted.
    fn follow(&mut self, what: &str, mut wanted: impl FnMut(&Event, &Picture) -> bool) {
        let deadline = Instant::now() + Duration::from_secs(5);
        loop {
            assert!(Instant::now() < deadline, "{what}: {:?}", self.picture);
            let mut descriptors = [PollFd::new(self.watch.as_fd(), PollFlags::POLLIN)];
            poll(&mut descriptors, 100u16).unwrap();
            let mut found = false;
            for event in self.watch.take().unwrap() {
                if event == Event::Overrun {
                    self.overruns += 1;
                    self.picture = watch::picture(&mut self.route).unwrap();
                }
                self.picture.apply(&event);
                found |= wanted(&event, &self.picture);
            }
            if found {
                return;
            }
        }
    }

    /// What was followed is what is.
    fn assert_true(&mut self) {
        let mut truth = watch::picture(&mut self.route).unwrap();
        for picture in [&mut truth, &mut self.picture] {
            picture.links.sort_by_key(|link| link.index);
            picture
                .addresses
                .sort_by_key(|address| (address.interface_index, address.address));
        }
        assert_eq!(truth, self.picture);
    }
}

fn addresses_come_and_go() {
    let (here, there) = (Namespace::new(), Namespace::new());
    here.connect("eth0", &there, "eth0");
    let mut watcher = Watcher::new(&here);
    for (text, prefix) in [("192.168.56.185", 24), ("2001:db8::185", 64)] {
        let vip = Address::new(here.link("eth0").index, text.parse().unwrap(), prefix);
        address::add(&mut here.route(), &vip).unwrap();
        watcher.follow(text, |event, _| match event {
            Event::AddressAdded(address) if address.address.to_string() == text => {
                assert!(address.is_ours() && !address.tentative);
                assert_eq!(address.prefix_length, prefix);
                true
            }
            _ => false,
        });
        here.ip(&format!("address delete {text}/{prefix} dev eth0"));
        watcher.follow(text, |event, _| {
            matches!(event, Event::AddressRemoved(address) if address.address.to_string() == text)
        });
    }
    watcher.assert_true();
}

fn links_change_and_go() {
    let (here, there) = (Namespace::new(), Namespace::new());
    here.connect("eth0", &there, "eth0");
    let mut watcher = Watcher::new(&here);
    let is = |name: &'static str, up: bool| move |event: &Event, _: &Picture| matches!(event, Event::LinkChanged(link) if link.name == name && link.up == up);
    there.ip("link set eth0 down");
    watcher.follow("the carrier goes", is("eth0", false));
    there.ip("link set eth0 up");
    watcher.follow("the carrier comes", is("eth0", true));
    here.ip("link set eth0 down");
    watcher.follow("set down", is("eth0", false));
    here.ip("link set eth0 name lan0");
    here.ip("link set lan0 up");
    watcher.follow("another name", is("lan0", true));
    here.ip("address add 192.168.56.185/24 dev lan0");
    here.ip("link delete lan0");
    watcher.follow(
        "deleted",
        |event, _| matches!(event, Event::LinkRemoved { name, .. } if name == "lan0"),
    );
    here.connect("eth0", &there, "eth9");
    watcher.follow("made anew", is("eth0", true));
    // Its link-local address is the last thing to change.
    watcher.follow("checked", |_, picture| {
        let index = picture.links.iter().find(|link| link.name == "eth0");
        let index = index.map(|link| link.index);
        picture
            .addresses
            .iter()
            .any(|address| Some(address.interface_index) == index && !address.tentative)
    });
    watcher.assert_true();
}

fn a_port_that_leaves_its_bridge_stays_an_interface() {
    let (here, there) = (Namespace::new(), Namespace::new());
    here.connect("eth0", &there, "eth0");
    here.ip("link add br0 type bridge");
    let mut watcher = Watcher::new(&here);
    here.ip("link set eth0 master br0");
    here.ip("link set eth0 nomaster");
    here.ip("link delete br0");
    watcher.follow("the bridge goes", |event, _| {
        let Event::LinkRemoved { name, .. } = event else {
            return false;
        };
        assert_eq!(name, "br0");
        true
    });
    assert!(watcher.picture.links.iter().any(|link| link.name == "eth0"));
}

fn an_overrun_is_told_and_healed_by_a_picture() {
    const COUNT: usize = 10_000;
    let here = Namespace::new();
    let mut watcher = Watcher::new(&here);
    let mut batch = String::new();
    for number in 0..COUNT {
        let (high, low) = (number / 256, number % 256);
        writeln!(batch, "address add 10.1.{high}.{low}/32 dev lo").unwrap();
    }
    // The last one came and went: what is heard of it late must not bring it back.
    writeln!(batch, "address delete 10.1.39.15/32 dev lo").unwrap();
    here.ip_with("-batch -", &batch);
    watcher.follow("an overrun", |event, _| *event == Event::Overrun);
    assert_eq!(watcher.overruns, 1);
    assert_eq!(watcher.picture.addresses.len(), COUNT - 1 + 2);
    watcher.assert_true();
    // And it hears again.
    here.ip("address add 192.168.56.185/32 dev lo");
    watcher.follow("the next one", |event, _| {
        matches!(event, Event::AddressAdded(address)
            if address.address.to_string() == "192.168.56.185")
    });
    watcher.assert_true();
    assert_eq!(watcher.overruns, 1);
}
