//! A device observes the windows of its fleet: with the real driver, a clock that the test moves,
//! and a helper that only counts what it is asked.

use crate::announcements::{Driven, Scene, driver};
use fleeti_agent::clock::Clock;
use fleeti_agent::privileged::{Request, Response};
use fleeti_core::update::State;
use fleeti_core::windows::{Job, Wait, WaitReason, Windows};
use fleeti_core::wire::device::{DesiredState, Report};
use serde_json::{Value, json};
use std::fs;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixListener;

/// 2026-01-10, a Saturday, 00:00 UTC.
const SATURDAY_S: u64 = 1_768_003_200;

struct Device {
    scene: Scene,
    now_s: Arc<AtomicU64>,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Device {
    fn new() -> Self {
        let mut scene = Scene::new();
        let now_s = Arc::new(AtomicU64::new(SATURDAY_S));
        let source = Arc::clone(&now_s);
        let path = scene.bench.paths.state.join("time-floor");
        scene.bench.paths.clock =
            Clock::with_source(path, Arc::new(move || source.load(Ordering::SeqCst)));
        fs::create_dir_all(&scene.bench.paths.run).unwrap();
        fs::create_dir_all(&scene.bench.paths.inhibitors).unwrap();
        let asked = Arc::default();
        let socket = scene.bench.paths.socket();
        fs::remove_file(&socket).ok();
        tokio::spawn(helper(UnixListener::bind(socket).unwrap(), Arc::clone(&asked)));
        Self { scene, now_s, asked }
    }

    /// The driver, in a stored state.
    fn driven(&self, state: Value) -> Driven {
        let kept = json!({"state": state, "generation": 1, "sequence": 1, "rolled_back": [],
            "desired": "3", "forgiveness": null});
        driver(&self.scene, &kept)
    }

    fn at(&self, after_s: u64) {
        self.now_s.store(SATURDAY_S + after_s, Ordering::SeqCst);
    }

    fn blocks(&self, is_blocked: bool) {
        let path = self.scene.bench.paths.inhibitors.join("1");
        if is_blocked {
            fs::write(path, "WHAT=shutdown\nMODE=block\nWHO=till\n").unwrap();
        } else {
            fs::remove_file(path).unwrap();
        }
    }

    /// How often the helper was asked for something so far. What was begun in the background is
    /// done before.
    async fn asked(&self, verb: &str) -> usize {
        let count = || self.asked.lock().unwrap().iter().filter(|asked| *asked == verb).count();
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        count()
    }

    async fn is_asked(&self, verb: &str) {
        let waiting = async {
            while self.asked(verb).await == 0 {
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(std::time::Duration::from_secs(30), waiting).await.unwrap();
    }
}

/// Answers every request with `Done`, and remembers its verb.
async fn helper(listener: UnixListener, asked: Arc<Mutex<Vec<String>>>) {
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let asked = Arc::clone(&asked);
        tokio::spawn(async move {
            let mut stream = BufReader::new(stream);
            let mut line = String::new();
            // One request for each connection: its end is that of the answer.
            if stream.read_line(&mut line).await.unwrap_or(0) > 0 {
                let request: Request = serde_json::from_str(&line).unwrap();
                let verb =
                    serde_json::to_value(&request).unwrap()["verb"].as_str().unwrap().to_owned();
                asked.lock().unwrap().push(verb);
                let mut answer = serde_json::to_vec(&Response::Done).unwrap();
                answer.push(b'\n');
                stream.write_all(&answer).await.ok();
            }
        });
    }
}

fn desired(windows: &Windows) -> DesiredState {
    DesiredState {
        generation: 2,
        release: Some("kiosk@3".parse().unwrap()),
        back: false,
        forgiven: None,
        boot_change: None,
        windows: windows.clone(),
        skip_windows_until_s: None,
        critical: vec!["release".into(), "windows".into()],
    }
}

fn windows(download: &str, install: &str, reboot: &str) -> Windows {
    let of = |line: &str| vec![line.parse().unwrap()];
    Windows {
        download: of(download),
        install: of(install),
        reboot: of(reboot),
        ..Windows::default()
    }
}

/// All reports so far.
fn reports(driven: &Driven) -> Vec<Report> {
    let mut all = Vec::new();
    while let Some(message) = driven.outbox.first().unwrap() {
        all.push(serde_json::from_slice(&message.payload).unwrap());
        driven.outbox.done(&message);
    }
    all
}

fn waits(job: Job, after_s: u64) -> Option<Wait> {
    Some(Wait { job, reason: WaitReason::Window, until_s: Some(SATURDAY_S + after_s) })
}

#[tokio::test]
async fn a_download_begins_when_its_window_opens_and_the_device_says_what_it_waits_for() {
    let device = Device::new();
    let mut driven = device.driven(json!({"type": "idle"}));
    let windows = windows("02:00-03:00", "04:00-05:00", "06:00-07:00");
    driven.driver.desired(desired(&windows)).await.unwrap();
    let said = reports(&driven).pop().unwrap();
    assert_eq!((said.update, said.waits), (State::Idle, waits(Job::Download, 7200)));
    assert_eq!(said.time_zone.as_deref(), Some("Etc/UTC"));
    // Nothing changes until then, and nothing is said again.
    device.at(7199);
    driven.driver.look().await.unwrap();
    assert!(reports(&driven).is_empty());
    device.at(7200);
    driven.driver.look().await.unwrap();
    let said = reports(&driven).pop().unwrap();
    assert_eq!((said.update.name(), said.waits), ("staging", None));
    // Nothing answers: the attempt fails. Outside its window the next one waits.
    device.at(3 * 3600);
    let failed = driven.jobs.results.recv().await.unwrap();
    driven.driver.job_ended(failed).await.unwrap();
    let said = reports(&driven).pop().unwrap();
    assert_eq!((said.update.name(), said.waits), ("staging", waits(Job::Download, 26 * 3600)));
}

#[tokio::test]
async fn a_device_is_armed_and_reboots_only_in_its_windows_also_after_a_restart() {
    let device = Device::new();
    let mut driven = device.driven(json!({"type": "staged", "target": "3", "arm_attempts": 0}));
    let windows = windows("02:00-03:00", "04:00-05:00", "06:00-07:00");
    driven.driver.desired(desired(&windows)).await.unwrap();
    let said = reports(&driven).pop().unwrap();
    assert_eq!((said.update.name(), said.waits), ("staged", waits(Job::Install, 4 * 3600)));
    assert_eq!(device.asked("arm").await, 0);
    device.at(4 * 3600);
    driven.driver.look().await.unwrap();
    let armed = driven.jobs.results.recv().await.unwrap();
    driven.driver.job_ended(armed).await.unwrap();
    let said = reports(&driven).pop().unwrap();
    assert_eq!((said.update.name(), said.waits), ("armed", waits(Job::Reboot, 6 * 3600)));
    drop(driven);
    // A restart of the agent without a server: the windows are on the data partition.
    let mut driven = device.driven(json!({"type": "armed", "target": "3"}));
    fs::write(device.scene.bench.paths.state.join("boot-id"), "b").unwrap();
    driven.driver.started().await.unwrap();
    assert_eq!(reports(&driven).pop().unwrap().waits, waits(Job::Reboot, 6 * 3600));
    assert_eq!(device.asked("reboot").await, 0);
    device.at(6 * 3600);
    driven.driver.look().await.unwrap();
    reports(&driven);
    device.is_asked("reboot").await;
}

#[tokio::test]
async fn windows_that_cannot_be_read_let_nothing_begin_until_the_server_tells_them_again() {
    let device = Device::new();
    fs::write(device.scene.bench.paths.state.join("windows.json"), "{\"windows\":").unwrap();
    for _ in 0..2 {
        let mut driven = device.driven(json!({"type": "armed", "target": "3"}));
        fs::write(device.scene.bench.paths.state.join("boot-id"), "b").unwrap();
        driven.driver.started().await.unwrap();
        assert_eq!(device.asked("reboot").await, 0);
    }
    let mut driven = device.driven(json!({"type": "armed", "target": "3"}));
    driven.driver.desired(desired(&Windows::default())).await.unwrap();
    driven.driver.look().await.unwrap();
    reports(&driven);
    device.is_asked("reboot").await;
}

#[tokio::test]
async fn a_reboot_waits_for_a_user_until_the_longest_wait_is_over() {
    let device = Device::new();
    device.blocks(true);
    let mut driven = device.driven(json!({"type": "armed", "target": "3"}));
    let polite = Windows { user_delay_min: Some(60), ..Windows::default() };
    driven.driver.desired(desired(&polite)).await.unwrap();
    driven.driver.look().await.unwrap();
    let until_s = Some(SATURDAY_S + 3600);
    let user = Some(Wait { job: Job::Reboot, reason: WaitReason::User, until_s });
    assert_eq!(reports(&driven).pop().unwrap().waits, user);
    // The wait goes on where it was after a restart.
    device.at(1800);
    let mut driven = device.driven(json!({"type": "armed", "target": "3"}));
    driven.driver.look().await.unwrap();
    assert_eq!(reports(&driven).pop().unwrap().waits, user);
    assert_eq!(device.asked("reboot").await, 0);
    device.at(3600);
    driven.driver.look().await.unwrap();
    reports(&driven);
    device.is_asked("reboot").await;
}

#[tokio::test]
async fn an_order_to_skip_windows_counts_until_its_time_and_a_wrong_clock_opens_nothing() {
    let device = Device::new();
    let armed = || device.driven(json!({"type": "armed", "target": "3"}));
    let windows = windows("02:00-03:00", "04:00-05:00", "06:00-07:00");
    let mut driven = armed();
    let skips = |until_s| DesiredState { skip_windows_until_s: Some(until_s), ..desired(&windows) };
    driven.driver.desired(skips(SATURDAY_S)).await.unwrap();
    driven.driver.look().await.unwrap();
    assert_eq!(reports(&driven).pop().unwrap().waits, waits(Job::Reboot, 6 * 3600));
    // In its window, but with a clock that is behind a signed time.
    device.scene.bench.paths.clock.raise(SATURDAY_S + 30 * 86_400);
    device.at(6 * 3600);
    driven.driver.look().await.unwrap();
    assert_eq!(reports(&driven).pop().unwrap().waits.unwrap().reason, WaitReason::Clock);
    assert_eq!(device.asked("reboot").await, 0);
    driven.driver.desired(skips(SATURDAY_S + 40 * 86_400)).await.unwrap();
    driven.driver.look().await.unwrap();
    reports(&driven);
    device.is_asked("reboot").await;
}
