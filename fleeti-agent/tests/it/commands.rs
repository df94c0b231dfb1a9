//! What the helper collects for commands: with the real journalctl and gpg, where they exist.

use crate::bench::Bench;
use fleeti_agent::Paths;
use fleeti_agent::privileged::collect::collect;
use fleeti_agent::privileged::{self, Collect, Helper};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

fn facts(bench: &Bench, more: &serde_json::Value) {
    let mut facts =
        serde_json::json!({"minimum_version": "1", "hostname": "x", "health_checks": []});
    facts.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    fs::write(bench.paths.lib.join("image.json"), facts.to_string()).unwrap();
}

fn diagnostics(all: &[(&str, &[&str], u32)]) -> serde_json::Value {
    let one = |(name, command, timeout_s): &(&str, &[&str], u32)| serde_json::json!({"name": name, "command": command, "timeout_s": timeout_s});
    serde_json::json!({"diagnostics": all.iter().map(one).collect::<Vec<_>>()})
}

fn diagnostic(name: &str) -> Collect {
    Collect::Diagnostic { name: name.into() }
}

fn logs(unit: Option<&str>) -> Collect {
    Collect::Logs { unit: unit.map(str::to_owned) }
}

async fn refusal(paths: &Paths, what: Collect) -> String {
    format!("{:#}", collect(paths, &what).await.unwrap_err())
}

/// A journalctl that prints these lines, and its arguments into a file.
fn script(bench: &mut Bench, dir: &Path, body: &str) {
    let path = dir.join("journalctl");
    let text = format!("#!/bin/sh\nprintf '%s\\n' \"$@\" > {}/arguments\n{body}\n", dir.display());
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    bench.paths.journalctl = path;
}

#[tokio::test]
async fn a_server_chooses_among_what_the_image_declares_and_nothing_else() {
    let mut bench = Bench::new();
    let dir = tempfile::tempdir().unwrap();
    let mark = dir.path().join("mark");
    facts(&bench, &diagnostics(&[("good", &["/bin/echo", "a", "b"], 10)]));
    for name in ["other", "/bin/sh", "good ; touch x", "../good", ""] {
        assert!(refusal(&bench.paths, diagnostic(name)).await.contains("declares no diagnostic"));
    }
    script(&mut bench, dir.path(), &format!("touch {}", mark.display()));
    for unit in ["--help", "-u", "a.service --follow", "*.service", "$(touch x).service", ""] {
        let said = refusal(&bench.paths, logs(Some(unit))).await;
        assert!(said.contains("is not a unit"), "{said}");
    }
    assert!(!mark.exists(), "journalctl was started");
    let key = Collect::SupportBundle { key: "theirs".into() };
    assert!(refusal(&bench.paths, key).await.contains("has no support key theirs"));
    let good = collect(&bench.paths, &diagnostic("good")).await.unwrap();
    assert_eq!(good.bytes, b"exit status: 0\na b\n");
}

#[tokio::test]
async fn a_diagnostic_is_bounded_in_time_and_size_and_its_errors_are_kept() {
    let bench = Bench::new();
    let all = diagnostics(&[
        ("loud", &["/bin/sh", "-c", "yes; true"], 1),
        ("fails", &["/bin/sh", "-c", "echo out; echo no disk >&2; exit 3"], 10),
        ("full", &["/bin/sh", "-c", "head -c 1000000 /dev/zero; echo why >&2"], 10),
        ("gone", &["/does/not/exist"], 10),
        ("home", &["/usr/bin/env"], 10),
    ]);
    facts(&bench, &all);
    let text = async |name| {
        let collected = collect(&bench.paths, &diagnostic(name)).await.unwrap();
        (String::from_utf8_lossy(&collected.bytes).into_owned(), collected.detail)
    };
    let (loud, detail) = text("loud").await;
    assert!(loud.starts_with("no end in 1 s\ny\n") && loud.len() <= 64 << 10, "{}", loud.len());
    assert!(detail.starts_with("no end in 1 s"), "{detail}");
    let (fails, _) = text("fails").await;
    assert_eq!(fails, "exit status: 3\nout\nno disk\n");
    let (full, _) = text("full").await;
    assert!(full.ends_with("why\n") && full.len() <= 64 << 10, "{}", full.len());
    assert!(refusal(&bench.paths, diagnostic("gone")).await.contains("/does/not/exist"));
    let (environment, _) = text("home").await;
    assert!(!environment.contains("HOME="), "{environment}");
}

