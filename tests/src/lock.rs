//! Locks of tests, where a panic is a failed case and no more.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Waits for what `mutex` guards, also when another thread panicked meanwhile: that is reported by itself.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
