//! Tests the pages in Debian's Chromium, with the real server, a real build and a simulated device.
//!
//! `cargo xtask test` runs this; `--screenshots DIR` keeps the screenshots, and `--only NAME` runs
//! one of the scripts.

use anyhow::{Context, Result, ensure};
use clap::{Parser, ValueEnum};
use fleeti_build::cache::Cache;
use fleeti_testkit::host::{Host, Setup};
use fleeti_testkit::world::World;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

#[derive(Parser)]
struct Arguments {
    /// Folder for screenshots.
    #[arg(long)]
    screenshots: Option<PathBuf>,
    /// The script; all of them by default.
    #[arg(long)]
    only: Option<Script>,
}

/// A script in `browser/`.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Script {
    /// A passkey of a person.
    Passkeys,
    /// Tasks of an operator, with their clicks counted. First, while a device is not revoked.
    Tasks,
    /// The main job: from a profile to a rollout.
    Pages,
    /// The path of a newcomer through the editor of profiles.
    Editor,
}

impl Script {
    fn file(self) -> &'static str {
        match self {
            Self::Passkeys => "passkeys.mjs",
            Self::Pages => "pages.mjs",
            Self::Editor => "editor.mjs",
            Self::Tasks => "tasks.mjs",
        }
    }
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("error: {e:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<()> {
    rustls::crypto::aws_lc_rs::default_provider().install_default().ok();
    let playwright = playwright(&Cache::discover()?)?;
    let dir = tempfile::tempdir()?;
    let screenshots =
        arguments.screenshots.clone().unwrap_or_else(|| dir.path().join("screenshots"));
    fs::create_dir_all(&screenshots)?;
    let mut world = World::new(&dir.path().join("world"))?;
    world.make_keys()?;
    world.let_the_signer_release()?;
    world.start_server()?;
    // Now its port is known, and passkeys can be tied to it.
    world.restart_server_later(0)?;
    // What the pages queue is built by it.
    world.ensure_worker()?;
    let record = world.enrollment_record()?;
    let setup = Setup {
        dir: dir.path().join("device"),
        public: world.path("public"),
        running: "kiosk@0".parse()?,
        record,
        is_healthy: true,
    };
    let host = Host::new(setup)?;
    // A device in its own thread, which ends with this process.
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        match runtime.map(|r| r.block_on(host.run())) {
            Ok(Ok(())) => {}
            other => eprintln!("the device ended: {other:?}"),
        }
    });
    for script in Script::value_variants() {
        if arguments.only.is_none_or(|only| only == *script) {
            browse(*script, &world, &playwright, &screenshots)?;
        }
    }
    Ok(())
}

/// Runs one script.
fn browse(script: Script, world: &World, playwright: &Path, screenshots: &Path) -> Result<()> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("browser").join(script.file());
    let status = Command::new("node")
        .arg(file)
        .args([
            world.api().as_ref(),
            world.path("server/admin.token").as_os_str(),
            playwright.as_os_str(),
            screenshots.as_os_str(),
        ])
        .arg(world.path("people"))
        .env("FLEETI_PROGRAM", std::env::current_exe()?.with_file_name("fleeti"))
        .env("FLEETI_SERVER", world.api())
        .env("FLEETI_TOKEN_FILE", world.path("server/admin.token"))
        .env("FLEETI_PASSPHRASE_FILE", world.path("passphrase"))
        .stdin(Stdio::null())
        .status()
        .context("node")?;
    ensure!(status.success(), "the browser test {} failed: {status}", script.file());
    Ok(())
}

/// Installs Playwright once, as its lock file says.
fn playwright(cache: &Cache) -> Result<PathBuf> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("browser");
    let lock = fs::read_to_string(source.join("package-lock.json"))?;
    let digest = fleeti_core::canonical::sha256_hex(lock.as_bytes());
    let target = cache.root().join("browser").join(&digest[..16]);
    if target.join("done").exists() {
        return Ok(target);
    }
    fs::create_dir_all(&target)?;
    for name in ["package.json", "package-lock.json"] {
        fs::copy(source.join(name), target.join(name))?;
    }
    let status = Command::new("npm")
        .args(["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"])
        .current_dir(&target)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .status()
        .context("npm")?;
    ensure!(status.success(), "npm ci: {status}");
    fs::write(target.join("done"), "")?;
    Ok(target)
}
