//! Alerts, their rules, silences, webhooks, e-mail, and the history of devices.

use crate::{Client, Result, with_query};
use fleeti_core::id::DeviceId;
use fleeti_core::wire::alerts::{
    AcknowledgeAlert, Alert, AlertDetails, AlertQuery, CreateSilence, RuleStatus, SetRule, Silence,
};
use fleeti_core::wire::email::{AddReceiver, EmailDelivery, EmailReceiver};
use fleeti_core::wire::history::{Drift, History, HistoryQuery};
use fleeti_core::wire::webhook::{CreateWebhook, CreatedWebhook, Delivery, Webhook};
use reqwest::Method;

impl Client {
    /// A page of alerts, newest first.
    ///
    /// # Errors
    /// [`ClientError`](crate::ClientError).
    pub async fn alerts(&self, query: &AlertQuery) -> Result<Vec<Alert>> {
        let AlertQuery { all, fleet, after, limit } = query;
        let values = [
            ("all", all.then(|| "true".to_owned())),
            ("fleet", fleet.as_ref().map(ToString::to_string)),
            ("after", after.clone()),
            ("limit", limit.map(|limit| limit.to_string())),
        ];
        self.get(&with_query("alerts", values)).await
    }
    /// An alert with its history.
    ///
    /// # Errors
    /// [`ClientError`](crate::ClientError).
    pub async fn alert(&self, id: &str) -> Result<AlertDetails> {
        self.get(&format!("alerts/{id}")).await
    }
    /// Acknowledges an open alert.
    ///
    /// # Errors
    /// [`ClientError`](crate::ClientError).
    pub async fn acknowledge_alert(&self, id: &str, note: &str) -> Result<AlertDetails> {
        let request = AcknowledgeAlert { note: note.to_owned() };
        self.post(&format!("alerts/{id}/acknowledge"), &request).await
    }
    /// The rules that count now.
    ///
    /// # Errors
    /// [`ClientError`](crate::ClientError).
    pub async fn alert_rules(&self) -> Result<Vec<RuleStatus>> {
        self.get("alert-rules").await
    }
    /// Changes a shipped rule, or adds or changes another one.
    ///
    /// # Errors
    /// [`ClientError`](crate::ClientError).
    pub async fn set_alert_rule(&self, id: &str, rule: &SetRule) -> Result<RuleStatus> {
        let request = self.request(Method::PUT, &format!("alert-rules/{id}")).json(rule);
        Self::read(Self::send(request).await?).await
    }
    /// Removes an added rule, or the change of a shipped one.
    ///
    /// # Errors
    /// [`ClientError`](crate::ClientError).
    pub async fn remove_alert_rule(&self, id: &str) -> Result<()> {
        let request = self.request(Method::DELETE, &format!("alert-rules/{id}"));
        Self::send(request).await.map(drop)
    }
    /// Silences and maintenance windows that have not ended.
    ///
    /// # Errors
    /// [`ClientError`](crate::ClientError).
    pub async fn silences(&self) -> Result<Vec<Silence>> {
        self.get("silences").await
    }
    /// Adds a silence.
    ///
    /// # Errors
    /// [`ClientError`](crate::ClientError).
    pub async fn add_silence(&self, request: &CreateSilence) -> Result<Silence> {
        self.post("silences", request).await
    }
    /// Removes a silence.
    ///
    /// # Errors
    /// [`ClientError`](crate::ClientError).
    pub async fn remove_silence(&self, id: &str) -> Result<()> {
        let request = self.request(Method::DELETE, &format!("silences/{id}"));
        Self::send(request).await.map(drop)
    }
    /// Webhooks, without their secrets.
    ///
    /// # Errors
    /// [`ClientError`](crate::ClientError).
    pub async fn webhooks(&self) -> Result<Vec<Webhook>> {
        self.get("webhooks").await
    }
    /// Adds a webhook. Only this response contains its secret.
    ///
    /// # Errors
    /// [`ClientError`](crate::ClientError).
    pub async fn add_webhook(&self, request: &CreateWebhook) -> Result<CreatedWebhook> {
        self.post("webhooks", request).await
    }
    /// Removes a webhook with its deliveries.
    ///
    /// # Errors
    /// [`ClientError`](crate::ClientError).
    pub async fn remove_webhook(&self, id: &str) -> Result<()> {
        let request = self.request(Method::DELETE, &format!("webhooks/{id}"));
        Self::send(request).await.map(drop)
    }
    /// Sends a test event to a webhook.
    ///
    /// # Errors
    /// [`ClientError`](crate::ClientError).
    pub async fn test_webhook(&self, id: &str) -> Result<()> {
        let request = self.request(Method::POST, &format!("webhooks/{id}/test"));
        self.post_once(request).await.map(drop)
    }
    /// The newest deliveries of a webhook, newest first.
    ///
    /// # Errors
    /// [`ClientError`](crate::ClientError).
    pub async fn deliveries(&self, id: &str) -> Result<Vec<Delivery>> {
        self.get(&format!("webhooks/{id}/deliveries")).await
    }
    /// The receivers of e-mail about alerts.
    ///
    /// # Errors
    /// [`ClientError`](crate::ClientError).
    pub async fn email_receivers(&self) -> Result<Vec<EmailReceiver>> {
        self.get("email-receivers").await
    }
    /// Adds a receiver of e-mail about alerts.
    ///
    /// # Errors
    /// [`ClientError`](crate::ClientError).
    pub async fn add_email_receiver(&self, request: &AddReceiver) -> Result<EmailReceiver> {
        self.post("email-receivers", request).await
    }
    /// Removes a receiver with its e-mails.
    ///
    /// # Errors
    /// [`ClientError`](crate::ClientError).
    pub async fn remove_email_receiver(&self, id: &str) -> Result<()> {
        let request = self.request(Method::DELETE, &format!("email-receivers/{id}"));
        Self::send(request).await.map(drop)
    }
    /// Sends a receiver e-mail again.
    ///
    /// # Errors
    /// [`ClientError`](crate::ClientError).
    pub async fn enable_email_receiver(&self, id: &str) -> Result<()> {
        let request = self.request(Method::POST, &format!("email-receivers/{id}/enable"));
        self.post_once(request).await.map(drop)
    }
    /// Sends a receiver no e-mail, also none that waits.
    ///
    /// # Errors
    /// [`ClientError`](crate::ClientError).
    pub async fn disable_email_receiver(&self, id: &str) -> Result<()> {
        let request = self.request(Method::POST, &format!("email-receivers/{id}/disable"));
        self.post_once(request).await.map(drop)
    }
    /// Sends a test e-mail to a receiver.
    ///
    /// # Errors
    /// [`ClientError`](crate::ClientError).
    pub async fn test_email_receiver(&self, id: &str) -> Result<()> {
        let request = self.request(Method::POST, &format!("email-receivers/{id}/test"));
        self.post_once(request).await.map(drop)
    }
    /// The newest e-mails to a receiver, newest first.
    ///
    /// # Errors
    /// [`ClientError`](crate::ClientError).
    pub async fn emails(&self, id: &str) -> Result<Vec<EmailDelivery>> {
        self.get(&format!("email-receivers/{id}/emails")).await
    }
    /// How a device differs from what is desired of it.
    ///
    /// # Errors
    /// [`ClientError`](crate::ClientError).
    pub async fn drift(&self, device: &DeviceId) -> Result<Drift> {
        self.get(&format!("devices/{device}/drift")).await
    }
    /// What a device was in a span of time, and its metrics.
    ///
    /// # Errors
    /// [`ClientError`](crate::ClientError).
    pub async fn history(&self, device: &DeviceId, query: &HistoryQuery) -> Result<History> {
        let HistoryQuery { from_s, until_s } = query;
        let values = [("from_s", *from_s), ("until_s", *until_s)]
            .map(|(name, s)| (name, s.map(|s| s.to_string())));
        self.get(&with_query(&format!("devices/{device}/history"), values)).await
    }
}
