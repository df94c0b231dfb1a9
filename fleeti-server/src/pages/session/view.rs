//! What the sign-in page shows.

use askama::Template;
use fleeti_control::error::Error;

/// The sign-in page.
#[derive(Template)]
#[template(path = "signin.html")]
pub struct SignInPage {
    problem: Option<String>,
}

impl SignInPage {
    /// Before the first attempt.
    pub fn empty() -> Self {
        Self { problem: None }
    }
    /// After a refused attempt.
    pub fn after(refused: &Error) -> Self {
        let hint = refused.what_to_do().unwrap_or_default();
        Self { problem: Some(format!("{refused}: {hint}")) }
    }
}
