//! The command as people and scripts use it: exit code, stdout, stderr.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]
#![allow(clippy::too_many_lines, reason = "a scenario or a table is read from its beginning")]

mod adopt;
mod answers;
mod approvals;
mod ceremony;
mod documents;
mod every_command;
mod fix;
mod foreign;
mod login;
mod profiles;
mod recorder;
mod served;

use std::path::Path;
use std::process::Command;

fn fleeti(arguments: &[&str]) -> String {
    fleeti_in(Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap(), arguments)
}

/// Runs the command in a folder.
fn fleeti_in(folder: &Path, arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_fleeti"))
        .args(arguments)
        .current_dir(folder)
        .env("FLEETI_OFFLINE", "1")
        .env("FLEETI_CACHE", "/nonexistent/cache")
        .env_remove("FLEETI_TOKEN_FILE")
        .env_remove("FLEETI_PASSPHRASE_FILE")
        .env_remove("CREDENTIALS_DIRECTORY")
        .stdin(std::process::Stdio::null())
        .output()
        .unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    format!(
        "exit {}\n--- stdout\n{}--- stderr\n{}",
        output.status.code().unwrap(),
        text(output.stdout),
        text(output.stderr)
    )
}

#[test]
fn the_example_profiles_are_good() {
    for name in ["kiosk", "gateway"] {
        let said = fleeti(&["profile", "check", &format!("examples/profiles/{name}.toml")]);
        assert!(said.starts_with(&format!("exit 0\n--- stdout\n{name} is valid")), "{said}");
    }
}

#[test]
fn a_bad_profile_is_explained_line_by_line() {
    insta::assert_snapshot!(fleeti(&["profile", "check", "fleeti-cli/tests/it/bad-profile.toml"]));
}

#[test]
fn an_error_in_json_is_json() {
    let said = fleeti(&["-o", "json", "device", "list"]);
    let (_, stderr) = said.split_once("--- stderr\n").unwrap();
    let error: serde_json::Value = serde_json::from_str(stderr).unwrap();
    assert!(said.starts_with("exit 1\n--- stdout\n---"), "{said}");
    assert!(error["hint"].as_str().unwrap().contains("FLEETI_TOKEN_FILE"), "{error}");
}

#[test]
fn wrong_usage_is_exit_code_2_and_the_help_teaches() {
    assert!(fleeti(&["rollout", "begin"]).starts_with("exit 2\n"));
    let help = fleeti(&["--help"]);
    assert!(help.contains("fleeti rollout start --release kiosk@1 --fleet demo --wait"), "{help}");
}

#[test]
fn keys_are_made_once_sealed_and_never_overwritten() {
    let dir = tempfile::tempdir().unwrap();
    let (pki, pass) = (dir.path().join("pki"), dir.path().join("pass"));
    std::fs::write(&pass, "correct horse battery\n").unwrap();
    let init = ["pki", "init", pki.to_str().unwrap(), "--passphrase-file", pass.to_str().unwrap()];
    assert!(fleeti(&init).starts_with("exit 0\n"));
    let key = pki.join("offline/release.key");
    let mode =
        std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&key).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
    let before = std::fs::read(&key).unwrap();
    assert!(fleeti(&init).contains("exists already"));
    assert_eq!(std::fs::read(&key).unwrap(), before);
}
