//! The pages: rendered by the server, updated by server-sent events. They
//! call the services that the API calls, and decide nothing.
//!
//! Code map: [`assets`] (static files) · `session` (login sessions) · `live` (events that make
//! pages refresh) · `page` (what all pages share) · `display` (display text that several pages
//! share) · one folder for each kind of page. In a folder: `handler.rs` extracts, makes one call of
//! `fleeti_control` and maps; `view.rs` has what a template shows, ready for display.

mod accounts;
mod alerts;
mod approvals;
pub mod assets;
mod audit;
mod builds;
mod devices;
mod display;
mod enroll;
mod fixes;
mod fleets;
mod live;
mod overview;
mod packages;
mod page;
mod profiles;
mod releases;
mod rollouts;
mod session;
mod svg;
mod trust;
mod webhooks;

use actix_web::dev::HttpServiceFactory;
use actix_web::middleware::{DefaultHeaders, from_fn};
use actix_web::web::{self, ServiceConfig};
use actix_web::{Resource, Route, guard};
use fleeti_core::profile::TEXT_MAX;

/// Path and name of each section.
pub const NAVIGATION: &[(&str, &str)] = &[
    ("/", "Overview"),
    ("/devices", "Devices"),
    ("/profiles", "Profiles"),
    ("/builds", "Builds"),
    ("/releases", "Releases"),
    ("/rollouts", "Rollouts"),
    ("/alerts", "Alerts"),
    ("/approvals", "Approvals"),
    ("/trust", "Trust"),
    ("/audit", "Audit"),
    ("/users", "Users"),
];

/// Allows only resources of this server, nothing inline, and no framing.
const CONTENT_SECURITY_POLICY: &str = "default-src 'self'; img-src 'self' data:; frame-ancestors 'none'; base-uri 'none'; form-action 'self'; object-src 'none'";

/// Maximum size of a form in bytes.
const FORM_MAX: usize = 2 << 20;
/// Maximum size of the form of the editor in bytes: it has a document twice, as text and as fields,
/// and a form writes most bytes that are no letters as three. The rest is for names and line ends.
const EDITOR_FORM_MAX: usize = 2 * 3 * TEXT_MAX + (2 << 20);

/// Maximum size of the answer of an authenticator in bytes.
const SIGN_IN_FORM_MAX: usize = 64 << 10;

fn form(limit: usize) -> web::FormConfig {
    web::FormConfig::default().limit(limit).error_handler(|e, _| page::refused(e).into())
}

/// Takes the form of the editor of profiles.
fn editor(path: &str) -> Resource {
    web::resource(path).guard(guard::Post()).app_data(form(EDITOR_FORM_MAX))
}

/// A form of the sign-in page, which the script sends.
fn open_post(path: &str, post: Route) -> impl HttpServiceFactory + 'static {
    let resource = web::resource(path).app_data(form(SIGN_IN_FORM_MAX));
    resource.wrap(from_fn(session::same_origin)).wrap(headers()).route(post)
}

fn headers() -> DefaultHeaders {
    DefaultHeaders::new()
        .add(("content-security-policy", CONTENT_SECURITY_POLICY))
        .add(("x-content-type-options", "nosniff"))
        .add(("referrer-policy", "same-origin"))
}

/// A page that needs no session.
fn open(path: &str, get: Route, post: Route) -> impl HttpServiceFactory + 'static {
    web::resource(path).wrap(from_fn(session::same_origin)).wrap(headers()).route(get).route(post)
}

/// Pages of the own account, and of all accounts.
fn account_routes(config: &mut ServiceConfig) {
    config
        .route("/account", web::get().to(accounts::own))
        .route("/account/password", web::post().to(accounts::set_password))
        .route("/account/passkeys/options", web::post().to(accounts::passkey_options))
        .route("/account/passkeys", web::post().to(accounts::add_passkey))
        .route("/account/passkeys/{passkey}/remove", web::post().to(accounts::remove_passkey))
        .route("/account/sessions/{session}/end", web::post().to(accounts::end_session))
        .route("/account/tokens", web::post().to(accounts::add_token))
        .route("/account/tokens/{token}/remove", web::post().to(accounts::remove_token))
        .route("/users", web::get().to(accounts::list))
        .route("/users", web::post().to(accounts::add))
        .route("/users/{account}", web::get().to(accounts::show))
        .route("/users/{account}/grant", web::post().to(accounts::grant))
        .route("/users/{account}/ungrant", web::post().to(accounts::ungrant))
        .route("/users/{account}/disable", web::post().to(accounts::disable))
        .route("/users/{account}/enable", web::post().to(accounts::enable))
        .route("/users/{account}/offboard", web::post().to(accounts::offboard))
        .route("/users/{account}/link", web::post().to(accounts::link))
        .route(
            "/users/{account}/passkeys/{passkey}/remove",
            web::post().to(accounts::remove_passkey_of),
        )
        .route("/users/{account}/sessions/end", web::post().to(accounts::end_sessions_of))
        .route("/users/{account}/sessions/{session}/end", web::post().to(accounts::end_session_of));
}

