use super::*;
use crate::{Paths, kept};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use fleeti_core::boot_secret::Fate;
use fleeti_core::profile::Secret as Declared;
use fleeti_core::wire::boot::BootSecretPhase::{self, Settled, Trial};
use fleeti_core::wire::vault::SECRET_MAX;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// A device whose time the test sets.
struct Device {
    dir: tempfile::TempDir,
    now_s: Arc<AtomicU64>,
    restarted: Arc<Mutex<Vec<String>>>,
    setup: Setup,
}

impl Device {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(Paths::below(dir.path()).helper_state).unwrap();
        let now_s = Arc::new(AtomicU64::new(10));
        let restarted = Arc::<Mutex<Vec<String>>>::default();
        let (clock, units) = (Arc::clone(&now_s), Arc::clone(&restarted));
        let setup = Setup {
            is_sealed: true,
            is_kept: true,
            uptime: Arc::new(move || clock.load(Ordering::Relaxed)),
            restart: Arc::new(move |all| units.lock().unwrap().extend_from_slice(all)),
            say: Arc::new(|_| ()),
            look_every: Duration::from_millis(5),
        };
        Self { dir, now_s, restarted, setup }
    }
    fn paths(&self) -> Paths {
        Paths::below(self.dir.path())
    }
    fn declared() -> Vec<Declared> {
        let one = |name: &str, server_proxy| Declared {
            name: name.to_owned(),
            boot: true,
            try_minutes: 1,
            restart: vec![format!("{name}.service")],
            server_proxy,
        };
        vec![one("wifi", false), one("proxy", true)]
    }
    fn store(&self) -> Store {
        Store::open(&self.paths(), Self::declared(), self.setup.clone()).unwrap()
    }
    /// Cuts the power: what is in memory is gone.
    fn booted(&self) -> Store {
        fs::remove_dir_all(self.paths().boot_secrets).unwrap();
        self.now_s.store(5, Ordering::Relaxed);
        self.store()
    }
    fn pass(&self, seconds: u64) {
        self.now_s.fetch_add(seconds, Ordering::Relaxed);
    }
    fn in_memory(&self, name: &str) -> Option<String> {
        fs::read_to_string(self.paths().boot_secrets.join(name)).ok()
    }
    fn restarted(&self) -> Vec<String> {
        self.restarted.lock().unwrap().drain(..).collect()
    }
}

fn change(version: u64) -> SecretChange {
    SecretChange { version, changed_s: 100 + version }
}

fn secrets(list: &[(&str, &str)]) -> BTreeMap<String, Secret> {
    let secret = |text: &str| Secret::new(STANDARD.encode(text));
    list.iter().map(|(name, text)| ((*name).to_owned(), secret(text))).collect()
}

fn deliver(store: &mut Store, name: &str, text: &str, version: u64) -> Changes {
    let changes = BTreeMap::from([(name.to_owned(), change(version))]);
    store.deliver(secrets(&[(name, text)]), &changes).unwrap();
    store.take_changes()
}

#[test]
fn a_value_is_for_root_alone_and_what_is_not_of_the_boot_is_returned() {
    let device = Device::new();
    let mut store = device.store();
    let given = secrets(&[("wifi", "one"), ("greeting", "hello")]);
    let changes = BTreeMap::from([("wifi".to_owned(), change(1))]);
    let rest = store.deliver(given, &changes).unwrap();
    let changes = store.take_changes();
    assert_eq!(rest.keys().collect::<Vec<_>>(), ["greeting"]);
    assert_eq!((changes.is_switched, changes.restart), (true, vec!["wifi.service".to_owned()]));
    assert_eq!(device.in_memory("wifi").as_deref(), Some("one"));
    let mode = |path: PathBuf| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let paths = device.paths();
    assert_eq!(mode(paths.boot_secrets.clone()), 0o700);
    assert_eq!(mode(paths.boot_secrets.join("wifi")), 0o400);
    assert_eq!(mode(paths.helper_state.join("boot-secret-wifi.json")), 0o600);
}

#[test]
fn a_plain_data_partition_gets_no_value_and_says_why() {
    let mut device = Device::new();
    device.setup.is_sealed = false;
    let mut store = device.store();
    let changes = deliver(&mut store, "wifi", "one", 1);
    assert!(!changes.is_switched && changes.is_news);
    assert_eq!(device.in_memory("wifi"), None);
    assert!(!device.paths().helper_state.join("boot-secret-wifi.json").exists());
    let status = store.statuses().into_iter().find(|s| s.name.as_str() == "wifi").unwrap();
    assert_eq!(status.problem.as_deref(), Some("the data partition is not sealed to the TPM"));
    assert!(status.alarm().unwrap().starts_with("secret_refused: "));
}

