//! Accounts, their roles, and API tokens.

use crate::{Client, ClientError, Result};
use fleeti_core::id::AccountName;
use fleeti_core::strict;
use fleeti_core::wire::accounts::{
    Account, AccountDetails, ApiToken, CreateAccount, CreateToken, CreatedAccount, CreatedToken,
    Grant, LoginSession, Me, Passkey, PasswordLink,
};
use reqwest::Method;
use serde::Serialize;
use serde::de::DeserializeOwned;

impl Client {
    /// The account and credential of this client.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn me(&self) -> Result<Me> {
        self.get("me").await
    }
    /// The login sessions of the own account.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn sessions(&self) -> Result<Vec<LoginSession>> {
        self.get("sessions").await
    }
    /// Ends a login session of the own account. Returns those that are left.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn end_session(&self, id: &str) -> Result<Vec<LoginSession>> {
        let request = self.request(Method::DELETE, &format!("sessions/{id}"));
        Self::read(Self::send(request).await?).await
    }
    /// The passkeys of the own account.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn passkeys(&self) -> Result<Vec<Passkey>> {
        self.get("passkeys").await
    }
    /// Removes a passkey.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn remove_passkey(&self, id: &str) -> Result<()> {
        let request = self.request(Method::DELETE, &format!("passkeys/{id}"));
        Self::send(request).await.map(drop)
    }
    /// The API tokens of the own account.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn tokens(&self) -> Result<Vec<ApiToken>> {
        self.get("tokens").await
    }
    /// Creates an API token. Only this response contains it.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn create_token(&self, request: &CreateToken) -> Result<CreatedToken> {
        self.post("tokens", request).await
    }
    /// Removes an API token.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn remove_token(&self, id: &str) -> Result<()> {
        let request = self.request(Method::DELETE, &format!("tokens/{id}"));
        Self::send(request).await.map(drop)
    }
    /// All accounts.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn accounts(&self) -> Result<Vec<Account>> {
        self.get("accounts").await
    }
    /// Adds an account. Only this response contains the link of a person.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn add_account(&self, request: &CreateAccount) -> Result<CreatedAccount> {
        self.post("accounts", request).await
    }
    /// An account, with everything that accepts its holder.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn account(&self, name: &AccountName) -> Result<AccountDetails> {
        self.get(&format!("accounts/{name}")).await
    }
    /// Gives an account a role.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn grant_role(&self, name: &AccountName, grant: &Grant) -> Result<Account> {
        self.post(&format!("accounts/{name}/grants"), grant).await
    }
    /// Takes a role from an account.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn remove_role(&self, name: &AccountName, grant: &Grant) -> Result<Account> {
        self.post(&format!("accounts/{name}/grants/remove"), grant).await
    }
    /// Disables an account.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn disable_account(&self, name: &AccountName) -> Result<Account> {
        self.act(name, "disable").await
    }
    /// Enables an account.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn enable_account(&self, name: &AccountName) -> Result<Account> {
        self.act(name, "enable").await
    }
    /// Ends everything of an account that the server can end.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn offboard_account(&self, name: &AccountName) -> Result<AccountDetails> {
        self.act(name, "offboard").await
    }
    /// Makes a one-time link with which a person sets a new password.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn create_link(&self, name: &AccountName) -> Result<PasswordLink> {
        self.act(name, "link").await
    }

    /// The login sessions of an account.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn sessions_of(&self, name: &AccountName) -> Result<Vec<LoginSession>> {
        self.get(&format!("accounts/{name}/sessions")).await
    }
    /// Ends all login sessions of an account.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn end_sessions_of(&self, name: &AccountName) -> Result<()> {
        let request = self.request(Method::DELETE, &format!("accounts/{name}/sessions"));
        Self::send(request).await.map(drop)
    }
    /// Ends a login session of an account.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn end_session_of(&self, name: &AccountName, id: &str) -> Result<()> {
        let request = self.request(Method::DELETE, &format!("accounts/{name}/sessions/{id}"));
        Self::send(request).await.map(drop)
    }

    async fn act<T: DeserializeOwned + Serialize>(
        &self,
        name: &AccountName,
        act: &str,
    ) -> Result<T> {
        let request = self.request(Method::POST, &format!("accounts/{name}/{act}"));
        let answer = self.post_once(request).await?;
        strict::from_slice(&answer).map_err(ClientError::Answer)
    }
}
