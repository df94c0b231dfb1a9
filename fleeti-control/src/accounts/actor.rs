//! Who acts, and what that account and credential permit. Every operation that changes something
//! gets an [`Actor`], and the audit log names it.

use crate::error::Error;
use fleeti_core::id::FleetId;
use fleeti_core::wire::accounts::{Grant, Me, Permission, Role};
use fleeti_core::wire::problem::Code;
use fleeti_pki::audit::Act;
use std::fmt;
use std::sync::Arc;

/// What a permission is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope<'a> {
    /// This fleet, or one of its devices.
    Fleet(&'a FleetId),
    /// All fleets, or the server.
    All,
    /// What belongs to no fleet and concerns all: profiles, builds, releases.
    Shared,
}

/// The credential of an actor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Via {
    /// The token of the first start.
    Bootstrap,
    /// A login session, by its id.
    Session(String),
    /// An API token, by its id.
    Token(String),
    /// A one-time link.
    Link,
    /// None: this process acts.
    Process,
    /// That of a requester, for an act that another account approved.
    Seconded {
        /// The requester's credential.
        own: Box<Via>,
        /// The account that approved, and its credential.
        second: String,
        /// The id of the approval.
        approval: String,
    },
}

impl fmt::Display for Via {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bootstrap => f.write_str("admin.token"),
            Self::Session(id) => write!(f, "session {id}"),
            Self::Token(id) => write!(f, "token {id}"),
            Self::Link => f.write_str("link"),
            Self::Process => f.write_str("this process"),
            Self::Seconded { own, second, approval } => {
                write!(f, "{own}, approved by {second} as {approval}")
            }
        }
    }
}

/// Who acts. Only the functions of this area that check a credential make one for a client.
#[derive(Debug, Clone)]
pub struct Actor(Arc<Known>);

#[derive(Debug)]
struct Known {
    account: String,
    via: Via,
    grants: Vec<Grant>,
    limited_to: Option<Vec<Permission>>,
}

impl Actor {
    pub(super) fn new(
        account: &str,
        via: Via,
        grants: Vec<Grant>,
        limited_to: Option<Vec<Permission>>,
    ) -> Self {
        Self(Arc::new(Known { account: account.to_owned(), via, grants, limited_to }))
    }

    /// A program that embeds the control plane, under a name for the audit log. It may do
    /// everything: it has the database and the signing service anyway.
    #[must_use]
    pub fn of_process(name: &str) -> Self {
        Self::new(name, Via::Process, vec![Grant { role: Role::Admin, fleet: None }], None)
    }

    /// The server itself, for what follows from an earlier act.
    #[must_use]
    pub fn server() -> Self {
        Self::of_process("server")
    }

    /// The same account, for the one act that another account approved.
    pub(crate) fn with_second(&self, second: &Self, approval: &str) -> Self {
        let via = Via::Seconded {
            own: Box::new(self.0.via.clone()),
            second: second.to_string(),
            approval: approval.to_owned(),
        };
        let Known { account, grants, limited_to, .. } = &*self.0;
        Self::new(account, via, grants.clone(), limited_to.clone())
    }

    /// Whether another account approved what it does.
    #[must_use]
    pub(crate) fn has_second(&self) -> bool {
        matches!(self.0.via, Via::Seconded { .. })
    }

    /// The name of its account.
    #[must_use]
    pub fn account(&self) -> &str {
        &self.0.account
    }

    /// Its credential.
    #[must_use]
    pub fn via(&self) -> &Via {
        &self.0.via
    }

    /// An act for the audit log.
    #[must_use]
    pub fn act(&self, action: impl Into<String>, subject: impl Into<String>) -> Act {
        Act::new(self.to_string(), action, subject)
    }

    /// Whether it has a permission. The only place that decides this.
    #[must_use]
    pub fn may(&self, permission: Permission, scope: Scope<'_>) -> bool {
        let is_within = self.0.limited_to.as_ref().is_none_or(|all| all.contains(&permission));
        is_within
            && self.0.grants.iter().any(|grant| {
                let gives = grant.role.permissions().contains(&permission);
                let reaches = match (&grant.fleet, scope) {
                    (None, _) => true,
                    (Some(_), Scope::All) => false,
                    (Some(of), Scope::Fleet(fleet)) => of == fleet && permission.is_of_a_fleet(),
                    (Some(_), Scope::Shared) => permission == Permission::View,
                };
                gives && reaches
            })
    }

    /// Whether it has a permission for at least one fleet. The operation then checks which.
    #[must_use]
    pub fn may_somewhere(&self, permission: Permission) -> bool {
        let fleets = self.0.grants.iter().filter_map(|grant| grant.fleet.as_ref());
        self.may(permission, Scope::All)
            || fleets.into_iter().any(|fleet| self.may(permission, Scope::Fleet(fleet)))
    }

