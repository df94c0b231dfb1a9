//! Changes of builds: each loads the state of a build, steps it, and stores the result, in the
//! transaction of the caller.

use crate::changes::record::record;
use crate::context::Context;
use crate::error::Error;
use fleeti_core::build::{self, Ctx, Effect, Event, Holder, Rejected, Signing, State};
use fleeti_core::wire::api;
use fleeti_core::wire::problem::Code;
use fleeti_store as store;
use fleeti_store::builds::{Requested, StoredBuild, Texts};
use fleeti_store::{StoreError, Tx};

/// Why the last attempt of a build, or of its signature, counts as failed.
const ABANDONED: &str =
    "its worker ended before the build did, at every attempt; see the server's log";

/// An event of a build, with the texts that are stored beside the state.
#[derive(Debug)]
pub struct Change<'a> {
    /// The event.
    pub event: Event,
    /// The texts.
    pub texts: Texts<'a>,
    /// Time, and lifetime of leases.
    pub ctx: Ctx,
}

/// A stored change.
#[derive(Debug)]
pub struct Applied {
    /// Id of the build.
    pub id: String,
    /// Its state now.
    pub state: State,
    /// What must follow the commit.
    pub effects: Vec<Effect>,
}

/// Why a change was not stored.
#[derive(Debug, thiserror::Error)]
pub enum NotApplied {
    /// There is no such build.
    #[error("there is no such build")]
    NotFound,
    /// The event does not apply to its state.
    #[error(transparent)]
    Rejected(#[from] Rejected),
    /// The database failed.
    #[error("{0}")]
    Failed(#[from] Error),
}

impl From<StoreError> for NotApplied {
    fn from(e: StoreError) -> Self {
        Self::Failed(e.into())
    }
}

impl NotApplied {
    /// The error for a client. `refused` is the one for a build that does not exist, or an event
    /// that does not apply.
    pub fn or(self, refused: impl FnOnce() -> Error) -> Error {
        match self {
            Self::NotFound | Self::Rejected(_) => refused(),
            Self::Failed(e) => e,
        }
    }
}

impl Change<'_> {
    /// Applies the event to a build.
    ///
    /// # Errors
    /// [`NotApplied`]. The build stays as it is.
    pub async fn apply(self, tx: &mut Tx<'_>, build: &StoredBuild) -> Result<Applied, NotApplied> {
        let (state, effects) = build::step(&build.state, self.event, self.ctx)?;
        if !store::builds::set(tx, build, &state, self.texts).await? {
            let text = "another session changed the build; nothing has changed";
            return Err(Error::new(Code::Unavailable, text).hint("try again").into());
        }
        if effects.contains(&Effect::Publish) {
            record(tx, self.ctx.now_s, &[api::Event::Build { id: build.id.clone() }]).await?;
        }
        Ok(Applied { id: build.id.clone(), state, effects })
    }

    /// Applies the event to the build with this id.
    ///
    /// # Errors
    /// [`NotApplied`]. The build stays as it is.
    pub async fn apply_to(self, tx: &mut Tx<'_>, id: &str) -> Result<Applied, NotApplied> {
        let build = store::builds::load(tx, id).await?.ok_or(NotApplied::NotFound)?;
        self.apply(tx, &build).await
    }
}

impl Applied {
    /// Publishes the change and wakes the signing job, after the commit. Who requested the other
    /// effects applies them.
    pub(crate) fn follow(&self, cx: &Context) {
        for effect in &self.effects {
            match effect {
                Effect::Publish => cx.publish(api::Event::Build { id: self.id.clone() }),
                Effect::WakeSigning => cx.build_queued.notify_one(),
                Effect::Dispatch | Effect::Sign | Effect::DeleteFiles => {}
            }
        }
    }
}

/// A build that a worker has leased.
#[derive(Debug)]
pub struct Claimed {
    /// The change.
    pub applied: Applied,
    /// What to build.
    pub requested: Requested,
}

/// Leases the oldest build that waits for a worker, or whose lease has ended. A worker that repeats
/// the request gets the build that it has.
///
/// # Errors
/// When the database fails.
pub async fn claim(tx: &mut Tx<'_>, holder: &Holder, ctx: Ctx) -> Result<Option<Claimed>, Error> {
    let (build, texts) = match store::builds::leased_by(tx, holder, ctx.now_s).await? {
        Some(build) => (build, Texts::default()),
        None => match store::builds::claimable(tx, ctx.now_s).await? {
            Some(build) => (build, Texts { detail: Some("started"), ..Texts::default() }),
            None => return Ok(None),
        },
    };
    let change = Change { event: Event::Claim(holder.clone()), texts, ctx };
    let applied = change.apply(tx, &build).await.map_err(inconsistent)?;
    let requested = store::builds::request(tx, &build.id).await?;
    let requested = requested.ok_or_else(|| Error::internal("a build without a request"))?;
    Ok(Some(Claimed { applied, requested }))
}

/// A signature that the signing job has leased.
#[derive(Debug)]
pub struct ClaimedSigning {
    /// The change.
    pub applied: Applied,
    /// Number of this attempt.
    pub attempt: u8,
}

/// Leases the oldest build that waits for its signature, or whose signing lease has ended.
///
/// # Errors
/// When the database fails.
pub async fn claim_signing(tx: &mut Tx<'_>, ctx: Ctx) -> Result<Option<ClaimedSigning>, Error> {
    let Some(build) = store::builds::signable(tx, ctx.now_s).await? else { return Ok(None) };
    let texts = Texts { signing_detail: Some("started"), ..Texts::default() };
    let change = Change { event: Event::ClaimSigning, texts, ctx };
    let applied = change.apply(tx, &build).await.map_err(inconsistent)?;
    let State::Succeeded { signing: Signing::Running { attempt, .. }, .. } = applied.state else {
        return Err(Error::internal("a claimed signature that is not running"));
    };
    Ok(Some(ClaimedSigning { applied, attempt }))
}

/// Fails builds and signatures whose last attempt let its lease end.
///
/// # Errors
/// When the database fails.
pub async fn give_up(tx: &mut Tx<'_>, ctx: Ctx) -> Result<Vec<Applied>, Error> {
    let mut all = Vec::new();
    for build in store::builds::abandoned(tx, ctx.now_s).await? {
        let texts = match &build.state {
            State::Queued | State::Running { .. } | State::Failed => {
                Texts { detail: Some(ABANDONED), ..Texts::default() }
            }
            State::Succeeded { .. } => {
                Texts { signing_detail: Some(ABANDONED), ..Texts::default() }
            }
        };
        let change = Change { event: Event::GiveUp, texts, ctx };
        all.push(change.apply(tx, &build).await.map_err(inconsistent)?);
    }
    Ok(all)
}

/// Queues a build for signing.
///
/// # Errors
/// [`NotApplied`] if the build has not succeeded, its files were removed, or it is signed or being
/// signed.
pub async fn queue_signing(
    tx: &mut Tx<'_>,
    id: &str,
    event: Event,
    ctx: Ctx,
) -> Result<Applied, NotApplied> {
    let texts = Texts { signing_detail: Some("waits for a worker"), ..Texts::default() };
    Change { event, texts, ctx }.apply_to(tx, id).await
}

/// A query found a build to which the event does not apply.
fn inconsistent(e: NotApplied) -> Error {
    let text = e.to_string();
    e.or(|| Error::internal(text))
}
