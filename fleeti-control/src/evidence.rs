//! The evidence of a release, from several areas: its manifest and signatures, the approvals of its
//! builds, its rollouts, what devices proved, and the audit entries about all of them.

use crate::accounts::actor::Actor;
use crate::builds::approvals;
use crate::context::Context;
use crate::error::Error;
use crate::{audit, releases};
use fleeti_core::id::ReleaseName;
use fleeti_core::strict;
use fleeti_core::wire::api::{Build, RolloutSummary, SignedBy};
use fleeti_core::wire::audit::AuditProof;
use fleeti_core::wire::evidence::{
    BuildEvidence, DEVICES_MAX, ENTRIES_MAX, KIND, ProvedDevice, ROWS_MAX, ReleaseEvidence,
    Searched, Signatory,
};
use fleeti_pki::approval::{Intent, Policy, Word};
use fleeti_pki::audit::Entry;
use fleeti_signer_client::wire::ENTRIES_MAX as PAGE;
use fleeti_store::{self as store, approvals::Asked};
use std::collections::HashSet;
use tokio::sync::Semaphore;

/// Entries before the publication that are searched: approvals and builds come before it.
const BEFORE: u64 = 20_000;
/// Maximum number of pages of the log that are searched.
const PAGES_MAX: u64 = 200;
/// One search at a time: each reads many entries from the signing service.
static SEARCHES: Semaphore = Semaphore::const_new(1);

/// Audit actions that can be about a release, a build or a rollout, by their beginning.
const ACTIONS: [&str; 5] = ["release.", "build.", "rollout.", "approval.", "fleet.pin"];

/// Collects the evidence of a release.
///
/// # Errors
/// [`Code::NotFound`](fleeti_core::wire::problem::Code::NotFound); when the signing service does not
/// answer.
pub async fn of_release(
    cx: &Context,
    by: &Actor,
    name: &ReleaseName,
) -> Result<ReleaseEvidence, Error> {
    let (release, pool) = (releases::get(cx, name).await?, cx.db.pool());
    let documents = releases::documents(cx, name).await?;
    let builds = store::builds::of_release(pool, name, ROWS_MAX).await?;
    let rollouts = store::rollouts::of_release(pool, name, ROWS_MAX).await?;
    let (proved, results) = store::attestations::proofs_of(pool, name, DEVICES_MAX).await?;
    let devices = results.into_iter().map(|(device, result)| ProvedDevice {
        device,
        level: result.level,
        appraised_s: result.appraised_s,
        evidence: result.evidence,
    });
    let (entries, searched) = entries(cx, name, &words(name, &builds, &rollouts)).await?;
    Ok(ReleaseEvidence {
        kind: KIND.to_owned(),
        exported_s: cx.now_s(),
        exported_by: by.account().to_owned(),
        release,
        manifest: String::from_utf8_lossy(&documents.manifest).into_owned(),
        signatures: strict::from_slice(&documents.signatures)?,
        builds: of_builds(cx, builds).await?,
        rollouts,
        proved,
        devices: devices.collect(),
        entries,
        searched,
    })
}

/// Names of the release, its builds and its rollouts, as words of audit entries.
fn words(name: &ReleaseName, builds: &[Build], rollouts: &[RolloutSummary]) -> HashSet<String> {
    let builds = builds.iter().map(|build| build.id.clone());
    let rollouts = rollouts.iter().map(|rollout| rollout.id.clone());
    builds.chain(rollouts).chain([name.to_string()]).collect()
}

async fn of_builds(cx: &Context, builds: Vec<Build>) -> Result<Vec<BuildEvidence>, Error> {
    let policy = approvals::policy(cx).await?.map(|(policy, _)| policy);
    let mut all = Vec::new();
    for build in builds {
        let asked = store::approvals::get(&mut cx.db.reader().await?, &build.id).await?;
        let mut found =
            BuildEvidence { build, intent: None, requested: None, approvals: Vec::new() };
        if let Some(Asked { request, approvals }) = asked {
            let intent = Intent::parse(&request.intent)?;
            let signatory = |word, by| signatory(policy.as_ref(), word, &intent, by);
            found.requested = Some(signatory(Word::Request, request.by));
            found.approvals =
                approvals.into_iter().map(|by| signatory(Word::Approve, by)).collect();
            found.intent = Some(request.intent);
        }
        all.push(found);
    }
    Ok(all)
}

