//! Whether a program blocks shutdowns: the locks that systemd-logind keeps below
//! `/run/systemd/inhibit`, as `systemd-inhibit --list` shows them. A desktop, or a program of a
//! kiosk, takes one while a user must not be disturbed.

use std::fs::{self, File};
use std::io::Read;
use std::path::Path;

/// Maximum number of locks that are looked at; systemd-logind has 8192.
const LOCKS_MAX: usize = 8192;
/// Maximum size of a lock's file, bytes.
const LOCK_MAX: u64 = 16 << 10;

/// Whether a lock in this folder blocks shutdowns. A folder that cannot be read has none: the
/// longest wait of a policy is a courtesy to users, and not a protection.
#[must_use]
pub fn block_shutdown(folder: &Path) -> bool {
    let Ok(entries) = fs::read_dir(folder) else { return false };
    entries.filter_map(Result::ok).take(LOCKS_MAX).any(|entry| {
        // Beside each lock is a named pipe: to open one would wait for its other end.
        let is_file = entry.file_type().is_ok_and(|kind| kind.is_file());
        is_file && read(&entry.path()).is_some_and(|text| blocks(&text))
    })
}

fn read(path: &Path) -> Option<String> {
    let mut bytes = Vec::new();
    File::open(path).ok()?.take(LOCK_MAX).read_to_end(&mut bytes).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

fn blocks(text: &str) -> bool {
    let value = |key: &str| {
        let mut lines = text.lines();
        lines
            .find_map(|line| line.strip_prefix(key)?.strip_prefix('='))
            .map(|v| v.trim_matches('"'))
    };
    let is_block = value("MODE").is_some_and(|mode| mode == "block" || mode == "block-weak");
    let is_shutdown = value("WHAT").is_some_and(|what| what.split(':').any(|w| w == "shutdown"));
    is_block && is_shutdown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_blocks_a_reboot_only_if_it_is_about_shutdowns_and_not_a_delay() {
        let of = |what: &str, mode: &str| {
            blocks(&format!("# private\nWHAT={what}\nMODE={mode}\nUID=1000\nWHO=till\nWHY=sale\n"))
        };
        assert!(of("shutdown", "block") && of("idle:shutdown:sleep", "block"));
        assert!(of("\"shutdown\"", "block-weak"));
        assert!(!of("shutdown", "delay") && !of("sleep:idle", "block"));
        assert!(!blocks("") && !blocks("MODE=block") && !blocks("WHAT=shutdown\nMODE=blocked"));
    }

    #[test]
    fn the_pipe_beside_a_lock_is_not_opened() {
        let dir = tempfile::tempdir().unwrap();
        assert!(!block_shutdown(&dir.path().join("absent")));
        let pipe = dir.path().join("1.ref");
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        assert!(!block_shutdown(dir.path()));
        fs::write(dir.path().join("1"), "WHAT=shutdown\nMODE=block\n").unwrap();
        assert!(block_shutdown(dir.path()));
    }
}
