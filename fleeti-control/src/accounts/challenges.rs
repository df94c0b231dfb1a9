//! Challenges of passkeys and of identity providers. A challenge carries its end and a MAC by a key of
//! this process, over what it is for and the browser that asked. So nothing is kept of one that nobody
//! answers, and none outlives the process. One that was answered is kept until its end, so that it
//! counts once.

use crate::error::Error;
use fleeti_core::wire::problem::Code;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

/// Time to answer a challenge, in seconds.
pub const CHALLENGE_S: u64 = 300;
/// Challenges that an account can answer within that time.
pub const ANSWERED_MAX: usize = 16;

const NONCE: usize = 16;
const END: usize = 8;

/// What a challenge is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// To add a passkey.
    Add,
    /// To sign in.
    SignIn,
    /// To sign in at an identity provider.
    Provider,
}

impl Purpose {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Add => "add a passkey",
            Self::SignIn => "sign in",
            Self::Provider => "sign in at a provider",
        }
    }
}

struct Spent {
    challenge: Vec<u8>,
    end_s: u64,
    account: String,
}

/// The key, and the challenges that were answered.
pub(super) struct Challenges {
    key: [u8; 32],
    /// The key of what follows from a challenge.
    derives: [u8; 32],
    spent: Mutex<VecDeque<Spent>>,
}

fn end_of(challenge: &[u8]) -> Option<u64> {
    let bytes = challenge.get(NONCE..NONCE + END)?;
    Some(u64::from_be_bytes(bytes.try_into().ok()?))
}

fn unknown() -> Error {
    let text = "the challenge has ended, was answered, or is of another browser";
    Error::new(Code::Unauthenticated, text).hint("load the page again, and try again")
}

impl Challenges {
    pub(super) fn new() -> Self {
        Self { key: rand::random(), derives: rand::random(), spent: Mutex::default() }
    }

    fn mac(&self, body: &[u8], purpose: Purpose, browser: &str) -> Result<Hmac<Sha256>, Error> {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.key).map_err(Error::internal)?;
        mac.update(body);
        mac.update(purpose.as_str().as_bytes());
        mac.update(&[0]);
        mac.update(browser.as_bytes());
        Ok(mac)
    }

    /// A challenge for a browser: its session, or a cookie before there is one.
    pub(super) fn make(
        &self,
        purpose: Purpose,
        browser: &str,
        now_s: u64,
    ) -> Result<Vec<u8>, Error> {
        let nonce: [u8; NONCE] = rand::random();
        let mut challenge = [&nonce[..], &(now_s + CHALLENGE_S).to_be_bytes()].concat();
        let mac = self.mac(&challenge, purpose, browser)?;
        challenge.extend(mac.finalize().into_bytes());
        Ok(challenge)
    }

    /// A secret that follows from a challenge and its browser, so that nothing is kept of it: the same
    /// each time, another one for each label, and known to this process only.
    pub(super) fn derived(
        &self,
        label: &str,
        challenge: &[u8],
        browser: &str,
    ) -> Result<[u8; 32], Error> {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.derives).map_err(Error::internal)?;
        for part in [label.as_bytes(), challenge, browser.as_bytes()] {
            mac.update(&(part.len() as u64).to_be_bytes());
            mac.update(part);
        }
        Ok(mac.finalize().into_bytes().into())
    }

    /// Checks that a challenge was made here for this purpose and browser, and has not ended.
    ///
    /// # Errors
    /// [`Code::Unauthenticated`].
    pub(super) fn check(
        &self,
        challenge: &[u8],
        purpose: Purpose,
        browser: &str,
        now_s: u64,
    ) -> Result<(), Error> {
        let (body, mac) = challenge.split_at_checked(NONCE + END).ok_or_else(unknown)?;
        self.mac(body, purpose, browser)?.verify_slice(mac).map_err(|_| unknown())?;
        end_of(challenge).filter(|end_s| now_s <= *end_s).map(drop).ok_or_else(unknown)
    }

    /// Notes that an account has answered a challenge that was checked. Works once.
    ///
    /// # Errors
    /// [`Code::Unauthenticated`] the second time; [`Code::TooMany`] if the account has answered too
    /// many: it fills its own share only.
    pub(super) fn spend(&self, challenge: &[u8], account: &str, now_s: u64) -> Result<(), Error> {
        let end_s = end_of(challenge).ok_or_else(unknown)?;
        let mut all = self.spent.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|spent| now_s <= spent.end_s);
        if all.iter().any(|spent| spent.challenge == challenge) {
            return Err(unknown());
        }
        if all.iter().filter(|spent| spent.account == account).count() >= ANSWERED_MAX {
            let text =
                format!("{account} has signed in {ANSWERED_MAX} times within {CHALLENGE_S} s");
            return Err(Error::new(Code::TooMany, text)
                .hint("wait five minutes")
                .retry_after(CHALLENGE_S));
        }
        let account = account.to_owned();
        all.push_back(Spent { challenge: challenge.to_vec(), end_s, account });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Purpose::{Add, SignIn};

    #[test]
    fn a_challenge_is_for_one_purpose_one_browser_and_five_minutes() {
        let all = Challenges::new();
        let challenge = all.make(SignIn, "browser", 1000).unwrap();
        let end_s = 1000 + CHALLENGE_S;
        assert!(all.check(&challenge, SignIn, "browser", end_s).is_ok());
        assert!(all.check(&challenge, SignIn, "browser", end_s + 1).is_err());
        assert!(all.check(&challenge, SignIn, "another", 1000).is_err());
        assert!(all.check(&challenge, SignIn, "", 1000).is_err());
        assert!(all.check(&challenge, Add, "browser", 1000).is_err());
        assert!(Challenges::new().check(&challenge, SignIn, "browser", 1000).is_err(), "restarted");
        assert_ne!(challenge, all.make(SignIn, "browser", 1000).unwrap());
        for n in 0..challenge.len() {
            let mut changed = challenge.clone();
            changed[n] ^= 1;
            assert!(all.check(&changed, SignIn, "browser", 1000).is_err(), "byte {n}");
            assert!(all.check(&challenge[..n], SignIn, "browser", 1000).is_err(), "byte {n}");
        }
    }

    #[test]
    fn a_challenge_counts_once_and_is_kept_until_its_end() {
        let all = Challenges::new();
        let make = || all.make(SignIn, "browser", 1000).unwrap();
        let first = make();
        all.spend(&first, "alice", 1000).unwrap();
        assert!(all.spend(&first, "alice", 1000 + CHALLENGE_S).is_err(), "replayed");
        assert!(all.spend(&first, "bob", 1000).is_err(), "replayed as another account");
        for _ in 1..ANSWERED_MAX {
            all.spend(&make(), "alice", 1000).unwrap();
        }
        let refused = all.spend(&make(), "alice", 1000).unwrap_err();
        assert_eq!(refused.code(), Code::TooMany);
        assert!(all.spend(&make(), "bob", 1000).is_ok(), "an account fills its own share only");
        let later_s = 1001 + CHALLENGE_S;
        all.spend(&all.make(SignIn, "browser", later_s).unwrap(), "alice", later_s).unwrap();
        assert_eq!(all.spent.lock().unwrap().len(), 1, "what has ended is forgotten");
    }
}
