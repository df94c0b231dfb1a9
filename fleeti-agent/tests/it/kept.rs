//! The files of a device of the previous release (`compat/device.json`), which this agent takes over.
//! The device had updated, answered commands, and renewed its certificate just before it lost power.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use fleeti_agent::Paths;
use fleeti_agent::announcements::Announcements;
use fleeti_agent::driver::{Driver, Parts};
use fleeti_agent::identity::Identity;
use fleeti_agent::kept;
use fleeti_agent::outbox::Outbox;
use fleeti_agent::privileged::Helper;
use fleeti_core::command::ledger::Ledger;
use fleeti_core::update::State;
use fleeti_core::wire::boot::{BootSummary, Slot, Verity};
use fleeti_core::wire::device::Report;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tempfile::TempDir;

const KEPT: &str = include_str!("../../../compat/device.json");

fn device() -> (TempDir, Paths) {
    rustls::crypto::aws_lc_rs::default_provider().install_default().ok();
    let dir = tempfile::tempdir().unwrap();
    let files: BTreeMap<PathBuf, String> = serde_json::from_str(KEPT).unwrap();
    for (path, text) in files {
        let path = dir.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let content = match text.strip_prefix("base64:") {
            Some(encoded) => STANDARD.decode(encoded).unwrap(),
            None => text.into_bytes(),
        };
        fs::write(path, content).unwrap();
    }
    let paths = Paths::below(dir.path());
    fs::create_dir_all(&paths.run).unwrap();
    (dir, paths)
}

/// Files that the agent could not use.
fn set_aside(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.filter(|path| path.extension().is_some_and(|e| e == "broken" || e == "why")).collect()
}

#[tokio::test]
async fn a_device_of_the_previous_release_keeps_its_identity_and_its_server() {
    let (_dir, paths) = device();
    let identity = Identity::load(&paths).unwrap().unwrap();
    assert_eq!(identity.device.as_str(), "dev-01m8ppvaffdwe6nf9z4qeb11qd");
    let server = serde_json::to_value(&identity.server).unwrap();
    assert_eq!(server["mqtt_port"], 38183);
    // The renewed key counts, and not the one of its enrollment.
    let enrolled = kept::read(&paths.state.join("device.pem"), |b| Ok(b.to_vec())).unwrap();
    fs::remove_file(paths.state.join("renewed.json")).unwrap();
    let before = Identity::load(&paths).unwrap().unwrap();
    assert!(!enrolled.is_empty() && before.device == identity.device);
    let public = |identity: &Identity| identity.signer().public_key_der().to_vec();
    assert_ne!(public(&identity), public(&before));
    identity.tls(&paths).unwrap();
    assert!(set_aside(&paths.state).is_empty());
}

#[tokio::test]
async fn a_device_of_the_previous_release_goes_on_where_it_was() {
    let (_dir, paths) = device();
    let outbox = Arc::new(Outbox::open(&paths.state.join("outbox")).unwrap());
    let announcements = Arc::new(Announcements::open(&paths).unwrap());
    let boot = BootSummary {
        boot_id: "boot-3".into(),
        running: "kiosk@3".parse().unwrap(),
        slot: Slot::B,
        verity: Verity::Verified,
        secure_boot: true,
        pcr11: None,
        firmware: None,
        sealed_data: None,
        secrets: vec![],
    };
    let parts = Parts {
        // Nothing answers on this socket: a report needs no helper.
        helper: Helper::at(paths.socket()),
        paths: paths.clone(),
        outbox: Arc::clone(&outbox),
        http: reqwest::Client::new(),
        https_url: "https://localhost:38143".into(),
        boot,
        announcements: Arc::clone(&announcements),
    };
    let (mut driver, _jobs) = Driver::new(parts).unwrap();
    driver.report().unwrap();
    let message = outbox.first().unwrap().unwrap();
    let report: Report = serde_json::from_slice(&message.payload).unwrap();
    assert_eq!((report.generation, report.sequence), (3, 13), "after the last report");
    assert_eq!(report.update, State::Idle);
    assert_eq!(report.alarm, None, "no file was set aside");
    // The checkpoint of the audit log that it saw: a log that was rewritten since is noticed.
    assert_eq!(announcements.newest_checkpoint().unwrap().1, 39);
    assert!(set_aside(&paths.state).is_empty() && set_aside(&paths.helper_state).is_empty());
}

#[tokio::test]
async fn a_device_of_the_previous_release_runs_no_command_twice() {
    let (_dir, paths) = device();
    let ledger: Ledger = kept::read(&paths.state.join("command-ledger.json"), kept::json).unwrap();
    let ids: Vec<_> = ledger.entries.iter().map(|entry| entry.id.as_str()).collect();
    assert_eq!(
        ids,
        [
            "cmd-01m8ppyq6sf81xm0sn24hbfggn",
            "cmd-01m8ppyqarasht5qchbh9zemqg",
            "cmd-01m8ppyqba1hndedqmv677xmg7"
        ]
    );
    let written = serde_json::to_string(&ledger).unwrap();
    assert_eq!(written, fs::read_to_string(paths.state.join("command-ledger.json")).unwrap());
}
