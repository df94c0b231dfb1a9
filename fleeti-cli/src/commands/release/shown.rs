//! `fleeti release show`.

use super::Server;
use crate::CommandResult;
use crate::output::{Lines, Output, when};
use fleeti_core::id::ReleaseName;
use fleeti_core::size::bytes;
use fleeti_core::wire::api::Release;

pub(super) fn show(release: &ReleaseName, server: &Server, output: &Output) -> CommandResult {
    let release = server.ask(async |c| c.release(release).await)?;
    output.data(&release, described);
    Ok(())
}

fn described(release: &Release) -> Lines {
    let published = release.published_s.map_or_else(|| "no: files are missing".to_owned(), when);
    let proof = match &release.boot_proof {
        Some(_) => "a device proved that it boots",
        None => "none",
    };
    let lines = Lines::from(release.name.to_string())
        .and(format!("  published   {published}"))
        .and(format!("  manifest    {}", release.manifest_sha256))
        .and(format!("  boot proof  {proof}"));
    let lines = match release.revoked_s {
        Some(at_s) => lines.and(format!("  revoked     {}", when(at_s))),
        None => lines,
    };
    let files = release.artifacts.iter().map(|a| format!("  {:<60} {:>10}", a.path, bytes(a.size)));
    lines.and(files.collect::<Vec<_>>())
}
