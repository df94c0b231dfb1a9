//! The evidence of a release.

use crate::CommandResult;
use crate::commands::audit::read_key;
use crate::commands::keys;
use crate::commands::server::Server;
use crate::output::{Failure, Lines, Output, when};
use clap::Args;
use fleeti_core::foreign::Foreign;
use fleeti_core::id::ReleaseName;
use fleeti_core::wire::evidence::{ReleaseEvidence, Searched};
use fleeti_pki::audit::{Entry, verify_proof};
use std::path::PathBuf;

/// Get the evidence of a release as one file: who requested, approved and signed it, its rollouts, what
/// devices proved when, and the audit entries about all of that.
///
/// With --key, the command verifies the inclusion proof of each entry, and writes nothing if one does
/// not verify.
#[derive(Args)]
pub struct EvidenceArgs {
    /// The release, as in `kiosk@2`.
    release: ReleaseName,
    /// The log's public key: audit.pub of the organisation's public folder.
    #[arg(long)]
    key: Option<PathBuf>,
    /// Output file, JSON.
    #[arg(long)]
    out: PathBuf,
    #[command(flatten)]
    server: Server,
}

pub fn get(arguments: &EvidenceArgs, output: &Output) -> CommandResult {
    let EvidenceArgs { release, key, out, server } = arguments;
    let found = server.ask(async |c| c.release_evidence(release).await)?;
    let proved = key.as_deref().map(|path| verify(&found, &read_key(path)?)).transpose()?;
    keys::replace(out, &serde_json::to_vec_pretty(&found).map_err(Failure::plain)?)?;
    let data = serde_json::json!({"file": out, "entries": found.entries.len(), "entries_proved": proved,
        "devices_proved": found.proved});
    output.data(&data, |_| describe(&found, out.display().to_string(), proved));
    Ok(())
}

/// Verifies the inclusion proof of each entry. Returns their number.
fn verify(
    found: &ReleaseEvidence,
    key: &fleeti_pki::transparency::note::LogKey,
) -> Result<usize, Failure> {
    for proof in &found.entries {
        verify_proof(proof, key).map_err(Failure::plain)?;
    }
    Ok(found.entries.len())
}

fn describe(found: &ReleaseEvidence, file: String, proved: Option<usize>) -> Lines {
    let entries = found.entries.iter().filter_map(|p| Entry::parse(p.entry.as_bytes()).ok());
    let row = |entry: Entry| {
        let act = &entry.act;
        let (actor, subject) = (Foreign::log(&act.actor), Foreign::log(&act.subject));
        format!("{:<18} {:<18} {actor:<16} {subject}", when(entry.at_s), act.action)
    };
    let checked = match proved {
        Some(count) => format!("{count} entries of the audit log are proved by {file}"),
        None => format!("wrote {file}; verify its audit entries with --key"),
    };
    let Searched { from, until, size, left_out } = found.searched;
    let devices = format!("{} devices have proved {}", found.proved, found.release.name);
    let lines = Lines::from(checked).and(devices).and(entries.map(row).collect::<Vec<_>>());
    if from == 0 && until == size && left_out == 0 {
        return lines;
    }
    lines.and(format!(
        "entries {from} to {until} of {size} were searched, and {left_out} that were found are left out"
    ))
}
