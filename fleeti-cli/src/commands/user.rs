//! `fleeti user`: accounts of people and programs, and their roles.

use super::server::Server;
use crate::CommandResult;
use crate::output::{Lines, Output, rows, when};
use fleeti_client::Client;
use fleeti_core::id::{AccountName, FleetId};
use fleeti_core::wire::accounts::{
    Account, AccountDetails, AccountKind, CreateAccount, CreatedAccount, Grant, LoginSession, Me,
    Passkey, PasswordLink, Role,
};

/// Accounts.
#[derive(clap::Subcommand)]
pub enum Command {
    /// Show the account and credential of the own API token, and what they permit.
    Me {
        #[command(flatten)]
        server: Server,
    },
    /// List accounts.
    List {
        #[command(flatten)]
        server: Server,
    },
    /// Show an account, with everything that accepts its holder.
    Show {
        /// Name of the account.
        name: AccountName,
        #[command(flatten)]
        server: Server,
    },
    /// Add an account. A person gets a one-time link, which sets the password.
    Add {
        /// Name of the account, which the audit log shows. It is never given to another account.
        name: AccountName,
        /// The account is for a program: it has API tokens and no password.
        #[arg(long)]
        service: bool,
        /// First role; `fleeti user grant` gives more.
        #[arg(long)]
        role: Option<Role>,
        /// The role is for this fleet only.
        #[arg(long, requires = "role")]
        fleet: Option<FleetId>,
        #[command(flatten)]
        server: Server,
    },
    /// Give an account a role: viewer, operator, builder, approver or admin.
    Grant(RoleOf),
    /// Take a role from an account.
    Ungrant(RoleOf),
    /// Disable an account: its login sessions end, and its API tokens do not count.
    Disable {
        /// Name of the account.
        name: AccountName,
        #[command(flatten)]
        server: Server,
    },
    /// Enable a disabled account.
    Enable {
        /// Name of the account.
        name: AccountName,
        #[command(flatten)]
        server: Server,
    },
    /// Make a one-time link with which a person sets a new password.
    Link {
        /// Name of the account.
        name: AccountName,
        #[command(flatten)]
        server: Server,
    },
    /// List login sessions: those of your account, or of another one.
    Sessions {
        /// Name of the account; your own by default.
        name: Option<AccountName>,
        #[command(flatten)]
        server: Server,
    },
    /// End login sessions: one, or all of another account.
    EndSessions {
        /// Id of the session, as in `fleeti user sessions`; all if missing.
        #[arg(long, required_unless_present = "name")]
        session: Option<String>,
        /// Name of the account; your own by default.
        name: Option<AccountName>,
        #[command(flatten)]
        server: Server,
    },
    /// List passkeys: those of your account, or of another one. They are added in a browser, on the
    /// page of the account.
    Passkeys {
        /// Name of the account; your own by default.
        name: Option<AccountName>,
        #[command(flatten)]
        server: Server,
    },
    /// Remove a passkey. The login sessions that it began end.
    RemovePasskey {
        /// Id of the passkey, as in `fleeti user passkeys`.
        id: String,
        #[command(flatten)]
        server: Server,
    },
    /// End everything of an account: roles, password, passkeys, sessions, API tokens, and enrollment tokens
    /// that no device has used. Lists what may still accept the person.
    Offboard {
        /// Name of the account.
        name: AccountName,
        #[command(flatten)]
        server: Server,
    },
}

/// A role of an account.
#[derive(clap::Args)]
pub struct RoleOf {
    /// Name of the account.
    name: AccountName,
    /// The role.
    role: Role,
    /// The role is for this fleet only.
    #[arg(long)]
    fleet: Option<FleetId>,
    #[command(flatten)]
    server: Server,
}

