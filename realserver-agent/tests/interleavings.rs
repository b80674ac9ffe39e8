//! Whatever happens between a first start and a last stop, the stop leaves what was there before: on the
//! kernel, in a network namespace of the test's own.
//!
//! Starts, reloads and stops come in any order. Any of them may die between two of its changes, as by
//! `kill -9`: from there on nothing that it still tries has an effect, and the next one starts from what is
//! on the machine and on record. The machine may restart, which loses `/run` or leaves it behind stale. And
//! somebody else changes settings, addresses and routes meanwhile; what he changes of his own is his.

#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use lvs_system::address::{self, AddOutcome, Address, RemoveOutcome};
use lvs_system::arp::{ANNOUNCE, IGNORE, Setting};
use lvs_system::link::{self, DeleteOutcome};
use lvs_system::netlink::{Connection, Protocol};
use lvs_system::route::{self, HostRoute};
use lvs_system::sysctl::{self, Change};
use nix::errno::Errno;
use nix::sched::{CloneFlags, unshare};
use nix::unistd::{getegid, geteuid};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use realserver_agent::agent;
use realserver_agent::machine::{Error, Found, Interface, Linux, Machine, Owned};
use realserver_agent::vip::{Place, Vip};

const LONGEST: usize = 14;

/// Of both families.
const VIPS: [&str; 3] = ["192.168.56.185", "192.168.56.186", "2001:db8::53"];
const INTERFACES: [&str; 3] = ["all", "lo", "eth0"];
const SETTINGS: [Setting; 2] = [IGNORE, ANNOUNCE];

#[derive(Clone, Debug)]
enum Event {
    /// A run of the agent, which dies after so many of its changes, if any.
    Run(Verb, Option<usize>),
    /// The machine restarts with these settings.
    Restart {
        stale_records: bool,
        settings: Settings,
    },
    /// Somebody else, at work on one of [`VIPS`] or of the settings.
    Foreign(Edit),
}

#[derive(Clone, Debug)]
enum Verb {
    Start(BTreeSet<usize>),
    Reload(BTreeSet<usize>),
    Stop(BTreeSet<usize>),
}

#[derive(Clone, Debug)]
enum Edit {
    Set {
        setting: usize,
        interface: usize,
        value: i32,
    },
    AddAddress(usize),
    RemoveAddress(usize),
    RemoveRoute(usize),
}

/// Values by the numbers of setting and interface.
type Settings = [[i32; 3]; 2];

