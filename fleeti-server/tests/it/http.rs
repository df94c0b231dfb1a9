//! HTTP by RFC 9110, on both ports: methods, media types, ranges, conditions, and a problem
//! document for every refusal.

use crate::rollout::publish_release;
use crate::world::{TestDevice, World};
use fleeti_core::wire::api::CreateRollout;
use fleeti_core::wire::problem::{Problem, TYPE_PREFIX};
use reqwest::header::{ALLOW, CONTENT_RANGE, CONTENT_TYPE, HeaderMap};
use reqwest::{Method, RequestBuilder, Response};

/// Both ports, each with an authenticated client.
struct Ports {
    world: World,
    device: TestDevice,
    http: reqwest::Client,
    token: String,
}

impl Ports {
    async fn new() -> Self {
        let world = World::new().await;
        let device = world.enroll().await;
        let (http, token) = (
            world.https((*device.tls).clone()),
            std::fs::read_to_string(world.dir.path().join("admin.token")).unwrap(),
        );
        Self { world, device, http, token: token.trim().to_owned() }
    }
    fn api(&self, method: Method, path: &str) -> RequestBuilder {
        let url = format!("http://{}{path}", self.world.server.addresses.api);
        reqwest::Client::new().request(method, url).bearer_auth(&self.token)
    }
    fn device(&self, method: Method, path: &str) -> RequestBuilder {
        self.http.request(method, self.world.url(path))
    }
    fn at(&self, port: &str, method: Method, path: &str) -> RequestBuilder {
        if port == "api" { self.api(method, path) } else { self.device(method, path) }
    }
}

/// Checks that a refusal has this status, this code and a text.
async fn problem(response: Response, status: u16, code: &str, what: &str) -> (HeaderMap, Problem) {
    let headers = response.headers().clone();
    assert_eq!(response.status(), status, "{what}");
    assert_eq!(headers[CONTENT_TYPE], "application/problem+json", "{what}");
    let problem: Problem = response.json().await.unwrap();
    assert_eq!(
        (problem.status, problem.kind.as_str()),
        (status, format!("{TYPE_PREFIX}{code}").as_str()),
        "{what}: {problem:?}"
    );
    assert!(!problem.detail.is_empty(), "{what}");
    (headers, problem)
}

