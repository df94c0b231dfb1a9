//! Debian's own apt, in a private directory: it never touches the packages and sources of the host.

use crate::cache::Cache;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The Debian suite of the base.
pub const SUITE: &str = "trixie";
/// dpkg's name for the architecture of the base.
pub const ARCHITECTURE: &str = "amd64";
/// Largest list of a repository that is read, bytes.
const LIST_MAX: u64 = 128 << 20;

/// Why apt did not do its work.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AptError {
    #[error("{program} failed: {detail}")]
    Program { program: &'static str, detail: String },
    #[error("{path}: {source}")]
    Io { path: PathBuf, source: std::io::Error },
}

impl AptError {
    fn program(program: &'static str, detail: impl std::fmt::Display) -> Self {
        Self::Program { program, detail: detail.to_string() }
    }
}

fn io(path: &Path) -> impl FnOnce(std::io::Error) -> AptError {
    let path = path.to_owned();
    |source| AptError::Io { path, source }
}

/// apt with a private configuration and state.
pub(crate) struct Apt {
    root: PathBuf,
}

impl Apt {
    /// apt with the state `name` in the cache. `sources` is its sources.list(5); `more` is added to
    /// its configuration.
    pub(crate) fn new(
        cache: &Cache,
        name: &str,
        sources: &str,
        more: &str,
    ) -> Result<Self, AptError> {
        let root = cache.root().join("apt").join(name);
        for sub in ["state/lists/partial", "cache/archives/partial", "log", "etc"] {
            let dir = root.join(sub);
            fs::create_dir_all(&dir).map_err(io(&dir))?;
        }
        let apt = Self { root };
        apt.write("status", "")?;
        apt.write("preferences", "")?;
        apt.write("sources.list", sources)?;
        let root = apt.root.display();
        apt.write(
            "apt.conf",
            &format!(
                "Dir \"{root}\";\nDir::State \"{root}/state\";\nDir::State::status \"{root}/status\";\n\
                 Dir::Cache \"{root}/cache\";\nDir::Log \"{root}/log\";\nDir::Etc \"{root}/etc\";\n\
                 Dir::Etc::sourcelist \"{root}/sources.list\";\nDir::Etc::sourceparts \"/dev/null\";\n\
                 Dir::Etc::parts \"/dev/null\";\nDir::Etc::preferencesparts \"/dev/null\";\n\
                 Dir::Etc::preferences \"{root}/preferences\";\n\
                 APT::Architecture \"{ARCHITECTURE}\";\nAPT::Architectures {{ \"{ARCHITECTURE}\"; }};\n\
                 APT::Install-Recommends \"false\";\nAPT::Sandbox::User \"root\";\nAcquire::Languages \"none\";\n\
                 Acquire::Retries \"3\";\nAcquire::AllowInsecureRepositories \"false\";\n\
                 Acquire::AllowWeakRepositories \"false\";\n\
                 Acquire::AllowDowngradeToInsecureRepositories \"false\";\n\
                 APT::Update::Error-Mode \"any\";\n{more}"
            ),
        )?;
        Ok(apt)
    }

    /// apt with the configuration that it had before.
    pub(crate) fn before(cache: &Cache, name: &str) -> Self {
        Self { root: cache.root().join("apt").join(name) }
    }

    /// Path of a file of this apt.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// Writes a file of this apt.
    pub(crate) fn write(&self, name: &str, text: &str) -> Result<PathBuf, AptError> {
        let path = self.path(name);
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).map_err(io(folder))?;
        }
        fs::write(&path, text).map_err(io(&path)).map(|()| path)
    }

    /// A program of apt with this configuration.
    pub(crate) fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command
            .env("APT_CONFIG", self.path("apt.conf"))
            .env("LC_ALL", "C.UTF-8")
            .stdin(Stdio::null());
        command
    }

    /// Runs apt-get, and returns its output.
    pub(crate) fn run(&self, arguments: &[&str]) -> Result<String, AptError> {
        self.output("apt-get", arguments)
    }

    /// Runs a program of apt, and returns its output.
    pub(crate) fn output(
        &self,
        program: &'static str,
        arguments: &[&str],
    ) -> Result<String, AptError> {
        let failed = |detail: String| AptError::Program { program, detail };
        let output =
            self.command(program).args(arguments).output().map_err(|e| failed(e.to_string()))?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        if output.status.success() {
            return Ok(text);
        }
        // apt-get prints which dependencies are not met to its standard output.
        let unmet = text.split_once("unmet dependencies:\n").map_or("", |(_, unmet)| unmet);
        let errors = String::from_utf8_lossy(&output.stderr);
        Err(failed(format!("{}\n{unmet}", errors.trim()).trim().to_owned()))
    }

    /// The text of a list, however it is compressed.
    pub(crate) fn list(&self, path: &str) -> Result<String, AptError> {
        let failed = |detail: String| AptError::program("apt-helper", detail);
        let mut child = self
            .command("/usr/lib/apt/apt-helper")
            .args(["cat-file", path])
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|e| failed(e.to_string()))?;
        let mut bytes = Vec::new();
        if let Some(output) = child.stdout.take() {
            output.take(LIST_MAX + 1).read_to_end(&mut bytes).map_err(|e| failed(e.to_string()))?;
        }
        let status = child.wait().map_err(|e| failed(e.to_string()))?;
        if bytes.len() as u64 > LIST_MAX {
            return Err(failed(format!("{path} has more than {LIST_MAX} bytes")));
        }
        if !status.success() {
            return Err(failed(format!("{path}: {status}")));
        }
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }
}
