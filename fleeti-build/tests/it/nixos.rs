//! The NixOS base. What evaluates needs a module tree of NixOS: `FLEETI_NIXPKGS` names it. Without one
//! those tests say that they were not run, and the checked-in results are held to the files that
//! they were made of.

use super::{profile, repository};
use fleeti_build::base::debian::Debian;
use fleeti_build::base::nixos::{
    Evaluation, Input, Nixos, Tree, VARIABLE, evaluate, sources_digest,
};
use fleeti_build::base::{Base, HonourError};
use fleeti_core::canonical::sha256_hex;
use fleeti_core::id::ReleaseName;
use fleeti_core::profile::{BaseName, Profile, Revision, beyond, fields};
use serde_json::{Value, json};
use std::path::PathBuf;
use std::process::Command;
use std::time::Instant;

const GOOD: &str = "schema = 1\nname = \"kiosk\"\narchitecture = \"x86_64\"\nbase = \"nixos\"\n";

/// The tree; `None`, and a line that says so, without one.
fn tree() -> Option<Tree> {
    let tree = Tree::named().transpose().unwrap();
    if tree.is_none() {
        println!("not run: {VARIABLE} names no module tree of NixOS");
    }
    tree
}

fn text(more: &str) -> Profile {
    fleeti_core::profile::check(&format!("{GOOD}{more}")).unwrap()
}

fn evaluated(tree: &Tree, profile: &Profile) -> Evaluation {
    let version = "1".parse().unwrap();
    let release = ReleaseName { line: profile.name.clone(), version };
    let version = "1".parse().unwrap();
    evaluate(tree, &Input::new(profile, &release, &version)).unwrap()
}

