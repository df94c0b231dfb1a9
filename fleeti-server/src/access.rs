//! What each route needs: the one table for API and pages. A route that is not in it is refused, so
//! a new route does nothing until its permission is declared here.

use crate::error::AppError;
use actix_web::dev::ServiceRequest;
use actix_web::http::Method;
use actix_web::{FromRequest, HttpMessage, HttpRequest, dev};
use fleeti_control::accounts::actor::{Actor, Scope};
use fleeti_control::context::Context;
use fleeti_control::{commands, devices, rollouts};
use fleeti_core::id::FleetId;
use fleeti_core::wire::accounts::Permission;
use fleeti_core::wire::problem::Code;
use std::future::{Ready, ready};
use std::ops::Deref;

/// What a permission is needed for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum On {
    /// The own account: every actor may.
    Own,
    /// What belongs to no fleet.
    Shared,
    /// All fleets, or the server.
    All,
    /// The fleet in the path.
    Fleet,
    /// The fleet of the device in the path.
    Device,
    /// The fleet of the rollout in the path.
    Rollout,
    /// The fleet of the device of the command in the path.
    Command,
    /// Some fleet: the operation checks the one in the body or query, or leaves others out.
    Some,
}

/// What a route needs.
#[derive(Debug)]
pub struct Rule {
    /// The method.
    pub method: &'static str,
    /// The pattern of the path.
    pub pattern: &'static str,
    /// The permission; `None` only with [`On::Own`].
    pub permission: Option<Permission>,
    /// What it is needed for.
    pub on: On,
}

const fn rule(method: &'static str, pattern: &'static str, permission: Permission, on: On) -> Rule {
    Rule { method, pattern, permission: Some(permission), on }
}

const fn own(method: &'static str, pattern: &'static str) -> Rule {
    Rule { method, pattern, permission: None, on: On::Own }
}

use Permission::{
    Accounts, Audit, Build, Enroll, Operate, Policy, Recovery, Release, Revoke, Rollout, Secrets,
    View,
};

/// The public paths on the API port, which need nothing. All have GET only.
pub const OPEN: [&str; 6] =
    ["/livez", "/healthz", "/readyz", "/metrics", "/pki/{issuer}.crl", "/api/v1/openapi.json"];

