//! Devices that enroll with a key in a TPM (swtpm), driven by the agent's own code; and attackers
//! who want a certificate in their name.

use crate::machine::{Machine, world, world_with};
use crate::recoveries::{below, stopped};
use crate::world::World;
use fleeti_agent_parts::*;
use fleeti_control::clock::Clock;
use fleeti_control::clock::now_s;
use fleeti_core::canonical::sha256_hex;
use fleeti_core::id::{Architecture, DeviceId};
use fleeti_core::wire::api::{Provision, RevocationReason};
use fleeti_core::wire::attestation::{
    KeyProof, Secret, TpmEnrollRequest, TpmEnrollment, TpmProof, TpmSecret,
};
use fleeti_core::wire::enrollment::{
    EnrollRequest, EnrollResponse, ProvedRenewRequest, RenewRequest, RenewResponse,
};
use fleeti_pki::certificate::{self, Period, Protection, Role, self_signed};
use fleeti_pki::csr;
use fleeti_pki::signer::{Algorithm, Signer, SoftKey};
use fleeti_testkit::tpm::{Manufacturer, serve_helper};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The parts of the agent that these tests use.
mod fleeti_agent_parts {
    pub use fleeti_testkit::agent::channel::Channel;
    pub use fleeti_testkit::agent::device_key::{KeptKey, TlsKey};
    pub use fleeti_testkit::agent::privileged::{Occasion, measured};
}

/// A key in a machine's TPM.
struct Key {
    seed: String,
    kept: KeptKey,
    signer: Arc<dyn Signer>,
}

impl Key {
    fn new(machine: &Machine) -> Self {
        let seed = hex::encode(rand::random::<[u8; 32]>());
        let kept = KeptKey::Tpm {
            seed: seed.clone(),
            public: measured::device_key(&machine.paths, &seed).unwrap(),
        };
        let signer = kept.open(&machine.paths).unwrap();
        Self { seed, kept, signer }
    }
    fn csr(&self) -> String {
        csr::create(self.signer.as_ref()).unwrap()
    }
    fn certified(&self, machine: &Machine, occasion: &Occasion, channel: &Channel) -> KeyProof {
        measured::certify(
            &machine.paths,
            &self.seed,
            occasion,
            &hex::encode(channel.binding().unwrap()),
        )
        .unwrap()
    }
}

fn machine(manufacturer: &Manufacturer) -> Machine {
    let machine = Machine::new(manufacturer);
    serve_helper(&machine.paths, None).unwrap();
    machine
}

fn occasion(token: &str) -> Occasion {
    Occasion::Enrollment(sha256_hex(token.as_bytes()))
}

async fn channel(world: &World) -> Channel {
    Channel::open(&world.url(""), world.anonymous(), None).await.unwrap()
}

/// Shows the TPM, and returns the secret that the TPM decrypted.
async fn proof(channel: &mut Channel, machine: &Machine, token: &str) -> Result<TpmProof, String> {
    let tpm = measured::identity(&machine.paths).unwrap().unwrap();
    let request = TpmEnrollRequest { token: token.to_owned(), tpm };
    let secret: TpmSecret =
        channel.post("/enroll/tpm", &request).await.map_err(|e| e.to_string())?;
    Ok(TpmProof {
        id: secret.id,
        secret: measured::activate(&machine.paths, &secret.blob, &secret.secret).unwrap(),
    })
}

fn request(token: &str, csr_pem: String, tpm: Option<TpmEnrollment>) -> EnrollRequest {
    EnrollRequest {
        token: token.to_owned(),
        csr_pem,
        architecture: Architecture::X86_64,
        running: "kiosk@1".parse().unwrap(),
        tpm,
    }
}

async fn send(channel: &mut Channel, request: &EnrollRequest) -> Result<EnrollResponse, String> {
    channel.post("/enroll", request).await.map_err(|e| e.to_string())
}