#[actix_web::test]
async fn what_is_refused_before_a_handler_has_it_is_a_problem_with_a_code() {
    let p = Ports::new().await;
    let json = |port: &str, method: Method, path: &str, body: &'static str| {
        p.at(port, method, path).header(CONTENT_TYPE, "application/json").body(body)
    };
    let commands = format!("/api/v1/devices/{}/commands", p.device.id);
    let (post, put, get) = (Method::POST, Method::PUT, Method::GET);
    let refused = [
        // Malformed.
        (json("api", post.clone(), "/api/v1/rollouts", "{"), 400, "malformed"),
        (json("api", post.clone(), "/api/v1/rollouts", ""), 400, "malformed"),
        (json("api", post.clone(), "/api/v1/rollouts", "{} {}"), 400, "malformed"),
        (json("device", post.clone(), "/renew", "nothing"), 400, "malformed"),
        // Well-formed, but not as documented.
        (json("api", post.clone(), "/api/v1/rollouts", "{}"), 422, "invalid"),
        (
            json(
                "api",
                post.clone(),
                "/api/v1/rollouts",
                r#"{"release": "a@1", "fleet": "f", "x": 1}"#,
            ),
            422,
            "invalid",
        ),
        (
            json(
                "api",
                post.clone(),
                "/api/v1/rollouts",
                r#"{"release": "a@1", "fleet": "f", "fleet": "f"}"#,
            ),
            422,
            "invalid",
        ),
        (json("api", post.clone(), "/api/v1/rollouts", r#"["a@1", "f"]"#), 422, "invalid"),
        (
            json("api", put.clone(), "/api/v1/fleets/demo/attestation-policy", "[null, null]"),
            422,
            "invalid",
        ),
        (
            json("api", post.clone(), &commands, r#"{"kind": ["report"], "valid_s": 9}"#),
            422,
            "invalid",
        ),
        (json("device", post.clone(), "/renew", r#"["x"]"#), 422, "invalid"),
        (
            json("device", post.clone(), "/enroll", r#"["t", "c", "x86_64", "kiosk@1"]"#),
            422,
            "invalid",
        ),
        (json("device", put.clone(), "/recovery-key", r#"["key"]"#), 422, "invalid"),
        // Wrong media type.
        (p.api(post.clone(), "/api/v1/rollouts").body("{}"), 415, "unsupported_media_type"),
        (
            p.api(post.clone(), "/api/v1/rollouts").header(CONTENT_TYPE, "text/plain").body("{}"),
            415,
            "unsupported_media_type",
        ),
        (
            json("api", post.clone(), "/api/v1/rollouts", "{}").header("content-encoding", "gzip"),
            415,
            "unsupported_media_type",
        ),
        (p.device(post.clone(), "/renew").body("{}"), 415, "unsupported_media_type"),
        (
            p.device(post.clone(), "/renew")
                .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
                .body("a=b"),
            415,
            "unsupported_media_type",
        ),
        // Too large.
        (
            json("api", post.clone(), "/api/v1/rollouts", "").body(vec![b' '; (2 << 20) + 1]),
            413,
            "too_large",
        ),
        (
            json("device", post.clone(), "/renew", "").body(vec![b' '; 64 * 1024 + 1]),
            413,
            "too_large",
        ),
        (
            p.device(put.clone(), &format!("/logs/{}", "a".repeat(64))).body(vec![0; 4 << 20]),
            413,
            "too_large",
        ),
        // Queries and paths.
        (p.api(get.clone(), "/api/v1/devices?limit=x"), 422, "invalid"),
        (p.api(get.clone(), "/api/v1/devices?limit=-1"), 422, "invalid"),
        (p.api(get.clone(), "/api/v1/devices?limit=0"), 422, "invalid"),
        (p.api(get.clone(), "/api/v1/devices?limit=501"), 422, "invalid"),
        (p.api(get.clone(), "/api/v1/devices?limit=99999999999999999999"), 422, "invalid"),
        (p.api(get.clone(), "/api/v1/devices?limit=1&limit=2"), 422, "invalid"),
        (p.api(get.clone(), "/api/v1/devices?fleet=%00"), 422, "invalid"),
        (p.api(get.clone(), "/api/v1/devices?after=%2e%2e/x"), 422, "invalid"),
        (p.api(get.clone(), "/api/v1/devices?unknown=1"), 422, "invalid"),
        (p.api(get.clone(), "/api/v1/audit/entries?limit=1001"), 422, "invalid"),
        (p.api(get.clone(), "/api/v1/audit/entries?limit=0"), 422, "invalid"),
        (p.api(get.clone(), "/api/v1/audit/entries?from=x"), 422, "invalid"),
        (p.api(get.clone(), "/api/v1/audit/consistency?old=1"), 422, "invalid"),
        (p.api(get.clone(), "/api/v1/audit/entries/x/proof"), 422, "invalid"),
        (p.device(get.clone(), "/log/consistency.json?from=x&to=1"), 422, "invalid"),
        (p.device(get.clone(), "/log/consistency.json"), 422, "invalid"),
        (p.device(get.clone(), "/releases/%00/1/manifest.json"), 422, "invalid"),
        (p.api(put.clone(), "/api/v1/releases/kiosk@1/files/nothing").body("x"), 422, "invalid"),
        // Unknown paths.
        (p.api(get.clone(), "/api/v1/nothing"), 404, "not_found"),
        (p.api(post.clone(), "/api/v1"), 404, "not_found"),
        (p.device(get.clone(), "/nothing"), 404, "not_found"),
        (p.device(post.clone(), "/"), 404, "not_found"),
    ];
    for (request, status, code) in refused {
        let what = format!("{request:?}");
        problem(request.send().await.unwrap(), status, code, &what).await;
    }
    let (_, said) = problem(
        p.api(get, "/api/v1/devices?limit=501").send().await.unwrap(),
        422,
        "invalid",
        "the limit",
    )
    .await;
    assert_eq!(said.detail, "limit is 501, must be 1 to 500");
}

#[actix_web::test]
async fn a_path_names_its_methods_and_head_is_get_without_the_body() {
    let p = Ports::new().await;
    for (port, method, path, allowed) in [
        ("api", Method::DELETE, "/api/v1/devices".to_owned(), "GET, HEAD"),
        ("api", Method::PATCH, "/api/v1/rollouts".into(), "GET, HEAD, POST"),
        ("api", Method::GET, "/api/v1/fleets/demo/secrets/x".into(), "DELETE, PUT"),
        ("api", Method::POST, "/api/v1/releases/kiosk@1/files/raw/x".into(), "GET, HEAD, PUT"),
        (
            "api",
            Method::from_bytes(b"BREW").unwrap(),
            "/api/v1/trust-bundle".into(),
            "GET, HEAD, POST",
        ),
        ("api", Method::POST, "/livez".into(), "GET, HEAD"),
        ("api", Method::DELETE, "/pki/x.crl".into(), "GET, HEAD"),
        ("api", Method::POST, "/api/v1/openapi.json".into(), "GET, HEAD"),
        ("device", Method::GET, "/renew".into(), "POST"),
        ("device", Method::HEAD, "/enroll".into(), "POST"),
        ("device", Method::POST, "/desired".into(), "GET, HEAD"),
        ("device", Method::DELETE, "/releases/kiosk/1/manifest.json".into(), "GET, HEAD"),
        ("device", Method::POST, "/releases/kiosk/1/raw/x".into(), "GET, HEAD"),
        ("device", Method::GET, "/recovery-key".into(), "PUT"),
    ] {
        let response = p.at(port, method.clone(), &path).send().await.unwrap();
        assert_eq!(
            (response.status().as_u16(), response.headers()[ALLOW].to_str().unwrap()),
            (405, allowed),
            "{method} {path}"
        );
        if method != Method::HEAD {
            problem(response, 405, "method_not_allowed", &path).await;
        }
    }
    for (port, path) in [
        ("api", "/api/v1/devices".to_owned()),
        ("api", format!("/api/v1/devices/{}", p.device.id)),
        ("api", format!("/api/v1/devices/{}/certificate", p.device.id)),
        ("api", "/api/v1/audit/checkpoint".into()),
        ("api", "/api/v1/openapi.json".into()),
        ("api", "/livez".into()),
        ("api", "/readyz".into()),
        ("device", "/desired".into()),
        ("device", "/trust-bundle.json".into()),
    ] {
        let (get, head) = (
            p.at(port, Method::GET, &path).send().await.unwrap(),
            p.at(port, Method::HEAD, &path).send().await.unwrap(),
        );
        assert_eq!((head.status(), get.status()), (get.status(), head.status()), "{path}");
        assert_eq!(head.headers().get(CONTENT_TYPE), get.headers().get(CONTENT_TYPE), "{path}");
        assert_eq!(
            head.headers().get("content-length"),
            get.headers().get("content-length"),
            "{path}"
        );
        assert!(head.bytes().await.unwrap().is_empty(), "{path}");
    }
    // A stream that never ends still answers HEAD.
    let events = p.api(Method::HEAD, "/api/v1/events").send().await.unwrap();
    assert_eq!(
        (events.status(), &events.headers()[CONTENT_TYPE]),
        (200.try_into().unwrap(), &"text/event-stream".parse().unwrap())
    );
    assert!(events.bytes().await.unwrap().is_empty());
}

#[actix_web::test]
async fn a_part_is_sent_only_of_the_file_that_it_was_asked_of() {
    let p = Ports::new().await;
    publish_release(&p.world, "kiosk@2").await;
    let rollout = CreateRollout {
        release: "kiosk@2".parse().unwrap(),
        fleet: "demo".parse().unwrap(),
        plan: None,
        urgent: None,
    };
    p.world.client.start_rollout(&rollout).await.unwrap();
    let path = "/releases/kiosk/2/raw/kiosk_2.efi";
    let whole = p.device(Method::GET, path).send().await.unwrap();
    let (etag, size) =
        (whole.headers()["etag"].to_str().unwrap().to_owned(), whole.content_length().unwrap());
    assert!(
        whole.headers().get(CONTENT_RANGE).is_none() && whole.headers()["accept-ranges"] == "bytes"
    );
    let content = whole.bytes().await.unwrap();
    assert_eq!(content.len() as u64, size);
    let get = |headers: &[(&str, &str)]| {
        let request = headers
            .iter()
            .fold(p.device(Method::GET, path), |r, (name, value)| r.header(*name, *value));
        async move { request.send().await.unwrap() }
    };
    let last = format!("bytes=0-{}", size - 1);
    for (headers, status) in [
        (vec![("range", "bytes=100-199")], 206),
        (vec![("range", "bytes=100-199"), ("if-range", etag.as_str())], 206),
        (vec![("range", last.as_str())], 206),
        (vec![("range", "bytes=100-199"), ("if-range", "\"another\"")], 200),
        (vec![("range", "bytes=100-199"), ("if-range", "W/\"weak\"")], 200),
        (vec![("range", "bytes=100-199"), ("if-range", "Sat, 29 Oct 1994 19:43:31 GMT")], 200),
        (vec![("range", "bytes=100-199"), ("if-range", "")], 200),
        (vec![("range", "items=1-2")], 200),
        (vec![("range", "bytes=9-1")], 200),
        (vec![("range", "nonsense")], 200),
        (vec![("range", "bytes=0-1,4-5")], 200),
        (vec![("if-none-match", etag.as_str())], 304),
        (vec![("if-none-match", "*")], 304),
        (vec![("if-none-match", "\"another\"")], 200),
        (vec![("if-match", etag.as_str())], 200),
        (vec![("if-match", "*")], 200),
    ] {
        let response = get(&headers).await;
        assert_eq!(response.status(), status, "{headers:?}");
        assert_eq!(response.headers()["etag"], etag.as_str(), "{headers:?}");
        assert_eq!(response.headers().contains_key(CONTENT_RANGE), status == 206, "{headers:?}");
        if status == 200 {
            assert_eq!(response.bytes().await.unwrap(), content, "{headers:?}");
        }
    }
    let part = get(&[("range", "bytes=100-199")]).await;
    assert_eq!(part.headers()[CONTENT_RANGE], format!("bytes 100-199/{size}").as_str());
    assert_eq!(part.bytes().await.unwrap(), content.slice(100..200));
    for (range, if_range) in
        [("bytes=999999999-", None), ("bytes=-0", None), ("bytes=999999999-", Some(etag.as_str()))]
    {
        let headers: Vec<_> =
            [("range", range)].into_iter().chain(if_range.map(|tag| ("if-range", tag))).collect();
        let (headers, _) = problem(get(&headers).await, 416, "range_not_satisfiable", range).await;
        assert_eq!(headers[CONTENT_RANGE], format!("bytes */{size}").as_str());
    }
    assert_eq!(
        get(&[("range", "bytes=999999999-"), ("if-range", "\"another\"")]).await.status(),
        200
    );
    problem(get(&[("if-match", "\"another\"")]).await, 412, "precondition_failed", "If-Match")
        .await;
    // Only GET has ranges.
    let head = p.device(Method::HEAD, path).header("range", "bytes=0-9").send().await.unwrap();
    assert_eq!(
        (
            head.status().as_u16(),
            head.headers()["content-length"].to_str().unwrap().parse().unwrap()
        ),
        (200, size)
    );
}

#[actix_web::test]
async fn metrics_say_how_long_transactions_hold_the_writer() {
    let p = Ports::new().await;
    let text = p.at("api", Method::GET, "/metrics").send().await.unwrap().text().await.unwrap();
    let figure = |label: &str| -> f64 {
        let line = text.lines().find_map(|l| l.strip_prefix(label)).expect(&text);
        line.trim().parse().unwrap()
    };
    let name = "fleeti_database_writer_hold_seconds";
    let median = figure(&format!("{name}{{quantile=\"0.5\"}}"));
    let p99 = figure(&format!("{name}{{quantile=\"0.99\"}}"));
    assert!(0.0 < median && median <= p99, "{text}");
    assert!(figure(&format!("{name}_count")) >= 1.0, "{text}");
}

/// A line of the text format: a name, labels without a quote or backslash, and a number.
fn is_sample(line: &str) -> bool {
    let Some((series, value)) = line.rsplit_once(' ') else { return false };
    let (name, labels) = series.split_once('{').map_or((series, None), |(n, l)| (n, Some(l)));
    let is_word = |text: &str| {
        !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
    };
    let is_label = |label: &str| {
        let pair = label.split_once("=\"").and_then(|(n, v)| Some((n, v.strip_suffix('"')?)));
        pair.is_some_and(|(name, value)| is_word(name) && !value.contains(['"', '\\', '\n']))
    };
    let labels = labels.map(|l| l.strip_suffix('}').unwrap_or("?"));
    is_word(name)
        && labels.is_none_or(|all| all.split(',').all(is_label))
        && value.parse::<f64>().is_ok()
}

#[actix_web::test]
async fn every_figure_has_a_type_and_the_alerts_use_only_figures_that_exist() {
    let p = Ports::new().await;
    let text = p.at("api", Method::GET, "/metrics").send().await.unwrap().text().await.unwrap();
    let typed: Vec<_> =
        text.lines().filter_map(|l| l.strip_prefix("# TYPE ")?.split(' ').next()).collect();
    let samples: Vec<_> = text.lines().filter(|line| !line.starts_with('#')).collect();
    for line in &samples {
        assert!(is_sample(line), "{line}");
        let name = line.split(['{', ' ']).next().unwrap();
        assert!(typed.contains(&name.trim_end_matches("_count")), "{line}");
    }
    assert!(samples.len() < 60, "the number of series is bounded: {}", samples.len());
    assert!(text.contains("fleeti_end_timestamp_seconds{kind=\"root\"} "), "{text}");
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/prometheus/fleeti.rules.yml");
    let rules = std::fs::read_to_string(path).unwrap();
    let used: Vec<_> = rules
        .lines()
        .filter(|line| line.trim_start().starts_with("expr:"))
        .flat_map(|line| line.split(|c: char| !c.is_ascii_alphanumeric() && c != '_'))
        .filter(|word| word.starts_with("fleeti_"))
        .collect();
    assert!(used.len() > 10, "{used:?}");
    let absent_here = ["fleeti_backup_timestamp_seconds"];
    for name in used {
        assert!(typed.contains(&name) || absent_here.contains(&name), "{name}");
    }
}
