//! The cookie of a session.

use actix_web::HttpRequest;
use actix_web::cookie::time::Duration;
use actix_web::cookie::{Cookie, SameSite};
use actix_web::http::header;

/// Name of the cookie over plain HTTP, which is for loopback.
const COOKIE: &str = "fleeti_session";
/// Name of the cookie over TLS. A browser accepts it only with `Secure`, `Path=/` and no domain, so
/// no other host and no plain-HTTP response can set it (RFC 6265bis, 4.1.3.2).
const HOST_COOKIE: &str = "__Host-fleeti_session";

/// Names of the cookie of a browser that signs in with a passkey, over plain HTTP and over TLS.
const CEREMONY: &str = "fleeti_ceremony";
const HOST_CEREMONY: &str = "__Host-fleeti_ceremony";

/// A cookie with the session's token, for this browser.
pub fn cookie<'a>(request: &HttpRequest, value: &'a str, age_s: u64) -> Cookie<'a> {
    made(request, [COOKIE, HOST_COOKIE], value, age_s)
}

/// A cookie that tells this browser from others before it has a session, while it signs in with a
/// passkey.
pub fn ceremony<'a>(request: &HttpRequest, value: &'a str, age_s: u64) -> Cookie<'a> {
    made(request, [CEREMONY, HOST_CEREMONY], value, age_s)
}

/// The value of [`ceremony`].
pub fn presented_ceremony(request: &HttpRequest) -> Option<String> {
    either(request, CEREMONY, HOST_CEREMONY).map(|cookie| cookie.value().to_owned())
}

fn made<'a>(
    request: &HttpRequest,
    [plain, host]: [&'static str; 2],
    value: &'a str,
    age_s: u64,
) -> Cookie<'a> {
    let is_secure = is_over_tls(request);
    Cookie::build(if is_secure { host } else { plain }, value)
        .path("/")
        .secure(is_secure)
        .http_only(true)
        .same_site(SameSite::Strict)
        .max_age(Duration::seconds(i64::try_from(age_s).unwrap_or(0)))
        .finish()
}

/// Whether the browser uses TLS: to this server, or to a proxy in front of it, which shows in the
/// origin of a form.
fn is_over_tls(request: &HttpRequest) -> bool {
    let origin = request.headers().get(header::ORIGIN).and_then(|v| v.to_str().ok());
    request.app_config().secure()
        || origin.is_some_and(|o| o.starts_with("https://"))
        || request.cookie(HOST_COOKIE).is_some()
}

/// The session's cookie. If this server terminates TLS, only the `__Host-` cookie counts, which no
/// other host can set. Otherwise there may be a proxy, and both names count.
pub fn presented(request: &HttpRequest) -> Option<Cookie<'static>> {
    either(request, COOKIE, HOST_COOKIE)
}

fn either(request: &HttpRequest, plain: &str, host: &str) -> Option<Cookie<'static>> {
    let plain = || if request.app_config().secure() { None } else { request.cookie(plain) };
    request.cookie(host).or_else(plain)
}

/// The session token of an authenticated request.
pub fn of(request: &HttpRequest) -> String {
    presented(request).map_or_else(String::new, |c| c.value().to_owned())
}
