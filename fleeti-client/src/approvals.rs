//! Acts that wait for a second person.

use crate::{Client, Result};
use fleeti_core::wire::approval::{
    Approval, ApprovalDetails, ApprovalPolicy, Decide, RequestApproval,
};
use fleeti_core::wire::attestation::Secret;
use fleeti_core::wire::vault::ShownRecoveryKey;
use reqwest::Method;

impl Client {
    /// Acts that wait for a second person, and then the newest that waited.
    ///
    /// # Errors
    /// [`ClientError`](crate::ClientError).
    pub async fn approvals(&self) -> Result<Vec<Approval>> {
        self.get("approvals").await
    }
    /// Requests the approval of a second person.
    ///
    /// # Errors
    /// [`ClientError`](crate::ClientError).
    pub async fn request_approval(&self, request: &RequestApproval) -> Result<Approval> {
        self.post("approvals", request).await
    }
    /// An act, with exactly what is performed.
    ///
    /// # Errors
    /// [`ClientError`](crate::ClientError).
    pub async fn approval(&self, id: &str) -> Result<ApprovalDetails> {
        self.get(&format!("approvals/{id}")).await
    }
    /// Approves an act as a second person. The server then performs it.
    ///
    /// # Errors
    /// [`ClientError`](crate::ClientError).
    pub async fn approve_act(&self, id: &str, note: &str) -> Result<Approval> {
        self.post(&format!("approvals/{id}/approve"), &Decide { note: note.to_owned() }).await
    }
    /// Denies an act as a second person, or withdraws an own one.
    ///
    /// # Errors
    /// [`ClientError`](crate::ClientError).
    pub async fn deny_act(&self, id: &str, note: &str) -> Result<Approval> {
        self.post(&format!("approvals/{id}/deny"), &Decide { note: note.to_owned() }).await
    }
    /// The recovery key of an approved act of the own account. The server shows it once.
    ///
    /// # Errors
    /// [`ClientError`](crate::ClientError).
    pub async fn collect_recovery_key(&self, id: &str) -> Result<Secret> {
        let request = self.request(Method::POST, &format!("approvals/{id}/recovery-key"));
        let shown: ShownRecoveryKey = Self::read(Self::send(request).await?).await?;
        Ok(shown.key)
    }
    /// Which acts need a second person.
    ///
    /// # Errors
    /// [`ClientError`](crate::ClientError).
    pub async fn approval_policy(&self) -> Result<ApprovalPolicy> {
        self.get("approval-policy").await
    }
    /// Sets which acts need a second person.
    ///
    /// # Errors
    /// [`ClientError`](crate::ClientError).
    pub async fn set_approval_policy(&self, policy: &ApprovalPolicy) -> Result<ApprovalPolicy> {
        let request = self.request(Method::PUT, "approval-policy").json(policy);
        Self::read(Self::send(request).await?).await
    }
}
