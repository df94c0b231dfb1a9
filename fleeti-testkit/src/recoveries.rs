//! The recoveries that docs/guides promise, on devices with old state: none needs a visit.

use crate::forwarder::Forwarder;
use crate::qemu::Tree;
use crate::scenario::Scenario;
use crate::vault::data_partition;
use crate::vm::{Board, HOST, Parts, SECOND_HOST};
use crate::world::{BOOT, Provisioning, Record, SOON, World, copy_folder};
use anyhow::{Context, Result, ensure};
use fleeti_build::cache::Cache;
use fleeti_core::attestation::Level;
use fleeti_core::id::DeviceId;
use fleeti_core::profile::Profile;
use fleeti_core::wire::api::Device;
use std::fs;
use std::io::{Read, Seek, SeekFrom, Write};
use std::net::TcpListener;
use std::path::Path;

/// The fleet of the device that is stored powered off.
const DRAWER: &str = "drawer";
const OPERATORS: [&str; 2] = ["alice", "bob"];
const TWO_YEARS_S: u64 = 2 * 365 * 86_400;
/// Both the current and the next host name lead to this host.
const PARTS: Parts =
    Parts { clock: None, no_tpm: false, board: Board::Virtio, second_network: true };
/// Entries of the audit log that a device learns of before a backup is restored; afterwards there
/// are more.
const ENTRIES: [usize; 2] = [2, 12];

/// Runs the whole scenario. The machines are off afterwards.
///
/// # Errors
/// If a device does not recover.
pub fn run(
    world: &mut World,
    scenario: &mut Scenario,
    cache: &Cache,
    profile: &Profile,
) -> Result<()> {
    let line = profile.name.to_string();
    let (build, release) = scenario.step(&format!("build, sign and publish {line}@1"), |_| {
        let build = world.build(profile.clone(), "1")?;
        let release = world.release(&build, "1")?;
        Ok((build, release))
    })?;
    let drawer = scenario.step(
        "a device without a TPM enrolls and is stored powered off; it has lost update.json",
        |e| {
            let drawer = world.provision_by(&Provisioning {
                fleet: DRAWER,
                name: DRAWER,
                build: &build,
                release: &release,
                record: Record::OnEsp,
            })?;
            let (vm, _) = world.start_with(cache, DRAWER, None, Parts { no_tpm: true, ..PARTS })?;
            e.push(vm.wait_for("fleeti: device ", 0, BOOT)?.1);
            let device = world.device_with(SOON, &drawer, |d| d.online && d.boot.is_some())?;
            ensure!(
                device.boot.and_then(|b| b.sealed_data) != Some(true),
                "its data partition is sealed"
            );
            // It writes its update state before it reports.
            drop(vm);
            lose(world, cache, DRAWER, "/fleeti/agent/update.json")?;
            Ok(drawer)
        },
    )?;
    let device = scenario.step("another device, with a TPM, enrolls and stays connected", |e| {
        world.provision("device", &build, &release)?;
        world.power_on_with(PARTS)?;
        e.push(world.console("fleeti: device ", BOOT)?);
        let found = world
            .device_with(BOOT, &world.provisioned("device")?, |d| d.online && d.boot.is_some())?;
        ensure!(
            found.boot.and_then(|b| b.sealed_data) == Some(true),
            "its data partition is not sealed"
        );
        Ok(found.id)
    })?;
    let old = world.ports().context("the server has no address")?[0].clone();
    restored(world, scenario, &device)?;
    new_log(world, scenario, &device)?;
    new_keys(world, scenario, &device)?;
    let name = format!("{line}@2");
    scenario.step(
        &format!("{name}, signed with the new keys only, is installed, and the device proves it"),
        |e| {
            let build = world
                .build(Profile { description: "by new keys".into(), ..profile.clone() }, "2")?;
            world.release(&build, "2")?;
            e.push(world.roll_out(&name)?);
            runs(world, &device, &name)?;
            e.extend(world.check_attestation(&device, &name, Level::VerifiedBoot)?);
            Ok(())
        },
    )?;
    for clock in ["1970-01-01", "2040-01-01"] {
        scenario.step(&format!("it is powered on with a clock of {clock}, and connects"), |e| {
            world.power_off();
            world.power_on_with(Parts { clock: Some(clock), ..PARTS })?;
            e.push(world.console("fleeti: device ", BOOT)?);
            e.push(format!("{} was applied", world.command(&device)?));
            let [_, mqtt] = world.ports().context("the server has no address")?;
            ensure!(is_connected(mqtt)?, "it is not connected to {mqtt}");
            quiet(world, &device)
        })?;
    }
    let stored = StoredDevice { id: &drawer, server: &old, release: &name };
    after_two_years(world, scenario, cache, &stored)
}