/// The API.
pub const API: &[Rule] = &[
    rule("GET", "/api/v1/devices", View, On::Some),
    rule("GET", "/api/v1/devices/{device}", View, On::Device),
    rule("GET", "/api/v1/devices/{device}/certificate", View, On::Device),
    rule("GET", "/api/v1/devices/{device}/drift", View, On::Device),
    rule("GET", "/api/v1/devices/{device}/history", View, On::Device),
    rule("POST", "/api/v1/devices/{device}/revoke", Revoke, On::Device),
    rule("POST", "/api/v1/devices/{device}/release-hold", Revoke, On::Device),
    rule("POST", "/api/v1/devices/{device}/forgive", Operate, On::Device),
    rule("POST", "/api/v1/devices/{device}/boot-keys", Policy, On::Device),
    rule("GET", "/api/v1/devices/{device}/why", View, On::Device),
    rule("POST", "/api/v1/devices/{device}/updates", Rollout, On::Device),
    rule("POST", "/api/v1/devices/{device}/commands", Operate, On::Device),
    rule("GET", "/api/v1/devices/{device}/commands", View, On::Device),
    rule("POST", "/api/v1/devices/{device}/about", Operate, On::Device),
    rule("POST", "/api/v1/devices/{device}/labels", Operate, On::Device),
    rule("POST", "/api/v1/devices/{device}/replace", Revoke, On::Device),
    rule("POST", "/api/v1/device-changes", Operate, On::Some),
    rule("POST", "/api/v1/label-imports", Operate, On::Some),
    rule("GET", "/api/v1/label-keys", View, On::Some),
    rule("PUT", "/api/v1/label-keys/{key}", Policy, On::All),
    rule("DELETE", "/api/v1/label-keys/{key}", Policy, On::All),
    rule("GET", "/api/v1/views", View, On::Some),
    rule("GET", "/api/v1/views/{view}", View, On::Some),
    rule("PUT", "/api/v1/views/{view}", Operate, On::All),
    rule("DELETE", "/api/v1/views/{view}", Operate, On::All),
    rule("GET", "/api/v1/commands/{command}", View, On::Command),
    rule("POST", "/api/v1/commands/{command}/cancel", Operate, On::Command),
    rule("GET", "/api/v1/commands/{command}/result", Operate, On::Command),
    rule("GET", "/api/v1/fleets", View, On::Some),
    rule("GET", "/api/v1/fleets/{fleet}/channel", View, On::Fleet),
    rule("PUT", "/api/v1/fleets/{fleet}/channel", Rollout, On::Fleet),
    rule("GET", "/api/v1/fleets/{fleet}/fixes", View, On::Fleet),
    rule("GET", "/api/v1/packages/devices", View, On::Some),
    rule("POST", "/api/v1/fleets/{fleet}/enrollments", Enroll, On::Fleet),
    rule("POST", "/api/v1/fleets/{fleet}/devices", Enroll, On::Fleet),
    rule("GET", "/api/v1/enrollment-record", Enroll, On::Some),
    rule("POST", "/api/v1/pairings", Enroll, On::Some),
    rule("GET", "/api/v1/profiles", View, On::Shared),
    rule("POST", "/api/v1/profiles", Build, On::Shared),
    rule("POST", "/api/v1/profiles/documents", Build, On::Shared),
    rule("POST", "/api/v1/profiles/check", View, On::Shared),
    rule("GET", "/api/v1/profiles/library", View, On::Shared),
    rule("GET", "/api/v1/profiles/packages", View, On::Shared),
    rule("GET", "/api/v1/profiles/{line}/revisions/{number}/changes/{to}", View, On::Shared),
    rule("GET", "/api/v1/profiles/{line}/refresh-schedule", View, On::Shared),
    rule("PUT", "/api/v1/profiles/{line}/refresh-schedule", Build, On::Shared),
    rule("DELETE", "/api/v1/profiles/{line}/refresh-schedule", Build, On::Shared),
    rule("GET", "/api/v1/profiles/{line}/revisions", View, On::Shared),
    rule("GET", "/api/v1/profiles/{line}/revisions/{number}", View, On::Shared),
    rule("GET", "/api/v1/builds", View, On::Shared),
    rule("POST", "/api/v1/builds", Build, On::Shared),
    rule("GET", "/api/v1/builds/{build}", View, On::Shared),
    rule("POST", "/api/v1/builds/{build}/sign", Release, On::Shared),
    rule("GET", "/api/v1/builds/{build}/record", View, On::Shared),
    rule("GET", "/api/v1/builds/{build}/signature", View, On::Shared),
    rule("POST", "/api/v1/builds/{build}/signature", Release, On::Shared),
    rule("POST", "/api/v1/builds/{build}/approvals", Release, On::Shared),
    rule("GET", "/api/v1/trust-bundle", View, On::All),
    rule("POST", "/api/v1/trust-bundle", Permission::Server, On::All),
    rule("POST", "/api/v1/trust-bundle/issuer", Permission::Server, On::All),
    rule("GET", "/api/v1/transitions", View, On::All),
    rule("POST", "/api/v1/transitions", Permission::Server, On::All),
    rule("POST", "/api/v1/fleets/{fleet}/readmission", Policy, On::Fleet),
    rule("GET", "/api/v1/releases", View, On::Shared),
    rule("GET", "/api/v1/releases/{release}", View, On::Shared),
    rule("POST", "/api/v1/releases/{release}/publish", Release, On::Shared),
    rule("PUT", "/api/v1/releases/{release}/boot-proof", Release, On::Shared),
    rule("POST", "/api/v1/releases/{release}/revoke", Release, On::Shared),
    rule("GET", "/api/v1/releases/{release}/evidence", Audit, On::All),
    rule("GET", "/api/v1/releases/{release}/path", View, On::Shared),
    rule("PUT", "/api/v1/releases/{release}/path", Release, On::Shared),
    rule("GET", "/api/v1/releases/{release}/files/{path:.*}", View, On::Shared),
    rule("PUT", "/api/v1/releases/{release}/files/{path:.*}", Release, On::Shared),
    rule("GET", "/api/v1/rollouts", View, On::Some),
    rule("POST", "/api/v1/rollouts", Rollout, On::Some),
    rule("POST", "/api/v1/rollout-plans", View, On::Some),
    rule("GET", "/api/v1/rollouts/{rollout}", View, On::Rollout),
    rule("POST", "/api/v1/rollouts/{rollout}/abort", Rollout, On::Rollout),
    rule("POST", "/api/v1/rollouts/{rollout}/next", Rollout, On::Rollout),
    rule("POST", "/api/v1/rollouts/{rollout}/pause", Rollout, On::Rollout),
    rule("POST", "/api/v1/rollout-pauses", Rollout, On::Some),
    rule("POST", "/api/v1/rollouts/{rollout}/resume", Rollout, On::Rollout),
    rule("POST", "/api/v1/rollouts/{rollout}/roll-back", Rollout, On::Rollout),
    rule("POST", "/api/v1/rollouts/{rollout}/supersede", Rollout, On::Rollout),
    rule("GET", "/api/v1/events", View, On::Some),
    rule("GET", "/api/v1/devices/{device}/attestation", View, On::Device),
    rule("GET", "/api/v1/devices/{device}/attestation/ear", View, On::Device),
    rule("POST", "/api/v1/devices/{device}/attestation/challenge", Operate, On::Device),
    rule("POST", "/api/v1/devices/{device}/attestation/accept-firmware", Policy, On::Device),
    rule("GET", "/api/v1/fleets/{fleet}/attestation-policy", View, On::Fleet),
    rule("PUT", "/api/v1/fleets/{fleet}/attestation-policy", Policy, On::Fleet),
    rule("POST", "/api/v1/fleets/{fleet}/attestation/challenge", Operate, On::Fleet),
    rule("GET", "/api/v1/tpm-manufacturers", View, On::All),
    rule("POST", "/api/v1/tpm-manufacturers", Permission::Server, On::All),
    rule("DELETE", "/api/v1/tpm-manufacturers/{id}", Permission::Server, On::All),
    rule("GET", "/api/v1/devices/{device}/recovery-key", View, On::Device),
    rule("POST", "/api/v1/devices/{device}/recovery-key", Recovery, On::Device),
    rule("GET", "/api/v1/fleets/{fleet}/secrets", View, On::Fleet),
    rule("PUT", "/api/v1/fleets/{fleet}/secrets/{name}", Secrets, On::Fleet),
    rule("DELETE", "/api/v1/fleets/{fleet}/secrets/{name}", Secrets, On::Fleet),
    rule("GET", "/api/v1/doctor", View, On::All),
    rule("GET", "/api/v1/workers", View, On::All),
    rule("POST", "/api/v1/workers", Permission::Server, On::All),
    rule("DELETE", "/api/v1/workers/{worker}", Permission::Server, On::All),
    rule("GET", "/api/v1/audit/entries", Audit, On::All),
    rule("GET", "/api/v1/audit/entries/{number}/proof", Audit, On::All),
    rule("GET", "/api/v1/audit/checkpoint", Audit, On::All),
    rule("GET", "/api/v1/audit/consistency", Audit, On::All),
    rule("GET", "/api/v1/approvals", View, On::Some),
    rule("POST", "/api/v1/approvals", View, On::Some),
    rule("GET", "/api/v1/approvals/{approval}", View, On::Some),
    rule("POST", "/api/v1/approvals/{approval}/approve", View, On::Some),
    rule("POST", "/api/v1/approvals/{approval}/deny", View, On::Some),
    rule("POST", "/api/v1/approvals/{approval}/recovery-key", View, On::Some),
    rule("GET", "/api/v1/approval-policy", View, On::Some),
    rule("PUT", "/api/v1/approval-policy", Accounts, On::All),
    own("GET", "/api/v1/me"),
    own("GET", "/api/v1/sessions"),
    own("DELETE", "/api/v1/sessions/{session}"),
    own("GET", "/api/v1/passkeys"),
    own("DELETE", "/api/v1/passkeys/{passkey}"),
    own("GET", "/api/v1/tokens"),
    own("POST", "/api/v1/tokens"),
    own("DELETE", "/api/v1/tokens/{token}"),
    rule("GET", "/api/v1/accounts", Accounts, On::All),
    rule("POST", "/api/v1/accounts", Accounts, On::All),
    rule("GET", "/api/v1/accounts/{account}", Accounts, On::All),
    rule("POST", "/api/v1/accounts/{account}/grants", Accounts, On::All),
    rule("POST", "/api/v1/accounts/{account}/grants/remove", Accounts, On::All),
    rule("POST", "/api/v1/accounts/{account}/disable", Accounts, On::All),
    rule("POST", "/api/v1/accounts/{account}/enable", Accounts, On::All),
    rule("POST", "/api/v1/accounts/{account}/offboard", Accounts, On::All),
    rule("POST", "/api/v1/accounts/{account}/link", Accounts, On::All),
    rule("GET", "/api/v1/accounts/{account}/sessions", Accounts, On::All),
    rule("DELETE", "/api/v1/accounts/{account}/sessions", Accounts, On::All),
    rule("DELETE", "/api/v1/accounts/{account}/sessions/{session}", Accounts, On::All),
    rule("GET", "/api/v1/alerts", View, On::Some),
    rule("GET", "/api/v1/alerts/{alert}", View, On::Some),
    rule("POST", "/api/v1/alerts/{alert}/acknowledge", Operate, On::Some),
    rule("GET", "/api/v1/alert-rules", View, On::Some),
    rule("GET", "/api/v1/alert-rules/{rule}", View, On::Some),
    rule("PUT", "/api/v1/alert-rules/{rule}", Permission::Server, On::All),
    rule("DELETE", "/api/v1/alert-rules/{rule}", Permission::Server, On::All),
    rule("GET", "/api/v1/silences", View, On::Some),
    rule("POST", "/api/v1/silences", Operate, On::Some),
    rule("DELETE", "/api/v1/silences/{silence}", Operate, On::Some),
    rule("GET", "/api/v1/webhooks", Permission::Server, On::All),
    rule("POST", "/api/v1/webhooks", Permission::Server, On::All),
    rule("DELETE", "/api/v1/webhooks/{webhook}", Permission::Server, On::All),
    rule("POST", "/api/v1/webhooks/{webhook}/test", Permission::Server, On::All),
    rule("GET", "/api/v1/webhooks/{webhook}/deliveries", Permission::Server, On::All),
    rule("GET", "/api/v1/email-receivers", Permission::Server, On::All),
    rule("POST", "/api/v1/email-receivers", Permission::Server, On::All),
    rule("DELETE", "/api/v1/email-receivers/{receiver}", Permission::Server, On::All),
    rule("POST", "/api/v1/email-receivers/{receiver}/enable", Permission::Server, On::All),
    rule("POST", "/api/v1/email-receivers/{receiver}/disable", Permission::Server, On::All),
    rule("POST", "/api/v1/email-receivers/{receiver}/test", Permission::Server, On::All),
    rule("GET", "/api/v1/email-receivers/{receiver}/emails", Permission::Server, On::All),
];

