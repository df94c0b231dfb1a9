//! A build: from the request to files, and to the signature of the server's release keys.
//!
//! A worker takes a queued build by lease and renews the lease until the build ends. A worker that
//! is killed lets its lease end, and another worker takes the build: [`ATTEMPTS_MAX`] times in all,
//! because a build may kill every worker. A build that has succeeded can be signed, by the same
//! rule: [`SIGNING_ATTEMPTS_MAX`].
//!
//! [`step`] is pure. The server stores the state that it returns, and applies the effects after the
//! commit.

use std::fmt;

/// Largest number of attempts of a build.
pub const ATTEMPTS_MAX: u8 = 3;
/// Largest number of attempts of a signature.
pub const SIGNING_ATTEMPTS_MAX: u8 = 3;

/// Who leases a build.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// Name of the worker; empty for the worker in the server's process.
    pub worker: String,
    /// Id of the lease.
    pub lease: String,
}

/// State of a build.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// Waits for a worker.
    Queued,
    /// A worker has the lease. If the lease has ended, another worker may take the build.
    Running {
        /// Who has the lease.
        holder: Holder,
        /// Last second of the lease, Unix seconds.
        until_s: u64,
        /// Number of this attempt; 1 for the first.
        attempt: u8,
    },
    /// Succeeded.
    Succeeded {
        /// Whether the server still has the files.
        files: Files,
        /// State of the signature.
        signing: Signing,
    },
    /// Failed.
    Failed,
}

/// Whether the server has the files of a build.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Files {
    /// It has them.
    Kept,
    /// It removed them to make room.
    Removed,
}

/// State of the signature of a build.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signing {
    /// Not requested, or not approved yet.
    NotRequested,
    /// Waits for the signing job.
    Queued,
    /// The signing service signs. If the lease has ended, the job starts again.
    Running {
        /// Last second of the lease, Unix seconds.
        until_s: u64,
        /// Number of this attempt; 1 for the first.
        attempt: u8,
    },
    /// Signed and published.
    Succeeded,
    /// Failed. It can be requested again.
    Failed,
}

/// How a build, or its signature, ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It succeeded.
    Succeeded,
    /// It failed.
    Failed,
}

/// What the approvals of a build come to, by the policy of the signing service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Approvals {
    /// More are needed.
    TooFew,
    /// The signing service would sign.
    Enough,
}

/// What happened to a build.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A worker asks for a build. Repeating it with the same lease renews the lease.
    Claim(Holder),
    /// A worker renews its lease.
    Renew(Holder),
    /// A worker ends the build.
    Finish {
        /// The worker.
        holder: Holder,
        /// How the build ended.
        outcome: Outcome,
    },
    /// The server looks whether the last attempt, of the build or of its signature, has ended
    /// without a result.
    GiveUp,
    /// An approver requests approvals.
    RequestApprovals,
    /// An approver approved.
    Approve(Approvals),
    /// An operator requests the signature, where no approval is needed.
    RequestSignature,
    /// The signing job asks for a build.
    ClaimSigning,
    /// The signing job renews its lease.
    RenewSigning {
        /// Its attempt.
        attempt: u8,
    },
    /// The signing job has ended.
    FinishSigning {
        /// Its attempt.
        attempt: u8,
        /// How it ended.
        outcome: Outcome,
    },
    /// The server makes room.
    RemoveFiles,
}

impl Event {
    /// The name in messages.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Claim(_) => "claim",
            Self::Renew(_) => "renew",
            Self::Finish { .. } => "finish",
            Self::GiveUp => "give up",
            Self::RequestApprovals => "request approvals",
            Self::Approve(_) => "approve",
            Self::RequestSignature => "request signature",
            Self::ClaimSigning => "claim signing",
            Self::RenewSigning { .. } => "renew signing",
            Self::FinishSigning { .. } => "finish signing",
            Self::RemoveFiles => "remove files",
        }
    }
}

/// What the server must do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// Give the build to the worker.
    Dispatch,
    /// Let the signing service sign the build.
    Sign,
    /// Wake the job that signs.
    WakeSigning,
    /// Delete the files.
    DeleteFiles,
    /// Publish a change event.
    Publish,
}

/// Facts that a step may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ctx {
    /// Unix seconds.
    pub now_s: u64,
    /// Lifetime of a lease after this event, seconds.
    pub lease_s: u64,
}

impl Ctx {
    fn until_s(self) -> u64 {
        self.now_s.saturating_add(self.lease_s)
    }

    fn has_ended(self, until_s: u64) -> bool {
        until_s < self.now_s
    }
}

