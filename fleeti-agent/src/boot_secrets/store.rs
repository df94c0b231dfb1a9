//! The files of the secrets of the boot: one for each on the data partition, with its state and
//! both values, so that a power cut leaves the old state or the new one with all that belongs to
//! it; and the value in use in memory, for what authenticates to the network.

use crate::clock::Clock;
use crate::{Paths, console, kept, storage, write_durably};
use anyhow::{Context as _, Result, ensure};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use fleeti_core::boot_secret::{Context, Effect, Event, State, Value, step};
use fleeti_core::id::SecretName;
use fleeti_core::profile::Secret as Declared;
use fleeti_core::wire::attestation::Secret;
use fleeti_core::wire::boot::BootSecret;
use fleeti_core::wire::vault::{SECRET_MAX, SecretChange};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use zeroize::Zeroizing;

/// Exists in memory once this boot has begun with its values.
const BEGUN: &str = ".begun";
/// How often the time of a secret doubles with its place among several.
const DOUBLINGS: usize = 3;
const NOT_SEALED: &str = "the data partition is not sealed to the TPM";

/// Source of seconds since the boot.
pub type Uptime = Arc<dyn Fn() -> u64 + Send + Sync>;
/// Writes a line to the console.
pub type Say = Arc<dyn Fn(&str) + Send + Sync>;
/// Restarts units, and returns when they have been restarted, or after a time.
pub type Restart = Arc<dyn Fn(&[String]) + Send + Sync>;

/// The device around the secrets.
#[derive(Clone)]
pub struct Setup {
    /// Whether the data partition is sealed: only then values are stored.
    pub is_sealed: bool,
    /// Whether the running image is kept: a value is not tried while an image is on trial.
    pub is_kept: bool,
    /// Seconds since the boot.
    pub uptime: Uptime,
    /// Restarts the units that read a value.
    pub restart: Restart,
    /// Writes to the console.
    pub say: Say,
    /// How often deadlines are looked at, at least: a timer stands still while the device is
    /// suspended, and the uptime does not.
    pub look_every: Duration,
}

impl Setup {
    /// The setup of a device.
    #[must_use]
    pub fn device(is_kept: bool) -> Self {
        Self {
            is_sealed: storage::is_sealed(),
            is_kept,
            uptime: Arc::new(uptime_s),
            restart: Arc::new(restart),
            say: Arc::new(console::say),
            look_every: Duration::from_secs(60),
        }
    }
}

fn uptime_s() -> u64 {
    let text = fs::read_to_string("/proc/uptime").unwrap_or_default();
    text.split('.').next().and_then(|s| s.parse().ok()).unwrap_or(0)
}

/// How long units may take to restart, seconds. A unit that waits for the network with a wrong value
/// must not keep the old value from returning.
const RESTART_S: &str = "60";

/// `try-restart`: a unit that does not run reads the value when it starts.
fn restart(units: &[String]) {
    let status = std::process::Command::new("/usr/bin/timeout")
        .args([RESTART_S, "/usr/bin/systemctl", "try-restart", "--"])
        .args(units)
        .status();
    if !status.as_ref().is_ok_and(std::process::ExitStatus::success) {
        tracing::error!("systemctl try-restart {}: {status:?}", units.join(" "));
    }
}

