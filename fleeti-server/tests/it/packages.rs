//! The SBOM of a release, and the devices that have a package.

use crate::rollout::{release_key, report_of, upload};
use crate::world::{World, offline};
use fleeti_build::release::{self, NewRelease, ReleaseSigners};
use fleeti_client::ClientError;
use fleeti_core::id::ReleaseName;
use fleeti_core::update::State;
use fleeti_core::wire::mqtt::Up;
use fleeti_core::wire::package::Basis;
use fleeti_pki::hierarchy::purpose;
use fleeti_pki::openpgp::OpenPgpKey;
use fleeti_pki::signer::SoftKey;
use fleeti_testkit::synthetic;

/// Publishes a release of a build with an SBOM.
async fn publish(world: &World, name: &str) {
    let (dir, name): (_, ReleaseName) = (tempfile::tempdir().unwrap(), name.parse().unwrap());
    let (build, out) = (dir.path().join("build"), dir.path().join("release"));
    let record = synthetic::build(&build, &name).unwrap();
    let key = SoftKey::from_pkcs8_der(&offline(purpose::OPENPGP)).unwrap();
    let openpgp = OpenPgpKey::new(Box::new(key)).unwrap();
    let release = release_key();
    let signers = ReleaseSigners { release: &release, openpgp: &openpgp, db: None, pcr: None };
    let new =
        NewRelease { build: &build, record: &record, out: &out, signers: &signers, created_s: 1 };
    release::create(new, &mut |_| {}).unwrap();
    upload(world, &out, &name).await;
    world.client.publish(&name).await.unwrap();
}

#[actix_web::test]
async fn devices_with_a_package_are_found_by_the_sbom_of_the_release_that_they_report() {
    let world = World::new().await;
    publish(&world, "kiosk@1").await;
    let device = world.enroll().await;
    let find = async |query: &str| {
        world.client.package_devices(&query.parse().unwrap(), "", 10).await.unwrap()
    };
    let before = find("openssl<4").await;
    assert_eq!((before.reported, before.unknown), (0, 1), "it has reported nothing yet");
    assert_eq!(before.devices[0].basis, Basis::Unknown);
    let report = report_of("kiosk@1", State::Idle);
    let control = &world.server.control;
    fleeti_control::devices::received(control, &device.id, Up::Report, &report).await.unwrap();

    let found = find("openssl<4").await;
    assert_eq!((found.proved, found.reported, found.unknown, found.others), (0, 1, 0, 0));
    assert_eq!(found.releases[0].packages[0].name, "libssl3t64");
    assert_eq!(found.devices[0].basis, Basis::Reported);
    let fixed = find("libssl3t64<3.5.1-1").await;
    assert_eq!((fixed.reported, fixed.others), (0, 1));
    assert_eq!(fixed.devices, []);
    assert_eq!(find("libssl3t64<3.5.1-1+deb13u1").await.reported, 1);
}

#[actix_web::test]
async fn only_documents_of_a_published_release_are_given_to_people() {
    let world = World::new().await;
    publish(&world, "kiosk@1").await;
    let name = "kiosk@1".parse().unwrap();
    let sbom = world.client.release_file(&name, "raw/kiosk_1.cdx.json").await.unwrap();
    assert!(String::from_utf8_lossy(&sbom).contains("libssl3t64"));
    for path in
        ["raw/kiosk_1.efi", "raw/..%2fmanifest.json", "raw/kiosk_2.cdx.json", "boot-proof.json"]
    {
        let refused = world.client.release_file(&name, path).await.unwrap_err();
        let ClientError::Refused(problem) = refused else { panic!("{path}: {refused}") };
        assert_eq!(problem.status, 404, "{path}");
    }
    let other = "kiosk@2".parse().unwrap();
    assert!(world.client.release_file(&other, "manifest.json").await.is_err());
}
