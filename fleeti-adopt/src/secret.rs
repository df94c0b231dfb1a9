//! Recognises what must not get into a profile: a profile and its images are not secret.

/// Why a text has a secret; `None` if none is seen. The value itself is never returned.
pub(crate) fn found(text: &str) -> Option<String> {
    if has_private_key(text) {
        return Some("has a private key".to_owned());
    }
    let at = text.lines().position(has_secret)?;
    Some(format!("line {} looks like a passphrase, a token or a key", at + 1))
}

/// Whether a text has a private key. Such a text is never taken, whatever a caller asks for.
pub(crate) fn has_private_key(text: &str) -> bool {
    text.contains("-----BEGIN") && text.contains("PRIVATE KEY")
}

/// Parts of names of settings whose values are secrets.
const PARTS: [&str; 14] = [
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

/// Ends of such names. Within other names they say nothing, as in `PASS_MAX_DAYS`.
const ENDS: [&str; 6] = ["pass", "pwd", "bindpw", "rootpw", "bearer", "authorization"];

/// Ends of names of settings that say where a secret is, or how it is stored.
const HARMLESS: [&str; 40] = [
    "_file",
    "-file",
    "file",
    "path",
    "dir",
    "directory",
    "folder",
    "url",
    "uri",
    "endpoint",
    "_encryption",
    "authentication",
    "_command",
    "_query",
    // postfix: smtp_sasl_password_maps
    "_maps",
    // Apache: SSLPassPhraseDialog
    "dialog",
    "stdin",
    "name",
    "type",
    "policy",
    "timeout",
    "lifetime",
    "ttl",
    "interval",
    "length",
    "_min",
    "_max",
    // Of Apache and nginx: the version of the server in answers.
    "servertokens",
    "server_tokens",
    // sudoers(5)
    "nopasswd",
    // Apache, and modules of nginx: where a request goes.
    "proxypass",
    "proxy_pass",
    "fastcgi_pass",
    "uwsgi_pass",
    "scgi_pass",
    "grpc_pass",
    "memcached_pass",
    // pam_unix(8): try_first_pass
    "first_pass",
    "bypass",
    "compass",
];

/// Values that say how something is done, and are no secrets.
const CHOICES: [&str; 30] = [
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
    "enabled",
    "disabled",
    "prompt",
    "ask",
    "scram-sha-256",
    "md5",
    // nsswitch.conf(5)
    "files",
    "compat",
    "systemd",
    "sss",
    "ldap",
    "winbind",
    // pam.d(5)
    "required",
    "requisite",
    "sufficient",
    "optional",
    "include",
    "substack",
];

/// Schemes of the header `Authorization`; the secret follows.
const SCHEMES: [&str; 3] = ["bearer ", "basic ", "token "];

/// Shortest value that is taken for a secret, bytes.
const VALUE_MIN: usize = 4;
/// Longest word that is taken for a name, bytes. A public key is longer.
const WORD_MAX: usize = 64;

fn has_secret(line: &str) -> bool {
    let line = line.trim().trim_end_matches([';', ',']);
    if line.is_empty() || line.starts_with(['#', ';']) || line.starts_with("//") {
        return false;
    }
    has_credentials_in_url(line) || has_hash(line) || has_setting(line) || has_pair(line)
}

fn is_of_name(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '_' | '-' | '.')
}

/// Whether a name of a setting, an option or a variable speaks of a secret.
fn speaks_of_secret(name: &str) -> bool {
    let name = name.trim_matches(['-', '.', '_']).to_ascii_lowercase();
    let is_harmless = HARMLESS.iter().any(|end| name.ends_with(end))
        || name.starts_with("no-")
        || name.starts_with("no_");
    let is_named =
        PARTS.iter().any(|part| name.contains(part)) || ENDS.iter().any(|end| name.ends_with(end));
    is_named && !is_harmless
}

