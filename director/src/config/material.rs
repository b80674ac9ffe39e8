//! What a configuration is made of.

use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use lvs_configuration::error::Errors;

use super::{MAXIMUM_KEY_FILE_SIZE, read};

/// All that a configuration follows from: who comes to the same material comes to the same
/// configuration.
#[derive(PartialEq, Eq)]
pub struct Material {
    /// The file.
    text: String,
    /// The machine's name, which may decide which node it is.
    host: String,
    /// The key files that the file names for this machine, and what is in those that can be read.
    keys: Vec<(PathBuf, Option<Vec<u8>>)>,
}

impl Material {
    /// Takes a file's contents; key files come later.
    pub fn new(text: String, host: String) -> Self {
        Self {
            text,
            host,
            keys: Vec::new(),
        }
    }

    /// The file's contents.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Adds what is in key files.
    pub fn with_keys(self, paths: impl IntoIterator<Item = PathBuf>) -> Self {
        let keys = paths.into_iter().map(|path| {
            let contents = contents(&path);
            (path, contents)
        });
        Self {
            keys: keys.collect(),
            ..self
        }
    }

    /// What is there now: the file at `path` with the same key files.
    ///
    /// # Errors
    /// When the file can't be read.
    pub fn read_again(&self, path: &Path, host: String) -> Result<Self, Errors> {
        let paths = self.keys.iter().map(|(path, _)| path.clone());
        Ok(Self::new(read(path)?, host).with_keys(paths))
    }
}

fn contents(path: &Path) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    let file = File::open(path).ok()?;
    file.take(MAXIMUM_KEY_FILE_SIZE)
        .read_to_end(&mut bytes)
        .ok()?;
    Some(bytes)
}

/// Keys and passwords stand in it.
impl fmt::Debug for Material {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Material(hidden)")
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn it_is_another_when_anything_of_it_is() {
        let directory = tempfile::tempdir().unwrap();
        let [file, key] = ["file", "key"].map(|name| directory.path().join(name));
        fs::write(&file, "a").unwrap();
        fs::write(&key, "1").unwrap();
        let host = || "ds1".to_owned();
        let material = Material::new(read(&file).unwrap(), host()).with_keys([key.clone()]);
        let again = |host| material.read_again(&file, host).unwrap();
        assert_eq!(again(host()), material);
        assert_ne!(again("ds2".to_owned()), material);
        fs::write(&key, "2").unwrap();
        assert_ne!(again(host()), material);
        fs::remove_file(&key).unwrap();
        assert_ne!(again(host()), material);
        fs::write(&key, "1").unwrap();
        assert_eq!(again(host()), material);
        fs::write(&file, "b").unwrap();
        assert_ne!(again(host()), material);
        fs::remove_file(&file).unwrap();
        assert!(material.read_again(&file, host()).is_err());
        assert_eq!(format!("{material:?}"), "Material(hidden)");
    }
}
