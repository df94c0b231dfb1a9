//! What real firmware boots and refuses with each device's Secure Boot keys. Where possible, the
//! machines stop at systemd-boot, after seconds.

use crate::qemu::Tree;
use crate::scenario::Scenario;
use crate::vm::Vm;
use crate::world::{BOOT, FLEET, Folders, SOON, World};
use anyhow::{Context, Result, bail, ensure};
use base64::Engine;
use fleeti_build::cache::Cache;
use fleeti_build::disk::Esp;
use fleeti_core::attestation::Level;
use fleeti_core::id::{DeviceId, ReleaseName};
use fleeti_core::wire::api::Provisioned;
use fleeti_core::wire::attestation::FRESH_S;
use fleeti_pki::pe;
use std::fs;
use std::time::Duration;

/// systemd-boot prints this for an image that the firmware refuses.
const REFUSED: &str = "ccess denied";
/// The stub passes it to user space and measures it into PCR 12 (systemd-stub(7)).
const CREDENTIAL: &str = "loader/credentials/attacker.cred";
/// An addon: if the firmware loads it, the stub appends its command line to the kernel's and
/// measures it into PCR 12.
const ADDON: &str = "loader/addons/attacker.addon.efi";
/// Keys that systemd-boot enrolls when the firmware has none.
const KEYS: &str = "loader/keys/auto";
const PK: &str = "loader/keys/auto/PK.auth";

/// An unsigned addon (systemd-stub(7)) with another kernel command line.
fn addon(cache: &Cache) -> Result<Vec<u8>> {
    let stub = Tree::boot(cache)?.root().join("usr/lib/systemd/boot/efi/addonx64.efi.stub");
    let stub = fs::read(&stub).with_context(|| stub.display().to_string())?;
    Ok(pe::with_section(&stub, ".cmdline", b"attacker.was.here=1\0")?)
}

/// Begins a new epoch of db on the running device, and forbids one release that is not in `kept`,
/// if there is one.
///
/// # Errors
/// If a check fails.
pub fn rotate(
    world: &mut World,
    scenario: &mut Scenario,
    device: &DeviceId,
    kept: &[ReleaseName],
) -> Result<()> {
    let id = device.as_str();
    let changed = |world: &World, epoch| {
        world.device_with(SOON, device, |d| {
            d.secure_boot
                .as_ref()
                .is_some_and(|s| s.epoch == epoch && !s.change_pending && s.problem.is_none())
        })
    };
    scenario.step(
        "a new epoch of db: the device replaces the signature of its release and trusts both keys",
        |e| {
            e.push(world.fleeti(&["device", "boot-keys", id, "begin-epoch"])?);
            e.push(world.console("fleeti: secure boot change=1 made", SOON)?);
            let boot = changed(world, 2)?.boot.and_then(|b| b.firmware).context("no variables")?;
            e.push(format!("db holds {} keys", boot.db.len()));
            ensure!(boot.db.len() == 2, "db holds {} keys", boot.db.len());
            Ok(())
        },
    )?;
    scenario.step("the device refuses the end of the old epoch while its other slot needs it, and applies it with --may-end-fallback", |e| {
        world.fleeti(&["device", "boot-keys", id, "end-epoch"])?;
        let refused = |d: &fleeti_core::wire::api::Device| d.secure_boot.as_ref().and_then(|s| s.refused.clone());
        let waiting = world.device_with(SOON, device, |d| refused(d).is_some())?;
        let why = refused(&waiting).unwrap_or_default();
        ensure!(why.contains("keeps the fallback"), "it was refused for another reason: {why}");
        e.push(why);
        e.push(world.fleeti(&["device", "boot-keys", id, "end-epoch", "--may-end-fallback"])?);
        e.push(world.console("fleeti: secure boot change=3 made", SOON)?);
        changed(world, 2).map(drop)
    })?;
    // Not the first release, which must be refused for its key only.
    let Some(bad) = world.releases()?.into_iter().find(|r| !kept.contains(r)) else {
        return Ok(());
    };
    scenario.step(
        &format!(
            "{bad} is forbidden at once: the firmware accepts the addition to dbx, signed by KEK"
        ),
        |e| {
            e.push(world.fleeti(&[
                "device",
                "boot-keys",
                id,
                "forbid",
                "--release",
                &bad.to_string(),
            ])?);
            e.push(world.console("fleeti: secure boot change=4 made", SOON)?);
            let boot = changed(world, 2)?.boot.and_then(|b| b.firmware).context("no variables")?;
            ensure!(boot.dbx.len() == 1, "dbx holds {:?}", boot.dbx);
            e.push(format!("dbx holds {}", boot.dbx[0]));
            Ok(())
        },
    )
}

