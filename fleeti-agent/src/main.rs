//! `fleeti-agent`: the daemon, its helper and the health checks of a device.

use std::process::ExitCode;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    fleeti_agent::program::main().await
}