#[tokio::test]
async fn the_log_keeps_the_first_of_lines_that_repeat_and_odd_entries_hide_nothing() {
    let mut bench = Bench::new();
    let dir = tempfile::tempdir().unwrap();
    let lines = [
        r#"{"__REALTIME_TIMESTAMP":"1700000000000000","MESSAGE":"began","_SYSTEMD_UNIT":"app.service"}"#,
        "not json",
        r#"{"__REALTIME_TIMESTAMP":"1700000001000000","MESSAGE":null}"#,
        r#"{"__REALTIME_TIMESTAMP":"1700000001000000","MESSAGE":[104,105,255],"SYSLOG_IDENTIFIER":"kernel"}"#,
    ];
    let repeated = r#"{"__REALTIME_TIMESTAMP":"1700000002000000","MESSAGE":"retry","_SYSTEMD_UNIT":"app.service"}"#;
    let body = format!("cat <<'END'\n{}\nEND\nyes '{repeated}' | head -n 5000", lines.join("\n"));
    script(&mut bench, dir.path(), &body);
    let log = collect(&bench.paths, &logs(Some("app.service"))).await.unwrap();
    let text = String::from_utf8(log.bytes).unwrap();
    assert!(text.contains("began\n") && text.contains("retry (5000 times"), "{text}");
    assert!(text.contains("hi\u{fffd}\n"), "{text}");
    assert!(log.detail.starts_with("5002 lines"), "{}", log.detail);
    let arguments = fs::read_to_string(dir.path().join("arguments")).unwrap();
    assert!(arguments.lines().any(|a| a == "--unit=app.service"), "{arguments}");
    script(&mut bench, dir.path(), "echo no journal >&2; exit 1");
    assert!(refusal(&bench.paths, logs(None)).await.contains("exit status: 1"));
}

#[tokio::test]
async fn the_real_journal_is_read() {
    let bench = Bench::new();
    let found = Command::new(&bench.paths.journalctl)
        .args(["--boot", "--quiet", "--lines=1", "--output=json"])
        .stdin(Stdio::null())
        .output();
    let has_lines = found.is_ok_and(|output| output.status.success() && !output.stdout.is_empty());
    if !has_lines {
        eprintln!("skipped: this machine has no journal of this boot");
        return;
    }
    let log = collect(&bench.paths, &logs(None)).await.unwrap();
    assert!(!log.bytes.is_empty() && log.bytes.len() <= 256 << 10, "{}", log.detail);
}

#[tokio::test]
async fn a_collection_ends_with_its_caller() {
    let bench = Bench::new();
    let dir = tempfile::tempdir().unwrap();
    let (begun, ended) = (dir.path().join("begun"), dir.path().join("ended"));
    let slow = format!("touch {}; sleep 2; touch {}", begun.display(), ended.display());
    facts(
        &bench,
        &diagnostics(&[("slow", &["/bin/sh", "-c", &slow], 60), ("next", &["/bin/true"], 9)]),
    );
    let paths = bench.paths.clone();
    tokio::spawn(async move { privileged::serve(paths, None).await });
    while !bench.paths.socket().exists() {
        tokio::task::yield_now().await;
    }
    let helper = Helper::at(bench.paths.socket());
    let caller = helper.clone();
    let running = tokio::spawn(async move { caller.collect(diagnostic("slow")).await });
    while !begun.exists() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    running.abort();
    // The next one waits until the first has ended: at once, not after two seconds.
    let (result, detail) = helper.collect(diagnostic("next")).await.unwrap();
    assert_eq!(result, b"exit status: 0\n", "{detail}");
    assert!(!ended.exists());
}