/// A signature, with the name that the approval policy gives its key.
fn signatory(policy: Option<&Policy>, word: Word, intent: &Intent, by: SignedBy) -> Signatory {
    let name = policy.and_then(|policy| policy.recognise(word, intent, &by).ok());
    Signatory { name: name.map(|approver| approver.name.clone()), by }
}

/// Entries of the audit log with one of these words, with their inclusion proofs.
async fn entries(
    cx: &Context,
    name: &ReleaseName,
    words: &HashSet<String>,
) -> Result<(Vec<AuditProof>, Searched), Error> {
    let _alone = SEARCHES.acquire().await.map_err(Error::internal)?;
    let size = cx.pki.log.verify(&audit::checkpoint(cx).await?)?.checkpoint().size;
    let published = store::releases::audit_number(cx.db.pool(), name).await?;
    let from = published.map_or(0, |number| number.saturating_sub(BEFORE));
    let until = size.min(from.saturating_add(PAGES_MAX * PAGE));
    let (mut numbers, mut found, mut at) = (Vec::new(), 0_usize, from);
    while at < until {
        let lines = audit::entries(cx, at, PAGE.min(until - at)).await?.lines;
        if lines.is_empty() {
            break;
        }
        at = at.saturating_add(lines.len() as u64);
        for number in lines.iter().filter_map(|line| about(line, words)) {
            found += 1;
            if numbers.len() < ENTRIES_MAX {
                numbers.push(number);
            }
        }
    }
    let left_out = (found - numbers.len()) as u64;
    let mut proofs = Vec::with_capacity(numbers.len());
    for number in numbers {
        proofs.push(audit::proof(cx, number).await?);
    }
    Ok((proofs, Searched { from, until: at, size, left_out }))
}

/// The number of an entry that is about one of these words.
fn about(line: &str, words: &HashSet<String>) -> Option<u64> {
    // Most lines are about nothing of it: these are not parsed.
    if !ACTIONS.iter().any(|action| line.contains(action)) {
        return None;
    }
    let Entry { number, act, .. } = Entry::parse(line.as_bytes()).ok()?;
    let is_kind = ACTIONS.iter().any(|action| act.action.starts_with(action));
    let mut named = act.subject.split(|c: char| c.is_whitespace() || ",;:()".contains(c));
    (is_kind && named.any(|word| words.contains(word))).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;
    use fleeti_core::canonical;
    use fleeti_pki::audit::{Act, Stage};

    fn line(action: &str, subject: &str) -> String {
        let act = Act::new("mira", action, subject);
        let entry = Entry { number: 7, at_s: 1, previous: "0".repeat(64), act, stage: Stage::Done };
        String::from_utf8(canonical::to_vec(&entry).unwrap()).unwrap()
    }

    #[test]
    fn an_entry_is_about_a_release_by_a_whole_word_and_its_kind() {
        let words: HashSet<_> = ["kiosk@1", "rollout-a"].map(str::to_owned).into();
        for (action, subject, is_about) in [
            ("release.approve", "kiosk@1 aabb", true),
            ("release.approve", "kiosk@11 aabb", false),
            ("release.approve", "old-kiosk@1 aabb", false),
            ("rollout.start", "rollout-a kiosk@1 demo", true),
            ("rollout.pause", "rollout-a because", true),
            ("rollout.pause", "rollout-b because", false),
            ("approval.done", "approval-1 start a rollout (kiosk@1, demo)", true),
            ("device.describe", "d-1 runs kiosk@1 release.approve", false),
        ] {
            let found = about(&line(action, subject), &words);
            assert_eq!(found, is_about.then_some(7), "{action} {subject}");
        }
        assert_eq!(about("release. kiosk@1, not an entry", &words), None);
    }
}
