//! The clients: how long the list of a large fleet takes in Rust and in Python, and how long a
//! program in Python takes to begin.

use super::organisation::Organisation;
use super::{Record, Scale};
use anyhow::{Context, Result, ensure};
use fleeti_client::Client;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

/// Prints the number of devices, and the seconds that their list took.
const LIST: &str = "\
import time, fleeti
client = fleeti.Client.from_environment()
started = time.perf_counter()
count = sum(1 for device in client.devices.list() if device.id)
print(count, time.perf_counter() - started)
";
/// Prints the milliseconds of the import alone.
const IMPORT: &str = "\
import time
started = time.perf_counter()
import fleeti
print((time.perf_counter() - started) * 1e3)
";

/// Runs the scenario in a folder, with an interpreter that has the package.
///
/// # Errors
/// If the server does not start, or a list is not complete.
pub fn run(dir: &Path, python: Option<&Path>, scale: Scale) -> Result<Vec<Record>> {
    let python = python.context("pass --python: an interpreter with the package `fleeti`")?;
    let devices = scale.pick(100_000, 1_000);
    let mut organisation = Organisation::found(dir)?;
    organisation.add_rows("bench", 0..devices)?;
    organisation.start_server()?;
    let token_file = organisation.world.path("server/admin.token");
    let token = std::fs::read_to_string(&token_file)?;
    let client = Client::new(organisation.world.api(), token.trim())?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let started = Instant::now();
    let found = runtime.block_on(client.devices())?.len();
    let of_rust = started.elapsed().as_secs_f64();
    ensure!(found == devices, "the list has {found} devices");

    let said = output(
        Command::new(python)
            .args(["-c", LIST])
            .env("FLEETI_SERVER", organisation.world.api())
            .env("FLEETI_TOKEN_FILE", &token_file),
    )?;
    let (found, of_python) = said.split_once(' ').context("two numbers")?;
    ensure!(found.parse::<usize>()? == devices, "the list in Python has {found} devices");
    let mut imports = Vec::new();
    for _ in 0..scale.pick(20, 3) {
        imports.push(output(Command::new(python).args(["-c", IMPORT]))?.parse()?);
    }
    Ok(vec![
        Record::new("rust_list_100k_s", of_rust, "s", "fleeti"),
        Record::new("python_list_100k_s", of_python.parse()?, "s", "fleeti"),
        Record::new("import_ms", super::median("import fleeti", imports), "ms", "fleeti"),
    ])
}

fn output(command: &mut Command) -> Result<String> {
    let ran = command.output()?;
    ensure!(ran.status.success(), "Python: {}", String::from_utf8_lossy(&ran.stderr));
    Ok(String::from_utf8(ran.stdout)?.trim().to_owned())
}
