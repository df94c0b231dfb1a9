//! Every route of API and pages with every role. The result is checked in as a table.

use crate::accounts::{name, person, program, role};
use crate::rollout::{publish_release, start};
use crate::world::World;
use fleeti_core::wire::accounts::Role;
use fleeti_core::wire::api::CreateCommand;
use fleeti_core::wire::device::CommandKind;
use fleeti_server::access::{API, On, PAGES, Rule};
use reqwest::redirect::Policy;
use reqwest::{Client, Method, RequestBuilder};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

/// Who asks: the name of a column, a role, and the fleet that it is for.
const COLUMNS: &[(&str, Option<Role>, Option<&str>)] = &[
    ("nobody", None, None),
    ("viewer", Some(Role::Viewer), None),
    ("operator", Some(Role::Operator), None),
    ("builder", Some(Role::Builder), None),
    ("approver", Some(Role::Approver), None),
    ("admin", Some(Role::Admin), None),
    ("viewer-here", Some(Role::Viewer), Some("demo")),
    ("operator-here", Some(Role::Operator), Some("demo")),
    ("admin-here", Some(Role::Admin), Some("demo")),
    ("admin-elsewhere", Some(Role::Admin), Some("spare")),
    ("offboarded", Some(Role::Admin), None),
];

struct Credential {
    column: &'static str,
    token: String,
    session: String,
}

struct Walk {
    world: World,
    http: Client,
    /// Values for the parameters of paths.
    values: BTreeMap<&'static str, String>,
}

impl Walk {
    async fn open() -> Self {
        let world = World::new().await;
        let device = world.enroll().await.id;
        publish_release(&world, "kiosk@1").await;
        let rollout = world.client.start_rollout(&start("kiosk@1")).await.unwrap().id;
        let command = CreateCommand { kind: CommandKind::Report, valid_s: 3600, confirm: None };
        let command = world.client.create_command(&device, &command).await.unwrap().id;
        person(&world, "victim", &[]).await;
        let values = BTreeMap::from([
            ("device", device.to_string()),
            ("fleet", "demo".into()),
            ("rollout", rollout),
            ("command", command),
            ("account", "victim".into()),
            ("line", "kiosk".into()),
            ("release", "nothing@9".into()),
            ("number", "1".into()),
            ("revision", "1".into()),
            ("to", "1".into()),
            ("name", "wifi".into()),
        ]);
        let http = Client::builder().redirect(Policy::none()).build().unwrap();
        Self { world, http, values }
    }

    async fn credentials(&self) -> Vec<Credential> {
        let mut all = Vec::new();
        for &(column, of, fleet) in COLUMNS {
            let grants: Vec<_> = of.iter().map(|of| role(*of, fleet)).collect();
            let session = person(&self.world, column, &grants).await;
            let made = program(&self.world, &format!("{column}-robot"), &grants, None).await;
            all.push(Credential { column, token: made.token.expose().to_owned(), session });
        }
        for account in ["offboarded", "offboarded-robot"] {
            self.world.client.offboard_account(&name(account)).await.unwrap();
        }
        all
    }

    /// The request of a route. Where the operation checks the fleet, it names `demo`.
    fn request(&self, rule: &Rule) -> RequestBuilder {
        let pattern = rule.pattern.replace("{path:.*}", "x.txt");
        let path = pattern
            .split('/')
            .map(|part| match part.strip_prefix('{').and_then(|p| p.strip_suffix('}')) {
                Some(parameter) => self.values.get(parameter).map_or("none", String::as_str),
                None => part,
            })
            .collect::<Vec<_>>()
            .join("/");
        let is_list = path.ends_with("/devices") || path.ends_with("/alerts");
        let query = if is_list { "?fleet=demo" } else { "" };
        let url = format!("http://{}{path}{query}", self.world.server.addresses.api);
        let method: Method = rule.method.parse().unwrap();
        let request = self.http.request(method, url).header("sec-fetch-site", "same-origin");
        let json = |text: &'static str| ("application/json", text);
        let form = |text: &'static str| ("application/x-www-form-urlencoded", text);
        let (kind, body) = match (rule.method, rule.pattern) {
            ("POST", "/api/v1/pairings") => json("{\"code\":\"BBBB-BBBB\",\"fleet\":\"demo\"}"),
            ("POST", "/api/v1/rollouts") => json("{\"release\":\"nothing@9\",\"fleet\":\"demo\"}"),
            ("POST", "/devices/pair") => form("code=BBBB-BBBB&fleet=demo"),
            ("POST", "/rollouts") => form("release=nothing@9&fleet=demo"),
            _ => return request,
        };
        request.header("content-type", kind).body(body)
    }

    /// Whether the server lets a request pass: with any other answer than that the credential is
    /// missing or does not permit it, or that the object cannot be seen.
    async fn passes(&self, rule: &Rule, request: RequestBuilder) -> bool {
        let response = request.send().await.unwrap();
        let status = response.status().as_u16();
        let to = response.headers().get("location").map_or("", |v| v.to_str().unwrap()).to_owned();
        let ends = response.headers().contains_key("set-cookie");
        if [401, 403].contains(&status) || to == "/signin" && !ends {
            return false;
        }
        if status != 404 {
            return true;
        }
        let text = response.text().await.unwrap().replace("&quot;", "\"").replace("&#34;", "\"");
        assert!(!text.contains("page not found") && !text.contains("path not found"), "{rule:?}");
        let text = text.replace('\\', "");
        let hidden = ["device", "rollout", "command"]
            .map(|what| format!("there is no {what} \"{}\"", self.values[what]));
        !hidden.iter().any(|hidden| text.contains(hidden))
    }
}

