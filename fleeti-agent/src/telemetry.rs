//! Load, memory and space, once a minute. A value that the system does not report is 0.

use fleeti_core::wire::device::Telemetry;
use std::path::Path;
use sysinfo::{Disks, System};

/// The current telemetry.
#[must_use]
pub fn read() -> Telemetry {
    let mut t = Telemetry {
        uptime_s: System::uptime().unwrap_or(0),
        load_milli: 0,
        memory_used_kib: 0,
        memory_total_kib: 0,
        agent_memory_kib: resident_kib().unwrap_or(0),
        data_used_kib: 0,
        data_total_kib: 0,
    };
    if let Ok(load) = System::load_average() {
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let milli = (load.one * 1000.0).max(0.0) as u64;
        t.load_milli = milli;
    }
    if let Ok(mut system) = System::new() {
        system.refresh_memory();
        t.memory_used_kib = system.used_memory() / 1024;
        t.memory_total_kib = system.total_memory() / 1024;
    }
    if let Ok(disks) = Disks::new_with_refreshed_list()
        && let Some(data) = disks.iter().find(|d| d.mount_point() == Path::new("/data"))
    {
        t.data_total_kib = data.total_space() / 1024;
        t.data_used_kib = data.total_space().saturating_sub(data.available_space()) / 1024;
    }
    t
}

/// `VmRSS` of proc_pid_status(5).
fn resident_kib() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:"))?;
    line.trim().trim_end_matches(" kB").parse().ok()
}
