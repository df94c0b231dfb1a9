//! A machine with a real TPM (swtpm), a server that trusts the TPM's manufacturer, and the messages
//! between them.

use crate::peer::Peer;
use crate::world::{TestDevice, World, write_keys};
use fleeti_core::attestation::Level;
use fleeti_core::canonical::sha256_hex;
use fleeti_core::wire::attestation::{Challenge, Evidence, TpmProof, TpmSecret};
use fleeti_core::wire::mqtt::{Down, Up};
use fleeti_server::config::Config;
use fleeti_testkit::agent::Paths;
use fleeti_testkit::agent::privileged::measured;
use fleeti_testkit::tpm::{Manufacturer, Tpm, phases_log};
use reqwest::StatusCode;
use rumqttc::v5::mqttbytes::v5::{Packet, PubAckReason};
use std::path::Path;

pub const PHASES: [&str; 4] = ["enter-initrd", "leave-initrd", "sysinit", "ready"];

pub fn captured_log() -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../fleeti-pki/tests/fixtures/measured/ovmf-2022.11-systemd-252.log");
    std::fs::read(path).unwrap()
}

/// A server that trusts one TPM manufacturer.
pub async fn world(manufacturer: &Manufacturer, trusts_hypervisor: bool) -> World {
    world_with(manufacturer, |config| config.trusts_hypervisor = trusts_hypervisor).await
}

/// The same, with another configuration.
pub async fn world_with(manufacturer: &Manufacturer, change: impl FnOnce(&mut Config)) -> World {
    let dir = tempfile::tempdir().unwrap();
    write_keys(dir.path());
    let manufacturers = dir.path().join("pki/tpm-manufacturers/virtual");
    std::fs::create_dir_all(&manufacturers).unwrap();
    std::fs::write(manufacturers.join("manufacturer.pem"), manufacturer.certificate_pem().unwrap())
        .unwrap();
    World::start(dir, change).await
}

/// A machine: a TPM with the log of its boot.
pub struct Machine {
    pub paths: Paths,
    pub tpm: Tpm,
}

impl Machine {
    pub fn new(manufacturer: &Manufacturer) -> Self {
        Self::that_measured(manufacturer, &captured_log())
    }

    pub fn that_measured(manufacturer: &Manufacturer, firmware_log: &[u8]) -> Self {
        let tpm = Tpm::new(manufacturer).unwrap();
        tpm.measure(firmware_log, &PHASES).unwrap();
        let paths = tpm.paths(firmware_log, &phases_log(&PHASES)).unwrap();
        Self { paths, tpm }
    }

    /// Shows the TPM to the server; an error is the status of the refusal.
    pub async fn show(&self, world: &World, device: &TestDevice) -> Result<TpmSecret, StatusCode> {
        let http = world.https(device.tls.as_ref().clone());
        let shown = measured::identity(&self.paths).unwrap().unwrap();
        let response = http.post(world.url("/tpm")).json(&shown).send().await.unwrap();
        if response.status().is_success() {
            Ok(response.json().await.unwrap())
        } else {
            Err(response.status())
        }
    }

    pub fn proof(&self, secret: &TpmSecret) -> TpmProof {
        TpmProof {
            id: secret.id.clone(),
            secret: measured::activate(&self.paths, &secret.blob, &secret.secret).unwrap(),
        }
    }

    pub async fn bind(&self, world: &World, device: &TestDevice) -> Result<(), StatusCode> {
        let secret = self.show(world, device).await?;
        prove(world, device, &self.proof(&secret)).await
    }

    /// The answer to a challenge; the log is uploaded first.
    pub async fn answer(
        &self,
        world: &World,
        device: &TestDevice,
        challenge: &Challenge,
    ) -> Evidence {
        let said = measured::evidence(&self.paths, &challenge.nonce, &device.id).unwrap();
        let firmware_log = sha256_hex(&said.firmware_log);
        assert_eq!(
            put_log(world, device, &firmware_log, said.firmware_log).await,
            StatusCode::NO_CONTENT
        );
        Evidence {
            challenge: challenge.id.clone(),
            quote: said.quote,
            signature: said.signature,
            pcrs: said.pcrs.into_iter().collect(),
            firmware_log,
            phases_log: said.phases_log,
        }
    }
}

pub async fn prove(world: &World, device: &TestDevice, proof: &TpmProof) -> Result<(), StatusCode> {
    let http = world.https(device.tls.as_ref().clone());
    let response = http.post(world.url("/tpm/proved")).json(proof).send().await.unwrap();
    if response.status().is_success() { Ok(()) } else { Err(response.status()) }
}

pub async fn put_log(
    world: &World,
    device: &TestDevice,
    sha256: &str,
    bytes: Vec<u8>,
) -> StatusCode {
    let http = world.https(device.tls.as_ref().clone());
    http.put(world.url(&format!("/logs/{sha256}"))).body(bytes).send().await.unwrap().status()
}

/// The next challenge of a session.
pub async fn question(peer: &mut Peer, device: &TestDevice) -> Challenge {
    loop {
        let message = peer.message().await;
        if message.topic == Down::Challenge.topic(&device.id) {
            return serde_json::from_slice(&message.payload).unwrap();
        }
    }
}

pub async fn send(peer: &mut Peer, device: &TestDevice, evidence: &Evidence) -> PubAckReason {
    peer.publish(Up::Evidence.topic(&device.id), &serde_json::to_vec(evidence).unwrap(), 40).await;
    loop {
        match peer.receive().await {
            Some(Packet::PubAck(ack)) if ack.pkid == 40 => return ack.reason,
            Some(_) => {}
            None => panic!("closed"),
        }
    }
}

/// Answers the next challenge of a session; `change` may alter the evidence first.
pub async fn prove_start(
    world: &World,
    machine: &Machine,
    device: &TestDevice,
    peer: &mut Peer,
    change: impl FnOnce(&mut Evidence),
) {
    let asked = question(peer, device).await;
    let mut evidence = machine.answer(world, device, &asked).await;
    change(&mut evidence);
    assert_eq!(send(peer, device, &evidence).await, PubAckReason::Success);
}

pub async fn level(world: &World, device: &TestDevice) -> Level {
    world.client.attestation(&device.id).await.unwrap().level
}
