//! Where the database is.

use crate::error::StoreError;
use sqlx::postgres::PgConnectOptions;
use std::fmt::{self, Debug, Display};
use std::path::PathBuf;
use std::str::FromStr;

/// Where the database is: `sqlite:PATH`, or `postgres://USER@HOST/NAME` as libpq reads it. The
/// password may come from the URL, from `PGPASSWORD`, or from the file in `PGPASSFILE`.
///
/// Formatting it does not show the password.
#[derive(Clone)]
pub enum Location {
    /// A file.
    Sqlite(PathBuf),
    /// A database of a PostgreSQL server.
    Postgres(Box<PgConnectOptions>),
}

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
        let options: PgConnectOptions = text.parse().map_err(|_| refused())?;
        if options.get_database().is_none_or(str::is_empty) {
            return Err(refused());
        }
        Ok(Self::Postgres(Box::new(options)))
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
            shown("postgres://fleeti:secret@db.example:5433/fleeti").unwrap(),
            "postgres://db.example:5433/fleeti"
        );
        for refused in ["mysql://a/b", "/var/lib/x.db", "", "sqlite:", "postgres://db.example"] {
            let error = shown(refused).unwrap_err().to_string();
            assert!(error.contains("sqlite:PATH"), "{refused:?}: {error}");
        }
        let error = shown("postgres://fleeti:secret@db.example:port/x").unwrap_err().to_string();
        assert!(!error.contains("secret"), "{error}");
    }
}
