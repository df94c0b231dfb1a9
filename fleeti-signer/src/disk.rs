//! Watches the disk of the audit log, and warns in the log of the process before it is full. The
//! server asks as well (`Request::Health`), and shows the warning at `/readyz` and on its pages.

use fleeti_signer_client::room::Room;
use std::path::Path;
use std::time::Duration;
use tokio::time::{Instant, MissedTickBehavior};

/// Time between two checks.
const LOOK: Duration = Duration::from_secs(60);
/// A persistent warning is logged again after this time.
const SAID_AGAIN: Duration = Duration::from_secs(3600);

/// The space on the disk of a folder.
///
/// # Errors
/// When the file system does not tell.
pub fn room(folder: &Path) -> std::io::Result<Room> {
    let found = rustix::fs::statvfs(folder)?;
    Ok(Room {
        free_bytes: found.f_bavail.saturating_mul(found.f_frsize),
        total_bytes: found.f_blocks.saturating_mul(found.f_frsize),
    })
}

/// Checks the disk of the audit log each minute, until the task ends.
pub async fn watch(folder: &Path) {
    let mut clock = tokio::time::interval(LOOK);
    clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut said: Option<Instant> = None;
    loop {
        clock.tick().await;
        match (room(folder).map(|room| room.warning()), said) {
            (Ok(Some(warning)), at) if at.is_none_or(|at| at.elapsed() >= SAID_AGAIN) => {
                tracing::warn!("{}: {warning}", folder.display());
                said = Some(Instant::now());
            }
            (Ok(None), Some(_)) => {
                tracing::info!("{}: there is enough free space again", folder.display());
                said = None;
            }
            (Err(e), _) => tracing::warn!("{}: {e}", folder.display()),
            (Ok(_), _) => {}
        }
    }
}
