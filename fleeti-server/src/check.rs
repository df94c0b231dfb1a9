//! `fleeti-server check-config FILE`: what a file and the environment say, and whether a server
//! could start with it. It starts none.

use crate::config::Config;
use crate::email;
use crate::options::Options;
use anyhow::Result;
use std::fs;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::Path;

/// What was found.
pub struct Checked {
    /// The options that count, each with its value and where it is from.
    pub lines: Vec<String>,
    /// Why a server would not start, or not do what is asked.
    pub problems: Vec<String>,
}

/// Checks options of arguments and environment, with those of the file that they name.
///
/// # Errors
/// When the file cannot be read: what it would say is then unknown.
pub fn check(given: Options) -> Result<Checked> {
    let file = given.config.as_deref().map(Options::read).transpose()?.unwrap_or_default();
    let defaults = Options::defaults();
    let complete = given.clone().over(file.clone()).over(defaults.clone());
    let lines = sources(&complete, &given, &file)?;
    let problems = match complete.config() {
        Ok(config) => problems(&config),
        Err(e) => vec![format!("{e:#}")],
    };
    Ok(Checked { lines, problems })
}

/// The options that count.
fn sources(complete: &Options, given: &Options, file: &Options) -> Result<Vec<String>> {
    let table = |options: &Options| toml::Table::try_from(options);
    let (complete, given, file) = (table(complete)?, table(given)?, table(file)?);
    let line = |(name, value): (&String, &toml::Value)| {
        let from = |table: &toml::Table| table.get(name) == Some(value);
        let source = match () {
            () if from(&given) => "argument or environment",
            () if from(&file) => "file",
            () => "default",
        };
        // A URL of the environment may have a password.
        let shown = if name == "database" && from(&given) {
            "(not shown)".to_owned()
        } else {
            value.to_string().replace('\n', " ")
        };
        format!("{name} = {shown}    # {source}")
    };
    Ok(complete.iter().map(line).collect())
}

/// Why a server would not start with this configuration.
fn problems(config: &Config) -> Vec<String> {
    let mut found = Vec::new();
    if !config.data.join("pki/public").is_dir() {
        found.push(format!(
            "data: {} has no folder pki/public; hint: fleeti pki init, or copy its public folder there",
            config.data.display()
        ));
    }
    if let Some(api) = &config.settings().api_certificate
        && !api.is_self_issued
    {
        found.extend(unreadable("api_cert", &api.path));
    }
    if let crate::admin_tls::ApiTls::Files { key, .. } = &config.api_tls {
        found.extend(unreadable("api_key", key).or_else(|| open_to_others("api_key", key)));
    }
    if let Some(socket) = &config.signer {
        let is_socket = fs::metadata(socket).is_ok_and(|m| m.file_type().is_socket());
        if !is_socket {
            found.push(format!(
                "signer: {} is no socket; hint: systemctl start fleeti-signer.service",
                socket.display()
            ));
        }
    }
    if let Some(relay) = &config.email {
        let password = relay.login.as_ref().and_then(|login| login.password().err());
        found.extend(password.map(|e| e.to_string()));
        found.extend(email::trust(relay).err());
    }
    for port in [config.api, config.https, config.mqtt] {
        let same = [config.api, config.https, config.mqtt].iter().filter(|p| **p == port).count();
        if same > 1 && port.port() != 0 {
            found.push(format!("two of api, https and mqtt are {port}"));
            break;
        }
    }
    found
}

fn unreadable(name: &str, path: &Path) -> Option<String> {
    fs::read(path).err().map(|e| format!("{name}: {}: {e}", path.display()))
}

/// A secret that other users can read.
fn open_to_others(name: &str, path: &Path) -> Option<String> {
    let mode = fs::metadata(path).ok()?.permissions().mode();
    (mode & 0o007 != 0).then(|| {
        format!(
            "{name}: every user can read {} (mode {:o}); hint: chmod o-rwx",
            path.display(),
            mode & 0o777
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_relay_without_a_safe_password_or_with_a_wrong_ca_is_a_problem() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::create_dir_all(at("data/pki/public")).unwrap();
        fs::write(at("password"), "s3cret\n").unwrap();
        fs::set_permissions(at("password"), fs::Permissions::from_mode(0o644)).unwrap();
        fs::write(at("ca.pem"), "no certificate").unwrap();
        let given = |ca: Option<&str>| Options {
            data: Some(at("data")),
            email_relay: Some("mail.ops.example".into()),
            email_from: Some("fleeti@ops.example".parse().unwrap()),
            email_user: Some("fleeti".into()),
            email_password_file: Some(at("password")),
            email_ca: ca.map(at),
            ..Options::default()
        };
        let Checked { lines, problems } = check(given(Some("ca.pem"))).unwrap();
        assert_eq!(problems.len(), 2, "{problems:#?}");
        assert!(problems[0].contains("other users can read"), "{problems:#?}");
        assert!(problems[1].contains("email_ca"), "{problems:#?}");
        let shown = format!("{lines:?}{problems:?}");
        assert!(shown.contains("email_password_file") && !shown.contains("s3cret"), "{shown}");
        fs::set_permissions(at("password"), fs::Permissions::from_mode(0o600)).unwrap();
        assert_eq!(check(given(None)).unwrap().problems, [""; 0]);
    }

    #[test]
    fn every_problem_is_named_and_each_value_has_its_source() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::write(at("key.pem"), "x").unwrap();
        fs::set_permissions(at("key.pem"), fs::Permissions::from_mode(0o644)).unwrap();
        let text = format!(
            "data = {:?}\napi_cert = {:?}\napi_key = {:?}\nsigner = {:?}\nmqtt = \"0.0.0.0:8443\"\n",
            at("data"),
            at("nothing.pem"),
            at("key.pem"),
            at("key.pem")
        );
        fs::write(at("server.toml"), text).unwrap();
        let given = Options {
            config: Some(at("server.toml")),
            keep_builds: Some(5),
            database: Some("postgres://a:s3cret@localhost/b".into()),
            ..Options::default()
        };
        let Checked { lines, problems } = check(given).unwrap();
        let has = |text: &str| lines.iter().any(|line| line.contains(text));
        assert!(
            has("keep_builds = 5    # argument") && has("https = \"0.0.0.0:8443\"    # default")
        );
        assert!(has("mqtt = \"0.0.0.0:8443\"    # file") && !has("s3cret"), "{lines:#?}");
        for said in [
            "no folder pki/public",
            "nothing.pem: No such file",
            "every user can read",
            "is no socket",
            "two of api, https and mqtt",
        ] {
            assert!(problems.iter().any(|p| p.contains(said)), "{said}: {problems:#?}");
        }
        assert_eq!(problems.len(), 5, "{problems:#?}");
    }
}
