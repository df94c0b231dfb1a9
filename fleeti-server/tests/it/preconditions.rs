//! Two people change one object: the second change does not overwrite what its author has not seen.

use crate::accounts::{client, person, program, role};
use crate::pages::{Browser, OURS};
use crate::rollout::publish_release;
use crate::world::World;
use fleeti_client::ClientError;
use fleeti_core::attestation::policy::Policy;
use fleeti_core::rollout::gates::ReleasePath;
use fleeti_core::wire::accounts::Role;
use fleeti_core::wire::approval::ApprovalPolicy;
use fleeti_core::wire::problem::Code;
use reqwest::{Method, Response};
use serde_json::{Value, json};

struct Api<'a> {
    world: &'a World,
    token: String,
    http: reqwest::Client,
}

impl<'a> Api<'a> {
    fn of(world: &'a World) -> Self {
        let token = std::fs::read_to_string(world.dir.path().join("admin.token")).unwrap();
        Self { world, token: token.trim().to_owned(), http: reqwest::Client::new() }
    }

    async fn send(
        &self,
        (method, path): (Method, &str),
        header: Option<(&str, &str)>,
        body: Option<&Value>,
    ) -> Response {
        let url = format!("http://{}/api/v1/{path}", self.world.server.addresses.api);
        let mut request = self.http.request(method, url).bearer_auth(&self.token);
        if let Some((name, value)) = header {
            request = request.header(name, value);
        }
        if let Some(body) = body {
            request = request.json(body);
        }
        request.send().await.unwrap()
    }
}

fn tag(response: &Response) -> String {
    response.headers()["etag"].to_str().unwrap().to_owned()
}

/// Every object that is read, edited and written: a path to read it, the change of it, and another
/// one.
fn rows() -> Vec<(&'static str, (Method, &'static str), Value, Value)> {
    let policy = |level: &str| {
        let mut policy = serde_json::to_value(Policy::default()).unwrap();
        policy["update"] = level.into();
        policy
    };
    let rule =
        |max: u64| json!({"kind": "disk", "threshold": max, "severity": "info", "enabled": true});
    let profile = |text: &str| json!({"text": format!("schema = 1\nname = \"web\"\narchitecture = \"x86_64\"\ndescription = \"{text}\"\n")});
    vec![
        (
            "fleets/demo/attestation-policy",
            (Method::PUT, "fleets/demo/attestation-policy"),
            policy("unverified_tpm"),
            policy("observed_boot"),
        ),
        (
            "releases/kiosk@1/path",
            (Method::PUT, "releases/kiosk@1/path"),
            json!({"floor": "one", "blocked": []}),
            json!({"floor": "two", "blocked": []}),
        ),
        ("alert-rules/disk", (Method::PUT, "alert-rules/disk"), rule(80), rule(81)),
        (
            "views/mine",
            (Method::PUT, "views/mine"),
            json!({"filter": "fleet=one"}),
            json!({"filter": "fleet=two"}),
        ),
        (
            "profiles/web/revisions/1",
            (Method::POST, "profiles/documents"),
            profile("one"),
            profile("two"),
        ),
    ]
}

#[actix_web::test]
async fn a_change_of_an_older_version_is_refused_and_changes_nothing() {
    let world = World::new().await;
    publish_release(&world, "kiosk@1").await;
    world.client.save_view(&"mine".parse().unwrap(), "fleet=zero").await.unwrap();
    world
        .client
        .save_profile_text("schema = 1\nname = \"web\"\narchitecture = \"x86_64\"\n")
        .await
        .unwrap();
    let api = Api::of(&world);
    for (path, change, one, two) in rows() {
        let read = api.send((Method::GET, path), None, None).await;
        let first = tag(&read);
        assert!(first.starts_with('"') && first.ends_with('"'), "{path}: {first} is strong");
        // Two people have read the same. The first one writes.
        let written =
            api.send(change.clone(), Some(("if-match", first.as_str())), Some(&one)).await;
        assert!(written.status().is_success(), "{path}: {:?}", written.text().await);
        let second = tag(&written);
        assert_ne!(first, second, "{path}");
        let audited = world.audit().await;
        for stale in [first.as_str(), "\"\"", "W/\"x\"", "\"0\", \"1\""] {
            let refused = api.send(change.clone(), Some(("if-match", stale)), Some(&two)).await;
            assert_eq!(refused.status(), 412, "{path}: {stale}");
            let problem: Value = refused.json().await.unwrap();
            assert_eq!(problem["type"], "urn:fleeti:problem:precondition_failed");
            assert!(problem["hint"].as_str().unwrap().contains("read it again"), "{problem}");
        }
        // A weak tag matches nothing, also that of the version itself.
        let weak = format!("W/{second}");
        let refused = api.send(change.clone(), Some(("if-match", weak.as_str())), Some(&two)).await;
        assert_eq!(refused.status(), 412, "{path}");
        let absent = api.send(change.clone(), Some(("if-none-match", "*")), Some(&two)).await;
        assert_eq!(absent.status(), 412, "{path}: it exists");
        let malformed = api.send(change.clone(), Some(("if-match", "x")), Some(&two)).await;
        assert_eq!(malformed.status(), 422, "{path}");
        assert_eq!(world.audit().await, audited, "{path}: nothing was done");
        // The version that the first change answered with is the one that is there.
        let many = format!("\"x\", {second}");
        let written = api.send(change.clone(), Some(("if-match", many.as_str())), Some(&two)).await;
        assert!(written.status().is_success(), "{path}: {:?}", written.text().await);
        // Without a precondition, and with one that anything fulfils, as ever.
        let written = api.send(change.clone(), None, Some(&one)).await;
        assert!(written.status().is_success(), "{path}");
        let written = api.send(change, Some(("if-match", "*")), Some(&two)).await;
        assert!(written.status().is_success(), "{path}");
        let now = api.send((Method::GET, path), None, None).await;
        assert!(path.starts_with("profiles/") || tag(&now) == tag(&written), "{path}");
    }
}

