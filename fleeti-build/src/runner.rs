//! The only trait that runs Nix.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Why a run of Nix failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// Nix could not be started.
    #[error("{program} could not be started: {source}")]
    Start {
        /// Name of the command.
        program: &'static str,
        /// Error of the operating system.
        source: std::io::Error,
    },
    /// Nix failed.
    #[error("{program} failed:\n{tail}")]
    Failed {
        /// Name of the command.
        program: &'static str,
        /// The last lines of its log.
        tail: String,
    },
    /// The log could not be written.
    #[error("the build log could not be written: {0}")]
    Log(std::io::Error),
}

/// Runs what planning decided.
pub trait Runner {
    /// Evaluates `file` with string arguments and returns the derivation of each attribute.
    ///
    /// # Errors
    /// [`RunError`] with the last lines of Nix's output.
    fn instantiate(
        &self,
        file: &Path,
        arguments: &[(&str, &str)],
        attributes: &[&str],
    ) -> Result<Vec<PathBuf>, RunError>;
    /// Builds derivations and returns an output path for each. Passes the lines of the log to
    /// `line` as they appear.
    ///
    /// # Errors
    /// [`RunError`] with the last lines of the log.
    fn realise(
        &self,
        derivations: &[PathBuf],
        check: bool,
        line: &mut dyn FnMut(&str),
    ) -> Result<Vec<PathBuf>, RunError>;
    /// The version of Nix, for example `2.8.0`.
    ///
    /// # Errors
    /// [`RunError::Start`] if Nix is not installed.
    fn version(&self) -> Result<String, RunError>;
}

/// Nix collects garbage when less than this is free where its store is, bytes. The build of an
/// image writes about 1 GiB.
const MIN_FREE: &str = "5368709120";
/// Nix collects garbage until this much is free, bytes.
const MAX_FREE: &str = "16106127360";

/// The Nix of this machine, with the sandbox on and no fallback.
///
/// Nix limits the size of its store: during a build it collects garbage when the disk gets full
/// (`min-free`, `max-free` in nix.conf(5)). As long as the directory of a build is where it was
/// made, its outputs and inputs are not garbage.
#[derive(Debug, Clone)]
pub struct Nix {
    roots: PathBuf,
}

impl Nix {
    /// Nix with garbage collector roots in this directory, which keep the outputs.
    #[must_use]
    pub fn new(roots: impl Into<PathBuf>) -> Self {
        Self { roots: roots.into() }
    }

    fn command(program: &'static str) -> Command {
        let mut command = Command::new(program);
        for (name, value) in [
            ("build-users-group", ""),
            ("sandbox", "true"),
            ("sandbox-fallback", "false"),
            ("substitute", "false"),
            ("sandbox-paths", ""),
            ("cores", "2"),
            ("max-jobs", "2"),
            ("min-free", MIN_FREE),
            ("max-free", MAX_FREE),
            ("keep-outputs", "true"),
        ] {
            command.args(["--option", name, value]);
        }
        command.env("LC_ALL", "C.UTF-8").stdin(Stdio::null());
        command
    }

    fn run(
        program: &'static str,
        mut command: Command,
        line: &mut dyn FnMut(&str),
    ) -> Result<Vec<PathBuf>, RunError> {
        let start = |source| RunError::Start { program, source };
        let mut child =
            command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().map_err(start)?;
        let mut tail = std::collections::VecDeque::new();
        // Nix prints a few paths to stdout at its end, so reading stderr first cannot block it.
        if let Some(stderr) = child.stderr.take() {
            for text in BufReader::new(stderr).lines().map_while(Result::ok) {
                line(&text);
                tail.push_back(text);
                if tail.len() > 30 {
                    tail.pop_front();
                }
            }
        }
        let output = child.wait_with_output().map_err(start)?;
        if !output.status.success() {
            return Err(RunError::Failed { program, tail: Vec::from(tail).join("\n") });
        }
        Ok(String::from_utf8_lossy(&output.stdout).lines().map(PathBuf::from).collect())
    }
}

impl Runner for Nix {
    fn instantiate(
        &self,
        file: &Path,
        arguments: &[(&str, &str)],
        attributes: &[&str],
    ) -> Result<Vec<PathBuf>, RunError> {
        let mut command = Self::command("nix-instantiate");
        command.arg(file);
        for (name, value) in arguments {
            command.args(["--argstr", name, value]);
        }
        for attribute in attributes {
            command.args(["-A", attribute]);
        }
        std::fs::create_dir_all(&self.roots).map_err(RunError::Log)?;
        command.arg("--add-root").arg(self.roots.join("drv"));
        let links = Self::run("nix-instantiate", command, &mut |_| {})?;
        Ok(links.into_iter().map(|l| std::fs::read_link(&l).unwrap_or(l)).collect())
    }

    fn realise(
        &self,
        derivations: &[PathBuf],
        check: bool,
        line: &mut dyn FnMut(&str),
    ) -> Result<Vec<PathBuf>, RunError> {
        let mut command = Self::command("nix-store");
        command.arg("--realise").args(derivations);
        if check {
            command.args(["--check", "--keep-failed"]);
        } else {
            command.arg("--add-root").arg(self.roots.join("out"));
        }
        let paths = Self::run("nix-store", command, line)?;
        Ok(paths.into_iter().map(|l| std::fs::read_link(&l).unwrap_or(l)).collect())
    }

    fn version(&self) -> Result<String, RunError> {
        let mut command = Command::new("nix-store");
        command.arg("--version");
        let lines = Self::run("nix-store", command, &mut |_| {})?;
        let text = lines.first().map(|l| l.display().to_string()).unwrap_or_default();
        Ok(text.rsplit(' ').next().unwrap_or_default().to_owned())
    }
}

/// Also writes every line to a file, so that the log exists even if the build is killed.
pub(crate) fn tee<'a>(
    file: &'a mut std::fs::File,
    line: &'a mut dyn FnMut(&str),
) -> impl FnMut(&str) + 'a {
    move |text| {
        // A failed write of the log must not stop the build.
        let _ = writeln!(file, "{text}");
        line(text);
    }
}