/// The pages.
pub const PAGES: &[Rule] = &[
    rule("GET", "/", View, On::Some),
    own("GET", "/live"),
    own("POST", "/signout"),
    rule("GET", "/devices", View, On::Some),
    rule("POST", "/devices/pair", Enroll, On::Some),
    rule("POST", "/devices/change", Operate, On::Some),
    rule("POST", "/devices/views", Operate, On::All),
    rule("POST", "/devices/views/{view}/remove", Operate, On::All),
    rule("GET", "/devices/{device}", View, On::Device),
    rule("GET", "/devices/{device}/timeline", View, On::Device),
    rule("POST", "/devices/{device}/revoke", Revoke, On::Device),
    rule("POST", "/devices/{device}/release-hold", Revoke, On::Device),
    rule("POST", "/devices/{device}/forgive", Operate, On::Device),
    rule("POST", "/devices/{device}/about", Operate, On::Device),
    rule("POST", "/devices/{device}/labels", Operate, On::Device),
    rule("POST", "/devices/{device}/replace", Revoke, On::Device),
    rule("POST", "/devices/{device}/updates", Rollout, On::Device),
    rule("POST", "/devices/{device}/ask", Operate, On::Device),
    rule("POST", "/devices/{device}/commands", Operate, On::Device),
    rule("POST", "/commands/{command}/cancel", Operate, On::Command),
    rule("GET", "/commands/{command}/result", Operate, On::Command),
    rule("POST", "/devices/{device}/accept-firmware", Policy, On::Device),
    rule("POST", "/devices/{device}/recovery-key", Recovery, On::Device),
    rule("GET", "/enroll", Enroll, On::Some),
    rule("POST", "/enroll", Enroll, On::Some),
    rule("GET", "/fleets/{fleet}", View, On::Fleet),
    rule("POST", "/fleets/{fleet}/policy", Policy, On::Fleet),
    rule("POST", "/fleets/{fleet}/secrets", Secrets, On::Fleet),
    rule("POST", "/fleets/{fleet}/secrets/remove", Secrets, On::Fleet),
    rule("GET", "/packages", View, On::Some),
    rule("GET", "/profiles", View, On::Shared),
    rule("POST", "/profiles", Build, On::Shared),
    rule("GET", "/profiles/new", View, On::Shared),
    rule("GET", "/profiles/search", View, On::Shared),
    rule("POST", "/profiles/form", View, On::Shared),
    rule("POST", "/profiles/check", View, On::Shared),
    rule("POST", "/profiles/{line}/refresh", Build, On::Shared),
    rule("POST", "/profiles/{line}/refresh/remove", Build, On::Shared),
    rule("GET", "/profiles/{line}/{revision}", View, On::Shared),
    rule("GET", "/profiles/{line}/{revision}/edit", View, On::Shared),
    rule("GET", "/profiles/{line}/{revision}/changes/{to}", View, On::Shared),
    rule("GET", "/builds", View, On::Shared),
    rule("POST", "/builds", Build, On::Shared),
    rule("GET", "/builds/{build}", View, On::Shared),
    rule("GET", "/builds/{build}/log", View, On::Shared),
    rule("POST", "/builds/{build}/release", Release, On::Shared),
    rule("GET", "/releases", View, On::Shared),
    rule("GET", "/releases/{release}", View, On::Shared),
    rule("GET", "/releases/{release}/evidence", Audit, On::All),
    rule("GET", "/releases/{release}/files/{path:.*}", View, On::Shared),
    rule("POST", "/releases/{release}/revoke", Release, On::Shared),
    rule("GET", "/rollouts", View, On::Some),
    rule("POST", "/rollouts", Rollout, On::Some),
    rule("GET", "/rollouts/plan", View, On::Some),
    rule("POST", "/rollouts/pause", Rollout, On::Some),
    rule("GET", "/rollouts/{rollout}", View, On::Rollout),
    rule("POST", "/rollouts/{rollout}/abort", Rollout, On::Rollout),
    rule("POST", "/rollouts/{rollout}/next", Rollout, On::Rollout),
    rule("POST", "/rollouts/{rollout}/pause", Rollout, On::Rollout),
    rule("POST", "/rollouts/{rollout}/resume", Rollout, On::Rollout),
    rule("POST", "/rollouts/{rollout}/roll-back", Rollout, On::Rollout),
    rule("GET", "/trust", View, On::All),
    rule("GET", "/audit", Audit, On::All),
    rule("GET", "/approvals", View, On::Some),
    rule("POST", "/approvals/policy", Accounts, On::All),
    rule("GET", "/approvals/{approval}", View, On::Some),
    rule("POST", "/approvals/{approval}/approve", View, On::Some),
    rule("POST", "/approvals/{approval}/deny", View, On::Some),
    rule("POST", "/approvals/{approval}/recovery-key", View, On::Some),
    own("GET", "/account"),
    own("POST", "/account/password"),
    own("POST", "/account/passkeys/options"),
    own("POST", "/account/passkeys"),
    own("POST", "/account/passkeys/{passkey}/remove"),
    own("POST", "/account/sessions/{session}/end"),
    own("POST", "/account/tokens"),
    own("POST", "/account/tokens/{token}/remove"),
    rule("GET", "/users", Accounts, On::All),
    rule("POST", "/users", Accounts, On::All),
    rule("GET", "/users/{account}", Accounts, On::All),
    rule("POST", "/users/{account}/grant", Accounts, On::All),
    rule("POST", "/users/{account}/ungrant", Accounts, On::All),
    rule("POST", "/users/{account}/disable", Accounts, On::All),
    rule("POST", "/users/{account}/enable", Accounts, On::All),
    rule("POST", "/users/{account}/offboard", Accounts, On::All),
    rule("POST", "/users/{account}/link", Accounts, On::All),
    rule("POST", "/users/{account}/passkeys/{passkey}/remove", Accounts, On::All),
    rule("POST", "/users/{account}/sessions/end", Accounts, On::All),
    rule("POST", "/users/{account}/sessions/{session}/end", Accounts, On::All),
    rule("GET", "/alerts", View, On::Some),
    rule("GET", "/alerts/{alert}", View, On::Some),
    rule("POST", "/alerts/{alert}/acknowledge", Operate, On::Some),
    rule("POST", "/alerts/rules/{rule}", Permission::Server, On::All),
    rule("POST", "/alerts/rules/{rule}/reset", Permission::Server, On::All),
    rule("GET", "/webhooks", Permission::Server, On::All),
    rule("POST", "/webhooks", Permission::Server, On::All),
    rule("GET", "/webhooks/{webhook}", Permission::Server, On::All),
    rule("POST", "/webhooks/{webhook}/test", Permission::Server, On::All),
    rule("POST", "/webhooks/{webhook}/remove", Permission::Server, On::All),
    rule("GET", "/alerts/email/{receiver}", Permission::Server, On::All),
    rule("POST", "/alerts/email", Permission::Server, On::All),
    rule("POST", "/alerts/email/{receiver}/remove", Permission::Server, On::All),
    rule("POST", "/alerts/email/{receiver}/enable", Permission::Server, On::All),
    rule("POST", "/alerts/email/{receiver}/disable", Permission::Server, On::All),
    rule("POST", "/alerts/email/{receiver}/test", Permission::Server, On::All),
    rule("POST", "/alerts/silences", Operate, On::Some),
    rule("POST", "/alerts/silences/{silence}/remove", Operate, On::Some),
];

