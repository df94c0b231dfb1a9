//! What this area keeps in memory.

use super::attempts::Attempts;
use super::bootstrap::BootstrapToken;
use super::challenges::Challenges;
use super::password::PasswordCost;
use super::seal::SealKey;
use crate::error::Error;
use crate::places::{Origin, Places};
use serde::Serialize;
use std::sync::Arc;
use std::time::Duration;

/// Attempts to sign in that wait for the computation of a hash.
const WAITING_MAX: usize = 64;
/// A computation that takes longer gives way.
const STALLED: Duration = Duration::from_secs(30);

/// What the files of a server say of accounts.
#[derive(Clone)]
pub struct AccountSecrets {
    /// The token of the first start.
    pub admin_token: String,
    /// The key of the seals on what the database says of accounts. Without it no account counts.
    pub seal_key: String,
    /// What a guess at a password costs.
    pub password_cost: PasswordCost,
}

/// The state of this area.
pub(crate) struct AccountsState {
    pub(super) bootstrap: BootstrapToken,
    pub(super) key: SealKey,
    pub(super) attempts: Attempts,
    pub(super) challenges: Challenges,
    pub(super) cost: PasswordCost,
    /// One place: hashes are computed one at a time.
    pub(super) hashing: Arc<Places<Origin>>,
}

impl AccountsState {
    pub(crate) fn new(secrets: &AccountSecrets) -> Self {
        Self {
            bootstrap: BootstrapToken::new(&secrets.admin_token),
            key: SealKey::new(&secrets.seal_key),
            attempts: Attempts::default(),
            challenges: Challenges::new(),
            cost: secrets.password_cost,
            hashing: Places::with_queue(1, 1, WAITING_MAX, STALLED),
        }
    }

    /// A MAC over a value of another area, by the key of the seals.
    pub(crate) fn seal(&self, kind: &str, value: &impl Serialize) -> Result<String, Error> {
        self.key.seal(kind, value)
    }

    /// A key of this server for a purpose. It is not in the database.
    pub(crate) fn derived_key(&self, purpose: &str) -> Result<[u8; 32], Error> {
        self.key.derived(purpose)
    }
}
