//! The demo: all of Fleeti, with real components, on one machine.
//!
//! `cargo xtask demo` builds everything and runs it.

use anyhow::{Context, Result, bail, ensure};
use clap::Parser;
use fleeti_build::cache::Cache;
use fleeti_core::attestation::Level;
use fleeti_core::profile::{HealthCheck, Profile};
use fleeti_core::update::{RollbackReason, State};
use fleeti_core::wire::api::{Device, Provisioned};
use fleeti_core::wire::boot::{Slot, Verity};
use fleeti_testkit::bench::process::resident_kib;
use fleeti_testkit::scenario::Scenario;
use fleeti_testkit::world::{BOOT, FLEET, Folders, SOON, WORKER_TOKEN, World};
use fleeti_testkit::{adversary, boot_trials, firmware, hardware, recoveries, units};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// A secret of the fleet.
const GREETING: &str = "hello from the fleet\n";

#[derive(Parser)]
struct Arguments {
    /// Keep all files in this folder.
    #[arg(long)]
    dir: Option<PathBuf>,
    /// Exit with status 0 after the last step, instead of leaving server and device running.
    #[arg(long)]
    exit: bool,
    /// The profile of the device.
    #[arg(long, default_value = "examples/profiles/kiosk.toml")]
    profile: PathBuf,
    /// Between the two good releases, roll out an unhealthy release and one with a tampered root,
    /// and check that the device rolls back. Then restore the server from an older backup, and
    /// start a new audit log.
    #[arg(long)]
    refusals: bool,
    /// At the end, change the device's Secure Boot keys, and check what its firmware and the
    /// firmware of a second device refuse.
    #[arg(long)]
    firmware: bool,
    /// Run another scenario: two devices under an attacker's control send false evidence, also
    /// evidence by the other's TPM. Check which check rejects it.
    #[arg(long, conflicts_with_all = ["refusals", "firmware"])]
    adversary: bool,
    /// Run another scenario: install server, signing service and build worker from their packages in
    /// a virtual machine with systemd.
    #[arg(long, conflicts_with_all = ["refusals", "firmware", "adversary"], requires_all = ["exit", "packages"])]
    units: bool,
    /// Folder of the packages of `cargo xtask packages`; `cargo xtask demo --units` makes them.
    #[arg(long, requires = "units")]
    packages: Option<PathBuf>,
    /// Run another scenario: lose keys, backups, clocks, and the server's name and address, and
    /// check that devices recover without a visit.
    #[arg(long, conflicts_with_all = ["refusals", "firmware", "adversary", "units"])]
    recoveries: bool,
    /// Run another scenario: boot an image with the kernel for hardware of all kinds from disks on
    /// NVMe, SATA and USB.
    #[arg(long, conflicts_with_all = ["refusals", "firmware", "adversary", "units", "recoveries"])]
    hardware: bool,
    /// Run another scenario: change a secret without which the device does not reach its server,
    /// before, while and after the network changes, with power cuts.
    #[arg(long, conflicts_with_all = ["refusals", "firmware", "adversary", "units", "recoveries"])]
    boot_secrets: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let mut scenario = Scenario::begin();
    let temporary;
    let dir = match &arguments.dir {
        Some(dir) => dir.clone(),
        None => match tempfile::tempdir() {
            Ok(t) => {
                temporary = t;
                temporary.path().to_owned()
            }
            Err(e) => {
                eprintln!("error: {e}");
                return ExitCode::FAILURE;
            }
        },
    };
    let result = World::new(&dir).and_then(|mut world| {
        world.for_people = !arguments.exit;
        let result = play(&arguments, &mut world, &mut scenario);
        scenario.write(&world.path("demo.json"))?;
        result?;
        if !arguments.exit {
            println!(
                "\nOpen {} and sign in with the token in {}",
                world.api(),
                world.path("server/admin.token").display()
            );
            println!("The device is running; press Ctrl-C to stop it and the server.");
            world.wait();
        }
        Ok(())
    });
    match result {
        Ok(()) => {
            println!("\nall steps succeeded in {:.0} s", scenario.seconds());
            ExitCode::SUCCESS
        }
        Err(e) => {
            let hint = match &arguments.dir {
                Some(dir) => format!("all files are in {}", dir.display()),
                None => "all files are removed; use --dir DIR to keep them".to_owned(),
            };
            eprintln!("\nerror: {e:#}\nhint: {hint}");
            ExitCode::FAILURE
        }
    }
}