/// The examples on this base, without what it refuses of them.
fn examples() -> [(&'static str, Profile); 2] {
    ["kiosk", "gateway"].map(|name| {
        let mut profile = Profile { base: BaseName::Nixos, ..profile(name) };
        profile.users.iter_mut().for_each(|user| user.expires = None);
        (name, profile)
    })
}

fn snapshot(name: &str) -> PathBuf {
    repository().join("nix/nixos/evaluated").join(format!("{name}.json"))
}

fn made_of(profile: &Profile) -> Value {
    let version = "1".parse().unwrap();
    let release = ReleaseName { line: profile.name.clone(), version };
    let version = "1".parse().unwrap();
    let input = Input::new(profile, &release, &version).to_json().unwrap();
    json!({"nix": sources_digest(), "input": sha256_hex(&input)})
}

#[test]
fn the_checked_in_results_are_of_these_files_and_profiles() {
    for (name, profile) in examples() {
        let kept: Value = serde_json::from_slice(&std::fs::read(snapshot(name)).unwrap()).unwrap();
        assert_eq!(
            kept["made_of"],
            made_of(&profile),
            "nix/nixos/evaluated/{name}.json is stale: run this test with {VARIABLE} and \
             INSTA_UPDATE=always"
        );
    }
}

#[test]
fn the_examples_evaluate_to_the_checked_in_results() {
    let Some(tree) = tree() else { return };
    for (name, profile) in examples() {
        let begun = Instant::now();
        let found = evaluated(&tree, &profile);
        println!("{name} evaluated in {:?}", begun.elapsed());
        assert_eq!(found.findings.errors, [], "{name}");
        let report = found.report.unwrap();
        let made = json!({"made_of": made_of(&profile), "report": report});
        let path = snapshot(name);
        if std::env::var("INSTA_UPDATE").is_ok_and(|v| v == "always") {
            let text = serde_json::to_string_pretty(&made).unwrap() + "\n";
            std::fs::write(&path, text).unwrap();
        }
        let kept: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        for (part, value) in report.as_object().unwrap() {
            assert_eq!(&kept["report"][part], value, "{name}: {part}");
        }
    }
}

#[test]
fn every_example_is_for_both_bases_or_refused_by_name() {
    for entry in std::fs::read_dir(repository().join("examples/profiles")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        let example = profile(&name);
        Debian.check(&example).unwrap();
        let refused = match Nixos.check(&Profile { base: BaseName::Nixos, ..example }) {
            Ok(()) => Vec::new(),
            Err(HonourError::Fields(fields)) => fields.into_iter().map(|f| f.path).collect(),
            Err(e) => panic!("{e}"),
        };
        let expected: &[&str] = match name.as_str() {
            "gateway" => &["users[1].expires"],
            _ => &[],
        };
        assert_eq!(refused, expected, "{name}");
    }
}

/// Removes a path such as `users[0].expires`.
fn remove(value: &mut Value, path: &str) {
    let pointer = format!("/{}", path.replace(['.', '['], "/").replace(']', ""));
    let (parent, name) = pointer.rsplit_once('/').unwrap();
    if let Some(fields) = value.pointer_mut(parent).and_then(Value::as_object_mut) {
        fields.remove(name);
    }
}

/// A profile with every field that the base honours.
fn everything() -> Profile {
    let path = repository().join("fleeti-core/src/profile/rules/everything.toml");
    let profile = fleeti_core::profile::check(&std::fs::read_to_string(path).unwrap()).unwrap();
    let mut value = serde_json::to_value(Profile { base: BaseName::Nixos, ..profile }).unwrap();
    for whole in
        ["network.wifi", "network.wireguard", "site", "software.own", "software.repositories"]
    {
        remove(&mut value, whole);
    }
    let profile: Profile = serde_json::from_value(value.clone()).unwrap();
    for path in beyond(&profile, Nixos.honoured()).unwrap() {
        remove(&mut value, &path);
    }
    serde_json::from_value(value).unwrap()
}

/// The fields of a value as entries of `fields`.
fn leaves(value: &Value, at: &str, known: &[String], out: &mut Vec<String>) {
    let join = |name: &str| if at.is_empty() { name.to_owned() } else { format!("{at}.{name}") };
    match value {
        Value::Object(_) if known.contains(&format!("{at}.*")) => out.push(format!("{at}.*")),
        Value::Object(map) => map.iter().for_each(|(k, v)| leaves(v, &join(k), known, out)),
        Value::Array(items) if items.first().is_some_and(Value::is_object) => {
            items.iter().for_each(|item| leaves(item, &format!("{at}[]"), known, out));
        }
        // A list of tables without an entry.
        Value::Array(_) if known.iter().any(|field| field.starts_with(&format!("{at}[]"))) => {}
        _ => out.push(at.to_owned()),
    }
}

#[test]
fn the_options_are_the_fields_that_the_base_honours() {
    let Some(tree) = tree() else { return };
    let profile = everything();
    assert_eq!(beyond(&profile, Nixos.honoured()).unwrap(), Vec::<String>::new());
    let found = evaluated(&tree, &profile);
    let report = found.report.unwrap_or_else(|| panic!("{:?}", found.findings));
    let read: Profile = serde_json::from_value(report["profile"].clone()).unwrap();
    assert_eq!(read, profile, "types and defaults are those of Fleeti");
    let mut options = Vec::new();
    leaves(&report["profile"], "", &fields(), &mut options);
    options.sort();
    options.dedup();
    // Every profile has these, with their defaults.
    let defaults = ["security.access_control", "state.directories[].on_reset", "state.version"];
    let all = Nixos.honoured().iter().chain(&defaults);
    let mut honoured: Vec<_> = all.map(|f| (*f).to_owned()).collect();
    honoured.sort();
    assert_eq!(options, honoured);
}

#[test]
fn an_attack_or_an_error_of_a_profile_is_found_at_its_field() {
    let Some(tree) = tree() else { return };
    let module = |body: &str| {
        let mut profile = text("");
        profile.extension.nixos = format!("{{ lib, pkgs, ... }}: {{ {body} }}");
        profile
    };
    let network = "[[users]]\nname = \"ops\"\nid = 2000\ngroups = [\"video\", \"plugdev\"]\n";
    let owner = "[[state.directories]]\npath = \"/var/lib/web\"\nowner = \"www-data\"\n";
    // A module does not switch the timer on by its usual option.
    let timer = module("systemd.timers.systemd-sysupdate.enable = lib.mkForce true;");
    let report = evaluated(&tree, &timer).report.unwrap();
    assert!(report["masked"].as_array().unwrap().contains(&json!("systemd-sysupdate.timer")));
    let ok = module("services.nginx.enable = true; environment.systemPackages = [ pkgs.htop ];");
    assert_eq!(evaluated(&tree, &ok).findings.errors, []);
    for (profile, path, part) in [
        (text(network), "users[0].groups[1]", "no group plugdev"),
        (text(owner), "state.directories[0].owner", "no user www-data"),
        (
            module("services.getty.autologinUser = \"root\";"),
            "extension.nixos",
            "without a password",
        ),
        (
            module("users.users.eve = { isNormalUser = true; initialPassword = \"a\"; };"),
            "extension.nixos",
            "eve",
        ),
        (
            module(
                "users.users.eve = { isSystemUser = true; group = \"root\"; hashedPassword = \"\"; };",
            ),
            "extension.nixos",
            "empty password",
        ),
        (module("boot.kernelParams = [ \"init=/bin/sh\" ];"), "extension.nixos", "init=/bin/sh"),
        (
            module("systemd.units.\"systemd-sysupdate.timer\".enable = lib.mkOverride 10 true;"),
            "extension.nixos",
            "systemd-sysupdate",
        ),
        (module("networking.hostName = \"x\";"), "extension.nixos", "identity.hostname"),
        (
            module("systemd.services.fleeti-x.script = builtins.readFile \"/etc/passwd\";"),
            "extension.nixos",
            "restricted",
        ),
        (
            module(
                "systemd.services.fleeti-x.script = builtins.readFile (builtins.fetchurl \"http://127.0.0.1:1/\");",
            ),
            "extension.nixos",
            "restricted",
        ),
        (module("services.openssh.prot = 22;"), "extension.nixos", "does not exist"),
        (module("time.timeZone = "), "extension.nixos", "syntax error"),
    ] {
        let found = evaluated(&tree, &profile).findings;
        assert!(
            found.errors.iter().any(|e| e.path == path && e.message.contains(part)),
            "{path} {part}: {found:?}"
        );
    }
}

#[test]
fn an_evaluation_that_does_not_end_is_ended() {
    let Some(tree) = tree() else { return };
    let mut profile = text("");
    profile.extension.nixos = "{ ... }: let f = n: f (n + 1); in { imports = [ (f 0) ]; }".into();
    let version = "1".parse().unwrap();
    let release = ReleaseName { line: profile.name.clone(), version };
    let version = "1".parse().unwrap();
    match evaluate(&tree, &Input::new(&profile, &release, &version)) {
        Ok(found) => assert_eq!(found.findings.errors[0].path, "extension.nixos"),
        Err(e) => assert!(e.to_string().contains("limit"), "{e}"),
    }
}

#[test]
fn the_module_of_the_server_evaluates_and_refuses_secrets_in_options() {
    let Some(tree) = tree() else { return };
    let folder = tempfile::tempdir().unwrap();
    let names = folder.path().join("names.json");
    std::fs::write(&names, serde_json::to_vec(tree.names()).unwrap()).unwrap();
    let report = |options: &str| -> Value {
        let output = Command::new("nix-instantiate")
            .args(["--eval", "--strict", "--json", "--readonly-mode", "--store", "dummy://"])
            .arg(repository().join("nix/nixos/evaluate-server.nix"))
            .args(["--arg", "nixpkgs", &tree.root().display().to_string()])
            .args(["--arg", "names", &names.display().to_string()])
            .args(["--arg", "options", options])
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    };
    let good = report("[ \"--api\" \"0.0.0.0:8080\" ]");
    assert_eq!(good["assertions"], json!([]));
    assert_eq!(good["etc"]["fleeti/server.conf"], "FLEETI_OPTIONS=--api 0.0.0.0:8080\n");
    for unit in ["fleeti-server.service", "fleeti-signer.service"] {
        let text = good["units"][unit]["text"].as_str().unwrap();
        assert!(text.contains("ExecStart=/nix/store/") && text.contains("ProtectSystem=strict"));
        assert!(!text.contains("/usr/bin/"), "{text}");
        assert_eq!(good["units"][unit]["wantedBy"], json!(["multi-user.target"]));
    }
    let bad = report("[ \"--passphrase\" \"x\" ]");
    assert!(bad["assertions"][0].as_str().unwrap().contains("secret in an option"));
}

#[test]
fn the_flake_makes_a_system_of_a_profile_with_its_extension() {
    let Some(tree) = tree() else { return };
    let folder = tempfile::tempdir().unwrap();
    let names = folder.path().join("names.json");
    std::fs::write(&names, serde_json::to_vec(tree.names()).unwrap()).unwrap();
    let mut profile = text("");
    profile.extension.nixos = "{ ... }: { time.timeZone = \"Asia/Tokyo\"; }".into();
    let version = "7".parse().unwrap();
    let release = ReleaseName { line: profile.name.clone(), version };
    let input = Input::new(&profile, &release, &release.version).to_json().unwrap();
    let input_file = folder.path().join("input.json");
    std::fs::write(&input_file, input).unwrap();
    let expression = format!(
        "let tree = {tree}; lib = import (tree + \"/lib\"); \
         pkgs = import {nix}/stub.nix {{ inherit lib; system = \"x86_64-linux\"; \
           names = builtins.fromJSON (builtins.readFile {names}); }}; \
         flake = (import {nix}/flake.nix).outputs \
           {{ nixpkgs = {{ inherit lib; outPath = toString tree; }}; }}; \
         system = flake.lib.system {{ inherit pkgs; input = builtins.readFile {input}; \
           modules = [ {{ _module.args.pkgs = lib.mkForce pkgs; }} ]; }}; \
         in {{ modules = builtins.attrNames flake.nixosModules; \
           zone = system.config.time.timeZone; uki = system.config.system.boot.loader.ukiFile; }}",
        tree = tree.root().display(),
        nix = repository().join("nix/nixos").display(),
        names = names.display(),
        input = input_file.display(),
    );
    let output = Command::new("nix-instantiate")
        // The extension becomes a file of the store.
        .args(["--eval", "--strict", "--json", "--read-write-mode"])
        .args(["--option", "build-users-group", ""])
        .args(["-E", &expression])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let found: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        found,
        json!({
            "modules": ["fleeti-agent", "fleeti-server", "image"],
            "zone": "Asia/Tokyo",
            "uki": "kiosk_7+3.efi",
        })
    );
}

#[test]
fn no_image_is_built_and_what_the_base_cannot_honour_is_found_without_an_index() {
    let folder = tempfile::tempdir().unwrap();
    let cache = fleeti_build::cache::Cache::at(folder.path());
    let revision = Revision::new(1, text("")).unwrap();
    let error = fleeti_build::build::lock_into(&cache, &revision, None, false).unwrap_err();
    assert!(error.to_string().contains("evaluated, never booted"), "{error}");
    assert!(error.hint().unwrap().contains("base = \"debian\""));

    let expires = "[[users]]\nname = \"ops\"\nexpires = \"2027-12-31\"\n";
    let found = fleeti_build::suite::check(&text(expires), None).unwrap();
    assert_eq!(found.errors[0].path, "users[0].expires");
    let on_debian = Profile { base: BaseName::Debian, ..text(expires) };
    let found = fleeti_build::suite::check(&on_debian, None).unwrap();
    assert_eq!(found.errors, []);
}
