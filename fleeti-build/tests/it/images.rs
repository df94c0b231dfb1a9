//! Images: reproducible, and noticed when they are not.

use crate::{cache, profile, request};
use fleeti_build::build::{self, Verification};
use fleeti_core::manifest::PHASE_READY;

#[test]
fn an_image_is_rebuilt_to_the_same_bytes_and_a_changed_file_is_noticed() {
    let dir = tempfile::tempdir().unwrap();
    let request = request(dir.path(), profile("kiosk"), "build");
    let record = build::run(&request, &cache(), &mut |_| {}).unwrap();
    assert_eq!(record.release.to_string(), "kiosk@1");
    assert!(record.reference_values.pcr11.contains_key(PHASE_READY));
    assert!(std::fs::read_to_string(request.out.join("build.log")).unwrap().contains("collecting"));

    let verified = build::verify(&request.out, &mut |_| {}).unwrap();
    assert_eq!(verified, Verification::Identical { steps: ["disk", "initrd", "root", "uki"].map(str::to_owned).to_vec() });

    let uki = request.out.join("uki.efi");
    let mut bytes = std::fs::read(&uki).unwrap();
    bytes[1000] ^= 1;
    std::fs::write(&uki, bytes).unwrap();
    assert_eq!(build::verify(&request.out, &mut |_| {}).unwrap(), Verification::FileChanged { file: "uki.efi".into() });
}

#[test]
fn an_agent_whose_libraries_are_not_in_the_image_stops_the_build_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let mut request = request(dir.path(), profile("kiosk"), "build");
    request.agent = "/usr/bin/nix-store".into();
    let error = build::run(&request, &cache(), &mut |_| {}).unwrap_err().to_string();
    assert!(error.contains("the agent needs") && error.contains("libnixstore.so"), "{error}");
}

#[test]
fn a_maintainer_script_that_is_not_reproduced_stops_the_build_by_package() {
    let dir = tempfile::tempdir().unwrap();
    let mut profile = profile("kiosk");
    profile.packages.push("man-db".into());
    let error = build::run(&request(dir.path(), profile, "build"), &cache(), &mut |_| {}).unwrap_err().to_string();
    assert!(error.contains("maintainer script of man-db"), "{error}");
}
