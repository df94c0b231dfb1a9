//! Writes a profile as a document for people: grouped, with comments that say where an entry comes
//! from.

use crate::draft::Draft;
use fleeti_core::foreign::{self, Foreign};
use fleeti_core::profile::{
    File, Identity, Kernel, Profile, Security, Service, Software, State, UnitState,
};
use serde::ser::{Serialize, SerializeMap, Serializer};
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// Longest comment from foreign text, characters.
const COMMENT_MAX: usize = 160;

/// The document.
///
/// # Errors
/// [`toml::ser::Error`] if a value cannot be written as TOML.
pub(crate) fn write(draft: &Draft, source: &str) -> Result<String, toml::ser::Error> {
    let profile = &draft.profile;
    let mut out = Document { text: head(profile, source), draft };
    let identity = &profile.identity;
    if *identity != Identity::default() {
        out.title("Host name, language, time zone and keyboard");
        out.table("identity", identity)?;
    }
    out.accounts()?;
    out.software()?;
    out.services()?;
    out.network()?;
    out.rest()?;
    out.text.push_str(&health(profile));
    Ok(out.text)
}

fn head(profile: &Profile, source: &str) -> String {
    let name = &profile.name;
    format!(
        "# What `fleeti profile import --adopt` found on {source}.
#
#   fleeti profile check {name}.toml    # errors and warnings, each with its line
#   fleeti profile show {name}.toml     # what is set, and where
#
# Data, private keys and passphrases are not in it. The command printed what was not taken, and what
# to do about it.
schema = 1
name = \"{name}\"
description = {description}
architecture = \"x86_64\"
",
        description = toml::Value::String(profile.description.clone()),
    )
}

struct Document<'a> {
    text: String,
    draft: &'a Draft,
}

impl Document<'_> {
    fn title(&mut self, title: &str) {
        self.text.push_str(&format!("\n# {title}\n"));
    }

    fn table(&mut self, name: &str, value: &impl Serialize) -> Result<(), toml::ser::Error> {
        self.text.push_str(&toml_of(name, value)?);
        Ok(())
    }

    /// Writes entries of a list of tables, each below a comment with its origin.
    fn entries<T: Serialize>(
        &mut self,
        list: &str,
        items: &[T],
        key: impl Fn(&T) -> &str,
    ) -> Result<(), toml::ser::Error> {
        for (i, item) in items.iter().enumerate() {
            if i > 0 {
                self.text.push('\n');
            }
            if let Some(origin) = self.draft.origins.get(&format!("{list} {}", key(item))) {
                let origin = Foreign::new(origin, COMMENT_MAX).to_string();
                self.text.push_str(&format!("# {origin}\n"));
            }
            self.text.push_str(&toml_of(list, &[item])?);
        }
        Ok(())
    }

    /// Writes files, each with its content as it is where TOML allows that.
    fn files(&mut self) -> Result<(), toml::ser::Error> {
        for (i, file) in self.draft.profile.files.iter().enumerate() {
            if i > 0 {
                self.text.push('\n');
            }
            let Some(content) = literal(&file.content) else {
                self.entries("files", std::slice::from_ref(file), |file| &file.path)?;
                continue;
            };
            let from = self.text.len();
            let empty = File { content: String::new(), ..file.clone() };
            self.entries("files", &[empty], |file| &file.path)?;
            let entry = self.text.split_off(from);
            let whole =
                entry.replacen("\ncontent = \"\"\n", &format!("\ncontent = {content}\n"), 1);
            self.text.push_str(&whole);
        }
        Ok(())
    }

    fn accounts(&mut self) -> Result<(), toml::ser::Error> {
        let profile = &self.draft.profile;
        if !profile.users.is_empty() {
            self.title("Users. Passwords are locked without `password_hash`.");
            self.entries("users", &profile.users, |user| &user.name)?;
        }
        if !profile.groups.is_empty() {
            self.title("Groups that no package creates, from /etc/group");
            self.entries("groups", &profile.groups, |group| &group.name)?;
        }
        if !profile.sudo.is_empty() {
            self.title("Rules of sudo");
            self.entries("sudo", &profile.sudo, |rule| &rule.name)?;
        }
        Ok(())
    }

    fn software(&mut self) -> Result<(), toml::ser::Error> {
        let software = &self.draft.profile.software;
        if *software == Software::default() {
            return Ok(());
        }
        self.title("Packages that somebody asked for; their dependencies come by themselves");
        let repositories = software.repositories.clone();
        self.table("software", &Software { repositories: Vec::new(), ..software.clone() })?;
        if !repositories.is_empty() {
            self.title("Repositories besides Debian's archive");
            self.entries("software.repositories", &repositories, |r| &r.name)?;
        }
        Ok(())
    }

    fn services(&mut self) -> Result<(), toml::ser::Error> {
        let services = &self.draft.profile.services;
        type Belongs = fn(&Service) -> bool;
        let groups: [(&str, Belongs); 3] = [
            ("Own units", |s| s.unit.is_some()),
            ("Units that start at boot", |s| s.unit.is_none() && s.state == UnitState::Enabled),
            ("Units that do not start", |s| s.unit.is_none() && s.state != UnitState::Enabled),
        ];
        for (title, belongs) in groups {
            let chosen: Vec<_> = services.iter().filter(|s| belongs(s)).cloned().collect();
            if !chosen.is_empty() {
                self.title(title);
                self.entries("services", &chosen, |service| &service.name)?;
            }
        }
        Ok(())
    }

    fn network(&mut self) -> Result<(), toml::ser::Error> {
        let network = &self.draft.profile.network;
        if !network.interfaces.is_empty() {
            self.title("Interfaces. Addresses are those of this one system.");
            self.entries("network.interfaces", &network.interfaces, |i| &i.name)?;
        }
        self.separated("network.vlans", &network.vlans, |v| &v.name)?;
        self.separated("network.bridges", &network.bridges, |b| &b.name)?;
        self.separated("network.bonds", &network.bonds, |b| &b.name)?;
        self.separated("network.wifi", &network.wifi, |w| &w.ssid)?;
        self.separated("network.wireguard", &network.wireguard, |w| &w.name)?;
        let names = (&network.dns, &network.time, &network.proxy);
        if *names.0 != fleeti_core::profile::Dns::default() {
            self.title("Name servers");
            self.table("network.dns", names.0)?;
        }
        if !names.1.servers.is_empty() {
            self.title("Time servers");
            self.table("network.time", names.1)?;
        }
        if names.2.url.is_some() {
            self.title("Proxy, from /etc/environment");
            self.table("network.proxy", names.2)?;
        }
        if network.firewall.enabled || !network.firewall.rules.is_empty() {
            self.title("Packet filter");
            let enabled = BTreeMap::from([("enabled", network.firewall.enabled)]);
            self.table("network.firewall", &enabled)?;
            self.text.push('\n');
            let rules = &network.firewall.rules;
            self.entries("network.firewall.rules", rules, |rule| &rule.name)?;
        }
        Ok(())
    }

    /// As `entries`, below an empty line.
    fn separated<T: Serialize>(
        &mut self,
        list: &str,
        items: &[T],
        key: impl Fn(&T) -> &str,
    ) -> Result<(), toml::ser::Error> {
        if !items.is_empty() {
            self.text.push('\n');
        }
        self.entries(list, items, key)
    }

    fn rest(&mut self) -> Result<(), toml::ser::Error> {
        let profile = &self.draft.profile;
        if profile.kernel != Kernel::default() {
            self.title("Kernel");
            self.table("kernel", &profile.kernel)?;
        }
        if !profile.hardware.firmware.is_empty() {
            self.title("Firmware");
            self.table("hardware", &profile.hardware)?;
        }
        if profile.security != Security::default() {
            self.title("SSH server");
            self.table("security.ssh", &profile.security.ssh)?;
        }
        if !profile.secrets.is_empty() {
            self.title("Secrets: set their values with `fleeti secret set`");
            self.entries("secrets", &profile.secrets, |secret| &secret.name)?;
        }
        if !profile.files.is_empty() {
            self.title("Files of configuration: changed ones of packages, and own ones");
            self.files()?;
        }
        if profile.state != State::default() {
            self.title("Directories that survive updates; everything else below /var does not");
            self.entries("state.directories", &profile.state.directories, |d| &d.path)?;
        }
        Ok(())
    }
}

