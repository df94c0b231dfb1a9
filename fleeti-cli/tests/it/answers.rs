//! Responses that the API does not document: the command reports an error and prints nothing of
//! them.

use fleeti_core::wire::api::{Rollout, RolloutSummary};
use fleeti_testkit::malformed::{self, HttpPeer};
use std::process::{Command, Stdio};

fn fleeti(peer: &HttpPeer, token: &str, arguments: &[&str]) -> (Option<i32>, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fleeti"));
    command
        .args(arguments)
        .env("FLEETI_SERVER", &peer.url)
        .env("FLEETI_TOKEN_FILE", token)
        .stdin(Stdio::null());
    let output =
        command.env_remove("FLEETI_FINGERPRINT").env_remove("FLEETI_INSECURE").output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

#[test]
fn an_answer_in_no_documented_form_ends_a_command_with_what_is_wrong() {
    let dir = tempfile::tempdir().unwrap();
    let token = dir.path().join("token").display().to_string();
    std::fs::write(&token, "TOKEN\n").unwrap();
    let peer = HttpPeer::start().unwrap();
    let header = r#""id":"the-rollout","fleet":"demo","created_s":1,"release":"kiosk@2","phase":"running",
        "counts":{"total":1,"succeeded":0,"failed":0,"moving":0,"unconfirmed":1}"#;
    let devices = r#"[{"device":"dev-a","phase":{"type":"unconfirmed"},"since_s":1}]"#;
    let rollout: Rollout =
        serde_json::from_str(&format!(r#"{{{header},"devices":{devices}}}"#)).unwrap();
    let summary: RolloutSummary = serde_json::from_str(&format!("{{{header}}}")).unwrap();
    let one = serde_json::to_string(&rollout).unwrap();
    let list = serde_json::to_string(&vec![summary]).unwrap();
    for (arguments, good) in [(&["rollout", "show", "x"][..], one), (&["rollout", "list"], list)] {
        peer.answers(200, &good);
        let (code, stdout, stderr) = fleeti(&peer, &token, arguments);
        assert!(code == Some(0) && stdout.contains("the-rollout"), "{stdout} {stderr}");
        assert!(
            stdout.contains("0/1 finished, 1 unconfirmed"),
            "neither a success nor a failure: {stdout}"
        );
        for form in malformed::forms(&good).unwrap() {
            peer.answers(200, &form.text);
            let (code, stdout, stderr) = fleeti(&peer, &token, arguments);
            assert_eq!(
                (code, stdout.as_str()),
                (Some(1), ""),
                "{arguments:?}: {}: {stderr}",
                form.what
            );
            assert!(
                stderr.contains("the server's response does not have the documented form: "),
                "{}: {stderr}",
                form.what
            );
            assert!(
                stderr.contains("hint: check that server and client have the same version"),
                "{stderr}"
            );
        }
        peer.answers_bytes(b"HTTP/1.1 200 OK\r\ncontent-length: 1000000000000\r\n\r\n".to_vec());
        let (code, _, stderr) = fleeti(&peer, &token, arguments);
        assert!(
            code == Some(1)
                && stderr.contains("the server's response is larger than 268435456 bytes"),
            "{stderr}"
        );
    }
}
