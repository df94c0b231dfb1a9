//! What the pages show that need no session.

use askama::Template;
use fleeti_control::error::Error;
use fleeti_core::id::AccountName;

fn said(refused: &Error) -> String {
    let hint = refused.what_to_do().unwrap_or_default();
    format!("{refused}: {hint}")
}

/// The sign-in page.
#[derive(Template)]
#[template(path = "signin.html")]
pub struct SignInPage {
    problem: Option<String>,
    /// The origin at which passkeys work; `None` if they are off.
    origin: Option<String>,
}

impl SignInPage {
    /// Before the first attempt, on a server with passkeys that work at this origin.
    pub fn of(origin: Option<&str>) -> Self {
        Self { problem: None, origin: origin.map(str::to_owned) }
    }
    /// After a refused attempt.
    pub fn after(self, refused: &Error) -> Self {
        Self { problem: Some(said(refused)), ..self }
    }
}

/// The page of a one-time link, which sets a password.
#[derive(Template)]
#[template(path = "join.html")]
pub struct JoinPage {
    path: String,
    /// Its account; `None` for the first administrator, who chooses a name.
    account: Option<String>,
    problem: Option<String>,
}

impl JoinPage {
    /// Before the first attempt.
    pub fn of(token: &str, account: Option<&AccountName>) -> Self {
        let account = account.map(ToString::to_string);
        Self { path: format!("/join/{token}"), account, problem: None }
    }
    /// After a refused attempt.
    pub fn after(self, refused: &Error) -> Self {
        Self { problem: Some(said(refused)), ..self }
    }
}