#[test]
fn a_power_cut_leaves_the_old_value_or_the_new_one_whole() {
    let device = Device::new();
    let mut store = device.store();
    deliver(&mut store, "proxy", "u:one", 1);
    store.all(Event::Reached).unwrap();
    deliver(&mut store, "proxy", "u:two", 2);
    // In the trial.
    let mut store = device.booted();
    assert_eq!(device.in_memory("proxy").as_deref(), Some("u:two"));
    assert_eq!(store.proxy().unwrap().expose(), STANDARD.encode("u:two"));
    device.pass(60);
    store.all(Event::Tick).unwrap();
    assert!(store.take_changes().is_switched);
    // After its end.
    let store = device.booted();
    assert_eq!(device.in_memory("proxy").as_deref(), Some("u:one"));
    let status = &store.statuses()[0];
    assert_eq!((status.used, status.other), (Some(1), Some(2)));
    assert!(matches!(status.fate, Some(Fate::Refused { .. })), "{status:?}");
    // The helper alone starts again: the boot does not begin again.
    let mut store = device.store();
    store.all(Event::Reached).unwrap();
    assert_eq!(device.store().statuses()[0].until_s, None, "it is in contact");
}

#[test]
fn one_value_is_tried_at_a_time_and_none_while_the_image_is_on_trial() {
    let mut device = Device::new();
    device.setup.is_kept = false;
    let mut store = device.store();
    deliver(&mut store, "proxy", "u:one", 1);
    deliver(&mut store, "wifi", "one", 2);
    let phases = |store: &Store| store.statuses().iter().map(|s| s.phase).collect::<Vec<_>>();
    assert_eq!(phases(&store), [Settled, Settled]);
    fs::write(device.paths().helper_state.join("boot-secret-former.json"), "x").unwrap();
    store.image_kept().unwrap();
    assert!(store.take_changes().is_switched);
    assert_eq!(phases(&store), [Trial, Settled]);
    assert!(!device.paths().helper_state.join("boot-secret-former.json").exists());
    store.all(Event::Reached).unwrap();
    assert!(store.take_changes().is_switched);
    assert_eq!(phases(&store), [Settled, Trial]);
    assert_eq!(device.in_memory("wifi").as_deref(), Some("one"));
}

#[test]
fn every_combination_of_two_secrets_has_its_turn() {
    let device = Device::new();
    let mut store = device.store();
    for (name, version) in [("proxy", 1), ("wifi", 2), ("proxy", 3), ("wifi", 4)] {
        deliver(&mut store, name, &format!("{name}{version}"), version);
        store.all(Event::Reached).unwrap();
    }
    store.all(Event::Lost).unwrap();
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..40 {
        seen.insert((device.in_memory("proxy"), device.in_memory("wifi")));
        device.pass(15);
        store.all(Event::Tick).unwrap();
    }
    assert_eq!(seen.len(), 4, "{seen:?}");
}

#[test]
fn a_server_that_was_restored_uses_a_number_again_for_another_value() {
    let device = Device::new();
    let mut store = device.store();
    deliver(&mut store, "wifi", "one", 1);
    store.all(Event::Reached).unwrap();
    let again = SecretChange { version: 1, changed_s: 900 };
    let changes = BTreeMap::from([("wifi".to_owned(), again)]);
    store.deliver(secrets(&[("wifi", "other")]), &changes).unwrap();
    assert_eq!(device.in_memory("wifi").as_deref(), Some("other"));
}

#[test]
fn a_damaged_file_is_set_aside_and_a_removed_secret_stays() {
    let device = Device::new();
    let mut store = device.store();
    deliver(&mut store, "wifi", "one", 1);
    store.all(Event::Reached).unwrap();
    store.deliver(BTreeMap::new(), &BTreeMap::new()).unwrap();
    assert_eq!(device.in_memory("wifi").as_deref(), Some("one"));
    let file = device.paths().helper_state.join("boot-secret-wifi.json");
    fs::write(&file, "{").unwrap();
    device.booted();
    assert_eq!(device.in_memory("wifi"), None);
    assert_eq!(kept::unreported(&device.paths().helper_state).len(), 1);
}

#[tokio::test]
async fn a_session_of_another_value_confirms_nothing() {
    let device = Device::new();
    let keeper = Keeper::new(device.store());
    let old = keeper.given(None).await.unwrap().seen;
    let delivery = |text: &str, version, generation| Delivery {
        secrets: secrets(&[("proxy", text)]),
        changes: BTreeMap::from([("proxy".to_owned(), change(version))]),
        generation,
    };
    keeper.put(delivery("u:one", 1, old.generation)).await.unwrap();
    assert_eq!(device.restarted(), ["proxy.service"], "before the daemon learns of it");
    let new = keeper.given(Some(old)).await.unwrap();
    assert_ne!(new.seen.generation, old.generation);
    assert_eq!(new.proxy.unwrap().expose(), STANDARD.encode("u:one"));
    keeper.contact(old.generation, true).await.unwrap();
    assert_eq!(keeper.statuses().await[0].phase, BootSecretPhase::Trial);
    let refused = keeper.put(delivery("u:two", 2, old.generation)).await.unwrap_err();
    assert!(refused.to_string().contains("another secret"), "{refused}");
    keeper.contact(new.seen.generation, true).await.unwrap();
    assert_eq!(keeper.statuses().await[0].phase, BootSecretPhase::Settled);
    // Not the value, only news for the report.
    let after = keeper.given(Some(new.seen)).await.unwrap().seen;
    assert_eq!(after.generation, new.seen.generation);
}