fn describe(d: &Device) -> Vec<String> {
    let Some(boot) = &d.boot else { return vec![] };
    vec![format!(
        "{} runs {} from slot {:?}, verity {:?}, Secure Boot {}",
        d.id,
        boot.running,
        boot.slot,
        boot.verity,
        if boot.secure_boot { "on" } else { "off" }
    )]
}

fn play(arguments: &Arguments, world: &mut World, scenario: &mut Scenario) -> Result<()> {
    let cache = Cache::discover()?;
    let text = fs::read_to_string(&arguments.profile)
        .with_context(|| arguments.profile.display().to_string())?;
    let profile = fleeti_core::profile::check(&text)
        .map_err(|f| anyhow::anyhow!("{}: {f:?}", arguments.profile.display()))?;
    let line = profile.name.to_string();

    scenario.step(
        "keys: offline root, intermediates, release, OpenPGP and Secure Boot keys",
        |e| {
            e.push(world.make_keys()?);
            Ok(())
        },
    )?;
    if let Some(packages) = &arguments.packages {
        return units::run(world, scenario, &cache, packages);
    }
    scenario.step(
        "server: API, device port and MQTT, with its keys in the signing service",
        |e| {
            e.push(world.start_server()?);
            Ok(())
        },
    )?;
    if let Some(device) = another(arguments, world, scenario, &cache, &profile)? {
        return look_back(world, scenario, device, &[]);
    }
    let device = boot_first(world, scenario, &cache, &profile)?;
    let shown = prove_and_seal(world, scenario, &cache, &device)?;
    let mut version = 2;
    if arguments.refusals {
        roll_back(world, scenario, &profile, version, &Fault::Unhealthy)?;
        roll_back(world, scenario, &profile, version + 1, &Fault::TamperedRoot)?;
        version += 2;
        recoveries::restored(world, scenario, &device.id)?;
        recoveries::new_log(world, scenario, &device.id)?;
    }
    let name = format!("{line}@{version}");
    let next = update(world, scenario, &profile, version, &device)?;
    replace_recovery_key(world, scenario, &cache, &device, &shown)?;
    require_boot_proof(world, scenario, &device, &name, &next.release)?;
    scenario.step("a command reaches the device once", |e| {
        let id = world.command(&device.id)?;
        e.push(format!("{id} was applied and acknowledged"));
        Ok(())
    })?;
    if arguments.firmware {
        let kept = [format!("{line}@1").parse()?, name.parse()?];
        firmware::rotate(world, scenario, &device.id, &kept)?;
    }
    small(world, scenario)?;
    if arguments.firmware {
        firmware::pass(world, scenario, &cache, &device.id, &name)?;
        firmware::switch_off(world, scenario, &device.id)?;
        firmware::refusals(world, scenario, &cache, &line, &next)?;
    }
    look_back(world, scenario, "device", &[("its recovery key", &shown.key)])
}

/// Runs another scenario, if one is wanted. Returns the folder of its device.
fn another(
    arguments: &Arguments,
    world: &mut World,
    scenario: &mut Scenario,
    cache: &Cache,
    profile: &Profile,
) -> Result<Option<&'static str>> {
    if arguments.adversary {
        scenario.step("set a secret for devices of the fleet that prove what they run", |e| {
            e.push(world.set_secret("greeting", GREETING)?);
            Ok(())
        })?;
        adversary::run(world, scenario, cache, &arguments.profile)?;
        return Ok(Some("adversary"));
    }
    if arguments.hardware {
        hardware::run(world, scenario, cache, profile)?;
        return Ok(Some("nvme"));
    }
    if arguments.recoveries {
        recoveries::run(world, scenario, cache, profile)?;
        return Ok(Some("device"));
    }
    if arguments.boot_secrets {
        boot_trials::run(world, scenario, profile)?;
        return Ok(Some("device"));
    }
    Ok(None)
}

