//! Files that a program keeps from one run to the next: always whole, its folder's owner's, and never
//! somebody else's.
//!
//! Root writes into folders of a service's own user, who may plant anything there: a link to a file that
//! isn't his, a pipe that nobody reads. So no link is followed, nothing but a plain file is opened, and
//! nothing is given away but what was made here.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

use libc::{ELOOP, ENXIO, O_NOFOLLOW, O_NONBLOCK};
use nix::unistd::geteuid;

/// Why nothing was read.
#[derive(Debug, thiserror::Error)]
pub enum Unreadable {
    /// The system doesn't allow it.
    #[error(transparent)]
    Refused(#[from] io::Error),
    /// It isn't what a program writes.
    #[error("{0}")]
    Damaged(String),
}

/// What is in the file, of at most `largest` bytes; `None` if there is none.
///
/// # Errors
/// [`Unreadable`]; what can be read isn't judged.
pub fn read(path: &Path, largest: u64) -> Result<Option<Vec<u8>>, Unreadable> {
    let damaged = |reason: &str| Err(Unreadable::Damaged(reason.to_owned()));
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Ok(found) if !found.is_file() => return damaged("it is no file"),
        _ => {}
    }
    let file = plain(OpenOptions::new().read(true)).open(path)?;
    let found = file.metadata()?;
    if !found.is_file() {
        return damaged("it is no file");
    }
    let mut contents = Vec::new();
    file.take(largest + 1).read_to_end(&mut contents)?;
    if contents.len() as u64 > largest {
        return damaged("it is far too large");
    }
    Ok(Some(contents))
}

/// Writes a new file and renames it over the old one, so that there is always a whole one, after a loss of
/// power too. Its group may read it. The folder is made when needed.
///
/// # Errors
/// The system's words; the old file is as it was.
pub fn replace(path: &Path, contents: &[u8]) -> io::Result<()> {
    let folder = folder(path);
    fs::create_dir_all(folder)?;
    let temporary = path.with_added_extension("new");
    match fs::remove_file(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = make(&temporary, 0o640)?;
    file.write_all(contents)?;
    file.sync_all()?;
    fs::rename(&temporary, path)?;
    // The new name has to reach the disk, too.
    File::open(folder)?.sync_all()
}

/// Moves a file that isn't understood aside, to the name with `.damaged` behind; the last one there goes.
///
/// # Errors
/// The system's words.
pub fn set_aside(path: &Path) -> io::Result<PathBuf> {
    let kept_as = path.with_added_extension("damaged");
    fs::rename(path, &kept_as)?;
    Ok(kept_as)
}

/// Opens a file at its end, to write.
///
/// # Errors
/// The system's words, and when it isn't a file of its own.
pub fn append(path: &Path) -> io::Result<File> {
    open_own(path, OpenOptions::new().append(true))
}

/// Opens a file to write, with what is in it; makes it for its owner alone when needed, and its folder.
pub(crate) fn open_or_make(path: &Path) -> io::Result<File> {
    fs::create_dir_all(folder(path))?;
    loop {
        match make(path, 0o600) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            made => return made,
        }
        match open_own(path, OpenOptions::new().write(true)) {
            // It went meanwhile.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            opened => return opened,
        }
    }
}

fn folder(path: &Path) -> &Path {
    let folder = path.parent();
    folder
        .filter(|folder| !folder.as_os_str().is_empty())
        .unwrap_or_else(|| Path::new("."))
}

fn plain(options: &mut OpenOptions) -> &mut OpenOptions {
    // A pipe is not waited for.
    options.custom_flags(O_NOFOLLOW | O_NONBLOCK)
}

/// Makes a file that isn't there, for the owner and group of its folder. Only root can give it away, and
/// where root may not (in a user namespace, mostly) it stays root's.
fn make(path: &Path, mode: u32) -> io::Result<File> {
    let file = plain(OpenOptions::new().write(true).create_new(true).mode(mode)).open(path)?;
    // Whatever the umask.
    file.set_permissions(fs::Permissions::from_mode(mode))?;
    if geteuid().is_root() {
        let folder = fs::metadata(folder(path))?;
        let _ = fchown(&file, Some(folder.uid()), Some(folder.gid()));
    }
    Ok(file)
}