#[tokio::test]
async fn the_old_value_returns_when_its_time_is_over() {
    let device = Device::new();
    let keeper = Arc::new(Keeper::new(device.store()));
    let looking = Arc::clone(&keeper);
    let looking = tokio::spawn(async move { looking.run().await });
    let seen = keeper.given(None).await.unwrap().seen;
    let delivery = Delivery {
        secrets: secrets(&[("proxy", "u:one")]),
        changes: BTreeMap::from([("proxy".to_owned(), change(1))]),
        generation: seen.generation,
    };
    keeper.put(delivery).await.unwrap();
    let tried = keeper.given(Some(seen)).await.unwrap();
    assert!(tried.proxy.is_some());
    device.pass(60);
    let returned = keeper.given(Some(tried.seen)).await.unwrap();
    assert!(returned.proxy.is_none(), "to no value");
    looking.abort();
}

#[test]
fn a_lost_session_is_not_written() {
    let device = Device::new();
    let mut store = device.store();
    for version in [1, 2] {
        deliver(&mut store, "wifi", "one", version);
        store.all(Event::Reached).unwrap();
    }
    let file = device.paths().helper_state.join("boot-secret-wifi.json");
    let before = fs::read(&file).unwrap();
    store.all(Event::Lost).unwrap();
    assert_eq!(fs::read(&file).unwrap(), before);
}

#[test]
fn a_delivery_with_one_invalid_value_uses_none() {
    let device = Device::new();
    let mut store = device.store();
    let changes = ["proxy", "wifi"].map(|name| (name.to_owned(), change(1)));
    let mut both = secrets(&[("proxy", "u:one"), ("wifi", "one")]);
    both.insert("wifi".to_owned(), Secret::new("no base64".to_owned()));
    store.deliver(both, &BTreeMap::from(changes.clone())).unwrap_err();
    let large = "x".repeat(SECRET_MAX + 1);
    let both = secrets(&[("proxy", "u:one"), ("wifi", &large)]);
    let refused = store.deliver(both, &BTreeMap::from(changes)).unwrap_err().to_string();
    assert!(refused.contains("the secret wifi has"), "{refused}");
    assert_eq!(device.in_memory("proxy"), None);
    // Without the change that set it, it could be the value that the device has.
    store.deliver(secrets(&[("proxy", "u:one")]), &BTreeMap::new()).unwrap();
    assert_eq!(device.in_memory("proxy"), None);
}

/// The switch is on disk, and the file in memory cannot be written.
#[tokio::test]
async fn the_daemon_learns_of_a_switch_that_failed_half_way() {
    let device = Device::new();
    let keeper = Keeper::new(device.store());
    let seen = keeper.given(None).await.unwrap().seen;
    // A folder in the place of the file.
    fs::create_dir_all(device.paths().boot_secrets.join("proxy/x")).unwrap();
    let delivery = Delivery {
        secrets: secrets(&[("proxy", "u:one")]),
        changes: BTreeMap::from([("proxy".to_owned(), change(1))]),
        generation: seen.generation,
    };
    keeper.put(delivery).await.unwrap_err();
    let after = keeper.given(Some(seen)).await.unwrap().seen;
    assert_ne!(after.generation, seen.generation);
    keeper.contact(seen.generation, true).await.unwrap();
    assert_eq!(keeper.statuses().await[0].phase, BootSecretPhase::Trial);
}

#[test]
fn a_disk_that_cannot_be_written_does_not_take_the_value_away() {
    let device = Device::new();
    let mut store = device.store();
    deliver(&mut store, "wifi", "one", 1);
    store.all(Event::Reached).unwrap();
    // The file that is written before it takes the name of the other one.
    let state = device.paths().helper_state;
    fs::create_dir_all(state.join(".boot-secret-wifi.json.new/x")).unwrap();
    let before = fs::read(state.join("boot-secret-wifi.json")).unwrap();
    // The third boot without contact would write.
    for _ in 0..3 {
        device.booted();
    }
    assert_eq!(fs::read(state.join("boot-secret-wifi.json")).unwrap(), before);
    assert_eq!(device.in_memory("wifi").as_deref(), Some("one"));
}
