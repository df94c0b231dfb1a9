//! Debian's archive: its mirrors, as the host's apt knows them, and its suites.

use crate::apt::{Apt, AptError, SUITE};
use crate::cache::Cache;
use fleeti_core::profile::{Software, Suite};
use std::process::{Command, Stdio};

const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";
/// The mirrors to use if the host's apt configuration has none for Debian.
const MAIN_DEFAULT: &str = "http://deb.debian.org/debian/";
const SECURITY_DEFAULT: &str = "http://deb.debian.org/debian-security/";

/// A suite of the archive.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Pocket {
    /// For example `trixie-security`.
    suite: String,
    /// Whether a mirror without it is an error.
    is_required: bool,
}

/// The state that apt has in the cache, and what is added to its configuration.
pub(crate) struct State<'a> {
    pub(crate) name: &'a str,
    pub(crate) more: &'a str,
}

/// The mirrors of Debian's archive, each with `/` at the end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Archive {
    main: String,
    security: String,
    /// Options of sources.list(5).
    options: String,
}

impl Archive {
    /// The mirrors of the host's apt configuration, by HTTPS where they answer by it. Where the host
    /// does not check how long lists are valid (`Acquire::Check-Valid-Until`), a mirror of old lists
    /// is meant, and they are not checked here either; `snapshot_age_days_max` of a profile is.
    pub(crate) fn of_host(cache: &Cache) -> Result<Self, AptError> {
        let targets = host(
            "apt-get",
            &["indextargets", "--format", "$(LABEL)|$(REPO_URI)", "Created-By: Packages"],
        );
        let found = |label: &str, default: &str| {
            let of_label =
                |line: &str| line.strip_prefix(label)?.strip_prefix('|').map(str::to_owned);
            let url = targets.lines().filter_map(of_label).find(|url| url.starts_with("http"));
            format!("{}/", url.as_deref().unwrap_or(default).trim_end_matches('/'))
        };
        let probe = Apt::new(
            cache,
            "probe",
            "",
            "Acquire::Retries \"0\";\nAcquire::https::Timeout \"10\";\n",
        )?;
        let secure = |url: String, suite: &str| by_https(&probe, &url, suite).unwrap_or(url);
        let settings = host("apt-config", &["dump"]);
        let off = |name: &str| {
            let line = settings.lines().find_map(|l| l.strip_prefix(name)).unwrap_or_default();
            ["false", "no", "0"].contains(&line.trim_matches([' ', ';', '"']))
        };
        let mut options = format!("signed-by={KEYRING}");
        for (name, option) in [
            ("Acquire::Check-Valid-Until ", " check-valid-until=no"),
            ("Acquire::Check-Date ", " check-date=no"),
        ] {
            if off(name) {
                options.push_str(option);
            }
        }
        Ok(Self {
            main: secure(found("Debian", MAIN_DEFAULT), SUITE),
            security: secure(
                found("Debian-Security", SECURITY_DEFAULT),
                &format!("{SUITE}-security"),
            ),
            options,
        })
    }

    /// The mirror of a suite.
    pub(crate) fn mirror(&self, suite: &str) -> &str {
        if suite.ends_with("-security") { &self.security } else { &self.main }
    }

    /// The mirror that has a file of an address.
    pub(crate) fn mirror_with(&self, url: &str) -> Option<&str> {
        // One may be below the other.
        let mirrors =
            [&self.main, &self.security].into_iter().filter(|m| url.starts_with(m.as_str()));
        mirrors.max_by_key(|mirror| mirror.len()).map(String::as_str)
    }

    /// Lines of sources.list(5) for suites.
    fn lines(&self, pockets: &[Pocket], components: &[String]) -> String {
        let mut all = vec!["main"];
        all.extend(components.iter().map(String::as_str));
        let line = |pocket: &Pocket| {
            let (options, mirror) = (&self.options, self.mirror(&pocket.suite));
            format!("deb [{options}] {mirror} {} {}\n", pocket.suite, all.join(" "))
        };
        pockets.iter().map(line).collect()
    }
}

/// The suites that a profile uses: security updates and updates always, where the mirror has them.
fn pockets(software: &Software) -> Vec<Pocket> {
    let required = |suite| software.suites.contains(&suite);
    let pocket = |end: &str, is_required| Pocket { suite: format!("{SUITE}{end}"), is_required };
    let mut pockets = vec![
        pocket("", true),
        pocket("-updates", required(Suite::Updates)),
        pocket("-security", required(Suite::Security)),
    ];
    if required(Suite::Backports) || !software.backports.is_empty() {
        pockets.push(pocket("-backports", true));
    }
    pockets
}

