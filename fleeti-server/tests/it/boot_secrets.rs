//! Secrets without which a device does not reach its server: the password of its HTTP proxy, with
//! the real agent. The network changes before, while and after the device gets the new one. A
//! minute of a trial takes a second.

use crate::trust::until;
use crate::world::World;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use fleeti_core::profile::Secret as Declared;
use fleeti_core::wire::api::Device as Shown;
use fleeti_core::wire::attestation::Secret;
use fleeti_core::wire::boot::{BootSecret, BootSecretPhase};
use fleeti_core::wire::vault::SecretChange;
use fleeti_testkit::agent::boot_secrets::Delivery;
use fleeti_testkit::host::{Host, Setup};
use fleeti_testkit::network::{Network, USER};
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::task::JoinHandle;

/// A device behind the proxy, which has proved itself with the first password.
struct Device {
    world: World,
    network: Network,
    host: Arc<Host>,
    agent: JoinHandle<anyhow::Result<()>>,
    _home: tempfile::TempDir,
}

impl Device {
    async fn new() -> Self {
        let network = Network::start().await.unwrap();
        let url = format!("http://{}", network.address);
        let world = World::with(|c| c.device_proxy = Some(url)).await;
        let record =
            world.client.create_enrollment(&"demo".parse().unwrap(), 3600).await.unwrap().record;
        let home = tempfile::tempdir().unwrap();
        let setup = Setup {
            dir: home.path().into(),
            public: world.dir.path().join("pki/public"),
            running: "kiosk@1".parse().unwrap(),
            record,
            is_healthy: true,
        };
        let declared = Declared {
            name: "proxy".into(),
            boot: true,
            try_minutes: 1,
            restart: vec![],
            server_proxy: true,
        };
        let host = Host::with_boot_secrets(setup, vec![declared]).unwrap();
        let agent = run(&host);
        let device = Self { world, network, host, agent, _home: home };
        until("it enrolls", async || device.shown().await.is_some_and(|d| d.online)).await;
        device.gets("one", 1).await;
        device.network.accepts("one");
        device.network.cut();
        device.uses(1).await;
        device
    }

    async fn shown(&self) -> Option<Shown> {
        self.world.client.devices().await.unwrap().pop()
    }

    /// The status on the device.
    async fn status(&self) -> BootSecret {
        self.host.boot_secrets().statuses().await.remove(0)
    }

    /// The status that it reported last.
    async fn reported(&self) -> Option<BootSecret> {
        self.shown().await?.boot?.secrets.pop()
    }

    /// The server delivers a password over the session that the device has.
    async fn gets(&self, password: &str, version: u64) {
        until("it is connected", async || {
            let is_online = self.shown().await.is_some_and(|d| d.online);
            is_online && is_in_contact(&self.status().await)
        })
        .await;
        let keeper = self.host.boot_secrets();
        let value = Secret::new(STANDARD.encode(format!("{USER}:{password}")));
        let change = SecretChange { version, changed_s: 1000 + version };
        let delivery = Delivery {
            secrets: BTreeMap::from([("proxy".to_owned(), value)]),
            changes: BTreeMap::from([("proxy".to_owned(), change)]),
            generation: keeper.given(None).await.unwrap().seen.generation,
        };
        keeper.put(delivery).await.unwrap();
    }

    /// It is connected with this version, and the server knows it.
    async fn uses(&self, version: u64) {
        until(&format!("it uses version {version}"), async || {
            let is_used = |s: &BootSecret| s.used == Some(version) && is_in_contact(s);
            let is_online = self.shown().await.is_some_and(|d| d.online);
            // What the device holds, not only what it reported before.
            is_online
                && is_used(&self.status().await)
                && self.reported().await.is_some_and(|s| is_used(&s))
        })
        .await;
    }

    async fn alarm(&self) -> Option<String> {
        self.shown().await?.alarm
    }

    /// It returned to a version, and says so.
    async fn says_that_it_returned(&self, from: u64, to: u64) {
        let expected = format!(
            "secret_refused: version {from} of the secret proxy was not accepted; \
             returned to version {to}"
        );
        until(&expected, async || self.alarm().await.as_deref() == Some(&*expected)).await;
        self.uses(to).await;
    }

    async fn tries(&self, version: u64) {
        until("the trial begins", async || {
            let status = self.status().await;
            status.phase == BootSecretPhase::Trial && status.used == Some(version)
        })
        .await;
    }

    async fn power_off(&mut self) {
        self.agent.abort();
        (&mut self.agent).await.ok();
        self.network.cut();
    }

    fn power_on(&mut self) {
        self.host.cut_power().unwrap();
        self.agent = run(&self.host);
    }
}

fn is_in_contact(secret: &BootSecret) -> bool {
    secret.phase == BootSecretPhase::Settled && secret.until_s.is_none()
}

fn run(host: &Arc<Host>) -> JoinHandle<anyhow::Result<()>> {
    let host = Arc::clone(host);
    tokio::spawn(async move { host.run().await })
}

#[actix_web::test]
async fn a_wrong_password_returns_to_the_old_one_and_the_device_says_so() {
    let device = Device::new().await;
    device.gets("wrong", 2).await;
    device.says_that_it_returned(2, 1).await;
    // The server delivers it again at each session.
    device.gets("wrong", 2).await;
    assert_eq!(device.status().await.used, Some(1));
    // Another one is tried, and ends the alarm.
    device.network.accepts("three");
    device.gets("three", 3).await;
    device.uses(3).await;
    assert_eq!(device.alarm().await, None);
    assert_eq!(device.reported().await.unwrap().other, Some(1));
}

#[actix_web::test]
async fn a_password_that_came_before_the_network_changed_lets_the_device_in_afterwards() {
    let mut device = Device::new().await;
    device.gets("two", 2).await;
    device.says_that_it_returned(2, 1).await;
    device.network.accepts("two");
    device.network.cut();
    device.uses(2).await;
    assert_eq!(device.alarm().await, None);
    // The next one too, although the device is off while the network changes.
    device.gets("three", 3).await;
    device.says_that_it_returned(3, 2).await;
    device.power_off().await;
    device.network.accepts("three");
    device.power_on();
    device.uses(3).await;
}

#[actix_web::test]
async fn a_power_cut_in_a_trial_loses_neither_password() {
    let mut device = Device::new().await;
    for (password, accepted, version, expected) in
        [("two", "two", 2, 2), ("three", "two", 3, 2), ("four", "four", 4, 4)]
    {
        device.gets(password, version).await;
        device.tries(version).await;
        device.power_off().await;
        device.network.accepts(accepted);
        device.power_on();
        device.uses(expected).await;
    }
}

#[actix_web::test]
async fn a_password_that_came_after_the_network_changed_is_used_at_once() {
    let device = Device::new().await;
    // The session that the device has goes on.
    device.network.accepts("two");
    device.gets("two", 2).await;
    device.uses(2).await;
    // An operator has a value tried again that came too early.
    device.gets("three", 3).await;
    device.says_that_it_returned(3, 2).await;
    device.network.accepts("three");
    device.host.boot_secrets().retry().await.unwrap();
    device.uses(3).await;
}
