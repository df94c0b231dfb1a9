//! Revocation at scale: the cost of a hundred thousand revoked certificates, and that other devices
//! do not wait for it.

use crate::world::World;
use fleeti_control::trust::revocation;
use fleeti_store::sql;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Adds revoked devices with a certificate each.
async fn revoke_many(world: &World, many: u32) {
    let issuer = fleeti_pki::certificate::fingerprint(&world.server.control.pki.device_ca).unwrap();
    let mut tx = world.server.control.db.write().await.unwrap();
    let numbers = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < $1) ";
    let serial =
        "'5a' || substr('000000000000000000000000000000', length(CAST(i AS TEXT)) + 1) || i";
    let devices = format!(
        "{numbers} INSERT INTO devices (id, fleet, created_s, last_seen_s, key_sha256, serial, certificate_sha256, \
         certificate_not_after_s, revoked_s, revocation_reason) \
         SELECT 'gone-' || i, 'demo', 1, 1, 'key-' || i, {serial}, 'c', 4000000000, 1700000000, 'key_compromise' FROM n"
    );
    let issued = format!(
        "{numbers} INSERT INTO issued (serial, device, sha256, not_after_s, pem, issuer) \
         SELECT {serial}, 'gone-' || i, 'c', 4000000000, 'PEM', '{issuer}' FROM n"
    );
    for sql in [devices, issued] {
        sql::query(sql::AssertSqlSafe(sql)).bind(many).execute(&mut *tx).await.unwrap();
    }
    tx.commit().await.unwrap();
}

async fn listed(world: &World) -> usize {
    let issuer = fleeti_pki::bundle::names(&world.server.control.pki.device_ca).unwrap().1;
    fleeti_pki::crl::entries(&world.server.control.access.crl(&issuer).unwrap()).unwrap().len()
}

/// Connects one device again and again, with a new connection for each request, until told to stop.
/// Returns the time of each.
async fn connect_until(world: &World, is_over: &AtomicBool) -> Vec<Duration> {
    let device = world.enroll().await;
    let mut took = Vec::new();
    while !is_over.load(Ordering::SeqCst) {
        let http = world.https((*device.tls).clone());
        let begun = Instant::now();
        assert_eq!(http.get(world.url("/desired")).send().await.unwrap().status(), 200);
        took.push(begun.elapsed());
    }
    took.sort();
    took
}

async fn swapped_in(many: u32) -> (Duration, Vec<Duration>) {
    let world = Arc::new(World::new().await);
    revoke_many(&world, many).await;
    let is_over = AtomicBool::new(false);
    let publish = async {
        let begun = Instant::now();
        revocation::publish_crls(&world.server.control).await.unwrap();
        let took = begun.elapsed();
        is_over.store(true, Ordering::SeqCst);
        took
    };
    let (took, connects) = futures::future::join(publish, connect_until(&world, &is_over)).await;
    assert_eq!(listed(&world).await, many as usize);
    assert!(world.server.control.access.is_revoked(&"gone-7".parse().unwrap()));
    (took, connects)
}

/// More certificates than one message holds.
#[actix_web::test]
async fn a_list_that_no_message_holds_is_swapped_in() {
    swapped_in(60_000).await;
}

#[actix_web::test]
#[ignore = "long: a measurement, for a machine that does nothing else"]
async fn a_hundred_thousand_revoked_certificates_are_swapped_in_while_devices_connect() {
    let (took, connects) = swapped_in(100_000).await;
    let p99 = connects.get(connects.len() * 99 / 100).copied().unwrap_or_default();
    eprintln!(
        "100000 revoked certificates: {took:?} to list, sign and swap in; {} connects meanwhile, p99 {p99:?}",
        connects.len()
    );
    assert!(took < Duration::from_secs(30) && p99 < Duration::from_secs(1), "{took:?} {p99:?}");
}
