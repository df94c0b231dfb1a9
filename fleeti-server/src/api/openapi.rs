//! The OpenAPI document, generated from the handlers of [`crate::api`]. This
//! module adds what they do not declare: path parameters, and the errors of each operation.

use crate::access;
use crate::http::methods::Methods;
use actix_web::http::{Method, StatusCode};
use fleeti_core::id::{
    AccountName, DeviceId, FleetId, LabelKey, Line, ReleaseName, SecretName, ViewName, WorkerName,
};
use fleeti_core::wire::problem::Problem;
use std::collections::BTreeMap;
use std::sync::LazyLock;
use utoipa::openapi::path::{Operation, Parameter, ParameterBuilder, ParameterIn, PathItem};
use utoipa::openapi::schema::{ObjectBuilder, Type};
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{
    ComponentsBuilder, ContentBuilder, InfoBuilder, OpenApi, OpenApiBuilder, Ref, RefOr, Required,
    Response, ResponseBuilder, Schema,
};
use utoipa::{OpenApi as _, PartialSchema, ToSchema};
use utoipa_actix_web::AppExt;

/// The methods of each path of the API, and of the public paths of [`super::open`].
pub static METHODS: LazyLock<Methods> = LazyLock::new(|| {
    let mut paths = BTreeMap::<&str, Vec<Method>>::new();
    for rule in access::API {
        // A table of constants: each is a method.
        let method = Method::from_bytes(rule.method.as_bytes()).unwrap_or_default();
        paths.entry(rule.pattern).or_default().push(method);
    }
    for path in access::OPEN {
        paths.entry(path).or_default().push(Method::GET);
    }
    Methods::new(paths.into_iter().map(|(path, methods)| (path.to_owned(), methods)))
});

/// The document as JSON text. A test compares it with [`document`].
#[must_use]
pub fn text() -> &'static str {
    include_str!("../../openapi.json")
}

