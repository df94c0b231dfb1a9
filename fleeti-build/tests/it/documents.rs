//! The SBOM and the provenance of a build, held against their official schemas.

use crate::runner::World;
use fleeti_build::base::Maker;
use fleeti_build::base::debian::Debian;
use fleeti_build::build;
use fleeti_build::lock::Lock;
use fleeti_build::provenance;
use fleeti_build::sbom::{self, packages_of};
use fleeti_core::canonical::sha256_hex;
use fleeti_core::profile::Revision;
use fleeti_core::wire::package::ReleasePackage;
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Makes a .deb, puts it into the cache, and returns its entry of a lock.
fn package(world: &World, name: &str, control: &str, origin: &str) -> Value {
    let files = world.dir.path().join(name);
    fs::create_dir_all(files.join("DEBIAN")).unwrap();
    let control = format!(
        "Package: {name}\n{control}Architecture: amd64\nMaintainer: a <a@example.com>\nDescription: a\n"
    );
    fs::write(files.join("DEBIAN/control"), control).unwrap();
    let deb = world.dir.path().join(format!("{name}.deb"));
    let made = Command::new("dpkg-deb").arg("-b").args([&files, &deb]).output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let bytes = fs::read(&deb).unwrap();
    let sha256 = sha256_hex(&bytes);
    fs::write(world.cache.package(&sha256), &bytes).unwrap();
    let file = format!("{name}_1_amd64.deb");
    let path = if origin == "own" { file } else { format!("pool/main/{file}") };
    json!({"name": name, "version": "1:3.0.14-1~deb13u1+b1", "sha256": sha256, "size": bytes.len(),
        "path": path, "origin": origin})
}

/// A build with a package of a source with another name, one's own package, a container, and files
/// that no package brings.
fn world() -> World {
    let mut world = World::new();
    let version = "Version: 1:3.0.14-1~deb13u1+b1\n";
    let debian = "debian trixie-security main";
    let library = format!("Source: openssl (1:3.0.14-1~deb13u1)\n{version}");
    let device =
        [package(&world, "libssl3t64", &library, debian), package(&world, "probe", version, "own")];
    let container = json!({
        "name": "web", "image": format!("registry.example.com/team/web:1.2@sha256:{}", "c".repeat(64)),
    });
    let profile = &mut world.request.profile;
    profile.containers.push(serde_json::from_value(container).unwrap());
    profile.software.packages.push("podman".into());
    let revision = Revision::new(1, profile.clone()).unwrap();
    let path = world.request.lock.clone().unwrap();
    let mut lock = serde_json::to_value(Lock::read(&path).unwrap()).unwrap();
    lock["requested"] = serde_json::to_value(Debian.packages(&revision)).unwrap();
    lock["sets"]["initrd"] = json!([device[0]]);
    lock["sets"]["device"] = device.to_vec().into();
    lock["snapshots"] = json!({
        "debian trixie": {"date_s": 1_790_000_000, "sha256": "a".repeat(64)},
        "debian trixie-security": {"date_s": 1_790_086_400, "sha256": "b".repeat(64)},
    });
    serde_json::from_value::<Lock>(lock).unwrap().write(&path).unwrap();
    let file = |path: &str, package: Option<&str>| -> Value {
        let mut file = json!({"path": path, "kind": "file", "mode": 0o644, "uid": 0, "gid": 0,
            "size": 1, "sha256": sha256_hex(path.as_bytes())});
        if let Some(package) = package {
            file["package"] = package.into();
        }
        file
    };
    let contents = json!({"users": {}, "groups": {}, "files": [
        file("/etc/motd", None), file("/usr/bin/openssl", Some("openssl")),
        {"path": "/usr", "kind": "directory", "mode": 0o755, "uid": 0, "gid": 0},
        file("/usr/lib/fleeti/fleeti-agent", None),
    ]});
    let outputs = &world.fake.outputs;
    fs::write(outputs.join("root/contents.json"), contents.to_string()).unwrap();
    world
}

