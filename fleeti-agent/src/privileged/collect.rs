//! What the helper collects for a command: the log, a diagnostic of the image, a support bundle.
//!
//! The server chooses among what the image declares. No text of it becomes a command line: a unit
//! is checked by its form and follows `--unit=`, and diagnostics and keys are found by name.

use super::Collect;
use crate::{Paths, boot, image};
use anyhow::{Context, Result, bail, ensure};
use fleeti_core::command::log::{Digest, Line};
use fleeti_core::profile::Diagnostic;
use fleeti_core::size::bytes;
use fleeti_core::strict;
use fleeti_core::wire::command::{CommandKind, RESULT_MAX, UNIT_MAX, is_unit};
use fleeti_pki::recipient::Recipient;
use rustix::process::{Pid, Signal, kill_process_group};
use serde::{Deserialize, Serialize};
use std::fs;
use std::io::Read;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::time::timeout;

/// Maximum number of lines that are read of the journal: the newest.
const LINES_MAX: u32 = 50_000;
/// Maximum length of one entry of the journal, bytes.
const ENTRY_MAX: u64 = 256 << 10;
/// Time limit of reading the journal.
const READING: Duration = Duration::from_secs(60);
/// Time limit of each program whose output goes into a support bundle.
const STATING: Duration = Duration::from_secs(20);
/// Maximum size of a file in a support bundle, bytes.
const FILE_MAX: usize = 256 << 10;
/// Maximum size of the log in a support bundle, bytes.
const LOG_MAX: usize = 1 << 20;

/// A result, and what it is in words.
#[derive(Debug)]
pub struct Collected {
    /// The result.
    pub bytes: Vec<u8>,
    /// In words.
    pub detail: String,
}

/// Collects the result of a command.
///
/// # Errors
/// If the image does not declare what the command names, or it cannot be collected.
pub async fn collect(paths: &Paths, what: &Collect) -> Result<Collected> {
    match what {
        Collect::Logs { unit } => logs(paths, unit.as_deref()).await,
        Collect::Diagnostic { name } => diagnostic(paths, name).await,
        Collect::SupportBundle { key } => support_bundle(paths, key).await,
    }
}

async fn logs(paths: &Paths, unit: Option<&str>) -> Result<Collected> {
    let max = CommandKind::Logs { unit: None }.result_max();
    let digest = journal(paths, unit, max).await?;
    let (text, lines) = (digest.text(), digest.lines());
    ensure!(lines > 0, "the log of this boot has no line of {}", unit.unwrap_or("any unit"));
    let detail = format!("{lines} lines of this boot in {}", bytes(text.len() as u64));
    Ok(Collected { bytes: text.into_bytes(), detail })
}

/// Reads the journal of this boot, oldest first.
async fn journal(paths: &Paths, unit: Option<&str>, max: usize) -> Result<Digest> {
    let mut command = Command::new(&paths.journalctl);
    command.args(["--boot", "--no-pager", "--quiet", "--output=json"]);
    command.arg("--output-fields=MESSAGE,_SYSTEMD_UNIT,_PID,UNIT,SYSLOG_IDENTIFIER");
    command.arg(format!("--lines={LINES_MAX}"));
    if let Some(unit) = unit {
        ensure!(is_unit(unit), "{unit:?} is not a unit");
        command.arg(format!("--unit={unit}"));
    }
    let mut child = spawn(command.stderr(Stdio::null()))?;
    let output = child.stdout.take().context("journalctl has no output")?;
    let mut digest = Digest::new(max);
    timeout(READING, read_journal(BufReader::new(output), &mut digest))
        .await
        .context("the journal was not read in time")??;
    // Without a journal it says so and fails; what was read counts.
    if digest.lines() == 0 {
        let status = child.wait().await?;
        ensure!(status.success(), "journalctl: {status}");
    }
    Ok(digest)
}

async fn read_journal(
    mut output: impl tokio::io::AsyncBufRead + Unpin,
    digest: &mut Digest,
) -> Result<()> {
    let mut line = Vec::new();
    loop {
        line.clear();
        let read = (&mut output).take(ENTRY_MAX).read_until(b'\n', &mut line).await?;
        if read == 0 {
            return Ok(());
        }
        // An entry that is too long is skipped, and its rest is not read as another entry.
        if let Some(entry) = entry(&line) {
            digest.add(entry);
        }
    }
}