/// Error statuses by operation, beside those that `refusals` derives from the form of an operation.
const REFUSED: &[(&str, &[u16])] = &[
    ("abort_rollout", &[404, 409]),
    ("accept_firmware", &[404, 409]),
    ("acknowledge_alert", &[404, 409]),
    ("request_approval", &[404, 409]),
    ("get_approval", &[404, 409]),
    ("approve_act", &[404, 409]),
    ("deny_act", &[404, 409]),
    ("collect_recovery_key", &[404, 409]),
    ("get_approval_policy", &[409]),
    ("set_approval_policy", &[409, 412]),
    ("list_account_sessions", &[404]),
    ("end_account_sessions", &[404]),
    ("end_account_session", &[404]),
    ("get_alert", &[404]),
    ("get_rule", &[404]),
    ("set_rule", &[409, 412]),
    ("remove_rule", &[404]),
    ("add_silence", &[404, 409]),
    ("remove_silence", &[404]),
    ("add_webhook", &[409]),
    ("remove_webhook", &[404]),
    ("test_webhook", &[404]),
    ("list_deliveries", &[404]),
    ("add_receiver", &[409]),
    ("remove_receiver", &[404]),
    ("enable_receiver", &[404]),
    ("disable_receiver", &[404]),
    ("test_receiver", &[404, 409]),
    ("list_emails", &[404]),
    ("add_manufacturers", &[409]),
    ("add_account", &[409]),
    ("add_worker", &[409]),
    ("approve_signature", &[404, 409]),
    ("begin_wave", &[404, 409]),
    ("challenge", &[404, 409]),
    ("change_devices", &[409]),
    ("change_labels", &[404, 409]),
    ("change_boot", &[404, 409]),
    ("create_command", &[404, 409]),
    ("create_link", &[404, 409]),
    ("create_token", &[404, 409]),
    ("declare_label_key", &[409]),
    ("describe_device", &[404]),
    ("disable_account", &[404, 409]),
    ("enable_account", &[404]),
    ("end_session", &[404]),
    ("enter_code", &[404]),
    ("get_account", &[404]),
    ("get_attestation", &[404]),
    ("get_build", &[404]),
    ("get_certificate", &[404]),
    ("get_changes", &[404]),
    ("get_command", &[404]),
    ("list_builds", &[400]),
    ("list_commands", &[404]),
    ("list_releases", &[400]),
    ("list_rollouts", &[400]),
    ("cancel_command", &[404, 409]),
    ("get_command_result", &[404]),
    ("get_device", &[404]),
    ("get_file", &[404]),
    ("get_drift", &[404]),
    ("get_history", &[404]),
    ("get_ear", &[404]),
    ("get_proof", &[404]),
    ("get_record", &[404, 409]),
    ("get_recovery_key", &[404]),
    ("get_release", &[404]),
    ("get_release_evidence", &[404]),
    ("get_release_path", &[404]),
    ("get_revision", &[404]),
    ("get_rollout", &[404]),
    ("grant_role", &[404, 409]),
    ("get_signature", &[404]),
    ("forgive_device", &[404, 409]),
    ("get_why", &[404]),
    ("order_updates", &[404, 409]),
    ("pin_fleet", &[404, 409]),
    ("import_bundle", &[409]),
    ("import_labels", &[409]),
    ("import_transition", &[409]),
    ("offboard_account", &[404, 409]),
    ("pause_rollout", &[404, 409]),
    ("plan_rollout", &[404, 409]),
    ("resume_rollout", &[404, 409]),
    ("roll_back_rollout", &[404, 409]),
    ("prove_release", &[404]),
    ("provision_device", &[404]),
    ("publish_release", &[404]),
    ("release_hold", &[404, 409]),
    ("remove_label_key", &[404, 409]),
    ("remove_manufacturer", &[404, 409]),
    ("remove_passkey", &[404]),
    ("remove_refresh_schedule", &[404]),
    ("remove_role", &[404, 409]),
    ("remove_secret", &[404]),
    ("remove_token", &[404]),
    ("remove_view", &[404]),
    ("remove_worker", &[404]),
    ("replace_device", &[404, 409]),
    ("request_signature", &[404, 409]),
    ("crl", &[404]),
    ("revoke_device", &[404]),
    ("revoke_release", &[404]),
    ("save_document", &[412]),
    ("save_profile", &[412]),
    ("events", &[429]),
    ("get_refresh_schedule", &[404]),
    ("get_view", &[404]),
    ("save_view", &[409, 412]),
    ("set_policy", &[412]),
    ("set_refresh_schedule", &[404]),
    ("set_release_path", &[404, 409, 412]),
    ("set_secret", &[409]),
    ("show_recovery_key", &[404]),
    ("sign_build", &[404, 409]),
    ("start_rollout", &[404, 409]),
    ("supersede_rollout", &[404, 409]),
    ("switch_issuer", &[404, 409]),
    ("upload_file", &[409, 413]),
];

/// Changes that take `If-Match`, and answer with the `ETag` of what is there then.
const IF_MATCH: [&str; 7] = [
    "save_document",
    "save_profile",
    "save_view",
    "set_approval_policy",
    "set_policy",
    "set_release_path",
    "set_rule",
];

/// POST operations that do nothing.
const READS: [&str; 2] = ["check_document", "plan_rollout"];

/// The form of `Idempotency-Key`.
const KEY: &str = r#"^("[!#-\[\]-~]{1,128}"|[!#-\[\]-~]{1,128})$"#;

/// The form of `If-Match`.
const TAGS: &str = r#"^(\*|(W/)?"[ !#-~]*"( *, *(W/)?"[ !#-~]*"){0,15})$"#;