fn main() -> ExitCode {
    // The runner of a case needs no arguments; `--list` is asked by tools.
    if std::env::args().any(|argument| argument == "--list") {
        println!("interleavings: test");
        return ExitCode::SUCCESS;
    }
    enter();
    // 256 cases, or as many as PROPTEST_CASES says.
    let config = Config {
        failure_persistence: None,
        max_shrink_iters: 2_000,
        ..Config::default()
    };
    let cases = config.cases;
    let mut runner = TestRunner::new(config);
    let events = prop::collection::vec(event(), 1..LONGEST);
    match runner.run(&(settings(), events), |(settings, events)| {
        run(settings, &events)
    }) {
        Ok(()) => {
            println!(
                "measured: {cases} interleavings of up to {LONGEST} events leave what was there"
            );
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn settings() -> impl Strategy<Value = Settings> {
    prop::array::uniform2(prop::array::uniform3(0..4_i32))
}

fn event() -> impl Strategy<Value = Event> {
    let some_vips = || prop::collection::btree_set(0..VIPS.len(), 0..=VIPS.len());
    let verb = prop_oneof![
        3 => some_vips().prop_map(Verb::Start),
        2 => some_vips().prop_map(Verb::Reload),
        2 => some_vips().prop_map(Verb::Stop),
    ];
    let death = prop_oneof![2 => Just(None), 3 => (0..16_usize).prop_map(Some)];
    let edit = prop_oneof![
        (0..2_usize, 0..3_usize, 0..4_i32).prop_map(|(setting, interface, value)| Edit::Set {
            setting,
            interface,
            value
        }),
        (0..VIPS.len()).prop_map(Edit::AddAddress),
        (0..VIPS.len()).prop_map(Edit::RemoveAddress),
        (0..VIPS.len()).prop_map(Edit::RemoveRoute),
    ];
    prop_oneof![
        6 => (verb, death).prop_map(|(verb, death)| Event::Run(verb, death)),
        1 => (any::<bool>(), settings())
            .prop_map(|(stale_records, settings)| Event::Restart { stale_records, settings }),
        3 => edit.prop_map(Event::Foreign),
    ]
}

fn run(settings: Settings, events: &[Event]) -> Result<(), TestCaseError> {
    let directory = tempfile::tempdir_in(fast()).unwrap();
    let mut world = World {
        route: Connection::open(Protocol::Route).unwrap(),
        directory: directory.path().to_owned(),
        baseline: State::default(),
    };
    world.restart(settings);
    for event in events {
        world.happen(event);
    }
    world.work(&Verb::Stop(BTreeSet::new()), None);
    let left = world.state();
    prop_assert_eq!(&left, &world.baseline);
    prop_assert!(sysctl::recorded(directory.path()).unwrap().is_empty());
    let machine = Linux::open(directory.path()).unwrap();
    prop_assert_eq!(machine.owned(), &Owned::default());
    Ok(())
}

/// What the agent could change.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct State {
    settings: BTreeMap<String, i32>,
    /// Those of `lo` that are none of its own.
    addresses: BTreeSet<IpAddr>,
    routes: BTreeSet<IpAddr>,
}

struct World {
    route: Connection,
    directory: PathBuf,
    /// What a stop has to leave.
    baseline: State,
}

impl World {
    fn happen(&mut self, event: &Event) {
        match event {
            Event::Run(verb, death) => self.work(verb, *death),
            Event::Restart {
                stale_records,
                settings,
            } => {
                if *stale_records {
                    age(&self.directory);
                } else {
                    fs::remove_dir_all(&self.directory).unwrap();
                    fs::create_dir(&self.directory).unwrap();
                }
                self.restart(*settings);
            }
            Event::Foreign(edit) => self.edit(edit),
        }
    }

    fn work(&mut self, verb: &Verb, death: Option<usize>) {
        let machine = Linux::open(&self.directory).unwrap();
        assert!(machine.warnings().is_empty(), "{:?}", machine.warnings());
        let mut machine = Mortal {
            machine,
            left: death.unwrap_or(usize::MAX),
            record: self.directory.clone(),
        };
        let was_quiet = is_quiet();
        let addresses = |numbers: &BTreeSet<usize>| -> Vec<IpAddr> {
            numbers.iter().map(|number| vip(*number)).collect()
        };
        let vips = |numbers| -> Vec<Vip> {
            addresses(numbers)
                .into_iter()
                .map(Vip::on_loopback)
                .collect()
        };
        let outcome = match verb {
            Verb::Start(numbers) => agent::start(&mut machine, &vips(numbers)).map(drop),
            Verb::Reload(numbers) => agent::reload(&mut machine, &vips(numbers)).map(drop),
            Verb::Stop(numbers) => agent::stop(&mut machine, &addresses(numbers)).map(drop),
        };
        if death.is_some() {
            return;
        }
        assert!(outcome.is_ok(), "{verb:?}: {outcome:?}");
        // While a VIP of the agent's is here nobody hears of it.
        let mut ours = machine.owned().addresses.iter();
        let holds = ours.any(|place| place.address.is_ipv4());
        let is_stop = matches!(verb, Verb::Stop(_));
        assert!(!holds || is_quiet() || (is_stop && !was_quiet), "{verb:?}");
    }

    /// The kernel begins anew.
    fn restart(&mut self, settings: Settings) {
        for found in address::list(&mut self.route, Some(1)).unwrap() {
            if !found.address.is_loopback() {
                address::remove(&mut self.route, &found).unwrap();
            }
        }
        for (setting, values) in SETTINGS.iter().zip(settings) {
            for (interface, value) in INTERFACES.iter().zip(values) {
                set(&setting.of(interface), value);
            }
        }
        self.baseline = self.state();
    }

    fn edit(&mut self, edit: &Edit) {
        match *edit {
            Edit::Set {
                setting,
                interface,
                value,
            } => {
                let name = SETTINGS[setting].of(INTERFACES[interface]);
                set(&name, value);
                // What the agent has on record gets the value recorded.
                if !sysctl::recorded(&self.directory)
                    .unwrap()
                    .contains_key(&name)
                {
                    self.baseline.settings.insert(name, value);
                }
            }
            Edit::AddAddress(number) => {
                let address = vip(number);
                let added = Address {
                    protocol: 0,
                    ..self.address(address)
                };
                let outcome = address::add(&mut self.route, &added).unwrap();
                // Where the agent has put it on record, it is the agent's again.
                let place = Vip::on_loopback(address).place();
                let recorded = Linux::open(&self.directory)
                    .unwrap()
                    .owned()
                    .addresses
                    .contains(&place);
                if outcome == AddOutcome::Added && !recorded {
                    self.baseline.addresses.insert(address);
                }
            }
            Edit::RemoveAddress(number) => {
                let removed = self.address(vip(number));
                address::remove(&mut self.route, &removed).unwrap();
                self.baseline.addresses.remove(&vip(number));
            }
            Edit::RemoveRoute(number) => {
                let route = HostRoute {
                    address: vip(number),
                    interface_index: 1,
                };
                route::remove_host(&mut self.route, &route).unwrap();
            }
        }
    }

    fn address(&self, address: IpAddr) -> Address {
        Address::new(1, address, if address.is_ipv4() { 32 } else { 128 })
    }

    fn state(&mut self) -> State {
        let mut settings = BTreeMap::new();
        for setting in SETTINGS {
            let values = setting.values().unwrap();
            let named = values
                .into_iter()
                .map(|(interface, value)| (setting.of(&interface), value));
            settings.extend(named);
        }
        let addresses = address::list(&mut self.route, Some(1)).unwrap();
        let addresses = addresses.into_iter().map(|found| found.address);
        let routes = route::list_host(&mut self.route).unwrap();
        State {
            settings,
            addresses: addresses.filter(|address| !address.is_loopback()).collect(),
            routes: routes.into_iter().map(|route| route.address).collect(),
        }
    }
}

/// A machine whose user dies after some changes: later ones have no effect, whatever they are, and are
/// told to fail, which nobody hears.
struct Mortal {
    machine: Linux,
    left: usize,
    record: PathBuf,
}

impl Mortal {
    fn lives(&mut self) -> Result<(), Error> {
        self.left = self.left.checked_sub(1).ok_or_else(dead)?;
        Ok(())
    }
}

fn dead() -> Error {
    let name = "a dead process has none".to_owned();
    Error::Sysctl(sysctl::Error::Name { name })
}

impl Machine for Mortal {
    fn interfaces(&mut self) -> Result<BTreeMap<String, Interface>, Error> {
        self.machine.interfaces()
    }

    fn make_interface(&mut self, name: &str) -> Result<(), Error> {
        self.lives()?;
        self.machine.make_interface(name)
    }

    fn raise_interface(&mut self, name: &str) -> Result<(), Error> {
        self.lives()?;
        self.machine.raise_interface(name)
    }

    fn delete_interface(&mut self, name: &str) -> Result<DeleteOutcome, Error> {
        self.lives()?;
        self.machine.delete_interface(name)
    }

    fn addresses(&mut self) -> Result<Vec<Found>, Error> {
        self.machine.addresses()
    }

    fn add_address(&mut self, vip: &Vip) -> Result<AddOutcome, Error> {
        self.lives()?;
        self.machine.add_address(vip)
    }

    fn renew_address(&mut self, vip: &Vip) -> Result<(), Error> {
        self.lives()?;
        self.machine.renew_address(vip)
    }

    fn remove_address(&mut self, place: &Place) -> Result<RemoveOutcome, Error> {
        self.lives()?;
        self.machine.remove_address(place)
    }

    fn routes(&mut self) -> Result<BTreeSet<Place>, Error> {
        self.machine.routes()
    }

    fn add_route(&mut self, place: &Place) -> Result<AddOutcome, Error> {
        self.lives()?;
        self.machine.add_route(place)
    }

    fn remove_route(&mut self, place: &Place) -> Result<RemoveOutcome, Error> {
        self.lives()?;
        self.machine.remove_route(place)
    }

    fn filtered(&mut self) -> BTreeSet<Ipv4Addr> {
        BTreeSet::new()
    }

    fn values(&mut self, setting: &Setting) -> Result<BTreeMap<String, i32>, Error> {
        self.machine.values(setting)
    }

    /// Two changes: the value found is recorded, then the new one is written.
    fn set_sysctl(&mut self, name: &str, value: &str) -> Result<Option<Change>, Error> {
        self.lives()?;
        let change = self.machine.set_sysctl(name, value)?;
        if let (Some(change), true) = (&change, self.left == 0) {
            set(name, change.found.parse().unwrap());
            return Err(dead());
        }
        self.left -= 1;
        Ok(change)
    }

    fn undo_sysctl(&mut self, change: &Change) -> Result<(), Error> {
        self.lives()?;
        self.machine.undo_sysctl(change)
    }

    /// As many changes as there are values. Who dies among them has restored the first in the alphabet;
    /// some of those restored are still on record.
    fn restore_sysctls(&mut self) -> Result<(), Error> {
        let recorded = sysctl::recorded(&self.record)?;
        if recorded.len() < self.left {
            self.left -= recorded.len();
            return self.machine.restore_sysctls();
        }
        for (name, value) in recorded.into_iter().take(self.left) {
            set(&name, value.parse().unwrap());
        }
        self.left = 0;
        Err(dead())
    }

    fn owned(&self) -> &Owned {
        self.machine.owned()
    }

    fn record(&mut self, owned: Owned) -> Result<(), Error> {
        self.lives()?;
        self.machine.record(owned)
    }
}

fn vip(number: usize) -> IpAddr {
    VIPS[number].parse().unwrap()
}

fn is_quiet() -> bool {
    SETTINGS.iter().all(|setting| {
        let mut values = setting.values().unwrap();
        values.remove("lo");
        setting.insufficient(&values).is_empty()
    })
}

fn set(name: &str, value: i32) {
    let path = format!("/proc/sys/{}", name.replace('.', "/"));
    fs::write(path, value.to_string()).unwrap();
}

/// Makes the records those of an earlier boot.
fn age(directory: &Path) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let mut record: serde_json::Value =
            serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        record["boot"] = "an earlier one".into();
        fs::write(&path, record.to_string()).unwrap();
    }
}

