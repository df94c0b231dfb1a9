//! `fleeti fix`: from packages with a hole to devices that run the fix, in steps: a build, its
//! signature, a second person, an urgent rollout. Nothing is kept on this machine: each run finds on
//! the server how far the fix is, and goes on from there.

use super::build::{followed, start};
use super::keys::{KeyFile, Passphrase};
use super::request::{block_on, refused};
use super::rollout::shown;
use super::rollout_plan::PlanArgs;
use super::server::Server;
use super::signature;
use crate::CommandResult;
use crate::output::{Failure, Lines, Output};
use clap::Args;
use fleeti_client::Client;
use fleeti_core::approval::State;
use fleeti_core::id::{FleetId, ReleaseName, Version};
use fleeti_core::profile::Profile;
use fleeti_core::rollout::Phase;
use fleeti_core::rollout::plan::{Plan, Size, Start, Wave};
use fleeti_core::wire::api::{
    Build, BuildPhase, CreateBuild, CreateRollout, RolloutSummary, Urgent,
};
use fleeti_core::wire::approval::{Approval, AskedAct, GuardedAct, RequestApproval};
use fleeti_core::wire::package::PackageQuery;
use fleeti_core::wire::problem::Code;
use serde::Serialize;
use std::collections::BTreeSet;
use std::path::PathBuf;

/// Days until a signing request expires.
const DAYS: u64 = 3;

/// Fix packages with a hole: refresh only these in the package lock, build, sign, and start an urgent
/// rollout, whose waves do not soak and whose devices skip their update windows. Levels, health checks,
/// limits and budgets count as always.
///
/// Where a person must sign or approve, the command says who runs what. Then run the same command
/// again: it goes on where the fix is.
#[derive(Args)]
pub struct Fix {
    /// A package to refresh, perhaps with the versions that have the fix: openssl, or
    /// "openssl>=3.5.1-1+deb13u2". The build fails if the mirror has no such version yet.
    #[arg(required = true, value_name = "PACKAGE")]
    packages: Vec<PackageQuery>,
    /// The profile, a TOML file.
    #[arg(long)]
    profile: PathBuf,
    /// Version of the release with the fix, within the line of the profile.
    #[arg(long)]
    version: Version,
    /// The fleet of the urgent rollout.
    #[arg(long)]
    fleet: FleetId,
    /// Why it is urgent, for the rollout and for those who approve.
    #[arg(long)]
    reason: String,
    /// Your approver key, to request the signature where others must approve.
    #[arg(long)]
    key: Option<PathBuf>,
    /// Abort the active rollout of the fleet for this one.
    #[arg(long)]
    supersede: bool,
    /// Wait until every device has finished, and fail if one did not succeed.
    #[arg(long)]
    wait: bool,
    #[command(flatten)]
    passphrase: Passphrase,
    #[command(flatten)]
    plan: PlanArgs,
    #[command(flatten)]
    server: Server,
}

/// How far a fix is.
#[derive(Serialize)]
struct Reached {
    /// The step that it waits in: `signature` or `second_person`.
    step: &'static str,
    /// The release with the fix.
    release: ReleaseName,
    /// The build, or the pending act.
    of: String,
    /// What it waits for, and what another person runs.
    waits_for: String,
    /// The command that goes on then.
    go_on: String,
}

impl Reached {
    fn lines(&self) -> Lines {
        let Self { release, of, waits_for, go_on, .. } = self;
        Lines::from(format!("{release} ({of}) waits: {waits_for}")).and(format!("then: {go_on}"))
    }
}

/// What a run comes to.
enum Next {
    Waits(Box<Reached>),
    Runs(Box<RolloutSummary>),
}

pub fn run(fix: Fix, output: &Output) -> CommandResult {
    let profile = super::profile::read(&fix.profile)?;
    let release = ReleaseName { line: profile.name.clone(), version: fix.version.clone() };
    let Fix { packages, fleet, reason, key, supersede, wait, passphrase, plan, server, .. } = fix;
    let packages = packages.iter().map(ToString::to_string).collect();
    let plan = Some(plan.read()?.unwrap_or_else(first_one_then_some));
    let urgent = Some(Urgent { reason: reason.clone() });
    let rollout = CreateRollout { release: release.clone(), fleet, plan, urgent };
    let wanted = Wanted {
        build: Some((profile, packages)),
        rollout,
        key: key.as_deref().map(|path| KeyFile { path, passphrase: &passphrase }),
        reason,
        supersede,
    };
    match wanted.go_on(&server, output)? {
        Next::Waits(reached) => {
            output.data(&*reached, Reached::lines);
            Ok(())
        }
        Next::Runs(rollout) => shown(&rollout, wait, &server, output),
    }
}

