//! Rollouts.

use crate::{Client, Result, with_query};
use fleeti_core::id::ReleaseName;
use fleeti_core::rollout::forecast::Forecast;
use fleeti_core::rollout::gates::ReleasePath;
use fleeti_core::wire::api::{
    CreateRollout, NextWave, PauseRollouts, PausedRollouts, Rollout, RolloutQuery, RolloutSummary,
};
use fleeti_core::wire::evidence::ReleaseEvidence;
use reqwest::Method;

impl Client {
    /// Starts a rollout.
    ///
    /// # Errors
    /// [`ClientError`](crate::ClientError).
    pub async fn start_rollout(&self, rollout: &CreateRollout) -> Result<RolloutSummary> {
        self.post("rollouts", rollout).await
    }
    /// What a rollout would come to if it started now. Starts nothing.
    ///
    /// # Errors
    /// [`ClientError`](crate::ClientError).
    pub async fn plan_rollout(&self, rollout: &CreateRollout) -> Result<Forecast> {
        self.post("rollout-plans", rollout).await
    }
    /// The evidence of a release: who approved it, and what was proved when.
    ///
    /// # Errors
    /// [`ClientError`](crate::ClientError).
    pub async fn release_evidence(&self, release: &ReleaseName) -> Result<ReleaseEvidence> {
        self.get(&format!("releases/{release}/evidence")).await
    }
    /// The ways to a release: whether it is a floor, and from which versions it is not offered.
    ///
    /// # Errors
    /// [`ClientError`](crate::ClientError).
    pub async fn release_path(&self, release: &ReleaseName) -> Result<ReleasePath> {
        self.get(&format!("releases/{release}/path")).await
    }
    /// Replaces the ways to a release.
    ///
    /// # Errors
    /// [`ClientError`](crate::ClientError).
    pub async fn set_release_path(
        &self,
        release: &ReleaseName,
        path: &ReleasePath,
    ) -> Result<ReleasePath> {
        let request = self.request(Method::PUT, &format!("releases/{release}/path")).json(path);
        Self::read(Self::send(request).await?).await
    }
    /// One rollout, with the first page of its devices.
    ///
    /// # Errors
    /// [`ClientError`](crate::ClientError).
    pub async fn rollout(&self, id: &str) -> Result<Rollout> {
        self.rollout_page(id, &RolloutQuery::default()).await
    }
    /// One rollout, with a page of its devices.
    ///
    /// # Errors
    /// [`ClientError`](crate::ClientError).
    pub async fn rollout_page(&self, id: &str, query: &RolloutQuery) -> Result<Rollout> {
        let RolloutQuery { category, after, limit } = query;
        let values = [
            ("category", category.map(|category| category.name().to_owned())),
            ("after", after.as_ref().map(ToString::to_string)),
            ("limit", limit.map(|limit| limit.to_string())),
        ];
        self.get(&with_query(&format!("rollouts/{id}"), values)).await
    }
    /// The newest rollouts.
    ///
    /// # Errors
    /// [`ClientError`](crate::ClientError).
    pub async fn rollouts(&self) -> Result<Vec<RolloutSummary>> {
        self.get("rollouts").await
    }
    /// Pauses a rollout.
    ///
    /// # Errors
    /// [`ClientError`](crate::ClientError); a conflict for a rollout that is not running.
    pub async fn pause_rollout(&self, id: &str) -> Result<RolloutSummary> {
        self.post(&format!("rollouts/{id}/pause"), &()).await
    }
    /// Pauses all rollouts that run, of the fleets that the caller may roll out to.
    ///
    /// # Errors
    /// [`ClientError`](crate::ClientError).
    pub async fn pause_all_rollouts(&self, reason: &str) -> Result<PausedRollouts> {
        self.post("rollout-pauses", &PauseRollouts { reason: reason.to_owned() }).await
    }
    /// Resumes a rollout that is paused.
    ///
    /// # Errors
    /// [`ClientError`](crate::ClientError); a conflict for a rollout that is not paused.
    pub async fn resume_rollout(&self, id: &str) -> Result<RolloutSummary> {
        self.post(&format!("rollouts/{id}/resume"), &()).await
    }
    /// Begins the next wave of a rollout, once its webhook gate allows it.
    ///
    /// # Errors
    /// [`ClientError`](crate::ClientError); a conflict while devices of the wave, or of the rollout in its last wave, have not finished, or while the wave waits for the gate alone.
    pub async fn next_wave(&self, id: &str, reason: &str) -> Result<RolloutSummary> {
        let (reason, over_gate) = (reason.to_owned(), false);
        self.begin_wave(id, &NextWave { reason, over_gate }).await
    }
    /// Begins the next wave of a rollout, also over its webhook gate if the request says so.
    ///
    /// # Errors
    /// As [`Self::next_wave`].
    pub async fn begin_wave(&self, id: &str, request: &NextWave) -> Result<RolloutSummary> {
        self.post(&format!("rollouts/{id}/next"), request).await
    }
    /// Starts a rollout in place of an active one.
    ///
    /// # Errors
    /// [`ClientError`](crate::ClientError); a conflict for a rollout that has ended.
    pub async fn supersede_rollout(
        &self,
        id: &str,
        rollout: &CreateRollout,
    ) -> Result<RolloutSummary> {
        self.post(&format!("rollouts/{id}/supersede"), rollout).await
    }
    /// Takes the devices of a rollout back to the release that they ran before.
    ///
    /// # Errors
    /// [`ClientError`](crate::ClientError); a conflict for a rollout without an older release to go back to.
    pub async fn roll_back_rollout(&self, id: &str, reason: &str) -> Result<RolloutSummary> {
        let (reason, over_gate) = (reason.to_owned(), false);
        self.post(&format!("rollouts/{id}/roll-back"), &NextWave { reason, over_gate }).await
    }
    /// Aborts a rollout.
    ///
    /// # Errors
    /// [`ClientError`](crate::ClientError).
    pub async fn abort_rollout(&self, id: &str) -> Result<RolloutSummary> {
        self.post(&format!("rollouts/{id}/abort"), &()).await
    }
}