#[actix_web::test]
async fn what_does_not_exist_is_made_only_if_that_is_expected() {
    let world = World::new().await;
    let api = Api::of(&world);
    let change = (Method::PUT, "views/new");
    let body = json!({"filter": "fleet=one"});
    for expected in ["*", "\"x\""] {
        let refused = api.send(change.clone(), Some(("if-match", expected)), Some(&body)).await;
        assert_eq!(refused.status(), 412, "{expected}");
    }
    assert_eq!(api.send((Method::GET, "views/new"), None, None).await.status(), 404);
    let made = api.send(change.clone(), Some(("if-none-match", "*")), Some(&body)).await;
    assert_eq!(made.status(), 200);
    assert_eq!(api.send(change, Some(("if-none-match", "*")), Some(&body)).await.status(), 412);
}

/// Of 16 changes of one version, one is made.
#[actix_web::test]
async fn one_of_many_changes_of_one_version_is_made() {
    let world = World::new().await;
    let fleet = "demo".parse().unwrap();
    let read = world.client.tagged_attestation_policy(&fleet).await.unwrap();
    let changes = (0..16).map(|n| {
        let client = world.client.expecting(read.tag.as_ref());
        let mut policy = read.value.clone();
        policy.windows.user_delay_min = Some(n + 1);
        let fleet = &fleet;
        async move { client.set_attestation_policy(fleet, &policy).await }
    });
    let done = futures::future::join_all(changes).await;
    assert_eq!(done.iter().filter(|done| done.is_ok()).count(), 1);
    for refused in done.into_iter().filter_map(Result::err) {
        assert_eq!(refused.code(), Some(Code::PreconditionFailed), "{refused:?}");
    }
}

#[actix_web::test]
async fn the_approval_policy_and_paths_of_releases_are_changed_in_the_version_that_was_read() {
    let world = World::new().await;
    for account in ["alice", "bob"] {
        person(&world, account, &[role(Role::Admin, None)]).await;
    }
    let read = world.client.tagged_approval_policy().await.unwrap();
    let stale = world.client.expecting(read.tag.as_ref());
    let policy = ApprovalPolicy { recovery_keys: true, ..ApprovalPolicy::default() };
    stale.set_approval_policy(&policy).await.unwrap();
    // Where a second person is needed, that is said first: the requester learns nothing of versions.
    let refused = stale.set_approval_policy(&read.value).await.unwrap_err();
    assert_eq!(refused.code(), Some(Code::SecondPerson));
    publish_release(&world, "kiosk@1").await;
    let release = "kiosk@1".parse().unwrap();
    let read = world.client.tagged_release_path(&release).await.unwrap();
    assert_eq!(read.value, ReleasePath::default());
    let stale = world.client.expecting(read.tag.as_ref());
    let path = ReleasePath { floor: Some("because".into()), ..ReleasePath::default() };
    stale.set_release_path(&release, &path).await.unwrap();
    let refused = stale.set_release_path(&release, &ReleasePath::default()).await.unwrap_err();
    assert_eq!(refused.code(), Some(Code::PreconditionFailed));
    assert_eq!(world.client.release_path(&release).await.unwrap(), path);
}