/// The content of a file.
#[derive(Debug, Default, Clone, Serialize, Deserialize)]
struct Kept {
    state: State,
    values: Vec<KeptValue>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct KeptValue {
    value: Value,
    base64: Secret,
}

struct One {
    name: SecretName,
    declared: Declared,
    kept: Kept,
    /// What the file has.
    on_disk: State,
}

/// What followed from an event.
#[derive(Debug, Default)]
pub struct Changes {
    /// Another value is in use.
    pub is_switched: bool,
    /// There is something to report.
    pub is_news: bool,
    /// Units that read a value that changed.
    pub restart: Vec<String>,
}

impl Changes {
    fn add(&mut self, more: Self) {
        self.is_switched |= more.is_switched;
        self.is_news |= more.is_news;
        for unit in more.restart {
            if !self.restart.contains(&unit) {
                self.restart.push(unit);
            }
        }
    }
}

/// The stored secrets of the boot.
pub struct Store {
    folder: PathBuf,
    run: PathBuf,
    clock: Clock,
    setup: Setup,
    all: Vec<One>,
    /// What followed from events, until it is taken.
    followed: Changes,
}

impl Store {
    /// Opens the values of the secrets that the image names, and puts those in use into memory. The
    /// first call in a boot begins it.
    ///
    /// # Errors
    /// If a file cannot be written.
    pub fn open(paths: &Paths, declared: Vec<Declared>, setup: Setup) -> Result<Self> {
        let folder = paths.helper_state.clone();
        let mut all = Vec::new();
        for declared in declared.into_iter().filter(|d| d.boot) {
            let name: SecretName = declared.name.parse()?;
            // A plain partition has no values; what lies there is not the device's.
            let kept = setup.is_sealed.then(|| kept::read(&path(&folder, &name), kept::json));
            let kept: Kept = kept.flatten().unwrap_or_default();
            all.push(One { name, declared, on_disk: kept.state, kept });
        }
        all.sort_by(|a, b| a.name.cmp(&b.name));
        let (run, clock) = (paths.boot_secrets.clone(), paths.clock.clone());
        let mut store = Self { folder, run, clock, setup, all, followed: Changes::default() };
        if store.all.is_empty() {
            return Ok(store);
        }
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&store.run)?;
        if !store.run.join(BEGUN).exists() {
            for at in 0..store.all.len() {
                // A disk that cannot be written must not take the network away as well.
                if let Err(e) = store.apply(at, Event::Booted, None) {
                    tracing::error!("the secret {}: {e:#}", store.all[at].name);
                }
            }
            fs::write(store.run.join(BEGUN), b"")?;
        }
        // The helper may have ended between a change of the state and that of the memory.
        for at in 0..store.all.len() {
            store.put_in_memory(at)?;
        }
        // The daemon learns of the values of a boot when it asks first.
        store.take_changes();
        Ok(store)
    }

    /// What followed since the last call, also from an event that failed in part.
    pub fn take_changes(&mut self) -> Changes {
        std::mem::take(&mut self.followed)
    }

    /// Takes the secrets of the boot out of what the server delivered; returns the others.
    ///
    /// # Errors
    /// For an invalid value; I/O.
    pub fn deliver(
        &mut self,
        mut secrets: BTreeMap<String, Secret>,
        changes: &BTreeMap<String, SecretChange>,
    ) -> Result<BTreeMap<String, Secret>> {
        let mut new = Vec::new();
        // All are checked before one is used.
        for at in 0..self.all.len() {
            let name = self.all[at].name.to_string();
            // A secret that is not delivered stays: the device needs it.
            let Some(base64) = secrets.remove(&name) else { continue };
            let bytes = STANDARD.decode(base64.expose()).map(Zeroizing::new);
            let length = bytes.with_context(|| format!("the secret {name}"))?.len();
            ensure!(length <= SECRET_MAX, "the secret {name} has {length} bytes");
            if !self.setup.is_sealed {
                tracing::error!("the secret {name} is not stored: {NOT_SEALED}");
                self.followed.is_news = true;
            } else if let Some(change) = changes.get(&name) {
                let value = Value { version: change.version, set_s: change.changed_s };
                new.push((at, KeptValue { value, base64 }));
            } else {
                // A new value could not be told from the one that the device has.
                tracing::error!("the secret {name}: the server does not say which change set it");
            }
        }
        for (at, new) in new {
            self.apply(at, Event::Delivered(new.value), Some(new))?;
        }
        self.each(Event::Tick)?;
        Ok(secrets)
    }

    /// Applies an event to every secret, and then starts a trial that waited.
    ///
    /// # Errors
    /// I/O.
    pub fn all(&mut self, event: Event) -> Result<()> {
        self.each(event)?;
        if event == Event::Tick { Ok(()) } else { self.each(Event::Tick) }
    }