/// The fields of an entry (`systemd.journal-fields(7)`).
#[derive(Serialize, Deserialize)]
struct Entry {
    #[serde(rename = "__REALTIME_TIMESTAMP")]
    at_us: String,
    #[serde(rename = "MESSAGE", default, skip_serializing_if = "Option::is_none")]
    message: Option<Message>,
    #[serde(rename = "_SYSTEMD_UNIT", default, skip_serializing_if = "Option::is_none")]
    unit: Option<String>,
    /// The unit that a line of systemd is about.
    #[serde(rename = "UNIT", default, skip_serializing_if = "Option::is_none")]
    about: Option<String>,
    /// Trusted, as the unit is: any program can write the fields without an underscore.
    #[serde(rename = "_PID", default, skip_serializing_if = "Option::is_none")]
    pid: Option<String>,
    #[serde(rename = "SYSLOG_IDENTIFIER", default, skip_serializing_if = "Option::is_none")]
    identifier: Option<String>,
}

/// Text, or bytes that are not UTF-8.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Message {
    Text(String),
    Bytes(Vec<u8>),
}

fn entry(line: &[u8]) -> Option<Line> {
    let Entry { at_us, message, unit, about, pid, identifier } = strict::from_slice(line).ok()?;
    let message = match message? {
        Message::Text(text) => text,
        Message::Bytes(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
    };
    // Only systemd says what happened to other units.
    let about = about.filter(|_| pid.as_deref() == Some("1"));
    let unit = about.or(unit).or(identifier).unwrap_or_else(|| "unknown".to_owned());
    let unit = unit.chars().filter(|c| !c.is_control()).take(UNIT_MAX).collect();
    Some(Line { at_us: at_us.parse().ok()?, unit, message })
}

/// The process group of a program that runs: stopped with all that it started, unless it has ended.
struct Group(Option<Pid>);

impl Group {
    fn of(child: &Child) -> Self {
        Self(child.id().and_then(|id| Pid::from_raw(id.try_into().ok()?)))
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(group) = self.0.take() {
            // Ignore the error: it may have ended meanwhile.
            kill_process_group(group, Signal::KILL).ok();
        }
    }
}

/// Starts a program that ends with its handle.
fn spawn(command: &mut Command) -> Result<Child> {
    let command = command.stdin(Stdio::null()).stdout(Stdio::piped()).kill_on_drop(true);
    command.process_group(0);
    command.spawn().with_context(|| command.as_std().get_program().display().to_string())
}

async fn diagnostic(paths: &Paths, name: &str) -> Result<Collected> {
    let declared = image::facts(paths)?.diagnostics;
    let Some(Diagnostic { command, timeout_s, .. }) = declared.iter().find(|d| d.name == name)
    else {
        bail!("the image declares no diagnostic {name}");
    };
    let (program, arguments) = command.split_first().context("the diagnostic has no command")?;
    let mut command = Command::new(program);
    command.args(arguments).env_clear().env("PATH", "/usr/sbin:/usr/bin").env("LC_ALL", "C.UTF-8");
    let max = CommandKind::Diagnostic { name: String::new() }.result_max();
    let limit = Duration::from_secs((*timeout_s).into());
    let (status, output) = run(&mut command, max - 200, limit).await?;
    let detail = format!("{status}, {}", bytes(output.len() as u64));
    let bytes = [format!("{status}\n").as_bytes(), &output].concat();
    Ok(Collected { bytes, detail })
}

/// Runs a program. Returns how it ended, and the beginning of its output and errors.
async fn run(command: &mut Command, max: usize, limit: Duration) -> Result<(String, Vec<u8>)> {
    let mut child = spawn(command.stderr(Stdio::piped()))?;
    let mut group = Group::of(&child);
    let (out, err) = (child.stdout.take(), child.stderr.take());
    let (out, err) = (out.context("no output")?, err.context("no errors")?);
    let mut kept = (Vec::new(), Vec::new());
    let all = async {
        let both = tokio::join!(read_some(out, max, &mut kept.0), read_some(err, max, &mut kept.1));
        both.0.and(both.1)?;
        anyhow::Ok(child.wait().await?)
    };
    let status = match timeout(limit, all).await {
        Ok(status) => {
            let status = status?.to_string();
            group.0 = None;
            status
        }
        Err(_) => {
            drop(group);
            child.kill().await.ok();
            format!("no end in {} s", limit.as_secs())
        }
    };
    let (mut output, errors) = kept;
    output.truncate(if errors.is_empty() { max } else { max / 2 });
    let room = max - output.len();
    output.extend(errors.into_iter().take(room));
    Ok((status, output))
}

/// Reads to the end and keeps the beginning: a program that nobody reads would wait forever.
async fn read_some(mut from: impl AsyncRead + Unpin, max: usize, kept: &mut Vec<u8>) -> Result<()> {
    let mut buffer = vec![0; 8 << 10];
    loop {
        let read = from.read(&mut buffer).await?;
        if read == 0 {
            return Ok(());
        }
        let room = max - kept.len();
        kept.extend_from_slice(&buffer[..read.min(room)]);
    }
}

async fn support_bundle(paths: &Paths, key: &str) -> Result<Collected> {
    let keys = image::facts(paths)?.support_keys;
    let found = keys.iter().find(|k| k.name == key);
    let found = found.with_context(|| format!("the image has no support key {key}"))?;
    let recipient = Recipient::from_armored(&found.key).context("the support key")?;
    let mut log_max = LOG_MAX;
    loop {
        let files = files(paths, log_max).await?;
        let archive = archive(&files)?;
        let encrypted = recipient.encrypt("support.tar", archive)?;
        // Text becomes much smaller; what does not is left out from its largest file.
        if encrypted.len() <= RESULT_MAX {
            let size = bytes(encrypted.len() as u64);
            let detail = format!(
                "{} files in {size}, encrypted to {}",
                files.len(),
                recipient.fingerprint()
            );
            return Ok(Collected { bytes: encrypted, detail });
        }
        ensure!(log_max > 0, "the support bundle is larger than {}", bytes(RESULT_MAX as u64));
        log_max = if log_max > 64 << 10 { log_max / 2 } else { 0 };
    }
}

type Files = Vec<(&'static str, Vec<u8>)>;

/// The files of a bundle: what an image is, what booted, what runs, and the log. No secrets: those
/// are on paths that none of them reads.
async fn files(paths: &Paths, log_max: usize) -> Result<Files> {
    let mut files: Files = Vec::new();
    for (name, path) in [
        ("os-release", paths.os_release.clone()),
        ("image.json", paths.lib.join("image.json")),
        ("meminfo", "/proc/meminfo".into()),
        ("mounts", "/proc/self/mounts".into()),
        ("cmdline", "/proc/cmdline".into()),
        ("routes", "/proc/net/route".into()),
    ] {
        files.push((name, read_file(&path).unwrap_or_else(|e| e.into_bytes())));
    }
    let boot = match boot::summary(paths) {
        Ok(summary) => serde_json::to_vec_pretty(&summary)?,
        Err(e) => format!("{e:#}\n").into_bytes(),
    };
    files.push(("boot.json", boot));
    for (name, program, arguments) in [
        ("units", "/usr/bin/systemctl", &["--no-pager", "--plain", "list-units", "--all"][..]),
        ("disks", "/usr/bin/df", &["--human-readable"][..]),
    ] {
        let mut command = Command::new(program);
        let text = match run(command.args(arguments), FILE_MAX, STATING).await {
            Ok((status, output)) => [format!("{status}\n").as_bytes(), &output].concat(),
            Err(e) => format!("{e:#}\n").into_bytes(),
        };
        files.push((name, text));
    }
    let log = match journal(paths, None, log_max).await {
        Ok(digest) => digest.text(),
        Err(e) => format!("{e:#}\n"),
    };
    files.push(("log", log.into_bytes()));
    Ok(files)
}

fn read_file(path: &Path) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    let max = u64::try_from(FILE_MAX).unwrap_or(u64::MAX);
    fs::File::open(path)
        .and_then(|file| file.take(max).read_to_end(&mut bytes))
        .map_err(|e| format!("{}: {e}\n", path.display()))?;
    Ok(bytes)
}

fn archive(files: &Files) -> Result<Vec<u8>> {
    let mut archive = tar::Builder::new(Vec::new());
    for (name, content) in files {
        let mut header = tar::Header::new_ustar();
        header.set_mode(0o600);
        header.set_size(content.len() as u64);
        archive.append_data(&mut header, format!("support/{name}"), content.as_slice())?;
    }
    Ok(archive.into_inner()?)
}