/// Where files are kept in memory, as under `/run`.
fn fast() -> PathBuf {
    let memory = PathBuf::from("/dev/shm");
    if memory.is_dir() {
        memory
    } else {
        std::env::temp_dir()
    }
}

/// Leaves the machine's network for one with `lo` and `eth0`. Called while the process has one thread,
/// because a user namespace can't be entered later.
fn enter() {
    match unshare(CloneFlags::CLONE_NEWNET) {
        Ok(()) => {}
        Err(Errno::EPERM) => {
            let (user, group) = (geteuid(), getegid());
            unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWUSER).expect(
                "this test needs a user namespace (sysctl kernel.unprivileged_userns_clone=1, \
                 user.max_user_namespaces, kernel.apparmor_restrict_unprivileged_userns=0), or root",
            );
            fs::write("/proc/self/setgroups", "deny").unwrap();
            fs::write("/proc/self/uid_map", format!("0 {user} 1")).unwrap();
            fs::write("/proc/self/gid_map", format!("0 {group} 1")).unwrap();
        }
        Err(error) => panic!("the kernel refuses new namespaces: {error}"),
    }
    for command in ["link add eth0 type veth peer name eth1", "link set eth0 up"] {
        let done = Command::new("ip")
            .args(command.split(' '))
            .status()
            .unwrap();
        assert!(done.success(), "ip {command}");
    }
    let mut route = Connection::open(Protocol::Route).unwrap();
    link::set_up(&mut route, 1).unwrap();
}
