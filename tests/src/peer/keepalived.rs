//! Debian's keepalived, VRRP only.

use std::path::PathBuf;

use anyhow::Result;
use nix::sys::signal::Signal;

use super::{
    Cast, INTERFACE, PATIENCE, Router, Seat, VIRTUAL_ROUTER_ID, VirtualRouter, running,
    spawn_promptly,
};
use crate::lab::Process;

/// `keepalived -P` on a machine.
#[derive(Debug)]
pub struct Keepalived {
    seat: Seat,
    router: VirtualRouter,
    process: Option<Process>,
}

impl Keepalived {
    /// A keepalived that doesn't run yet.
    pub fn new(seat: Seat, router: VirtualRouter) -> Self {
        Self {
            seat,
            router,
            process: None,
        }
    }

    fn write_configuration(&self, priority: u8) -> Result<PathBuf> {
        let Self { seat, router, .. } = self;
        let mut options = String::new();
        if let Some(password) = router.password {
            options = format!("authentication {{\n auth_type PASS\n auth_pass {password}\n}}\n");
        }
        if router.cast == Cast::Unicast {
            options += &format!(
                "unicast_src_ip {}\nunicast_peer {{\n {}\n}}\n",
                seat.own_address(router),
                seat.other_address(router)
            );
        }
        let configuration = format!(
            "global_defs {{\n vrrp_version {}\n}}\n\
             vrrp_instance dns {{\nstate BACKUP\ninterface {INTERFACE}\n\
             virtual_router_id {VIRTUAL_ROUTER_ID}\npriority {priority}\nadvert_int {}\n{options}\
             virtual_ipaddress {{\n {}\n}}\n}}\n",
            router.version,
            router.interval.as_secs_f64(),
            router.addresses().join("\n ")
        );
        seat.host.write_file("keepalived.conf", &configuration)
    }
}

impl Router for Keepalived {
    fn make(&self) -> &'static str {
        "keepalived"
    }

    fn seat(&self) -> &Seat {
        &self.seat
    }

    fn router(&self) -> &VirtualRouter {
        &self.router
    }

    fn start(&mut self, priority: u8) -> Result<()> {
        let file = self.write_configuration(priority)?;
        // In the foreground, its log on the standard error, and its process numbers where the host
        // alone sees them.
        let arguments = format!(
            "-n -l -P -f {} -p /run/keepalived.pid -r /run/keepalived-vrrp.pid",
            file.display()
        );
        let arguments = arguments.split(' ').map(str::to_owned);
        self.process = Some(spawn_promptly(&self.seat.host, "keepalived", arguments)?);
        Ok(())
    }

    fn is_listening(&self) -> bool {
        self.process
            .as_ref()
            .is_some_and(|process| process.log().contains("Entering BACKUP STATE"))
    }

    fn holds_vip(&self) -> bool {
        self.seat.host.holds(self.router.vip())
    }

    fn set_priority(&mut self, priority: u8) -> Result<()> {
        self.write_configuration(priority)?;
        running(&mut self.process)?.signal(Signal::SIGHUP)
    }

    fn leave(&mut self) -> Result<()> {
        running(&mut self.process)?.terminate(PATIENCE)?;
        self.process = None;
        Ok(())
    }

    fn crash(&mut self) -> Result<()> {
        running(&mut self.process)?.kill_family();
        self.process = None;
        // Without a number of a process that is gone it starts again at once.
        self.seat
            .host
            .run("rm -f /run/keepalived.pid /run/keepalived-vrrp.pid")?;
        self.seat.remove_addresses(&self.router)
    }
}
