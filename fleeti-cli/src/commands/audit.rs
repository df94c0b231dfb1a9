//! `fleeti audit`.

use super::request::{block_on, refused};
use super::server::Server;
use crate::CommandResult;
use crate::output::{Failure, Lines, Output, rows, when};
use clap::Subcommand;
use fleeti_client::Client;
use fleeti_pki::audit::{Entry, Examination, Stage, verify_log_consistency, verify_proof};
use fleeti_pki::transparency::note::{LogKey, VerifiedCheckpoint};
use serde::Serialize;
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

/// What to do with the audit log.
#[derive(Subcommand)]
pub enum Command {
    /// List entries, oldest first.
    List {
        /// Number of the first entry.
        #[arg(long, default_value_t = 0)]
        from: u64,
        #[command(flatten)]
        server: Server,
    },
    /// Read the whole log and check that no entry was deleted, replaced or rewritten.
    ///
    /// The command reads every entry and compares the log with its signed checkpoint. With
    /// --remember, it also compares the log with the checkpoint of the previous run, and then
    /// stores the new one: each client that has verified the log before detects that the log was
    /// rewritten.
    Verify {
        /// The log's public key: audit.pub of the organisation's public folder.
        #[arg(long)]
        key: PathBuf,
        /// The log file in the signing service's folder, instead of the entries that the server
        /// sends.
        #[arg(long, requires = "checkpoint")]
        log: Option<PathBuf>,
        /// The checkpoint to compare --log with, such as the file `checkpoint` beside it.
        #[arg(long, requires = "log")]
        checkpoint: Option<PathBuf>,
        /// File with the checkpoint of the previous run; replaced by the new one.
        #[arg(long)]
        remember: Option<PathBuf>,
        #[command(flatten)]
        server: Server,
    },
    /// Verify that the log still begins with the log of an earlier checkpoint, by its consistency
    /// proof.
    ///
    /// The command reads no entries. `fleeti audit verify --remember FILE` writes the first
    /// checkpoint.
    Consistency {
        /// The log's public key: audit.pub of the organisation's public folder.
        #[arg(long)]
        key: PathBuf,
        /// File with the earlier checkpoint; replaced by the current one after the proof is verified.
        #[arg(long)]
        remember: PathBuf,
        #[command(flatten)]
        server: Server,
    },
    /// Show one entry and verify its inclusion proof.
    Prove {
        /// Number of the entry.
        number: u64,
        /// The log's public key: audit.pub of the organisation's public folder.
        #[arg(long)]
        key: PathBuf,
        #[command(flatten)]
        server: Server,
    },
}

/// What `fleeti audit verify` found.
#[derive(Serialize)]
struct Verified {
    log: String,
    entries: u64,
    signed_entries: u64,
    stated_s: u64,
    /// Number of entries in the checkpoint of the previous run.
    #[serde(skip_serializing_if = "Option::is_none")]
    remembered_entries: Option<u64>,
}

pub fn run(command: Command, output: &Output) -> CommandResult {
    match command {
        Command::List { from, server } => {
            let lines =
                block_on(async { server.client()?.audit_entries(from).await.map_err(refused) })?;
            let entries = lines
                .iter()
                .map(|l| Entry::parse(l.as_bytes()))
                .collect::<Result<Vec<_>, _>>()
                .map_err(Failure::plain)?;
            output.data(&entries, |list| rows(list, "no entries from this number on", describe));
            Ok(())
        }
        Command::Verify { key, log, checkpoint, remember, server } => {
            let key = read_key(&key)?;
            let Examined { examination, checkpoint: stated, note } = match (log, checkpoint) {
                (Some(log), Some(checkpoint)) => of_file(&key, &log, &checkpoint)?,
                _ => block_on(async { of_server(&key, &server.client()?).await })?,
            };
            examination.compare(&stated).map_err(tampered)?;
            let remembered =
                remember.as_deref().map(|path| remembered(&key, path)).transpose()?.flatten();
            if let Some(old) = &remembered {
                examination.compare(old).map_err(tampered)?;
            }
            if let Some(path) = &remember {
                remember_note(path, &note)?;
            }
            let found = Verified {
                log: key.name().to_owned(),
                entries: examination.size(),
                signed_entries: stated.checkpoint().size,
                stated_s: stated.stated_s(),
                remembered_entries: remembered.map(|c| c.checkpoint().size),
            };
            output.data(&found, |v| {
                let last = v
                    .remembered_entries
                    .map(|n| format!("; the first {n} are those of the previous run"))
                    .unwrap_or_default();
                format!(
                    "{} entries of {} are unchanged, {} of them are covered by the checkpoint{last}",
                    v.entries, v.log, v.signed_entries
                )
            });
            Ok(())
        }
        Command::Consistency { key, remember, server } => {
            consistency(&key, &remember, &server, output)
        }
        Command::Prove { number, key, server } => {
            let key = read_key(&key)?;
            let proof =
                block_on(async { server.client()?.audit_proof(number).await.map_err(refused) })?;
            let proved = verify_proof(&proof, &key).map_err(Failure::plain)?;
            output.data(proved.entry(), |entry| {
                let size = proved.checkpoint().checkpoint().size;
                Lines::from(describe(entry)).and(format!("the log of {size} entries contains it"))
            });
            Ok(())
        }
    }
}

