//! Free disk space. The server checks it every few seconds, so that it can warn early. Below a
//! floor it refuses uploads and builds, and keeps the rest for devices, whose reports need little.

use crate::error::Error;
use crate::settings::Settings;
use fleeti_core::doctor::Disk;
use fleeti_core::wire::problem::Code;
use fleeti_signer_client::room::{FLOOR_MAX, FLOOR_OF_100};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

/// The result of the last check.
#[derive(Default)]
pub(super) struct Watched {
    free: AtomicU64,
    floor: AtomicU64,
}

/// Room on the file system of a path, in bytes.
struct Room {
    /// Free for this user.
    free: u64,
    total: u64,
}

fn room(path: &Path) -> std::io::Result<Room> {
    let found = rustix::fs::statvfs(path)?;
    Ok(Room {
        free: found.f_bavail.saturating_mul(found.f_frsize),
        total: found.f_blocks.saturating_mul(found.f_frsize),
    })
}

/// Free space on the disk of a data folder, and its floor.
pub(super) fn of(settings: &Settings) -> std::io::Result<Disk> {
    let Room { free, total } = room(&settings.data)?;
    let usual = FLOOR_MAX.min(total / 100 * FLOOR_OF_100);
    Ok(Disk { free, floor: settings.disk_floor.unwrap_or(usual) })
}

impl Watched {
    /// Checks the disk of the data folder.
    pub(super) fn look(&self, settings: &Settings) {
        match of(settings) {
            Ok(Disk { free, floor }) => {
                self.floor.store(floor, Ordering::SeqCst);
                self.free.store(free, Ordering::SeqCst);
            }
            Err(e) => tracing::warn!("{}: {e}", settings.data.display()),
        }
    }

    fn found(&self) -> (u64, u64) {
        (self.free.load(Ordering::SeqCst), self.floor.load(Ordering::SeqCst))
    }

    /// A warning, below twice the floor.
    pub(super) fn warning(&self) -> Option<String> {
        let (free, floor) = self.found();
        let mib = |bytes: u64| bytes >> 20;
        if floor == 0 || free >= floor.saturating_mul(2) {
            return None;
        }
        Some(if free < floor {
            format!(
                "the disk is nearly full: {} MiB are free; below {} MiB the server refuses builds and uploads, but still serves devices; \
                 free some space, and it accepts them again",
                mib(free),
                mib(floor)
            )
        } else {
            format!(
                "the disk is getting full: {} MiB are free; below {} MiB the server refuses builds and uploads",
                mib(free),
                mib(floor)
            )
        })
    }

    /// Checks that there is room for something large, such as an upload.
    ///
    /// # Errors
    /// [`Code::Full`] below the floor.
    pub(super) fn admit(&self, settings: &Settings, what: &str) -> Result<(), Error> {
        self.look(settings);
        let (free, floor) = self.found();
        if free < floor {
            let text = format!(
                "no room for this {what}: {} MiB are free on the server's disk, {} MiB are reserved for devices",
                free >> 20,
                floor >> 20
            );
            return Err(Error::new(Code::Full, text).hint(
                "free some space: remove old builds, or move the data folder to a larger disk",
            ));
        }
        Ok(())
    }
}