/// Checks what an attacker with the disk of the device, which runs `release`, can pass to the
/// kernel, and how the level changes while the device is off. Afterwards an unsigned addon is
/// on its ESP.
///
/// # Errors
/// If a check fails.
pub fn pass(
    world: &mut World,
    scenario: &mut Scenario,
    cache: &Cache,
    device: &DeviceId,
    release: &str,
) -> Result<()> {
    scenario.step("with a credential on the ESP, which firmware does not verify, the TPM does not open the data partition", |e| {
        world.power_off();
        Esp::open(&world.path("device/disk.raw"))?.write(CREDENTIAL, b"chosen by an attacker with the disk")?;
        world.power_on_again()?;
        e.push(world.console("the TPM does not open the data partition", BOOT)?);
        Ok(())
    })?;
    scenario.step(
        "it is offline for longer than its evidence is valid: its level falls to L1, the token",
        |e| {
            world.power_off();
            let before = world.level(device)?;
            world.restart_server_later(FRESH_S + 60)?;
            let after = world.level(device)?;
            world.restart_server_later(0)?;
            ensure!(
                before == (Level::VerifiedBoot, true) && after == (Level::Token, false),
                "{before:?}, then {after:?}"
            );
            ensure!(world.level(device)? == before, "the server lost its state when it was killed");
            e.push(format!(
                "{} at first, {} with a clock one hour ahead",
                before.0.code(),
                after.0.code()
            ));
            Ok(())
        },
    )?;
    let title = format!(
        "after a power cut, with an unsigned addon instead, {release} boots with the new key and without the addon"
    );
    scenario.step(&title, |e| {
        world.power_off();
        let esp = Esp::open(&world.path("device/disk.raw"))?;
        esp.remove(CREDENTIAL)?;
        esp.write(ADDON, &addon(cache)?)?;
        drop(esp);
        let before = world.evidence(device)?;
        world.power_on_again()?;
        e.push(world.console("fleeti: boot image=", BOOT)?);
        let d = world.device_with(BOOT, device, |d| d.online)?;
        let boot = d.boot.context("the device has not reported")?;
        ensure!(boot.running.to_string() == release && boot.secure_boot, "{boot:?}");
        e.push(world.proves_anew(device, &before, Level::VerifiedBoot)?);
        Ok(())
    })
}

/// Runs the scenario. The device is off afterwards.
///
/// # Errors
/// If its TPM does not show that its firmware verified nothing.
pub fn switch_off(world: &mut World, scenario: &mut Scenario, device: &DeviceId) -> Result<()> {
    let (own, kept) = (world.path("device/vars.fd"), world.path("device/vars-own.fd"));
    scenario.step("an attacker clears its firmware variables, and the addon is loaded: the TPM does not open the data partition", |e| {
        world.power_off();
        fs::rename(&own, &kept)?;
        let esp = Esp::open(&world.path("device/disk.raw"))?;
        for name in esp.list(KEYS)? {
            esp.remove(&format!("{KEYS}/{name}"))?;
        }
        drop(esp);
        world.power_on_again()?;
        e.push(world.console("the TPM does not open the data partition", BOOT)?);
        Ok(())
    })?;
    scenario.step(
        "without the addon the same release boots, and its TPM proves that nothing verified it",
        |e| {
            world.power_off();
            Esp::open(&world.path("device/disk.raw"))?.remove(ADDON)?;
            world.power_on_again()?;
            e.push(world.console("fleeti: boot image=", BOOT)?);
            e.push(world.check_attestation_failure(device, "secure-boot-off")?);
            world.power_off();
            Ok(fs::rename(&kept, &own)?)
        },
    )
}

