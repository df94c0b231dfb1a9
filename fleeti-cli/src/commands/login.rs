//! `fleeti login` and `fleeti logout`: the server of later commands, its pinned key, and the token.

use super::request::{block_on, refused};
use crate::CommandResult;
use crate::output::{self, Failure, Lines, Output};
use fleeti_client::danger::{self, PlainHttp};
use fleeti_client::{Client, Pin, fingerprint_of, is_trusted};
use fleeti_core::strict;
use serde::{Deserialize, Serialize};
use std::fs;
use std::io::{BufRead, ErrorKind, IsTerminal, Read};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// The server if no login exists.
const LOCAL: &str = "http://127.0.0.1:8080";
/// Longest token file, bytes.
const TOKEN_MAX: u64 = 4096;

/// Log in to a server. Later commands then need neither its address nor the token.
///
/// The token comes from --token-file or standard input. A terminal prompts for it without echo.
#[derive(clap::Args)]
pub struct Login {
    /// Address of the server's API, https://HOST:PORT.
    url: String,
    /// SHA-256 of the server's public key, `sha256:...`. The server prints it at its start and
    /// stores it in DIR/pki/admin/fingerprint. Without this option, this machine must trust the
    /// certificate, or you confirm the fingerprint at a prompt.
    #[arg(long)]
    fingerprint: Option<Pin>,
    /// File with the API token, such as the server's DIR/admin.token; standard input by default.
    #[arg(long)]
    token_file: Option<PathBuf>,
}

/// The stored login.
#[derive(Serialize, Deserialize)]
struct Kept {
    server: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    fingerprint: Option<String>,
    token: String,
}

/// Output of `fleeti login`.
#[derive(Serialize)]
struct LoggedIn<'a> {
    server: &'a str,
    fingerprint: Option<String>,
    file: String,
}

/// The server that a command talks to.
pub struct Target {
    /// Address of the API.
    pub server: String,
    /// The pinned key of the server.
    pub pin: Option<Pin>,
    /// The token.
    pub token: String,
}

impl Target {
    /// Takes flags and variables first, and the rest from the login. The key and token of a login
    /// are used for its own server only.
    pub fn choose(
        server: Option<&str>,
        pin: Option<&Pin>,
        token_file: Option<&Path>,
    ) -> Result<Self, Failure> {
        Self::choose_in(&file(), server, pin, token_file)
    }

    fn choose_in(
        file: &Option<PathBuf>,
        server: Option<&str>,
        pin: Option<&Pin>,
        token_file: Option<&Path>,
    ) -> Result<Self, Failure> {
        let server = server.map(|s| s.trim_end_matches('/'));
        // Skips a login that is not needed: its file may be broken.
        let is_needed = server.is_none() || pin.is_none() || token_file.is_none();
        let kept = if is_needed { file.as_deref().map(read).transpose()?.flatten() } else { None };
        let kept = kept.filter(|kept| server.is_none_or(|s| s == kept.server));
        let kept_pin = kept
            .as_ref()
            .and_then(|k| k.fingerprint.as_deref())
            .map(str::parse)
            .transpose()
            .map_err(Failure::plain)?;
        let token = match (token_file, &kept) {
            (Some(path), _) => token_from(path)?,
            (None, Some(kept)) => kept.token.clone(),
            (None, None) => {
                let hint = "run `fleeti login`, or set --token-file or FLEETI_TOKEN_FILE to the server's DIR/admin.token";
                return Err(Failure::new("there is no API token", Some(hint)));
            }
        };
        let server = server
            .map(str::to_owned)
            .or_else(|| kept.map(|k| k.server))
            .unwrap_or_else(|| LOCAL.to_owned());
        Ok(Self { server, pin: pin.cloned().or(kept_pin), token })
    }

    /// A client, which sends the token without TLS only where `plain_http` allows it.
    pub fn client(&self, plain_http: PlainHttp) -> Result<Client, Failure> {
        match &self.pin {
            Some(pin) => Client::pinned(&self.server, &self.token, pin),
            None => Client::with_plain_http(&self.server, &self.token, plain_http),
        }
        .map_err(refused)
    }
}

