//! Recognises what must not get into a profile: a profile and its images are not secret.

/// Why a text has a secret; `None` if none is seen. The value itself is never returned.
pub(crate) fn found(text: &str) -> Option<String> {
    if text.contains("-----BEGIN") && text.contains("PRIVATE KEY") {
        return Some("has a private key".to_owned());
    }
    let at = text.lines().position(has_secret)?;
    Some(format!("line {} looks like a passphrase, a token or a key", at + 1))
}

/// Parts of names of settings whose values are secrets.
const NAMES: [&str; 14] = [
    "password",
    "passwd",
    "passphrase",
    "secret",
    "token",
    "apikey",
    "api_key",
    "api-key",
    "access_key",
    "private_key",
    "privatekey",
    "psk",
    "requirepass",
    "masterauth",
];

/// Ends of names of settings that say where a secret is, or how it is stored.
const HARMLESS: [&str; 13] = [
    "_file",
    "-file",
    "file",
    "path",
    "_encryption",
    "authentication",
    "_command",
    "type",
    "policy",
    "timeout",
    "length",
    "_min",
    "_max",
];

/// Values that say how something is done, and are no secrets.
const CHOICES: [&str; 17] = [
    "yes",
    "no",
    "true",
    "false",
    "on",
    "off",
    "none",
    "null",
    "0",
    "1",
    "\"\"",
    "''",
    "prompt",
    "ask",
    "scram-sha-256",
    "md5",
    // nsswitch.conf(5)
    "files",
];

fn has_secret(line: &str) -> bool {
    let line = line.trim().trim_end_matches([';', ',']);
    if line.is_empty() || line.starts_with(['#', ';']) || line.starts_with("//") {
        return false;
    }
    let line = line.strip_prefix("Environment=").unwrap_or(line).trim_matches(['"', '\'']);
    has_credentials_in_url(line) || is_setting(line) || has_hash(line)
}

/// `NAME = VALUE`, `NAME: VALUE` or `NAME VALUE`, with a name that speaks of a secret.
fn is_setting(line: &str) -> bool {
    let end = line.find(['=', ':']).or_else(|| line.find(char::is_whitespace));
    let Some((name, value)) = end.map(|at| line.split_at(at)) else { return false };
    let name = name.trim().trim_matches(['"', '\'', '$', '{', '}', '-']).to_ascii_lowercase();
    let name = name.rsplit(char::is_whitespace).next().unwrap_or_default();
    let value = value.trim_start_matches(|c: char| c == '=' || c == ':' || c.is_whitespace());
    let value = value.trim_matches(['"', '\'']);
    let is_named = NAMES.iter().any(|part| name.contains(part))
        && !HARMLESS.iter().any(|end| name.ends_with(end));
    let first = value.split_whitespace().next().unwrap_or_default().to_ascii_lowercase();
    is_named
        && value.len() >= 4
        && !CHOICES.contains(&first.as_str())
        && !value.starts_with(['/', '$', '%', '<', '{', '('])
}

/// `NAME:HASH`, as in files of htpasswd(1).
fn has_hash(line: &str) -> bool {
    let kinds = ["$apr1$", "$2a$", "$2b$", "$2y$", "$1$", "$5$", "$6$", "$y$", "{SHA}", "{SSHA}"];
    line.split_once(':').is_some_and(|(_, hash)| kinds.iter().any(|kind| hash.starts_with(kind)))
}

/// `scheme://user:password@host`.
fn has_credentials_in_url(line: &str) -> bool {
    line.split("://").skip(1).any(|rest| {
        let authority = rest.split(['/', ' ', '"', '\'']).next().unwrap_or_default();
        authority.split_once('@').is_some_and(|(user, _)| {
            user.split_once(':').is_some_and(|(_, password)| {
                !password.is_empty() && !password.starts_with(['$', '%', '<', '{'])
            })
        })
    })
}

#[cfg(test)]
mod tests {
    use super::found;

    #[test]
    fn secrets_in_usual_files_are_seen_and_not_repeated() {
        for text in [
            "-----BEGIN OPENSSH PRIVATE KEY-----\nhunter22\n",
            "-----BEGIN PRIVATE KEY-----\nhunter22\n",
            "db_password = hunter22",
            "  \"password\": \"hunter22\",",
            "export AWS_SECRET_ACCESS_KEY=hunter22",
            "Environment=\"API_TOKEN=hunter22\"",
            "requirepass hunter22\nmasterauth x\npassword hunter22",
            "psk=hunter22",
            "PrivateKey = hunter22=",
            "url = postgres://app:hunter22@db/x",
            "proxy=http://u:hunter22@proxy:3128",
            "a\nb\nclient_secret: hunter22",
            "ada:$apr1$hunter22$x",
        ] {
            let why = found(text).unwrap_or_default();
            assert!(!why.is_empty() && !why.contains("hunter22"), "{text}: {why}");
        }
    }

    #[test]
    fn settings_about_secrets_are_no_secrets() {
        for text in [
            "PasswordAuthentication no",
            "# password = hunter22",
            "password_encryption = scram-sha-256",
            "ssl_key_file = '/etc/ssl/private/x.key'",
            "PASSWORD=${DB_PASSWORD}",
            "password_file: /run/secrets/db",
            "passwd: files systemd",
            "proxy_pass http://127.0.0.1:8080/a:b@c;",
            "url = https://example.com/",
            "ssh://git@example.com:22/x",
            "worker_connections 768;",
            "tokens",
        ] {
            assert_eq!(found(text), None, "{text}");
        }
    }
}