/// Builds the first release, and makes a device that boots it and proves it.
fn boot_first(
    world: &mut World,
    scenario: &mut Scenario,
    cache: &Cache,
    profile: &Profile,
) -> Result<Device> {
    let line = &profile.name;
    let first =
        scenario.step(&format!("build {line}@1 with Nix on the server's build worker"), |e| {
            let build = world.build(profile.clone(), "1")?;
            e.push(format!("build.json in {}", build.display()));
            Ok(build)
        })?;
    let release =
        scenario.step(&format!("sign and publish {line}@1"), |_| world.release(&first, "1"))?;
    scenario.step("provision a device with its own Secure Boot keys, and power it on", |e| {
        e.push(world.power_on(cache, &first, &release)?);
        Ok(())
    })?;
    scenario.step("its firmware accepts the keys that systemd-boot enrolls", |e| {
        e.push(world.console("nrolled", BOOT)?);
        Ok(())
    })?;
    let device =
        scenario.step("the device boots under Secure Boot and dm-verity, and enrolls", |e| {
            e.push(world.console("fleeti: boot image=", BOOT)?);
            e.push(world.console("fleeti: device ", BOOT)?);
            let device = world.device(BOOT, |d| d.online && d.boot.is_some())?;
            fs::write(world.path("device/device.pem"), world.certificate(&device.id)?)?;
            e.extend(describe(&device));
            check_boot(&device, &format!("{line}@1"), Slot::A)?;
            e.push(world.check_pcr11(&device, &first)?);
            Ok(device)
        })?;
    scenario.step(
        "its TPM proves which release booted, and under which Secure Boot keys",
        |e| {
            e.extend(world.check_attestation(
                &device.id,
                &format!("{line}@1"),
                Level::VerifiedBoot,
            )?);
            e.push(world.check_predictions(&device.id, &first, &release)?);
            Ok(())
        },
    )?;
    Ok(device)
}

/// The fleet requires proof, and gives its secret for it. Returns the recovery key that was shown,
/// and the position in the console behind which a new one is reported.
fn prove_and_seal(
    world: &mut World,
    scenario: &mut Scenario,
    cache: &Cache,
    device: &Device,
) -> Result<ShownKey> {
    scenario.step(
        "the fleet requires its devices to prove what they run, before and after an update",
        |e| {
            let said =
                world.fleeti(&["attest", "policy", FLEET, "--update", "L4", "--success", "L4"])?;
            e.extend(said.lines().map(str::to_owned));
            Ok(())
        },
    )?;
    scenario.step(
        "the device gets the fleet's secret after its TPM has proved the required level",
        |e| {
            e.extend(world.give_secret("greeting", GREETING)?);
            Ok(())
        },
    )?;
    scenario.step("its data partition is sealed to its TPM; the recovery key of the server opens it on another machine", |e| {
            ensure!(device.boot.as_ref().and_then(|b| b.sealed_data) == Some(true), "the data partition is not sealed");
            let kept = world.recovery_key_is_kept(0)?;
            let key = world.recovery_key(&device.id)?;
            ensure!(world.opens_data(cache, "device", &key)?, "the recovery key does not open the data partition");
            ensure!(!world.opens_data(cache, "device", &key.replacen(&key[..1], "-", 1))?, "any key opens it");
            e.push("cryptsetup opens it with the recovery key only".into());
            Ok(ShownKey { key, kept })
        })
}

/// Builds the next release and rolls it out. Returns its build and its directory.
fn update(
    world: &mut World,
    scenario: &mut Scenario,
    profile: &Profile,
    version: u32,
    device: &Device,
) -> Result<Folders> {
    let (name, number) = (format!("{}@{version}", profile.name), version.to_string());
    let title = format!("build, sign and publish {name}: one changed file");
    let next = scenario.step(&title, |e| {
        let build = world.build(changed(profile, version), &number)?;
        let release = world.release(&build, &number)?;
        e.push(format!("build.json in {}", build.display()));
        Ok(Folders { build, release })
    })?;
    scenario.step(
        &format!("roll out {name} over MQTT; the device installs it with systemd-sysupdate"),
        |e| {
            e.push(world.roll_out(&name)?);
            e.push(world.console(&format!("fleeti: update staged version={number}"), SOON)?);
            e.push(world.console("fleeti: boot image=", SOON)?);
            Ok(())
        },
    )?;
    scenario.step(
        &format!(
            "the device runs {name} from the other slot, keeps it, and reports the predicted PCR 11"
        ),
        |e| {
            let d = world.device(SOON, |d| d.update == Some(State::Idle) && d.id == device.id)?;
            let slot = if device.boot.as_ref().is_some_and(|b| b.slot == Slot::A) {
                Slot::B
            } else {
                Slot::A
            };
            check_boot(&d, &name, slot)?;
            e.extend(describe(&d));
            e.push(world.check_pcr11(&d, &next.build)?);
            e.extend(world.check_attestation(&device.id, &name, Level::VerifiedBoot)?);
            Ok(())
        },
    )?;
    Ok(next)
}

