//! Intermediate CAs of a running server: `fleeti pki request`, `fleeti pki bundle`.

use super::keys::{self, Passphrase, read, write};
use super::request::{block_on, refused};
use super::root::purpose_of;
use super::server::Server;
use crate::CommandResult;
use crate::output::{Failure, Lines, Output};
use clap::Subcommand;
use fleeti_core::strict;
use fleeti_core::wire::api::{ImportBundle, SwitchIssuer, TrustStatus};
use fleeti_pki::base64_text;
use fleeti_pki::certificate::Purpose;
use fleeti_pki::hierarchy::purpose;
use fleeti_pki::sealed;
use fleeti_pki::signer::token::{TokenKey, TokenUri};
use fleeti_pki::signer::{Algorithm, Signer, SoftKey};
use serde_json::json;
use std::path::{Path, PathBuf};

/// What to do with the trust bundle.
#[derive(Subcommand)]
pub enum Command {
    /// Publish the trust bundle of a root ceremony. Devices fetch it and report its version.
    Publish {
        /// The root's folder, or a copy of its `bundle.json`, `transcript` and `transcript.sig`.
        root: PathBuf,
        /// Publish even if devices have a certificate of a device intermediate CA that is no
        /// longer in the bundle. The server then refuses these certificates. A device with a TPM
        /// gets a new one by itself; one whose key is a file needs `fleeti device readmit`. All
        /// other checks of the bundle stay.
        #[arg(long)]
        anyway: bool,
        #[command(flatten)]
        server: Server,
    },
    /// Show which intermediate CAs are trusted, which ones issue certificates, and how many devices
    /// have the current bundle.
    Show {
        #[command(flatten)]
        server: Server,
    },
    /// Issue certificates with another intermediate CA of the bundle from now on. The server
    /// refuses while fewer than 99 % of the devices have installed the bundle, unless --anyway is
    /// given.
    Switch {
        /// Purpose of the intermediate CA.
        #[arg(value_parser = purpose_of)]
        purpose: Purpose,
        /// SHA-256 of its certificate, as in `fleeti pki bundle show`.
        certificate: String,
        /// Switch even if fewer than 99 % of the devices have installed the bundle.
        #[arg(long)]
        anyway: bool,
        #[command(flatten)]
        server: Server,
    },
}

/// Makes the key of a new intermediate CA beside the existing ones, and the certificate request for
/// the root CA.
pub fn request(
    pki: &Path,
    of: Purpose,
    uri: Option<&str>,
    passphrase: &Passphrase,
    output: &Output,
) -> CommandResult {
    let role = purpose::of_intermediate(of);
    let online = pki.join("online");
    let free = |n: &u32| !online.join(format!("{}.key", stem(role, *n))).exists();
    let number = (1..1000)
        .find(free)
        .ok_or_else(|| Failure::plain("the folder has 999 keys of this purpose already"))?;
    let name = stem(role, number);
    let (file, key): (Vec<u8>, Box<dyn Signer>) = match uri {
        Some(uri) => {
            let parsed: TokenUri = uri.parse().map_err(Failure::plain)?;
            if !parsed.is_for(role) {
                return Err(Failure::plain(format!(
                    "the token's object must be named {role} or {role}-SOMETHING"
                )));
            }
            let pin = match parsed.pin_source() {
                Some(path) => keys::read_secret(path)?,
                None => passphrase.read()?,
            };
            let key = TokenKey::generate(&parsed, &pin, Algorithm::P384).map_err(Failure::plain)?;
            (format!("{}\n", uri.trim()).into_bytes(), Box::new(key))
        }
        None => {
            let key = SoftKey::generate(Algorithm::P384).map_err(Failure::plain)?;
            let der = key.to_pkcs8_der().map_err(Failure::plain)?;
            (sealed::seal(&der, role, &passphrase.read()?).map_err(Failure::plain)?, Box::new(key))
        }
    };
    let csr = fleeti_pki::csr::create(key.as_ref()).map_err(Failure::plain)?;
    let (key_path, csr_path) =
        (online.join(format!("{name}.key")), pki.join(format!("{name}.csr")));
    write(&key_path, &file, true)?;
    write(&csr_path, csr.as_bytes(), false)?;
    let certificate = pki.join("public").join(format!("{name}.pem"));
    output.data(&json!({"key": key_path, "request": csr_path, "certificate": certificate}), |_| {
        let sign = format!(
            "`fleeti pki root sign ROOT {name}.csr --purpose {} --out {name}.pem --share ...`",
            of.as_str()
        );
        Lines::from(format!("made {} and {}", key_path.display(), csr_path.display()))
            .and(format!("  on the root CA's machine, run {sign}"))
            .and(format!(
                "  then copy {name}.pem to {} and restart the signing service",
                certificate.display()
            ))
    });
    Ok(())
}

/// File stem of the first, second, ... key of a purpose.
fn stem(role: &str, number: u32) -> String {
    if number == 1 { role.to_owned() } else { format!("{role}-{number}") }
}

pub fn run(command: Command, output: &Output) -> CommandResult {
    let status = match command {
        Command::Publish { root, anyway, server } => {
            let bundle =
                strict::from_slice(&read(&root.join("bundle.json"))?).map_err(Failure::plain)?;
            let transcript =
                String::from_utf8(read(&root.join("transcript"))?).map_err(Failure::plain)?;
            let import = ImportBundle {
                bundle,
                transcript,
                transcript_signature: base64_text(&read(&root.join("transcript.sig"))?),
                anyway,
            };
            block_on(async { server.client()?.import_bundle(&import).await.map_err(refused) })?
        }
        Command::Show { server } => {
            block_on(async { server.client()?.trust().await.map_err(refused) })?
        }
        Command::Switch { purpose, certificate, anyway, server } => {
            let switch = SwitchIssuer {
                purpose: purpose.as_str().to_owned(),
                certificate_sha256: certificate,
                anyway,
            };
            block_on(async { server.client()?.switch_issuer(&switch).await.map_err(refused) })?
        }
    };
    output.data(&status, describe);
    Ok(())
}

fn describe(s: &TrustStatus) -> Lines {
    let line = |i: &fleeti_core::wire::api::Intermediate| {
        let mark = if i.is_issuing { "issuing" } else { "trusted" };
        let key = if i.has_key { "" } else { ", the signing service has no key for it" };
        format!("  {:<9} {mark:<7} {}{key}", i.purpose, i.certificate_sha256)
    };
    let taken = match s.version {
        0 => {
            "no bundle is published; the intermediates of `fleeti pki init` are trusted".to_owned()
        }
        v => format!("bundle {v}, on {} of {} devices", s.devices_with_it, s.devices),
    };
    let warnings = s.warnings.iter().map(|warning| format!("warning: {warning}"));
    [taken]
        .into_iter()
        .chain(s.intermediates.iter().map(line))
        .chain(warnings)
        .collect::<Vec<_>>()
        .into()
}