fn gpg(home: &Path, arguments: &[&str]) -> std::process::Output {
    let mut command = Command::new("gpg");
    command.arg("--homedir").arg(home).args(["--batch", "--quiet", "--pinentry-mode=loopback"]);
    command.args(["--passphrase", ""]).args(arguments).stdin(Stdio::null()).output().unwrap()
}

#[tokio::test]
async fn only_the_support_key_of_the_image_opens_a_bundle() {
    if Command::new("gpg").arg("--version").stdout(Stdio::null()).status().is_err() {
        eprintln!("skipped: this machine has no gpg");
        return;
    }
    let mut bench = Bench::new();
    let dir = tempfile::tempdir().unwrap();
    let line = r#"{"__REALTIME_TIMESTAMP":"1700000000000000","MESSAGE":"a line of the log","_SYSTEMD_UNIT":"app.service"}"#;
    script(&mut bench, dir.path(), &format!("echo '{line}'"));
    for (algorithm, of_subkey) in
        [("nistp256", "nistp256"), ("ed25519", "cv25519"), ("rsa3072", "rsa3072")]
    {
        let home = dir.path().join(algorithm);
        fs::create_dir(&home).unwrap();
        fs::set_permissions(&home, fs::Permissions::from_mode(0o700)).unwrap();
        let made = gpg(&home, &["--quick-generate-key", "Helpdesk", algorithm, "sign", "never"]);
        assert!(made.status.success(), "{made:?}");
        let list = gpg(&home, &["--with-colons", "--list-keys"]);
        let list = String::from_utf8(list.stdout).unwrap();
        let of_key = list.lines().find_map(|l| l.strip_prefix("fpr:::::::::")).unwrap();
        let print = of_key.trim_end_matches(':').to_owned();
        let export = || String::from_utf8(gpg(&home, &["--armor", "--export"]).stdout).unwrap();
        let what = Collect::SupportBundle { key: "helpdesk".into() };
        let keys =
            |key: String| serde_json::json!({"support_keys": [{"name": "helpdesk", "key": key}]});
        facts(&bench, &keys(export()));
        let said = refusal(&bench.paths, what.clone()).await;
        assert!(said.contains("no subkey for encryption"), "{said}");
        let added = gpg(&home, &["--quick-add-key", &print, of_subkey, "encr", "never"]);
        assert!(added.status.success(), "{added:?}");
        facts(&bench, &keys(export()));
        let bundle = collect(&bench.paths, &what).await.unwrap();
        assert!(bundle.detail.to_lowercase().contains(&print.to_lowercase()), "{}", bundle.detail);
        let is_readable = |bytes: &[u8]| bytes.windows(17).any(|w| w == b"a line of the log");
        assert!(!is_readable(&bundle.bytes), "it is encrypted");
        let path = dir.path().join(format!("{algorithm}.gpg"));
        fs::write(&path, &bundle.bytes).unwrap();
        let opened = gpg(&home, &["--decrypt", path.to_str().unwrap()]);
        assert!(opened.status.success() && is_readable(&opened.stdout), "{opened:?}");
        let mut archive = tar::Archive::new(opened.stdout.as_slice());
        let names: Vec<_> = archive
            .entries()
            .unwrap()
            .map(|e| e.unwrap().path().unwrap().display().to_string())
            .collect();
        for name in ["support/log", "support/image.json", "support/units", "support/boot.json"] {
            assert!(names.iter().any(|n| n == name), "{names:?}");
        }
        gpg(&home, &["--quick-revoke-key", &print]);
    }
}