/// A recovery key that was shown.
struct ShownKey {
    key: String,
    /// How many keys the server had stored by then.
    kept: usize,
}

/// A recovery key that was shown is replaced at the next boot.
fn replace_recovery_key(
    world: &mut World,
    scenario: &mut Scenario,
    cache: &Cache,
    device: &Device,
    shown: &ShownKey,
) -> Result<()> {
    scenario.step("after the update it gets the secret again, and the recovery key that was shown is replaced", |e| {
        // After a rollback, the new key was made in the boot of that release.
        world.recovery_key_is_kept(shown.kept)?;
        e.push(world.secret_has_come(GREETING)?);
        ensure!(!world.opens_data(cache, "device", &shown.key)?, "the recovery key that was shown still opens the data partition");
        let new = world.recovery_key(&device.id)?;
        ensure!(world.opens_data(cache, "device", &new)?, "the new recovery key does not open the data partition");
        e.push("a new one was made at the next boot, and the server has it".into());
        Ok(())
    })
}

/// Proves that a release boots, for a fleet that requires it.
fn require_boot_proof(
    world: &mut World,
    scenario: &mut Scenario,
    device: &Device,
    name: &str,
    release: &Path,
) -> Result<()> {
    let first = format!("{}@1", name.split('@').next().unwrap_or_default());
    scenario.step(
        &format!("{name} has a boot proof, and a fleet that requires one refuses other releases"),
        |e| {
            let production = ["attest", "policy", "production", "--proved-releases", "true"];
            e.extend(world.fleeti(&production)?.lines().last().map(str::to_owned));
            let start = |release: &str| {
                world.fleeti(&["rollout", "start", "--release", release, "--fleet", "production"])
            };
            let refused = |release: &str, word: &str| match start(release) {
                Ok(_) => bail!("{release} was rolled out"),
                Err(e) if e.to_string().contains(word) => Ok(e.to_string()),
                Err(e) => Err(e),
            };
            e.push(refused(name, "has no boot proof")?);
            let key = world.path("pki/offline/release.key").display().to_string();
            e.push(world.fleeti(&[
                "release",
                "prove",
                &release.display().to_string(),
                "--device",
                device.id.as_str(),
                "--key",
                &key,
            ])?);
            // The fleet has no devices, which is now the only error.
            refused(name, "no device")?;
            refused(&first, "has no boot proof").map(drop)
        },
    )
}

/// Checks at the end of a scenario; `others` are further secrets that must not appear.
fn look_back(
    world: &World,
    scenario: &mut Scenario,
    device: &str,
    others: &[(&str, &str)],
) -> Result<()> {
    scenario.step("no log and no database contains a token, passphrase or secret", |e| {
        let (admin, passphrase) = (
            fs::read_to_string(world.path("server/admin.token"))?,
            fs::read_to_string(world.path("passphrase"))?,
        );
        let bundle: Provisioned =
            serde_json::from_slice(&fs::read(world.path(device).join("bundle.json"))?)?;
        // If the server itself builds, there is no worker token.
        let worker = fs::read_to_string(world.path(WORKER_TOKEN)).ok();
        let mut secrets = vec![
            ("the administrator's token", admin.as_str()),
            ("the passphrase of the keys", &passphrase),
            ("the device's token", &bundle.record.token),
            ("the fleet's secret", GREETING),
        ];
        secrets.extend(worker.as_deref().map(|token| ("the worker's token", token)));
        secrets.extend(others);
        e.push(world.nothing_leaked(&secrets)?);
        Ok(())
    })?;
    scenario.step("the audit log is complete and unchanged", |e| {
        let key = world.path("public/audit.pub").display().to_string();
        e.push(world.fleeti(&["audit", "verify", "--key", &key])?);
        Ok(())
    })
}

