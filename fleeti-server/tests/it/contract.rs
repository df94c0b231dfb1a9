//! The OpenAPI document against the server: every operation works, every documented error occurs,
//! and no other one does. A new operation without a row fails.

mod elsewhere;
mod faults;
mod operation;
use crate::approvals::office;
use crate::rollout::publish_release;
use crate::world::World;
use elsewhere::ELSEWHERE;
use fleeti_core::wire::problem::Problem;
use fleeti_testkit::malformed;
use operation::Operation;
use reqwest::StatusCode;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// Operation, parameters of the path that differ from the usual ones, body, and expected status.
/// Rows run in this order.
pub type Row = (&'static str, &'static [(&'static str, &'static str)], Option<Value>, u16);

/// Rows that succeed, and rows that the state refuses, for every operation.
fn rows() -> Vec<Row> {
    let profile = json!({"schema": 1, "name": "kiosk", "architecture": "x86_64", "users": [{"name": "alice", "ssh_keys": []}]});
    let other = json!({"schema": 1, "name": "gate", "architecture": "x86_64", "release_log": {"optional": true, "age_days_max": 3}});
    let policy = json!({"update": "verified_boot", "success": null, "secrets": null,
        "firmware": {"mode": "known", "pcrs": [["0".repeat(64), "1".repeat(64)]]}});
    let command = json!({"kind": {"type": "report"}, "valid_s": 60});
    let rollout = |release: &str| Some(json!({"release": release, "fleet": "demo"}));
    let pinned =
        |release: &str| Some(json!({"type": "pin", "release": release, "reason": "because"}));
    let forbid = json!({"type": "forbid", "release": "kiosk@1"});
    let wave = json!({"size": {"type": "percent", "percent": 100}, "start": {"type": "by_hand"}});
    let by_hand = json!({"release": "kiosk@1", "fleet": "demo", "plan": {"waves": [wave]}});
    let bundle = json!({"bundle": {"bundle": "{}", "signature": "AA=="}, "transcript": "", "transcript_signature": "AA=="});
    let document = "schema = 1\nname = \"web\"\narchitecture = \"x86_64\"\n\
                    extends = [\"template/web-server\"]\n";
    let signed = json!({"key_id": "0".repeat(16), "signature": "AA=="});
    let mut rows: Vec<Row> = vec![
        ("livez", &[], None, 200),
        ("healthz", &[], None, 200),
        ("readyz", &[], None, 200),
        ("metrics", &[], None, 200),
        ("document", &[], None, 200),
        ("crl", &[], None, 200),
        ("crl", &[("issuer", "00")], None, 404),
        ("list_devices", &[], None, 200),
        ("get_device", &[], None, 200),
        ("get_certificate", &[], None, 200),
        ("get_drift", &[], None, 200),
        ("get_history", &[], None, 200),
        ("list_fleets", &[], None, 200),
        ("find_package", &[], None, 200),
        ("create_enrollment", &[], Some(json!({"valid_s": 60})), 201),
        ("get_record_without_token", &[], None, 200),
        ("enter_code", &[], Some(json!({"code": "BBBB-BBBB", "fleet": "demo"})), 404),
        ("enter_code", &[], Some(json!({"code": "{code}", "fleet": "demo"})), 201),
        (
            "provision_device",
            &[],
            Some(json!({"valid_s": 60, "release": null, "ek_sha256": null, "fleet_keys": false})),
            201,
        ),
        ("provision_device", &[], Some(json!({"valid_s": 60, "release": "nothing@9"})), 404),
        ("save_profile", &[], Some(profile), 201),
        ("save_profile", &[], Some(other.clone()), 201),
        ("list_profiles", &[], None, 200),
        ("list_revisions", &[], None, 200),
        ("get_revision", &[("number", "1")], None, 200),
        ("save_document", &[], Some(json!({"text": document})), 201),
        ("save_document", &[], Some(json!({"text": "schema = 2"})), 422),
        ("check_document", &[], Some(json!({"text": "schema = 2"})), 200),
        ("list_library", &[], None, 200),
        ("search_packages", &[], None, 200),
        ("get_changes", &[("number", "1"), ("to", "1")], None, 200),
        ("get_changes", &[("number", "1"), ("to", "99")], None, 404),
        ("create_build", &[], Some(json!({"profile": other, "version": "7"})), 201),
        ("list_builds", &[], None, 200),
        ("get_build", &[], None, 200),
        ("get_record", &[], None, 200),
        ("get_record", &[("build", "{unbuilt}")], None, 409),
        ("get_signature", &[], None, 200),
        ("approve_signature", &[], Some(signed.clone()), 409),
        ("request_signature", &[], Some(json!({"intent": "{}", "by": signed})), 422),
        ("request_signature", &[("build", "{unbuilt}")], Some(json!("{intent}")), 409),
        ("request_signature", &[], Some(json!("{intent}")), 201),
        ("approve_signature", &[], Some(json!("{approval}")), 201),
        ("sign_build", &[], None, 409),
        ("get_trust", &[], None, 200),
        ("import_bundle", &[], Some(bundle), 422),
        (
            "switch_issuer",
            &[],
            Some(json!({"purpose": "device", "certificate_sha256": "00", "anyway": false})),
            404,
        ),
        (
            "switch_issuer",
            &[],
            Some(
                json!({"purpose": "device", "certificate_sha256": "{issuer-sha256}", "anyway": true}),
            ),
            200,
        ),
        ("list_transitions", &[], None, 200),
        (
            "import_transition",
            &[],
            Some(json!({"transition": "{}", "signatures": [["k", "AA=="]]})),
            422,
        ),
        ("readmit_fleet", &[], Some(json!({"reason": "because", "valid_s": 60})), 201),
        ("list_releases", &[], None, 200),
        ("get_release", &[], None, 200),
        ("get_release_evidence", &[], None, 200),
        ("get_release_path", &[], None, 200),
        ("set_release_path", &[], Some(json!({"floor": "new data", "blocked": []})), 200),
        ("set_release_path", &[], Some(json!({"blocked": []})), 200),
        ("get_file", &[], None, 200),
        ("upload_file", &[], None, 409),
        ("upload_file", &[("release", "new@1")], None, 204),
        ("publish_release", &[], None, 200),
        ("prove_release", &[], Some(json!({"proof": "{}", "signatures": [["k", "AA=="]]})), 422),
        ("set_secret", &[], Some(json!({"value": "c2VjcmV0"})), 200),
        ("list_secrets", &[], None, 200),
        ("remove_secret", &[], None, 200),
        ("get_attestation", &[], None, 200),
        ("get_policy", &[], None, 200),
        ("set_policy", &[("fleet", "spare")], Some(policy), 200),
        ("challenge", &[], None, 409),
        ("challenge_fleet", &[], None, 202),
        ("accept_firmware", &[], None, 404),
        ("show_recovery_key", &[], Some(json!({"reason": "because", "previous": false})), 200),
        ("get_recovery_key", &[], None, 200),
        ("create_command", &[], Some(command.clone()), 201),
        ("get_command", &[], None, 200),
        ("list_commands", &[], None, 200),
        ("get_command_result", &[("command", "{logged}")], None, 200),
        ("cancel_command", &[], None, 200),
        ("cancel_command", &[("command", "{logged}")], None, 409),
        ("forgive_device", &[], Some(json!({"version": "2"})), 200),
        ("get_why", &[], None, 200),
        ("order_updates", &[], Some(json!({"type": "hold", "reason": "because"})), 200),
        ("order_updates", &[], Some(json!({"type": "unhold"})), 200),
        ("order_updates", &[], pinned("nothing@9"), 404),
        ("order_updates", &[], pinned("kiosk@1"), 200),
        ("order_updates", &[], Some(json!({"type": "unpin"})), 200),
        ("get_channel", &[], None, 200),
        ("get_fixes", &[], None, 200),
        ("pin_fleet", &[], Some(json!({"release": "nothing@9", "reason": "because"})), 404),
        ("pin_fleet", &[], Some(json!({"reason": "because"})), 200),
        ("change_boot", &[], Some(json!({"change": forbid, "may_end_fallback": false})), 409),
        ("plan_rollout", &[], rollout("nothing@9"), 404),
        ("plan_rollout", &[], rollout("kiosk@1"), 200),
        ("start_rollout", &[], rollout("nothing@9"), 404),
        ("start_rollout", &[], rollout("kiosk@1"), 201),
        ("start_rollout", &[], rollout("kiosk@1"), 409),
        ("pin_fleet", &[], Some(json!({"reason": "because"})), 409),
        ("list_rollouts", &[], None, 200),
        ("get_rollout", &[], None, 200),
        ("begin_wave", &[], Some(json!({"reason": "because"})), 409),
        ("resume_rollout", &[], None, 409),
        ("pause_rollout", &[], None, 200),
        ("pause_rollout", &[], None, 409),
        ("resume_rollout", &[], None, 200),
        ("pause_all_rollouts", &[], Some(json!({"reason": "because"})), 200),
        ("abort_rollout", &[], None, 200),
        ("abort_rollout", &[], None, 409),
        ("start_rollout", &[], Some(by_hand), 201),
        ("begin_wave", &[], Some(json!({"reason": "because"})), 200),
        ("supersede_rollout", &[], rollout("nothing@9"), 404),
        ("supersede_rollout", &[], rollout("kiosk@1"), 201),
        ("supersede_rollout", &[], rollout("kiosk@1"), 409),
        ("roll_back_rollout", &[], Some(json!({"reason": "because"})), 409),
        ("revoke_release", &[], None, 200),
        ("plan_rollout", &[], rollout("kiosk@1"), 409),
        ("revoke_device", &[], Some(json!({"reason": "certificate_hold"})), 200),
        ("release_hold", &[], None, 200),
        ("release_hold", &[], None, 409),
        ("revoke_device", &[], Some(json!({"reason": "key_compromise"})), 200),
        ("create_command", &[], Some(command), 409),
        ("forgive_device", &[], Some(json!({"version": "2"})), 409),
        ("order_updates", &[], Some(json!({"type": "unhold"})), 409),
        ("get_diagnosis", &[], None, 200),
        ("list_workers", &[], None, 200),
        ("add_worker", &[], Some(json!({"name": "builder"})), 201),
        ("add_worker", &[], Some(json!({"name": "builder"})), 409),
        ("remove_worker", &[], None, 200),
        ("list_manufacturers", &[], None, 200),
        ("add_manufacturers", &[], Some(json!({"kind": "virtual", "file": "AA=="})), 422),
        ("list_entries", &[], None, 200),
        ("get_proof", &[], None, 200),
        ("get_checkpoint", &[], None, 200),
        ("get_consistency", &[], None, 200),
        ("events", &[], None, 200),
    ];
    let before = rows.iter().position(|row| row.0 == "revoke_device").unwrap();
    rows.splice(before..before, crate::labels::rows());
    rows.splice(before..before, crate::schedules::rows());
    rows.extend(crate::second_person::rows());
    rows.extend(crate::accounts::rows());
    rows.extend(crate::alerts::rows());
    rows.extend(crate::webhooks::rows());
    rows.extend(crate::email::rows());
    rows
}

