//! The API's port with TLS: its certificate, its cookies, and clients that identify it by its key.

use crate::world::World;
use fleeti_client::{Client, ClientError, Pin, fingerprint_of, is_trusted};
use fleeti_server::admin_tls::ApiTls;
use reqwest::redirect;
use std::fs;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

async fn with_tls() -> World {
    World::with(|config| config.api_tls = ApiTls::SelfIssued).await
}

fn url(world: &World) -> String {
    format!("https://localhost:{}", world.server.addresses.api.port())
}

/// A client like a browser whose user has added the certificate.
fn browser(world: &World) -> reqwest::Client {
    let pem = fs::read(world.dir.path().join("pki/admin/certificate.pem")).unwrap();
    let certificate = reqwest::Certificate::from_pem(&pem).unwrap();
    let builder =
        reqwest::Client::builder().tls_certs_only([certificate]).redirect(redirect::Policy::none());
    builder.build().unwrap()
}

async fn sign_in(world: &World, origin: &str) -> reqwest::Response {
    let token = fs::read_to_string(world.dir.path().join("admin.token")).unwrap();
    let request = browser(world).post(format!("{}/signin", url(world))).header("origin", origin);
    let request = request.header("content-type", "application/x-www-form-urlencoded");
    request.body(format!("token={}", token.trim())).send().await.unwrap()
}

#[actix_web::test]
async fn a_client_that_knows_the_key_is_served_and_one_that_knows_another_key_says_what_to_do() {
    let world = with_tls().await;
    let pin = fingerprint_of(&url(&world)).await.unwrap();
    assert_eq!(Some(pin.to_string()), world.server.api_fingerprint);
    assert_eq!(
        fs::read_to_string(world.dir.path().join("pki/admin/fingerprint")).unwrap().trim(),
        pin.to_string()
    );
    assert!(world.client.fleets().await.is_ok());
    assert!(!is_trusted(&url(&world)).await.unwrap(), "no authority has issued it");

    let token = fs::read_to_string(world.dir.path().join("admin.token")).unwrap();
    let other: Pin = format!("sha256:{}", "0".repeat(64)).parse().unwrap();
    let refused =
        Client::pinned(&url(&world), token.trim(), &other).unwrap().fleets().await.unwrap_err();
    assert!(
        matches!(&refused, ClientError::OtherKey(k) if k.expected == other && k.found == pin),
        "{refused:?}"
    );
    assert!(refused.hint().unwrap().contains("fleeti login"));
    let by_authorities = Client::new(&url(&world), token.trim()).unwrap().fleets().await;
    assert!(matches!(by_authorities, Err(ClientError::Transport(_))));
    assert!(matches!(
        Client::pinned("http://127.0.0.1:1", "t", &pin),
        Err(ClientError::NotHttps(_))
    ));
}

#[actix_web::test]
async fn a_restart_and_a_renewal_keep_the_pin() {
    let world = with_tls().await;
    let pin = world.server.api_fingerprint.clone();
    world.server.stop().await;
    fs::remove_file(world.dir.path().join("pki/admin/certificate.pem")).unwrap();
    let world = World::start(world.dir, |config| config.api_tls = ApiTls::SelfIssued).await;
    assert_eq!(world.server.api_fingerprint, pin);
}

#[actix_web::test]
async fn certificate_files_that_change_are_used_for_the_next_connection() {
    let (one, two) = (with_tls().await, with_tls().await);
    let dir = tempfile::tempdir().unwrap();
    let [certificate, key] = ["certificate.pem", "key.pem"].map(|name| dir.path().join(name));
    let copy = |world: &World| {
        for path in [&certificate, &key] {
            fs::copy(world.dir.path().join("pki/admin").join(path.file_name().unwrap()), path)
                .unwrap();
        }
    };
    copy(&one);
    let files = ApiTls::Files { certificate: certificate.clone(), key: key.clone() };
    let world = World::with(|config| config.api_tls = files).await;
    assert_eq!(world.server.api_fingerprint, one.server.api_fingerprint);
    world.client.fleets().await.unwrap();
    copy(&two);
    assert_eq!(
        Some(fingerprint_of(&url(&world)).await.unwrap().to_string()),
        two.server.api_fingerprint
    );
    assert!(world.client.fleets().await.is_ok(), "a connection that is there stays");
}

