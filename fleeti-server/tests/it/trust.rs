//! Rotation of intermediate CAs: a ceremony, a server, a real agent, and an attacker with a stolen
//! old intermediate CA.

use crate::peer::Peer;
use crate::world::{World, offline, write_keys};
use fleeti_client::ClientError;
use fleeti_core::wire::api::{ImportBundle, RevocationReason, SwitchIssuer, TrustStatus};
use fleeti_core::wire::device::SignedBundle;
use fleeti_pki::base64_text;
use fleeti_pki::ceremony::{Issued, LIST_S, OpenRoot, Transcript};
use fleeti_pki::certificate::{
    self, Authority, Period, Purpose, Role, from_pem, issue, to_der, to_pem,
};
use fleeti_pki::csr;
use fleeti_pki::hierarchy::purpose;
use fleeti_pki::sealed;
use fleeti_pki::signer::{Algorithm, Signer, SoftKey};
use fleeti_store::trust::NewBundle;
use fleeti_testkit::host::{Host, Setup};
use rustls::ServerConfig;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use x509_cert::Certificate;

fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

/// The root on its own machine.
struct Ceremony {
    key: SoftKey,
    root: Certificate,
    transcript: Transcript,
    issued: Issued,
}

const WHO: [&str; 2] = ["alice", "bob"];

impl Ceremony {
    /// Adopts the root of a data folder.
    fn adopt(data: &Path) -> (Self, ImportBundle) {
        let read =
            |name: &str| std::fs::read_to_string(data.join("pki/public").join(name)).unwrap();
        let (key, root) = (
            SoftKey::from_pkcs8_der(&offline(purpose::ROOT)).unwrap(),
            from_pem(&read("root.pem")).unwrap(),
        );
        let mut ceremony =
            Self { key, root, transcript: Transcript::default(), issued: Issued::default() };
        let intermediates =
            Purpose::ALL.map(|p| read(&format!("{}.pem", purpose::of_intermediate(p)))).to_vec();
        let bundle = ceremony
            .with(|open, t, _| open.begin(t, 2, &WHO.map(str::to_owned), intermediates).unwrap());
        ceremony.issued = Issued::of(&bundle, &ceremony.root).unwrap();
        let import = ceremony.import(bundle);
        (ceremony, import)
    }
    fn with<T>(&mut self, act: impl FnOnce(&OpenRoot<'_>, &mut Transcript, &mut Issued) -> T) -> T {
        let operators = WHO.map(str::to_owned);
        let open = OpenRoot {
            certificate: &self.root,
            signer: &self.key,
            operators: &operators,
            now_s: now_s(),
        };
        act(&open, &mut self.transcript, &mut self.issued)
    }
    fn import(&self, bundle: SignedBundle) -> ImportBundle {
        let signature = base64_text(&self.transcript.sign(&self.key).unwrap());
        ImportBundle {
            bundle,
            transcript: self.transcript.text().to_owned(),
            transcript_signature: signature,
            anyway: false,
        }
    }
    /// Certifies a new intermediate CA and puts it beside the others of the signing service, as
    /// number 2.
    fn certify(&mut self, data: &Path, of: Purpose) -> (String, ImportBundle) {
        let (name, key) =
            (purpose::of_intermediate(of), SoftKey::generate(Algorithm::P384).unwrap());
        let csr = csr::create(&key).unwrap();
        let (certificate, bundle) =
            self.with(|open, t, issued| open.certify(t, issued, of, &csr).unwrap());
        let sealed = sealed::seal(
            &key.to_pkcs8_der().unwrap(),
            name,
            std::fs::read(data.join("passphrase")).unwrap().as_slice(),
        )
        .unwrap();
        std::fs::write(data.join(format!("pki/online/{name}-2.key")), sealed).unwrap();
        std::fs::write(
            data.join(format!("pki/public/{name}-2.pem")),
            to_pem(&certificate).unwrap(),
        )
        .unwrap();
        (certificate::fingerprint(&certificate).unwrap(), self.import(bundle))
    }
    fn revoke(&mut self, certificate: &Certificate) -> ImportBundle {
        let whom = Some((certificate, RevocationReason::KeyCompromise));
        let bundle = self.with(|open, t, issued| open.revoke(t, issued, whom, LIST_S).unwrap());
        self.import(bundle)
    }
}

fn status(result: Result<TrustStatus, ClientError>) -> (u16, String) {
    match result {
        Err(ClientError::Refused(p)) => (p.status, p.detail),
        other => panic!("{other:?}"),
    }
}

fn switch(purpose: &str, sha256: &str) -> SwitchIssuer {
    SwitchIssuer { purpose: purpose.into(), certificate_sha256: sha256.into(), anyway: false }
}

pub async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let wait = async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), wait).await.expect(what);
}