/// A server with a device, a release, builds, and all else that the rows name.
struct Office {
    world: World,
    token: String,
    /// A token that permits nothing.
    powerless: String,
    http: reqwest::Client,
    /// Values for `{NAME}` in paths and bodies.
    values: BTreeMap<&'static str, String>,
    /// Bodies that are already JSON.
    bodies: BTreeMap<&'static str, Value>,
}

impl Office {
    async fn open() -> Self {
        let (world, people) = office(2).await;
        let device = world.enroll().await;
        let kept = world
            .https((*device.tls).clone())
            .put(world.url("/recovery-key"))
            .json(&json!({"key": "abc-def"}))
            .send()
            .await
            .unwrap();
        assert!(kept.status().is_success());
        publish_release(&world, "kiosk@1").await;
        crate::alerts::plant(&world).await;
        let trust = world.client.trust().await.unwrap();
        let issuer = trust.intermediates.iter().find(|i| i.purpose == "device").unwrap();
        let key_id = fleeti_pki::bundle::names(&world.server.control.pki.device_ca).unwrap().1;
        let intent = crate::approvals::intent(&world, &people[0]).await;
        let approval = fleeti_pki::approval::Word::Approve.sign(&intent, &people[1]).unwrap();
        let logged = crate::commands::ended_with_a_result(&world, &device.id).await;
        let bodies = BTreeMap::from([
            (
                "{intent}",
                serde_json::to_value(crate::approvals::request(&intent, &people[0])).unwrap(),
            ),
            ("{approval}", serde_json::to_value(approval).unwrap()),
        ]);
        let values = [
            ("device", device.id.to_string()),
            ("logged", logged),
            ("fleet", "demo".into()),
            ("line", "kiosk".into()),
            ("release", "kiosk@1".into()),
            ("build", "build-a".into()),
            ("name", "wifi".into()),
            ("number", "0".into()),
            ("worker", "builder".into()),
            ("key", "site".into()),
            ("view", "mine".into()),
            ("id", "00000000".into()),
            ("account", "alice".into()),
            ("alert", "alert-a".into()),
            ("rule", "lab-disk".into()),
            ("silence", "silence-a".into()),
            ("session", crate::accounts::session_id(&world).await),
            ("path", "manifest.json".into()),
            ("issuer", key_id),
            ("issuer-sha256", issuer.certificate_sha256.clone()),
        ];
        let token = std::fs::read_to_string(world.dir.path().join("admin.token"))
            .unwrap()
            .trim()
            .to_owned();
        let powerless = crate::accounts::powerless(&world).await;
        let used = reqwest::Client::new()
            .post(format!("http://{}/api/v1/fleets/demo/enrollments", world.server.addresses.api))
            .header("idempotency-key", "used")
            .bearer_auth(&token)
            .json(&json!({"valid_s": 60}));
        assert!(used.send().await.unwrap().status().is_success());
        Self {
            world,
            token,
            powerless,
            http: reqwest::Client::new(),
            values: values.into(),
            bodies,
        }
    }