/// Names and labels of devices, saved views, and changes of many devices.
fn label_routes(config: &mut ServiceConfig) {
    config
        .route("/devices/change", web::post().to(devices::change_all))
        .route("/devices/{device}/commands", web::post().to(devices::send_command))
        .route("/commands/{command}/cancel", web::post().to(devices::cancel_command))
        .route("/commands/{command}/result", web::get().to(devices::command_result))
        .route("/devices/views", web::post().to(devices::save_view))
        .route("/devices/views/{view}/remove", web::post().to(devices::remove_view))
        .route("/devices/{device}/about", web::post().to(devices::describe))
        .route("/devices/{device}/labels", web::post().to(devices::label))
        .route("/devices/{device}/replace", web::post().to(devices::replace));
}

/// Alerts, their rules and silences, and who is told of them.
fn alert_routes(config: &mut ServiceConfig) {
    config
        .route("/alerts", web::get().to(alerts::list))
        .route("/alerts/silences", web::post().to(alerts::add_silence))
        .route("/alerts/silences/{silence}/remove", web::post().to(alerts::remove_silence))
        .route("/alerts/email", web::post().to(alerts::add_receiver))
        .route("/alerts/email/{receiver}", web::get().to(alerts::show_receiver))
        .route("/alerts/email/{receiver}/remove", web::post().to(alerts::remove_receiver))
        .route("/alerts/email/{receiver}/enable", web::post().to(alerts::enable_receiver))
        .route("/alerts/email/{receiver}/disable", web::post().to(alerts::disable_receiver))
        .route("/alerts/email/{receiver}/test", web::post().to(alerts::test_receiver))
        .route("/alerts/rules/{rule}", web::post().to(alerts::set_rule))
        .route("/alerts/rules/{rule}/reset", web::post().to(alerts::reset_rule))
        .route("/webhooks", web::get().to(webhooks::list))
        .route("/webhooks", web::post().to(webhooks::add))
        .route("/webhooks/{webhook}", web::get().to(webhooks::show))
        .route("/webhooks/{webhook}/test", web::post().to(webhooks::test))
        .route("/webhooks/{webhook}/remove", web::post().to(webhooks::remove))
        .route("/alerts/{alert}", web::get().to(alerts::show))
        .route("/alerts/{alert}/acknowledge", web::post().to(alerts::acknowledge));
}

/// Acts that need a second person.
fn approval_routes(config: &mut ServiceConfig) {
    config
        .route("/approvals", web::get().to(approvals::list))
        .route("/approvals/policy", web::post().to(approvals::set_policy))
        .route("/approvals/{approval}", web::get().to(approvals::show))
        .route("/approvals/{approval}/approve", web::post().to(approvals::approve))
        .route("/approvals/{approval}/deny", web::post().to(approvals::deny))
        .route("/approvals/{approval}/recovery-key", web::post().to(approvals::collect));
}

/// Profiles, and the editor.
fn profile_routes(config: &mut ServiceConfig) {
    config
        .route("/profiles", web::get().to(profiles::list))
        .service(editor("/profiles").route(web::post().to(profiles::save)))
        .route("/profiles/new", web::get().to(profiles::new))
        .route("/profiles/search", web::get().to(profiles::search))
        .service(editor("/profiles/form").route(web::post().to(profiles::change_form)))
        .service(editor("/profiles/check").route(web::post().to(profiles::check)))
        .route("/profiles/{line}/refresh", web::post().to(profiles::set_refresh))
        .route("/profiles/{line}/refresh/remove", web::post().to(profiles::remove_refresh))
        .route("/profiles/{line}/{revision}", web::get().to(profiles::show))
        .route("/profiles/{line}/{revision}/edit", web::get().to(profiles::edit))
        .route("/profiles/{line}/{revision}/changes/{to}", web::get().to(profiles::changes));
}