/// Whether the API can refuse an authenticated request of this route with 403.
#[must_use]
pub fn can_forbid(method: &Method, path: &str) -> bool {
    let path = path.replace("/files/{path}", "/files/{path:.*}");
    let rule = API.iter().find(|rule| rule.method == method.as_str() && rule.pattern == path);
    rule.is_some_and(|rule| rule.permission.is_some() || rule.method != "GET")
}

impl Rule {
    /// The first parameter of a path that has this pattern, empty without parameters; `None` for
    /// another path. A router with its expressions would take a megabyte.
    fn parameter<'p>(&self, path: &'p str) -> Option<&'p str> {
        let (mut parts, mut first) = (path.split('/'), None);
        for wanted in self.pattern.split('/') {
            if wanted.ends_with(":.*}") {
                return Some(first.unwrap_or_default());
            }
            let part = parts.next()?;
            let is_parameter = wanted.starts_with('{') && !part.is_empty();
            if is_parameter {
                first = first.or(Some(part));
            } else if part != wanted {
                return None;
            }
        }
        parts.next().is_none().then(|| first.unwrap_or_default())
    }
}

/// Whether an actor may open a page.
#[must_use]
pub fn may_open(by: &Actor, path: &str) -> bool {
    let rule = PAGES.iter().find(|rule| rule.method == "GET" && rule.pattern == path);
    rule.is_some_and(|rule| rule.permits(by, None))
}