/// The waves without `--wave`: the first device alone, then a tenth, then all.
fn first_one_then_some() -> Plan {
    let sizes =
        [Size::Count { devices: 1 }, Size::Percent { percent: 10 }, Size::Percent { percent: 100 }];
    let wave = |size| Wave { size, start: Start::AfterSuccess, soak_s: 0 };
    Plan::of(sizes.into_iter().map(wave).collect())
}

/// What is to be true in the end.
struct Wanted<'a> {
    /// The profile, and the packages that are refreshed.
    build: Option<(Profile, Vec<String>)>,
    rollout: CreateRollout,
    key: Option<KeyFile<'a>>,
    reason: String,
    supersede: bool,
}

impl Wanted<'_> {
    fn release(&self) -> &ReleaseName {
        &self.rollout.release
    }

    /// Goes as far as it can.
    fn go_on(mut self, server: &Server, output: &Output) -> Result<Next, Failure> {
        let rollouts = server.ask(Client::rollouts)?;
        let client = server.client()?;
        if let Some(found) = self.own_rollout(&rollouts) {
            let builds = block_on(async { client.builds().await.map_err(refused) })?;
            if builds.iter().any(|build| self.is_of_fix(build)) {
                return Ok(Next::Runs(Box::new(found.clone())));
            }
            let text = format!("no build of this fix made {}, which is rolled out", found.release);
            return Err(Failure::new(text, Some("choose another --version")));
        }
        let build = block_on(async { self.built(&client, output).await })?;
        if let Some(reached) = block_on(async { self.signed(&client, &build, output).await })? {
            return Ok(Next::Waits(Box::new(reached)));
        }
        output.note(format!("published {}", self.release()));
        let is_other = |r: &&RolloutSummary| r.fleet == self.rollout.fleet && is_active(r.phase);
        let active = rollouts.iter().find(is_other).map(|r| r.id.clone());
        self.started(server, active.filter(|_| self.supersede))
    }

    /// The rollout of the fix, also one that has ended: an operator stopped it, or it is done.
    fn own_rollout<'r>(&self, all: &'r [RolloutSummary]) -> Option<&'r RolloutSummary> {
        let CreateRollout { release, fleet, .. } = &self.rollout;
        let is_own = |r: &&RolloutSummary| {
            r.release == *release && r.fleet == *fleet && r.urgent.is_some() && r.back_of.is_none()
        };
        all.iter().find(is_own)
    }

    /// Whether a build made the release with these packages refreshed.
    fn is_of_fix(&self, build: &Build) -> bool {
        build.release == *self.release()
            && build.phase == BuildPhase::Succeeded
            && self.build.as_ref().is_some_and(|(_, packages)| is_same(packages, &build.refreshed))
    }

    /// The build of the fix, which has succeeded.
    async fn built(&mut self, client: &Client, output: &Output) -> Result<Build, Failure> {
        let Some((profile, packages)) = self.build.take() else {
            return Err(Failure::plain("the build is done"));
        };
        let all = client.builds().await.map_err(refused)?;
        let of_release = all.into_iter().filter(|build| build.release == *self.release());
        let found = of_release.into_iter().find(|build| build.phase != BuildPhase::Failed);
        let build = match found {
            Some(build) if !is_same(&build.refreshed, &packages) => {
                let text = format!("{} of {} is no build of this fix", build.id, build.release);
                return Err(Failure::new(text, Some("choose another --version")));
            }
            Some(build) => {
                output.note(format!("goes on with {}", build.id));
                followed(client, build).await?
            }
            None => {
                self.check_version(client).await?;
                let request = CreateBuild {
                    profile,
                    version: self.release().version.clone(),
                    refresh_lock: false,
                    refresh_packages: packages,
                };
                start(client, &request, true).await?
            }
        };
        match build.phase {
            BuildPhase::Failed => Err(Failure::with_log(&build.detail, None::<String>)),
            BuildPhase::Queued | BuildPhase::Running | BuildPhase::Succeeded => Ok(build),
        }
    }

    /// Checks that no release has the version of the fix.
    async fn check_version(&self, client: &Client) -> Result<(), Failure> {
        match client.release(self.release()).await {
            Err(e) if e.code() == Some(Code::NotFound) => Ok(()),
            Err(e) => Err(refused(e)),
            Ok(found) => {
                let text = format!("{} is published, and no build of this fix made it", found.name);
                Err(Failure::new(text, Some("choose another --version")))
            }
        }
    }

    /// Signs and publishes a build. `Some` if other people must approve it first.
    async fn signed(
        &self,
        client: &Client,
        build: &Build,
        output: &Output,
    ) -> Result<Option<Reached>, Failure> {
        if client.release(self.release()).await.is_ok() {
            return Ok(None);
        }
        let mut status = client.signature(&build.id).await.map_err(refused)?;
        if status.approvals_needed == 0 {
            signature::alone(client, &build.id).await?;
            return Ok(None);
        }
        if status.intent.is_none() {
            let hint = "add --key YOUR.key: it requests the signature, which other people approve";
            let text = format!("{} needs {} approvals", build.id, status.approvals_needed);
            let key = self.key.ok_or_else(|| Failure::new(text, Some(hint)))?;
            status = signature::ask(client, &build.id, key, DAYS, output).await?;
        }
        if status.approved_by.len() < status.approvals_needed as usize {
            return Ok(Some(Reached {
                step: "signature",
                release: self.release().clone(),
                of: build.id.clone(),
                waits_for: signature::describe(&status).replace("BUILD", &build.id),
                go_on: same_command(),
            }));
        }
        signature::ended(client, &build.id).await?;
        Ok(None)
    }

    /// Starts the rollout, or requests the approval of a second person.
    fn started(&self, server: &Server, supersede: Option<String>) -> Result<Next, Failure> {
        let client = server.client()?;
        let request = self.rollout.clone();
        let started = block_on(async {
            Ok(match &supersede {
                Some(other) => client.supersede_rollout(other, &request).await,
                None => client.start_rollout(&request).await,
            })
        })?;
        match started {
            Ok(started) => Ok(Next::Runs(Box::new(started))),
            Err(e) if e.code() == Some(Code::SecondPerson) => {
                let act = match supersede {
                    Some(rollout) => AskedAct::SupersedeRollout { rollout, request },
                    None => AskedAct::StartRollout { request },
                };
                let asked = block_on(async { self.asked(&client, act).await })?;
                Ok(Next::Waits(Box::new(Reached {
                    step: "second_person",
                    release: self.release().clone(),
                    waits_for: format!(
                        "another person runs `fleeti approval approve {}`",
                        asked.id
                    ),
                    of: asked.id,
                    go_on: same_command(),
                })))
            }
            Err(e) => Err(refused(e)),
        }
    }

    /// The pending act of the rollout: one that waits already, or a new one.
    async fn asked(&self, client: &Client, act: AskedAct) -> Result<Approval, Failure> {
        let request = self.rollout.clone();
        let words = match &act {
            AskedAct::SupersedeRollout { rollout, .. } => {
                GuardedAct::SupersedeRollout { rollout: rollout.clone(), request }.to_string()
            }
            _ => GuardedAct::StartRollout { request }.to_string(),
        };
        let all = client.approvals().await.map_err(refused)?;
        // The words have no waves: the reason tells whether it is the request of this command.
        let is_it = |of: &Approval| {
            of.state == State::Waiting && of.act == words && of.reason == self.reason
        };
        if let Some(waits) = all.into_iter().find(is_it) {
            return Ok(waits);
        }
        let request = RequestApproval { act, reason: self.reason.clone(), valid_s: None };
        client.request_approval(&request).await.map_err(refused)
    }
}

