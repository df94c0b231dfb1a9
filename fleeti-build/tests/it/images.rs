//! Images: reproducible, and noticed when they are not.

use crate::{cache, profile, request};
use fleeti_build::build::{self, Step, Verification};
use fleeti_build::runner::{Nix, Runner};
use fleeti_core::manifest::PHASE_READY;
use std::process::Command;

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

/// A step that writes something else every time, in a build that is otherwise right.
#[test]
fn a_step_that_is_not_reproducible_is_named_with_its_first_difference() {
    let dir = tempfile::tempdir().unwrap();
    let request = request(dir.path(), profile("kiosk"), "build");
    let mut record = build::run(&request, &cache(), &mut |_| {}).unwrap();
    let inputs = Command::new("nix-store").arg("-qR").arg(&record.derivations["root"].derivation).output().unwrap().stdout;
    let inputs = String::from_utf8(inputs).unwrap();
    let seed = inputs.lines().find(|l| l.ends_with("-busybox-seed")).unwrap();
    let expression = dir.path().join("odd.nix");
    let text = format!(
        "{{}}: {{ odd = derivation {{ name = \"fleeti-odd\"; system = \"x86_64-linux\"; builder = (builtins.storePath {seed}) + \"/busybox\"; \
         args = [ \"sh\" \"-c\" \"{seed}/busybox cat /proc/sys/kernel/random/uuid > $out\" ]; }}; }}"
    );
    std::fs::write(&expression, text).unwrap();
    let nix = Nix::new(dir.path().join("odd"));
    let derivation = nix.instantiate(&expression, &[], &["odd"]).unwrap().remove(0);
    let output = nix.realise(std::slice::from_ref(&derivation), false, &mut |_| {}).unwrap().remove(0);
    record.derivations.clear();
    record.derivations.insert("odd".into(), Step { derivation, output });
    std::fs::write(request.out.join("build.json"), serde_json::to_vec(&record).unwrap()).unwrap();
    match build::verify(&request.out, &mut |_| {}).unwrap() {
        Verification::StepDiffers { step, difference } => {
            assert_eq!(step, "odd");
            assert!(difference.contains("differ: ") && difference.contains("line 1"), "{difference}");
        }
        other => panic!("{other:?}"),
    }
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