#[actix_web::test]
async fn a_session_over_tls_has_a_cookie_that_nobody_else_can_set() {
    let world = with_tls().await;
    let response = sign_in(&world, &url(&world)).await;
    assert_eq!(response.status(), 303);
    assert!(
        response.headers()["strict-transport-security"]
            .to_str()
            .unwrap()
            .starts_with("max-age=31536000")
    );
    let cookie = response.headers()["set-cookie"].to_str().unwrap().to_owned();
    assert!(cookie.starts_with("__Host-fleeti_session="), "{cookie}");
    for attribute in ["Secure", "HttpOnly", "SameSite=Strict", "Path=/"] {
        assert!(cookie.split("; ").any(|a| a == attribute), "{attribute} is not in {cookie}");
    }
    assert!(!cookie.contains("Domain"), "{cookie}");
    let session = cookie.split(';').next().unwrap();
    let get = |cookie: String| {
        browser(&world).get(format!("{}/", url(&world))).header("cookie", cookie).send()
    };
    assert_eq!(get(session.to_owned()).await.unwrap().status(), 200);
    let renamed = session.replace("__Host-", "");
    assert_eq!(
        get(renamed).await.unwrap().status(),
        303,
        "a name that plain HTTP could have set is not believed"
    );
}

#[actix_web::test]
async fn a_form_of_another_site_or_of_plain_http_is_refused_over_tls() {
    let world = with_tls().await;
    let ours = url(&world);
    for origin in [
        ours.replace("https", "http"),
        ours.replace("localhost", "evil.test"),
        "null".into(),
        String::new(),
    ] {
        assert_eq!(sign_in(&world, &origin).await.status(), 403, "{origin}");
    }
    assert_eq!(sign_in(&world, &ours).await.status(), 303);
}

#[actix_web::test]
async fn a_proxy_that_speaks_tls_gets_cookies_for_tls() {
    let world = World::new().await;
    let token = fs::read_to_string(world.dir.path().join("admin.token")).unwrap();
    let request = reqwest::Client::builder().redirect(redirect::Policy::none()).build().unwrap();
    let request = request
        .post(format!("http://{}/signin", world.server.addresses.api))
        .header("host", "fleet.test");
    let request = request
        .header("origin", "https://fleet.test")
        .header("content-type", "application/x-www-form-urlencoded");
    let response = request.body(format!("token={}", token.trim())).send().await.unwrap();
    let cookie = response.headers()["set-cookie"].to_str().unwrap();
    assert!(cookie.starts_with("__Host-fleeti_session=") && cookie.contains("Secure"), "{cookie}");
}

#[actix_web::test]
async fn the_port_speaks_nothing_but_http_1_over_tls() {
    let world = with_tls().await;
    let mut plain = TcpStream::connect(world.server.addresses.api).await.unwrap();
    plain.write_all(b"GET /livez HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    plain.read_to_end(&mut answer).await.ok();
    assert!(!answer.starts_with(b"HTTP"), "plain HTTP was answered");
    let mut config = world.trusting_admin();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let connector = tokio_rustls::TlsConnector::from(std::sync::Arc::new(config));
    let stream = TcpStream::connect(world.server.addresses.api).await.unwrap();
    let tls = connector.connect("localhost".try_into().unwrap(), stream).await.unwrap();
    assert_eq!(tls.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
}

#[actix_web::test]
async fn a_page_comes_at_once_beside_a_thousand_silent_connections() {
    let world = with_tls().await;
    let mut silent = Vec::new();
    for _ in 0..1000 {
        silent.push(TcpStream::connect(world.server.addresses.api).await.unwrap());
    }
    let started = Instant::now();
    let response = browser(&world).get(format!("{}/signin", url(&world))).send().await.unwrap();
    assert_eq!(response.status(), 200);
    assert!(started.elapsed() < Duration::from_secs(1), "{:?}", started.elapsed());
}