/// Restores server and signing service from a backup that is older than what the device has seen.
///
/// # Errors
/// If the device does not notice, or does not recover.
pub fn restored(world: &mut World, scenario: &mut Scenario, device: &DeviceId) -> Result<()> {
    scenario.step("server and signing service are restored from an older backup: an alarm, until release keys sign a log reset", |e| {
        let (database, log) = (world.path("server"), world.path("signer/audit"));
        let kept = [world.path("backup/database"), world.path("backup/audit")];
        world.stop_server();
        copy_database(&database, &kept[0])?;
        copy_folder(&log, &kept[1])?;
        world.start_server()?;
        let hear_of = |world: &mut World, entries: usize| {
            for _ in 0..entries {
                world.enrollment_record()?;
            }
            // On reconnect, the device learns the size of the log.
            world.stop_server();
            let from = world.console_lines()?;
            world.start_server()?;
            anyhow::Ok(from)
        };
        let from = hear_of(world, ENTRIES[0])?;
        // A device that has not seen the first history does not notice the second.
        world.said_since(from, "fleeti: the audit log has ", SOON)?;
        world.stop_server();
        fs::remove_dir_all(&log)?;
        copy_folder(&kept[1], &log)?;
        copy_database(&kept[0], &database)?;
        world.start_server()?;
        hear_of(world, ENTRIES[1])?;
        let alarm = world.device_with(SOON, device, |d| d.alarm.is_some())?.alarm.unwrap_or_default();
        ensure!(alarm.contains("the audit log had"), "the alarm is {alarm}");
        e.push(alarm);
        let [log, checkpoint] = ["public/audit.pub", "signer/audit/checkpoint"].map(|name| text(world, name));
        publish(world, "log-reset", &["--log", &log, "--checkpoint", &checkpoint], "public/release.pem", "pki/offline/release.key")?;
        world.device_with(SOON, device, |d| d.alarm.is_none())?;
        e.push("the alarm is cleared".into());
        Ok(())
    })
}

/// Starts a new audit log with a new key, and publishes a transition to it.
///
/// # Errors
/// If the device does not recover. Its next update shows that it trusts the new log.
pub fn new_log(world: &mut World, scenario: &mut Scenario, device: &DeviceId) -> Result<()> {
    scenario.step(
        "the key of the audit log is lost: a new log begins, with a transition signed by release keys",
        |e| {
            world.fleeti(&["pki", "init", &text(world, "spare")])?;
            fs::copy(world.path("public/audit.pub"), world.path("audit-before.pub"))?;
            world.stop_server();
            fs::rename(world.path("signer/audit"), world.path("audit-before"))?;
            fs::copy(
                world.path("spare/online/audit.key"),
                world.path("signer/pki/online/audit.key"),
            )?;
            for public in ["signer/pki/public", "server/pki/public", "public"] {
                fs::copy(
                    world.path("spare/public/audit.pub"),
                    world.path(public).join("audit.pub"),
                )?;
            }
            world.start_server()?;
            let [from, to] = ["audit-before.pub", "public/audit.pub"].map(|name| text(world, name));
            publish(
                world,
                "log-key",
                &["--from", &from, "--to", &to],
                "public/release.pem",
                "pki/offline/release.key",
            )?;
            world.device_with(SOON, device, |d| d.online)?;
            e.push(format!("{} was applied", world.command(device)?));
            quiet(world, device)
        },
    )
}

