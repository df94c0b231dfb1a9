//! Lists of many pages: every item once, in order, and no page that the server has not named.

use crate::accounts::{client, program, role};
use crate::world::World;
use fleeti_core::wire::accounts::Role;
use fleeti_store::sql;
use futures::TryStreamExt;
use reqwest::Response;

struct Api {
    origin: String,
    token: String,
}

impl Api {
    fn of(world: &World) -> Self {
        let token = std::fs::read_to_string(world.dir.path().join("admin.token")).unwrap();
        let origin = format!("http://{}", world.server.addresses.api);
        Self { origin, token: token.trim().to_owned() }
    }

    async fn get(&self, path: &str) -> Response {
        let request = reqwest::Client::new().get(format!("{}{path}", self.origin));
        request.bearer_auth(&self.token).send().await.unwrap()
    }

    /// The ids of a page, and the address of the next one.
    async fn page(&self, path: &str) -> (Vec<String>, Option<String>) {
        let response = self.get(path).await;
        assert_eq!(response.status(), 200, "{path}");
        let link = response.headers().get("link").map(|link| link.to_str().unwrap().to_owned());
        let next = link.map(|link| {
            let (address, rel) = link.strip_prefix('<').unwrap().split_once('>').unwrap();
            assert_eq!(rel, "; rel=\"next\"");
            address.to_owned()
        });
        let items: Vec<serde_json::Value> = response.json().await.unwrap();
        (items.iter().map(|item| item["id"].as_str().unwrap().to_owned()).collect(), next)
    }
}

/// Rollouts that have ended, three at each time, of two fleets.
async fn rollouts(world: &World, count: usize) {
    let mut tx = world.server.control.db.write().await.unwrap();
    for n in 0..count {
        let sql = "INSERT INTO rollouts (id, fleet, created_s, active, release_name, phase) \
                   VALUES ($1, $2, $3, 0, 'kiosk@1', 'succeeded')";
        sql::query(sql)
            .bind(format!("rollout-{n:03}"))
            .bind(if n % 2 == 0 { "demo" } else { "spare" })
            .bind(1000 + (n / 3) as i64)
            .execute(&mut *tx)
            .await
            .unwrap();
    }
    tx.commit().await.unwrap();
}

#[actix_web::test]
async fn pages_have_every_item_once_also_while_others_are_added() {
    let world = World::new().await;
    rollouts(&world, 20).await;
    let api = Api::of(&world);
    let (whole, none) = api.page("/api/v1/rollouts").await;
    assert!(whole.len() == 20 && none.is_none());
    for limit in [1, 2, 3, 7, 19] {
        let (mut all, mut path) = (Vec::new(), format!("/api/v1/rollouts?limit={limit}"));
        loop {
            let (items, next) = api.page(&path).await;
            assert!(items.len() <= limit);
            all.extend(items);
            let Some(next) = next else { break };
            assert!(next.contains(&format!("limit={limit}")), "{next}");
            path = next;
        }
        assert_eq!(all, whole, "{limit}");
    }
    // One that is added comes before the first page, and moves nothing.
    let (first, next) = api.page("/api/v1/rollouts?limit=5").await;
    let mut tx = world.server.control.db.write().await.unwrap();
    let sql = "INSERT INTO rollouts (id, fleet, created_s, active, release_name, phase) \
               VALUES ('rollout-new', 'demo', 9999, 0, 'kiosk@1', 'succeeded')";
    sql::query(sql).execute(&mut *tx).await.unwrap();
    tx.commit().await.unwrap();
    let (second, _) = api.page(&next.unwrap()).await;
    assert_eq!([first, second].concat(), whole[..10]);
    let streamed: Vec<_> = world.client.rollouts_stream(None).try_collect().await.unwrap();
    assert_eq!(streamed.len(), 21);
}

#[actix_web::test]
async fn a_cursor_is_of_its_list_and_filter_and_a_forged_one_is_refused() {
    let world = World::new().await;
    rollouts(&world, 20).await;
    let api = Api::of(&world);
    let (items, next) = api.page("/api/v1/rollouts?fleet=demo&limit=2").await;
    assert_eq!(items.len(), 2);
    let next = next.unwrap();
    assert!(next.contains("fleet=demo"), "{next}");
    let cursor = next.split("cursor=").nth(1).unwrap().split('&').next().unwrap().to_owned();
    let (text, mac) = cursor.split_once('.').unwrap();
    let last = if mac.ends_with('0') { '1' } else { '0' };
    let changed = format!("{text}.{}{last}", &mac[..mac.len() - 1]);
    let long = "A".repeat(600);
    for (path, cursor) in [
        ("rollouts", cursor.as_str()),
        ("rollouts?fleet=spare", cursor.as_str()),
        ("builds", cursor.as_str()),
        ("releases", cursor.as_str()),
        ("rollouts?fleet=demo", changed.as_str()),
        ("rollouts?fleet=demo", text),
        ("rollouts?fleet=demo", ""),
        ("rollouts?fleet=demo", "."),
        ("rollouts?fleet=demo", "WzAsIiJd.00000000000000000000000000000000"),
        ("rollouts?fleet=demo", long.as_str()),
    ] {
        let with = if path.contains('?') { '&' } else { '?' };
        let refused = api.get(&format!("/api/v1/{path}{with}cursor={cursor}")).await;
        assert_eq!(refused.status(), 400, "{path} {cursor}");
    }
    for limit in ["0", "501", "-1", "x"] {
        let refused = api.get(&format!("/api/v1/rollouts?limit={limit}")).await;
        assert_eq!(refused.status(), 422, "{limit}");
    }
}

/// A cursor is no permission: who follows it sees what their own roles permit.
#[actix_web::test]
async fn a_cursor_of_another_account_shows_nothing_of_a_foreign_fleet() {
    let world = World::new().await;
    rollouts(&world, 20).await;
    let api = Api::of(&world);
    let (_, next) = api.page("/api/v1/rollouts?limit=2").await;
    let made = program(&world, "robot", &[role(Role::Viewer, Some("spare"))], None).await;
    let robot = Api { token: made.token.expose().to_owned(), ..Api::of(&world) };
    let (items, _) = robot.page(&next.unwrap()).await;
    assert!(items.iter().all(|id| id[8..].parse::<u32>().unwrap() % 2 == 1), "{items:?}");
    let robot = client(&world, made.token.expose());
    let own: Vec<_> = robot.rollouts_stream(None).try_collect().await.unwrap();
    assert_eq!(own.len(), 10);
    let demo = "demo".parse().unwrap();
    let refused = robot.rollouts_stream(Some(&demo)).try_collect::<Vec<_>>().await;
    assert!(refused.is_err());
}
