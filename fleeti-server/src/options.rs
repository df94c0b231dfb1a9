//! The options of the program: arguments, environment variables, and the file `--config`.
//!
//! INVARIANT: an option has one name. `--api-cert`, `FLEETI_API_CERT` and `api_cert = ` in the file
//! are the same one, because all three are read into [`Options`]. An argument counts more than the
//! environment, the environment more than the file, and the file more than the default.

use crate::admin_tls::ApiTls;
use crate::config::Config;
use crate::limits::Limits;
use crate::log::LogFormat;
use anyhow::{Context, Result, bail};
use clap::Args;
use fleeti_control::email_relay::{EmailTls, RelayOptions};
use fleeti_control::settings::Retention;
use fleeti_core::profile::nearest;
use fleeti_core::wire::email::EmailAddress;
use fleeti_core::wire::enrollment::is_proxy;
use serde::{Deserialize, Serialize};
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

/// Largest file of options, bytes.
const FILE_MAX: u64 = 256 << 10;
const DAY_S: u64 = 86_400;

// The options of a server. All are optional, because each may come from elsewhere. No doc comment:
// clap would show it as the description of each command that has these options.
#[derive(Debug, Clone, Default, PartialEq, Eq, Args, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Options {
    /// TOML file with these options, with `_` instead of `-` in their names. Arguments and
    /// FLEETI_... variables count more than it.
    #[arg(long, env = "FLEETI_CONFIG")]
    #[serde(skip)]
    pub config: Option<PathBuf>,
    /// The data folder.
    #[arg(long, env = "FLEETI_DATA")]
    pub data: Option<PathBuf>,
    /// The database: sqlite:PATH, or postgres://USER@HOST/NAME. Default: DIR/fleeti.db. Use
    /// PGPASSFILE for the password of PostgreSQL, as other users see arguments. One server at a
    /// time is active on a database.
    #[arg(long, env = "FLEETI_DATABASE", hide_env_values = true)]
    pub database: Option<String>,
    /// Address of API and pages [default: 127.0.0.1:8080]. Plain HTTP on a loopback address, TLS on
    /// every other address, with a certificate that the server issues to itself unless --api-cert
    /// names one.
    #[arg(long, env = "FLEETI_API")]
    pub api: Option<SocketAddr>,
    /// Certificate chain of the API, PEM, leaf first. Reloaded when it changes, like --api-key.
    #[arg(long, env = "FLEETI_API_CERT")]
    pub api_cert: Option<PathBuf>,
    /// Private key of the API, PEM.
    #[arg(long, env = "FLEETI_API_KEY")]
    pub api_key: Option<PathBuf>,
    /// Use TLS also on a loopback address, with a certificate that the server issues to itself
    /// (DIR/pki/admin).
    #[arg(long, env = "FLEETI_API_TLS", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub api_tls: Option<bool>,
    /// Use plain HTTP on a reachable address: the network can read tokens and login sessions.
    #[arg(long, env = "FLEETI_INSECURE_HTTP", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub insecure_http: Option<bool>,
    /// Address of the device port (HTTPS) [default: 0.0.0.0:8443].
    #[arg(long, env = "FLEETI_HTTPS")]
    pub https: Option<SocketAddr>,
    /// Address of the MQTT port [default: 0.0.0.0:8883].
    #[arg(long, env = "FLEETI_MQTT")]
    pub mqtt: Option<SocketAddr>,
    /// DNS name or address by which devices reach this server; can be repeated. Enrollment records
    /// contain the first one [default: localhost, 127.0.0.1].
    #[arg(long, env = "FLEETI_NAME", value_delimiter = ',')]
    pub name: Option<Vec<String>>,
    /// URL at which people open the pages, such as `https://fleet.example.com`. Passkeys are tied to
    /// its host name; without it, passkeys are off.
    #[arg(long, env = "FLEETI_PUBLIC_URL")]
    pub public_url: Option<String>,
    /// HTTP proxy through which devices reach this server, `http://HOST:PORT`; enrollment records
    /// contain it.
    #[arg(long, env = "FLEETI_DEVICE_PROXY")]
    pub device_proxy: Option<String>,
    /// Socket of fleeti-signer. Without it this process holds the keys, for development only.
    #[arg(long, env = "FLEETI_SIGNER")]
    pub signer: Option<PathBuf>,
    /// CRL distribution point in device certificates, such as `http://pki.example/{issuer}.crl`;
    /// default: the device port. With --signer, the option --crl-url of fleeti-signer counts.
    #[arg(long, env = "FLEETI_CRL_URL")]
    pub crl_url: Option<String>,
    /// Trust a software TPM as much as a chip, if its manufacturer is in
    /// DIR/pki/tpm-manufacturers/virtual. You then trust the operators of the hosts of such
    /// devices.
    #[arg(long, env = "FLEETI_TRUST_VIRTUAL_TPMS", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub trust_virtual_tpms: Option<bool>,
    /// Minimum free space on the disk of the data folder, in MiB. Below it the server refuses
    /// builds and uploads; below twice as much it warns. Default: 5 % of the disk, at most 512.
    #[arg(long, env = "FLEETI_DISK_FLOOR_MIB")]
    pub disk_floor_mib: Option<u64>,
    /// Webhooks may be sent to private addresses and, to this machine, without TLS.
    #[arg(long, env = "FLEETI_PRIVATE_WEBHOOKS", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub private_webhooks: Option<bool>,
    /// SMTP relay that takes e-mail about alerts: HOST or HOST:PORT. Without it there is no e-mail.
    #[arg(long, env = "FLEETI_EMAIL_RELAY")]
    pub email_relay: Option<String>,
    /// TLS of the relay: implicit (port 465), starttls (port 587; a relay that does not offer it gets
    /// nothing), or none (port 25, on a loopback address only) [default: implicit].
    #[arg(long, env = "FLEETI_EMAIL_TLS")]
    pub email_tls: Option<EmailTls>,
    /// Address of the sender of e-mail.
    #[arg(long, env = "FLEETI_EMAIL_FROM")]
    pub email_from: Option<EmailAddress>,
    /// User name at the relay.
    #[arg(long, env = "FLEETI_EMAIL_USER")]
    pub email_user: Option<String>,
    /// File with the password at the relay, mode 0600 or a systemd credential. The server reads it for
    /// each connection.
    #[arg(long, env = "FLEETI_EMAIL_PASSWORD_FILE", value_name = "FILE")]
    pub email_password_file: Option<PathBuf>,
    /// CA certificates that count for the relay, PEM, instead of those of the system.
    #[arg(long, env = "FLEETI_EMAIL_CA", value_name = "FILE")]
    pub email_ca: Option<PathBuf>,
    /// Number of builds whose files are kept, beside those that a release was made from
    /// [default: 20].
    #[arg(long, env = "FLEETI_KEEP_BUILDS")]
    pub keep_builds: Option<u32>,
    /// Days without activity after which an unfinished upload is removed [default: 7].
    #[arg(long, env = "FLEETI_KEEP_UPLOADS_DAYS")]
    pub keep_uploads_days: Option<u64>,
    /// TOML file with limits of connections, bodies and pairing codes. Missing values have
    /// defaults. In the file of --config it is the table `limits`.
    #[arg(long = "limits", env = "FLEETI_LIMITS", value_name = "FILE")]
    #[serde(skip)]
    pub limits_file: Option<PathBuf>,
    /// The table `limits` of the file.
    #[arg(skip)]
    pub limits: Option<Limits>,
    /// The agent's program that goes into images; beside this program by default.
    #[arg(long, env = "FLEETI_AGENT")]
    pub agent: Option<PathBuf>,
    /// Build images in this process, as the server's user, with the Nix of this machine. For
    /// development. Otherwise builds wait for `fleeti-server worker`, on this or another machine.
    #[arg(long, env = "FLEETI_LOCAL_WORKER", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub local_worker: Option<bool>,
    /// Format of the log: text, or json with one object in each line [default: text].
    #[arg(long, env = "FLEETI_LOG", value_enum)]
    pub log: Option<LogFormat>,
}

