//! Faults of the server and refused uploads, as problem documents.

use crate::rollout::{make_release, release_key};
use crate::world::World;

/// Errors 503 and 500 are problem documents, and contain no internals of the server.
#[actix_web::test]
async fn faults_of_the_server_are_problems_as_well_and_say_nothing_of_it() {
    let world = World::new().await;
    let guess =
        fleeti_core::wire::api::Pair { code: "BBBB-BBBB".into(), fleet: "demo".parse().unwrap() };
    let mut last = 0;
    for _ in 0..12 {
        match world.client.pair(&guess).await {
            Err(fleeti_client::ClientError::Refused(p)) => last = p.status,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(last, 503);
    world.server.control.db.close().await;
    match world.client.devices().await {
        Err(fleeti_client::ClientError::Refused(p)) => {
            assert_eq!((p.status, p.kind.as_str()), (500, "urn:fleeti:problem:internal"));
            assert!(
                !p.detail.to_lowercase().contains("sql") && !p.detail.contains("pool"),
                "{p:?}"
            );
        }
        other => panic!("{other:?}"),
    }
}

#[actix_web::test]
async fn an_upload_that_is_no_release_is_not_published() {
    let world = World::new().await;
    let (dir, name) = (tempfile::tempdir().unwrap(), "kiosk@4".parse().unwrap());
    make_release(dir.path(), &name, &release_key());
    std::fs::write(dir.path().join("raw/kiosk_4.efi"), "another one").unwrap();
    crate::rollout::upload(&world, dir.path(), &name).await;
    match world.client.publish(&name).await {
        Err(fleeti_client::ClientError::Refused(p)) => {
            assert_eq!((p.status, p.kind.as_str()), (422, "urn:fleeti:problem:untrusted"))
        }
        other => panic!("{other:?}"),
    }
}
