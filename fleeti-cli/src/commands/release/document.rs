//! Documents of a published release, verified by the release keys.

use crate::CommandResult;
use crate::commands::keys;
use crate::commands::request::{block_on, refused};
use crate::commands::server::Server;
use crate::output::{Failure, Output};
use clap::Args;
use fleeti_client::{Client, ClientError};
use fleeti_core::canonical::sha256_hex;
use fleeti_core::id::ReleaseName;
use fleeti_core::manifest::{Artifact, Manifest};
use fleeti_pki::manifest::{ReleaseKeys, Signature, Verified, verify};
use std::path::{Path, PathBuf};

/// What to get, and by whose keys to verify it.
#[derive(Args)]
pub struct Document {
    /// The release, as in `kiosk@2`.
    release: ReleaseName,
    /// The `public` folder of the PKI.
    #[arg(long)]
    trust: PathBuf,
    /// Output file.
    #[arg(long)]
    out: PathBuf,
    #[command(flatten)]
    server: Server,
}

/// The release keys of a `public` folder.
pub fn release_keys(trust: &Path) -> Result<ReleaseKeys, Failure> {
    let path = trust.join("release.pem");
    let text = std::fs::read_to_string(&path)
        .map_err(|e| Failure::plain(format!("{}: {e}", path.display())))?;
    ReleaseKeys::from_pem(&text).map_err(Failure::plain)
}

/// The kind of a document.
#[derive(Clone, Copy)]
pub struct Kind {
    pub name: &'static str,
    pub find: fn(&Manifest) -> Option<&Artifact>,
}

pub const SBOM: Kind = Kind { name: "SBOM", find: Manifest::sbom };
pub const PROVENANCE: Kind = Kind { name: "provenance", find: Manifest::provenance };

pub fn get(kind: Kind, arguments: &Document, output: &Output) -> CommandResult {
    let Document { release, trust, out, server } = arguments;
    let keys = release_keys(trust)?;
    let (bytes, artifact) =
        block_on(async { verified(kind, &server.client()?, release, &keys).await })?;
    keys::replace(out, &bytes)?;
    output.data(&serde_json::json!({"file": out, "sha256": artifact.sha256}), |_| {
        format!("wrote {}; the manifest, which release keys signed, has its digest", out.display())
    });
    Ok(())
}

async fn verified(
    kind: Kind,
    client: &Client,
    release: &ReleaseName,
    keys: &ReleaseKeys,
) -> Result<(Vec<u8>, Artifact), Failure> {
    let manifest = manifest(client, release, keys).await?;
    let artifact = (kind.find)(manifest.manifest()).ok_or_else(|| {
        let text = format!("{release} has no {}", kind.name);
        Failure::new(
            text,
            Some("it was made by an earlier version of Fleeti; build a newer release"),
        )
    })?;
    let bytes = client.release_file(release, &artifact.path).await.map_err(refused)?;
    let found = sha256_hex(&bytes);
    if found != artifact.sha256 {
        let text = format!(
            "the server's {} has SHA-256 {found}, the signed manifest has {}",
            kind.name, artifact.sha256
        );
        return Err(Failure::new(
            text,
            Some("do not trust this server: the file was replaced there"),
        ));
    }
    Ok((bytes.to_vec(), artifact.clone()))
}

/// The manifest of a release, if enough of these keys signed it.
async fn manifest(
    client: &Client,
    release: &ReleaseName,
    keys: &ReleaseKeys,
) -> Result<Verified, Failure> {
    let bytes = client.release_file(release, "manifest.json").await.map_err(refused)?;
    let mut signatures = Vec::new();
    for key in keys.keys() {
        let mut signature = Signature { key_id: key.id(), der: Vec::new() };
        match client.release_file(release, &signature.file_name()).await {
            Ok(der) => {
                signature.der = der.to_vec();
                signatures.push(signature);
            }
            // The threshold decides whether the others are enough.
            Err(ClientError::Refused(problem)) if problem.status == 404 => {}
            Err(e) => return Err(refused(e)),
        }
    }
    let verified = verify(&bytes, &signatures, keys).map_err(Failure::plain)?;
    if verified.manifest().release == *release {
        Ok(verified)
    } else {
        let other = &verified.manifest().release;
        Err(Failure::plain(format!("the server's manifest of {release} is of {other}")))
    }
}
