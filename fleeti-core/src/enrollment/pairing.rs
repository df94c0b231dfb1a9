//! A pairing code: a device without a token shows it, and an operator enters it (as in RFC 8628,
//! section 3). A secret of the device then becomes its enrollment token.

/// Lifetime of a code, and of the token that it makes valid, seconds.
pub const CODE_S: u64 = 600;

/// State of a pairing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// The device shows its code.
    Pending {
        /// Last second of the code, Unix seconds.
        expires_s: u64,
    },
    /// An operator has entered the code: the token is valid.
    Paired {
        /// Last second of the token, Unix seconds.
        expires_s: u64,
    },
    /// The code was replaced by a newer one of the same device, gave way to another device, or was
    /// never issued.
    Gone,
}

/// What happened to a pairing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// An operator entered the code.
    Enter,
    /// The device asks whether the code was entered.
    Wait,
    /// The same device gets a new code, because it restarted.
    Replace,
    /// Too many codes are pending, and another address has fewer than this one.
    Evict,
}

/// What the server must do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// Make the token of the device valid, for its key alone.
    IssueToken,
    /// Answer the requests that wait for this code.
    WakeWaiting,
    /// Let the device wait.
    KeepWaiting,
    /// Tell the device that it can enroll.
    AnswerPaired,
    /// Delete the pairing.
    Delete,
}

/// An event that does not apply to a pairing. Its state does not change.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Rejected {
    /// The code or the token has expired.
    #[error("the code has expired")]
    Expired,
    /// The code was entered before.
    #[error("the code was entered before")]
    Entered,
    /// There is no such code.
    #[error("the code belongs to no device")]
    Gone,
}

/// Last second of a code, or of a token, that is issued now.
#[must_use]
pub fn expires_s(now_s: u64) -> u64 {
    now_s.saturating_add(CODE_S)
}

/// Applies an event to a pairing.
///
/// # Errors
/// [`Rejected`] if the event does not apply. The caller keeps its state.
pub fn step(state: State, event: Event, now_s: u64) -> Result<(State, Vec<Effect>), Rejected> {
    match state {
        State::Pending { expires_s } | State::Paired { expires_s } if expires_s < now_s => {
            match event {
                Event::Enter | Event::Wait => Err(Rejected::Expired),
                Event::Replace | Event::Evict => Ok((State::Gone, vec![Effect::Delete])),
            }
        }
        State::Pending { .. } => Ok(match event {
            Event::Enter => {
                let paired = State::Paired { expires_s: expires_s(now_s) };
                (paired, vec![Effect::IssueToken, Effect::WakeWaiting])
            }
            Event::Wait => (state, vec![Effect::KeepWaiting]),
            Event::Replace | Event::Evict => (State::Gone, vec![Effect::Delete]),
        }),
        State::Paired { .. } => match event {
            Event::Enter => Err(Rejected::Entered),
            Event::Wait => Ok((state, vec![Effect::AnswerPaired])),
            // The token is valid already: it ends by itself.
            Event::Replace | Event::Evict => Ok((state, Vec::new())),
        },
        State::Gone => Err(Rejected::Gone),
    }
}

#[cfg(test)]
mod tests;