    /// The running image is kept. Values of secrets that it does not name are deleted.
    ///
    /// # Errors
    /// I/O.
    pub fn image_kept(&mut self) -> Result<()> {
        self.setup.is_kept = true;
        let own: Vec<_> = self.all.iter().map(|one| path(&self.folder, &one.name)).collect();
        for entry in fs::read_dir(&self.folder)?.flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            // Not what was set aside, and why.
            let is_ours = name.starts_with(PREFIX) && name.ends_with(".json");
            if is_ours && !own.contains(&entry.path()) {
                fs::remove_file(entry.path())?;
            }
        }
        self.each(Event::Tick)
    }

    fn each(&mut self, event: Event) -> Result<()> {
        (0..self.all.len()).try_for_each(|at| self.apply(at, event, None))
    }

    fn context(&self, at: usize) -> Context {
        let try_s = |one: &One| u64::from(one.declared.try_minutes) * 60;
        let longest_s = self.all.iter().map(try_s).max().unwrap_or(0);
        let is_other_on_trial =
            self.all.iter().enumerate().any(|(n, one)| n != at && one.kept.state.is_trial());
        Context {
            now_s: (self.setup.uptime)(),
            at_s: self.clock.now_s(),
            try_s: try_s(&self.all[at]),
            // Each is used twice as long as the one before it: every combination of the first four
            // has its turn.
            period_s: longest_s << at.min(DOUBLINGS),
            may_try: self.setup.is_kept && !is_other_on_trial,
        }
    }

    fn apply(&mut self, at: usize, event: Event, new: Option<KeptValue>) -> Result<()> {
        let ctx = self.context(at);
        let one = &self.all[at];
        let (state, effects) = step(&one.kept.state, event, &ctx);
        let mut values = one.kept.values.clone();
        values.extend(new.filter(|n| !values.iter().any(|v| v.value == n.value)));
        values.retain(|v| state.holds(v.value));
        let kept = Kept { state, values };
        // A lost session is not written: a flash disk would wear out with a bad network.
        let is_new = state != one.kept.state && state != one.on_disk;
        if is_new && event != Event::Lost && self.setup.is_sealed {
            // INVARIANT: the state is on disk, with its values, before an effect is applied.
            write_durably(&path(&self.folder, &one.name), &serde_json::to_vec(&kept)?)?;
            self.all[at].on_disk = state;
        }
        self.all[at].kept = kept;
        for effect in effects {
            self.followed.is_news = true;
            let Effect::Use(held) = effect else { continue };
            let one = &self.all[at];
            let version = held.map(|value| value.version);
            let version = version.map_or_else(|| "no value".into(), |v| format!("version {v}"));
            // A device without a network has nothing else to say this with.
            (self.setup.say)(&format!("fleeti: the secret {}: {version} is used", one.name));
            let restart = one.declared.restart.clone();
            // Before the file: if that fails, the open session must not confirm the value.
            self.followed.add(Changes { is_switched: true, is_news: true, restart });
            self.put_in_memory(at)?;
        }
        Ok(())
    }

    /// Makes the file in memory have the value in use: whole, for root alone.
    fn put_in_memory(&self, at: usize) -> Result<()> {
        let one = &self.all[at];
        let target = self.run.join(one.name.as_str());
        let Some(value) = self.value(one) else {
            return match fs::remove_file(&target) {
                Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(e.into()),
                _ => Ok(()),
            };
        };
        if fs::read(&target).is_ok_and(|there| Zeroizing::new(there)[..] == value[..]) {
            return Ok(());
        }
        let new = self.run.join(format!(".{}.new", one.name));
        fs::remove_file(&new).ok();
        let mut file =
            fs::OpenOptions::new().write(true).create_new(true).mode(0o400).open(&new)?;
        file.write_all(&value)?;
        Ok(fs::rename(&new, &target)?)
    }

    /// The bytes of the value in use.
    fn value(&self, one: &One) -> Option<Zeroizing<Vec<u8>>> {
        let used = one.kept.state.used()?;
        let found = one.kept.values.iter().find(|v| v.value == used)?;
        STANDARD.decode(found.base64.expose()).ok().map(Zeroizing::new)
    }

    /// `USER:PASSWORD` for the daemon's proxy, base64.
    #[must_use]
    pub fn proxy(&self) -> Option<Secret> {
        let one = self.all.iter().find(|one| one.declared.server_proxy)?;
        self.value(one).map(|bytes| Secret::new(STANDARD.encode(&bytes[..])))
    }

    /// The status of each secret.
    #[must_use]
    pub fn statuses(&self) -> Vec<BootSecret> {
        let (now_s, at_s) = ((self.setup.uptime)(), self.clock.now_s());
        let status = |one: &One| {
            let until_s = one.kept.state.deadline_s().map(|s| at_s + s.saturating_sub(now_s));
            BootSecret {
                problem: (!self.setup.is_sealed).then(|| NOT_SEALED.to_owned()),
                ..BootSecret::of(one.name.clone(), &one.kept.state, until_s)
            }
        };
        self.all.iter().map(status).collect()
    }

    /// The device around the secrets.
    #[must_use]
    pub fn setup(&self) -> &Setup {
        &self.setup
    }

    /// How long until the next deadline.
    #[must_use]
    pub fn next_in(&self) -> Option<Duration> {
        let now_s = (self.setup.uptime)();
        let deadlines = self.all.iter().filter_map(|one| one.kept.state.deadline_s());
        // At least a second: `Uptime` has no parts of it.
        deadlines.min().map(|s| Duration::from_secs(s.saturating_sub(now_s).max(1)))
    }
}

const PREFIX: &str = "boot-secret-";

/// Beside the other files of the helper, so that a damaged one is reported like those.
fn path(folder: &Path, name: &SecretName) -> PathBuf {
    folder.join(format!("{PREFIX}{name}.json"))
}