/// Logs in: settles the server's key, then sends the token, then stores both.
pub fn run(login: &Login, output: &Output) -> CommandResult {
    let server = login.url.trim_end_matches('/').to_owned();
    let path = file().ok_or_else(|| {
        Failure::plain("neither XDG_CONFIG_HOME nor HOME is set: no folder for the login")
    })?;
    let pin = if danger::is_plain_loopback(&server) && login.fingerprint.is_none() {
        None
    } else {
        block_on(async { settle(&server, login.fingerprint.as_ref()).await })?
    };
    let token = match &login.token_file {
        Some(path) => token_from(path)?,
        None => token_from_person()?,
    };
    let target = Target { server, pin, token };
    let client = target.client(PlainHttp::LoopbackOnly)?;
    block_on(async { client.me().await.map_err(refused) })?;
    let fingerprint = target.pin.as_ref().map(ToString::to_string);
    write(
        &path,
        &Kept {
            server: target.server.clone(),
            fingerprint: fingerprint.clone(),
            token: target.token,
        },
    )?;
    let done = LoggedIn { server: &target.server, fingerprint, file: path.display().to_string() };
    output.data(&done, |d| match &d.fingerprint {
        Some(pin) => format!("logged in to {}; its key has the fingerprint {pin}", d.server),
        None => format!("logged in to {}", d.server),
    });
    Ok(())
}

/// Removes the stored server, key and token.
pub fn forget(output: &Output) -> CommandResult {
    let path = file().ok_or_else(|| {
        Failure::plain("neither XDG_CONFIG_HOME nor HOME is set: no folder for the login")
    })?;
    let was = match fs::remove_file(&path) {
        Ok(()) => true,
        Err(e) if e.kind() == ErrorKind::NotFound => false,
        Err(e) => return Err(Failure::plain(format!("{}: {e}", path.display()))),
    };
    output.data(&serde_json::json!({ "logged_out": was }), |_| {
        if was {
            format!("logged out; removed {}", path.display())
        } else {
            "not logged in".to_owned()
        }
    });
    Ok(())
}

/// The key to pin; `None` if this machine trusts the server's certificate.
async fn settle(server: &str, given: Option<&Pin>) -> Result<Option<Pin>, Failure> {
    if let Some(pin) = given {
        return Ok(Some(pin.clone()));
    }
    if !server.starts_with("https://") {
        return Err(Failure::new(
            format!("{server} is not https://; an attacker on the network could read the token"),
            Some("use the https:// address of the API"),
        ));
    }
    if is_trusted(server).await.map_err(refused)? {
        return Ok(None);
    }
    let found = fingerprint_of(server).await.map_err(refused)?;
    let hint = format!(
        "compare it with the fingerprint that the server printed at its start, or with DIR/pki/admin/fingerprint on the server; then add --fingerprint {found}"
    );
    let unknown = format!(
        "this machine does not trust the certificate of {server}; its key has the fingerprint {found}"
    );
    if !std::io::stdin().is_terminal() {
        return Err(Failure::new(unknown, Some(hint)));
    }
    let compare = "The server prints its fingerprint at its start and stores it in DIR/pki/admin/fingerprint. Type yes if it is the same: ";
    output::ask(Lines::from(format!("{unknown}.")).and(compare));
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer).map_err(Failure::plain)?;
    if answer.trim() == "yes" {
        Ok(Some(found))
    } else {
        Err(Failure::new("the fingerprint was not confirmed; nothing is stored", Some(hint)))
    }
}

fn token_from(path: &Path) -> Result<String, Failure> {
    let at = |e: std::io::Error| Failure::plain(format!("{}: {e}", path.display()));
    token_in(fs::File::open(path).map_err(at)?)
        .map_err(|e| Failure::plain(format!("{}: {e}", path.display())))
}

fn token_from_person() -> Result<String, Failure> {
    if std::io::stdin().is_terminal() {
        return Ok(rpassword::prompt_password("API token: ")
            .map_err(Failure::plain)?
            .trim()
            .to_owned());
    }
    token_in(std::io::stdin().lock())
        .map_err(|e| Failure::plain(format!("the token on standard input: {e}")))
}