/// The signing service's disk and all offline keys are lost, but the shares of the root CA, one
/// release key and the copy of `boot-wrap.key` remain. Root CA and release keys are rotated twice,
/// and the server is renamed and moves.
fn new_keys(world: &mut World, scenario: &mut Scenario, device: &DeviceId) -> Result<()> {
    let moved = free_ports()?;
    renamed(world, scenario, device, moved)?;
    scenario.step("transitions lead to two new roots, two sets of release keys, a new key of SHA256SUMS and another server name", |e| {
        roots(world)?;
        let [old, middle, next] = ["public/release.pem", "middle.pem", "next/public/release.pem"].map(|name| text(world, name));
        world.fleeti(&["pki", "release-key", &text(world, "middle.key")])?;
        let (first, second) = ("pki/offline/release.key", "middle.key");
        let [https, mqtt] = world.ports().context("the server has no address")?.clone().map(|a| a.rsplit(':').next().map(str::to_owned));
        let (https, _) = https.zip(mqtt).context("the server has no address")?;
        let from = format!("https://{HOST}:{https}");
        let [to, to_mqtt] = [format!("https://{SECOND_HOST}:{}", moved[0]), format!("{SECOND_HOST}:{}", moved[1])];
        let [log, next_log, keyring] =
            ["public/audit.pub", "next/public/audit.pub", "next/public/openpgp.gpg"].map(|name| text(world, name));
        publish(world, "log-key", &["--from", &log, "--to", &next_log], "public/release.pem", first)?;
        let known = text(world, "public/openpgp.gpg");
        publish(world, "openpgp-keys", &["--from", &known, "--to", &keyring], "public/release.pem", first)?;
        publish(world, "release-keys", &["--from", &old, "--to", &middle], "", first)?;
        publish(world, "release-keys", &["--from", &middle, "--to", &next], "", second)?;
        // Last, because the device moves to the new address.
        publish(world, "server", &["--from", &from, "--to", &to, "--mqtt", &to_mqtt], "public/release.pem", first)?;
        e.push(world.console(&format!("at {to}"), SOON)?);
        Ok(())
    })?;
    scenario.step(
        "the server runs under the new name only, with new keys and the copy of boot-wrap.key",
        |e| {
            world.stop_server();
            fs::rename(world.path("signer"), world.path("signer-before"))?;
            fs::rename(world.path("pki"), world.path("pki-before"))?;
            fs::rename(world.path("next"), world.path("pki"))?;
            copy_folder(&world.path("pki/online"), &world.path("signer/pki/online"))?;
            fs::copy(
                world.path("pki-before/offline/boot-wrap.key"),
                world.path("signer/pki/online/boot-wrap.key"),
            )?;
            for public in ["signer/pki/public", "server/pki/public", "public"] {
                copy_folder(&world.path("pki/public"), &world.path(public))?;
            }
            world.set_address(SECOND_HOST, at(moved));
            e.push(world.start_server()?);
            e.push(world.fleeti(&["pki", "bundle", "publish", &text(world, "root-3")])?);
            world.device_with(BOOT, device, |d| d.online)?;
            e.push(format!("{} was applied", world.command(device)?));
            quiet(world, device)
        },
    )
}

/// The server is renamed without a transition, and the old address forwards devices to it: they
/// refuse it.
fn renamed(
    world: &mut World,
    scenario: &mut Scenario,
    device: &DeviceId,
    moved: [u16; 2],
) -> Result<()> {
    scenario.step("a server renamed without a transition is refused by a device that is forwarded to it", |e| {
        let old = world.ports().context("the server has no address")?.clone();
        world.stop_server();
        world.set_address(SECOND_HOST, at(moved));
        world.start_server()?;
        let new = at(moved);
        let mut forwarders = world
            .runtime
            .block_on(async { anyhow::Ok([Forwarder::start(&old[0], &new[0]).await?, Forwarder::start(&old[1], &new[1]).await?]) })?;
        // Connections to HTTPS and MQTT.
        for forwarder in &mut forwarders {
            world.runtime.block_on(forwarder.is_refused(SOON))?;
        }
        ensure!(!world.device_with(SOON, device, |_| true)?.online, "it is online");
        e.push(format!("it ends the handshake at {HOST} with an alert: the certificate is for {SECOND_HOST}"));
        world.runtime.block_on(async {
            for forwarder in forwarders {
                forwarder.stop().await;
            }
        });
        world.stop_server();
        world.set_address(HOST, old);
        world.start_server()?;
        world.device_with(BOOT, device, |d| d.online)?;
        quiet(world, device)
    })
}

