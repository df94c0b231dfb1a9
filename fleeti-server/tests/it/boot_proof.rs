//! A fleet that accepts only releases with a boot proof.

use crate::rollout::{make_release, publish_release, release_key, start, upload};
use crate::world::World;
use fleeti_core::attestation::Level;
use fleeti_core::attestation::policy::Policy;
use fleeti_core::boot_proof::{BootProof, KIND};
use fleeti_core::canonical::sha256_hex;
use fleeti_core::id::ReleaseName;
use fleeti_core::manifest::{Manifest, PHASE_READY};
use fleeti_core::wire::api::SignedBootProof;
use fleeti_pki::signer::{Algorithm, SoftKey};
use fleeti_pki::{base64_text, boot_proof, manifest};

/// A published release with reference values; returns the digest of its manifest.
async fn published(world: &World, name: &ReleaseName) -> String {
    let (dir, key) = (tempfile::tempdir().unwrap(), release_key());
    let mut made = Manifest::parse(make_release(dir.path(), name, &key).as_bytes()).unwrap();
    made.reference_values.pcr9 = Some("09".repeat(32));
    made.reference_values.pcr11.insert(PHASE_READY.into(), "11".repeat(32));
    made.reference_values.pcr12 = Some("00".repeat(32));
    let bytes = manifest::to_bytes(&made).unwrap();
    let signature = manifest::sign(&bytes, &key).unwrap();
    std::fs::write(dir.path().join("manifest.json"), &bytes).unwrap();
    std::fs::write(dir.path().join(signature.file_name()), signature.der).unwrap();
    upload(world, dir.path(), name).await;
    world.client.publish(name).await.unwrap();
    sha256_hex(&bytes)
}

fn proof(name: &ReleaseName, manifest_sha256: &str) -> BootProof {
    let pcr = |n: u8, byte: &str| (n.to_string(), byte.repeat(32));
    BootProof {
        kind: KIND.into(),
        release: name.clone(),
        manifest_sha256: manifest_sha256.to_owned(),
        device: "dev-canary".parse().unwrap(),
        level: Level::VerifiedBoot,
        pcrs: [pcr(9, "09"), pcr(11, "11"), pcr(12, "00")].into(),
        evidence: "ee".repeat(32),
        proved_s: 1,
    }
}

fn signed(proof: &BootProof, key: &SoftKey) -> SignedBootProof {
    let bytes = boot_proof::to_bytes(proof).unwrap();
    let signature = boot_proof::sign(&bytes, key).unwrap();
    SignedBootProof {
        proof: String::from_utf8(bytes).unwrap(),
        signatures: vec![(signature.key_id, base64_text(&signature.der))],
    }
}

/// With `proved_releases`, a rollout begins only for a release with a boot proof by release keys.
#[actix_web::test]
async fn a_fleet_that_asks_for_it_takes_only_releases_that_release_keys_say_boot() {
    let world = World::new().await;
    world.enroll().await;
    let asks = Policy { proved_releases: true, ..Policy::usual() };
    world.client.set_attestation_policy(&"demo".parse().unwrap(), &asks).await.unwrap();
    let name: ReleaseName = "kiosk@2".parse().unwrap();
    let digest = published(&world, &name).await;
    let refused = world.client.start_rollout(&start("kiosk@2")).await.unwrap_err().to_string();
    assert!(refused.contains("has no boot proof"), "{refused}");

    let key = release_key();
    let give = async |proof: SignedBootProof| world.client.prove_release(&name, &proof).await;
    let stranger = SoftKey::generate(Algorithm::P384).unwrap();
    assert!(
        give(signed(&proof(&name, &digest), &stranger))
            .await
            .unwrap_err()
            .to_string()
            .contains("0 of 1")
    );
    let other = BootProof { pcrs: Default::default(), ..proof(&name, &digest) };
    assert!(give(signed(&other, &key)).await.unwrap_err().to_string().contains("PCR 9"));
    assert!(
        give(signed(&proof(&name, &"00".repeat(32)), &key))
            .await
            .unwrap_err()
            .to_string()
            .contains("is of kiosk@2")
    );
    let mut changed = signed(&proof(&name, &digest), &key);
    changed.proof = changed.proof.replace("dev-canary", "dev-nobody");
    assert!(give(changed).await.is_err());
    assert!(world.client.start_rollout(&start("kiosk@2")).await.is_err(), "none of these is one");

    let release = give(signed(&proof(&name, &digest), &key)).await.unwrap();
    assert_eq!(release.boot_proof, Some(proof(&name, &digest)));
    world.client.start_rollout(&start("kiosk@2")).await.unwrap();
    assert!(world.audit().await.contains("release.boot-proof"));
    // A release without reference values cannot be proved.
    publish_release(&world, "kiosk@3").await;
    let name: ReleaseName = "kiosk@3".parse().unwrap();
    let digest = world
        .client
        .releases()
        .await
        .unwrap()
        .into_iter()
        .find(|r| r.name == name)
        .unwrap()
        .manifest_sha256;
    assert!(
        world.client.prove_release(&name, &signed(&proof(&name, &digest), &key)).await.is_err()
    );
}
