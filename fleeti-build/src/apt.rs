//! Debian's own apt, in a private directory: it never touches the packages and sources of the host.
//! The mirror comes from the configuration of the host's apt.

use crate::cache::Cache;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The Debian suite of the base.
pub const SUITE: &str = "trixie";
/// dpkg's name for the architecture of the base.
pub const ARCHITECTURE: &str = "amd64";
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";
/// The mirror to use if the host's apt configuration has none for Debian.
const MIRROR_DEFAULT: &str = "http://deb.debian.org/debian/";

/// Why apt did not do its work.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AptError {
    #[error("{program} failed: {detail}")]
    Program { program: &'static str, detail: String },
    #[error("{path}: {source}")]
    Io { path: PathBuf, source: std::io::Error },
}

fn io(path: &Path) -> impl FnOnce(std::io::Error) -> AptError {
    let path = path.to_owned();
    |source| AptError::Io { path, source }
}

/// apt with a private configuration and state.
pub(crate) struct Apt {
    config: PathBuf,
    pub(crate) mirror: String,
}

impl Apt {
    /// apt with the state `name` in the cache. `more` is added to its configuration.
    pub(crate) fn new(cache: &Cache, name: &str, more: &str) -> Result<Self, AptError> {
        let root = cache.root().join("apt").join(name);
        for sub in ["state/lists/partial", "cache/archives/partial", "log", "etc"] {
            let dir = root.join(sub);
            fs::create_dir_all(&dir).map_err(io(&dir))?;
        }
        let mirror = host_mirror();
        let write = |name: &str, text: String| {
            let path = root.join(name);
            fs::write(&path, text).map_err(io(&path)).map(|()| path)
        };
        write("status", String::new())?;
        write("sources.list", format!("deb [signed-by={KEYRING}] {mirror} {SUITE} main\n"))?;
        let root = root.display();
        let config = write(
            "apt.conf",
            format!(
                "Dir \"{root}\";\nDir::State \"{root}/state\";\nDir::State::status \"{root}/status\";\n\
                 Dir::Cache \"{root}/cache\";\nDir::Log \"{root}/log\";\nDir::Etc \"{root}/etc\";\n\
                 Dir::Etc::sourcelist \"{root}/sources.list\";\nDir::Etc::sourceparts \"/dev/null\";\n\
                 Dir::Etc::parts \"/dev/null\";\nDir::Etc::preferencesparts \"/dev/null\";\n\
                 APT::Architecture \"{ARCHITECTURE}\";\nAPT::Architectures {{ \"{ARCHITECTURE}\"; }};\n\
                 APT::Install-Recommends \"false\";\nAPT::Sandbox::User \"root\";\nAcquire::Languages \"none\";\n\
                 Acquire::Retries \"3\";\n{more}"
            ),
        )?;
        Ok(Self { config, mirror })
    }

    /// A program of apt with this configuration.
    pub(crate) fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.env("APT_CONFIG", &self.config).env("LC_ALL", "C.UTF-8").stdin(Stdio::null());
        command
    }

    /// Runs apt-get, and returns its output.
    pub(crate) fn run(&self, arguments: &[&str]) -> Result<String, AptError> {
        let output = self
            .command("apt-get")
            .args(arguments)
            .output()
            .map_err(|e| AptError::Program { program: "apt-get", detail: e.to_string() })?;
        if output.status.success() {
            Ok(String::from_utf8_lossy(&output.stdout).into_owned())
        } else {
            let detail = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            Err(AptError::Program { program: "apt-get", detail })
        }
    }
}

/// The mirror of Debian's main archive in the host's apt configuration.
pub(crate) fn host_mirror() -> String {
    let output = Command::new("apt-get")
        .args([
            "indextargets",
            "--format",
            "$(REPO_URI)",
            "Created-By: Packages",
            "Component: main",
            "Label: Debian",
        ])
        .stdin(Stdio::null())
        .output();
    let text = output.map(|o| String::from_utf8_lossy(&o.stdout).into_owned()).unwrap_or_default();
    let mirror = text.lines().next().filter(|l| l.starts_with("http")).unwrap_or(MIRROR_DEFAULT);
    format!("{}/", mirror.trim_end_matches('/'))
}
