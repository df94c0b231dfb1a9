//! Compares images with a real dpkg installation of the same packages: every difference needs a
//! reason.

use crate::{cache, profile, repository, request};
use fleeti_build::build;
use fleeti_build::lock::Lock;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;

/// Patterns of the list of reasons that this profile needs.
fn compare(name: &str) -> BTreeSet<String> {
    let dir = tempfile::tempdir().unwrap();
    let request = request(dir.path(), profile(name), "build");
    let record = build::run(&request, &cache(), &mut |_| {}).unwrap();
    let lock = Lock::read(&request.out.join("lock.json")).unwrap();
    let image = dir.path().join("image");
    extract(
        &record.derivations["root"].output,
        &request.out.join("root.erofs"),
        &image,
        dir.path(),
    );

    only_root_reads_password_hashes(&image);
    let known: BTreeSet<_> = lock.set("device").iter().map(|p| &p.name).collect();
    let packages: Vec<_> = lock
        .set("device")
        .iter()
        .chain(lock.set("installer").iter().filter(|p| !known.contains(&p.name)))
        .map(|p| serde_json::json!({"name": p.name, "path": cache().package(&p.sha256), "extra": !known.contains(&p.name)}))
        .collect();
    let list = dir.path().join("packages.json");
    fs::write(&list, serde_json::to_vec(&packages).unwrap()).unwrap();
    let work = dir.path().join("work");
    fs::create_dir(&work).unwrap();
    let script = repository().join("nix/debian/compare.py");
    let output =
        Command::new("python3").arg(script).arg(&list).arg(&image).arg(&work).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{name}:\n{text}{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&fs::read(work.join("used.json")).unwrap()).unwrap()
}

/// The differences of these files have a reason, so the comparison does not see their modes.
fn only_root_reads_password_hashes(image: &Path) {
    let groups = fs::read_to_string(image.join("etc/group")).unwrap();
    let line = groups.lines().find(|line| line.starts_with("shadow:")).unwrap();
    let group: u32 = line.split(':').nth(2).unwrap().parse().unwrap();
    for name in ["etc/shadow", "etc/gshadow"] {
        let found = fs::symlink_metadata(image.join(name)).unwrap();
        let found = (found.mode() & 0o7777, found.uid(), found.gid());
        assert_eq!(found, (0o640, 0, group), "{name}");
    }
    let accounts = fs::read_to_string(image.join("etc/passwd")).unwrap();
    // `*` is that of system accounts in base-passwd: no password fits it.
    let readable = accounts.lines().find(|line| !matches!(line.split(':').nth(1), Some("x" | "*")));
    assert_eq!(readable, None, "its password is in a file that everybody reads");
}

/// Unpacks the root file system with the tools that made it.
pub fn extract(root_output: &Path, erofs: &Path, image: &Path, shared: &Path) {
    let references = Command::new("nix-store")
        .args(["--query", "--requisites"])
        .arg(deriver(root_output))
        .output()
        .unwrap();
    let references = String::from_utf8_lossy(&references.stdout).into_owned();
    let drv = references.lines().find(|l| l.ends_with("-fleeti-tools.drv")).unwrap();
    let tools = Command::new("nix-store").args(["--query", "--outputs", drv]).output().unwrap();
    let tools = String::from_utf8_lossy(&tools.stdout).trim().to_owned();
    fs::create_dir(image).unwrap();
    let status = Command::new("bwrap")
        .args([
            "--ro-bind",
            &tools,
            "/",
            "--dev",
            "/dev",
            "--proc",
            "/proc",
            "--tmpfs",
            "/tmp",
            "--bind",
        ])
        .args([shared, shared])
        .args(["--setenv", "PATH", "/usr/bin:/usr/sbin", "fsck.erofs", "--preserve", "--overwrite"])
        .arg(format!("--extract={}", image.display()))
        .arg(erofs)
        .output()
        .unwrap();
    assert!(status.status.success(), "{}", String::from_utf8_lossy(&status.stderr));
}

fn deriver(output: &Path) -> String {
    let output =
        Command::new("nix-store").args(["--query", "--deriver"]).arg(output).output().unwrap();
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

#[test]
fn both_example_images_differ_from_dpkg_only_for_a_reason_and_every_reason_is_needed() {
    // Files of other owners need root, and dpkg cannot install anything without root.
    let id = Command::new("id").arg("-u").output().unwrap();
    assert_eq!(
        id.stdout.trim_ascii(),
        b"0",
        "this comparison installs packages with dpkg and needs root"
    );
    let used: BTreeSet<_> = ["kiosk", "gateway"].into_iter().flat_map(compare).collect();
    let reasons = fs::read(repository().join("nix/debian/differences.json")).unwrap();
    let reasons: BTreeMap<String, String> = serde_json::from_slice(&reasons).unwrap();
    let idle: Vec<_> = reasons.keys().filter(|pattern| !used.contains(*pattern)).collect();
    assert!(idle.is_empty(), "reasons that nothing needs any more: {idle:?}");
}
