//! FRR's vrrpd with the zebra that it needs.
//!
//! It holds the VIP on a macvlan interface with the virtual router's Ethernet address, which people
//! make by hand; as a Backup it takes that interface down (`protodown`).

use std::fs;
use std::net::{IpAddr, Ipv6Addr};
use std::path::Path;
use std::time::Duration;

use anyhow::Result;

use super::{
    Family, INTERFACE, PATIENCE, Router, Seat, VIRTUAL_ROUTER_ID, VirtualRouter, running,
    spawn_promptly,
};
use crate::lab::{Mac, Process, wait_until};
use crate::routing::frr::{self, FOLDER};

/// The macvlan interface.
const VIRTUAL: &str = "vrrp";

/// zebra and vrrpd on a machine.
#[derive(Debug)]
pub struct Frr {
    seat: Seat,
    router: VirtualRouter,
    zebra: Option<Process>,
    vrrpd: Option<Process>,
}

impl Frr {
    /// An FRR that doesn't run yet.
    ///
    /// # Panics
    /// When asked for what FRR can't do: unicast, passwords.
    pub fn new(seat: Seat, router: VirtualRouter) -> Self {
        assert!(
            router.cast == super::Cast::Multicast && router.password.is_none(),
            "FRR knows neither unicast nor passwords"
        );
        Self {
            seat,
            router,
            zebra: None,
            vrrpd: None,
        }
    }

    fn furnish(&self) -> Result<()> {
        let host = &self.seat.host;
        frr::furnish(host)?;
        // The machine speaks of the VIP by the virtual interface only.
        host.set_sysctl("net.ipv4.conf.all.arp_ignore", "1")?;
        host.set_sysctl("net.ipv4.conf.all.arp_announce", "2")
    }

    fn add_virtual_interface(&self) -> Result<()> {
        let host = &self.seat.host;
        let mac = self.mac().map(|octet| format!("{octet:02x}")).join(":");
        host.run(&format!(
            "ip link add {VIRTUAL} link {INTERFACE} address {mac} type macvlan mode bridge"
        ))?;
        host.run(&format!("ip link set {VIRTUAL} addrgenmode none"))?;
        for address in self.router.addresses() {
            host.run(&format!("ip address add {address} dev {VIRTUAL}"))?;
        }
        if self.router.family == Family::Ipv6 {
            // Last: it takes the link-local address that was added last for its own.
            host.run(&format!(
                "ip address add {}/64 dev {VIRTUAL}",
                self.source()
            ))?;
        }
        host.run(&format!("ip link set {VIRTUAL} up protodown on"))?;
        Ok(())
    }

    fn start_zebra(&mut self) -> Result<()> {
        let host = &self.seat.host;
        let file = host.write_file("zebra.conf", "")?;
        self.zebra = Some(host.spawn(&format!("{FOLDER}/zebra"), arguments(&file))?);
        // vrrpd tries again after 10 s only.
        wait_until("zebra listens", PATIENCE, || {
            host.within(|| Path::new("/run/frr/zserv.api").exists())
        })?;
        Ok(())
    }

    fn start_vrrpd(&mut self, priority: u8) -> Result<()> {
        let Self { seat, router, .. } = self;
        let mut lines = vec![
            format!("version {}", router.version),
            format!("priority {priority}"),
            format!("advertisement-interval {}", router.interval.as_millis()),
        ];
        let keyword = match router.family {
            Family::Ipv4 => "ip",
            Family::Ipv6 => "ipv6",
        };
        for address in router.bare_addresses() {
            lines.push(format!("{keyword} {address}"));
        }
        let lines = lines.join(&format!("\n vrrp {VIRTUAL_ROUTER_ID} "));
        let configuration = format!("interface {INTERFACE}\n vrrp {VIRTUAL_ROUTER_ID} {lines}\n");
        let file = seat.host.write_file("vrrpd.conf", &configuration)?;
        let program = format!("{FOLDER}/vrrpd");
        self.vrrpd = Some(spawn_promptly(&seat.host, &program, arguments(&file))?);
        Ok(())
    }

    /// Ends what is left, and removes the interface with the VIP.
    fn clear(&mut self) -> Result<()> {
        self.vrrpd = None;
        self.zebra = None;
        self.seat.host.run(&format!("ip link delete {VIRTUAL}"))?;
        self.seat.host.run("rm -rf /run/frr/zserv.api")?;
        Ok(())
    }
}

impl Router for Frr {
    fn make(&self) -> &'static str {
        "FRR"
    }

    fn seat(&self) -> &Seat {
        &self.seat
    }

    fn router(&self) -> &VirtualRouter {
        &self.router
    }

    fn source(&self) -> IpAddr {
        match (self.router.family, self.seat.second) {
            (Family::Ipv4, _) => self.seat.own_address(&self.router),
            // FRR sends from the virtual interface. The two are below and above the addresses that
            // interfaces give themselves.
            (Family::Ipv6, false) => Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0x181).into(),
            (Family::Ipv6, true) => Ipv6Addr::new(0xfe80, 0, 0, 0, 0xffff, 0, 0, 0x182).into(),
        }
    }

    fn mac(&self) -> Mac {
        let family = match self.router.family {
            Family::Ipv4 => 1,
            Family::Ipv6 => 2,
        };
        [0, 0, 0x5e, 0, family, VIRTUAL_ROUTER_ID]
    }

    fn start(&mut self, priority: u8) -> Result<()> {
        self.furnish()?;
        self.add_virtual_interface()?;
        self.start_zebra()?;
        self.start_vrrpd(priority)
    }

    fn is_listening(&self) -> bool {
        self.vrrpd
            .as_ref()
            .is_some_and(|process| process.log().contains("Initialize -> Backup"))
    }

    fn holds_vip(&self) -> bool {
        self.seat.host.within(|| {
            fs::read_to_string(format!("/sys/class/net/{VIRTUAL}/carrier"))
                .is_ok_and(|carrier| carrier.trim() == "1")
        })
    }

    fn set_priority(&mut self, priority: u8) -> Result<()> {
        let interface = format!("interface {INTERFACE}");
        let priority = format!("vrrp {VIRTUAL_ROUTER_ID} priority {priority}");
        let commands = [
            "-c",
            "configure terminal",
            "-c",
            &interface,
            "-c",
            &priority,
        ];
        let output = self.seat.host.output("vtysh", commands, PATIENCE)?;
        anyhow::ensure!(
            output.success(),
            "vtysh: {}{}",
            output.stdout,
            output.stderr
        );
        Ok(())
    }

    fn leave(&mut self) -> Result<()> {
        running(&mut self.vrrpd)?.terminate(PATIENCE)?;
        // zebra takes the virtual interface down when vrrpd has told it to.
        std::thread::sleep(Duration::from_millis(20));
        self.clear()
    }

    fn crash(&mut self) -> Result<()> {
        running(&mut self.vrrpd)?.kill();
        self.clear()
    }
}

fn arguments(file: &Path) -> Vec<String> {
    let file = file.display();
    format!("-u root -g root -f {file} --log stdout")
        .split(' ')
        .map(str::to_owned)
        .collect()
}
