//! The OpenAPI document, made of the handlers of [`super::api`].

use actix_web::HttpResponse;
use fleeti_core::wire::problem::Problem;
use std::sync::LazyLock;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{ComponentsBuilder, ContentBuilder, InfoBuilder, OpenApi, OpenApiBuilder, Ref, ResponseBuilder};
use utoipa::{PartialSchema, ToSchema};
use utoipa_actix_web::AppExt;

static DOCUMENT: LazyLock<String> = LazyLock::new(|| document().to_pretty_json().unwrap_or_default());

/// The document: OpenAPI 3.1.
#[must_use]
pub fn document() -> OpenApi {
    let info = InfoBuilder::new()
        .title("Fleeti")
        .version("1")
        .description(Some("Profiles, builds, releases, rollouts and devices. Every error is a problem (RFC 9457)."))
        .build();
    let bearer = SecurityScheme::Http(HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build());
    let mut referenced = Vec::new();
    Problem::schemas(&mut referenced);
    let components = ComponentsBuilder::new()
        .security_scheme("administrator", bearer)
        .schema("Problem", Problem::schema())
        .schemas_from_iter(referenced)
        .build();
    let start = OpenApiBuilder::new()
        .info(info)
        .components(Some(components))
        .security(Some([SecurityRequirement::new("administrator", Vec::<String>::new())]))
        .build();
    let (_, mut document) = actix_web::App::new().into_utoipa_app().openapi(start).configure(super::api::routes).split_for_parts();
    let problem = ResponseBuilder::new()
        .description("A problem")
        .content("application/problem+json", ContentBuilder::new().schema(Some(Ref::from_schema_name("Problem"))).build())
        .build();
    for item in document.paths.paths.values_mut() {
        for operation in [&mut item.get, &mut item.put, &mut item.post].into_iter().flatten() {
            operation.responses.responses.insert("default".to_owned(), problem.clone().into());
        }
    }
    document
}

/// `GET /api/v1/openapi.json`: what the API is is no secret.
pub async fn serve() -> HttpResponse {
    HttpResponse::Ok().content_type("application/json").body(DOCUMENT.as_str())
}