impl Options {
    /// What counts when nothing else does.
    #[must_use]
    pub fn defaults() -> Self {
        let any = |port| Some(SocketAddr::from(([0, 0, 0, 0], port)));
        Self {
            api: Some(SocketAddr::from(([127, 0, 0, 1], 8080))),
            https: any(8443),
            mqtt: any(8883),
            name: Some(vec!["localhost".to_owned(), "127.0.0.1".to_owned()]),
            keep_builds: Some(Retention::default().builds),
            keep_uploads_days: Some(Retention::default().upload_s / DAY_S),
            log: Some(LogFormat::Text),
            ..Self::default()
        }
    }

    /// These options, and of the others what these do not say.
    #[must_use]
    pub fn over(self, other: Self) -> Self {
        // The whole of TLS comes from one place, or a file could disable what an argument asks for.
        let tls = if self.says_tls() { self.clone() } else { other.clone() };
        // A relay gets no password that was meant for another one.
        let mail = if self.email_relay.is_some() { Self::default() } else { other.clone() };
        Self {
            config: self.config.or(other.config),
            data: self.data.or(other.data),
            database: self.database.or(other.database),
            api: self.api.or(other.api),
            api_cert: tls.api_cert,
            api_key: tls.api_key,
            api_tls: tls.api_tls,
            insecure_http: tls.insecure_http,
            https: self.https.or(other.https),
            mqtt: self.mqtt.or(other.mqtt),
            name: self.name.or(other.name),
            public_url: self.public_url.or(other.public_url),
            device_proxy: self.device_proxy.or(other.device_proxy),
            signer: self.signer.or(other.signer),
            crl_url: self.crl_url.or(other.crl_url),
            trust_virtual_tpms: self.trust_virtual_tpms.or(other.trust_virtual_tpms),
            disk_floor_mib: self.disk_floor_mib.or(other.disk_floor_mib),
            private_webhooks: self.private_webhooks.or(other.private_webhooks),
            email_relay: self.email_relay.or(mail.email_relay),
            email_tls: self.email_tls.or(mail.email_tls),
            email_from: self.email_from.or(mail.email_from),
            email_user: self.email_user.or(mail.email_user),
            email_password_file: self.email_password_file.or(mail.email_password_file),
            email_ca: self.email_ca.or(mail.email_ca),
            keep_builds: self.keep_builds.or(other.keep_builds),
            keep_uploads_days: self.keep_uploads_days.or(other.keep_uploads_days),
            limits_file: self.limits_file.or(other.limits_file),
            limits: self.limits.or(other.limits),
            agent: self.agent.or(other.agent),
            local_worker: self.local_worker.or(other.local_worker),
            log: self.log.or(other.log),
        }
    }