/// A viewer reads tags, and changes nothing by them.
#[actix_web::test]
async fn a_tag_is_no_permission() {
    let world = World::new().await;
    world.enroll().await;
    let made = program(&world, "robot", &[role(Role::Viewer, None)], None).await;
    let robot = client(&world, made.token.expose());
    let fleet = "demo".parse().unwrap();
    let read = robot.tagged_attestation_policy(&fleet).await.unwrap();
    let refused =
        robot.expecting(read.tag.as_ref()).set_attestation_policy(&fleet, &read.value).await;
    let Err(ClientError::Refused(problem)) = refused else { panic!("{refused:?}") };
    assert_eq!(problem.status, 403);
}

/// A form that was open while another person saved.
#[actix_web::test]
async fn a_form_of_an_older_version_is_refused_on_the_pages() {
    let world = World::new().await;
    world.enroll().await;
    let browser = Browser::new(&world);
    let session = browser.sign_in(&world).await;
    let text = |page: Response| async move { page.text().await.unwrap() };
    let hidden = |page: &str| {
        let (_, rest) = page.split_once("name=\"etag\" value=\"").expect("a hidden tag");
        rest.split_once('"').unwrap().0.to_owned()
    };
    let fleet = "demo".parse().unwrap();
    let opened = hidden(&text(browser.get("/fleets/demo", &session).await).await);
    let mut policy = world.client.attestation_policy(&fleet).await.unwrap();
    policy.proved_releases = true;
    world.client.set_attestation_policy(&fleet, &policy).await.unwrap();
    let form = format!("etag={opened}&update=&success=&secrets=&firmware=pinned&pcrs=");
    let refused = browser.post("/fleets/demo/policy", &session, OURS, &form).await;
    assert_eq!(refused.status(), 412);
    assert!(text(refused).await.contains("another change was made"));
    assert!(world.client.attestation_policy(&fleet).await.unwrap().proved_releases);
    let opened = hidden(&text(browser.get("/fleets/demo", &session).await).await);
    let form = format!("etag={opened}&update=&success=&secrets=&firmware=pinned&pcrs=");
    let saved = browser.post("/fleets/demo/policy", &session, OURS, &form).await;
    assert_eq!(saved.status(), 303);

    // The editor keeps the version with which it was opened, through its buttons.
    let document =
        |text: &str| format!("schema = 1\nname = \"web\"\narchitecture = \"x86_64\"\n{text}");
    world.client.save_profile_text(&document("")).await.unwrap();
    let opened = hidden(&text(browser.get("/profiles/web/1/edit", &session).await).await);
    let form = format!("in=text&view=text&etag={opened}&text={}", encoded(&document("")));
    let shown = browser.post("/profiles/form", &session, OURS, &form).await;
    assert_eq!(hidden(&text(shown).await), opened);
    world.client.save_profile_text(&document("description = \"theirs\"\n")).await.unwrap();
    let mine = encoded(&document("description = \"mine\"\n"));
    let form = format!("in=text&etag={opened}&text={mine}");
    let refused = browser.post("/profiles", &session, OURS, &form).await;
    assert_eq!(refused.status(), 412);
    assert_eq!(world.client.revisions(&"web".parse().unwrap()).await.unwrap().len(), 2);
}

fn encoded(text: &str) -> String {
    text.bytes().map(|b| format!("%{b:02x}")).collect()
}

/// A change that cannot compare its condition is not made.
#[actix_web::test]
async fn a_condition_that_no_operation_compares_is_refused() {
    let world = World::new().await;
    let api = Api::of(&world);
    let device = world.enroll().await.id;
    world.client.save_view(&"mine".parse().unwrap(), "fleet=demo").await.unwrap();
    let about = json!({"name": "desk"});
    let of_device = format!("devices/{device}/about");
    for (method, path, body) in
        [(Method::DELETE, "views/mine", None), (Method::POST, of_device.as_str(), Some(&about))]
    {
        for header in ["if-match", "if-none-match", "if-unmodified-since"] {
            let sent = api.send((method.clone(), path), Some((header, "\"old\"")), body).await;
            assert_eq!(sent.status(), 400, "{method} {path} {header}");
            let problem: Value = sent.json().await.unwrap();
            assert!(problem["detail"].as_str().unwrap().contains("cannot compare"), "{problem}");
        }
    }
    assert_eq!(world.client.views().await.unwrap().len(), 1);
    assert_eq!(world.client.device(&device).await.unwrap().name, None);
    let read = api.send((Method::GET, "views/mine"), Some(("if-none-match", "\"old\"")), None);
    assert_eq!(read.await.status(), 200);
}
