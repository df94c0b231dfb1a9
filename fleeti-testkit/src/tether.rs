//! Processes that do not outlive a test.

use std::process::Command;

/// A command that ends with this process, however this process ends.
pub(crate) fn tethered(program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "--"]).arg(program);
    command
}
