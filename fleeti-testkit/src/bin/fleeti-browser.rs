//! Tests the pages in Debian's Chromium, with the real server, a real build and a simulated device.
//!
//! `cargo xtask test` runs this; `--screenshots DIR` keeps the screenshots, and `--only NAME` runs
//! one of the scripts.

use anyhow::{Context, Result, ensure};
use clap::{Parser, ValueEnum};
use fleeti_agent::Paths;
use fleeti_build::cache::Cache;
use fleeti_pki::hierarchy::purpose;
use fleeti_pki::sealed;
use fleeti_pki::signer::SoftKey;
use fleeti_testkit::host::{Host, Setup};
use fleeti_testkit::synthetic;
use fleeti_testkit::world::{FLEET, World};
use std::fs;
use std::os::unix::fs::PermissionsExt;
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

/// A script in `browser/`, in the order in which they run.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Script {
    /// A passkey of a person.
    Passkeys,
    /// The main job: from a profile to a rollout.
    Pages,
    /// Tasks of an operator, with their clicks counted. They need the release of `Pages`.
    Tasks,
    /// The path of a newcomer through the editor of profiles.
    Editor,
    /// Every page, for accessibility. It needs what the others leave.
    Walk,
}

impl Script {
    fn file(self) -> &'static str {
        match self {
            Self::Passkeys => "passkeys.mjs",
            Self::Pages => "pages.mjs",
            Self::Editor => "editor.mjs",
            Self::Tasks => "tasks.mjs",
            Self::Walk => "walk.mjs",
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
    // Nothing listens there: the pages show e-mail that waits.
    let relay = ["--email-relay", "localhost:1", "--email-tls", "none"];
    world.options = [relay.as_slice(), &["--email-from", "fleeti@localhost"]].concat();
    world.make_keys()?;
    world.let_the_signer_release()?;
    world.start_server()?;
    // Now its port is known, and passkeys can be tied to it.
    world.restart_server_later(0)?;
    // What the pages queue is built by it.
    world.ensure_worker()?;
    power_on(&world, dir.path(), Device { name: "device", fleet: FLEET, is_healthy: true })?;
    for script in Script::value_variants() {
        if arguments.only.is_none_or(|only| only == *script) {
            prepare(*script, &world, dir.path())?;
            browse(*script, &world, &playwright, &screenshots)?;
        }
    }
    Ok(())
}

/// Makes what a script needs beside what the scripts before it leave.
fn prepare(script: Script, world: &World, dir: &Path) -> Result<()> {
    match script {
        Script::Passkeys | Script::Pages | Script::Editor => {}
        Script::Tasks => {
            // They follow the channel of their fleet to kiosk@1.
            for name in ["device-2", "device-3"] {
                power_on(world, dir, Device { name, fleet: FLEET, is_healthy: true })?;
            }
            publish(world, dir, "kiosk@2")?;
        }
        // It rolls back what it gets, of which there is an alert.
        Script::Walk => {
            power_on(world, dir, Device { name: "lobby", fleet: "lobby", is_healthy: false })?;
        }
    }
    Ok(())
}

/// A simulated device that runs kiosk@0.
struct Device {
    name: &'static str,
    fleet: &'static str,
    /// Whether the next version passes its health checks.
    is_healthy: bool,
}

/// Starts a device in its own thread, which ends with this process.
fn power_on(world: &World, dir: &Path, device: Device) -> Result<()> {
    let Device { name, fleet, is_healthy } = device;
    let (dir, record) = (dir.join(name), world.enrollment_record_of(fleet)?);
    let (public, running) = (world.path("public"), "kiosk@0".parse()?);
    let host = Host::new(Setup { dir: dir.clone(), public, running, record, is_healthy })?;
    // What the build writes into the image of a profile with a support key.
    let facts =
        serde_json::json!({"support_keys": [{"name": "helpdesk", "key": support_key(&dir)?}]});
    fs::write(Paths::below(&dir).lib.join("image.json"), facts.to_string())?;
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        match runtime.map(|r| r.block_on(host.run())) {
            Ok(Ok(())) => {}
            other => eprintln!("the device ended: {other:?}"),
        }
    });
    Ok(())
}

/// The public OpenPGP key of a helpdesk.
fn support_key(dir: &Path) -> Result<String> {
    let home = dir.join("helpdesk");
    fs::create_dir_all(&home)?;
    fs::set_permissions(&home, fs::Permissions::from_mode(0o700))?;
    let gpg = |arguments: &[&str]| -> Result<String> {
        let mut command = Command::new("gpg");
        command.arg("--homedir").arg(&home).args(["--batch", "--quiet", "--passphrase", ""]);
        let output = command.args(arguments).stdin(Stdio::null()).output().context("gpg")?;
        ensure!(output.status.success(), "gpg: {}", String::from_utf8_lossy(&output.stderr));
        Ok(String::from_utf8(output.stdout)?)
    };
    gpg(&["--quick-generate-key", "Helpdesk", "default", "default", "never"])?;
    gpg(&["--armor", "--export"])
}

/// Signs and publishes a release with dummy payloads.
fn publish(world: &World, dir: &Path, name: &str) -> Result<()> {
    let sealed = fs::read(world.path("pki/offline/release.key"))?;
    let passphrase = fs::read(world.path("passphrase"))?;
    let opened = sealed::open(&sealed, purpose::RELEASE, &passphrase)?;
    let release = dir.join("releases").join(name);
    synthetic::release(&release, &name.parse()?, &SoftKey::from_pkcs8_der(&opened)?, 1 << 16)?;
    world.fleeti(&["release", "publish", &release.display().to_string()])?;
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
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("../fleeti-server/src/access.rs"))
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
