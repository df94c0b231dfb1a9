//! Profiles, their documents and revisions.

use crate::{Client, Result, with_query};
use fleeti_core::id::Line;
use fleeti_core::profile::Profile;
use fleeti_core::windows::Window;
use fleeti_core::wire::api::ProfileRevision;
use fleeti_core::wire::profile::{CheckedProfile, LibraryEntry, ProfileChanges, ProfileText};
use fleeti_core::wire::refresh::{RefreshSchedule, SetRefreshSchedule};
use fleeti_core::wire::suite::SuiteSearch;
use reqwest::Method;

impl Client {
    /// The newest revision of each profile.
    ///
    /// # Errors
    /// [`ClientError`](crate::ClientError).
    pub async fn profiles(&self) -> Result<Vec<ProfileRevision>> {
        self.get("profiles").await
    }
    /// Saves a profile as the next revision of its line.
    ///
    /// # Errors
    /// [`ClientError`](crate::ClientError); a refused profile lists all findings.
    pub async fn save_profile(&self, profile: &Profile) -> Result<ProfileRevision> {
        self.post("profiles", profile).await
    }
    /// Saves a document, TOML, as the next revision of its profile.
    ///
    /// # Errors
    /// [`ClientError`](crate::ClientError); a refused document lists all errors.
    pub async fn save_profile_text(&self, text: &str) -> Result<ProfileRevision> {
        self.post("profiles/documents", &ProfileText { text: text.to_owned() }).await
    }
    /// Checks a document, and saves nothing.
    ///
    /// # Errors
    /// [`ClientError`](crate::ClientError).
    pub async fn check_profile_text(&self, text: &str) -> Result<CheckedProfile> {
        self.post("profiles/check", &ProfileText { text: text.to_owned() }).await
    }
    /// The fragments that profiles can extend.
    ///
    /// # Errors
    /// [`ClientError`](crate::ClientError).
    pub async fn profile_library(&self) -> Result<Vec<LibraryEntry>> {
        self.get("profiles/library").await
    }
    /// Packages and units of the server's suite that fit a text, at most `limit` of each.
    ///
    /// # Errors
    /// [`ClientError`](crate::ClientError).
    pub async fn search_packages(&self, text: &str, limit: u32) -> Result<SuiteSearch> {
        let values = [("q", Some(text.to_owned())), ("limit", Some(limit.to_string()))];
        self.get(&with_query("profiles/packages", values)).await
    }
    /// The revisions of a profile, newest first.
    ///
    /// # Errors
    /// [`ClientError`](crate::ClientError).
    pub async fn revisions(&self, line: &Line) -> Result<Vec<ProfileRevision>> {
        self.get(&format!("profiles/{line}/revisions")).await
    }
    /// One revision of a profile.
    ///
    /// # Errors
    /// [`ClientError`](crate::ClientError).
    pub async fn revision(&self, line: &Line, number: u32) -> Result<ProfileRevision> {
        self.get(&format!("profiles/{line}/revisions/{number}")).await
    }
    /// What differs between two revisions of a profile.
    ///
    /// # Errors
    /// [`ClientError`](crate::ClientError).
    pub async fn profile_changes(&self, line: &Line, from: u32, to: u32) -> Result<ProfileChanges> {
        self.get(&format!("profiles/{line}/revisions/{from}/changes/{to}")).await
    }
    /// When a line is built with refreshed packages.
    ///
    /// # Errors
    /// [`ClientError`](crate::ClientError).
    pub async fn refresh_schedule(&self, line: &Line) -> Result<RefreshSchedule> {
        self.get(&format!("profiles/{line}/refresh-schedule")).await
    }
    /// Sets when a line is built with refreshed packages.
    ///
    /// # Errors
    /// [`ClientError`](crate::ClientError).
    pub async fn set_refresh_schedule(
        &self,
        line: &Line,
        window: &Window,
    ) -> Result<RefreshSchedule> {
        let path = format!("profiles/{line}/refresh-schedule");
        let schedule = SetRefreshSchedule { window: window.clone() };
        Self::read(Self::send(self.request(Method::PUT, &path).json(&schedule)).await?).await
    }
    /// Stops building a line with refreshed packages by a schedule.
    ///
    /// # Errors
    /// [`ClientError`](crate::ClientError).
    pub async fn remove_refresh_schedule(&self, line: &Line) -> Result<()> {
        let path = format!("profiles/{line}/refresh-schedule");
        Self::send(self.request(Method::DELETE, &path)).await.map(drop)
    }
}
