//! What the pages of accounts show.

use crate::pages::display::{Badge, time};
use crate::pages::page::Page;
use askama::Template;
use fleeti_core::id::AccountName;
use fleeti_core::wire::accounts::{
    Account, AccountDetails, AccountKind, ApiToken, CreatedToken, Grant, LoginSession, Passkey,
    PasswordLink, Permission, Role,
};

/// An account in the list.
struct AccountRow {
    name: String,
    kind: &'static str,
    roles: String,
    state: Badge,
}

fn state(account: &Account) -> Badge {
    match account {
        Account { disabled_s: Some(_), .. } => Badge::new("bad", "disabled"),
        Account { kind: AccountKind::Person, has_password: false, .. } => {
            Badge::new("warn", "no password yet")
        }
        _ => Badge::new("good", "active"),
    }
}

impl From<&Account> for AccountRow {
    fn from(account: &Account) -> Self {
        let roles = account.grants.iter().map(ToString::to_string).collect::<Vec<_>>();
        Self {
            name: account.name.to_string(),
            kind: account.kind.as_str(),
            roles: roles.join(", "),
            state: state(account),
        }
    }
}

/// The list of accounts.
#[derive(Template)]
#[template(path = "users.html", blocks = ["main"])]
pub struct AccountsPage {
    page: Page,
    accounts: Vec<AccountRow>,
    roles: [Role; 5],
}

impl AccountsPage {
    pub fn of(page: Page, accounts: &[Account]) -> Self {
        Self { page, accounts: accounts.iter().map(AccountRow::from).collect(), roles: Role::ALL }
    }
}

/// A role that can be taken away.
struct GrantRow {
    text: String,
    role: Role,
    fleet: String,
}

impl From<&Grant> for GrantRow {
    fn from(grant: &Grant) -> Self {
        let fleet = grant.fleet.as_ref().map_or_else(String::new, ToString::to_string);
        Self { text: grant.to_string(), role: grant.role, fleet }
    }
}

struct SessionRow {
    id: String,
    began: String,
    used: String,
}

impl From<&LoginSession> for SessionRow {
    fn from(session: &LoginSession) -> Self {
        let LoginSession { id, created_s, used_s, .. } = session;
        Self { id: id.clone(), began: time(*created_s), used: time(*used_s) }
    }
}

struct PasskeyRow {
    id: String,
    label: String,
    kept: &'static str,
    added: String,
    used: String,
}

impl From<&Passkey> for PasskeyRow {
    fn from(passkey: &Passkey) -> Self {
        Self {
            id: passkey.id.clone(),
            label: passkey.label.clone(),
            kept: if passkey.is_synced { "synchronised" } else { "on one device" },
            added: time(passkey.created_s),
            used: passkey.used_s.map_or_else(|| "never".to_owned(), time),
        }
    }
}

struct TokenRow {
    id: String,
    label: String,
    permissions: String,
    used: String,
    ends: String,
}

impl From<&ApiToken> for TokenRow {
    fn from(token: &ApiToken) -> Self {
        let permissions = token.permissions.as_ref().map_or_else(
            || "all of its account".to_owned(),
            |all| all.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
        );
        Self {
            id: token.id.clone(),
            label: token.label.clone(),
            permissions,
            used: token.used_s.map_or_else(|| "never".to_owned(), time),
            ends: time(token.expires_s),
        }
    }
}

/// The page of an account: of the own one, or of another for an administrator.
#[derive(Template)]
#[template(path = "user.html", blocks = ["main"])]
pub struct AccountPage {
    page: Page,
    name: String,
    kind: &'static str,
    state: Badge,
    is_own: bool,
    is_person: bool,
    is_disabled: bool,
    has_password: bool,
    grants: Vec<GrantRow>,
    sessions: Vec<SessionRow>,
    tokens: Vec<TokenRow>,
    passkeys: Vec<PasskeyRow>,
    /// Where the own passkeys work; `None` if the server has none, or for another account.
    origin: Option<String>,
    open_enrollments: u64,
    elsewhere: Vec<String>,
    roles: [Role; 5],
    permissions: [Permission; 13],
}

impl AccountPage {
    pub fn of(page: Page, details: AccountDetails, is_own: bool) -> Self {
        let AccountDetails { account, sessions, tokens, passkeys, open_enrollments, elsewhere } =
            details;
        Self {
            page,
            name: account.name.to_string(),
            kind: account.kind.as_str(),
            state: state(&account),
            is_own,
            is_person: account.kind == AccountKind::Person,
            is_disabled: account.disabled_s.is_some(),
            has_password: account.has_password,
            grants: account.grants.iter().map(GrantRow::from).collect(),
            sessions: sessions.iter().map(SessionRow::from).collect(),
            tokens: tokens.iter().map(TokenRow::from).collect(),
            passkeys: passkeys.iter().map(PasskeyRow::from).collect(),
            origin: None,
            open_enrollments,
            elsewhere,
            roles: Role::ALL,
            permissions: Permission::ALL,
        }
    }

    /// The own page, on a server where passkeys work at this origin.
    pub fn with_passkeys_at(self, origin: Option<&str>) -> Self {
        Self { origin: origin.map(str::to_owned), ..self }
    }
}

/// The page that shows a link or a token, once.
#[derive(Template)]
#[template(path = "once.html", blocks = ["main"])]
pub struct OncePage {
    page: Page,
    title: String,
    secret: String,
    is_link: bool,
    ends: String,
    back: String,
}

impl OncePage {
    pub fn link(page: Page, name: &AccountName, link: &PasswordLink) -> Self {
        Self {
            page,
            title: format!("Link for {name}"),
            secret: link.path.expose().to_owned(),
            is_link: true,
            ends: time(link.expires_s),
            back: format!("/users/{name}"),
        }
    }
    pub fn token(page: Page, created: &CreatedToken) -> Self {
        Self {
            page,
            title: format!("Token {}", created.about.label),
            secret: created.token.expose().to_owned(),
            is_link: false,
            ends: time(created.about.expires_s),
            back: "/account".to_owned(),
        }
    }
}