/// An event that does not apply to a build. Its state does not change.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Rejected {
    /// The state does not permit the event.
    #[error("{event} does not apply to a build that is {phase}")]
    Phase {
        /// The event's name.
        event: &'static str,
        /// The name of the state.
        phase: &'static str,
    },
    /// The state of the signature does not permit the event.
    #[error("{event} does not apply to a build whose signature is {signing}")]
    Signing {
        /// The event's name.
        event: &'static str,
        /// The name of the state.
        signing: &'static str,
    },
    /// Another worker, or a later attempt, has the lease.
    #[error("the lease belongs to another attempt")]
    LeaseLost,
    /// The lease has not ended.
    #[error("the lease has not ended")]
    Leased,
    /// No attempt is left.
    #[error("no attempt is left")]
    AttemptsSpent,
    /// Attempts are left.
    #[error("attempts are left")]
    AttemptsLeft,
    /// The server removed the files to make room.
    #[error("the files were removed to make room")]
    FilesRemoved,
}

/// A new state and its effects, or the rejection of an event.
pub type Step = Result<(State, Vec<Effect>), Rejected>;

/// Applies an event to a build.
///
/// # Errors
/// [`Rejected`] if the event does not apply. The caller keeps its state.
pub fn step(state: &State, event: Event, ctx: Ctx) -> Step {
    let name = event.name();
    match event {
        Event::Claim(holder) => claimed(state, holder, ctx),
        Event::Renew(holder) => {
            let attempt = attempt_of(state, &holder, name)?;
            Ok((State::Running { holder, until_s: ctx.until_s(), attempt }, Vec::new()))
        }
        Event::Finish { holder, outcome } => {
            attempt_of(state, &holder, name)?;
            Ok((State::from(outcome), vec![Effect::Publish]))
        }
        Event::GiveUp => given_up(state, ctx),
        Event::RequestApprovals | Event::Approve(Approvals::TooFew) => {
            signable(state, name)?;
            Ok((state.clone(), vec![Effect::Publish]))
        }
        Event::Approve(Approvals::Enough) | Event::RequestSignature => {
            let files = signable(state, name)?;
            let state = State::Succeeded { files, signing: Signing::Queued };
            Ok((state, vec![Effect::WakeSigning, Effect::Publish]))
        }
        Event::ClaimSigning => signing_claimed(state, ctx),
        Event::RenewSigning { attempt } => {
            let files = signing_of(state, attempt, name)?;
            let signing = Signing::Running { until_s: ctx.until_s(), attempt };
            Ok((State::Succeeded { files, signing }, vec![Effect::Publish]))
        }
        Event::FinishSigning { attempt, outcome } => {
            let files = signing_of(state, attempt, name)?;
            let signing = Signing::from(outcome);
            Ok((State::Succeeded { files, signing }, vec![Effect::Publish]))
        }
        Event::RemoveFiles => files_removed(state, name),
    }
}

/// A worker takes a build that is queued, or whose worker let the lease end.
fn claimed(state: &State, claimant: Holder, ctx: Ctx) -> Step {
    let attempt = match state {
        State::Queued => 1,
        // The response was lost: the worker gets the same build, and no attempt is counted.
        State::Running { holder, until_s, attempt }
            if *holder == claimant && !ctx.has_ended(*until_s) =>
        {
            *attempt
        }
        State::Running { until_s, .. } if !ctx.has_ended(*until_s) => {
            return Err(Rejected::Leased);
        }
        State::Running { attempt, .. } => next_attempt(*attempt, ATTEMPTS_MAX)?,
        State::Succeeded { .. } | State::Failed => {
            return Err(Rejected::Phase { event: "claim", phase: state.name() });
        }
    };
    let state = State::Running { holder: claimant, until_s: ctx.until_s(), attempt };
    Ok((state, vec![Effect::Dispatch, Effect::Publish]))
}

fn next_attempt(attempt: u8, max: u8) -> Result<u8, Rejected> {
    if attempt < max { Ok(attempt + 1) } else { Err(Rejected::AttemptsSpent) }
}

/// The attempt of a worker that has the lease. A lease that has ended is still the worker's, as
/// long as no other worker has taken the build.
fn attempt_of(state: &State, by: &Holder, event: &'static str) -> Result<u8, Rejected> {
    match state {
        State::Running { holder, attempt, .. } if holder == by => Ok(*attempt),
        State::Running { .. } => Err(Rejected::LeaseLost),
        State::Queued | State::Succeeded { .. } | State::Failed => {
            Err(Rejected::Phase { event, phase: state.name() })
        }
    }
}

