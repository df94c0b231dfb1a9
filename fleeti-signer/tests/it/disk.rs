//! A full disk: nothing is signed, no acknowledged entry is lost, and the log continues when there
//! is space again.

use crate::{World, device};
use fleeti_pki::audit::Entry;
use fleeti_signer::keys;
use fleeti_signer::lifetimes::DEVICE_S_MIN;
use fleeti_signer::limits::Limits;
use fleeti_signer::service::SigningService;
use fleeti_signer_client::handle::SignerError;
use fleeti_signer_client::wire::{Request, Response};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(at: &Path, mib: u32) -> Option<Self> {
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={mib}m"), "tmpfs"])
            .arg(at)
            .status();
        if mounted.is_ok_and(|s| s.success()) {
            return Some(Self(at.to_owned()));
        }
        eprintln!(
            "SKIPPED: a disk cannot be mounted here, so nothing was tested; run this as root"
        );
        None
    }
    /// Fills the disk except for this many MiB.
    fn fill_but(&self, mib: u64) {
        let free = fleeti_signer::disk::room(&self.0).unwrap().free_bytes;
        let filling = vec![7; usize::try_from(free - (mib << 20)).unwrap()];
        std::fs::write(self.0.join("filling"), filling).unwrap();
    }
    /// Fills the disk to the last byte.
    fn fill(&self) {
        let mut file = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.0.join("filling"))
            .unwrap();
        for size in [1 << 20, 4096, 1] {
            while file.write_all(&vec![7; size]).is_ok() {}
        }
    }
    fn make_room(&self) {
        std::fs::remove_file(self.0.join("filling")).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        Command::new("umount").arg("--lazy").arg(&self.0).status().ok();
    }
}

#[tokio::test]
async fn a_disk_that_fills_is_announced_while_certificates_are_still_signed() {
    let world = World::new();
    let audit = world.path("audit");
    std::fs::create_dir(&audit).unwrap();
    let Some(disk) = SmallDisk::mount(&audit, 64) else { return };
    let process = crate::process::start(&world).await;
    let signer = fleeti_signer_client::socket::connect(world.path("socket"));
    let warning = async || match signer.ask(Request::Health).await.unwrap() {
        Response::Health { room } => room.unwrap().warning(),
        other => panic!("{other:?}"),
    };
    assert_eq!(warning().await, None);
    disk.fill_but(5);
    assert!(warning().await.unwrap().contains("getting full"));
    assert!(signer.ask(device("dev-1", DEVICE_S_MIN)).await.is_ok());
    disk.make_room();
    assert_eq!(warning().await, None);
    // The process says it itself, at once.
    disk.fill_but(5);
    drop(process);
    let mut command = Command::new(env!("CARGO_BIN_EXE_fleeti-signer"));
    command.arg("--pki").arg(world.path("pki")).arg("--log").arg(&audit);
    command.arg("--socket").arg(world.path("socket")).stderr(Stdio::piped());
    let mut process = command.spawn().unwrap();
    let mut lines = BufReader::new(process.stderr.take().unwrap()).lines().map_while(Result::ok);
    let warned = lines.find(|line| line.contains("the disk of the audit log"));
    process.kill().unwrap();
    process.wait().unwrap();
    assert!(warned.unwrap().contains("getting full"));
}

#[tokio::test]
async fn a_full_disk_stops_signatures_until_there_is_room_and_loses_nothing() {
    let world = World::new();
    let audit = world.path("audit");
    std::fs::create_dir(&audit).unwrap();
    let Some(disk) = SmallDisk::mount(&audit, 48) else { return };
    let open = || {
        let keys = keys::open(&world.path("pki"), b"pass", None).unwrap();
        SigningService::open(keys, &audit, Limits::default()).unwrap()
    };
    let signer = fleeti_signer::embedded::start(open()).unwrap();
    let certify = |id: &str| signer.ask(device(id, DEVICE_S_MIN));
    assert!(certify("dev-1").await.is_ok());
    assert!(audit.join("reserve").exists(), "disk space is reserved");
    // The reserved space is used first.
    disk.fill();
    assert!(certify("dev-2").await.is_ok());
    assert!(!audit.join("reserve").exists());
    disk.fill();
    let mut acknowledged = vec!["dev-1".to_owned(), "dev-2".to_owned()];
    let mut refused = 0;
    for n in 3..40 {
        let id = format!("dev-{n}");
        match certify(&id).await {
            Ok(Response::Certificate { .. }) => acknowledged.push(id),
            Err(SignerError::Limited(reason)) => {
                assert!(reason.contains("audit log cannot be written"), "{reason}");
                refused += 1;
            }
            other => panic!("{other:?}"),
        }
    }
    assert!(refused > 0, "the disk was not full");
    // Requests that only read still work.
    assert!(signer.ask(Request::Issuers).await.is_ok());
    disk.make_room();
    for n in 40..45 {
        let id = format!("dev-{n}");
        assert!(certify(&id).await.is_ok(), "it continues by itself");
        acknowledged.push(id);
    }
    assert!(signer.ask(Request::Checkpoint).await.is_ok());
    drop(signer);
    let log = std::fs::read_to_string(audit.join("log")).unwrap();
    let entries: Vec<_> = log.lines().map(|line| Entry::parse(line.as_bytes()).unwrap()).collect();
    for id in acknowledged {
        assert!(entries.iter().any(|e| e.act.subject == id && e.act.sha256.is_some()), "{id}");
    }
    // Every line follows the one before it, and the log leads to the checkpoint.
    let mut service = open();
    assert!(matches!(crate::one(&mut service, Request::Checkpoint), Response::Checkpoint { .. }));
}