    fn says_tls(&self) -> bool {
        self.api_cert.is_some()
            || self.api_key.is_some()
            || self.api_tls.is_some()
            || self.insecure_http.is_some()
    }

    /// These options over those of their file, if they name one, and over the defaults.
    ///
    /// # Errors
    /// [`Options::read`].
    pub fn complete(self) -> Result<Self> {
        let file = self.config.as_deref().map(Self::read).transpose()?.unwrap_or_default();
        Ok(self.over(file).over(Self::defaults()))
    }

    /// Reads a file of options.
    ///
    /// # Errors
    /// Names file, line and key, and for an unknown key the one that is nearest to it.
    pub fn read(path: &Path) -> Result<Self> {
        let named = || path.display().to_string();
        let length = fs::metadata(path).with_context(named)?.len();
        if length > FILE_MAX {
            bail!("{}: {length} bytes, expected at most {FILE_MAX}", path.display());
        }
        let text = fs::read_to_string(path).with_context(named)?;
        let options: Self = toml::from_str(&text).map_err(|e| wrong(path, &text, &e))?;
        // serde would read a list as the values of a table.
        let is_list = |table: toml::Table| table.get("limits").is_some_and(|l| !l.is_table());
        if text.parse().is_ok_and(is_list) {
            bail!("{}: limits is no table; hint: write [limits]", path.display());
        }
        if let Some(database) = &options.database
            && has_password(database)
        {
            bail!(
                "{}: database contains a password; hint: put it into a file and name that by PGPASSFILE, for example a systemd credential",
                path.display()
            );
        }
        Ok(options)
    }

