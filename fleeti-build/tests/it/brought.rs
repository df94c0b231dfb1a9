//! What maintainer scripts bring into being, and by which package.

use crate::{cache, profile, repository, request};
use fleeti_build::base::Maker;
use fleeti_build::base::debian::Debian;
use fleeti_build::file::sha256_file;
use fleeti_build::lock::Lock;
use fleeti_build::{build, suite};
use fleeti_core::profile::{IndexHead, IndexParts, IndexedPackage, Profile, Revision, SuiteIndex};
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Makes a package with files and a script.
fn package(dir: &Path, name: &str, postinst: &str, files: &[(&str, &str)]) -> PathBuf {
    let root = dir.join(name);
    let control = format!(
        "Package: {name}\nVersion: 1\nArchitecture: all\nMaintainer: a <a@example.com>\n\
         Depends: adduser\nDescription: a probe\n"
    );
    let script = format!("#!/bin/sh\nset -e\n{postinst}");
    let own = [("DEBIAN/control", control.as_str()), ("DEBIAN/postinst", script.as_str())];
    for (path, text) in own.iter().chain(files) {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        if path.ends_with("postinst") || path.to_string_lossy().contains("/bin/") {
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        }
    }
    // As a file of Nix's store is named.
    let deb = dir.join(format!("hash-{name}_1.deb"));
    let made = Command::new("dpkg-deb")
        .args(["--root-owner-group", "--build"])
        .args([&root, &deb])
        .output()
        .unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    deb
}

/// What `brought.py` says of an installed tree.
fn brought(root: &Path, debs: &[PathBuf]) -> Value {
    let script = "import json, os, sys\nsys.dont_write_bytecode = True\n\
        scripts, root, *debs = sys.argv[1:]\nsys.path.insert(0, scripts)\nimport brought, members\n\
        found = {}\nfor folder, folders, files in os.walk(root):\n\
        \x20   for name in folders + files:\n        path = os.path.join(folder, name)\n\
        \x20       kind = 'l' if os.path.islink(path) else 'd' if os.path.isdir(path) else 'f'\n\
        \x20       found[os.path.relpath(path, root)] = [kind]\n\
        print(json.dumps(brought.read(root, root + '/var/lib/dpkg', members.read(debs), found)))\n";
    let output = Command::new("python3")
        .args(["-c", script])
        .arg(repository().join("nix/debian"))
        .arg(root)
        .args(debs)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// A tree of which scripts made these users and groups.
fn installed(root: &Path, users: &[&str], groups: &[&str]) {
    let write = |path: &str, text: &str| {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    for (table, names) in [("passwd", users), ("group", groups)] {
        let base = "root:x:0:0\n";
        let made: String = names.iter().map(|name| format!("{name}:x:200:200\n")).collect();
        write(&format!("usr/share/base-passwd/{table}.master"), base);
        write(&format!("etc/{table}"), &format!("{base}{made}"));
    }
}

#[test]
fn a_user_and_a_group_belong_to_the_package_whose_script_makes_them() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("tree");
    let debs = [
        package(dir.path(), "daemon", "adduser --system \\\n --home /run/other probe\n", &[]),
        package(dir.path(), "reader", "chown root:probe /etc/x\ngroupadd -r other\n", &[]),
        package(
            dir.path(),
            "file",
            "systemd-sysusers x.conf\n",
            &[("usr/lib/sysusers.d/x.conf", "g filed -\n")],
        ),
    ];
    installed(&root, &["probe"], &["other", "filed"]);
    fs::create_dir_all(root.join("usr/lib/sysusers.d")).unwrap();
    fs::write(root.join("usr/lib/sysusers.d/x.conf"), "g filed -\n").unwrap();
    let said = brought(&root, &debs);
    let of = |package: &str| (&said[package]["users"], &said[package]["groups"]);
    assert_eq!(of("daemon"), (&json!(["probe"]), &json!([])));
    assert_eq!(of("reader"), (&json!([]), &json!(["other"])));
    assert_eq!(of("file"), (&json!([]), &json!(["filed"])));
    assert!(["daemon", "reader", "file"].iter().all(|name| said[name]["is_whole"] == true));
}

#[test]
fn a_computed_name_is_that_of_the_only_script_that_makes_accounts_or_of_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("tree");
    installed(&root, &[], &["computed"]);
    let computing = "groupadd -r \"$(cat /etc/name)\"\n";
    let mut debs = vec![
        package(dir.path(), "one", computing, &[]),
        package(dir.path(), "none", "true\n", &[]),
    ];
    let said = brought(&root, &debs);
    assert_eq!(said["one"]["groups"], json!(["computed"]));
    assert_eq!(said["one"]["is_whole"], true);
    debs.push(package(dir.path(), "two", computing, &[]));
    let said = brought(&root, &debs);
    assert_eq!((&said["one"]["groups"], &said["two"]["groups"]), (&json!([]), &json!([])));
    assert_eq!(
        (&said["one"]["is_whole"], &said["two"]["is_whole"]),
        (&json!(false), &json!(false))
    );
}

