//! A run of the evaluator, with limits: the text of a profile is code there.

use super::error::EvaluationError;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::retry_on_intr;
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use std::io::Read;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

/// Address space of an evaluation, bytes. One of an ordinary profile takes a tenth of it.
const MEMORY_MAX: u64 = 4 << 30;
/// Processor time of an evaluation, seconds.
const CPU_S_MAX: u64 = 30;
/// Time of an evaluation, which may wait for a processor.
const TIME_MAX: Duration = Duration::from_secs(300);
/// Longest report, bytes.
const OUTPUT_MAX: u64 = 16 << 20;
/// Longest text of errors, bytes.
const ERRORS_MAX: u64 = 1 << 20;

/// What an evaluation wrote.
pub(super) struct Output {
    pub(super) is_success: bool,
    pub(super) stdout: Vec<u8>,
    pub(super) stderr: String,
}

/// Runs `nix-instantiate` on `nixos/evaluate.nix` below `work`. It reads files of `work` and `tree`
/// only, builds nothing, writes to no store and fetches nothing.
pub(super) fn run(work: &Path, tree: &Path, extension: bool) -> Result<Output, EvaluationError> {
    let mut command = Command::new("prlimit");
    command
        .arg(format!("--as={MEMORY_MAX}"))
        .arg(format!("--cpu={CPU_S_MAX}"))
        .args(["--core=0", "--", "nix-instantiate", "--eval", "--strict", "--json"])
        .args(["--readonly-mode", "--store", "dummy://"]);
    for (name, value) in [
        ("restrict-eval", "true"),
        ("allow-import-from-derivation", "false"),
        ("allowed-uris", ""),
        ("build-users-group", ""),
    ] {
        command.args(["--option", name, value]);
    }
    command.arg("-I").arg(work).arg("-I").arg(tree).arg(work.join("nixos/evaluate.nix"));
    let mut path = |name: &str, value: &Path| {
        command.arg("--arg").arg(name).arg(quoted(value));
    };
    path("nixpkgs", tree);
    path("input", &work.join("input.json"));
    path("names", &work.join("names.json"));
    if extension {
        path("extension", &work.join("extension.nix"));
    }
    // Nix reads no configuration of the machine but its own, and no variables.
    let search = std::env::var_os("PATH").unwrap_or_default();
    command.env_clear().env("PATH", search).env("LC_ALL", "C.UTF-8").env("HOME", work);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    wait(command.spawn().map_err(EvaluationError::Start)?)
}

/// A path as an expression of the Nix language: a string would lose that it is a path.
fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let escaped = text.replace('\\', "\\\\").replace('"', "\\\"").replace("${", "\\${");
    format!("/. + \"{escaped}\"")
}

/// Whether a process ends within a time.
fn ends_within(child: &Child, time: Duration) -> std::io::Result<bool> {
    let process = pidfd_open(Pid::from_child(child), PidfdFlags::empty())?;
    let until = Timespec { tv_sec: time.as_secs().cast_signed(), tv_nsec: 0 };
    let ended = retry_on_intr(|| poll(&mut [PollFd::new(&process, PollFlags::IN)], Some(&until)))?;
    Ok(ended > 0)
}

fn wait(mut child: Child) -> Result<Output, EvaluationError> {
    let stdout = child.stdout.take().map(|stream| read(stream, OUTPUT_MAX));
    let stderr = child.stderr.take().map(|stream| read(stream, ERRORS_MAX));
    let is_late = !ends_within(&child, TIME_MAX).map_err(EvaluationError::Start)?;
    if is_late {
        child.kill().map_err(EvaluationError::Start)?;
    }
    let status = child.wait().map_err(EvaluationError::Start)?;
    if is_late {
        return Err(EvaluationError::Limit);
    }
    let text = |handle: Option<thread::JoinHandle<Vec<u8>>>| {
        handle.and_then(|handle| handle.join().ok()).unwrap_or_default()
    };
    let (stdout, stderr) = (text(stdout), text(stderr));
    // Without a status it was ended by a signal, as it is over its processor time.
    if status.code().is_none() || stdout.len() as u64 > OUTPUT_MAX {
        return Err(EvaluationError::Limit);
    }
    let stderr = String::from_utf8_lossy(&stderr).into_owned();
    Ok(Output { is_success: status.success(), stdout, stderr })
}

/// Reads a stream to its limit and one byte, and the rest to nowhere, so that the writer ends.
fn read(stream: impl Read + Send + 'static, max: u64) -> thread::JoinHandle<Vec<u8>> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        let mut limited = stream.take(max + 1);
        // What could not be read is missing, and the report does not parse.
        let _ = limited.read_to_end(&mut bytes);
        let _ = std::io::copy(&mut limited.into_inner(), &mut std::io::sink());
        bytes
    })
}