    /// The configuration of a server.
    ///
    /// # Errors
    /// Names the options that are missing, wrong or contradict each other.
    pub fn config(self) -> Result<Config> {
        let api_tls = self.tls()?;
        if let Some(proxy) = self.device_proxy.as_deref()
            && !is_proxy(proxy)
        {
            bail!("--device-proxy is {proxy:?}; hint: use the form http://HOST:PORT");
        }
        let data = self.data.context("--data is missing; hint: name the data folder, also by FLEETI_DATA or `data` in the file of --config")?;
        let limits = match (&self.limits_file, self.limits) {
            (Some(file), _) => Limits::read(file)?,
            (None, Some(limits)) => limits,
            (None, None) => Limits::default(),
        };
        // Parsed here, as an error of clap would show the password.
        let database =
            self.database.as_deref().map(str::parse).transpose().context("--database")?;
        let public_url = self.public_url.as_deref().map(str::parse).transpose();
        let public_url = public_url.context("--public-url")?;
        let email = RelayOptions {
            relay: self.email_relay,
            tls: self.email_tls,
            from: self.email_from,
            user: self.email_user,
            password_file: self.email_password_file,
            ca: self.email_ca,
        };
        let email = email.check()?;
        let start = Config::new(data);
        let api = self.api.unwrap_or(start.api);
        let usual = Retention::default();
        let upload_s = self.keep_uploads_days.map(|days| days.saturating_mul(DAY_S));
        Ok(Config {
            limits,
            database,
            api,
            api_tls: ApiTls::of(api, api_tls),
            https: self.https.unwrap_or(start.https),
            mqtt: self.mqtt.unwrap_or(start.mqtt),
            names: self
                .name
                .filter(|names| !names.is_empty())
                .unwrap_or_else(|| start.names.clone()),
            public_url,
            device_proxy: self.device_proxy,
            agent: self.agent,
            signer: self.signer,
            crl_url: self.crl_url,
            trusts_hypervisor: self.trust_virtual_tpms.unwrap_or_default(),
            local_worker: self.local_worker.unwrap_or_default(),
            private_webhooks: self.private_webhooks.unwrap_or_default(),
            email,
            disk_floor: self.disk_floor_mib.map(|mib| mib.saturating_mul(1 << 20)),
            retention: Retention {
                builds: self.keep_builds.unwrap_or(usual.builds),
                upload_s: upload_s.unwrap_or(usual.upload_s),
            },
            ..start
        })
    }

    /// TLS of the API; `None` for the default of its address.
    fn tls(&self) -> Result<Option<ApiTls>> {
        let (is_tls, is_plain) =
            (self.api_tls.unwrap_or_default(), self.insecure_http.unwrap_or_default());
        Ok(match (&self.api_cert, &self.api_key) {
            (Some(_), None) => bail!("--api-cert needs --api-key"),
            (None, Some(_)) => bail!("--api-key needs --api-cert"),
            (Some(_), Some(_)) if is_tls || is_plain => {
                bail!("--api-cert cannot be used with --api-tls or --insecure-http")
            }
            (Some(certificate), Some(key)) => {
                Some(ApiTls::Files { certificate: certificate.clone(), key: key.clone() })
            }
            _ if is_tls && is_plain => bail!("--api-tls cannot be used with --insecure-http"),
            _ if is_tls => Some(ApiTls::SelfIssued),
            _ if is_plain => Some(ApiTls::Insecure),
            _ => None,
        })
    }
}

/// Whether a URL has a password.
fn has_password(url: &str) -> bool {
    let authority = url.split_once("://").map_or("", |(_, rest)| rest);
    let authority = authority.split(['/', '?']).next().unwrap_or_default();
    let in_query = url.split_once('?').is_some_and(|(_, query)| {
        query.split('&').any(|parameter| parameter.starts_with("password="))
    });
    let user = authority.rsplit_once('@').map(|(user, _)| user);
    in_query || user.is_some_and(|user| user.contains(':'))
}

