//! The console of the device.

use std::fs;

/// Writes a line to the console.
pub fn say(line: &str) {
    // A failing console must not stop the agent.
    fs::write("/dev/console", format!("{line}\r\n")).ok();
}
