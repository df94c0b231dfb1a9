//! Secrets that the device needs to reach its server: they stay on the sealed data partition, and a
//! new value is tried beside the old one (`fleeti_core::boot_secret` decides). Root's part: the
//! daemon says when it reached the server, and gets the password of its own proxy.
//!
//! Code map: [`store`] (the files) · [`Keeper`] (what the helper offers of them).

pub mod store;

use anyhow::{Context, Result};
use fleeti_core::boot_secret::Event;
use fleeti_core::wire::attestation::Secret;
use fleeti_core::wire::boot::BootSecret;
use fleeti_core::wire::vault::SecretChange;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;
use store::Changes;
pub use store::{Setup, Store};
use tokio::sync::{Mutex, Notify, watch};

/// What the daemon knows of the secrets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    /// Changes when another value is used: the daemon connects again then.
    pub generation: u64,
    /// Changes when there is something to report.
    pub revision: u64,
}

/// What the daemon gets.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Given {
    /// What it knows now.
    pub seen: Seen,
    /// `USER:PASSWORD` for its proxy, base64.
    pub proxy: Option<Secret>,
}

/// Secrets of the fleet, as the daemon passes them on.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Delivery {
    /// Base64, by name.
    pub secrets: BTreeMap<String, Secret>,
    /// The change that set each.
    #[serde(default)]
    pub changes: BTreeMap<String, SecretChange>,
    /// The generation with which the daemon reached the server.
    pub generation: u64,
}

/// What the helper offers of the secrets.
pub struct Keeper {
    store: Mutex<Store>,
    seen: watch::Sender<Seen>,
    wake: Notify,
}

impl Keeper {
    /// Offers the stored values.
    #[must_use]
    pub fn new(store: Store) -> Self {
        // Not from 0: after a restart of the helper no daemon takes an old value for the current.
        let seen = Seen { generation: rand::random::<u64>() >> 12, revision: 0 };
        Self { store: Mutex::new(store), seen: watch::channel(seen).0, wake: Notify::new() }
    }

    /// What the daemon gets, once it differs from what it knows.
    ///
    /// # Errors
    /// If the helper ends.
    pub async fn given(&self, known: Option<Seen>) -> Result<Given> {
        let mut seen = self.seen.subscribe();
        seen.wait_for(|seen| Some(*seen) != known).await.context("the helper ends")?;
        // Under the lock, so that both belong together.
        let store = self.store.lock().await;
        Ok(Given { seen: *self.seen.borrow(), proxy: store.proxy() })
    }

    /// Takes the secrets of the boot out of a delivery; returns the others.
    ///
    /// # Errors
    /// If another value is used since the daemon reached the server; I/O.
    pub async fn put(&self, delivery: Delivery) -> Result<BTreeMap<String, Secret>> {
        let Delivery { secrets, changes, generation } = delivery;
        self.change(|store, current| {
            anyhow::ensure!(
                current == generation,
                "the device now uses another secret to reach the server; \
                 it fetches the secrets again"
            );
            store.deliver(secrets, &changes)
        })
        .await
    }

    /// A session of the daemon with the server began or ended.
    ///
    /// # Errors
    /// I/O.
    pub async fn contact(&self, generation: u64, is_reached: bool) -> Result<()> {
        let event = if is_reached { Event::Reached } else { Event::Lost };
        // A session with another value says nothing about the one in use.
        self.change(|store, current| if current == generation { store.all(event) } else { Ok(()) })
            .await
    }

    /// An operator asks to try values again.
    ///
    /// # Errors
    /// I/O.
    pub async fn retry(&self) -> Result<()> {
        self.change(|store, _| store.all(Event::Retry)).await
    }

    /// The running image is kept: values that waited for that can be tried.
    ///
    /// # Errors
    /// I/O.
    pub async fn image_kept(&self) -> Result<()> {
        self.change(|store, _| store.image_kept()).await
    }

    /// The status of each secret.
    pub async fn statuses(&self) -> Vec<BootSecret> {
        self.store.lock().await.statuses()
    }

    /// Looks at deadlines for ever.
    pub async fn run(&self) {
        loop {
            let (wait, look_every) = {
                let store = self.store.lock().await;
                (store.next_in(), store.setup().look_every)
            };
            let due = async {
                match wait {
                    Some(wait) => tokio::time::sleep(wait.min(look_every)).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = due => {}
                () = self.wake.notified() => {}
            }
            let ticked = self.apply(|store, _| store.all(Event::Tick)).await;
            if let Err(e) = ticked {
                tracing::error!("secrets of the boot: {e:#}");
                tokio::time::sleep(look_every).await;
            }
        }
    }

    /// Changes the store; deadlines may be others then.
    async fn change<T>(&self, change: impl FnOnce(&mut Store, u64) -> Result<T>) -> Result<T> {
        let result = self.apply(change).await;
        self.wake.notify_one();
        result
    }

    /// Changes the store. If another value is used then, units that read it are restarted before
    /// the daemon learns of it: what it reaches from then on, it reaches with that value.
    async fn apply<T>(&self, change: impl FnOnce(&mut Store, u64) -> Result<T>) -> Result<T> {
        let mut store = self.store.lock().await;
        let generation = self.seen.borrow().generation;
        let result = change(&mut store, generation);
        // Also after an error: another value may be in use already.
        let Changes { is_switched, is_news, restart: units } = store.take_changes();
        if !units.is_empty() {
            let restart = Arc::clone(&store.setup().restart);
            let restarted = tokio::task::spawn_blocking(move || restart(&units)).await;
            restarted.unwrap_or_else(|e| tracing::error!("restarting units: {e}"));
        }
        if is_switched || is_news {
            self.seen.send_modify(|seen| {
                seen.generation += u64::from(is_switched);
                seen.revision += 1;
            });
        }
        result
    }
}

#[cfg(test)]
mod tests;