/// The whole exchange, as a device performs it.
async fn enroll(
    world: &World,
    machine: &Machine,
    key: &Key,
    token: &str,
) -> Result<EnrollResponse, String> {
    let mut channel = channel(world).await;
    let proof = proof(&mut channel, machine, token).await?;
    let tpm = TpmEnrollment { proof, key: key.certified(machine, &occasion(token), &channel) };
    send(&mut channel, &request(token, key.csr(), Some(tpm))).await
}

fn protection(pem: &str) -> Protection {
    Protection::of(&certificate::from_pem(pem).unwrap()).unwrap().unwrap()
}

/// An enrollment in which one part belongs to another TPM, key, token or connection is refused.
#[actix_web::test]
async fn each_part_of_the_exchange_is_for_one_tpm_one_key_one_token_and_one_connection() {
    let manufacturer = Manufacturer::new().unwrap();
    let world = world(&manufacturer, false).await;
    let (mine, other) = (machine(&manufacturer), machine(&manufacturer));
    let (key, second) = (Key::new(&mine), Key::new(&mine));
    let token = world.token().await;
    let soft = SoftKey::generate(Algorithm::P256).unwrap();

    // Each variant is a part of the request that is false; the table has the text of the refusal.
    enum Lie {
        Secret,
        OtherConnection,
        OtherKeyCertified,
        KeyOfRequest,
        OtherTpm,
        Renewal,
        OtherToken,
    }
    let table = [
        (Lie::Secret, "wrong or expired secret for this TPM"),
        (Lie::OtherConnection, "certification-purpose"),
        (Lie::OtherKeyCertified, "certification-name"),
        (Lie::KeyOfRequest, "key-other"),
        (Lie::OtherTpm, "(certification)"),
        (Lie::Renewal, "certification-purpose"),
        (Lie::OtherToken, "certification-purpose"),
    ];
    for (lie, expected) in table {
        let mut connection = channel(&world).await;
        let proved = proof(&mut connection, &mine, &token).await.unwrap();
        let good = || key.certified(&mine, &occasion(&token), &connection);
        let (mut proved, mut csr_pem) = (proved, key.csr());
        let certified = match lie {
            Lie::Secret => {
                proved.secret = Secret::new(fleeti_pki::base64_text(&[0; 32]));
                good()
            }
            Lie::OtherConnection => key.certified(&mine, &occasion(&token), &channel(&world).await),
            // The certification is about another key of the same TPM, with the data that belongs to
            // this one.
            Lie::OtherKeyCertified => {
                let named =
                    certified_with_data_of(&mine, &second, &key, &occasion(&token), &connection);
                KeyProof { key: good().key, ..named }
            }
            Lie::KeyOfRequest => {
                csr_pem = csr::create(&soft).unwrap();
                good()
            }
            Lie::OtherTpm => {
                let of_other = Key {
                    seed: key.seed.clone(),
                    kept: key.kept.clone(),
                    signer: Arc::clone(&key.signer),
                };
                KeyProof {
                    key: good().key,
                    ..of_other.certified(&other, &occasion(&token), &connection)
                }
            }
            Lie::Renewal => {
                key.certified(&mine, &Occasion::Renewal("dev-1".parse().unwrap()), &connection)
            }
            Lie::OtherToken => key.certified(&mine, &occasion(&"0".repeat(64)), &connection),
        };
        let spent = proved.clone();
        let refused = send(
            &mut connection,
            &request(&token, csr_pem, Some(TpmEnrollment { proof: proved, key: certified })),
        )
        .await;
        let refused = refused.unwrap_err();
        assert!(refused.contains(expected), "{refused}");
        assert!(!refused.contains(spent.secret.expose()), "an answer tells no secret");
        // Whatever was false, the decrypted secret cannot be used twice.
        let again = TpmEnrollment {
            proof: spent,
            key: key.certified(&mine, &occasion(&token), &connection),
        };
        let again =
            send(&mut connection, &request(&token, key.csr(), Some(again))).await.unwrap_err();
        assert!(again.contains("wrong or expired secret for this TPM"), "{again}");
    }
    assert!(world.client.devices().await.unwrap().is_empty(), "nobody came in");

    let mut connection = channel(&world).await;
    assert!(
        proof(&mut connection, &mine, &"0".repeat(64)).await.unwrap_err().contains("token"),
        "nothing for a token that is none"
    );
    let enrolled = enroll(&world, &mine, &key, &token).await.unwrap();
    assert_eq!(
        protection(&enrolled.certificate_chain_pem),
        Protection::Tpm,
        "a TPM in software is no chip"
    );
    let tpm = world.client.attestation(&enrolled.device).await.unwrap().tpm.unwrap();
    assert_eq!(tpm.manufacturer.as_deref(), Some("virtual"));
    // The answer was lost: the same key asks again, and is the same device.
    assert_eq!(enroll(&world, &mine, &key, &token).await.unwrap().device, enrolled.device);
    assert!(
        enroll(&world, &mine, &second, &token).await.unwrap_err().contains("used"),
        "another key does not"
    );
}