/// `root-1` adopts the existing root and introduces `root-2`, which introduces `root-3`; the
/// certificates of `root-3` are in `next`.
fn roots(world: &World) -> Result<()> {
    let (pki, passphrases) = (text(world, "pki"), text(world, "passphrases"));
    fs::create_dir(world.path("passphrases"))?;
    for operator in OPERATORS {
        fs::write(
            world.path("passphrases").join(operator),
            hex::encode(rand::random::<[u8; 16]>()),
        )?;
    }
    let opened = |root: &str| {
        let shares = OPERATORS
            .map(|o| format!("--share={}", text(world, &format!("{root}/shares/{o}.share"))));
        [&shares[..], &[format!("--passphrases={passphrases}")]].concat()
    };
    let ceremony = |command: &[&str], more: &[String]| {
        let all: Vec<&str> = ["pki"]
            .into_iter()
            .chain(command.iter().copied())
            .chain(more.iter().map(String::as_str))
            .collect();
        world.fleeti(&all)
    };
    for name in ["root-1", "root-2", "root-3"] {
        let operators = OPERATORS.map(|o| format!("--operator={o}"));
        let adopt = if name == "root-1" { vec![format!("--adopt={pki}")] } else { vec![] };
        let more = [
            &operators[..],
            &["--threshold=2".into(), format!("--passphrases={passphrases}")],
            &adopt,
        ]
        .concat();
        ceremony(&["root", "create", &text(world, name)], &more)?;
    }
    for (from, to) in [("root-1", "root-2"), ("root-2", "root-3")] {
        let (next, out) =
            (text(world, &format!("{to}/root.pem")), text(world, &format!("{to}.json")));
        ceremony(
            &["transition", "root", &text(world, from), "--to", &next, "--out", &out],
            &opened(from),
        )?;
        world.fleeti(&["pki", "transition", "publish", &out])?;
    }
    ceremony(&["init", &text(world, "next"), "--root", &text(world, "root-3/root.pem")], &[])?;
    for purpose in ["device", "server", "operator"] {
        let [request, out] =
            [format!("next/requests/{purpose}-ca.csr"), format!("next/public/{purpose}-ca.pem")]
                .map(|n| text(world, &n));
        ceremony(
            &[
                "root",
                "sign",
                &text(world, "root-3"),
                &request,
                "--purpose",
                purpose,
                "--out",
                &out,
            ],
            &opened("root-3"),
        )?;
    }
    Ok(())
}

/// A device that was stored powered off.
struct StoredDevice<'a> {
    id: &'a DeviceId,
    /// The address of the server that it knows.
    server: &'a str,
    /// The release that its fleet gets meanwhile.
    release: &'a str,
}

fn after_two_years(
    world: &mut World,
    scenario: &mut Scenario,
    cache: &Cache,
    stored: &StoredDevice<'_>,
) -> Result<()> {
    let StoredDevice { id: drawer, server: old, release: name } = *stored;
    world.power_off();
    scenario.step("two years later the stored device is powered on, with a dead clock", |e| {
        let before = fs::read_to_string(world.path("server.log")).unwrap_or_default().len();
        world.restart_both_later(TWO_YEARS_S)?;
        // The previous address forwards devices; devices need not trust the forwarder.
        let new = world.ports().context("the server has no address")?[0].clone();
        let _forwarder = world.runtime.block_on(Forwarder::start(old, &new))?;
        let parts = Parts { clock: Some("1970-01-01"), no_tpm: true, ..PARTS };
        let (vm, _) = world.start_with(cache, DRAWER, None, parts)?;
        e.push(vm.wait_for("fleeti: device ", 0, BOOT)?.1);
        let said = world.fleeti(&[
            "device",
            "readmit",
            "--fleet",
            DRAWER,
            "--reason",
            "two years powered off",
        ])?;
        e.push(said);
        world.device_with(BOOT, drawer, |d| d.online).with_context(|| {
            let log = fs::read_to_string(world.path("server.log")).unwrap_or_default();
            log.get(before..)
                .unwrap_or_default()
                .lines()
                .rev()
                .take(12)
                .collect::<Vec<_>>()
                .join("\n")
        })?;
        e.push(world.fleeti(&[
            "rollout",
            "start",
            "--release",
            name,
            "--fleet",
            DRAWER,
            "--wait",
        ])?);
        runs(world, drawer, name)?;
        e.push(format!("{drawer} runs {name}"));
        Ok(())
    })
}

