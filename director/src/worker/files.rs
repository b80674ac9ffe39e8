//! Reads configuration files, one after the other, beside everything else: a file may be large, and
//! a disk slow.

use std::sync::Arc;

use lvs_system::syscalls;
use tokio::sync::{mpsc, oneshot};

use crate::config::{Configuration, Errors, Material};
use crate::control::{Answer, ConfigurationText};
use crate::engine::Loaded;

/// Where configurations come from.
pub trait Source: Send + Sync + 'static {
    /// Reads the daemon's own file for this machine.
    ///
    /// # Errors
    /// All mistakes that were found.
    fn load(&self) -> Result<Loaded, Errors>;

    /// Whether [`Self::load`] would come to what `material` came to.
    fn is_still(&self, material: &Material) -> bool;

    /// Reads this file, or the daemon's own, for this machine; key files are left alone.
    ///
    /// # Errors
    /// All mistakes that were found.
    fn outline(&self, given: Option<&ConfigurationText>) -> Result<Configuration, Errors>;
}

/// What is to be read.
#[derive(Debug)]
pub(super) enum Errand {
    /// The own file, to go by it, unless it is still made of this; somebody may wait to hear what came
    /// of it.
    Reload(Option<Arc<Material>>, Option<oneshot::Sender<Answer>>),
    /// This file, or the own one, to say what it would change.
    Plan(Option<ConfigurationText>, oneshot::Sender<Answer>),
}

/// What was read.
#[derive(Debug)]
pub(super) enum Reading {
    /// It is still made of this.
    Unchanged(Arc<Material>, Option<oneshot::Sender<Answer>>),
    /// To go by it.
    Reload(Result<Box<Loaded>, Errors>, Option<oneshot::Sender<Answer>>),
    /// To say what it would change.
    Plan(Result<Box<Configuration>, Errors>, oneshot::Sender<Answer>),
}

/// Whoever reads.
#[derive(Debug)]
pub(super) struct Files {
    errands: mpsc::UnboundedSender<Errand>,
    readings: mpsc::UnboundedReceiver<Reading>,
}

impl Files {
    /// Reads from `source`.
    pub(super) fn new(source: Arc<impl Source>) -> Self {
        let (errands, mut inbox) = mpsc::unbounded_channel::<Errand>();
        let (outbox, readings) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            while let Some(errand) = inbox.recv().await {
                let source = Arc::clone(&source);
                let read = tokio::task::spawn_blocking(move || read(&*source, errand)).await;
                // A panic has ended the process.
                let Ok(reading) = read else { return };
                if outbox.send(reading).is_err() {
                    return;
                }
            }
        });
        Self { errands, readings }
    }

    /// Has something read; what comes of it comes in the same order.
    pub(super) fn read(&self, errand: Errand) {
        // Whoever reads ends after this.
        let _ = self.errands.send(errand);
    }

    /// The next that was read. May be dropped at any time.
    pub(super) async fn next(&mut self) -> Reading {
        match self.readings.recv().await {
            Some(reading) => reading,
            None => std::future::pending().await,
        }
    }
}

fn read(source: &impl Source, errand: Errand) -> Reading {
    let reading = match errand {
        Errand::Reload(Some(material), answer) if source.is_still(&material) => {
            Reading::Unchanged(material, answer)
        }
        Errand::Reload(_, answer) => Reading::Reload(source.load().map(Box::new), answer),
        Errand::Plan(given, answer) => {
            Reading::Plan(source.outline(given.as_ref()).map(Box::new), answer)
        }
    };
    // A file takes many times its length while it is read.
    if !matches!(reading, Reading::Unchanged(..)) {
        syscalls::release_memory();
    }
    reading
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::engine::tests::configuration;

    /// A file in memory.
    struct Memory(Mutex<&'static str>);

    const FILE: &str = "services: [{ name: a, address: 192.0.2.9, port: 53, protocols: [udp], \
                        external: true, check: none, real_servers: [{ address: 192.0.2.2 }] }]";

    impl Memory {
        fn material(&self) -> Material {
            let text = self.0.lock().unwrap();
            Material::new((*text).to_owned(), "ds1".to_owned())
        }
    }

    impl Source for Memory {
        fn load(&self) -> Result<Loaded, Errors> {
            Ok(Loaded {
                configuration: configuration(FILE),
                outline: configuration(FILE),
                material: Arc::new(self.material()),
            })
        }

        fn is_still(&self, material: &Material) -> bool {
            self.material() == *material
        }

        fn outline(&self, _: Option<&ConfigurationText>) -> Result<Configuration, Errors> {
            Ok(configuration(FILE))
        }
    }

    #[tokio::test]
    async fn what_is_in_force_is_not_read_again() {
        let source = Arc::new(Memory(Mutex::new("first")));
        let mut files = Files::new(Arc::clone(&source));
        files.read(Errand::Reload(None, None));
        let Reading::Reload(Ok(loaded), None) = files.next().await else {
            panic!("nothing was in force");
        };
        let material = loaded.material;
        files.read(Errand::Reload(Some(Arc::clone(&material)), None));
        let Reading::Unchanged(same, None) = files.next().await else {
            panic!("it is the same");
        };
        assert!(Arc::ptr_eq(&same, &material));
        *source.0.lock().unwrap() = "second";
        files.read(Errand::Reload(Some(material), None));
        assert!(matches!(files.next().await, Reading::Reload(Ok(_), None)));
    }
}
