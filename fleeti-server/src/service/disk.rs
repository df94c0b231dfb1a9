//! Room on the disk. It is looked at every few seconds, so that somebody hears of it before there
//! is none; what takes much of it is refused below a floor, and what is left is for devices, whose
//! reports need little.

use crate::config::Config;
use crate::error::AppError;
use fleeti_core::wire::problem::Code;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

/// The floor where nobody says otherwise: this, or [`FLOOR_OF_100`] of a smaller disk.
const FLOOR_MAX: u64 = 512 << 20;
/// So many of a hundred bytes.
const FLOOR_OF_100: u64 = 5;

/// What was found last.
#[derive(Default)]
pub struct Watched {
    free: AtomicU64,
    floor: AtomicU64,
}

/// Bytes that are free for this user, and bytes in all, where a path lies.
fn room(path: &Path) -> std::io::Result<(u64, u64)> {
    let found = rustix::fs::statvfs(path)?;
    Ok((
        found.f_bavail.saturating_mul(found.f_frsize),
        found.f_blocks.saturating_mul(found.f_frsize),
    ))
}

impl Watched {
    /// Looks at the disk of the data folder.
    pub fn look(&self, config: &Config) {
        match room(&config.data) {
            Ok((free, all)) => {
                let usual = FLOOR_MAX.min(all / 100 * FLOOR_OF_100);
                self.floor.store(config.disk_floor.unwrap_or(usual), Ordering::SeqCst);
                self.free.store(free, Ordering::SeqCst);
            }
            Err(e) => tracing::warn!("{}: {e}", config.data.display()),
        }
    }

    fn found(&self) -> (u64, u64) {
        (self.free.load(Ordering::SeqCst), self.floor.load(Ordering::SeqCst))
    }

    /// What is to be said, from twice the floor on.
    #[must_use]
    pub fn warning(&self) -> Option<String> {
        let (free, floor) = self.found();
        let mib = |bytes: u64| bytes >> 20;
        if floor == 0 || free >= floor.saturating_mul(2) {
            return None;
        }
        Some(if free < floor {
            format!(
                "the disk is nearly full: {} MiB are free, so no build and no upload is taken below {} MiB; devices are served; make room, \
                 and it goes on by itself",
                mib(free),
                mib(floor)
            )
        } else {
            format!(
                "the disk fills: {} MiB are free, and below {} MiB no build and no upload is taken",
                mib(free),
                mib(floor)
            )
        })
    }

    /// That something large may be taken, by how the disk is now.
    ///
    /// # Errors
    /// [`Code::Full`] below the floor.
    pub fn admit(&self, config: &Config, what: &str) -> Result<(), AppError> {
        self.look(config);
        let (free, floor) = self.found();
        if free < floor {
            let text = format!(
                "no {what} is taken: {} MiB are free on the server's disk, {} MiB are kept for devices",
                free >> 20,
                floor >> 20
            );
            return Err(AppError::new(Code::Full, text)
                .hint("make room: remove old builds, or give the data folder a larger disk"));
        }
        Ok(())
    }
}
