//! `fleeti attest manufacturers`.

use super::server::{Server, block_on, refused};
use crate::CommandResult;
use crate::output::{Failure, Lines, Output, when};
use clap::Subcommand;
use fleeti_core::wire::attestation::{
    AddTpmManufacturers, MANUFACTURERS_FILE_MAX, TpmKind, TpmManufacturer, TpmManufacturers,
};
use std::path::PathBuf;

/// Manufacturers of TPMs that are believed.
#[derive(Subcommand)]
pub enum Command {
    /// List who is believed, with the chain of each, and the files that cannot be read.
    List {
        #[command(flatten)]
        server: Server,
    },
    /// Believe the manufacturers of a file: certificates of roots, or of authorities that sign
    /// endorsement certificates.
    ///
    /// The file is as the manufacturer publishes it: PEM, DER or PKCS#7. See
    /// docs/tpm-manufacturers.md for where.
    Add {
        /// The file.
        file: PathBuf,
        /// What they make: processor (fTPM, PTT), hardware (a chip) or virtual (software). Nobody
        /// else says so.
        #[arg(long)]
        kind: TpmKind,
        #[command(flatten)]
        server: Server,
    },
    /// Believe a manufacturer no more.
    Remove {
        /// SHA-256 of its certificate, or the first 8 digits of it or more.
        id: String,
        #[command(flatten)]
        server: Server,
    },
}

pub fn run(command: Command, output: &Output) -> CommandResult {
    match command {
        Command::List { server } => {
            let found =
                block_on(async { server.client()?.tpm_manufacturers().await.map_err(refused) })?;
            output.data(&found, listed);
        }
        Command::Add { file, kind, server } => {
            let failed = |e: std::io::Error| Failure::plain(format!("{}: {e}", file.display()));
            let length = std::fs::metadata(&file).map_err(failed)?.len();
            if length > MANUFACTURERS_FILE_MAX as u64 {
                return Err(Failure::plain(format!(
                    "{}: {length} bytes, {MANUFACTURERS_FILE_MAX} at the most",
                    file.display()
                )));
            }
            let request = AddTpmManufacturers {
                kind,
                file: fleeti_pki::base64_text(&std::fs::read(&file).map_err(failed)?),
            };
            let added = block_on(async {
                server.client()?.add_tpm_manufacturers(&request).await.map_err(refused)
            })?;
            output.data(&added, |added| {
                added.iter().fold(Lines::default(), |lines, m| {
                    lines.and("believed from now on:").and(described(m))
                })
            });
        }
        Command::Remove { id, server } => {
            let removed = block_on(async {
                server.client()?.remove_tpm_manufacturer(&id).await.map_err(refused)
            })?;
            output
                .data(&removed, |removed| Lines::from("believed no more:").and(described(removed)));
        }
    }
    Ok(())
}

fn listed(found: &TpmManufacturers) -> Lines {
    let left_out =
        found.left_out.iter().map(|l| vec![format!("left out: {}: {}", l.file, l.problem)]);
    let lines: Vec<_> =
        found.manufacturers.iter().map(described).chain(left_out).flatten().collect();
    if lines.is_empty() {
        "nobody is believed: a TPM is known by its keys alone".into()
    } else {
        lines.into()
    }
}

fn described(m: &TpmManufacturer) -> Vec<String> {
    let chain = match (m.chain.is_empty(), m.issuer == m.subject) {
        (true, true) => "a root".to_owned(),
        (true, false) => format!("issued by {}, which is not believed itself", m.issuer),
        (false, _) => format!("issued by {}", m.chain.join(" < ")),
    };
    vec![
        format!("{}  {}", m.kind.as_str(), m.subject),
        format!("  {chain}"),
        format!("  until {}, sha256 {}, in {}", when(m.not_after_s), m.id, m.file),
    ]
}
