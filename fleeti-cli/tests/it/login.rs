//! `fleeti login` to a real server with a self-issued certificate, and how later commands use its
//! pinned key.

use crate::served::{Ran, Served};
use fleeti_testkit::server::admin_tls::{AdminTls, ApiTls};
use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The machine of an operator, without any file of the server.
struct Machine<'a> {
    served: &'a Served,
    home: PathBuf,
}

impl<'a> Machine<'a> {
    fn new(served: &'a Served, name: &str) -> Self {
        Self { served, home: served.dir.path().join(name) }
    }

    /// Runs the command with `typed` on standard input.
    fn types(&self, arguments: &[&str], typed: &str) -> Ran {
        let mut command = Command::new(env!("CARGO_BIN_EXE_fleeti"));
        command.args(arguments).env("XDG_CONFIG_HOME", &self.home);
        for name in ["FLEETI_SERVER", "FLEETI_TOKEN_FILE", "FLEETI_FINGERPRINT", "FLEETI_INSECURE"]
        {
            command.env_remove(name);
        }
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // A command that reads no input may have ended already.
        child.stdin.take().unwrap().write_all(typed.as_bytes()).ok();
        let output = child.wait_with_output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Ran { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
    }

    /// Logs in with the token of the server's token file.
    fn logs_in(&self, fingerprint: Option<&str>) -> Ran {
        let mut arguments = vec!["login", &self.served.api];
        arguments.extend(fingerprint.iter().flat_map(|f| ["--fingerprint", f]));
        self.types(&arguments, &token(self.served))
    }

    fn kept(&self) -> PathBuf {
        self.home.join("fleeti/login.json")
    }
}

fn token(served: &Served) -> String {
    fs::read_to_string(served.path("data/admin.token")).unwrap()
}

/// The fingerprint that the server has written for its operator.
fn fingerprint(served: &Served) -> String {
    fs::read_to_string(served.path("data/pki/admin/fingerprint")).unwrap().trim().to_owned()
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

fn refused(ran: &Ran, why: &[&str]) {
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(1), ""), "{ran:?}");
    for part in why {
        assert!(ran.stderr.contains(part), "{part:?} is not in {}", ran.stderr);
    }
}

/// Replaces the server's certificate, and with `key_too` its key, as an operator or an attacker
/// could.
fn replaces_certificate(served: &Served, key_too: bool) -> String {
    let other = tempfile::tempdir().unwrap();
    let admin = |of: &Path| of.join("pki/admin");
    if !key_too {
        fs::create_dir_all(admin(other.path())).unwrap();
        fs::copy(served.path("data/pki/admin/key.pem"), admin(other.path()).join("key.pem"))
            .unwrap();
    }
    let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
    let made =
        AdminTls::open(other.path(), "127.0.0.1:0".parse().unwrap(), &ApiTls::SelfIssued, &names)
            .unwrap()
            .unwrap();
    for file in ["key.pem", "certificate.pem"] {
        let new = served.path(&format!("data/pki/admin/{file}.new"));
        fs::copy(admin(other.path()).join(file), &new).unwrap();
        fs::rename(new, served.path(&format!("data/pki/admin/{file}"))).unwrap();
    }
    made.fingerprint()
}