fn read(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

#[test]
fn an_sbom_lists_packages_containers_and_all_other_files() {
    let world = world();
    world.theirs();
    let bom = read(&world.request.out.join(sbom::FILE));
    let listed: Vec<_> = bom["components"]
        .as_array()
        .unwrap()
        .iter()
        .map(|c| format!("{} {}", c["type"].as_str().unwrap(), c["name"].as_str().unwrap()))
        .collect();
    assert_eq!(
        listed,
        [
            "library libssl3t64",
            "library probe",
            "operating-system debian",
            "application fleeti-agent",
            "container registry.example.com/team/web",
            "file /etc/motd",
        ]
    );
    assert_eq!(
        bom["components"][0]["purl"],
        "pkg:deb/debian/libssl3t64@1:3.0.14-1~deb13u1%2Bb1?arch=amd64&distro=debian-13\
         &upstream=openssl%401:3.0.14-1~deb13u1"
    );
    assert_eq!(bom["components"][1]["supplier"]["name"], "own");
    assert_eq!(bom["metadata"]["timestamp"], "2026-09-22T14:13:20Z");
    let package = |name: &str, source: &str, version: &str| ReleasePackage {
        name: name.into(),
        version: "1:3.0.14-1~deb13u1+b1".into(),
        source: source.into(),
        source_version: version.into(),
    };
    assert_eq!(
        packages_of(&world.request.out.join(sbom::FILE)).unwrap(),
        [
            package("libssl3t64", "openssl", "1:3.0.14-1~deb13u1"),
            package("probe", "probe", "1:3.0.14-1~deb13u1+b1"),
        ]
    );
}

#[test]
fn a_provenance_names_every_package_and_every_file_of_the_build() {
    let world = world();
    let record = world.theirs();
    let statement = read(&world.request.out.join(provenance::FILE));
    let definition = &statement["predicate"]["buildDefinition"];
    let materials = definition["resolvedDependencies"].as_array().unwrap();
    let lock = Lock::read(world.request.lock.as_ref().unwrap()).unwrap();
    for package in lock.sets.values().flatten() {
        let found = materials.iter().filter(|m| m["digest"]["sha256"] == *package.sha256);
        let found: Vec<_> = found.collect();
        assert_eq!(found.len(), 1, "{package:?}");
        assert!(found[0]["uri"].as_str().unwrap().contains(&*package.name), "{found:?}");
    }
    assert_eq!(materials[0]["digest"]["sha256"], record.inputs.revision_digest);
    let run = &statement["predicate"]["runDetails"];
    let named: Vec<_> = [&statement["subject"], &run["byproducts"]]
        .into_iter()
        .flat_map(|list| list.as_array().unwrap())
        .map(|file| (file["name"].as_str().unwrap(), file["digest"]["sha256"].as_str().unwrap()))
        .collect();
    for (name, file) in record.files.iter().filter(|(name, _)| name.as_str() != provenance::FILE) {
        assert!(named.contains(&(name.as_str(), &file.sha256)), "{name}");
    }
    assert_eq!(named.len() + 1, record.files.len());
}

#[test]
fn the_same_inputs_give_the_same_documents_and_another_lock_others() {
    let world = world();
    let first = world.theirs();
    let again = build::Request { out: world.dir.path().join("again"), ..world.request.clone() };
    let second =
        build::run_with(&again, &world.cache, |_| world.fake.clone(), &mut |_| {}).unwrap();
    assert_eq!(first.files, second.files);
    let path = world.request.lock.as_ref().unwrap();
    let mut lock = Lock::read(path).unwrap();
    lock.sets.get_mut("device").unwrap().pop();
    lock.write(path).unwrap();
    let third = build::run_with(&again, &world.cache, |_| world.fake.clone(), &mut |_| {}).unwrap();
    for name in [sbom::FILE, provenance::FILE] {
        assert_ne!(first.files[name], third.files[name], "{name}");
    }
}

/// The official libraries read both documents strictly.
#[test]
fn both_documents_follow_their_official_schemas() {
    let world = world();
    world.theirs();
    let usual = crate::repository().join("target/tools/sbom/bin/python");
    let python = std::env::var_os("FLEETI_SBOM_PYTHON").map_or(usual, PathBuf::from);
    let judged = |harm: &str| {
        let script = crate::repository().join("fleeti-build/tests/it/documents.py");
        let (bom, statement) = (world.request.out.join(sbom::FILE), provenance::FILE);
        let output = Command::new(&python)
            .args(["-B".as_ref(), script.as_os_str(), bom.as_os_str()])
            .arg(world.request.out.join(statement))
            .arg(harm)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        (output.status.success(), said)
    };
    assert_eq!(judged(""), (true, String::new()));
    // The judge can say no.
    for harm in [
        "bom.specVersion",
        "bom.components.0.hashes.0.content",
        "statement._type",
        "statement.subject",
    ] {
        assert!(!judged(harm).0, "{harm}");
    }
}