    fn request(&self, operation: &Operation, path: &str) -> reqwest::RequestBuilder {
        let query = match operation.id.as_str() {
            "get_consistency" => "?old=1&new=2",
            "search_packages" | "find_package" => "?q=nginx",
            _ => "",
        };
        self.http.request(
            operation.method.clone(),
            format!("http://{}{path}{query}", self.world.server.addresses.api),
        )
    }

    /// A body with its names replaced by values.
    async fn body(&self, body: &Value) -> Value {
        if let Some(whole) = body.as_str().and_then(|name| self.bodies.get(name)) {
            return whole.clone();
        }
        let mut text = body.to_string().replace("{issuer-sha256}", &self.values["issuer-sha256"]);
        if text.contains("{code}") {
            let key =
                fleeti_pki::signer::SoftKey::generate(fleeti_pki::signer::Algorithm::P256).unwrap();
            let request =
                json!({"csr_pem": fleeti_pki::csr::create(&key).unwrap(), "running": "kiosk@1"});
            let pair = self
                .world
                .https(self.world.anonymous())
                .post(self.world.url("/pair"))
                .json(&request);
            let answer: Value = pair.send().await.unwrap().json().await.unwrap();
            text = text.replace("{code}", answer["code"].as_str().unwrap());
        }
        serde_json::from_str(&text).unwrap()
    }