#[test]
fn a_login_knows_the_server_by_its_key_and_keeps_the_token_for_nobody_else() {
    let served = Served::with(ApiTls::SelfIssued);
    assert!(served.api.starts_with("https://"), "{}", served.api);
    let (right, wrong) = (fingerprint(&served), format!("sha256:{}", "0".repeat(64)));
    let machine = Machine::new(&served, "alice");

    let pinned = format!("the server's key has the fingerprint {right}, expected {wrong}");
    refused(
        &machine.logs_in(Some(&wrong)),
        &[&pinned, "hint: compare with what the server prints when it starts"],
    );
    let unknown = format!(
        "this machine does not trust the certificate of {}; its key has the fingerprint {right}",
        served.api
    );
    refused(&machine.logs_in(None), &[&unknown, &format!("then add --fingerprint {right}")]);
    assert_eq!(
        machine.logs_in(Some("sha256:00")).code,
        Some(2),
        "no fingerprint at all is wrong usage"
    );
    refused(
        &machine.types(&["login", &served.api, "--fingerprint", &right], "another token\n"),
        &["token"],
    );
    refused(&machine.types(&["login", &served.api, "--fingerprint", &right], ""), &["it is empty"]);
    refused(
        &machine.types(
            &["login", &served.api.replace("https", "http"), "--fingerprint", &right],
            &token(&served),
        ),
        &["https"],
    );
    assert!(!machine.kept().exists(), "nothing is kept of a login that failed");
    refused(&machine.types(&["device", "list"], ""), &["there is no API token", "fleeti login"]);

    let done = machine.logs_in(Some(&right));
    assert_eq!(done.code, Some(0), "{done:?}");
    assert!(
        done.stdout.contains(&right) && !format!("{done:?}").contains(token(&served).trim()),
        "{done:?}"
    );
    assert_eq!((mode(&machine.kept()), mode(&machine.home.join("fleeti"))), (0o600, 0o700));
    assert!(fs::read_to_string(machine.kept()).unwrap().contains(token(&served).trim()));

    let listed = machine.types(&["-o", "json", "device", "list"], "");
    assert_eq!((listed.code, listed.stdout.trim()), (Some(0), "[]"), "{listed:?}");
    // The pin belongs to the login: without it, the certificate is not trusted.
    let stranger = Machine::new(&served, "bob");
    let token_file = served.path("data/admin.token");
    refused(
        &stranger
            .types(&["device", "list", "--server", &served.api, "--token-file", &token_file], ""),
        &["error: "],
    );
    assert_eq!(machine.types(&["logout"], "").code, Some(0));
    assert!(!machine.kept().exists());
}

#[test]
fn a_server_with_another_key_is_refused_until_the_operator_logs_in_to_it_again() {
    let served = Served::with(ApiTls::SelfIssued);
    let (machine, before) = (Machine::new(&served, "alice"), fingerprint(&served));
    assert_eq!(machine.logs_in(Some(&before)).code, Some(0));
    let certificate = || fs::read(served.path("data/pki/admin/certificate.pem")).unwrap();

    let first = certificate();
    assert_eq!(replaces_certificate(&served, false), before);
    assert_ne!(certificate(), first);
    assert_eq!(
        machine.types(&["device", "list"], "").code,
        Some(0),
        "a certificate that was renewed has the same key"
    );

    let now = replaces_certificate(&served, true);
    let other = format!(
        "the server's key has the fingerprint {now}, expected {before}: the key was replaced, or the connection is intercepted"
    );
    let what_to_do =
        "if its key was replaced, log in again with `fleeti login URL --fingerprint sha256:...`";
    for command in [["device", "list"], ["rollout", "list"]] {
        refused(&machine.types(&command, ""), &[&other, what_to_do]);
    }
    let kept = fs::read(machine.kept()).unwrap();
    refused(&machine.logs_in(Some(&before)), &[&other]);
    assert_eq!(
        fs::read(machine.kept()).unwrap(),
        kept,
        "a login that failed leaves the one that was there"
    );

    assert_eq!(machine.logs_in(Some(&now)).code, Some(0));
    assert_eq!(mode(&machine.kept()), 0o600);
    assert_eq!(machine.types(&["device", "list"], "").code, Some(0));
}

#[test]
fn a_token_is_not_sent_in_clear_text_to_another_machine() {
    let served = Served::start();
    let far = ["device", "list", "--server", "http://192.0.2.1:8080"];
    let ran = served.run(&far);
    assert!(
        ran.code == Some(1) && ran.stderr.contains("no TLS") && ran.stderr.contains("--insecure"),
        "{ran:?}"
    );
}
