//! Which modules the kernel has.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use nix::sys::utsname::uname;

/// The modules of the kernel that runs.
pub(super) struct Modules {
    release: String,
    /// Nothing where the kernel doesn't tell.
    loaded: Option<BTreeSet<String>>,
    /// Where those lie that aren't a part of the kernel, with the lists of both.
    folder: PathBuf,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Presence {
    Loaded,
    /// A part of the kernel, which no list of loaded ones has.
    BuiltIn,
    Loadable,
    Missing,
    NotKnown,
}

impl Modules {
    pub(super) fn look() -> Self {
        let release = uname().map_or_else(
            |_| String::new(),
            |name| name.release().to_string_lossy().into_owned(),
        );
        let loaded = fs::read_to_string("/proc/modules").ok().map(|text| {
            let names = text.lines().filter_map(|line| line.split(' ').next());
            names.map(str::to_owned).collect()
        });
        Self {
            loaded,
            folder: Path::new("/lib/modules").join(&release),
            release,
        }
    }

    pub(super) fn release(&self) -> &str {
        &self.release
    }

    pub(super) fn presence(&self, name: &str) -> Presence {
        if self
            .loaded
            .as_ref()
            .is_some_and(|loaded| loaded.contains(name))
        {
            return Presence::Loaded;
        }
        let list = |list: &str| fs::read_to_string(self.folder.join(list));
        let builtin = list("modules.builtin").unwrap_or_default();
        if listed(&builtin, name).is_some() {
            return Presence::BuiltIn;
        }
        let Ok(dependencies) = list("modules.dep") else {
            return Presence::NotKnown;
        };
        let is_there = |path: &str| self.folder.join(path).exists();
        match listed(&dependencies, name).is_some_and(is_there) {
            true if self.loaded.is_some() => Presence::Loadable,
            true => Presence::NotKnown,
            false => Presence::Missing,
        }
    }

    /// Whether the kernel has it now, without loading it first; also where that can't be told.
    pub(super) fn may_be_at_work(&self, name: &str) -> bool {
        !matches!(self.presence(name), Presence::Loadable | Presence::Missing)
    }
}

/// The file of a module in a list such as `modules.dep`.
fn listed<'l>(list: &'l str, name: &str) -> Option<&'l str> {
    list.lines().find_map(|line| {
        let path = line.split(':').next()?;
        let file = path.rsplit('/').next()?;
        let module = file.split(".ko").next()?;
        (module.replace('-', "_") == name).then_some(path)
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn modules_are_known_by_their_files_names() {
        let list = "kernel/net/netfilter/ipvs/ip_vs_mh.ko.xz: kernel/net/netfilter/ipvs/ip_vs.ko.xz\n\
                    kernel/net/netfilter/nf-conntrack.ko:\n";
        let mh = Some("kernel/net/netfilter/ipvs/ip_vs_mh.ko.xz");
        assert_eq!(listed(list, "ip_vs_mh"), mh);
        assert!(listed(list, "nf_conntrack").is_some());
        assert_eq!(listed(list, "ip_vs"), None);
    }

    #[test]
    fn what_is_neither_loaded_nor_there_is_missing() {
        let folder = tempfile::tempdir().unwrap();
        let modules = Modules {
            release: "6.1".to_owned(),
            loaded: Some(BTreeSet::from(["ip_vs".to_owned()])),
            folder: folder.path().to_owned(),
        };
        let presences = || ["ip_vs", "ip_vs_mh", "ip_vs_sh"].map(|name| modules.presence(name));
        let expected = [Presence::Loaded, Presence::NotKnown, Presence::NotKnown];
        assert_eq!(presences(), expected);
        // Listed, and removed since.
        fs::write(
            folder.path().join("modules.dep"),
            "ip_vs_mh.ko:\nip_vs_sh.ko:\n",
        )
        .unwrap();
        fs::write(folder.path().join("ip_vs_mh.ko"), "").unwrap();
        let expected = [Presence::Loaded, Presence::Loadable, Presence::Missing];
        assert_eq!(presences(), expected);
        fs::write(
            folder.path().join("modules.builtin"),
            "kernel/ip_vs_sh.ko\n",
        )
        .unwrap();
        assert_eq!(modules.presence("ip_vs_sh"), Presence::BuiltIn);
        let at_work =
            ["ip_vs", "ip_vs_mh", "ip_vs_sh", "ip_vs_rr"].map(|name| modules.may_be_at_work(name));
        assert_eq!(at_work, [true, false, true, false]);
    }
}