/// `NAME=VALUE` or `NAME: VALUE` anywhere in a line, so also `--NAME=VALUE`, `$NAME = 'VALUE'`,
/// `"NAME": "VALUE"`, `A=1 NAME=VALUE` and `define('NAME', 'VALUE')`.
fn has_setting(line: &str) -> bool {
    let is_call = line.contains("define(");
    line.match_indices(|c: char| c == '=' || c == ':' || (c == ',' && is_call)).any(|(at, _)| {
        let before = line[..at].trim_end_matches(|c: char| {
            c.is_whitespace() || matches!(c, '"' | '\'' | '\\' | ']' | ')' | '}' | '+' | '?' | ':')
        });
        let name = before.rsplit(|c: char| !is_of_name(c)).next().unwrap_or_default();
        let before = &before[..before.len() - name.len()];
        // A part of a path, as in `/etc/passwd:/etc/passwd`.
        if before.ends_with(['/', '@']) || !speaks_of_secret(name) {
            return false;
        }
        let before = before.trim_matches(|c: char| !c.is_alphanumeric());
        let value = &line[at + 1..];
        // The working directory of a shell.
        let is_folder = name.to_ascii_lowercase().ends_with("pwd") && value.starts_with('/');
        !is_folder && is_secret(value, before.is_empty() || before == "export")
    })
}

/// `NAME VALUE` at the beginning of a line, `--NAME VALUE` anywhere, and with more care
/// `NAME VALUE` anywhere.
fn has_pair(line: &str) -> bool {
    let mut rest = line;
    let mut is_first = true;
    while let Some(at) = rest.find(char::is_whitespace) {
        let (word, after) = rest.split_at(at);
        let value = after.trim_start();
        if is_pair(word, value, is_first) {
            return true;
        }
        rest = value;
        is_first = false;
    }
    false
}

fn is_pair(word: &str, value: &str, is_first: bool) -> bool {
    let is_option = word.starts_with('-');
    let name = word.trim_matches(['"', '\'', '-']);
    let is_name = name.len() <= WORD_MAX && name.chars().all(is_of_name) && speaks_of_secret(name);
    // Another option, the control of pam.d(5), a comparison.
    if !is_name || value.starts_with(['-', '[']) || value.starts_with("!=") {
        return false;
    }
    if is_option {
        return is_secret(value, false);
    }
    if is_first {
        // pf.conf(5), pwd(1)
        let is_command = ["pass", "pwd"].iter().any(|word| name.eq_ignore_ascii_case(word));
        return !is_command && is_secret(value, true);
    }
    // Within a sentence, `password` is followed by any word.
    let bare = value.trim_start_matches(['"', '\'']);
    let without = without_scheme(bare);
    let first = without.split_whitespace().next().unwrap_or_default();
    let has_digit = first.chars().any(|c| c.is_ascii_digit());
    let is_quiet = |text: &str| text.chars().any(|c| c.is_ascii_lowercase());
    // `SetEnv DB_PASSWORD x`, but not `unset DB_PASSWORD DB_USER`.
    let is_variable = !is_quiet(name) && is_quiet(first);
    (has_digit || is_variable || without.len() < bare.len()) && is_secret(value, false)
}

/// Whether a text begins with a value that may be a secret. It may be one that has spaces if it is
/// the whole rest of a line.
fn is_secret(text: &str, is_rest: bool) -> bool {
    let text = text.trim_start_matches(|c: char| {
        c.is_whitespace() || matches!(c, '=' | ':' | '>' | '-' | '[' | '\\')
    });
    let is_quote = |c: char| matches!(c, '"' | '\'');
    let inner = text.strip_prefix(is_quote);
    let text = without_scheme(inner.unwrap_or(text));
    // A variable, a placeholder, what a command writes; a comment after no value.
    if text.starts_with(['$', '%', '<', '{', '(', '`', '?']) || text.starts_with("# ") {
        return false;
    }
    let text = if inner.is_some() { text.split(is_quote).next().unwrap_or_default() } else { text };
    let word = text.split_whitespace().next().unwrap_or_default();
    let word =
        word.trim_end_matches(|c: char| matches!(c, ',' | ';' | ')' | ']' | '}') || is_quote(c));
    let value = if is_rest || inner.is_some() { text.trim_end() } else { word };
    value.len() >= VALUE_MIN && !CHOICES.iter().any(|choice| word.eq_ignore_ascii_case(choice))
}