#[actix_web::test]
async fn intermediates_are_rotated_with_overlap_and_the_old_ones_are_worth_nothing_afterwards() {
    let dir = tempfile::tempdir().unwrap();
    write_keys(dir.path());
    let data = dir.path().to_owned();
    let public = |name: &str| {
        from_pem(&std::fs::read_to_string(data.join("pki/public").join(name)).unwrap()).unwrap()
    };
    let (mut ceremony, first) = Ceremony::adopt(&data);
    let (new_device, second) = ceremony.certify(&data, Purpose::Device);
    let (new_server, third) = ceremony.certify(&data, Purpose::Server);
    let world = World::start(dir, |_| {}).await;
    let old = world.enroll().await;
    // A real agent.
    let home = tempfile::tempdir().unwrap();
    let record =
        world.client.create_enrollment(&"demo".parse().unwrap(), 3600).await.unwrap().record;
    let running = "kiosk@1".parse().unwrap();
    let setup = Setup {
        dir: home.path().into(),
        public: data.join("pki/public"),
        running,
        record,
        is_healthy: true,
    };
    let host = Host::new(setup).unwrap();
    let running = Arc::clone(&host);
    let agent = tokio::task::spawn(async move { running.run().await });
    until("it enrolls", async || world.client.devices().await.unwrap().len() == 2).await;

    // Only what the root has signed is accepted, and nothing older.
    world.client.import_bundle(&first).await.unwrap();
    world.client.import_bundle(&second).await.unwrap();
    assert_eq!(
        status(world.client.import_bundle(&first).await),
        (409, "version 2 of the bundle is already in force, this is version 1".into())
    );
    let forged = ImportBundle {
        bundle: SignedBundle {
            bundle: third.bundle.bundle.replace("\"version\":3", "\"version\":9"),
            ..third.bundle.clone()
        },
        ..third.clone()
    };
    assert_eq!(status(world.client.import_bundle(&forged).await).0, 422);
    let unaccounted = ImportBundle {
        transcript: second.transcript.clone(),
        transcript_signature: second.transcript_signature.clone(),
        ..third.clone()
    };
    assert!(
        status(world.client.import_bundle(&unaccounted).await)
            .1
            .contains("does not contain this bundle")
    );
    let now = world.client.import_bundle(&third).await.unwrap();
    assert_eq!((now.version, now.devices, now.intermediates.len()), (3, 2, 5));
    assert!(now.intermediates.iter().all(|i| i.has_key == (i.purpose != "operator")));
    // The server announces in time what people must renew.
    let ends = now.root_crl_ends_s.unwrap();
    let warnings = |now_s| fleeti_control::trust::warnings(&world.server.control, now_s);
    assert!(
        now.warnings.is_empty() && warnings(ends - 31 * 86_400).is_empty(),
        "{:?}",
        now.warnings
    );
    assert!(warnings(ends - 29 * 86_400)[0].contains("the root's CRL expires in 29 days"));
    let issuing = || now.intermediates.iter().filter(|i| i.is_issuing).map(|i| i.not_after_s);
    let all = warnings(issuing().max().unwrap() + 1);
    assert!(
        all.len() == 3 && all.iter().all(|warning| warning.contains(" has expired")),
        "{all:?}"
    );

    // The old device never installs the bundle, the agent does. The server refuses to switch
    // before the old device has it.
    until("the agent takes the bundle", async || {
        world.client.trust().await.unwrap().devices_with_it == 1
    })
    .await;
    let (code, detail) = status(world.client.switch_issuer(&switch("device", &new_device)).await);
    assert_eq!((code, detail.as_str()), (409, "1 of 2 devices have bundle 3"));
    assert_eq!(
        status(world.client.switch_issuer(&switch("server", &new_device)).await).0,
        404,
        "an intermediate for devices is none for servers"
    );
    for (purpose, sha256) in [("device", &new_device), ("server", &new_server)] {
        let status = world
            .client
            .switch_issuer(&SwitchIssuer { anyway: true, ..switch(purpose, sha256) })
            .await
            .unwrap();
        assert!(
            status.intermediates.iter().any(|i| i.certificate_sha256 == *sha256 && i.is_issuing)
        );
    }
    // Overlap: a device with a certificate of the old CA connects as before; a new device gets one
    // of the new CA.
    Peer::session(&world, &old).await.is_alive().await;
    let new = world.enroll().await;
    Peer::session(&world, &new).await.is_alive().await;
    let of = |pem: String| from_pem(&pem).unwrap().tbs_certificate().issuer().to_string();
    let new_name = public("device-ca-2.pem").tbs_certificate().subject().to_string();
    assert_eq!(of(world.client.certificate(&new.id).await.unwrap()), new_name);
    // Both CAs have a CRL, under the name of its key, with only its own certificates.
    world.client.revoke_device(&new.id, RevocationReason::Unspecified).await.unwrap();
    assert!(Peer::session_refused(&world, &new).await);

    // A bundle that continues an older copy of the root's folder would undo revocations, so it is
    // refused.
    let mut forgotten = Ceremony::adopt(&data).0;
    for _ in 0..5 {
        let csr = csr::create(&SoftKey::generate(Algorithm::P384).unwrap()).unwrap();
        forgotten.with(|open, t, issued| open.certify(t, issued, Purpose::Operator, &csr).unwrap());
    }
    let csr = csr::create(&SoftKey::generate(Algorithm::P384).unwrap()).unwrap();
    let (_, bundle) =
        forgotten.with(|open, t, issued| open.certify(t, issued, Purpose::Operator, &csr).unwrap());
    assert!(
        status(world.client.import_bundle(&forgotten.import(bundle)).await)
            .1
            .contains("does not continue the last")
    );

    // An intermediate CA that the root has revoked no longer counts.
    let cannot = ceremony_copy_revokes(&ceremony, &public("device-ca-2.pem"));
    assert!(
        status(world.client.import_bundle(&cannot).await)
            .1
            .contains("issuer is not in this bundle")
    );
    let fourth = ceremony.revoke(&public("server-ca.pem"));
    let fifth = ceremony.revoke(&public("device-ca.pem"));
    world.client.import_bundle(&fourth).await.unwrap();
    until("the agent takes the last bundle that it can", async || {
        world.client.trust().await.unwrap().devices_with_it == 1
    })
    .await;
    let (code, detail) = status(world.client.import_bundle(&fifth).await);
    assert_eq!(
        (code, detail.starts_with("2 devices still have a certificate")),
        (409, true),
        "{detail}"
    );
    let left_behind = ImportBundle { anyway: true, ..fifth };
    world.client.import_bundle(&left_behind).await.unwrap();
    world.client.import_bundle(&left_behind).await.expect("the same again finishes it");
    assert!(Peer::session_refused(&world, &old).await, "a device of the old intermediate");

    // An attacker with the old server intermediate CA is not accepted as server by a device with
    // the new bundle.
    agent.abort();
    let stolen = SoftKey::from_pkcs8_der(&opened(&data, "server-ca", purpose::SERVER_CA)).unwrap();
    let theirs = answers(&public("server-ca.pem"), &stolen, host.tls().unwrap()).await;
    assert!(theirs.unwrap_err().to_string().contains("Revoked"));
    // Nor is another device, an attacker with the device intermediate CA, or a server of another
    // root.
    let device_ca = (
        public("device-ca-2.pem"),
        SoftKey::from_pkcs8_der(&opened(&data, "device-ca-2", purpose::DEVICE_CA)).unwrap(),
    );
    let (device_ca, device_ca_key) = (&device_ca.0, &device_ca.1);
    let as_device = answers_as(
        Role::Device { id: new.id.clone() },
        (device_ca, device_ca_key),
        host.tls().unwrap(),
    )
    .await;
    assert!(as_device.is_err(), "a device's certificate");
    assert!(
        answers(device_ca, device_ca_key, host.tls().unwrap()).await.is_err(),
        "by the device intermediate"
    );
    let (foreign_root, foreign) =
        (SoftKey::generate(Algorithm::P384).unwrap(), SoftKey::generate(Algorithm::P384).unwrap());
    let root =
        certificate::self_signed(Role::Root, Period::starting(now_s(), 86_400), &foreign_root)
            .unwrap();
    let authority = Authority { certificate: &root, signer: &foreign_root };
    let role = Role::Intermediate { purpose: Purpose::Server };
    let foreign_ca =
        issue(role, Period::starting(now_s(), 86_400), foreign.public_key_der(), &authority)
            .unwrap();
    assert!(answers(&foreign_ca, &foreign, host.tls().unwrap()).await.is_err(), "of another root");
    let ours = SoftKey::from_pkcs8_der(&opened(&data, "server-ca-2", purpose::SERVER_CA)).unwrap();
    answers(&public("server-ca-2.pem"), &ours, host.tls().unwrap()).await.unwrap();
}