/// A certification of the key `certified`, with the data that belongs to `answered`.
fn certified_with_data_of(
    machine: &Machine,
    certified: &Key,
    answered: &Key,
    occasion: &Occasion,
    channel: &Channel,
) -> KeyProof {
    use fleeti_pki::attestation::key::Purpose;
    let Occasion::Enrollment(token_sha256) = occasion else { panic!("an enrollment") };
    let data = Purpose::enrollment(token_sha256, channel.binding().unwrap())
        .qualifying_data(answered.signer.public_key_der());
    let mut tpm = fleeti_testkit::agent::tpm::Tpm::open(&machine.paths).unwrap().unwrap();
    let said = tpm.certify(&certified.kept.seed().unwrap().unwrap(), |_| Ok(data)).unwrap();
    KeyProof {
        key: String::new(),
        certification: fleeti_pki::base64_text(&said.certification),
        signature: fleeti_pki::base64_text(&said.signature),
    }
}

/// A token for one TPM enrolls neither another TPM nor a device without one.
#[actix_web::test]
async fn a_token_for_one_tpm_is_of_no_use_to_another_or_to_none() {
    let manufacturer = Manufacturer::new().unwrap();
    let world = world(&manufacturer, false).await;
    let (mine, other) = (machine(&manufacturer), machine(&manufacturer));
    let known = enroll(&world, &mine, &Key::new(&mine), &world.token().await).await.unwrap();
    let ek_sha256 = world.client.attestation(&known.device).await.unwrap().tpm.unwrap().ek_sha256;
    world
        .client
        .revoke_device(&known.device, RevocationReason::CessationOfOperation)
        .await
        .unwrap();

    let provision = Provision {
        valid_s: 3600,
        release: None,
        ek_sha256: Some(ek_sha256.clone()),
        fleet_keys: true,
        proxy: None,
    };
    let provisioned = world.client.provision(&"demo".parse().unwrap(), &provision).await.unwrap();
    let token = provisioned.record.token.clone();
    let soft = SoftKey::generate(Algorithm::P256).unwrap();
    let without = world.try_enroll(&token, &soft).await;
    assert_eq!(without.status(), 403);
    assert!(
        enroll(&world, &other, &Key::new(&other), &token)
            .await
            .unwrap_err()
            .contains("another TPM")
    );
    let enrolled = enroll(&world, &mine, &Key::new(&mine), &token).await.unwrap();
    assert_eq!(
        world.client.attestation(&enrolled.device).await.unwrap().tpm.unwrap().ek_sha256,
        ek_sha256
    );
}

