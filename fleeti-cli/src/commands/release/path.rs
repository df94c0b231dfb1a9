//! `fleeti release path`: floors, and versions from which a release is not offered.

use crate::CommandResult;
use crate::commands::approval;
use crate::commands::server::Server;
use crate::output::{Failure, Lines, Output};
use clap::Args;
use fleeti_client::Tagged;
use fleeti_core::id::ReleaseName;
use fleeti_core::rollout::gates::{Blocked, ReleasePath, Versions};
use fleeti_core::wire::approval::AskedAct;
use serde::Serialize;

/// Show the ways to a release, or change them: whether it is a floor, which devices with a lower
/// version must run before a higher one, and from which versions it is not offered.
#[derive(Args)]
pub struct PathArgs {
    /// The release, as in `kiosk@2`.
    release: ReleaseName,
    /// Make it a floor, for this reason.
    #[arg(long, value_name = "REASON")]
    floor: Option<String>,
    /// It is no floor any more.
    #[arg(long, conflicts_with = "floor")]
    no_floor: bool,
    /// Do not offer it to devices with these versions, as in 1.2..1.9, ..1.9 or 1.4.
    #[arg(long, value_name = "VERSIONS", requires = "reason")]
    block: Option<Versions>,
    /// Why they are not offered it.
    #[arg(long, requires = "block")]
    reason: Option<String>,
    /// Offer it to devices with these versions again.
    #[arg(long, value_name = "VERSIONS")]
    unblock: Option<Versions>,
    /// Request the approval of a second person instead, for this reason.
    #[arg(long, value_name = "REASON")]
    ask: Option<String>,
    #[command(flatten)]
    server: Server,
}

/// A release and the ways to it.
#[derive(Serialize)]
struct Shown {
    release: ReleaseName,
    path: ReleasePath,
}

pub fn path(arguments: PathArgs, output: &Output) -> CommandResult {
    let PathArgs { release, floor, no_floor, block, reason, unblock, ask, server } = arguments;
    let Tagged { value: before, tag } =
        server.ask(async |c| c.tagged_release_path(&release).await)?;
    let mut path = before.clone();
    if no_floor {
        path.floor = None;
    }
    path.floor = floor.or(path.floor);
    if let Some(versions) = &unblock {
        path.blocked.retain(|way| way.from != *versions);
        if path.blocked.len() == before.blocked.len() {
            let hint = format!("`fleeti release path {release}` lists what is blocked");
            return Err(Failure::new(format!("nothing is blocked from {versions}"), Some(hint)));
        }
    }
    if let (Some(from), Some(reason)) = (block, reason) {
        path.blocked.retain(|way| way.from != from);
        path.blocked.push(Blocked { from, reason });
    }
    if path != before {
        if let Some(reason) = ask {
            let act = AskedAct::SetReleasePath { release, path };
            return approval::request(act, reason, &server, output);
        }
        path = server
            .ask(async |c| c.expecting(tag.as_ref()).set_release_path(&release, &path).await)?;
    }
    output.data(&Shown { release, path }, lines);
    Ok(())
}

fn lines(shown: &Shown) -> Lines {
    let Shown { release, path } = shown;
    let floor = path.floor.as_ref().map_or_else(
        || format!("{release} is no floor"),
        |reason| format!("{release} is a floor: lower versions must run it first: {reason}"),
    );
    let way = |way: &Blocked| format!("  not offered to {}: {}", way.from, way.reason);
    Lines::from(floor).and(path.blocked.iter().map(way).collect::<Vec<_>>())
}
