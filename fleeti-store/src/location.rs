//! Where the database is.

use crate::error::StoreError;
use sqlx::postgres::{PgConnectOptions, PgSslMode};
use std::fmt::{self, Debug, Display};
use std::net::IpAddr;
use std::path::PathBuf;
use std::str::FromStr;

/// Where the database is: `sqlite:PATH`, or `postgres://USER@HOST/NAME` as libpq reads it. The
/// password may come from the URL, from `PGPASSWORD`, or from the file in `PGPASSFILE`.
///
/// Over a network the URL must say `sslmode=verify-full`, so that nobody on the way can read or
/// change the database, or `unverified_server=allow`.
///
/// Formatting it does not show the password.
#[derive(Clone)]
pub enum Location {
    /// A file.
    Sqlite(PathBuf),
    /// A database of a PostgreSQL server.
    Postgres(Box<PgConnectOptions>),
}

/// Parameter of a URL that allows a connection over a network without a verified server.
pub const UNVERIFIED: &str = "unverified_server=allow";

impl FromStr for Location {
    type Err = StoreError;
    fn from_str(text: &str) -> Result<Self, StoreError> {
        if let Some(path) = text.strip_prefix("sqlite:").filter(|path| !path.is_empty()) {
            return Ok(Self::Sqlite(path.into()));
        }
        // The text may contain a password, so the error does not.
        let refused = || StoreError::Location(text.split(':').next().unwrap_or_default().into());
        if !["postgres://", "postgresql://"].iter().any(|scheme| text.starts_with(scheme)) {
            return Err(refused());
        }
        let (address, query) = text.split_once('?').unwrap_or((text, ""));
        let (permission, query): (Vec<_>, Vec<_>) =
            query.split('&').partition(|parameter| *parameter == UNVERIFIED);
        let url = format!("{address}?{}", query.join("&"));
        let options: PgConnectOptions = url.parse().map_err(|_| refused())?;
        if options.get_database().is_none_or(str::is_empty) {
            return Err(refused());
        }
        let is_verified = matches!(options.get_ssl_mode(), PgSslMode::VerifyFull);
        if !is_verified && permission.is_empty() && !is_local(&options) {
            let (host, mode) = (options.get_host().to_owned(), mode(options.get_ssl_mode()));
            return Err(StoreError::UnverifiedServer { host, mode });
        }
        Ok(Self::Postgres(Box::new(options)))
    }
}

/// Whether the connection stays on this machine. `localhost` is always this machine (RFC 6761, 6.3).
fn is_local(options: &PgConnectOptions) -> bool {
    let host = options.get_host();
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    options.get_socket().is_some()
        || host.starts_with('/')
        || host.eq_ignore_ascii_case("localhost")
        || address.is_ok_and(|address| address.to_canonical().is_loopback())
}

/// The mode as a URL writes it.
fn mode(mode: PgSslMode) -> &'static str {
    match mode {
        PgSslMode::Disable => "disable",
        PgSslMode::Allow => "allow",
        PgSslMode::Prefer => "prefer",
        PgSslMode::Require => "require",
        PgSslMode::VerifyCa => "verify-ca",
        PgSslMode::VerifyFull => "verify-full",
    }
}

impl Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(path) => write!(f, "sqlite:{}", path.display()),
            Self::Postgres(options) => {
                let name = options.get_database().unwrap_or_default();
                match options.get_socket() {
                    Some(socket) => write!(f, "postgres:{}/{name}", socket.display()),
                    None => {
                        write!(f, "postgres://{}:{}/{name}", options.get_host(), options.get_port())
                    }
                }
            }
        }
    }
}

impl Debug for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_location_is_a_file_or_a_url_and_shows_no_password() {
        let shown = |text: &str| text.parse::<Location>().map(|l| format!("{l:?}"));
        assert_eq!(
            shown("sqlite:/var/lib/fleeti/fleeti.db").unwrap(),
            "sqlite:/var/lib/fleeti/fleeti.db"
        );
        assert_eq!(
            shown("postgres://fleeti:secret@db.example:5433/fleeti?sslmode=verify-full").unwrap(),
            "postgres://db.example:5433/fleeti"
        );
        for refused in ["mysql://a/b", "/var/lib/x.db", "", "sqlite:", "postgres://db.example"] {
            let error = shown(refused).unwrap_err().to_string();
            assert!(error.contains("sqlite:PATH"), "{refused:?}: {error}");
        }
        let error = shown("postgres://fleeti:secret@db.example:port/x").unwrap_err().to_string();
        assert!(!error.contains("secret"), "{error}");
    }
    #[test]
    fn a_server_on_another_machine_is_verified_unless_the_url_allows_otherwise() {
        let parsed = |text: &str| text.parse::<Location>();
        for host in ["db.example", "192.0.2.7", "[2001:db8::7]", "localhost.example"] {
            for mode in ["disable", "allow", "prefer", "require", "verify-ca"] {
                let url = format!("postgres://fleeti:secret@{host}/fleeti?sslmode={mode}");
                let error = parsed(&url).unwrap_err().to_string();
                assert!(error.contains(&format!("sslmode={mode}")), "{url}: {error}");
                assert!(error.contains(UNVERIFIED) && !error.contains("secret"), "{error}");
                parsed(&format!("{url}&{UNVERIFIED}")).unwrap();
                parsed(&format!("{url}&unverified_server=perhaps")).unwrap_err();
            }
            parsed(&format!("postgres://fleeti@{host}/fleeti")).unwrap_err();
            parsed(&format!("postgres://fleeti@{host}/fleeti?{UNVERIFIED}")).unwrap();
            parsed(&format!("postgres://fleeti@{host}/fleeti?sslmode=verify-full")).unwrap();
        }
        // The parameters can name another machine than the address does.
        parsed("postgres://fleeti@localhost/fleeti?host=db.example").unwrap_err();
        parsed("postgres://fleeti@localhost/fleeti?hostaddr=192.0.2.7").unwrap_err();
        for host in ["localhost", "127.0.0.1", "[::1]", "%2Fvar%2Frun%2Fpostgresql"] {
            parsed(&format!("postgres://fleeti@{host}/fleeti?sslmode=disable")).unwrap();
        }
    }
}
