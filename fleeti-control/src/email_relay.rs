//! The SMTP relay that takes the e-mail of the server, as an operator configures it.

use fleeti_core::wire::email::EmailAddress;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use url::Host;

/// Longest password, bytes.
const PASSWORD_MAX: u64 = 1024;
/// Longest user name, bytes.
const USER_MAX: usize = 254;

/// How the connection to the relay is encrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EmailTls {
    /// TLS from the first byte (RFC 8314).
    Implicit,
    /// The relay must offer STARTTLS; otherwise nothing is sent.
    Starttls,
    /// No TLS: for a relay on a loopback address of this machine.
    None,
}

impl EmailTls {
    /// All modes.
    pub const ALL: [Self; 3] = [Self::Implicit, Self::Starttls, Self::None];

    /// The name in options.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Implicit => "implicit",
            Self::Starttls => "starttls",
            Self::None => "none",
        }
    }

    /// The usual port (RFC 8314, 7.3; RFC 6409; RFC 5321).
    const fn port(self) -> u16 {
        match self {
            Self::Implicit => 465,
            Self::Starttls => 587,
            Self::None => 25,
        }
    }
}

impl FromStr for EmailTls {
    type Err = RelayError;
    fn from_str(text: &str) -> Result<Self, RelayError> {
        let found = Self::ALL.into_iter().find(|one| one.as_str() == text);
        found.ok_or_else(|| RelayError::Tls(text.to_owned()))
    }
}

/// A user name, and the file of its password. The server reads the file for each connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Login {
    /// The user name.
    pub user: String,
    /// The file, with mode 0600.
    pub password_file: PathBuf,
}

/// What an operator writes of the relay, before it is checked.
#[derive(Debug, Clone, Default)]
pub struct RelayOptions {
    /// `HOST` or `HOST:PORT`.
    pub relay: Option<String>,
    /// Default: implicit.
    pub tls: Option<EmailTls>,
    /// Address of the sender.
    pub from: Option<EmailAddress>,
    /// User name.
    pub user: Option<String>,
    /// File of its password.
    pub password_file: Option<PathBuf>,
    /// CAs that count instead of those of the system, PEM.
    pub ca: Option<PathBuf>,
}

/// A relay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EmailRelay {
    /// Its DNS name or address. Its certificate must have it.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// How the connection is encrypted.
    pub tls: EmailTls,
    /// Address of the sender.
    pub from: EmailAddress,
    /// User name and password; `None` for a relay that needs none.
    pub login: Option<Login>,
    /// CAs that count instead of those of the system, PEM.
    pub ca: Option<PathBuf>,
}