#[test]
fn units_and_alternatives_belong_to_the_package_to_which_links_lead() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("tree");
    installed(&root, &[], &[]);
    let unit = "usr/lib/systemd/system/probe.service";
    let debs = [package(dir.path(), "probe", "true\n", &[(unit, ""), ("usr/bin/probe.basic", "")])];
    for (link, target) in [
        (
            "etc/systemd/system/multi-user.target.wants/probe.service",
            "/usr/lib/systemd/system/probe.service",
        ),
        ("etc/systemd/system/alias.service", "/lib/systemd/system/probe.service"),
        ("etc/systemd/system/other.service", "/dev/null"),
    ] {
        let link = root.join(link);
        fs::create_dir_all(link.parent().unwrap()).unwrap();
        std::os::unix::fs::symlink(target, link).unwrap();
    }
    let alternatives = root.join("var/lib/dpkg/alternatives");
    fs::create_dir_all(&alternatives).unwrap();
    let text = "auto\n/usr/bin/probe\nprobe.1.gz\n/usr/share/man/man1/probe.1.gz\n\n\
                /usr/bin/probe.basic\n10\n/usr/share/man/x\n/usr/bin/probe.of-another\n20\n\n\n";
    fs::write(alternatives.join("probe"), text).unwrap();
    let said = brought(&root, &debs);
    assert_eq!(said["probe"]["enabled"], json!(["probe.service"]));
    assert_eq!(said["probe"]["units"], json!(["alias.service"]));
    assert_eq!(said["probe"]["programs"], json!(["/usr/bin/probe"]));
}

/// A lock with one package more, which the cache has.
fn lock_with(dir: &Path, profile: &Profile, deb: &Path) -> Lock {
    let revision = Revision::new(1, profile.clone()).unwrap();
    let mut plain = profile.clone();
    plain.software.packages.retain(|package| package != "fleeti-probe");
    let plain = Revision::new(1, plain).unwrap();
    let resolved = build::lock_into(&cache(), &plain, Some(&dir.join("plain.json")), false);
    let mut lock = serde_json::to_value(resolved.unwrap()).unwrap();
    let sha256 = sha256_file(deb).unwrap();
    fs::copy(deb, cache().package(&sha256)).unwrap();
    lock["requested"] = json!(Debian.packages(&revision));
    lock["sets"]["device"].as_array_mut().unwrap().push(json!({
        "name": "fleeti-probe", "version": "1", "sha256": sha256,
        "size": fs::metadata(deb).unwrap().len(), "path": "pool/main/f/fleeti-probe_1_all.deb",
    }));
    serde_json::from_value(lock).unwrap()
}

/// What the index that knows the installed packages says of a profile.
fn said_by_index(profile: &Profile, lock: &Lock) -> (Vec<String>, Vec<String>) {
    let mut parts = IndexParts::default();
    for package in lock.set("device") {
        let indexed = IndexedPackage {
            version: package.version.to_string(),
            sha256: package.sha256.to_string(),
            ..IndexedPackage::default()
        };
        parts.packages.insert(package.name.to_string(), indexed);
    }
    suite::add_learnt(&cache(), &mut parts).unwrap();
    let head = IndexHead { suite: "trixie".into(), snapshot: "0".repeat(64), has_contents: false };
    let index = SuiteIndex::open(Box::new(parts.to_text(&head))).unwrap();
    let found = suite::check(profile, Some(&index)).unwrap();
    let of_group = |list: Vec<fleeti_core::wire::problem::FieldError>| {
        let of_group = list.into_iter().filter(|finding| finding.path.starts_with("users["));
        of_group.map(|finding| finding.message).collect()
    };
    (of_group(found.errors), of_group(found.warnings))
}

#[test]
#[ignore = "long: installs packages"]
fn what_only_a_script_makes_is_a_warning_until_its_package_was_installed_once() {
    let dir = tempfile::tempdir().unwrap();
    // The time makes a package that no earlier run installed.
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let script = format!(
        "# {}\nNAME=probe-reader\naddgroup --system --quiet \"$NAME\"\n\
         adduser --system --quiet --no-create-home --home /nonexistent --ingroup \"$NAME\" probe-daemon\n",
        now.as_nanos()
    );
    let deb = package(dir.path(), "fleeti-probe", &script, &[]);
    let mut profile = profile("kiosk");
    profile.software.packages.extend(["adduser".to_owned(), "fleeti-probe".to_owned()]);
    profile.users[0].groups.push("probe-reader".to_owned());
    let lock = lock_with(dir.path(), &profile, &deb);
    let (errors, warnings) = said_by_index(&profile, &lock);
    assert_eq!(errors, Vec::<String>::new());
    assert!(warnings[0].contains("create the group probe-reader; "), "{warnings:?}");
    assert!(warnings[0].contains("no build installed"), "{warnings:?}");

    let mut request = request(dir.path(), profile.clone(), "build");
    request.lock = Some(dir.path().join("lock.json"));
    lock.write(request.lock.as_ref().unwrap()).unwrap();
    build::run(&request, &cache(), &mut |_| {}).unwrap();
    let text = fs::read(request.out.join("brought.json")).unwrap();
    let brought: Value = serde_json::from_slice(&text).unwrap();
    assert_eq!(brought["fleeti-probe"]["users"], json!(["probe-daemon"]));
    assert_eq!(brought["fleeti-probe"]["groups"], json!(["probe-reader"]));
    assert_eq!(said_by_index(&profile, &lock), (vec![], vec![]));
}
