//! Trusted TPM manufacturers: added over the API, and by files with any content.

use crate::machine::{Machine, world};
use crate::trust::until;
use crate::world::{World, write_keys};
use fleeti_client::ClientError;
use fleeti_core::wire::attestation::{AddTpmManufacturers, TpmKind};
use fleeti_core::wire::problem::Code;
use fleeti_pki::base64_text;
use fleeti_testkit::tpm::Manufacturer;
use std::path::{Path, PathBuf};

fn field(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../fleeti-pki/tests/fixtures/field/certificates")
        .join(name)
}

fn is(refused: &ClientError, code: Code) -> bool {
    matches!(refused, ClientError::Refused(problem) if problem.kind.ends_with(code.as_str()))
}

fn request(kind: TpmKind, file: &[u8]) -> AddTpmManufacturers {
    AddTpmManufacturers { kind, file: base64_text(file) }
}

#[actix_web::test]
async fn a_file_that_cannot_be_read_is_named_and_the_server_starts() {
    let dir = tempfile::tempdir().unwrap();
    write_keys(dir.path());
    let manufacturers = dir.path().join("pki/tpm-manufacturers");
    for (kind, name, content) in [
        ("hardware", "page.pem", b"<html>not found</html>".to_vec()),
        ("hardware", "ek.pem", std::fs::read(field("critical-any-policy/ek.pem")).unwrap()),
        ("hardware", "good.pem", std::fs::read(field("critical-any-policy/between.pem")).unwrap()),
        ("processor", "list.crl", b"no list".to_vec()),
        (
            "processor",
            "unsorted.cer",
            std::fs::read(field("name-with-an-unsorted-set/manufacturer.pem")).unwrap(),
        ),
        ("virtual", ".half.pem.new", b"x".to_vec()),
    ] {
        std::fs::create_dir_all(manufacturers.join(kind)).unwrap();
        std::fs::write(manufacturers.join(kind).join(name), content).unwrap();
    }
    std::fs::create_dir_all(manufacturers.join("virtual/folder")).unwrap();
    let world = World::start(dir, |_| {}).await;
    let found = world.client.tpm_manufacturers().await.unwrap();
    let believed: Vec<_> = found
        .manufacturers
        .iter()
        .map(|m| (m.file.as_str(), m.subject.as_str(), m.issuer.as_str()))
        .collect();
    let nuvoton = "O=A maker of TPMs+C=TW";
    assert_eq!(
        believed,
        [("processor/unsorted.cer", nuvoton, nuvoton), ("hardware/good.pem", "CN=mid", "CN=root")]
    );
    let left_out: Vec<_> = found.left_out.iter().map(|l| l.file.as_str()).collect();
    assert_eq!(left_out, ["processor/list.crl", "hardware/ek.pem", "hardware/page.pem"]);
    assert!(
        found
            .left_out
            .iter()
            .all(|l| !l.problem.is_empty() && !l.problem.contains("pki/tpm-manufacturers"))
    );
    let warnings = fleeti_control::trust::warnings(&world.server.control, 0);
    assert!(left_out.iter().all(|file| warnings.iter().any(|w| w.contains(file))), "{warnings:?}");
}

#[actix_web::test]
async fn manufacturers_are_added_with_their_chains_and_removed_and_devices_are_judged_again() {
    let (believed, other) = (Manufacturer::new().unwrap(), Manufacturer::new().unwrap());
    let world = world(&believed, true).await;
    let machine = Machine::new(&other);
    let device = world.enroll().await;
    machine.bind(&world, &device).await.unwrap();
    let manufacturer =
        async || world.client.attestation(&device.id).await.unwrap().tpm.unwrap().manufacturer;
    assert_eq!(manufacturer().await, None);

    let (root, authority) = (other.root_pem().unwrap(), other.certificate_pem().unwrap());
    let both = [root.as_bytes(), b"\n# and\n", authority.as_bytes()].concat();
    let added =
        world.client.add_tpm_manufacturers(&request(TpmKind::Virtual, &both)).await.unwrap();
    assert_eq!(added.len(), 2);
    let intermediate = added.iter().find(|m| m.issuer != m.subject).unwrap();
    let above = added.iter().find(|m| m.issuer == m.subject).unwrap();
    assert_eq!((&intermediate.chain, &above.chain), (&vec![above.subject.clone()], &vec![]));
    until("judged again", async || manufacturer().await.is_some()).await;
    let all = world.client.tpm_manufacturers().await.unwrap().manufacturers;
    assert_eq!(all.len(), 3);

    // DER as published, not encoded again.
    let again =
        world.client.add_tpm_manufacturers(&request(TpmKind::Virtual, &both)).await.unwrap_err();
    assert!(is(&again, Code::Conflict));
    for (what, file) in [
        ("no certificate", &b"none"[..]),
        ("no authority", &std::fs::read(field("critical-any-policy/ek.pem")).unwrap()),
    ] {
        let refused = world
            .client
            .add_tpm_manufacturers(&request(TpmKind::Hardware, file))
            .await
            .unwrap_err();
        assert!(is(&refused, Code::Invalid), "{what}");
    }
    let large = world
        .client
        .add_tpm_manufacturers(&request(TpmKind::Hardware, &vec![0; 600 * 1024]))
        .await
        .unwrap_err();
    assert!(is(&large, Code::TooLarge));

    for removed in [intermediate, above] {
        let gone = world.client.remove_tpm_manufacturer(&removed.id[..12]).await.unwrap();
        assert_eq!(gone.id, removed.id);
    }
    until("judged once more", async || manufacturer().await.is_none()).await;
    for unknown in [&intermediate.id[..], "0123456789abcdef", &all[0].id[..7]] {
        assert!(
            is(&world.client.remove_tpm_manufacturer(unknown).await.unwrap_err(), Code::NotFound),
            "{unknown}"
        );
    }
    // Removing one certificate from a file with several keeps the others.
    let folder = world.dir.path().join("pki/tpm-manufacturers/virtual");
    std::fs::write(folder.join("several.pem"), &both).unwrap();
    fleeti_control::attestation::tpm::reappraise_manufacturers(&world.server.control)
        .await
        .unwrap();
    world.client.remove_tpm_manufacturer(&above.id).await.unwrap();
    let left = world.client.tpm_manufacturers().await.unwrap().manufacturers;
    assert!(
        left.iter().any(|m| m.id == intermediate.id && m.file == "virtual/several.pem")
            && left.iter().all(|m| m.id != above.id)
    );

    let audit = world.audit().await;
    assert_eq!(
        (
            audit.matches("tpm-manufacturer.add").count(),
            audit.matches("tpm-manufacturer.remove").count()
        ),
        (2, 3),
        "{audit}"
    );
    let nobody =
        reqwest::get(format!("http://{}/api/v1/tpm-manufacturers", world.server.addresses.api))
            .await
            .unwrap();
    assert_eq!(nobody.status(), 401);
}