fn tampered(e: impl std::fmt::Display) -> Failure {
    let hint = "copy the log and the checkpoint before you change anything, then find out who had write access";
    Failure::new(format!("the audit log was tampered with: {e}"), Some(hint))
}

fn remember_note(path: &Path, note: &str) -> CommandResult {
    fleeti_files::write_durably(path, note.as_bytes(), fleeti_files::PUBLIC)
        .map_err(|e| Failure::plain(format!("{}: {e}", path.display())))
}

/// What `fleeti audit consistency` verified.
#[derive(Serialize)]
struct Consistent {
    log: String,
    /// Number of entries in the earlier checkpoint.
    remembered_entries: u64,
    entries: u64,
    stated_s: u64,
}

fn consistency(key: &Path, path: &Path, server: &Server, output: &Output) -> CommandResult {
    let key = read_key(key)?;
    let old = remembered(&key, path)?.ok_or_else(|| {
        let hint = "write the first checkpoint with `fleeti audit verify --remember FILE`";
        Failure::new(format!("{} does not exist", path.display()), Some(hint))
    })?;
    let client = server.client()?;
    let note = block_on(async { client.audit_checkpoint().await.map_err(refused) })?;
    let new = key.verify(&note).map_err(Failure::plain)?;
    let (old_size, new_size) = (old.checkpoint().size, new.checkpoint().size);
    if new_size < old_size {
        let shorter = format!("the log has {new_size} entries, and had {old_size}");
        return Err(Failure::plain(format!("the audit log was tampered with: {shorter}")));
    }
    let proof =
        block_on(async { client.audit_consistency(old_size, new_size).await.map_err(refused) })?;
    verify_log_consistency(&old, &new, &proof.hashes).map_err(tampered)?;
    remember_note(path, &note)?;
    let found = Consistent {
        log: key.name().to_owned(),
        remembered_entries: old_size,
        entries: new_size,
        stated_s: new.stated_s(),
    };
    output.data(&found, |c| {
        format!(
            "the log {} has {} entries; the first {} are unchanged since the last check",
            c.log, c.entries, c.remembered_entries
        )
    });
    Ok(())
}

fn describe(entry: &Entry) -> String {
    let stage = match &entry.stage {
        Stage::Done => String::new(),
        Stage::Intent => " (intent)".to_owned(),
        Stage::Outcome { intent } => format!(" (outcome of intent {intent})"),
        Stage::Failed { intent, reason } => {
            format!(" (outcome of intent {intent}, failed: {reason})")
        }
    };
    let at = when(entry.at_s);
    format!(
        "{:>8}  {at}  {:<8} {:<24} {}{stage}",
        entry.number, entry.act.actor, entry.act.action, entry.act.subject
    )
}

pub fn read_key(path: &Path) -> Result<LogKey, Failure> {
    let wrong = |e: &dyn std::fmt::Display| {
        Failure::new(
            format!("{}: {e}", path.display()),
            Some("pass audit.pub from the `public` folder of `fleeti pki init`"),
        )
    };
    LogKey::from_text(&fs::read_to_string(path).map_err(|e| wrong(&e))?).map_err(|e| wrong(&e))
}

/// A log that was read, and the checkpoint that it is compared with.
struct Examined {
    examination: Examination,
    checkpoint: VerifiedCheckpoint,
    /// The checkpoint as a signed note.
    note: String,
}

fn of_file(key: &LogKey, log: &Path, checkpoint: &Path) -> Result<Examined, Failure> {
    let failed =
        |path: &Path, e: &dyn std::fmt::Display| Failure::plain(format!("{}: {e}", path.display()));
    let note = fs::read_to_string(checkpoint).map_err(|e| failed(checkpoint, &e))?;
    let checkpoint = key.verify(&note).map_err(|e| failed(checkpoint, &e))?;
    let mut examination = Examination::default();
    for line in BufReader::new(File::open(log).map_err(|e| failed(log, &e))?).split(b'\n') {
        examination.line(&line.map_err(|e| failed(log, &e))?).map_err(|e| failed(log, &e))?;
    }
    Ok(Examined { examination, checkpoint, note })
}

async fn of_server(key: &LogKey, client: &Client) -> Result<Examined, Failure> {
    // Fetch the checkpoint first: entries written after it are read as well, and not compared.
    let note = client.audit_checkpoint().await.map_err(refused)?;
    let checkpoint = key.verify(&note).map_err(Failure::plain)?;
    let mut examination = Examination::default();
    while examination.size() < checkpoint.checkpoint().size {
        let lines = client.audit_entries(examination.size()).await.map_err(refused)?;
        if lines.is_empty() {
            break;
        }
        for line in lines {
            examination.line(line.as_bytes()).map_err(Failure::plain)?;
        }
    }
    Ok(Examined { examination, checkpoint, note })
}

fn remembered(key: &LogKey, path: &Path) -> Result<Option<VerifiedCheckpoint>, Failure> {
    match fs::read_to_string(path) {
        Ok(note) => key
            .verify(&note)
            .map(Some)
            .map_err(|e| Failure::plain(format!("{}: {e}", path.display()))),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(Failure::plain(format!("{}: {e}", path.display()))),
    }
}