/// Whether an actor may send a form: the pattern of its route, and the fleet that it is about. A form
/// that is not in the table may not be sent.
#[must_use]
pub fn may_send(by: &Actor, pattern: &str, fleet: Option<&str>) -> bool {
    let rule = PAGES.iter().find(|rule| rule.method == "POST" && rule.pattern == pattern);
    rule.is_some_and(|rule| rule.permits(by, fleet))
}

impl Rule {
    /// Whether an actor may use the route for something of a fleet.
    fn permits(&self, by: &Actor, fleet: Option<&str>) -> bool {
        let Some(permission) = self.permission else {
            return self.method == "GET" || !by.is_limited();
        };
        match self.on {
            On::Own | On::All => by.may(permission, Scope::All),
            On::Shared => by.may(permission, Scope::Shared),
            On::Some if fleet.is_none() => by.may_somewhere(permission),
            On::Some | On::Fleet | On::Device | On::Rollout | On::Command => {
                let fleet = fleet.and_then(|name| name.parse::<FleetId>().ok());
                match fleet {
                    Some(fleet) => by.may(permission, Scope::Fleet(&fleet)),
                    None => by.may(permission, Scope::All),
                }
            }
        }
    }
}

/// What a request needs, and the first parameter of its path.
pub struct Needed {
    rule: &'static Rule,
    id: String,
}