/// What follows the scheme of `Authorization`.
fn without_scheme(text: &str) -> &str {
    let scheme = SCHEMES.iter().find(|scheme| {
        text.get(..scheme.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(scheme))
    });
    scheme.map_or(text, |scheme| text[scheme.len()..].trim_start())
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
            "ExecStart=/usr/bin/app --password=hunter22",
            "ExecStart=/usr/bin/app --verbose --token hunter22",
            "ExecStart=/usr/bin/app -password 'hunter22' -x",
            "Environment=A=1 DB_PASSWORD=hunter22",
            "Environment=DB_PASSWORD=hunter22",
            "Environment=\"A=1\" \"API_TOKEN=hunter22\"",
            "Environment='A=1' 'API_TOKEN=hunter22'",
            "DB_PASS=hunter22",
            "MYSQL_PWD=hunter22",
            "pwd: hunter22",
            "$dbpass='hunter22';",
            "$dbpass = \"hunter22\";",
            "$config['db_password'] = 'hunter22';",
            "'password' => 'hunter22',",
            "define( 'DB_PASSWORD', 'hunter22' );",
            "bindpw hunter22",
            "rootpw: hunter22",
            "SetEnv DB_PASSWORD hunter22",
            "SetEnv DB_PASSWORD hunter",
            "fastcgi_param db_password hunter22;",
            "machine example.com login ada password hunter22",
            "Authorization \"Bearer hunter22\"",
            "Authorization: Basic hunter22",
            "proxy_set_header Authorization \"Bearer hunter22\";",
            "curl -H \"Authorization: Bearer hunter22\" http://x/",
            "user=app password=hunter22 dbname=x",
            "primary_conninfo = 'user=app password=hunter22'",
            "Server=x;Uid=y;Pwd=hunter22",
            "url = https://example.com/?token=hunter22",
            "password=/hunter22",
            "password = /hunter22+x",
            "passphrase = my hunter22 hunter22",
            "args: {\\\"password\\\":\\\"hunter22\\\"}",
            "password: ${DB_PASSWORD:-hunter22}",
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
            "# ExecStart=/usr/bin/app --password=hunter22",
            "; bindpw hunter22",
            "// $dbpass = 'hunter22';",
            "passwd:         compat systemd",
            "PermitEmptyPasswords no",
            "PermitRootLogin prohibit-password",
            "AuthenticationMethods publickey,password publickey",
            "password   requisite   pam_pwquality.so retry=3",
            "password [success=1 default=ignore] pam_unix.so try_first_pass sha512",
            "PASS_MAX_DAYS 99999",
            "%sudo ALL=(ALL:ALL) NOPASSWD: /usr/bin/systemctl",
            "ServerTokens Prod",
            "server_tokens build;",
            "proxy_pass http://127.0.0.1:8080/;",
            "fastcgi_pass unix:/run/php.sock;",
            "ProxyPass /app http://127.0.0.1:8080/",
            "SSLPassPhraseDialog exec:/usr/share/apache2/ask-for-passphrase",
            "smtp_sasl_password_maps = hash:/etc/postfix/sasl_passwd",
            "proxy_set_header Authorization $http_authorization;",
            "proxy_set_header Authorization \"\";",
            "curl -H \"Authorization: Bearer $TOKEN\" http://x/",
            "SetEnvIf Authorization \"(.*)\" HTTP_AUTHORIZATION=$1",
            "  authorization: enabled",
            "ExecStart=/usr/bin/app --password-file /run/credentials/app/password",
            "ExecStart=/usr/bin/app --token-path=/run/token --no-password shop",
            "ExecStart=/usr/bin/app --token $TOKEN --password=${PASSWORD}",
            "EnvironmentFile=/run/secrets/shop",
            "secret_dir = /run/secrets",
            "volumes: /etc/passwd:/etc/passwd:ro",
            "password = \"\", user = \"shop\"",
            "PWD=/srv/app",
            "secret = # disabled here",
            "export PASSWORD DB_USER",
            "getent passwd postgres",
            "if [ -z \"$TOKEN\" ]; then exit 1; fi",
            "cp /etc/passwd /root/backup1",
            "pass quick on lo0",
            "Type your password here, please",
            "server 192.0.2.1:443 check",
        ] {
            assert_eq!(found(text), None, "{text}");
        }
    }
}