fn token_in(reader: impl Read) -> Result<String, String> {
    let mut text = String::new();
    reader.take(TOKEN_MAX + 1).read_to_string(&mut text).map_err(|e| e.to_string())?;
    match text.trim() {
        "" => Err("it is empty".to_owned()),
        _ if text.len() as u64 > TOKEN_MAX => Err(format!("it is longer than {TOKEN_MAX} bytes")),
        token => Ok(token.to_owned()),
    }
}

/// Path of the stored login (XDG Base Directory Specification).
fn file() -> Option<PathBuf> {
    let var = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    let config = var("XDG_CONFIG_HOME").or_else(|| var("HOME").map(|home| home.join(".config")))?;
    Some(config.join("fleeti/login.json"))
}

fn read(path: &Path) -> Result<Option<Kept>, Failure> {
    let at = |e: &dyn std::fmt::Display| {
        Failure::new(format!("{}: {e}", path.display()), Some("log in again with `fleeti login`"))
    };
    let text = match fs::read(path) {
        Ok(text) => text,
        Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            return Ok(None);
        }
        Err(e) => return Err(at(&e)),
    };
    let mode = fs::metadata(path).map_err(|e| at(&e))?.permissions().mode();
    if mode & 0o077 != 0 {
        return Err(Failure::new(
            format!("other users can read {}, which contains a token", path.display()),
            Some(format!(
                "replace the token on the server, then run `chmod 600 {}`",
                path.display()
            )),
        ));
    }
    strict::from_slice(&text).map(Some).map_err(|e| at(&e))
}

fn write(path: &Path, kept: &Kept) -> Result<(), Failure> {
    let at = |e: std::io::Error| Failure::plain(format!("{}: {e}", path.display()));
    if let Some(folder) = path.parent() {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(at)?;
    }
    let bytes = serde_json::to_vec_pretty(kept).map_err(Failure::plain)?;
    fleeti_files::write_durably(path, &bytes, fleeti_files::PRIVATE).map_err(at)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    fn pin(digit: &str) -> Pin {
        format!("sha256:{}", digit.repeat(64)).parse().unwrap()
    }

    fn login(dir: &Path) -> Option<PathBuf> {
        let path = dir.join("fleeti/login.json");
        let kept = Kept {
            server: "https://a.test:1".into(),
            fingerprint: Some(pin("a").to_string()),
            token: "of the login".into(),
        };
        write(&path, &kept).unwrap();
        Some(path)
    }

    #[test]
    fn a_login_is_used_where_nothing_else_is_said() {
        let dir = tempfile::tempdir().unwrap();
        let target = Target::choose_in(&login(dir.path()), None, None, None).unwrap();
        assert_eq!(
            (target.server.as_str(), target.pin, target.token.as_str()),
            ("https://a.test:1", Some(pin("a")), "of the login")
        );
        let same =
            Target::choose_in(&login(dir.path()), Some("https://a.test:1/"), None, None).unwrap();
        assert_eq!(same.pin, Some(pin("a")));
    }

    #[test]
    fn flags_win_over_a_login() {
        let dir = tempfile::tempdir().unwrap();
        let other = dir.path().join("token");
        fs::write(&other, "of the file\n").unwrap();
        let target =
            Target::choose_in(&login(dir.path()), None, Some(&pin("b")), Some(&other)).unwrap();
        assert_eq!((target.pin, target.token.as_str()), (Some(pin("b")), "of the file"));
    }

    #[test]
    fn the_token_of_a_login_goes_to_no_other_server() {
        let dir = tempfile::tempdir().unwrap();
        for server in ["https://b.test:1", "http://a.test:1", "https://a.test:2", LOCAL] {
            let refused = Target::choose_in(&login(dir.path()), Some(server), None, None);
            assert!(refused.is_err(), "{server}");
        }
    }

    #[test]
    fn a_login_that_others_can_read_is_refused_and_a_new_one_is_for_nobody_else() {
        let dir = tempfile::tempdir().unwrap();
        let path = login(dir.path());
        let mode = |p: &Path| fs::metadata(p).unwrap().permissions().mode() & 0o777;
        assert_eq!(
            (mode(path.as_deref().unwrap()), mode(&dir.path().join("fleeti"))),
            (0o600, 0o700)
        );
        fs::set_permissions(path.as_deref().unwrap(), fs::Permissions::from_mode(0o640)).unwrap();
        assert!(Target::choose_in(&path, None, None, None).is_err());
    }
}