/// Why a relay is refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RelayError {
    /// Not HOST or HOST:PORT.
    #[error("email_relay is {0:?}; hint: use the form HOST or HOST:PORT, [ADDRESS]:PORT for IPv6")]
    Relay(String),
    /// Not a mode.
    #[error("{0:?} is no mode of TLS; hint: use implicit, starttls or none")]
    Tls(String),
    /// No TLS to another machine.
    #[error(
        "email_tls is none, and {0} is another machine: its network could read alerts and passwords; hint: use implicit or starttls, or a relay on 127.0.0.1, [::1] or localhost"
    )]
    Plain(String),
    /// A value without a relay.
    #[error("{0} needs email_relay")]
    NoRelay(&'static str),
    /// A relay without a sender.
    #[error("email_relay needs email_from, the address of the sender")]
    NoSender,
    /// A user name without a password, or the other way round.
    #[error("email_user and email_password_file need each other")]
    Login,
    /// Not a user name.
    #[error("email_user must be 1 to {USER_MAX} bytes without control characters")]
    User,
    /// The file cannot be read.
    #[error("email_password_file: {}: {error}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// Other users can read the file.
    #[error("email_password_file: other users can read {} (mode {mode:o}); hint: chmod 600", path.display())]
    Mode {
        /// The file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// The file is no password.
    #[error("email_password_file: {} must have one line of 1 to {PASSWORD_MAX} bytes", .0.display())]
    Password(PathBuf),
}

impl RelayOptions {
    /// Checks them; `None` if there is no relay.
    ///
    /// # Errors
    /// [`RelayError`].
    pub fn check(self) -> Result<Option<EmailRelay>, RelayError> {
        let others = [
            ("email_tls", self.tls.is_some()),
            ("email_from", self.from.is_some()),
            ("email_user", self.user.is_some()),
            ("email_password_file", self.password_file.is_some()),
            ("email_ca", self.ca.is_some()),
        ];
        let Some(relay) = self.relay else {
            let other = others.into_iter().find(|(_, is_there)| *is_there);
            return other.map_or(Ok(None), |(name, _)| Err(RelayError::NoRelay(name)));
        };
        let tls = self.tls.unwrap_or(EmailTls::Implicit);
        let (host, port) = place(&relay).ok_or_else(|| RelayError::Relay(relay.clone()))?;
        if tls == EmailTls::None && !is_loopback(&host) {
            return Err(RelayError::Plain(host.to_string()));
        }
        let login = match (self.user, self.password_file) {
            (None, None) => None,
            (Some(user), Some(_))
                if user.is_empty()
                    || user.len() > USER_MAX
                    || user.chars().any(char::is_control) =>
            {
                return Err(RelayError::User);
            }
            (Some(user), Some(password_file)) => Some(Login { user, password_file }),
            (Some(_), None) | (None, Some(_)) => return Err(RelayError::Login),
        };
        Ok(Some(EmailRelay {
            host: host.to_string().trim_matches(['[', ']']).to_owned(),
            port: port.unwrap_or_else(|| tls.port()),
            tls,
            from: self.from.ok_or(RelayError::NoSender)?,
            login,
            ca: self.ca,
        }))
    }
}

/// Host and port of a text.
fn place(text: &str) -> Option<(Host, Option<u16>)> {
    let (host, port) = match text.rsplit_once(':') {
        // The colons of an IPv6 address without a port are inside of brackets.
        Some((host, port)) if !port.contains(']') => {
            (host, Some(port.parse().ok().filter(|port| *port != 0)?))
        }
        _ => (text, None),
    };
    let host = Host::parse(host).ok()?;
    let is_name = |name: &str| !name.is_empty() && !name.ends_with('.');
    match &host {
        Host::Domain(name) if !is_name(name) => None,
        Host::Domain(_) | Host::Ipv4(_) | Host::Ipv6(_) => Some((host, port)),
    }
}

fn is_loopback(host: &Host) -> bool {
    match host {
        Host::Domain(name) => name == "localhost",
        Host::Ipv4(ip) => ip.is_loopback(),
        Host::Ipv6(ip) => ip.is_loopback(),
    }
}

impl fmt::Display for EmailRelay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{} ({})", self.host, self.port, self.tls.as_str())
    }
}

impl Login {
    /// Reads the password.
    ///
    /// # Errors
    /// [`RelayError`], which never contains it.
    pub fn password(&self) -> Result<String, RelayError> {
        let path = &self.password_file;
        let unreadable = |error| RelayError::Unreadable { path: path.clone(), error };
        let file = File::open(path).map_err(unreadable)?;
        // The mode of the open file: another one may be at its path a moment later.
        let mode = file.metadata().map_err(unreadable)?.permissions().mode() & 0o777;
        if mode & 0o077 != 0 && !is_credential(path) {
            return Err(RelayError::Mode { path: path.clone(), mode });
        }
        let mut text = String::new();
        file.take(PASSWORD_MAX + 2).read_to_string(&mut text).map_err(unreadable)?;
        let line = text.strip_suffix('\n').unwrap_or(&text);
        let line = line.strip_suffix('\r').unwrap_or(line);
        let is_good = (1..=PASSWORD_MAX).contains(&(line.len() as u64));
        if !is_good || line.chars().any(char::is_control) {
            return Err(RelayError::Password(path.clone()));
        }
        Ok(line.to_owned())
    }
}