impl Needed {
    /// What this request of the API needs; `None` if no route is declared for it.
    pub fn of_api(request: &ServiceRequest) -> Option<Self> {
        Self::find(API, request)
    }
    /// What this request of the pages needs; `None` if no route is declared for it.
    pub fn of_page(request: &ServiceRequest) -> Option<Self> {
        Self::find(PAGES, request)
    }

    /// Looks at the path as the router does, which decodes it first.
    fn find(rules: &'static [Rule], request: &ServiceRequest) -> Option<Self> {
        let (method, path) = (request.method().as_str(), request.match_info().as_str());
        let mut same = rules.iter().filter(|rule| rule.method == method);
        same.find_map(|rule| Some(Self { rule, id: rule.parameter(path)?.to_owned() }))
    }

    /// Checks that an actor has what is needed.
    ///
    /// # Errors
    /// [`Code::Forbidden`];
    /// [`Code::NotFound`] for an object of a fleet that
    /// the actor may not see, as for one that does not exist.
    pub async fn check(&self, cx: &Context, by: &Actor) -> Result<(), AppError> {
        let Rule { permission, on, .. } = self.rule;
        // An own account needs no permission, and nothing else is without.
        let Some(permission) = *permission else { return self.check_own(by) };
        if by.may(permission, Scope::All) {
            return Ok(());
        }
        let fleet = match on {
            On::Own | On::All => return Ok(by.authorize(permission, Scope::All)?),
            On::Shared => return Ok(by.authorize(permission, Scope::Shared)?),
            On::Some if by.may_somewhere(permission) => return Ok(()),
            On::Some => return Err(by.refused(permission, Scope::All).into()),
            On::Fleet => {
                let Ok(fleet) = self.id.parse::<FleetId>() else {
                    return Err(by.refused(permission, Scope::All).into());
                };
                return Ok(by.authorize(permission, Scope::Fleet(&fleet))?);
            }
            On::Device => match self.id.parse() {
                Ok(device) => devices::fleet_of(cx, &device).await?,
                Err(_) => None,
            },
            On::Rollout => rollouts::fleet_of(cx, &self.id).await?,
            On::Command => commands::fleet_of(cx, &self.id).await?,
        };
        if !by.may_somewhere(permission) {
            return Err(by.refused(permission, Scope::All).into());
        }
        let what = format!("{on:?}").to_lowercase();
        let unknown = || AppError::not_found(&what, &self.id);
        let fleet = fleet
            .filter(|fleet| by.may(Permission::View, Scope::Fleet(fleet)))
            .ok_or_else(unknown)?;
        Ok(by.authorize(permission, Scope::Fleet(&fleet))?)
    }
}