/// Opens a file, if it has no other name and belongs to its folder's owner or to us.
fn open_own(path: &Path, options: &mut OpenOptions) -> io::Result<File> {
    let planted = || {
        io::Error::other("it is a link, no file, or somebody else's; see `ls -l`, and remove it")
    };
    let file = plain(options).open(path).map_err(|error| {
        match error.raw_os_error() {
            // A symbolic link, and a pipe that nobody reads.
            Some(ELOOP | ENXIO) => planted(),
            _ => error,
        }
    })?;
    let found = file.metadata()?;
    let owners = [fs::metadata(folder(path))?.uid(), geteuid().as_raw()];
    if found.is_file() && found.nlink() == 1 && owners.contains(&found.uid()) {
        Ok(file)
    } else {
        Err(planted())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::os::unix::fs::{chown, symlink};

    use nix::sys::stat::Mode;
    use nix::unistd::mkfifo;

    use super::*;
    use crate::lock::Lock;
    use crate::record::Record;

    /// A service's user.
    const OWNER: (u32, u32) = (65_534, 65_533);

    /// A folder of a service's, and a file of root's beside it. Whoever isn't root can't try it.
    struct Fixture {
        _folder: tempfile::TempDir,
        service: PathBuf,
        secret: PathBuf,
    }

    impl Fixture {
        fn new() -> Option<Self> {
            let folder = tempfile::tempdir().unwrap();
            let service = folder.path().join("service");
            fs::create_dir(&service).unwrap();
            chown(&service, Some(OWNER.0), Some(OWNER.1)).ok()?;
            let secret = folder.path().join("secret");
            fs::write(&secret, SECRET).unwrap();
            fs::set_permissions(&secret, fs::Permissions::from_mode(0o600)).unwrap();
            Some(Self {
                service,
                secret,
                _folder: folder,
            })
        }

        fn is_untouched(&self) -> bool {
            let found = fs::metadata(&self.secret).unwrap();
            let whose = (found.uid(), found.gid(), found.mode() & 0o777);
            whose == (0, 0, 0o600) && fs::read_to_string(&self.secret).unwrap() == SECRET
        }
    }

    const SECRET: &str = "root:secret";

    #[derive(Clone, Copy, Debug)]
    enum Plant {
        Symlink,
        HardLink,
        Pipe,
    }

    impl Plant {
        const ALL: [Self; 3] = [Self::Symlink, Self::HardLink, Self::Pipe];

        fn put(self, secret: &Path, path: &Path) {
            match self {
                Self::Symlink => symlink(secret, path).unwrap(),
                Self::HardLink => fs::hard_link(secret, path).unwrap(),
                Self::Pipe => mkfifo(path, Mode::S_IRWXU).unwrap(),
            }
        }
    }

    fn whose(path: &Path) -> (u32, u32) {
        let found = fs::symlink_metadata(path).unwrap();
        (found.uid(), found.gid())
    }

    #[test]
    fn a_lock_that_is_planted_is_refused() {
        for plant in Plant::ALL {
            let Some(fixture) = Fixture::new() else {
                return;
            };
            let path = fixture.service.join("lock");
            plant.put(&fixture.secret, &path);
            let lock = Lock::acquire(&path, "test", std::time::Duration::ZERO);
            assert!(fixture.is_untouched(), "{plant:?}");
            let error = lock.unwrap_err().to_string();
            assert!(error.contains("/lock: it is a link, no file"), "{error}");
        }
    }

    #[test]
    fn what_is_planted_for_a_file_s_name_or_its_next_one_s_is_replaced() {
        for plant in Plant::ALL {
            for name in ["state.json", "state.json.new", "state.json.damaged"] {
                let Some(fixture) = Fixture::new() else {
                    return;
                };
                plant.put(&fixture.secret, &fixture.service.join(name));
                let path = fixture.service.join("state.json");
                replace(&path, b"ours").unwrap();
                assert!(fixture.is_untouched(), "{plant:?} {name}");
                assert_eq!(whose(&path), OWNER);
                assert_eq!(read(&path, 4).unwrap().unwrap(), b"ours");
                assert!(matches!(read(&path, 3), Err(Unreadable::Damaged(_))));
                let kept = set_aside(&path).unwrap();
                assert!(fixture.is_untouched(), "{plant:?} {name}");
                assert_eq!(fs::read(kept).unwrap(), b"ours");
            }
        }
    }

    #[test]
    fn what_is_planted_for_a_record_is_set_aside() {
        for plant in Plant::ALL {
            let Some(fixture) = Fixture::new() else {
                return;
            };
            let mut record = Record::<Vec<u8>>::open(&fixture.service, "record").unwrap();
            record.update(|bytes| bytes.push(1)).unwrap();
            let mut files = fs::read_dir(&fixture.service).unwrap();
            let path = files.next().unwrap().unwrap().path();
            fs::remove_file(&path).unwrap();
            plant.put(&fixture.secret, &path);
            let mut record = Record::<Vec<u8>>::open(&fixture.service, "record").unwrap();
            assert!(record.damage().is_some(), "{plant:?}");
            record.update(|bytes| bytes.push(2)).unwrap();
            assert!(fixture.is_untouched(), "{plant:?}");
            assert_eq!(whose(&path), OWNER);
        }
    }

    #[test]
    fn the_group_may_read_what_is_written_and_nobody_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.json");
        for umask in [0o077, 0o022] {
            let before = nix::sys::stat::umask(Mode::from_bits_truncate(umask));
            let written = replace(&path, b"ours");
            nix::sys::stat::umask(before);
            written.unwrap();
            assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o640);
        }
    }

    #[test]
    fn nothing_is_added_to_what_is_planted() {
        for plant in Plant::ALL {
            let Some(fixture) = Fixture::new() else {
                return;
            };
            let path = fixture.service.join("lines");
            plant.put(&fixture.secret, &path);
            assert!(append(&path).is_err(), "{plant:?}");
            assert!(fixture.is_untouched(), "{plant:?}");
        }
    }

    #[test]
    fn what_root_writes_is_the_service_s() {
        let Some(fixture) = Fixture::new() else {
            return;
        };
        let lock = fixture.service.join("lock");
        for _ in 0..2 {
            drop(Lock::acquire(&lock, "test", std::time::Duration::ZERO).unwrap());
        }
        let mut record = Record::<Vec<u8>>::open(&fixture.service, "record").unwrap();
        record.update(|bytes| bytes.push(1)).unwrap();
        let mut files = 0;
        for file in fs::read_dir(&fixture.service).unwrap() {
            assert_eq!(whose(&file.unwrap().path()), OWNER);
            files += 1;
        }
        assert_eq!(files, 2);
    }
}