/// An error in a file of options: one line that names its place, and the key that was meant.
fn wrong(path: &Path, text: &str, e: &toml::de::Error) -> anyhow::Error {
    let start = e.span().map_or(0, |span| span.start);
    let line = text.get(..start).map_or(1, |before| before.matches('\n').count() + 1);
    let message = e.message();
    // serde writes: unknown field `a`, expected one of `b`, `c`.
    let mut quoted = message.split('`').skip(1).step_by(2);
    if message.starts_with("unknown field")
        && let Some(unknown) = quoted.next()
    {
        let near = nearest(&unknown.replace('-', "_"), quoted);
        let hint = near.map_or_else(
            || "see `fleeti-server --help` and docs/limits.md".to_owned(),
            |near| format!("did you mean `{near}`?"),
        );
        return anyhow::anyhow!("{}:{line}: unknown key `{unknown}`; hint: {hint}", path.display());
    }
    let first = message.lines().next().unwrap_or_default();
    anyhow::anyhow!("{}:{line}: {first}", path.display())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Program {
        #[command(flatten)]
        options: Options,
    }

    fn arguments(list: &[&str]) -> Options {
        Program::try_parse_from([&["fleeti-server"], list].concat()).unwrap().options
    }

    fn file(text: &str) -> Result<Options, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("server.toml");
        fs::write(&path, text).unwrap();
        Options::read(&path)
            .map_err(|e| format!("{e:#}").replace(&folder.path().display().to_string(), ""))
    }

    #[test]
    fn every_argument_has_a_variable_and_a_key_of_the_same_name() {
        use clap::Args as _;
        let command = Options::augment_args(clap::Command::new("x"));
        let keys = toml::Table::try_from(Options {
            data: Some("x".into()),
            database: Some("x".into()),
            api_cert: Some("x".into()),
            api_key: Some("x".into()),
            api_tls: Some(true),
            insecure_http: Some(true),
            device_proxy: Some("x".into()),
            signer: Some("x".into()),
            crl_url: Some("x".into()),
            trust_virtual_tpms: Some(true),
            disk_floor_mib: Some(1),
            private_webhooks: Some(true),
            email_relay: Some("x".into()),
            email_tls: Some(EmailTls::Starttls),
            email_from: Some("a@b.example".parse().unwrap()),
            email_user: Some("x".into()),
            email_password_file: Some("x".into()),
            email_ca: Some("x".into()),
            public_url: Some("x".into()),
            agent: Some("x".into()),
            local_worker: Some(true),
            limits: Some(Limits::default()),
            ..Options::defaults()
        })
        .unwrap();
        for argument in command.get_arguments() {
            let name = argument.get_id().as_str();
            let short = if name == "limits_file" { "limits" } else { name };
            let variable = argument.get_env().unwrap().to_str().unwrap();
            assert_eq!(variable, format!("FLEETI_{}", short.to_uppercase()));
            assert!(keys.contains_key(short) || name == "config", "{name}");
        }
    }

    #[test]
    fn an_argument_counts_more_than_the_file_and_the_file_more_than_the_default() {
        let said = file("api = \"127.0.0.1:1\"\nkeep_builds = 3\nname = [\"a\", \"b\"]\n").unwrap();
        let all = arguments(&["--api", "127.0.0.1:2", "--data", "d"]).over(said);
        let config = all.over(Options::defaults()).config().unwrap();
        assert_eq!(config.api.port(), 2);
        assert_eq!(config.retention.builds, 3);
        assert_eq!(config.names, ["a", "b"]);
        assert_eq!((config.https.port(), config.mqtt.port()), (8443, 8883));
    }

    #[test]
    fn what_a_file_says_of_tls_ends_where_an_argument_says_something() {
        let said = file("insecure_http = true\n").unwrap();
        let all = arguments(&["--api-tls", "--data", "d"]).over(said);
        assert_eq!(all.config().unwrap().api_tls, ApiTls::SelfIssued);
        let off = file("local_worker = true\n").unwrap();
        let all = arguments(&["--local-worker=false", "--data", "d"]).over(off);
        assert!(!all.config().unwrap().local_worker);
    }

    #[test]
    fn a_relay_of_an_argument_gets_no_password_of_the_file() {
        let text = "email_relay = \"mail.ops.example\"\nemail_from = \"a@ops.example\"\n\
                    email_user = \"fleeti\"\nemail_password_file = \"p\"\n";
        let relay = |list: &[&str]| {
            let all = arguments(&[&["--data", "d"], list].concat()).over(file(text).unwrap());
            all.config().map(|config| config.email.unwrap())
        };
        let of_file = relay(&[]).unwrap();
        assert_eq!((of_file.host.as_str(), of_file.port), ("mail.ops.example", 465));
        assert_eq!(of_file.login.unwrap().user, "fleeti");
        let other =
            relay(&["--email-relay", "evil.example", "--email-from", "a@b.example"]).unwrap();
        assert_eq!((other.host.as_str(), other.login), ("evil.example", None));
        let file = relay(&["--email-password-file", "q"]).unwrap().login.unwrap().password_file;
        assert_eq!(file, Path::new("q"));
        let refused = relay(&["--email-tls", "none"]).unwrap_err().to_string();
        assert!(refused.contains("another machine"), "{refused}");
        for (key, value) in [("email_tls", "maybe"), ("email_from", "Ops <a@b>")] {
            assert!(self::file(&format!("{key} = {value:?}\n")).is_err(), "{key}");
        }
    }

    #[test]
    fn a_wrong_file_is_refused_by_line_and_name() {
        let rows = [
            (
                "\napi_crt = \"x\"\n",
                "/server.toml:2: unknown key `api_crt`; hint: did you mean `api_cert`?",
            ),
            (
                "api-key = \"x\"",
                "/server.toml:1: unknown key `api-key`; hint: did you mean `api_key`?",
            ),
            (
                "[limits]\nhello_msec = 1",
                "/server.toml:2: unknown key `hello_msec`; hint: did you mean `hello_ms`?",
            ),
            ("\n\nkeep_builds = \"many\"", "/server.toml:3: "),
            ("api = \"nowhere\"", "/server.toml:1: "),
            ("colour = 1", "hint: see `fleeti-server --help`"),
            ("config = \"other.toml\"", "/server.toml:1: unknown key `config`"),
            ("api = ", "/server.toml:1: "),
            ("data = \"a\"\ndata = \"b\"", "/server.toml:2: "),
        ];
        for (text, said) in rows {
            let refused = file(text).unwrap_err();
            assert!(refused.contains(said) && !refused.contains('\n'), "{text:?}: {refused}");
        }
    }

    #[test]
    fn a_password_in_the_file_is_refused_and_not_shown() {
        for url in [
            "postgres://fleeti:s3cret@localhost/fleeti",
            "postgres://fleeti@localhost/fleeti?password=s3cret",
        ] {
            let refused = file(&format!("database = \"{url}\"\n")).unwrap_err();
            assert!(refused.contains("PGPASSFILE") && !refused.contains("s3cret"), "{refused}");
        }
        file("database = \"postgres://fleeti@localhost:5432/fleeti\"\n").unwrap();
        file("database = \"sqlite:/var/lib/fleeti/a:b@c.db\"\n").unwrap();
    }

    #[test]
    fn options_that_contradict_each_other_are_refused_wherever_they_come_from() {
        for (text, said) in [
            ("api_cert = \"a\"", "--api-cert needs --api-key"),
            ("api_key = \"a\"", "--api-key needs --api-cert"),
            ("api_tls = true\ninsecure_http = true", "--api-tls cannot be used"),
            ("api_cert = \"a\"\napi_key = \"a\"\napi_tls = true", "--api-cert cannot be used"),
            ("device_proxy = \"ftp://a\"", "http://HOST:PORT"),
        ] {
            let options = arguments(&["--data", "d"]).over(file(text).unwrap());
            let refused = options.config().unwrap_err().to_string();
            assert!(refused.contains(said), "{text}: {refused}");
        }
        let missing = Options::defaults().config().unwrap_err().to_string();
        assert!(missing.contains("--data is missing"), "{missing}");
    }
}