    async fn run(
        &mut self,
        operation: &Operation,
        (id, other, body, status): &Row,
    ) -> Result<(), String> {
        let mut values = self.values.clone();
        values.extend(
            other.iter().map(|(name, value)| (*name, value.trim_matches(['{', '}']).to_owned())),
        );
        for (name, value) in *other {
            let kept = value.strip_prefix('{').and_then(|v| v.strip_suffix('}'));
            if let Some(value) = kept.and_then(|kept| self.values.get(kept)) {
                values.insert(name, value.clone());
            }
        }
        let mut request =
            self.request(operation, &operation.with(&values)).bearer_auth(&self.token);
        let sent = match body {
            Some(body) => Some(self.body(body).await),
            None => None,
        };
        if let Some(body) = &sent {
            request = request.json(body);
        } else if *id == "upload_file" {
            request = request.body("{}");
        }
        let response = request.send().await.unwrap();
        let (found, kind) = (response.status().as_u16(), media_type(&response));
        if *id == "events" {
            return (found == *status).then_some(()).ok_or(format!("{id}: {found}"));
        }
        let text = response.bytes().await.unwrap();
        let answer: Value = serde_json::from_slice(&text).unwrap_or_default();
        if found != *status {
            return Err(format!(
                "{id} {other:?} {sent:?}: {found} instead of {status}: {}",
                String::from_utf8_lossy(&text)
            ));
        }
        let documented = &operation.node["responses"][status.to_string()];
        let types: Vec<_> = documented["content"]
            .as_object()
            .map(|c| c.keys().cloned().collect())
            .unwrap_or_default();
        if documented.is_null()
            || (types.is_empty() != kind.is_empty())
            || (!types.is_empty() && !types.contains(&kind))
        {
            return Err(format!("{id}: {status} of {kind:?}, documented is {types:?}"));
        }
        for (of, name) in [
            ("create_build", "unbuilt"),
            ("create_command", "command"),
            ("start_rollout", "rollout"),
            ("create_token", "token"),
            ("add_webhook", "webhook"),
            ("add_receiver", "receiver"),
        ] {
            if of == *id && *status == 201 {
                let inner = ["about", "webhook"].map(|part| &answer[part]);
                let made = inner.into_iter().find(|made| made.is_object()).unwrap_or(&answer);
                self.values.insert(name, made["id"].as_str().unwrap().to_owned());
            }
        }
        Ok(())
    }
}

