//! Whether a program that the file names can be run on this machine.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// What is wrong with it and what would be right, as far as that can be seen.
pub fn why_not(program: &Path) -> Option<String> {
    let shown = program.display();
    let right = "write the right path, or use `--elsewhere` for another machine's file";
    match fs::metadata(program) {
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            Some(format!("there is no `{shown}` on this machine; {right}"))
        }
        Ok(found) if !found.is_file() => {
            Some(format!("`{shown}` is no program on this machine; {right}"))
        }
        Ok(found) if found.permissions().mode() & 0o111 == 0 => Some(format!(
            "`{shown}` can't be run; let it be by `chmod a+x {shown}`"
        )),
        _ => None,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_run_is_said_with_what_would_be_right() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("check.sh");
        fs::write(&file, "#!/bin/sh\n").unwrap();
        let set = |mode| fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
        set(0o644);
        let shown = file.display();
        assert_eq!(
            why_not(&file),
            Some(format!(
                "`{shown}` can't be run; let it be by `chmod a+x {shown}`"
            ))
        );
        set(0o755);
        assert_eq!(why_not(&file), None);
        let missing = [folder.path().join("none"), file.join("below")];
        for path in missing {
            let wrong = why_not(&path).unwrap();
            assert!(wrong.starts_with("there is no `"), "{wrong}");
        }
        let wrong = why_not(folder.path()).unwrap();
        assert!(wrong.contains("is no program"), "{wrong}");
    }
}