/// A bundle from a copy of the ceremony, with another history.
fn ceremony_copy_revokes(ceremony: &Ceremony, whom: &Certificate) -> ImportBundle {
    let key = SoftKey::from_pkcs8_der(&ceremony.key.to_pkcs8_der().unwrap()).unwrap();
    let mut copy = Ceremony {
        key,
        root: ceremony.root.clone(),
        transcript: ceremony.transcript.clone(),
        issued: ceremony.issued.clone(),
    };
    copy.revoke(whom)
}

fn opened(data: &Path, name: &str, purpose: &str) -> Vec<u8> {
    let file = std::fs::read(data.join(format!("pki/online/{name}.key"))).unwrap();
    sealed::open(&file, purpose, &std::fs::read(data.join("passphrase")).unwrap()).unwrap().to_vec()
}

/// Whether a device completes a handshake with a server whose certificate is by this intermediate
/// CA.
async fn answers(
    ca: &Certificate,
    ca_key: &SoftKey,
    device: rustls::ClientConfig,
) -> std::io::Result<()> {
    answers_as(Role::Server { names: vec!["localhost".into()] }, (ca, ca_key), device).await
}

/// The same, with a certificate for another purpose.
async fn answers_as(
    role: Role,
    (ca, ca_key): (&Certificate, &SoftKey),
    device: rustls::ClientConfig,
) -> std::io::Result<()> {
    let key = SoftKey::generate(Algorithm::P256).unwrap();
    let authority = Authority { certificate: ca, signer: ca_key };
    let leaf =
        issue(role, Period::starting(now_s(), 3600), key.public_key_der(), &authority).unwrap();
    let chain = vec![
        CertificateDer::from(to_der(&leaf).unwrap()),
        CertificateDer::from(to_der(ca).unwrap()),
    ];
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.to_pkcs8_der().unwrap().to_vec()));
    let server =
        ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key).unwrap();
    let (near, far) = tokio::io::duplex(64 * 1024);
    let accept = tokio_rustls::TlsAcceptor::from(Arc::new(server)).accept(far);
    let connect = tokio_rustls::TlsConnector::from(Arc::new(device))
        .connect(ServerName::try_from("localhost").unwrap(), near);
    let (_, connected) = tokio::join!(accept, connect);
    connected.map(drop)
}