fn table(rules: &[Rule], passed: &BTreeMap<(usize, &str), bool>) -> String {
    let names: Vec<_> = COLUMNS.iter().map(|(column, ..)| *column).collect();
    let mut text = format!("| route | needs | none | {} |\n", names.join(" | "));
    writeln!(text, "|{}", "---|".repeat(3 + names.len())).unwrap();
    for (n, rule) in rules.iter().enumerate() {
        let needs = match rule.permission {
            Some(permission) => format!("{permission} on {:?}", rule.on).to_lowercase(),
            None => "an account".to_owned(),
        };
        write!(text, "| `{} {}` | {needs} |", rule.method, rule.pattern).unwrap();
        for column in std::iter::once(&"none").chain(&names) {
            write!(text, " {} |", if passed[&(n, *column)] { "yes" } else { "" }).unwrap();
        }
        text.push('\n');
    }
    text
}

const HEAD: &str = "# Roles, permissions and routes\n\n\
    A test of the server writes this document: it sends every request of the API and of the pages\n\
    with every role, and notes which the server lets pass.\n\n\
    ## Roles\n\n";

const ROUTES: &str = "\n## Routes\n\n\
    Who asks: `none` has no credential, `nobody` an account without a role, `offboarded` the\n\
    credentials of an offboarded administrator. The roles up to `admin` are for all fleets,\n\
    `...-here` are for the fleet of the request, and `admin-elsewhere` is for another one. A request\n\
    with `on some` passes for the fleets of the role; lists leave others out.\n";

fn roles() -> String {
    let names = Role::ALL.map(Role::as_str).join(" | ");
    let mut text = format!("| permission | of one fleet | {names} |\n");
    writeln!(text, "|{}", "---|".repeat(2 + Role::ALL.len())).unwrap();
    for permission in fleeti_core::wire::accounts::Permission::ALL {
        let yes = |is: bool| if is { "yes" } else { "" };
        write!(text, "| `{permission}` | {} |", yes(permission.is_of_a_fleet())).unwrap();
        for role in Role::ALL {
            write!(text, " {} |", yes(role.permissions().contains(&permission))).unwrap();
        }
        text.push('\n');
    }
    text
}

#[actix_web::test]
async fn every_route_lets_the_roles_of_the_table_pass_and_nobody_else() {
    let walk = Walk::open().await;
    let credentials = walk.credentials().await;
    let mut text = format!("{HEAD}{}{ROUTES}", roles());
    for (title, rules) in [("API", API), ("Pages", PAGES)] {
        let mut passed = BTreeMap::new();
        // The last request of a session ends it.
        let mut order: Vec<_> = rules.iter().enumerate().collect();
        order.sort_by_key(|(_, rule)| rule.pattern == "/signout");
        for (n, rule) in order {
            passed.insert((n, "none"), walk.passes(rule, walk.request(rule)).await);
            for Credential { column, token, session } in &credentials {
                let request = match title {
                    "API" => walk.request(rule).bearer_auth(token),
                    _ => walk.request(rule).header("cookie", format!("fleeti_session={session}")),
                };
                passed.insert((n, *column), walk.passes(rule, request).await);
            }
            for column in ["none", "offboarded"] {
                assert!(!passed[&(n, column)], "{column} passes {rule:?}");
            }
            let is_elsewhere = [On::Device, On::Fleet, On::Rollout, On::Command].contains(&rule.on);
            assert!(!(is_elsewhere && passed[&(n, "admin-elsewhere")]), "{rule:?}");
            assert!(passed[&(n, "admin")], "no administrator passes {rule:?}");
        }
        text += &format!("\n### {title}\n\n{}", table(rules, &passed));
    }
    let path = format!("{}/../docs/reference/access.md", env!("CARGO_MANIFEST_DIR"));
    if std::env::var_os("INSTA_UPDATE").is_some_and(|v| v == "always") {
        std::fs::write(&path, &text).unwrap();
    }
    let kept = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        kept == text,
        "who may do what has changed: run this test with INSTA_UPDATE=always, and look at the difference"
    );
}

/// A route that is not in the table does nothing. Here: none is missing, and none is too much.
#[test]
fn the_table_has_every_operation_of_the_api_that_needs_a_credential() {
    let document: serde_json::Value =
        serde_json::from_str(fleeti_server::api::openapi::text()).unwrap();
    let mut documented = BTreeSet::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            if operation["responses"]["401"].is_object() {
                let path = path.replace("/files/{path}", "/files/{path:.*}");
                documented.insert((method.to_uppercase(), path));
            }
        }
    }
    let declared: BTreeSet<_> =
        API.iter().map(|rule| (rule.method.to_owned(), rule.pattern.to_owned())).collect();
    assert_eq!(documented, declared, "left: what there is; right: what is declared");
}