/// A value below a path such as `network.interfaces`, for the serializer. Fields keep their order.
struct Nested<'a, T: ?Sized> {
    path: &'a [&'a str],
    value: &'a T,
}

impl<T: Serialize + ?Sized> Serialize for Nested<'_, T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Some((first, rest)) = self.path.split_first() else {
            return self.value.serialize(serializer);
        };
        let mut map = serializer.serialize_map(Some(1))?;
        map.serialize_entry(first, &Nested { path: rest, value: self.value })?;
        map.end()
    }
}

fn toml_of(path: &str, value: &(impl Serialize + ?Sized)) -> Result<String, toml::ser::Error> {
    let path: Vec<_> = path.split('.').collect();
    toml::to_string_pretty(&Nested { path: &path, value })
}

/// A text as a literal string of TOML, in which nothing is escaped; `None` if it cannot be one, or
/// if it has characters that a reader does not see.
fn literal(text: &str) -> Option<String> {
    let fits = !text.contains("'''") && !text.ends_with('\'') && foreign::toml(text) == text;
    fits.then(|| format!("'''\n{text}'''"))
}

/// Health checks that the author may want.
fn health(profile: &Profile) -> String {
    let is_candidate = |s: &&Service| s.state == UnitState::Enabled && s.name.ends_with(".service");
    let units: Vec<_> = profile
        .services
        .iter()
        .filter(is_candidate)
        .map(|service| service.name.as_str())
        .take(3)
        .collect();
    if units.is_empty() {
        return String::new();
    }
    let mut text = "
# A new image is kept only if its health checks pass. Better than whether a unit is active is
# whether it answers: http = \"http://127.0.0.1/\" or tcp = \"127.0.0.1:5432\".
"
    .to_owned();
    for unit in units {
        let unit = Foreign::new(unit, COMMENT_MAX);
        write!(text, "#[[health_checks]]\n#name = \"{unit} is active\"\n#unit = \"{unit}\"\n").ok();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use fleeti_core::profile::check;

    #[test]
    fn every_content_of_a_file_is_read_again_as_it_was() {
        let mut draft = crate::draft::made();
        let texts = [
            "plain\n",
            "\ttab and \\ backslash \"quote\"\n",
            "",
            "\n\nlines before\n",
            "''' and \"\"\"",
            "ends with '",
            "hidden \u{202e} and \u{1b}[2J\r\n",
            "Zürich 東京\u{3164}",
            "Zürich 東京",
            "\ncontent = \"\"\n",
        ];
        for (i, text) in texts.iter().enumerate() {
            draft.profile.files.push(File::new(&format!("/etc/f{i}"), text));
        }
        let text = write(&draft, "a system").unwrap();
        assert_eq!(check(&text).unwrap(), draft.profile, "{text}");
        assert!(text.contains("\ttab and \\ backslash \"quote\"\n"), "{text}");
        // What is shown at a terminal has the same meaning.
        let shown = foreign::toml(&text);
        assert_eq!(check(&shown).unwrap(), draft.profile, "{shown}");
    }
}