/// A trust bundle that an attacker writes into the database is refused, because the root has not
/// signed it.
#[actix_web::test]
async fn an_attacker_who_writes_the_database_makes_no_intermediate_count() {
    let dir = tempfile::tempdir().unwrap();
    write_keys(dir.path());
    let (mut ceremony, first) = Ceremony::adopt(dir.path());
    // The root of another party, with the same name.
    let key = SoftKey::generate(Algorithm::P384).unwrap();
    ceremony.root =
        certificate::self_signed(Role::Root, Period::starting(now_s(), 86_400), &key).unwrap();
    ceremony.key = key;
    let csr = csr::create(&SoftKey::generate(Algorithm::P384).unwrap()).unwrap();
    ceremony.issued = Issued::default();
    let (_, forged) =
        ceremony.with(|open, t, issued| open.certify(t, issued, Purpose::Device, &csr).unwrap());
    let db = fleeti_store::Db::open(&dir.path().join("fleeti.db")).await.unwrap();
    let pki = fleeti_control::pki::Pki::open(dir.path()).unwrap();
    let mut tx = db.write().await.unwrap();
    let new = NewBundle {
        root_sha256: &pki.root_sha256,
        version: 1,
        bundle: &first.bundle,
        transcript: "",
    };
    fleeti_store::trust::insert(&mut tx, new, 0).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(fleeti_control::trust::load(&db, &pki).await.unwrap().version(), 1);
    let mut tx = db.write().await.unwrap();
    let new = NewBundle { version: 2, bundle: &forged, ..new };
    fleeti_store::trust::insert(&mut tx, new, 0).await.unwrap();
    tx.commit().await.unwrap();
    assert!(fleeti_control::trust::load(&db, &pki).await.is_err());
}
