//! How many files this process may have open: each checker keeps a socket.

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tracing::error;

/// What the rest of the director has open, with room to spare.
const OTHERS: u64 = 200;

/// Takes as many as the process may have.
pub(super) fn allow_all() {
    if let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE)
        && soft < hard
    {
        // It is told where that isn't enough.
        let _ = setrlimit(Resource::RLIMIT_NOFILE, hard, hard);
    }
}

/// Says so where there won't be enough for that many checkers.
pub(super) fn warn_if_short(checkers: usize) {
    let Ok((limit, _)) = getrlimit(Resource::RLIMIT_NOFILE) else {
        return;
    };
    if let Some(message) = shortage(checkers as u64, limit) {
        error!("{message}");
    }
}

fn shortage(checkers: u64, limit: u64) -> Option<String> {
    let needed = checkers + OTHERS;
    (needed > limit).then(|| {
        format!(
            "{checkers} checkers need {needed} open files and this process may have {limit}: servers \
             that can't be probed keep their last verdict; raise `LimitNOFILE=` in the unit \
             (`systemctl edit director`), or `ulimit -Hn`"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shortage_is_told_with_what_to_do() {
        assert_eq!(shortage(824, 1024), None);
        let told = shortage(825, 1024).unwrap_or_default();
        assert!(
            told.starts_with("825 checkers need 1025 open files and this process may have 1024")
        );
    }
}