/// The document: OpenAPI 3.1.
#[must_use]
pub fn document() -> OpenApi {
    let info = InfoBuilder::new()
        .title("Fleeti")
        .version("1")
        .description(Some("Profiles, builds, releases, rollouts and devices. Every error is a problem document (RFC 9457)."))
        .build();
    let bearer = SecurityScheme::Http(HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build());
    let mut referenced = Vec::new();
    Problem::schemas(&mut referenced);
    let components = ComponentsBuilder::new()
        .security_scheme("token", bearer)
        .schema("Problem", Problem::schema())
        .schemas_from_iter(referenced)
        .build();
    let start = OpenApiBuilder::new()
        .info(info)
        .components(Some(components))
        .security(Some([SecurityRequirement::new("token", Vec::<String>::new())]))
        .build();
    let (_, mut document) = actix_web::App::new()
        .into_utoipa_app()
        .openapi(start)
        .service(utoipa_actix_web::scope("/api/v1").configure(|config| super::all_routes(config)))
        .split_for_parts();
    document.merge(super::open::Documented::openapi());
    for (path, item) in &mut document.paths.paths {
        for (method, operation) in operations(item) {
            let mut parameters: Vec<_> = operation.parameters.take().unwrap_or_default();
            parameters.retain(|p| !matches!(p, RefOr::T(p) if p.parameter_in == ParameterIn::Path));
            let of_path = path
                .split('{')
                .skip(1)
                .filter_map(|rest| rest.split(['}', ':']).next())
                .map(|name| part(name, path));
            let headers = headers(&method, operation);
            let parameters: Vec<_> =
                of_path.map(RefOr::T).chain(parameters).chain(headers.map(RefOr::T)).collect();
            let can_forbid = access::can_forbid(&method, path);
            let refused = refusals(operation, &parameters, can_forbid);
            operation.parameters = Some(parameters).filter(|p| !p.is_empty());
            operation.responses.responses.extend(refused);
        }
    }
    document
}

/// The headers that an operation reads, beside `Authorization`.
fn headers(method: &Method, operation: &Operation) -> impl Iterator<Item = Parameter> + use<> {
    let id = operation.operation_id.as_deref().unwrap_or_default();
    let takes = IF_MATCH.contains(&id);
    let text = "The change is made only if what is there has one of these ETags (`*`: any), \
                and refused with 412 otherwise. Without it, nothing is expected";
    let expected = takes.then(|| header("If-Match", TAGS, text));
    let text = "A repetition of the request with the same key is not done again, and gets the same answer. \
                A key is kept for 24 hours, and belongs to the account";
    let is_act = *method == Method::POST && !READS.contains(&id);
    let key = is_act.then(|| header("Idempotency-Key", KEY, text));
    expected.into_iter().chain(key)
}

fn header(name: &str, pattern: &str, description: &str) -> Parameter {
    let text = ObjectBuilder::new().schema_type(Type::String);
    let schema: RefOr<Schema> = text.pattern(Some(pattern)).into();
    ParameterBuilder::new()
        .name(name)
        .parameter_in(ParameterIn::Header)
        .required(Required::False)
        .description(Some(description))
        .schema(Some(schema))
        .build()
}

fn operations(item: &mut PathItem) -> Vec<(Method, &mut Operation)> {
    let all = [
        (Method::GET, &mut item.get),
        (Method::PUT, &mut item.put),
        (Method::POST, &mut item.post),
        (Method::DELETE, &mut item.delete),
    ];
    all.into_iter().filter_map(|(method, operation)| Some((method, operation.as_mut()?))).collect()
}