/// A TPM that is bound to a device enrolls no other; of several enrollments at once with one TPM,
/// one succeeds.
#[actix_web::test]
async fn a_tpm_that_is_another_devices_does_not_enroll_and_of_many_at_once_one_does() {
    let manufacturer = Manufacturer::new().unwrap();
    let world = world(&manufacturer, false).await;
    let mine = machine(&manufacturer);
    let key = Key::new(&mine);
    let mut ready = Vec::new();
    for _ in 0..100 {
        let token = world.token().await;
        let mut connection = channel(&world).await;
        let proof = proof(&mut connection, &mine, &token).await.unwrap();
        let tpm =
            TpmEnrollment { proof, key: key.certified(&mine, &occasion(&token), &connection) };
        ready.push((connection, request(&token, key.csr(), Some(tpm))));
    }
    let results = futures::future::join_all(
        ready.iter_mut().map(|(connection, request)| send(connection, request)),
    )
    .await;
    let (good, refused): (Vec<_>, Vec<_>) = results.into_iter().partition(Result::is_ok);
    assert_eq!((good.len(), refused.len()), (1, 99));
    for e in refused {
        assert!(e.as_ref().unwrap_err().contains("another TPM"), "{e:?}");
    }
    assert_eq!(world.client.devices().await.unwrap().len(), 1);
    let audit = world.audit().await;
    assert_eq!(
        (audit.matches("device.tpm-bound").count(), audit.matches("device.tpm-refused").count()),
        (1, 99),
        "each that came"
    );
}

/// A device with a key in its TPM gets no certificate for a key in a file. It can renew by its TPM
/// without a valid certificate.
#[actix_web::test]
async fn a_key_that_was_in_the_tpm_stays_in_it_and_the_tpm_brings_a_device_back_without_a_certificate()
 {
    let manufacturer = Manufacturer::new().unwrap();
    let ahead = Arc::new(AtomicU64::new(0));
    let moved = Arc::clone(&ahead);
    let world = world_with(&manufacturer, |config| {
        config.clock = Clock::of(move || now_s() + moved.load(Ordering::SeqCst))
    })
    .await;
    let (mine, other) = (machine(&manufacturer), machine(&manufacturer));
    let key = Key::new(&mine);
    let enrolled = enroll(&world, &mine, &key, &world.token().await).await.unwrap();
    let device = &enrolled.device;
    let theirs = enroll(&world, &other, &Key::new(&other), &world.token().await).await.unwrap();

    // The certificate is due for renewal. Root on the device wants a key that can be copied.
    ahead.store(15 * 86_400, Ordering::SeqCst);
    let soft = SoftKey::generate(Algorithm::P256).unwrap();
    let mut with_certificate =
        Channel::open(&world.url(""), tls(&world, &enrolled, &key), None).await.unwrap();
    let renew = RenewRequest { csr_pem: csr::create(&soft).unwrap(), key: None };
    let refused =
        with_certificate.post::<_, RenewResponse>("/renew", &renew).await.unwrap_err().to_string();
    assert!(refused.contains("in its TPM"), "{refused}");
    let certified = key.certified(&mine, &Occasion::Renewal(device.clone()), &with_certificate);
    let renew = RenewRequest { csr_pem: csr::create(&soft).unwrap(), key: Some(certified) };
    let refused =
        with_certificate.post::<_, RenewResponse>("/renew", &renew).await.unwrap_err().to_string();
    assert!(refused.contains("key-other"), "{refused}");
    let next = Key::new(&mine);
    let certified = next.certified(&mine, &Occasion::Renewal(device.clone()), &with_certificate);
    let renew = RenewRequest { csr_pem: next.csr(), key: Some(certified) };
    let renewed: RenewResponse = with_certificate.post("/renew", &renew).await.unwrap();
    assert_eq!(protection(&renewed.certificate_chain_pem), Protection::Tpm);

    // Without a certificate: every refused request gets the same answer.
    let ask = async |device: &DeviceId,
                     key: &Key,
                     machine: &Machine,
                     occasion: Occasion,
                     is_other_connection: bool| {
        let mut connection = channel(&world).await;
        let elsewhere = channel(&world).await;
        let certified = key.certified(
            machine,
            &occasion,
            if is_other_connection { &elsewhere } else { &connection },
        );
        let request =
            ProvedRenewRequest { device: device.clone(), csr_pem: key.csr(), key: certified };
        connection
            .post::<_, RenewResponse>("/renew/proved", &request)
            .await
            .map_err(|e| e.to_string())
    };
    let renewal = || Occasion::Renewal(device.clone());
    let third = Key::new(&mine);
    let nobody: DeviceId = "dev-nobody".parse().unwrap();
    let stranger = Key::new(&other);
    let refusals = [
        ask(&nobody, &third, &mine, Occasion::Renewal(nobody.clone()), false).await,
        ask(device, &stranger, &other, renewal(), false).await,
        ask(&theirs.device, &third, &mine, Occasion::Renewal(theirs.device.clone()), false).await,
        ask(device, &third, &mine, renewal(), true).await,
        ask(device, &third, &mine, occasion(&"0".repeat(64)), false).await,
    ];
    for refused in refusals {
        assert_eq!(refused.unwrap_err(), "the server refused: this device cannot renew here");
    }
    let back = ask(device, &third, &mine, renewal(), false).await.unwrap();
    let back = EnrollResponse { certificate_chain_pem: back.certificate_chain_pem, ..enrolled };
    let http = world.https(tls(&world, &back, &third));
    assert_eq!(http.get(world.url("/desired")).send().await.unwrap().status(), 200);
    for reason in [RevocationReason::CertificateHold, RevocationReason::KeyCompromise] {
        world.client.revoke_device(&back.device, reason).await.unwrap();
        let refused =
            ask(&back.device, &third, &mine, Occasion::Renewal(back.device.clone()), false)
                .await
                .unwrap_err();
        assert_eq!(refused, "the server refused: this device cannot renew here", "{reason:?}");
    }
}

