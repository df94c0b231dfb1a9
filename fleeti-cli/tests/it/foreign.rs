//! Files with text of an attacker: it cannot move the cursor or begin a line.

use crate::fleeti;
use std::fs;

/// An escape sequence, a C1 character, a line that looks like this program's, and a reversed name.
const EVIL: &str = r"x\u001b[2J\u009b1A\nerror: all is well\u202e";
const SHOWN: [char; 3] = ['\u{1b}', '\u{9b}', '\u{202e}'];

#[test]
fn a_build_record_and_a_profile_cannot_repaint_the_terminal() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().to_str().unwrap();
    fs::write(dir.path().join("build.json"), format!("{{\"{EVIL}\": 1}}")).unwrap();
    fs::write(dir.path().join("profile.toml"), format!("schema = 1\n\"{EVIL}\" = 1\n")).unwrap();
    let profile = format!("{path}/profile.toml");
    for arguments in [
        vec!["build", "verify", path, "--profile", "examples/profiles/kiosk.toml", "--trust", path],
        vec!["release", "create", path, "--pki", path, "--out", "/nonexistent/x"],
        vec!["profile", "check", &profile],
    ] {
        let text = fleeti(&arguments);
        assert!(text.starts_with("exit 1\n"), "{text:?}");
        assert!(!text.contains(SHOWN) && !text.contains("\nerror: all is well"), "{text:?}");
        let json = fleeti(&[&["-o", "json"], &arguments[..]].concat());
        assert!(!json.contains(SHOWN), "{json:?}");
        let (_, stderr) = json.split_once("--- stderr\n").unwrap();
        serde_json::from_str::<serde_json::Value>(stderr).unwrap();
    }
}

#[test]
fn a_check_without_anything_of_ones_own_says_what_to_name() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().to_str().unwrap();
    assert!(
        fleeti(&["release", "sign", path, "--key", "k", "--build", path]).starts_with("exit 2\n")
    );
    assert!(fleeti(&["build", "verify", path, "--lock", "l"]).starts_with("exit 2\n"));
}