/// The path parameter of this name. The meaning of `number` depends on the path.
fn part(name: &str, path: &str) -> Parameter {
    let text = |max: usize, pattern: &str| -> RefOr<Schema> {
        ObjectBuilder::new()
            .schema_type(Type::String)
            .min_length(Some(1))
            .max_length(Some(max))
            .pattern(Some(pattern))
            .into()
    };
    let number = |maximum: i64| -> RefOr<Schema> {
        ObjectBuilder::new()
            .schema_type(Type::Integer)
            .minimum(Some(0))
            .maximum(Some(maximum))
            .into()
    };
    let (description, schema) = match name {
        "device" => ("The id of a device", DeviceId::schema()),
        "fleet" => ("The name of a fleet", FleetId::schema()),
        "line" => ("The name of a profile", Line::schema()),
        "release" => ("The name of a release, such as `kiosk@2`", ReleaseName::schema()),
        "worker" => ("The name of a build worker", WorkerName::schema()),
        "name" => ("The name of a secret", SecretName::schema()),
        "account" => ("The name of an account", AccountName::schema()),
        "key" => ("The key of a label", LabelKey::schema()),
        "view" => ("The name of a saved view", ViewName::schema()),
        "number" if path.contains("/revisions/") => {
            ("The number of a revision", number(i64::from(u32::MAX)))
        }
        "to" => ("The number of the later revision", number(i64::from(u32::MAX))),
        "number" => ("The number of an audit entry", number(i64::MAX)),
        "path" => (
            "The path of a file within the release; may contain slashes",
            text(256, "^[A-Za-z0-9._/-]+$"),
        ),
        "issuer" => ("The id of an intermediate CA's key, hexadecimal", text(64, "^[0-9a-f]+$")),
        // Ids that the server generated.
        _ => ("An id", text(64, "^[a-z0-9-]+$")),
    };
    ParameterBuilder::new()
        .name(name)
        .parameter_in(ParameterIn::Path)
        .required(Required::True)
        .description(Some(description))
        .schema(Some(schema))
        .build()
}

/// The error responses of an operation.
fn refusals(
    operation: &Operation,
    parameters: &[RefOr<Parameter>],
    can_forbid: bool,
) -> Vec<(String, RefOr<Response>)> {
    let id = operation.operation_id.as_deref().unwrap_or_default();
    let mut statuses: Vec<u16> =
        REFUSED.iter().find(|(of, _)| *of == id).map_or(&[][..], |(_, statuses)| statuses).to_vec();
    // Public operations need no authentication; those of them that use the database are below.
    let is_open = operation
        .security
        .as_ref()
        .is_some_and(|s| s.iter().all(|r| *r == SecurityRequirement::default()));
    if !is_open {
        statuses.extend([401, 500, 503]);
    }
    if can_forbid {
        statuses.push(403);
    }
    if operation
        .request_body
        .as_ref()
        .is_some_and(|b| matches!(b, RefOr::T(b) if b.content.contains_key("application/json")))
    {
        statuses.extend([400, 413, 415, 422]);
    }
    // Ids that the server generated have no format to violate: an unknown one is 404, never 422.
    let is_free = |name: &str| {
        [
            "build", "command", "rollout", "issuer", "id", "session", "token", "passkey", "alert",
            "rule", "silence", "webhook", "approval", "receiver",
        ]
        .contains(&name)
    };
    let can_be_wrong = |p: &Parameter| p.parameter_in != ParameterIn::Header && !is_free(&p.name);
    if parameters.iter().any(|p| matches!(p, RefOr::T(p) if can_be_wrong(p))) {
        statuses.push(422);
    }
    let has_key = |p: &RefOr<Parameter>| matches!(p, RefOr::T(p) if p.name == "Idempotency-Key");
    if parameters.iter().any(has_key) {
        statuses.extend([400, 409, 422]);
    }
    if ["readyz", "healthz"].contains(&id) {
        statuses.push(503);
    }
    statuses.iter().map(|status| (status.to_string(), RefOr::T(problem(*status)))).collect()
}

fn problem(status: u16) -> Response {
    let reason =
        StatusCode::from_u16(status).ok().and_then(|s| s.canonical_reason()).unwrap_or("Refused");
    let schema = Ref::from_schema_name("Problem");
    ResponseBuilder::new()
        .description(reason)
        .content("application/problem+json", ContentBuilder::new().schema(Some(schema)).build())
        .build()
}