/// Runs the command.
pub fn run(command: Command, output: &Output) -> CommandResult {
    match command {
        Command::Me { server } => output.data(&server.ask(Client::me)?, me),
        Command::List { server } => {
            let all = server.ask(Client::accounts)?;
            output.data(&all, |all| rows(all, "no accounts", line));
        }
        Command::Show { name, server } => {
            output.data(&server.ask(async |c| c.account(&name).await)?, details);
        }
        Command::Add { name, service, role, fleet, server } => {
            let kind = if service { AccountKind::Service } else { AccountKind::Person };
            let grants = role.into_iter().map(|role| Grant { role, fleet: fleet.clone() });
            let request = CreateAccount { name, kind, grants: grants.collect() };
            output.data(&server.ask(async |c| c.add_account(&request).await)?, added);
        }
        Command::Grant(RoleOf { name, role, fleet, server }) => {
            let grant = Grant { role, fleet };
            output.data(&server.ask(async |c| c.grant_role(&name, &grant).await)?, line);
        }
        Command::Ungrant(RoleOf { name, role, fleet, server }) => {
            let grant = Grant { role, fleet };
            output.data(&server.ask(async |c| c.remove_role(&name, &grant).await)?, line);
        }
        Command::Disable { name, server } => {
            output.data(&server.ask(async |c| c.disable_account(&name).await)?, line);
        }
        Command::Enable { name, server } => {
            output.data(&server.ask(async |c| c.enable_account(&name).await)?, line);
        }
        Command::Link { name, server } => {
            output.data(&server.ask(async |c| c.create_link(&name).await)?, link);
        }
        Command::Sessions { name, server } => {
            let all = server.ask(async |c| match &name {
                Some(name) => c.sessions_of(name).await,
                None => c.sessions().await,
            })?;
            output.data(&all, |all| rows(all, "no login sessions", session));
        }
        Command::EndSessions { session: id, name, server } => {
            end_sessions(id.as_deref(), name.as_ref(), &server, output)?;
        }
        Command::Passkeys { name, server } => {
            let all = server.ask(async |c| match &name {
                Some(name) => c.account(name).await.map(|details| details.passkeys),
                None => c.passkeys().await,
            })?;
            output.data(&all, |all| rows(all, "no passkeys", passkey));
        }
        Command::RemovePasskey { id, server } => {
            server.ask(async |c| c.remove_passkey(&id).await)?;
            output.data(&serde_json::json!({ "removed": id }), |_| format!("removed {id}"));
        }
        Command::Offboard { name, server } => {
            output.data(&server.ask(async |c| c.offboard_account(&name).await)?, details);
        }
    }
    Ok(())
}

fn end_sessions(
    id: Option<&str>,
    name: Option<&AccountName>,
    server: &Server,
    output: &Output,
) -> CommandResult {
    let left = server.ask(async |c| match (name, id) {
        (Some(name), Some(id)) => {
            c.end_session_of(name, id).await?;
            c.sessions_of(name).await
        }
        (Some(name), None) => {
            c.end_sessions_of(name).await?;
            c.sessions_of(name).await
        }
        (None, id) => c.end_session(id.unwrap_or_default()).await,
    })?;
    output.data(&left, |left| rows(left, "no login sessions", session));
    Ok(())
}

fn session(session: &LoginSession) -> String {
    let LoginSession { id, created_s, used_s, expires_s } = session;
    let (began, used, ends) = (when(*created_s), when(*used_s), when(*expires_s));
    format!("{id}  began {began}  used {used}  ends {ends}")
}

fn passkey(passkey: &Passkey) -> String {
    let used =
        passkey.used_s.map_or_else(|| "never used".to_owned(), |s| format!("used {}", when(s)));
    let kept = if passkey.is_synced { "synchronised" } else { "on one device" };
    format!("{}  {}  {kept}  added {}  {used}", passkey.id, passkey.label, when(passkey.created_s))
}

/// How a person signs in.
fn signs_in_by(details: &AccountDetails) -> String {
    let AccountDetails { account, passkeys, .. } = details;
    match (account.kind, account.has_password, passkeys.len()) {
        (AccountKind::Service, ..) => "by API tokens only".to_owned(),
        (AccountKind::Person, false, _) => "not yet: no password".to_owned(),
        (AccountKind::Person, true, 0) => "by password".to_owned(),
        (AccountKind::Person, true, n) => format!("by password, or by one of {n} passkeys"),
    }
}

fn roles(grants: &[Grant]) -> String {
    if grants.is_empty() {
        return "no role".to_owned();
    }
    grants.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

fn line(account: &Account) -> String {
    let state = match account.disabled_s {
        Some(at_s) => format!("  disabled {}", when(at_s)),
        None if account.kind == AccountKind::Person && !account.has_password => {
            "  has not set a password".to_owned()
        }
        None => String::new(),
    };
    format!("{:<24}  {:<7}  {}{state}", account.name, account.kind.as_str(), roles(&account.grants))
}

fn me(me: &Me) -> Lines {
    let mut lines = vec![format!("{} by {}: {}", me.name, me.credential, roles(&me.grants))];
    if let Some(permissions) = &me.permissions {
        let names = permissions.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        lines.push(format!("limited to the permissions {names}"));
    }
    lines.into()
}

fn link(link: &PasswordLink) -> Lines {
    vec![
        link.path.expose().to_owned(),
        format!(
            "the person opens this path on the server's address until {}, once, and sets a password",
            when(link.expires_s)
        ),
    ]
    .into()
}

fn added(created: &CreatedAccount) -> Lines {
    let added = Lines::from(line(&created.account));
    match &created.link {
        Some(of) => added.and(link(of)),
        None => added,
    }
}

fn details(details: &AccountDetails) -> Lines {
    let mut lines = vec![
        line(&details.account),
        format!("signs in                  {}", signs_in_by(details)),
        format!("login sessions            {}", details.sessions.len()),
        format!("API tokens                {}", details.tokens.len()),
        format!("unused enrollment tokens  {}", details.open_enrollments),
    ];
    if !details.elsewhere.is_empty() {
        lines.push("the server cannot end these, if the person has them:".to_owned());
        lines.extend(details.elsewhere.iter().map(|what| format!("  {what}")));
    }
    lines.into()
}