fn media_type(response: &reqwest::Response) -> String {
    let text = response.headers().get("content-type").map_or("", |v| v.to_str().unwrap());
    text.split(';').next().unwrap().to_owned()
}

/// Sends a request that is refused by its form alone, for an operation that documents this status.
async fn by_form(office: &Office, operation: &Operation, status: u16) -> Option<StatusCode> {
    let path = operation.with(&office.values);
    let signed = |path: &str| office.request(operation, path).bearer_auth(&office.token);
    let json =
        |body: &'static str| signed(&path).header("content-type", "application/json").body(body);
    let reads_key = operation.reads_key() && !operation.takes_json();
    let with_key = |key: &str| signed(&path).header("idempotency-key", key);
    let request = match status {
        400 if reads_key => with_key("a b"),
        422 if reads_key => with_key("used"),
        401 => office.request(operation, &path),
        403 => office.request(operation, &path).bearer_auth(&office.powerless),
        400 => json("{"),
        415 => signed(&path).header("content-type", "text/plain").body("{}"),
        413 if operation.takes_json() => {
            signed(&path).header("content-type", "application/json").body(vec![b' '; (2 << 20) + 1])
        }
        413 => signed(&path.replace("kiosk@1", "kiosk@9")).body(vec![b' '; (2 << 20) + 1]),
        422 if operation.takes_json() => json("[]"),
        422 if operation.id == "upload_file" => signed(&path.replace("manifest.json", "nothing")),
        422 if operation.path.contains('{') => {
            let odd = operation
                .path
                .split('/')
                .map(|part| if part.starts_with('{') { "%20" } else { part })
                .collect::<Vec<_>>()
                .join("/");
            // Every text is the id of a rollout: there only the query can be wrong.
            signed(&format!("{odd}?limit=-1"))
        }
        422 => signed(&format!("{path}?limit=-1&old=x")),
        // An upload needs no existing release, so an unknown name is no error.
        404 if operation.id == "upload_file" => return None,
        404 => {
            let unknown = [
                ("device", "dev-nobody"),
                ("build", "nothing"),
                ("command", "nothing"),
                ("rollout", "nothing"),
                ("name", "none"),
                ("worker", "nobody"),
                ("key", "nothing"),
                ("view", "nothing"),
                ("account", "nobody"),
                ("session", "nothing"),
                ("token", "nothing"),
                ("passkey", "nothing"),
                ("alert", "nothing"),
                ("rule", "nothing"),
                ("silence", "nothing"),
                ("webhook", "nothing"),
                ("receiver", "nothing"),
                ("approval", "nothing"),
            ];
            let mut values = office.values.clone();
            values.extend(unknown.map(|(name, value)| (name, value.to_owned())));
            values
                .extend([("release", "nothing@9".to_owned()), ("number", "4000000000".to_owned())]);
            let request = signed(&operation.with(&values));
            match rows().into_iter().find(|(id, .., body, _)| *id == operation.id && body.is_some())
            {
                Some((.., Some(body), _)) => request.json(&office.body(&body).await),
                _ => request,
            }
        }
        _ => return None,
    };
    let response = request.send().await.unwrap();
    let found = response.status();
    if found == status {
        let problem: Problem = response.json().await.unwrap();
        assert_eq!(problem.status, status, "{}", operation.id);
    }
    Some(found)
}

