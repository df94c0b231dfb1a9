//! Sources of packages: sources.list(5), with the keys of repositories.

use crate::draft::{Draft, no_room};
use crate::name::{label, unused};
use crate::note::Area;
use crate::snapshot::Snapshot;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use deb822_fast::Deb822;
use fleeti_core::profile::{Repository, Suite};

/// A source, in either form.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Source {
    from: String,
    url: String,
    suite: String,
    components: Vec<String>,
    /// A path of a key, or the key itself.
    signed_by: Option<String>,
}

pub(crate) fn adopt(snapshot: &Snapshot, draft: &mut Draft) {
    let single = snapshot.text("/etc/apt/sources.list").map(|text| ("/etc/apt/sources.list", text));
    let lists = snapshot.texts("/etc/apt/sources.list.d", ".list").chain(single);
    let mut sources: Vec<_> = lists.flat_map(|(path, text)| of_lines(path, text)).collect();
    for (path, text) in snapshot.texts("/etc/apt/sources.list.d", ".sources") {
        match text.parse::<Deb822>() {
            Ok(paragraphs) => sources.extend(of_paragraphs(path, &paragraphs)),
            Err(_) => draft.not_taken(Area::Software, path, "is not understood", ""),
        }
    }
    for source in sources {
        if is_debian(&source.url) {
            archive(&source, draft);
        } else {
            repository(&source, snapshot, draft);
        }
    }
    for (path, rest, _) in snapshot.below("/etc/apt/auth.conf.d") {
        if !rest.starts_with('.') {
            draft.not_taken(Area::Secrets, path, "has passwords of repositories", "");
        }
    }
    if snapshot.entries.contains_key("/etc/apt/auth.conf") {
        draft.not_taken(Area::Secrets, "/etc/apt/auth.conf", "has passwords of repositories", "");
    }
    for (path, rest, _) in snapshot.below("/etc/apt/preferences.d") {
        if !rest.starts_with('.') {
            let why = "pins packages; the lock of a build pins every package";
            draft.not_taken(Area::Software, path, why, "check the versions of these packages");
        }
    }
}

/// Lines of `deb [OPTION=VALUE …] URL SUITE COMPONENT …`.
fn of_lines(path: &str, text: &str) -> Vec<Source> {
    let source = |line: &str| {
        let rest = line.trim().strip_prefix("deb ")?.trim_start();
        let (options, rest) = match rest.strip_prefix('[') {
            Some(bracket) => bracket.split_once(']')?,
            None => ("", rest),
        };
        let mut words = rest.split_whitespace().map(str::to_owned);
        let signed_by = options.split_whitespace().find_map(|o| o.strip_prefix("signed-by="));
        Some(Source {
            from: path.to_owned(),
            url: words.next()?,
            suite: words.next()?,
            components: words.take_while(|word| !word.starts_with('#')).collect(),
            signed_by: signed_by.map(str::to_owned),
        })
    };
    text.lines().filter_map(source).collect()
}

fn of_paragraphs(path: &str, paragraphs: &Deb822) -> Vec<Source> {
    let mut found = Vec::new();
    for paragraph in paragraphs.iter() {
        let words = |name: &str| -> Vec<String> {
            let value = paragraph.get(name).unwrap_or_default();
            value.split_whitespace().map(str::to_owned).collect()
        };
        let is_off = paragraph.get("Enabled").is_some_and(|v| v.eq_ignore_ascii_case("no"));
        if is_off || !words("Types").iter().any(|kind| kind == "deb") {
            continue;
        }
        for url in words("URIs") {
            for suite in words("Suites") {
                found.push(Source {
                    from: path.to_owned(),
                    url: url.clone(),
                    suite,
                    components: words("Components"),
                    signed_by: paragraph.get("Signed-By").map(|key| key.trim().to_owned()),
                });
            }
        }
    }
    found
}

/// The host of a URL, without credentials and port.
fn host(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let authority = rest.split('/').next().unwrap_or_default();
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    host.split(':').next().unwrap_or_default()
}

/// Whether a source is Debian's own archive, or a mirror below debian.org.
fn is_debian(url: &str) -> bool {
    let host = host(url);
    host == "debian.org" || host.ends_with(".debian.org")
}

fn archive(source: &Source, draft: &mut Draft) {
    let software = &mut draft.profile.software;
    let suites = [
        ("-security", Suite::Security),
        ("-updates", Suite::Updates),
        ("-backports", Suite::Backports),
    ];
    let bare = source.suite.trim_end_matches('/');
    let bare = bare.strip_suffix("/updates").map_or(bare, |_| "x-security");
    let suite = suites.iter().find(|(end, _)| bare.ends_with(end)).map(|(_, suite)| *suite);
    if let Some(suite) = suite.filter(|suite| !software.suites.contains(suite)) {
        software.suites.push(suite);
    }
    for component in source.components.iter().filter(|component| *component != "main") {
        if !software.components.contains(component) {
            software.components.push(component.clone());
        }
    }
}