/// Runs the scenario. The device is off afterwards.
///
/// # Errors
/// If the firmware boots what it should refuse.
pub fn refusals(
    world: &mut World,
    scenario: &mut Scenario,
    cache: &Cache,
    line: &str,
    running: &Folders,
) -> Result<()> {
    scenario.step(&format!("{line}@1, signed with the old key only, no longer boots"), |e| {
        world.power_off();
        let disk = world.path("device/disk.raw");
        let esp = Esp::open(&disk)?;
        let mut left = 0;
        for name in esp.list("EFI/Linux")? {
            if name.starts_with(&format!("{line}_1")) {
                left += 1;
            } else {
                esp.remove(&format!("EFI/Linux/{name}"))?;
            }
        }
        drop(esp);
        ensure!(left == 1, "{left} images of {line}@1 are on the ESP");
        e.push(refused(&world.start(cache, "device")?.0)?);
        Ok(())
    })?;
    let other = scenario.step(
        "a second device with half-enrolled keys is detected and not trusted",
        |e| {
            let other = world.provision("other", &running.build, &running.release)?;
            let disk = world.path("other/disk.raw");
            let bundle: Provisioned =
                serde_json::from_slice(&fs::read(world.path("other/bundle.json"))?)?;
            let pk = base64::engine::general_purpose::STANDARD.decode(&bundle.writes[2].auth)?;
            Esp::open(&disk)?.write(PK, &in_content_info(&pk)?)?;
            let (vm, _) = world.start(cache, "other")?;
            e.push(vm.wait_for("fleeti: device ", 0, BOOT)?.1);
            let problem = |d: &fleeti_core::wire::api::Device| {
                d.secure_boot.as_ref().and_then(|s| s.problem.clone())
            };
            let device = world.device_with(SOON, &other, |d| problem(d).is_some())?;
            let why = problem(&device).unwrap_or_default();
            ensure!(why.contains("setup mode"), "the problem is {why}");
            e.push(why);
            // Variables were written in this boot, and firmware measures them after its separator.
            e.push(world.check_attestation_failure(&other, "log-policy")?);
            drop(vm);
            fs::remove_file(world.path("other/vars.fd"))?;
            Esp::open(&disk)?.write(PK, &pk)?;
            Ok(other)
        },
    )?;
    scenario.step("the UKI of the first device does not boot on the second one", |e| {
        let bundle: Provisioned =
            serde_json::from_slice(&fs::read(world.path("device/bundle.json"))?)?;
        let release = bundle.release.context("the bundle names no release")?;
        let path = format!("raw/{}_{}.efi", release.line, release.version);
        let signature = bundle.signatures.binaries.get(&path).context("no signature")?;
        let body = fs::read(world.path("releases").join(release.version.as_str()).join(&path))?;
        let foreign = fleeti_pki::authenticode::attach(
            &body,
            &base64::engine::general_purpose::STANDARD.decode(signature)?,
        )?;
        let esp = Esp::open(&world.path("other/disk.raw"))?;
        for name in esp.list("EFI/Linux")? {
            esp.remove(&format!("EFI/Linux/{name}"))?;
        }
        esp.write(&format!("EFI/Linux/{}_{}.efi", release.line, release.version), &foreign)?;
        drop(esp);
        let (vm, _) = world.start(cache, "other")?;
        e.push(vm.wait_for("nrolled", 0, BOOT)?.1);
        e.push(refused(&vm)?);
        e.push(format!("{other} is in the fleet {FLEET} and has its own keys"));
        Ok(())
    })
}

fn refused(vm: &Vm) -> Result<String> {
    let (_, said) = vm.wait_for(REFUSED, 0, BOOT)?;
    if vm.wait_for("Linux version", 0, Duration::from_secs(1)).is_ok() {
        bail!("a kernel started");
    }
    Ok(said)
}

/// The same write with an outer ContentInfo, which this firmware accepts for db and KEK but refuses
/// for PK.
fn in_content_info(auth: &[u8]) -> Result<Vec<u8>> {
    let length = auth
        .get(16..20)
        .and_then(|b| b.try_into().ok())
        .map(u32::from_le_bytes)
        .context("no .auth file")? as usize;
    let signed = &auth[40..16 + length];
    let mut info = vec![0x30, 0x82];
    info.extend(u16::try_from(signed.len() + 15)?.to_be_bytes());
    info.extend([0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07, 0x02, 0xa0, 0x82]);
    info.extend(u16::try_from(signed.len())?.to_be_bytes());
    info.extend(signed);
    let mut wrapped = auth[..40].to_vec();
    wrapped[16..20].copy_from_slice(&u32::try_from(24 + info.len())?.to_le_bytes());
    wrapped.extend(info);
    wrapped.extend(&auth[16 + length..]);
    Ok(wrapped)
}
