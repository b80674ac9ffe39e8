//! Our own director, forwarding nothing.

use std::net::SocketAddr;

use anyhow::{Result, ensure};
use nix::sys::signal::Signal;

use super::{
    Cast, Family, INTERFACE, PATIENCE, Router, Seat, VIRTUAL_ROUTER_ID, VirtualRouter, running,
};
use crate::http;
use crate::lab::Process;
use crate::topology::{director_file, start_director};

/// `director run` on a machine.
#[derive(Debug)]
pub struct Director {
    seat: Seat,
    router: VirtualRouter,
    process: Option<Process>,
}

impl Director {
    /// A director that doesn't run yet.
    pub fn new(seat: Seat, router: VirtualRouter) -> Self {
        Self {
            seat,
            router,
            process: None,
        }
    }

    fn yaml(&self, priority: u8) -> String {
        let Self { seat, router, .. } = self;
        let VirtualRouter {
            version, interval, ..
        } = router;
        let mut yaml = format!(
            "vrrp:\n  - name: dns\n    interface: {INTERFACE}\n    \
             virtual_router_id: {VIRTUAL_ROUTER_ID}\n    version: {version}\n    \
             priority: {priority}\n    advert_interval: {}ms\n    addresses: [{}]\n",
            interval.as_millis(),
            router
                .addresses()
                .iter()
                .map(|address| format!("\"{address}\""))
                .collect::<Vec<_>>()
                .join(", ")
        );
        if let Some(password) = router.password {
            yaml.push_str(&format!("    authentication: {{ password: {password} }}\n"));
        }
        if router.cast == Cast::Unicast {
            yaml.push_str(&format!(
                "    source: \"{}\"\n    peers: [\"{}\"]\n",
                seat.own_address(router),
                seat.other_address(router)
            ));
            if router.family == Family::Ipv6 {
                // What keepalived 2.2 sends such adverts with.
                yaml.push_str("    minimum_ttl: 64\n");
            }
        }
        yaml + &format!("metrics: {{ listen: \"{METRICS}\" }}\n")
    }
}

impl Router for Director {
    fn make(&self) -> &'static str {
        "director"
    }

    fn seat(&self) -> &Seat {
        &self.seat
    }

    fn router(&self) -> &VirtualRouter {
        &self.router
    }

    fn start(&mut self, priority: u8) -> Result<()> {
        self.process = Some(start_director(&self.seat.host, &self.yaml(priority))?);
        Ok(())
    }

    fn is_listening(&self) -> bool {
        let Ok(server) = METRICS.parse::<SocketAddr>() else {
            return false;
        };
        http::get(&self.seat.host, server, "/metrics").is_ok_and(|metrics| {
            ["backup", "active"].iter().any(|state| {
                let series =
                    format!("director_vrrp_state{{state=\"{state}\",virtual_router=\"dns\"}} 1");
                metrics.contains(&series)
            })
        })
    }

    fn holds_vip(&self) -> bool {
        self.seat.host.holds(self.router.vip())
    }

    fn set_priority(&mut self, priority: u8) -> Result<()> {
        director_file(&self.seat.host, &self.yaml(priority))?;
        running(&mut self.process)?.signal(Signal::SIGHUP)
    }

    fn leave(&mut self) -> Result<()> {
        let status = running(&mut self.process)?.terminate(PATIENCE)?;
        self.process = None;
        ensure!(status.success(), "SIGTERM ends the director with {status}");
        Ok(())
    }

    fn crash(&mut self) -> Result<()> {
        running(&mut self.process)?.kill_family();
        self.process = None;
        self.seat.remove_addresses(&self.router)
    }
}

const METRICS: &str = "127.0.0.1:9712";
