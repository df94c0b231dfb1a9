//! `fleeti attest manufacturers`.

use super::request::{block_on, refused};
use super::server::Server;
use crate::CommandResult;
use crate::output::{Failure, Lines, Output, when};
use clap::Subcommand;
use fleeti_core::wire::attestation::{
    AddTpmManufacturers, MANUFACTURERS_FILE_MAX, TpmKind, TpmManufacturer, TpmManufacturers,
};
use std::path::PathBuf;

/// TPM manufacturers that the server trusts.
#[derive(Subcommand)]
pub enum Command {
    /// List the trusted TPM manufacturers with their certificate chains, and the files that the
    /// server cannot read.
    List {
        #[command(flatten)]
        server: Server,
    },
    /// Trust the TPM manufacturers of a file: their root certificates, or certificates of CAs that
    /// sign endorsement certificates.
    ///
    /// The file may be PEM, DER or PKCS#7, as the manufacturer publishes it. For the addresses, see
    /// docs/guides/tpm-manufacturers.md.
    Add {
        /// The certificate file.
        file: PathBuf,
        /// Kind of their TPMs: processor (fTPM, PTT), hardware (a chip) or virtual (software). The
        /// certificates do not say.
        #[arg(long)]
        kind: TpmKind,
        #[command(flatten)]
        server: Server,
    },
    /// Stop trusting a TPM manufacturer.
    Remove {
        /// SHA-256 of its certificate, or at least the first 8 digits.
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
                    "{}: {length} bytes, expected at most {MANUFACTURERS_FILE_MAX}",
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
                    lines.and("trusted from now on:").and(described(m))
                })
            });
        }
        Command::Remove { id, server } => {
            let removed = block_on(async {
                server.client()?.remove_tpm_manufacturer(&id).await.map_err(refused)
            })?;
            output.data(&removed, |removed| {
                Lines::from("no longer trusted:").and(described(removed))
            });
        }
    }
    Ok(())
}

fn listed(found: &TpmManufacturers) -> Lines {
    let left_out =
        found.left_out.iter().map(|l| vec![format!("skipped: {}: {}", l.file, l.problem)]);
    let lines: Vec<_> =
        found.manufacturers.iter().map(described).chain(left_out).flatten().collect();
    if lines.is_empty() {
        "no trusted TPM manufacturers: the server knows TPMs by their keys only".into()
    } else {
        lines.into()
    }
}

fn described(m: &TpmManufacturer) -> Vec<String> {
    let chain = match (m.chain.is_empty(), m.issuer == m.subject) {
        (true, true) => "a root".to_owned(),
        (true, false) => format!("issued by {}, which is not trusted", m.issuer),
        (false, _) => format!("issued by {}", m.chain.join(" < ")),
    };
    vec![
        format!("{}  {}", m.kind.as_str(), m.subject),
        format!("  {chain}"),
        format!("  until {}, sha256 {}, in {}", when(m.not_after_s), m.id, m.file),
    ]
}
