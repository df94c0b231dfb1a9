//! Certificates of other CAs, and CRLs that must not count, at both device ports.

use crate::peer::Peer;
use crate::world::{World, files_of, key_of};
use fleeti_control::trust::access::{CheckedCrls, IssuerCrl};
use fleeti_control::trust::revocation;
use fleeti_core::id::DeviceId;
use fleeti_pki::certificate::{self, Authority, Period, Purpose, Role, issue, self_signed, to_der};
use fleeti_pki::crl;
use fleeti_pki::hierarchy::purpose;
use fleeti_pki::signer::{Algorithm, Signer, SoftKey, key_id};
use rustls::ClientConfig;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};
use tokio::io::AsyncReadExt;
use x509_cert::Certificate;

fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

fn device_ca() -> (Certificate, SoftKey) {
    let pem = String::from_utf8(files_of("public/device-ca.pem")).unwrap();
    (
        certificate::from_pem(&pem).unwrap(),
        SoftKey::from_pkcs8_der(&key_of("online", purpose::DEVICE_CA)).unwrap(),
    )
}

fn client(world: &World, chain: &[&Certificate], key: &SoftKey) -> Arc<ClientConfig> {
    let chain = chain.iter().map(|c| CertificateDer::from(to_der(c).unwrap())).collect();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.to_pkcs8_der().unwrap().to_vec()));
    Arc::new(
        ClientConfig::builder()
            .with_root_certificates(world.roots())
            .with_client_auth_cert(chain, key)
            .unwrap(),
    )
}

/// Whether the handshake itself fails, at the MQTT port and at the HTTPS port.
async fn fails(world: &World, tls: &Arc<ClientConfig>) -> [bool; 2] {
    // In TLS 1.3 the server refuses a certificate by an alert after the client's last handshake
    // message. A client that was admitted and then sends an invalid packet sees the connection end
    // without an alert.
    let mqtt = match Peer::tls(world, tls).await {
        Err(_) => true,
        Ok(mut peer) => {
            peer.raw(&[0xc0, 0x00]).await; // PINGREQ
            peer.stream
                .read(&mut [0; 16])
                .await
                .is_err_and(|e| e.kind() == std::io::ErrorKind::InvalidData)
        }
    };
    [mqtt, world.https(tls.as_ref().clone()).get(world.url("/desired")).send().await.is_err()]
}

/// A certificate of another CA, for another purpose, or outside its validity is refused in the TLS
/// handshake.
#[actix_web::test]
async fn a_certificate_that_the_device_authority_did_not_make_for_a_device_of_now_ends_in_the_handshake()
 {
    let world = World::new().await;
    let victim: DeviceId = world.enroll().await.id;
    let (ca, ca_key) = device_ca();
    let hour = Period::starting(now_s(), 3600);
    let key = SoftKey::generate(Algorithm::P256).unwrap();
    let made = |role: Role, period: Period, by: &Certificate, signer: &SoftKey| {
        issue(role, period, key.public_key_der(), &Authority { certificate: by, signer }).unwrap()
    };
    let device = || Role::Device { id: victim.clone() };

    // Certified by the right CA: the database refuses it later, with an error that says so.
    let good = made(device(), hour, &ca, &ca_key);
    let refused = world
        .https(client(&world, &[&good, &ca], &key).as_ref().clone())
        .get(world.url("/desired"))
        .send()
        .await
        .unwrap();
    assert_eq!(refused.status(), 403);

    let leaf_key = SoftKey::generate(Algorithm::P256).unwrap();
    let leaf = issue(
        device(),
        hour,
        leaf_key.public_key_der(),
        &Authority { certificate: &ca, signer: &ca_key },
    )
    .unwrap();
    let by_leaf = made(device(), hour, &leaf, &leaf_key);
    let other = SoftKey::generate(Algorithm::P384).unwrap();
    let in_its_name = made(device(), hour, &ca, &other);
    let root = self_signed(Role::Root, Period::starting(now_s(), 86_400), &other).unwrap();
    let foreign_key = SoftKey::generate(Algorithm::P384).unwrap();
    let role = Role::Intermediate { purpose: Purpose::Device };
    let foreign_ca = issue(
        role,
        hour,
        foreign_key.public_key_der(),
        &Authority { certificate: &root, signer: &other },
    )
    .unwrap();
    let by_foreign = made(device(), hour, &foreign_ca, &foreign_key);
    let for_servers = made(Role::Server { names: vec!["localhost".into()] }, hour, &ca, &ca_key);
    let ended = made(device(), Period::starting(now_s() - 7200, 3600), &ca, &ca_key);
    let not_yet = made(device(), Period::starting(now_s() + 86_400, 3600), &ca, &ca_key);
    let cases: [(&str, Vec<&Certificate>); 6] = [
        ("by a device", vec![&by_leaf, &leaf, &ca]),
        ("by another key in the authority's name", vec![&in_its_name, &ca]),
        ("by a foreign authority", vec![&by_foreign, &foreign_ca, &root]),
        ("for servers", vec![&for_servers, &ca]),
        ("ended an hour ago", vec![&ended, &ca]),
        ("begins tomorrow", vec![&not_yet, &ca]),
    ];
    for (what, chain) in cases {
        assert_eq!(fails(&world, &client(&world, &chain, &key)).await, [true, true], "{what}");
    }
}

/// An older CRL does not replace a newer one, and an expired CRL refuses only devices that are
/// revoked.
#[actix_web::test]
async fn an_older_list_leaves_the_newer_one_and_one_that_has_ended_refuses_nobody_but_who_is_revoked()
 {
    let world = World::new().await;
    let (revoked, good) = (world.enroll().await, world.enroll().await);
    world
        .client
        .revoke_device(&revoked.id, fleeti_core::wire::api::RevocationReason::KeyCompromise)
        .await
        .unwrap();
    assert_eq!(fails(&world, &revoked.tls).await, [true, true]);
    let (ca, ca_key) = device_ca();
    let authority = Authority { certificate: &ca, signer: &ca_key };
    let list = |number, at_s, valid_s| IssuerCrl {
        key_id: key_id(ca_key.public_key_der()),
        issuer: ca.clone(),
        crl: crl::create(
            &authority,
            &[],
            crl::Update { number, this_s: at_s, next_s: at_s + valid_s },
        )
        .unwrap(),
    };
    let swap = |list| {
        let checked = CheckedCrls::read(vec![list]).unwrap();
        revocation::put_in_use(&world.server.control, checked)
    };
    let refused = swap(list(1, now_s() - 3600, 86_400)).unwrap_err().to_string();
    assert!(refused.contains("older than the current one"), "{refused}");
    assert_eq!(fails(&world, &revoked.tls).await, [true, true], "the newer list still counts");
    assert_eq!(fails(&world, &good.tls).await, [false, false]);
    swap(list(1_000_000, now_s() - 7200, 3600)).unwrap();
    assert_eq!(
        fails(&world, &good.tls).await,
        [false, false],
        "a signer that is dead takes nobody offline"
    );
    assert_eq!(
        fails(&world, &revoked.tls).await,
        [true, true],
        "the database says so, whatever the list does"
    );
}
