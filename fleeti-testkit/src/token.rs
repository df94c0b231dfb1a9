//! A PKCS#11 token for one test (SoftHSM).

use std::process::Command;

/// Path of the module.
pub const MODULE: &str = "/usr/lib/softhsm/libsofthsm2.so";
/// PIN of the token, which is named `fleeti`.
pub const PIN: &[u8] = b"12345678";

/// Runs a test, given by its name in its test binary, with a token. SoftHSM reads the folder of its
/// tokens from the environment at its start, so the test runs itself in a new process; processes
/// that it starts use the same token.
///
/// # Panics
/// If the test fails, or SoftHSM is not installed.
#[allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]
pub fn with_token(name: &str, test: impl FnOnce()) {
    if std::env::var_os("SOFTHSM2_CONF").is_some() {
        return test();
    }
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("tokens")).unwrap();
    let conf = dir.path().join("softhsm2.conf");
    std::fs::write(
        &conf,
        format!("directories.tokendir = {}\n", dir.path().join("tokens").display()),
    )
    .unwrap();
    let mut util = Command::new("softhsm2-util");
    util.args([
        "--init-token",
        "--free",
        "--label",
        "fleeti",
        "--so-pin",
        "00000000",
        "--pin",
        "12345678",
    ]);
    assert!(util.env("SOFTHSM2_CONF", &conf).output().unwrap().status.success());
    let mut again = Command::new(std::env::current_exe().unwrap());
    again.args(["--exact", name, "--nocapture"]).env("SOFTHSM2_CONF", &conf);
    let output = again.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && said.contains("1 passed"),
        "{said}{}",
        String::from_utf8_lossy(&output.stderr)
    );
}