/// Whether systemd guards a file: its credentials have an access list, which the group's bits show.
fn is_credential(path: &Path) -> bool {
    let folder = std::env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from);
    folder.is_some_and(|folder| path.parent() == Some(folder.as_path()))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;
    use std::fs::{self, Permissions};

    fn options(relay: &str, tls: EmailTls) -> RelayOptions {
        RelayOptions {
            relay: Some(relay.to_owned()),
            tls: Some(tls),
            from: Some("fleeti@ops.example".parse().unwrap()),
            ..RelayOptions::default()
        }
    }

    #[test]
    fn a_relay_has_a_host_and_the_port_of_its_mode() {
        for (text, tls, host, port) in [
            ("mail.ops.example", EmailTls::Implicit, "mail.ops.example", 465),
            ("mail.ops.example", EmailTls::Starttls, "mail.ops.example", 587),
            ("mail.ops.example:2525", EmailTls::Starttls, "mail.ops.example", 2525),
            ("192.0.2.1:465", EmailTls::Implicit, "192.0.2.1", 465),
            ("[2001:db8::1]", EmailTls::Implicit, "2001:db8::1", 465),
            ("[2001:db8::1]:99", EmailTls::Implicit, "2001:db8::1", 99),
            ("localhost", EmailTls::None, "localhost", 25),
            ("[::1]:1025", EmailTls::None, "::1", 1025),
        ] {
            let relay = options(text, tls).check().unwrap().unwrap();
            assert_eq!((relay.host.as_str(), relay.port), (host, port), "{text}");
        }
        for text in [
            "",
            ":25",
            "mail.ops.example:0",
            "mail.ops.example:65536",
            "mail.ops.example:smtp",
            "smtp://mail.ops.example",
            "mail.ops.example/x",
            "user@mail.ops.example",
            "mail ops.example",
            "mail.ops.example\r\nQUIT",
            "2001:db8::1",
            "mail.ops.example.",
        ] {
            let refused = options(text, EmailTls::Implicit).check();
            assert!(matches!(refused, Err(RelayError::Relay(_))), "{text:?}: {refused:?}");
        }
    }

    #[test]
    fn without_tls_nothing_is_sent_to_another_machine() {
        for text in
            ["mail.ops.example", "192.0.2.1", "10.0.0.1:25", "[fe80::1]", "localhost.example"]
        {
            let refused = options(text, EmailTls::None).check();
            assert!(matches!(refused, Err(RelayError::Plain(_))), "{text}: {refused:?}");
        }
    }

    #[test]
    fn options_that_need_others_are_refused_without_them() {
        let from = |from: Option<&str>| RelayOptions {
            from: from.map(|from| from.parse().unwrap()),
            ..RelayOptions::default()
        };
        assert_eq!(from(None).check().unwrap(), None);
        let refused = from(Some("a@b.example")).check().unwrap_err().to_string();
        assert_eq!(refused, "email_from needs email_relay");
        let relay = options("mail.ops.example", EmailTls::Implicit);
        let user = |user: &str| Some(user.to_owned());
        let file = Some(PathBuf::from("p"));
        for (wrong, said) in [
            (RelayOptions { from: None, ..relay.clone() }, "email_relay needs email_from"),
            (RelayOptions { user: user("a"), ..relay.clone() }, "need each other"),
            (RelayOptions { password_file: file.clone(), ..relay.clone() }, "need each other"),
            (
                RelayOptions { user: user("a\r\nb"), password_file: file, ..relay },
                "without control characters",
            ),
        ] {
            let refused = wrong.check().unwrap_err().to_string();
            assert!(refused.contains(said), "{refused}");
        }
    }

    #[test]
    fn a_password_that_others_can_read_is_refused_and_no_error_contains_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("password");
        let login = Login { user: "fleeti".into(), password_file: path.clone() };
        assert!(matches!(login.password(), Err(RelayError::Unreadable { .. })));
        fs::write(&path, "hunter2 hunter2\n").unwrap();
        for mode in [0o640, 0o604, 0o660, 0o644] {
            fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
            let refused = login.password().unwrap_err().to_string();
            assert!(refused.contains("chmod 600") && !refused.contains("hunter2"), "{refused}");
        }
        fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        assert_eq!(login.password().unwrap(), "hunter2 hunter2");
        let long = "x".repeat(2000);
        for text in ["", "\n", "hunter2\nhunter3\n", "hunter2\0", long.as_str()] {
            fs::write(&path, text).unwrap();
            let refused = login.password().unwrap_err().to_string();
            assert!(refused.contains("one line") && !refused.contains("hunter2"), "{refused}");
        }
    }
}