/// Rollouts.
fn rollout_routes(config: &mut ServiceConfig) {
    config
        .route("/rollouts", web::get().to(rollouts::list))
        .route("/rollouts", web::post().to(rollouts::start))
        .route("/rollouts/plan", web::get().to(rollouts::plan))
        .route("/rollouts/pause", web::post().to(rollouts::pause_all))
        .route("/rollouts/{rollout}", web::get().to(rollouts::show))
        .route("/rollouts/{rollout}/pause", web::post().to(rollouts::pause))
        .route("/rollouts/{rollout}/resume", web::post().to(rollouts::resume))
        .route("/rollouts/{rollout}/roll-back", web::post().to(rollouts::roll_back))
        .route("/rollouts/{rollout}/next", web::post().to(rollouts::next))
        .route("/rollouts/{rollout}/abort", web::post().to(rollouts::abort));
}

/// The one list of pages. What each needs is in [`crate::access`].
pub fn routes(config: &mut ServiceConfig) {
    config
        .service(web::resource("/static/{path:.*}").route(web::get().to(assets::serve)))
        .service(open("/signin", web::get().to(session::show), web::post().to(session::begin)))
        .service(open_post("/signin/passkey/options", web::post().to(session::passkey_options)))
        .service(open_post("/signin/passkey", web::post().to(session::begin_by_passkey)))
        .service(open(
            "/join/{token}",
            web::get().to(session::show_link),
            web::post().to(session::join),
        ))
        .service(
            web::scope("")
                .app_data(form(FORM_MAX))
                .app_data(web::PathConfig::default().error_handler(|_, _| page::missing().into()))
                .app_data(web::QueryConfig::default().error_handler(|e, _| page::refused(e).into()))
                .wrap(from_fn(session::signed_in))
                .wrap(from_fn(session::same_origin))
                .wrap(headers())
                .route("/", web::get().to(overview::show))
                .route("/live", web::get().to(live::events))
                .route("/signout", web::post().to(session::end))
                .route("/devices", web::get().to(devices::list))
                .route("/devices/pair", web::post().to(devices::pair))
                .configure(label_routes)
                .route("/devices/{device}", web::get().to(devices::show))
                .route("/devices/{device}/timeline", web::get().to(devices::show_timeline))
                .route("/devices/{device}/revoke", web::post().to(devices::revoke))
                .route("/devices/{device}/release-hold", web::post().to(devices::release_hold))
                .route("/devices/{device}/forgive", web::post().to(devices::forgive))
                .route("/devices/{device}/updates", web::post().to(devices::order_updates))
                .route("/devices/{device}/ask", web::post().to(devices::request_evidence))
                .route(
                    "/devices/{device}/accept-firmware",
                    web::post().to(devices::accept_firmware),
                )
                .route("/devices/{device}/recovery-key", web::post().to(devices::show_recovery_key))
                .route("/enroll", web::get().to(enroll::show))
                .route("/enroll", web::post().to(enroll::create))
                .route("/fleets/{fleet}", web::get().to(fleets::show))
                .route("/fleets/{fleet}/policy", web::post().to(fleets::set_policy))
                .route("/fleets/{fleet}/secrets", web::post().to(fleets::set_secret))
                .route("/fleets/{fleet}/secrets/remove", web::post().to(fleets::remove_secret))
                .route("/packages", web::get().to(packages::find))
                .configure(profile_routes)
                .route("/builds", web::get().to(builds::list))
                .route("/builds", web::post().to(builds::create))
                .route("/builds/{build}", web::get().to(builds::show))
                .route("/builds/{build}/log", web::get().to(builds::log))
                .route("/builds/{build}/release", web::post().to(builds::release))
                .route("/releases", web::get().to(releases::list))
                .route("/releases/{release}", web::get().to(releases::show))
                .route("/releases/{release}/evidence", web::get().to(releases::evidence))
                .route("/releases/{release}/files/{path:.*}", web::get().to(releases::file))
                .route("/releases/{release}/revoke", web::post().to(releases::revoke))
                .configure(rollout_routes)
                .route("/trust", web::get().to(trust::show))
                .route("/audit", web::get().to(audit::list))
                .configure(account_routes)
                .configure(alert_routes)
                .configure(approval_routes)
                .default_service(web::to(page::nothing_here)),
        );
}
