//! Whom this machine itself asks for names.

use std::fs;
use std::net::IpAddr;

use super::Report;
use super::machine::Machine;

/// resolv.conf(5), and what systemd-resolved asks where that names only its own stub.
const FILES: [&str; 2] = ["/etc/resolv.conf", "/run/systemd/resolve/resolv.conf"];

/// A director doesn't forward what it sends itself: as Active it would ask itself and hear nobody.
pub(super) fn examine(machine: &Machine<'_>, report: &mut Report) {
    let vips: Vec<IpAddr> = machine.vips().map(|vip| vip.address).collect();
    for file in FILES {
        let Ok(text) = fs::read_to_string(file) else {
            continue;
        };
        let named: Vec<IpAddr> = name_servers(&text)
            .filter(|address| vips.contains(address))
            .collect();
        if named.is_empty() {
            report.ok("resolver", file, "names no VIP");
        }
        for vip in named {
            report.error(
                "resolver",
                file,
                format!(
                    "names {vip}, a VIP: a director can't be its own client, so this machine resolves no \
                     name while it is Active"
                ),
                "name the real servers' own addresses, or other resolvers",
            );
        }
    }
}

fn name_servers(text: &str) -> impl Iterator<Item = IpAddr> {
    text.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        let address = words
            .next()
            .filter(|word| *word == "nameserver")
            .and_then(|_| words.next())?;
        // A link-local address may have its interface behind it.
        address.split('%').next()?.parse().ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_options_name_nobody() {
        let text = "# nameserver 192.0.2.1\n nameserver\t192.0.2.2\nnameserver fe80::1%eth0\n\
                    search example.org\noptions timeout:1\nnameserver nonsense\n";
        let servers: Vec<String> = name_servers(text)
            .map(|address| address.to_string())
            .collect();
        assert_eq!(servers, ["192.0.2.2", "fe80::1"]);
    }
}
