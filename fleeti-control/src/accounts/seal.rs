//! Seals: MACs by a key that is in a file, over what the database says of accounts. An attacker who
//! can only write the database makes no account, role, token, passkey, link or session that counts.

use crate::error::Error;
use fleeti_core::id::AccountName;
use fleeti_store::accounts::{AccountRow, LinkRow, TokenRow};
use fleeti_store::passkeys::PasskeyRow;
use fleeti_store::sessions::SessionRow;
use hmac::{Hmac, KeyInit, Mac};
use serde::Serialize;
use sha2::Sha256;

/// The key of the seals.
pub(super) struct SealKey(Vec<u8>);

impl SealKey {
    pub(super) fn new(key: &str) -> Self {
        Self(key.as_bytes().to_vec())
    }

    /// A key for another purpose than seals.
    pub(super) fn derived(&self, purpose: &str) -> Result<[u8; 32], Error> {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0).map_err(Error::internal)?;
        mac.update(format!("fleeti key for {purpose}").as_bytes());
        Ok(mac.finalize().into_bytes().into())
    }

    /// The MAC of a value, hexadecimal. `kind` keeps the rows of one table out of another.
    pub(super) fn seal(&self, kind: &str, value: &impl Serialize) -> Result<String, Error> {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0).map_err(Error::internal)?;
        mac.update(&serde_json::to_vec(&(kind, value))?);
        Ok(hex::encode(mac.finalize().into_bytes()))
    }

    pub(super) fn account(&self, row: &AccountRow) -> Result<String, Error> {
        let AccountRow { name, kind, created_s, disabled_s, password, grants, seal: _ } = row;
        self.seal("account", &(name, kind, created_s, disabled_s, password, grants))
    }

    pub(super) fn token(&self, row: &TokenRow) -> Result<String, Error> {
        let about = &row.about;
        let what = (&about.id, &about.account, &about.permissions, about.expires_s);
        self.seal("token", &(&row.token_sha256, what))
    }

    pub(super) fn passkey(&self, row: &PasskeyRow) -> Result<String, Error> {
        let about = &row.about;
        let what = (&about.id, &about.account, about.is_synced, about.created_s);
        self.seal("passkey", &(what, &row.credential_id, &row.public_key, row.counter))
    }

    /// How authenticators know an account: neither its name nor guessable, and the same for ever.
    pub(super) fn user_handle(&self, account: &AccountName) -> Result<Vec<u8>, Error> {
        hex::decode(self.seal("user handle", account)?).map_err(Error::internal)
    }

    pub(super) fn link(&self, row: &LinkRow) -> Result<String, Error> {
        self.seal("link", &(&row.account, &row.token_sha256, row.expires_s))
    }

    /// The seal of a session also covers the credential that began it, so that the session ends when
    /// that is replaced.
    pub(super) fn session(&self, row: &SessionRow, credential: &str) -> Result<String, Error> {
        let what = (&row.token_sha256, &row.account, row.created_s, row.expires_s);
        self.seal("session", &(what, credential))
    }
}
