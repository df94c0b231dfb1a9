//! The API under `/api/v1`, for holders of API tokens: one file for each resource. What each route
//! needs is in [`crate::access`].
//! A handler extracts its arguments ([`crate::http::extract`]), makes one call and maps the result.
//! The OpenAPI document is generated from these handlers and their types, and served at
//! `/api/v1/openapi.json`.
//!
//! [`open`] has the paths that need no token, [`workers`] those of build workers.

mod accounts;
mod alerts;
mod approvals;
mod attestation;
mod audit;
mod builds;
mod commands;
mod conditions;
mod devices;
mod doctor;
mod email;
mod enrollment;
mod events;
mod idempotency;
mod labels;
pub mod open;
pub mod openapi;
mod packages;
mod profiles;
mod recovery;
mod releases;
mod rollouts;
mod secrets;
mod trust;
mod webhooks;
pub mod workers;

use crate::access::Needed;
use crate::error::AppError;
use crate::http::extract::{self, BodyMax};
use crate::http::methods::head_as_get;
use actix_web::body::{BoxBody, MessageBody};
use actix_web::dev::{HttpServiceFactory, ServiceRequest, ServiceResponse};
use actix_web::http::header::HeaderMap;
use actix_web::middleware::{Next, from_fn};
use actix_web::web::{self, Data, ServiceConfig};
use actix_web::{HttpMessage, HttpRequest, HttpResponse};
use fleeti_control::accounts::access;
use fleeti_control::context::Context;
use utoipa_actix_web::OpenApiFactory;
use utoipa_actix_web::service_config::ServiceConfig as DocumentedConfig;

/// Maximum size of a JSON body in bytes.
const JSON_MAX: usize = 2 << 20;
/// Maximum number of objects in a list without pages.
const LIST_MAX: u32 = 200;

type Result<T> = std::result::Result<T, AppError>;

/// Where routes are registered: a server, or the generator of the OpenAPI document. A server does not
/// generate it: that takes 4 MiB of memory for each of its threads.
trait Routes {
    /// Adds a route.
    fn service<F>(&mut self, route: F) -> &mut Self
    where
        F: HttpServiceFactory + OpenApiFactory + 'static;
}

impl Routes for ServiceConfig {
    fn service<F>(&mut self, route: F) -> &mut Self
    where
        F: HttpServiceFactory + OpenApiFactory + 'static,
    {
        Self::service(self, route)
    }
}

impl Routes for DocumentedConfig<'_> {
    fn service<F>(&mut self, route: F) -> &mut Self
    where
        F: HttpServiceFactory + OpenApiFactory + 'static,
    {
        Self::service(self, route)
    }
}

/// Registers the API.
pub fn routes(config: &mut ServiceConfig) {
    config
        .app_data(BodyMax(JSON_MAX))
        .app_data(extract::paths())
        .app_data(extract::queries())
        .service(
            web::scope("/api/v1")
                .configure(all_routes)
                .default_service(web::to(nothing_here))
                .wrap(from_fn(authenticate))
                .wrap(from_fn(head_as_get)),
        );
}

/// The one list of routes.
fn all_routes<C: Routes>(config: &mut C) {
    device_routes(config);
    label_routes(config);
    build_routes(config);
    trust_routes(config);
    release_routes(config);
    attestation_routes(config);
    administration_routes(config);
    account_routes(config);
    alert_routes(config);
}

/// Devices, their enrollment, and commands to them.
fn device_routes<C: Routes>(config: &mut C) {
    config
        .service(devices::list_devices)
        .service(devices::get_device)
        .service(devices::get_certificate)
        .service(devices::get_drift)
        .service(devices::get_history)
        .service(devices::revoke_device)
        .service(devices::release_hold)
        .service(devices::forgive_device)
        .service(devices::change_boot)
        .service(devices::get_why)
        .service(devices::order_updates)
        .service(commands::create_command)
        .service(commands::list_commands)
        .service(commands::get_command)
        .service(commands::cancel_command)
        .service(commands::get_command_result)
        .service(devices::list_fleets)
        .service(devices::get_channel)
        .service(devices::get_fixes)
        .service(devices::pin_fleet)
        .service(packages::find_package)
        .service(enrollment::create_enrollment)
        .service(enrollment::provision_device)
        .service(enrollment::get_record_without_token)
        .service(enrollment::enter_code);
}

/// Names and labels of devices, saved views, and changes of many devices.
fn label_routes<C: Routes>(config: &mut C) {
    config
        .service(labels::list_label_keys)
        .service(labels::declare_label_key)
        .service(labels::remove_label_key)
        .service(labels::describe_device)
        .service(labels::change_labels)
        .service(labels::import_labels)
        .service(labels::change_devices)
        .service(labels::replace_device)
        .service(labels::list_views)
        .service(labels::get_view)
        .service(labels::save_view)
        .service(labels::remove_view);
}

/// Profiles and builds.
fn build_routes<C: Routes>(config: &mut C) {
    config
        .service(profiles::list_profiles)
        .service(profiles::save_profile)
        .service(profiles::save_document)
        .service(profiles::check_document)
        .service(profiles::list_library)
        .service(profiles::search_packages)
        .service(profiles::get_changes)
        .service(profiles::list_revisions)
        .service(profiles::get_revision)
        .service(profiles::get_refresh_schedule)
        .service(profiles::set_refresh_schedule)
        .service(profiles::remove_refresh_schedule)
        .service(builds::list_builds)
        .service(builds::create_build)
        .service(builds::get_build)
        .service(builds::sign_build)
        .service(builds::get_record)
        .service(builds::get_signature)
        .service(builds::request_signature)
        .service(builds::approve_signature);
}