    /// The fleets that it has a permission for; `None` for all.
    #[must_use]
    pub fn fleets(&self, permission: Permission) -> Option<Vec<&FleetId>> {
        if self.may(permission, Scope::All) {
            return None;
        }
        let fleets = self.0.grants.iter().filter_map(|grant| grant.fleet.as_ref());
        Some(fleets.filter(|fleet| self.may(permission, Scope::Fleet(fleet))).collect())
    }

    /// Checks that it has a permission.
    ///
    /// # Errors
    /// [`Code::Forbidden`].
    pub fn authorize(&self, permission: Permission, scope: Scope<'_>) -> Result<(), Error> {
        if self.may(permission, scope) { Ok(()) } else { Err(self.refused(permission, scope)) }
    }

    /// The error for a missing permission.
    #[must_use]
    pub fn refused(&self, permission: Permission, scope: Scope<'_>) -> Error {
        let of = match scope {
            Scope::Fleet(fleet) => format!(" of fleet {fleet}"),
            Scope::All => " of all fleets".to_owned(),
            Scope::Shared => String::new(),
        };
        let text = format!("{self} does not have the permission {permission}{of}");
        Error::new(Code::Forbidden, text)
            .hint("an administrator grants roles with `fleeti user grant`")
    }

    /// The own account and credential, and what they permit.
    ///
    /// # Errors
    /// Never for an account.
    pub fn me(&self) -> Result<Me, Error> {
        Ok(Me {
            name: self.0.account.parse().map_err(Error::internal)?,
            credential: self.0.via.to_string(),
            grants: self.0.grants.clone(),
            permissions: self.0.limited_to.clone(),
        })
    }

    /// Whether it may give a role: a limited credential gives only permissions that it has.
    #[must_use]
    pub fn may_give(&self, grant: &Grant) -> bool {
        let has = |own: &Vec<Permission>| grant.role.permissions().iter().all(|p| own.contains(p));
        self.0.limited_to.as_ref().is_none_or(has)
    }

    /// Whether the credential is limited to fewer permissions than its account has.
    #[must_use]
    pub fn is_limited(&self) -> bool {
        self.0.limited_to.is_some()
    }
}

impl fmt::Display for Actor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0.via {
            Via::Process => f.write_str(&self.0.account),
            via => write!(f, "{} ({via})", self.0.account),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn actor(grants: &[(Role, Option<&str>)], limited_to: Option<Vec<Permission>>) -> Actor {
        let grants = grants
            .iter()
            .map(|(role, fleet)| Grant { role: *role, fleet: fleet.map(|f| f.parse().unwrap()) })
            .collect();
        Actor::new("alice", Via::Token("tok-1".into()), grants, limited_to)
    }

    #[test]
    fn a_role_for_a_fleet_reaches_no_other_fleet_and_not_the_server() {
        let (a, b) = ("a".parse().unwrap(), "b".parse().unwrap());
        let admin = actor(&[(Role::Admin, Some("a"))], None);
        for permission in Permission::ALL {
            let is_of_a_fleet = permission.is_of_a_fleet();
            assert_eq!(admin.may(permission, Scope::Fleet(&a)), is_of_a_fleet, "{permission}");
            assert!(!admin.may(permission, Scope::Fleet(&b)), "{permission}");
            assert!(!admin.may(permission, Scope::All), "{permission}");
            let sees = permission == Permission::View;
            assert_eq!(admin.may(permission, Scope::Shared), sees, "{permission}");
        }
        let everywhere = actor(&[(Role::Admin, None)], None);
        assert!(Permission::ALL.iter().all(|p| everywhere.may(*p, Scope::All)));
    }

    #[test]
    fn a_limited_credential_has_what_both_it_and_its_account_permit() {
        let token =
            actor(&[(Role::Viewer, None)], Some(vec![Permission::View, Permission::Server]));
        let has: Vec<_> =
            Permission::ALL.into_iter().filter(|p| token.may(*p, Scope::All)).collect();
        assert_eq!(has, [Permission::View]);
        let refused = token.authorize(Permission::Audit, Scope::All).unwrap_err();
        assert_eq!(refused.code(), Code::Forbidden);
        assert_eq!(
            refused.to_string(),
            "alice (token tok-1) does not have the permission audit of all fleets"
        );
    }

    #[test]
    fn an_account_without_roles_may_do_nothing() {
        let nobody = actor(&[], None);
        for permission in Permission::ALL {
            assert!(!nobody.may(permission, Scope::Shared) && !nobody.may_somewhere(permission));
        }
    }
}
