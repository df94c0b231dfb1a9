//! `fleeti fix`: each run goes on where the fix is.

use crate::served::{Ran, Served};

/// Runs `fleeti fix jq` for a version; `@` stands for the folder.
fn fix(served: &Served, version: &str, more: &str) -> Ran {
    let typed = format!(
        "fix jq --profile examples/profiles/kiosk.toml --version {version} --fleet shop --reason CVE-2026-1 {more}"
    );
    let typed = typed.replace('@', &served.path(""));
    served.run(&typed.split_whitespace().collect::<Vec<_>>())
}

fn refused(ran: &Ran, text: &str) {
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(1), ""), "{ran:?}");
    assert!(ran.stderr.contains(text), "{text}: {ran:?}");
}

fn says(ran: &Ran, texts: &[&str]) {
    assert_eq!(ran.code, Some(0), "{ran:?}");
    for text in texts {
        assert!(ran.stdout.contains(text), "{text}: {ran:?}");
    }
}

#[test]
fn a_fix_goes_on_after_each_person_until_its_rollout_is_there() {
    let served = Served::start();
    // Another build has the version, which did not refresh the package.
    refused(&fix(&served, "3", ""), "build-2 of kiosk@3 is no build of this fix");
    // The build is there. Other people must approve its signature.
    let ran = fix(&served, "4", "");
    refused(&ran, "build-3 needs 1 approvals");
    assert!(ran.stderr.contains("add --key YOUR.key"), "{ran:?}");
    let approve = "fleeti build approve build-3 --key THEIR.key";
    says(
        &fix(&served, "4", "--key @alice.key"),
        &["0 of 1 approvals", approve, "then: fleeti fix jq"],
    );
    // A second run requests nothing twice.
    let ran = fix(&served, "4", "-o json");
    let json: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!((json["step"].as_str(), json["of"].as_str()), (Some("signature"), Some("build-3")));
    served.done("build approve build-3 --key @bob.key --not-built-here");
    // Signed and published; the fleet is empty.
    refused(&fix(&served, "4", ""), "no devices");
    assert!(served.done("release list").contains("kiosk@4"));
    served.device("till", "shop");
    let ran = fix(&served, "4", "-o json");
    let json: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(json["urgent"]["reason"], "CVE-2026-1", "{ran:?}");
    let id = json["id"].as_str().unwrap();
    let shown = served.done(&format!("rollout show {id}"));
    for text in ["urgent: CVE-2026-1", "0 h 00 min since it began: 0 proved", "wave 1  1"] {
        assert!(shown.contains(text), "{text}: {shown}");
    }
    // It starts no second one.
    says(&fix(&served, "4", ""), &[id]);
    assert_eq!(served.done("rollout list").matches("kiosk@4").count(), 1);
    let exported = served.done(&format!("rollout export {id}"));
    assert!(exported.contains("urgent = \"CVE-2026-1\""), "{exported}");
}