/// Trust bundles and transitions.
fn trust_routes<C: Routes>(config: &mut C) {
    config
        .service(trust::get_trust)
        .service(trust::import_bundle)
        .service(trust::switch_issuer)
        .service(recovery::list_transitions)
        .service(recovery::import_transition)
        .service(recovery::readmit_fleet);
}

/// Releases, rollouts, and the stream of events.
fn release_routes<C: Routes>(config: &mut C) {
    config
        .service(releases::list_releases)
        .service(releases::get_release)
        .service(releases::publish_release)
        .service(releases::prove_release)
        .service(releases::revoke_release)
        .service(releases::get_release_evidence)
        .service(releases::get_release_path)
        .service(releases::set_release_path)
        .service(releases::get_file)
        .service(releases::upload_file)
        .service(rollouts::list_rollouts)
        .service(rollouts::start_rollout)
        .service(rollouts::plan_rollout)
        .service(rollouts::get_rollout)
        .service(rollouts::pause_rollout)
        .service(rollouts::pause_all_rollouts)
        .service(rollouts::resume_rollout)
        .service(rollouts::begin_wave)
        .service(rollouts::supersede_rollout)
        .service(rollouts::roll_back_rollout)
        .service(rollouts::abort_rollout)
        .service(events::events);
}

/// What devices prove, and the secrets that they get for it.
fn attestation_routes<C: Routes>(config: &mut C) {
    config
        .service(attestation::get_attestation)
        .service(attestation::get_ear)
        .service(attestation::get_policy)
        .service(attestation::set_policy)
        .service(attestation::challenge)
        .service(attestation::challenge_fleet)
        .service(attestation::accept_firmware)
        .service(attestation::list_manufacturers)
        .service(attestation::add_manufacturers)
        .service(attestation::remove_manufacturer)
        .service(secrets::get_recovery_key)
        .service(secrets::show_recovery_key)
        .service(secrets::list_secrets)
        .service(secrets::set_secret)
        .service(secrets::remove_secret);
}

/// The examination of the server, build workers and the audit log.
fn administration_routes<C: Routes>(config: &mut C) {
    config
        .service(doctor::get_diagnosis)
        .service(workers::list_workers)
        .service(workers::add_worker)
        .service(workers::remove_worker)
        .service(audit::list_entries)
        .service(audit::get_proof)
        .service(audit::get_checkpoint)
        .service(audit::get_consistency);
}

/// Accounts, API tokens, login sessions, and acts that wait for a second person.
fn account_routes<C: Routes>(config: &mut C) {
    config
        .service(accounts::get_me)
        .service(accounts::list_sessions)
        .service(accounts::end_session)
        .service(accounts::list_passkeys)
        .service(accounts::remove_passkey)
        .service(accounts::list_tokens)
        .service(accounts::create_token)
        .service(accounts::remove_token)
        .service(accounts::list_accounts)
        .service(accounts::add_account)
        .service(accounts::get_account)
        .service(accounts::grant_role)
        .service(accounts::remove_role)
        .service(accounts::disable_account)
        .service(accounts::enable_account)
        .service(accounts::offboard_account)
        .service(accounts::create_link)
        .service(accounts::list_account_sessions)
        .service(accounts::end_account_sessions)
        .service(accounts::end_account_session)
        .service(approvals::list_approvals)
        .service(approvals::request_approval)
        .service(approvals::get_approval)
        .service(approvals::approve_act)
        .service(approvals::deny_act)
        .service(approvals::collect_recovery_key)
        .service(approvals::get_approval_policy)
        .service(approvals::set_approval_policy);
}

/// Alerts, their rules, silences, webhooks and e-mail.
fn alert_routes<C: Routes>(config: &mut C) {
    config
        .service(alerts::list_alerts)
        .service(alerts::get_alert)
        .service(alerts::acknowledge_alert)
        .service(alerts::list_rules)
        .service(alerts::get_rule)
        .service(alerts::set_rule)
        .service(alerts::remove_rule)
        .service(alerts::list_silences)
        .service(alerts::add_silence)
        .service(alerts::remove_silence)
        .service(webhooks::list_webhooks)
        .service(webhooks::add_webhook)
        .service(webhooks::remove_webhook)
        .service(webhooks::test_webhook)
        .service(webhooks::list_deliveries)
        .service(email::list_receivers)
        .service(email::add_receiver)
        .service(email::remove_receiver)
        .service(email::enable_receiver)
        .service(email::disable_receiver)
        .service(email::test_receiver)
        .service(email::list_emails);
}

async fn nothing_here(request: HttpRequest) -> Result<HttpResponse> {
    Err(openapi::METHODS.refuse(&request))
}

fn bearer_token(headers: &HeaderMap) -> Option<&str> {
    headers.get("authorization").and_then(|h| h.to_str().ok()?.strip_prefix("Bearer "))
}

async fn authenticate(
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> std::result::Result<ServiceResponse<BoxBody>, actix_web::Error> {
    let cx = request
        .app_data::<Data<Context>>()
        .cloned()
        .ok_or_else(|| AppError::internal("a route without a server"))?;
    let from = request.peer_addr().map(|a| a.ip());
    let by =
        access::bearer(&cx, bearer_token(request.headers()), from).await.map_err(AppError::from)?;
    let Some(needed) = Needed::of_api(&request) else {
        return Err(openapi::METHODS.refuse(request.request()).into());
    };
    needed.check(&cx, &by).await?;
    conditions::check(&request)?;
    request.extensions_mut().insert(by.clone());
    idempotency::answer(cx, by, request, next).await
}