/// apt with the lists of the archive's suites, and the suites that are left out because the mirror
/// does not have them.
pub(crate) fn updated(
    cache: &Cache,
    state: &State<'_>,
    archive: &Archive,
    software: &Software,
) -> Result<(Apt, Vec<String>), AptError> {
    let (mut pockets, mut missing) = (pockets(software), Vec::new());
    loop {
        let lines = archive.lines(&pockets, &software.components);
        let apt = Apt::new(cache, state.name, &lines, state.more)?;
        match apt.run(&["update", "-qq"]) {
            Ok(_) => return Ok((apt, missing)),
            Err(AptError::Program { program, detail }) => {
                match without_missing(&mut pockets, &detail) {
                    Some(suite) => missing.push(suite),
                    None => return Err(AptError::Program { program, detail }),
                }
            }
            Err(e) => return Err(e),
        }
    }
}

/// Takes out a suite that is not required, and that the error of an update says is not there.
fn without_missing(pockets: &mut Vec<Pocket>, error: &str) -> Option<String> {
    let is_missing = |pocket: &Pocket| {
        let end = format!(" {} Release' does not have a Release file.", pocket.suite);
        error.lines().any(|line| line.ends_with(&end))
    };
    let at = pockets.iter().position(|pocket| !pocket.is_required && is_missing(pocket))?;
    Some(pockets.remove(at).suite)
}

/// The address with `https`, if the mirror answers there.
fn by_https(probe: &Apt, url: &str, suite: &str) -> Option<String> {
    let secure = format!("https://{}", url.strip_prefix("http://")?);
    let list = format!("{secure}dists/{suite}/InRelease");
    let target = probe.path("InRelease").display().to_string();
    probe.output("/usr/lib/apt/apt-helper", &["download-file", &list, &target]).ok().map(|_| secure)
}

/// The output of a program with the configuration of the host.
fn host(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).stdin(Stdio::null()).output();
    output.map(|o| String::from_utf8_lossy(&o.stdout).into_owned()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn archive() -> Archive {
        Archive {
            main: "http://m/debian/".into(),
            security: "http://m/debian/security/".into(),
            options: "signed-by=k".into(),
        }
    }

    #[test]
    fn security_updates_and_updates_are_used_without_being_named() {
        let mut software = Software::default();
        let lines = archive().lines(&pockets(&software), &["contrib".to_owned()]);
        assert_eq!(
            lines,
            "deb [signed-by=k] http://m/debian/ trixie main contrib\n\
             deb [signed-by=k] http://m/debian/ trixie-updates main contrib\n\
             deb [signed-by=k] http://m/debian/security/ trixie-security main contrib\n"
        );
        software.backports = vec!["cockpit".into()];
        assert_eq!(
            pockets(&software)[3],
            Pocket { suite: "trixie-backports".into(), is_required: true }
        );
    }

    #[test]
    fn a_suite_that_the_mirror_does_not_have_is_left_out_unless_it_is_required() {
        let error = "E: The repository 'http://m/debian trixie-security Release' does not have a Release file.";
        let mut software = Software::default();
        let mut found = pockets(&software);
        assert_eq!(without_missing(&mut found, error).as_deref(), Some("trixie-security"));
        assert_eq!((found.len(), without_missing(&mut found, error)), (2, None));
        software.suites = vec![Suite::Security];
        assert_eq!(without_missing(&mut pockets(&software), error), None);
        // A suite whose signature is wrong is there.
        let unsigned =
            "E: The repository 'http://m/debian trixie-security InRelease' is not signed.";
        assert_eq!(without_missing(&mut pockets(&Software::default()), unsigned), None);
        let main =
            "E: The repository 'http://m/debian trixie Release' does not have a Release file.";
        assert_eq!(without_missing(&mut pockets(&Software::default()), main), None);
    }

    #[test]
    fn a_file_is_at_the_mirror_whose_address_is_longest() {
        let found = archive();
        assert_eq!(found.mirror_with("http://m/debian/pool/a"), Some("http://m/debian/"));
        assert_eq!(
            found.mirror_with("http://m/debian/security/pool/a"),
            Some("http://m/debian/security/")
        );
        assert_eq!(found.mirror_with("http://evil/debian/pool/a"), None);
    }
}