/// Whether two lists name the same packages, in any order.
fn is_same(some: &[String], others: &[String]) -> bool {
    let names = |of: &[String]| of.iter().cloned().collect::<BTreeSet<_>>();
    names(some) == names(others)
}

/// Whether a rollout has begun and not ended.
fn is_active(phase: Phase) -> bool {
    !phase.is_terminal() && phase != Phase::Ready
}

/// This command, as it can be typed again.
fn same_command() -> String {
    let typed = std::env::args().skip(1).map(|argument| quoted(&argument));
    std::iter::once("fleeti".to_owned()).chain(typed).collect::<Vec<_>>().join(" ")
}

/// An argument, quoted for a shell if it has to be.
fn quoted(argument: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./:@%+,".contains(c);
    if !argument.is_empty() && argument.chars().all(is_plain) {
        return argument.to_owned();
    }
    format!("'{}'", argument.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_that_goes_on_can_be_typed() {
        assert_eq!(quoted("--version"), "--version");
        assert_eq!(quoted("openssl>=3.5.1-1+deb13u2"), "'openssl>=3.5.1-1+deb13u2'");
        assert_eq!(quoted("it's $HOME"), r"'it'\''s $HOME'");
        assert_eq!(quoted(""), "''");
    }

    #[test]
    fn a_fix_begins_with_one_device() {
        let plan = first_one_then_some();
        assert_eq!(plan.check(), Ok(()));
        assert_eq!(plan.waves[0].size, Size::Count { devices: 1 });
    }
}