/// A device whose intermediate CA no longer counts renews by its TPM at once, before its window.
#[actix_web::test]
async fn a_tpm_brings_a_device_back_at_once_whose_intermediate_counts_no_more() {
    let manufacturer = Manufacturer::new().unwrap();
    let world = world_with(&manufacturer, |_| {}).await;
    let (mine, token) = (machine(&manufacturer), world.token().await);
    let device = enroll(&world, &mine, &Key::new(&mine), &token).await.unwrap().device;
    let ask = async |world: &World, key: &Key| {
        let mut connection = channel(world).await;
        let key_proof = key.certified(&mine, &Occasion::Renewal(device.clone()), &connection);
        let request =
            ProvedRenewRequest { device: device.clone(), csr_pem: key.csr(), key: key_proof };
        connection
            .post::<_, RenewResponse>("/renew/proved", &request)
            .await
            .map_err(|e| e.to_string())
    };
    let early = ask(&world, &Key::new(&mine)).await.unwrap_err();
    assert!(early.contains("cannot be renewed before"), "{early}");
    let (dir, _) = stopped(world).await;
    let root = SoftKey::generate(Algorithm::P384).unwrap();
    let certificate = self_signed(Role::Root, Period::starting(now_s(), 86_400), &root).unwrap();
    below(dir.path(), (&certificate, &root));
    let world = World::start(dir, |_| {}).await;
    ask(&world, &Key::new(&mine)).await.unwrap();
    // The device now has a certificate of a trusted intermediate CA, so the server issues only a
    // few more.
    let mut given = 1;
    while let Ok(_more) = ask(&world, &Key::new(&mine)).await {
        given += 1;
        assert!(given < 10, "there is no end of them");
    }
    assert!(given <= 3, "{given}");
}

fn tls(world: &World, enrolled: &EnrollResponse, key: &Key) -> rustls::ClientConfig {
    use rustls_pki_types::pem::PemObject;
    let chain =
        rustls_pki_types::CertificateDer::pem_slice_iter(enrolled.certificate_chain_pem.as_bytes());
    let certified = rustls::sign::CertifiedKey::new(
        chain.collect::<Result<_, _>>().unwrap(),
        Arc::new(TlsKey(Arc::clone(&key.signer))),
    );
    let resolver = rustls::sign::SingleCertAndKey::from(certified);
    rustls::ClientConfig::builder()
        .with_root_certificates(world.roots())
        .with_client_cert_resolver(Arc::new(resolver))
}