fn repository(source: &Source, snapshot: &Snapshot, draft: &mut Draft) {
    let host = host(&source.url);
    if source.url.contains('@') {
        let why = "has a user name or a password in its address";
        return draft.not_taken(Area::Secrets, &format!("{} ({host})", source.from), why, "");
    }
    let subject = format!("{} {}", source.url, source.suite);
    let key = match key(source, snapshot) {
        Ok(key) => key,
        Err(why) => {
            let next = "add it to software.repositories with its OpenPGP key";
            return draft.not_taken(Area::Software, &subject, why, next);
        }
    };
    if !draft.has_room_for_key(&key) {
        return draft.not_taken(Area::Software, &subject, &no_room(), "");
    }
    let stem = source.from.rsplit('/').next().unwrap_or_default();
    let stem = stem.rsplit_once('.').map_or(stem, |(stem, _)| stem);
    let stem = if stem == "sources" { host } else { stem };
    let repositories = &mut draft.profile.software.repositories;
    let is_taken = |name: &str| repositories.iter().any(|r| r.name == name);
    let name = unused(&label(stem, "repository").to_ascii_lowercase(), is_taken);
    repositories.push(Repository {
        name: name.clone(),
        url: source.url.clone(),
        suite: source.suite.clone(),
        components: source.components.clone(),
        packages: Vec::new(),
        key,
    });
    draft.origin("software.repositories", &name, source.from.as_str());
}

const BEGIN: &str = "-----BEGIN PGP PUBLIC KEY BLOCK-----";

/// The public key of a source, in armour.
fn key(source: &Source, snapshot: &Snapshot) -> Result<String, &'static str> {
    let signed_by = source.signed_by.as_deref().ok_or(
        "names no key (Signed-By): which of the keys that apt trusts signs it is not known",
    )?;
    if signed_by.starts_with(BEGIN) {
        // deb822(5): an empty line is a dot.
        let lines = signed_by.lines().map(|line| line.trim());
        let lines = lines.map(|line| if line == "." { "" } else { line });
        return Ok(lines.collect::<Vec<_>>().join("\n") + "\n");
    }
    let path = signed_by.split_whitespace().next().unwrap_or_default();
    let bytes = snapshot.bytes(path).ok_or("its key is missing or not readable")?;
    if let Ok(text) = std::str::from_utf8(bytes)
        && text.trim_start().starts_with(BEGIN)
    {
        return Ok(text.to_owned());
    }
    armour(bytes).ok_or("its key is not a public key of OpenPGP")
}

/// The armour of a public key (RFC 9580, 6.2), without the checksum, which is optional.
fn armour(bytes: &[u8]) -> Option<String> {
    // The first packet is a public key: tag 6, in the old or the new form of packets.
    let is_public = matches!(bytes.first()?, 0x98..=0x9b | 0xc6);
    if !is_public {
        return None;
    }
    let encoded = STANDARD.encode(bytes);
    let lines: Vec<_> = encoded.as_bytes().chunks(64).map(String::from_utf8_lossy).collect();
    Some(format!("{BEGIN}\n\n{}\n-----END PGP PUBLIC KEY BLOCK-----\n", lines.join("\n")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_archive_is_told_from_repositories_with_and_without_a_key() {
        let armoured = format!("{BEGIN}\n\nAAAA\n-----END PGP PUBLIC KEY BLOCK-----\n");
        let snapshot = Snapshot::default()
            .with(
                "/etc/apt/sources.list",
                "# c\ndeb http://deb.debian.org/debian bookworm main contrib # x\n\
                 deb-src http://deb.debian.org/debian bookworm main\n\
                 deb http://security.debian.org bookworm-security main non-free-firmware\n\
                 deb https://no-key.example/x stable main\n\
                 deb https://user:hunter22@secret.example/x stable main\n",
            )
            .with(
                "/etc/apt/sources.list.d/vendor.list",
                "deb [arch=amd64 signed-by=/usr/share/keyrings/vendor.gpg] https://packages.example/deb stable main\n",
            )
            .with(
                "/etc/apt/sources.list.d/node.sources",
                "Types: deb\nURIs: https://deb.example/node\nSuites: nodistro\nComponents: main\nSigned-By:\n \
                 -----BEGIN PGP PUBLIC KEY BLOCK-----\n .\n AAAA\n -----END PGP PUBLIC KEY BLOCK-----\n\n\
                 Types: deb\nEnabled: no\nURIs: https://off.example/\nSuites: x\n",
            )
            .with_file("/usr/share/keyrings/vendor.gpg", &[0x99, 1, 2, 3], 0o644)
            .with("/etc/apt/auth.conf", "machine x login y password hunter22");
        let mut draft = crate::draft::made();
        adopt(&snapshot, &mut draft);
        let software = &draft.profile.software;
        assert_eq!(software.suites, [Suite::Security]);
        assert_eq!(software.components, ["contrib", "non-free-firmware"]);
        let names: Vec<_> = software.repositories.iter().map(|r| r.name.as_str()).collect();
        assert_eq!(names, ["vendor", "node"]);
        assert!(software.repositories[0].key.contains("\nmQECAw==\n"));
        assert_eq!(software.repositories[1].key, armoured);
        let subjects: Vec<_> = draft.notes.iter().map(|note| note.subject.as_str()).collect();
        assert_eq!(
            subjects,
            [
                "https://no-key.example/x stable",
                "/etc/apt/sources.list (secret.example)",
                "/etc/apt/auth.conf"
            ]
        );
        assert!(!format!("{:?}{:?}", draft.profile, draft.notes).contains("hunter22"));
    }

    #[test]
    fn a_private_key_is_not_armoured_as_a_public_one() {
        assert_eq!(armour(&[0x95, 1]), None);
        assert_eq!(armour(&[0xc5, 1]), None);
        assert_eq!(armour(b""), None);
    }
}
