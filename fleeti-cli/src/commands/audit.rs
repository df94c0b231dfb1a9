//! `fleeti audit`.

use super::server::{Server, block_on, refused};
use crate::CommandResult;
use crate::output::{Failure, Lines, Output, rows, when};
use clap::Subcommand;
use fleeti_client::Client;
use fleeti_pki::audit::{Entry, Examination, Stage, verify_proof};
use fleeti_pki::transparency::note::{LogKey, VerifiedCheckpoint};
use serde::Serialize;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};

/// What to do with the audit log.
#[derive(Subcommand)]
pub enum Command {
    /// List entries, oldest first.
    List {
        /// Number of the first one.
        #[arg(long, default_value_t = 0)]
        from: u64,
        #[command(flatten)]
        server: Server,
    },
    /// Read the whole log and find out whether anything was deleted, exchanged, cut off or
    /// rewritten.
    ///
    /// Every entry is read and compared with the log's signed statement. With --remember, also with
    /// the statement of last time, and the new one takes its place: whoever rewrites the log is
    /// found out by everybody who has looked before.
    Verify {
        /// The log's public key: audit.pub of the organisation's public folder.
        #[arg(long)]
        key: PathBuf,
        /// The log's own file, in the signer's folder, instead of the server's answers.
        #[arg(long, requires = "checkpoint")]
        log: Option<PathBuf>,
        /// A signed statement to compare --log with, such as the file `checkpoint` beside it.
        #[arg(long, requires = "log")]
        checkpoint: Option<PathBuf>,
        /// A file with the statement of last time; it is replaced by the new one.
        #[arg(long)]
        remember: Option<PathBuf>,
        #[command(flatten)]
        server: Server,
    },
    /// Show one entry and verify the proof that it is in the log.
    Prove {
        /// The entry's number.
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
    /// Entries of the statement of last time.
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
            output
                .data(&entries, |list| rows(list, "there are no entries from there on", describe));
            Ok(())
        }
        Command::Verify { key, log, checkpoint, remember, server } => {
            let key = read_key(&key)?;
            let (examination, stated, note) = match (log, checkpoint) {
                (Some(log), Some(checkpoint)) => of_file(&key, &log, &checkpoint)?,
                _ => block_on(async { of_server(&key, &server.client()?).await })?,
            };
            let tampered = |e| {
                let hint = "keep a copy of the log and of the statement before you change anything, and find out who could write there";
                Failure::new(format!("the audit log was tampered with: {e}"), Some(hint))
            };
            examination.compare(&stated).map_err(tampered)?;
            let remembered =
                remember.as_deref().map(|path| remembered(&key, path)).transpose()?.flatten();
            if let Some(old) = &remembered {
                examination.compare(old).map_err(tampered)?;
            }
            if let Some(path) = &remember {
                write_whole(path, &note)
                    .map_err(|e| Failure::plain(format!("{}: {e}", path.display())))?;
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
                    .map(|n| format!("; it begins with the {n} of last time"))
                    .unwrap_or_default();
                format!(
                    "{} entries of {} are as they were written, {} of them signed{last}",
                    v.entries, v.log, v.signed_entries
                )
            });
            Ok(())
        }
        Command::Prove { number, key, server } => {
            let key = read_key(&key)?;
            let proof =
                block_on(async { server.client()?.audit_proof(number).await.map_err(refused) })?;
            let proved = verify_proof(&proof, &key).map_err(Failure::plain)?;
            output.data(proved.entry(), |entry| {
                let size = proved.checkpoint().checkpoint().size;
                Lines::from(describe(entry)).and(format!("it is in the log of {size} entries"))
            });
            Ok(())
        }
    }
}

fn describe(entry: &Entry) -> String {
    let stage = match &entry.stage {
        Stage::Done => String::new(),
        Stage::Intent => " (intent)".to_owned(),
        Stage::Outcome { intent } => format!(" (as intended in {intent})"),
        Stage::Failed { intent, reason } => format!(" (intended in {intent}, failed: {reason})"),
    };
    let at = when(entry.at_s);
    format!(
        "{:>8}  {at}  {:<8} {:<24} {}{stage}",
        entry.number, entry.act.actor, entry.act.action, entry.act.subject
    )
}

fn read_key(path: &Path) -> Result<LogKey, Failure> {
    let wrong = |e: &dyn std::fmt::Display| {
        Failure::new(
            format!("{}: {e}", path.display()),
            Some("name audit.pub of `fleeti pki init`"),
        )
    };
    LogKey::from_text(&fs::read_to_string(path).map_err(|e| wrong(&e))?).map_err(|e| wrong(&e))
}

type Examined = (Examination, VerifiedCheckpoint, String);

fn of_file(key: &LogKey, log: &Path, checkpoint: &Path) -> Result<Examined, Failure> {
    let failed =
        |path: &Path, e: &dyn std::fmt::Display| Failure::plain(format!("{}: {e}", path.display()));
    let note = fs::read_to_string(checkpoint).map_err(|e| failed(checkpoint, &e))?;
    let stated = key.verify(&note).map_err(|e| failed(checkpoint, &e))?;
    let mut examination = Examination::default();
    for line in BufReader::new(File::open(log).map_err(|e| failed(log, &e))?).split(b'\n') {
        examination.line(&line.map_err(|e| failed(log, &e))?).map_err(|e| failed(log, &e))?;
    }
    Ok((examination, stated, note))
}

async fn of_server(key: &LogKey, client: &Client) -> Result<Examined, Failure> {
    // The statement first: what is entered meanwhile is read as well, and not compared.
    let note = client.audit_checkpoint().await.map_err(refused)?;
    let stated = key.verify(&note).map_err(Failure::plain)?;
    let mut examination = Examination::default();
    while examination.size() < stated.checkpoint().size {
        let lines = client.audit_entries(examination.size()).await.map_err(refused)?;
        if lines.is_empty() {
            break;
        }
        for line in lines {
            examination.line(line.as_bytes()).map_err(Failure::plain)?;
        }
    }
    Ok((examination, stated, note))
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

/// The old statement or the new one, whatever happens meanwhile.
fn write_whole(path: &Path, text: &str) -> std::io::Result<()> {
    let part = path.with_extension("part");
    let mut file = File::create(&part)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(part, path)
}
