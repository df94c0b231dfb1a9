//! Images are reproducible, and a comparison detects one that is not.

use crate::{cache, profile, request};
use fleeti_build::build::{self, Step, lock_for};
use fleeti_build::compare::{self, Own};
use fleeti_build::runner::{Nix, Runner};
use fleeti_core::canonical::sha256_hex;
use fleeti_core::manifest::PHASE_READY;
use fleeti_core::profile::Revision;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

#[test]
fn an_image_is_rebuilt_to_the_same_bytes_and_a_changed_file_is_noticed() {
    let dir = tempfile::tempdir().unwrap();
    let request = request(dir.path(), profile("kiosk"), "build");
    let record = build::run(&request, &cache(), &mut |_| {}).unwrap();
    assert_eq!(record.release.to_string(), "kiosk@1");
    assert!(record.reference_values.pcr11.contains_key(PHASE_READY));
    assert!(std::fs::read_to_string(request.out.join("build.log")).unwrap().contains("collecting"));

    let own = Own::make(&request, &cache(), &mut |_| {}).unwrap();
    assert_eq!(own.rebuild(&mut |_| {}).unwrap(), []);
    assert_eq!(compare::with_build(&own, &request.out).unwrap(), compare::Comparison::default());
    assert_eq!(compare::with_record(&own, &record).unwrap(), compare::Comparison::default());

    let uki = request.out.join("uki.efi");
    let mut bytes = std::fs::read(&uki).unwrap();
    let section =
        fleeti_pki::pe::sections(&bytes).unwrap().into_iter().find(|s| s.name == ".linux").unwrap();
    bytes[section.range.start + 1000] ^= 1;
    std::fs::write(&uki, bytes).unwrap();
    let found = compare::with_build(&own, &request.out).unwrap();
    let said: Vec<_> = found.differences.iter().map(ToString::to_string).collect();
    assert!(
        said.len() == 1
            && said[0].starts_with("uki.efi, section .linux: first differs at byte 1000"),
        "{said:?}"
    );
}

/// The build ignores the derivations in the directory's record. A changed derivation changes
/// nothing and is reported.
#[test]
fn a_record_that_names_another_derivation_does_not_decide_what_is_built() {
    let dir = tempfile::tempdir().unwrap();
    let request = request(dir.path(), profile("kiosk"), "build");
    let mut record = build::run(&request, &cache(), &mut |_| {}).unwrap();
    let other = record.derivations["initrd"].clone();
    let honest = record.derivations.insert("root".parse().unwrap(), other).unwrap();
    std::fs::write(request.out.join("build.json"), serde_json::to_vec(&record).unwrap()).unwrap();
    let own = Own::make(&request, &cache(), &mut |_| {}).unwrap();
    assert_eq!(own.record.derivations["root"], honest);
    let found = compare::with_build(&own, &request.out).unwrap();
    let parts: Vec<_> = found.differences.iter().filter_map(|d| d.part.as_deref()).collect();
    assert_eq!(parts, ["derivations.root.derivation", "derivations.root.output"]);
}

/// A step with a different output every time, in an otherwise correct build.
#[test]
fn a_step_that_is_not_reproducible_is_named_with_its_first_difference() {
    let dir = tempfile::tempdir().unwrap();
    let request = request(dir.path(), profile("kiosk"), "build");
    let mut record = build::run(&request, &cache(), &mut |_| {}).unwrap();
    let inputs = Command::new("nix-store")
        .arg("-qR")
        .arg(&record.derivations["root"].derivation)
        .output()
        .unwrap()
        .stdout;
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
    let output =
        nix.realise(std::slice::from_ref(&derivation), false, &mut |_| {}).unwrap().remove(0);
    record.derivations.clear();
    record.derivations.insert("odd".parse().unwrap(), Step { derivation, output });
    std::fs::write(request.out.join("build.json"), serde_json::to_vec(&record).unwrap()).unwrap();
    let differences = Own::at(&request.out, vec![]).unwrap().rebuild(&mut |_| {}).unwrap();
    assert_eq!(differences.len(), 1);
    let said = differences[0].to_string();
    assert!(said.starts_with("step odd: ") && said.contains("first differs at byte "), "{said}");
}

#[test]
fn an_agent_whose_libraries_are_not_in_the_image_stops_the_build_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let mut request = request(dir.path(), profile("kiosk"), "build");
    request.agent = "/usr/bin/nix-store".into();
    let error = build::run(&request, &cache(), &mut |_| {}).unwrap_err().to_string();
    assert!(error.contains("the agent needs") && error.contains("libnixstore.so"), "{error}");
}

/// A package whose script makes a file and mounts over it, so that nobody who looks sees it. It calls
/// the kernel itself, as scripts cannot execute `mount`, which is setuid.
#[test]
fn a_maintainer_script_that_mounts_something_stops_the_build_by_path() {
    let dir = tempfile::tempdir().unwrap();
    let (package, deb) = (dir.path().join("evil"), dir.path().join("evil.deb"));
    let control = package.join("DEBIAN");
    fs::create_dir_all(&control).unwrap();
    let fields = "Package: evil\nVersion: 1\nArchitecture: all\nDepends: mount\n\
        Maintainer: nobody <nobody@example.invalid>\nDescription: hides a file\n";
    fs::write(control.join("control"), fields).unwrap();
    let script = "#!/bin/sh\nset -e\nmkdir /usr/lib/hidden\necho evil >/usr/lib/hidden/file\n\
        perl -e 'my ($none, $at, $type) = (\"none\", \"/usr/lib/hidden\", \"tmpfs\");\n\
        syscall(165, $none, $at, $type, 0, 0) == 0 or die $!'\n";
    fs::write(control.join("postinst"), script).unwrap();
    fs::set_permissions(control.join("postinst"), fs::Permissions::from_mode(0o755)).unwrap();
    let made = Command::new("dpkg-deb")
        .args(["--root-owner-group", "--build"])
        .args([&package, &deb])
        .status()
        .unwrap();
    assert!(made.success());

    let mut request = request(dir.path(), profile("kiosk"), "build");
    let revision = Revision::new(1, request.profile.clone()).unwrap();
    let mut lock = lock_for(&cache(), &revision, None, false).unwrap();
    let bytes = fs::read(&deb).unwrap();
    let device = lock.sets.get_mut("device").unwrap();
    let mut evil = device[0].clone();
    evil.name = "evil".parse().unwrap();
    evil.version = "1".parse().unwrap();
    evil.sha256 = sha256_hex(&bytes).parse().unwrap();
    evil.size = bytes.len() as u64;
    let kept = cache().package(&evil.sha256);
    fs::write(&kept, &bytes).unwrap();
    device.push(evil);
    let path = dir.path().join("lock.json");
    lock.write(&path).unwrap();
    request.lock = Some(path);
    let error = build::run(&request, &cache(), &mut |_| {}).unwrap_err().to_string();
    fs::remove_file(kept).unwrap();
    assert!(error.contains("mounted something at /usr/lib/hidden"), "{error}");
}