#[actix_web::test]
async fn every_operation_does_its_work_and_is_refused_as_documented_and_in_no_other_way() {
    let operations = Operation::all();
    let (mut office, mut wrong) = (Office::open().await, Vec::new());
    let mut had: BTreeMap<String, BTreeSet<u16>> = BTreeMap::new();
    for row in rows() {
        let operation = operations
            .iter()
            .find(|o| o.id == row.0)
            .unwrap_or_else(|| panic!("there is no operation {}", row.0));
        had.entry(operation.id.clone()).or_default().insert(row.3);
        if let Err(why) = office.run(operation, &row).await {
            wrong.push(why);
        }
    }
    for operation in &operations {
        let seen = had.entry(operation.id.clone()).or_default();
        let succeeds = operation.statuses().into_iter().find(|s| *s < 300).unwrap();
        if !seen.contains(&succeeds) && !ELSEWHERE.contains(&(&operation.id, succeeds)) {
            wrong.push(format!("{} has no row that succeeds", operation.id));
        }
        for status in operation.statuses().into_iter().filter(|s| ![500, 503].contains(s)) {
            let is_elsewhere = ELSEWHERE.contains(&(&operation.id, status));
            // `idempotency`: the same request is worked on, or its answer was not kept.
            let is_repeated = status == 409 && operation.reads_key();
            if is_elsewhere || is_repeated || seen.contains(&status) {
                continue;
            }
            match by_form(&office, operation, status).await {
                Some(found) if found == status => {}
                found => {
                    wrong.push(format!("{} documents {status}, and gave {found:?}", operation.id))
                }
            }
        }
        // A status that is not documented does not occur.
        for status in
            [400, 401, 403, 404, 415, 422].into_iter().filter(|s| !operation.statuses().contains(s))
        {
            if operation.id != "events"
                && by_form(&office, operation, status).await == StatusCode::from_u16(status).ok()
            {
                wrong.push(format!("{} gives {status}, and does not document it", operation.id));
            }
        }
        let documented = operation.statuses();
        wrong.extend(
            seen.iter()
                .filter(|s| !documented.contains(s))
                .map(|s| format!("{} gave {s}, which is not documented", operation.id)),
        );
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[actix_web::test]
async fn no_body_is_read_in_another_form_than_the_documented_one() {
    let operations = Operation::all();
    let office = Office::open().await;
    let (mut bodies, mut tried) = (BTreeSet::new(), 0);
    for (id, _, body, _) in rows() {
        let Some(body) = body else { continue };
        bodies.insert(id);
        let operation = operations.iter().find(|o| o.id == id).unwrap();
        let body = office.body(&body).await;
        let path =
            operation.with(&office.values).replace("{command}", "x").replace("{rollout}", "x");
        for form in malformed::forms(&body.to_string()).unwrap() {
            let response = office
                .request(operation, &path)
                .bearer_auth(&office.token)
                .header("content-type", "application/json")
                .body(form.text.clone())
                .send()
                .await
                .unwrap();
            let status = response.status().as_u16();
            assert!(
                [400, 422].contains(&status),
                "{id}: {status} for {}: {}",
                form.what,
                form.text
            );
            tried += 1;
        }
        for more in malformed::unknown_fields(&body) {
            let response = office
                .request(operation, &operation.with(&office.values))
                .bearer_auth(&office.token)
                .json(&more)
                .send()
                .await;
            assert_eq!(response.unwrap().status(), 422, "{id} accepts an unknown field: {more}");
            tried += 1;
        }
    }
    let documented: BTreeSet<_> =
        operations.iter().filter(|o| o.takes_json()).map(|o| o.id.as_str()).collect();
    assert_eq!(documented, bodies, "left: what takes JSON; right: what has a row with a body");
    assert!(tried >= 150, "{tried}");
}
