//! The systemd units of a server, as `systemd-analyze` rates them.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Each unit, with the maximum exposure, times ten, that `systemd-analyze security` may report:
/// below 2.5, and below 3.3 for the unit that gives Nix namespaces.
const UNITS: [(&str, &str); 3] = [
    ("fleeti-server/fleeti-server.service", "24"),
    ("fleeti-signer/fleeti-signer.service", "24"),
    ("fleeti-server/fleeti-worker.service", "32"),
];

fn is_below(unit: &Path, exposure_max: &str) -> (bool, String) {
    let mut command = Command::new("systemd-analyze");
    command
        .args(["security", "--offline=yes", "--no-pager", "--threshold", exposure_max])
        .arg(unit);
    let output = command.output().expect("systemd-analyze is part of Debian's systemd");
    (
        output.status.success(),
        format!(
            "{}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        ),
    )
}

fn unit(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}

#[test]
fn server_signer_and_worker_are_confined_and_systemd_says_so() {
    for (path, exposure_max) in UNITS {
        let (good, said) = is_below(&unit(path), exposure_max);
        assert!(good && said.contains("Overall exposure level"), "{path}:\n{said}");
    }
}

#[test]
fn a_unit_that_is_not_confined_would_be_noticed() {
    let dir = tempfile::tempdir().unwrap();
    for (path, exposure_max) in UNITS {
        let text = std::fs::read_to_string(unit(path)).unwrap();
        let kept = |line: &&str| {
            !["Protect", "Restrict", "Private", "SystemCall", "Capability"]
                .iter()
                .any(|p| line.starts_with(p))
        };
        let weak = dir.path().join(Path::new(path).file_name().unwrap());
        std::fs::write(&weak, text.lines().filter(kept).collect::<Vec<_>>().join("\n")).unwrap();
        assert!(!is_below(&weak, exposure_max).0, "{path}");
    }
}

#[test]
fn every_unit_has_a_user_of_its_own_limits_and_comes_back_after_a_failure() {
    for (path, user) in [
        ("fleeti-server/fleeti-server.service", "fleeti"),
        ("fleeti-server/fleeti-worker.service", "fleeti-worker"),
        ("fleeti-signer/fleeti-signer.service", "fleeti-signer"),
    ] {
        let users = std::fs::read_to_string(unit(path).with_extension("sysusers")).unwrap();
        let text = std::fs::read_to_string(unit(path)).unwrap();
        let value = |key: &str| {
            text.lines()
                .find_map(|l| l.strip_prefix(key)?.strip_prefix('='))
                .unwrap_or_else(|| panic!("{path}: {key}"))
        };
        assert_eq!(value("User"), user);
        assert!(users.lines().any(|l| l.split_whitespace().take(2).eq(["u", user])), "{user}");
        assert_eq!(
            (value("UMask"), value("Restart"), value("StartLimitIntervalSec")),
            ("0077", "on-failure", "0")
        );
        for key in [
            "LimitNOFILE",
            "MemoryMax",
            "TasksMax",
            "StateDirectory",
            "SystemCallFilter",
            "NoNewPrivileges",
        ] {
            assert!(!value(key).is_empty(), "{path}: {key}");
        }
    }
}