fn small(world: &World, scenario: &mut Scenario) -> Result<()> {
    scenario.step("the agent and the server are small", |e| {
        let d =
            world.device(SOON, |d| d.telemetry.as_ref().is_some_and(|t| t.agent_memory_kib > 0))?;
        let (agent, server) =
            (d.telemetry.map_or(0, |t| t.agent_memory_kib), resident_kib(world.server_id()?)?);
        e.push(format!("agent {agent} KiB, server {server} KiB resident"));
        ensure!(agent < 20 * 1024, "the agent has {agent} KiB, expected less than 20 MiB");
        ensure!(server < 40.0 * 1024.0, "the server has {server} KiB, expected less than 40 MiB");
        Ok(())
    })
}

fn check_boot(device: &Device, release: &str, slot: Slot) -> Result<()> {
    let boot = device.boot.as_ref().context("the device has not reported")?;
    ensure!(boot.running.to_string() == release, "runs {}, not {release}", boot.running);
    ensure!(boot.slot == slot, "runs from slot {:?}, not {slot:?}", boot.slot);
    ensure!(boot.verity == Verity::Verified, "verity is {:?}", boot.verity);
    ensure!(boot.secure_boot, "Secure Boot is off");
    let keys =
        device.secure_boot.as_ref().context("the device has no Secure Boot keys of its own")?;
    ensure!(keys.problem.is_none(), "Secure Boot: {:?}", keys.problem);
    Ok(())
}

/// The profile with one changed file.
fn changed(profile: &Profile, version: u32) -> Profile {
    let mut profile = profile.clone();
    match profile.files.iter_mut().find(|f| f.path == "/etc/motd") {
        Some(file) => file.content.push_str(&format!("This is version {version}.\n")),
        None => profile.description = format!("version {version}"),
    }
    profile
}

enum Fault {
    Unhealthy,
    TamperedRoot,
}

/// Rolls out a faulty release, and checks that the device rolls back to the previous one and
/// reports the reason.
fn roll_back(
    world: &mut World,
    scenario: &mut Scenario,
    profile: &Profile,
    version: u32,
    fault: &Fault,
) -> Result<()> {
    let (what, number) = match fault {
        Fault::Unhealthy => ("an unhealthy release", version.to_string()),
        Fault::TamperedRoot => ("a release with a flipped byte in its root", version.to_string()),
    };
    let name = format!("{}@{number}", profile.name);
    scenario.step(&format!("roll out {name}, {what}: the device rolls back and reports why"), |e| {
        let mut profile = changed(profile, version);
        if matches!(fault, Fault::Unhealthy) {
            let check = HealthCheck::of_command("always fails", &["/usr/bin/false"], 10);
            profile.health_checks.push(check);
        }
        let build = world.build(profile, &number)?;
        if matches!(fault, Fault::TamperedRoot) {
            flip_a_byte(&build)?;
        }
        world.release(&build, &number)?;
        let refused = world.roll_out(&name);
        ensure!(refused.is_err(), "the rollout of {name} should have failed");
        let device = world.device(SOON, |d| matches!(d.update, Some(State::RolledBack { .. })))?;
        e.extend(describe(&device));
        let Some(State::RolledBack { target, reason }) = &device.update else { unreachable!("checked above") };
        ensure!(target.as_str() == number, "{target} was rolled back, not {number}");
        let right = match fault {
            Fault::Unhealthy => matches!(reason, RollbackReason::Health { evidence } if evidence.contains("always fails")),
            Fault::TamperedRoot => matches!(reason, RollbackReason::Verity { .. }),
        };
        e.push(format!("{reason:?}"));
        ensure!(right, "the reason is {reason:?}");
        check_boot(&device, &format!("{}@1", profile_name(&device)?), Slot::A)
    })
}

fn profile_name(device: &Device) -> Result<String> {
    Ok(device.boot.as_ref().context("the device has not reported")?.running.line.to_string())
}

/// Changes the root after it was hashed, and its record, so that all signatures are valid and only
/// dm-verity can detect it.
fn flip_a_byte(build: &Path) -> Result<()> {
    let root = build.join("root.erofs");
    let mut bytes = fs::read(&root)?;
    bytes[1024 + 64] ^= 1;
    fs::write(&root, &bytes)?;
    let record = build.join("build.json");
    let mut json: serde_json::Value = serde_json::from_slice(&fs::read(&record)?)?;
    json["files"]["root.erofs"]["sha256"] = fleeti_core::canonical::sha256_hex(&bytes).into();
    Ok(fs::write(&record, serde_json::to_vec_pretty(&json)?)?)
}