impl Needed {
    /// A limited credential reads what is its account's own, and changes nothing of it.
    fn check_own(&self, by: &Actor) -> Result<(), AppError> {
        if by.is_limited() && self.rule.method != "GET" {
            let text = format!("{by} is limited, and changes nothing of its account");
            return Err(AppError::new(Code::Forbidden, text));
        }
        Ok(())
    }
}

/// Who sends the request, as the check of its credential found. An argument of handlers.
#[derive(Debug)]
pub struct By(Actor);

impl Deref for By {
    type Target = Actor;
    fn deref(&self) -> &Actor {
        &self.0
    }
}

impl FromRequest for By {
    type Error = AppError;
    type Future = Ready<Result<Self, AppError>>;
    fn from_request(request: &HttpRequest, _: &mut dev::Payload) -> Self::Future {
        let found = request.extensions().get::<Actor>().cloned();
        ready(found.map(By).ok_or_else(|| AppError::internal("a route without an actor")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn no_rule_is_hidden_by_an_earlier_one() {
        for rules in [API, PAGES] {
            let mut seen = BTreeSet::new();
            for rule in rules {
                assert!(seen.insert((rule.method, rule.pattern)), "{} twice", rule.pattern);
                let path = rule.pattern.replace([':', '.', '*'], "");
                let mut same = rules.iter().filter(|other| other.method == rule.method);
                let first = same.find(|other| other.parameter(&path).is_some()).unwrap();
                let is_same = first.pattern == rule.pattern
                    || (first.permission == rule.permission && first.on == rule.on);
                assert!(is_same, "{} hides {}", first.pattern, rule.pattern);
            }
        }
    }

    #[test]
    fn a_path_has_a_pattern_as_a_whole() {
        let parameter = |pattern, path| own("GET", pattern).parameter(path).map(str::to_owned);
        for (pattern, path, found) in [
            ("/", "/", Some("")),
            ("/devices", "/devices", Some("")),
            ("/devices", "/devices/", None),
            ("/devices", "/device", None),
            ("/devices/{device}", "/devices/a", Some("a")),
            ("/devices/{device}", "/devices/", None),
            ("/devices/{device}", "/devices/a/b", None),
            ("/devices/{device}/revoke", "/devices/a/revoke", Some("a")),
            ("/profiles/{line}/{revision}", "/profiles/a/1", Some("a")),
            ("/releases/{release}/files/{path:.*}", "/releases/k@1/files/raw/x", Some("k@1")),
        ] {
            assert_eq!(parameter(pattern, path).as_deref(), found, "{pattern} {path}");
        }
    }

    /// Where a template writes a value, a route has a parameter.
    fn is_route(pattern: &str, action: &str) -> bool {
        let parts = |text: &str| text.split('/').map(str::to_owned).collect::<Vec<_>>();
        let (pattern, action) = (parts(pattern), parts(action));
        let is_same = |(p, a): (&String, &String)| p == a || (p.starts_with('{') && a == "*");
        pattern.len() == action.len() && pattern.iter().zip(&action).all(is_same)
    }

    /// What follows each mark, until a quotation mark.
    fn after<'a>(text: &'a str, mark: &str) -> Vec<&'a str> {
        text.split(mark).skip(1).filter_map(|rest| rest.split('"').next()).collect()
    }

    #[test]
    fn templates_name_only_routes_of_the_table() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/templates");
        let posts: Vec<_> = PAGES.iter().filter(|rule| rule.method == "POST").collect();
        for file in std::fs::read_dir(folder).unwrap() {
            let path = file.unwrap().path();
            let text = std::fs::read_to_string(&path).unwrap();
            for asked in
                after(&text, "page.may(\"").into_iter().chain(after(&text, "page.may_in(\""))
            {
                let known = posts.iter().any(|rule| rule.pattern == asked);
                assert!(known, "{}: {asked} is not in the table", path.display());
            }
            for action in after(&text, "method=\"post\" action=\"") {
                let mut action = action.to_owned();
                while let Some((before, rest)) = action.split_once("{{") {
                    action = format!("{before}*{}", rest.split_once("}}").unwrap().1);
                }
                let opens_session = ["/signin", "/signin/passkey", "*"].contains(&action.as_str());
                let known = posts.iter().any(|rule| is_route(rule.pattern, &action));
                assert!(known || opens_session, "{}: {action}", path.display());
            }
        }
    }

    #[test]
    fn a_rule_without_a_permission_is_of_the_own_account() {
        let rules = API.iter().chain(PAGES);
        assert!(rules.into_iter().all(|r| r.permission.is_none() == (r.on == On::Own)));
    }
}