fn given_up(state: &State, ctx: Ctx) -> Step {
    let check = |until_s: u64, attempt: u8, max: u8| {
        if !ctx.has_ended(until_s) {
            Err(Rejected::Leased)
        } else if attempt < max {
            Err(Rejected::AttemptsLeft)
        } else {
            Ok(())
        }
    };
    let state = match state {
        State::Running { until_s, attempt, .. } => {
            check(*until_s, *attempt, ATTEMPTS_MAX)?;
            State::Failed
        }
        State::Succeeded { files, signing: Signing::Running { until_s, attempt } } => {
            check(*until_s, *attempt, SIGNING_ATTEMPTS_MAX)?;
            State::Succeeded { files: *files, signing: Signing::Failed }
        }
        State::Succeeded {
            signing: Signing::NotRequested | Signing::Queued | Signing::Succeeded | Signing::Failed,
            ..
        }
        | State::Queued
        | State::Failed => {
            return Err(Rejected::Phase { event: "give up", phase: state.name() });
        }
    };
    Ok((state, vec![Effect::Publish]))
}

/// The files of a build that can be signed: it has succeeded, the server has its files, and it is
/// neither signed nor being signed.
fn signable(state: &State, event: &'static str) -> Result<Files, Rejected> {
    let State::Succeeded { files, signing } = state else {
        return Err(Rejected::Phase { event, phase: state.name() });
    };
    match (signing, files) {
        (Signing::NotRequested | Signing::Failed, Files::Kept) => Ok(*files),
        (Signing::NotRequested | Signing::Failed, Files::Removed) => Err(Rejected::FilesRemoved),
        (Signing::Queued | Signing::Running { .. } | Signing::Succeeded, _) => {
            Err(Rejected::Signing { event, signing: signing.name() })
        }
    }
}

fn signing_claimed(state: &State, ctx: Ctx) -> Step {
    let event = "claim signing";
    let State::Succeeded { files, signing } = state else {
        return Err(Rejected::Phase { event, phase: state.name() });
    };
    let attempt = match signing {
        Signing::Queued => 1,
        Signing::Running { until_s, .. } if !ctx.has_ended(*until_s) => {
            return Err(Rejected::Leased);
        }
        Signing::Running { attempt, .. } => next_attempt(*attempt, SIGNING_ATTEMPTS_MAX)?,
        Signing::NotRequested | Signing::Succeeded | Signing::Failed => {
            return Err(Rejected::Signing { event, signing: signing.name() });
        }
    };
    let signing = Signing::Running { until_s: ctx.until_s(), attempt };
    Ok((State::Succeeded { files: *files, signing }, vec![Effect::Sign, Effect::Publish]))
}

/// The files of a build that this attempt signs.
fn signing_of(state: &State, by: u8, event: &'static str) -> Result<Files, Rejected> {
    let State::Succeeded { files, signing } = state else {
        return Err(Rejected::Phase { event, phase: state.name() });
    };
    match signing {
        Signing::Running { attempt, .. } if *attempt == by => Ok(*files),
        Signing::Running { .. } => Err(Rejected::LeaseLost),
        Signing::NotRequested | Signing::Queued | Signing::Succeeded | Signing::Failed => {
            Err(Rejected::Signing { event, signing: signing.name() })
        }
    }
}

/// The files of a build that has ended may be removed, unless the signing service needs them.
/// Repeating the event deletes what a killed server left.
fn files_removed(state: &State, event: &'static str) -> Step {
    match state {
        State::Failed => Ok((State::Failed, vec![Effect::DeleteFiles, Effect::Publish])),
        State::Succeeded { signing, .. } => match signing {
            Signing::NotRequested | Signing::Succeeded | Signing::Failed => {
                let state = State::Succeeded { files: Files::Removed, signing: *signing };
                Ok((state, vec![Effect::DeleteFiles, Effect::Publish]))
            }
            Signing::Queued | Signing::Running { .. } => {
                Err(Rejected::Signing { event, signing: signing.name() })
            }
        },
        State::Queued | State::Running { .. } => {
            Err(Rejected::Phase { event, phase: state.name() })
        }
    }
}

impl From<Outcome> for State {
    fn from(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Succeeded => {
                Self::Succeeded { files: Files::Kept, signing: Signing::NotRequested }
            }
            Outcome::Failed => Self::Failed,
        }
    }
}

impl From<Outcome> for Signing {
    fn from(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Succeeded => Self::Succeeded,
            Outcome::Failed => Self::Failed,
        }
    }
}

impl State {
    /// The name of the state.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running { .. } => "running",
            Self::Succeeded { .. } => "succeeded",
            Self::Failed => "failed",
        }
    }
}

impl Signing {
    /// The name of the state.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::NotRequested => "not requested",
            Self::Queued => "queued",
            Self::Running { .. } => "running",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests;