fn text(world: &World, name: &str) -> String {
    world.path(name).display().to_string()
}

/// Signs a transition with release keys and publishes it. `known` is the `release.pem` that devices
/// have, if the transition needs it.
fn publish(world: &World, kind: &str, what: &[&str], known: &str, key: &str) -> Result<()> {
    let out = text(world, &format!("{kind}-{}.json", hex::encode(rand::random::<[u8; 4]>())));
    let (key, known) = (
        text(world, key),
        if known.is_empty() {
            vec![]
        } else {
            vec![format!("--release-keys={}", text(world, known))]
        },
    );
    let mut all = vec!["pki", "transition", kind, "--key", &key, "--out", &out];
    all.extend(what);
    all.extend(known.iter().map(String::as_str));
    world.fleeti(&all)?;
    world.fleeti(&["pki", "transition", "publish", &out]).map(drop)
}

fn runs(world: &World, device: &DeviceId, name: &str) -> Result<Device> {
    world.device_with(BOOT, device, |d| {
        d.online && d.boot.as_ref().is_some_and(|b| b.running.to_string() == name)
    })
}

fn quiet(world: &World, device: &DeviceId) -> Result<()> {
    let alarm = world.device_with(SOON, device, |_| true)?.alarm;
    ensure!(alarm.is_none(), "it raises an alarm: {alarm:?}");
    Ok(())
}

/// Replaces SQLite's files in a folder with those of another folder.
fn copy_database(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for name in ["fleeti.db", "fleeti.db-wal", "fleeti.db-shm"] {
        fs::remove_file(to.join(name)).ok();
        if from.join(name).exists() {
            fs::copy(from.join(name), to.join(name))?;
        }
    }
    Ok(())
}

/// Whether a connection to this address is established (proc_pid_net(5), state 01).
fn is_connected(address: &str) -> Result<bool> {
    let port: u16 = address.rsplit(':').next().context("no port")?.parse()?;
    let local = format!("0100007F:{port:04X}");
    let connections = fs::read_to_string("/proc/net/tcp")?;
    Ok(connections.lines().any(|line| {
        let mut words = line.split_whitespace().skip(1);
        words.next() == Some(&*local) && words.nth(1) == Some("01")
    }))
}

fn free_ports() -> Result<[u16; 2]> {
    let listeners = [TcpListener::bind("127.0.0.1:0")?, TcpListener::bind("127.0.0.1:0")?];
    Ok([listeners[0].local_addr()?.port(), listeners[1].local_addr()?.port()])
}

/// The addresses of the device ports.
fn at(ports: [u16; 2]) -> [String; 2] {
    ports.map(|port| format!("127.0.0.1:{port}"))
}

/// Removes a file of the unsealed data partition of a machine that is off.
fn lose(world: &World, cache: &Cache, folder: &str, file: &str) -> Result<()> {
    let (tree, folder) = (Tree::disks(cache)?, world.path(folder));
    let disk = folder.join("disk.raw");
    let (start, size) = data_partition(&tree, &folder)?;
    let partition = folder.join("data.raw");
    {
        let mut from = fs::File::open(&disk)?;
        from.seek(SeekFrom::Start(start))?;
        std::io::copy(&mut from.take(size), &mut fs::File::create(&partition)?)?;
    }
    // The partition was not unmounted.
    let checked = tree.command("e2fsck", &[&folder]).args(["-p", "-f"]).arg(&partition).output()?;
    ensure!(
        checked.status.code().is_some_and(|code| code < 4),
        "e2fsck: {}",
        String::from_utf8_lossy(&checked.stdout)
    );
    let removed = tree
        .command("debugfs", &[&folder])
        .args(["-w", "-R", &format!("rm {file}")])
        .arg(&partition)
        .output()?;
    let said = String::from_utf8_lossy(&removed.stderr).into_owned();
    ensure!(removed.status.success() && !said.contains("not found"), "debugfs: {said}");
    let mut to = fs::OpenOptions::new().write(true).open(&disk)?;
    to.seek(SeekFrom::Start(start))?;
    std::io::copy(&mut fs::File::open(&partition)?, &mut to)?;
    to.flush()?;
    Ok(fs::remove_file(&partition)?)
}
