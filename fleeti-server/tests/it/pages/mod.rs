//! The pages, one file for each folder of `src/pages`: what they show, and what they refuse. Their
//! use by a person is tested in a real browser (`fleeti-browser`).

mod approvals;
mod devices;
mod fleets;
mod live;
mod overview;
mod profiles;
mod rollouts;
mod session;
mod users;
mod webhooks;

use crate::world::World;
use reqwest::{Client, Response, redirect};

/// A browser of an operator, without scripts.
pub struct Browser {
    pub http: Client,
    pub url: String,
}

impl Browser {
    pub fn new(world: &World) -> Self {
        let http = Client::builder().redirect(redirect::Policy::none()).build().unwrap();
        Self { http, url: format!("http://{}", world.server.addresses.api) }
    }
    pub async fn get(&self, path: &str, cookie: &str) -> Response {
        self.http.get(format!("{}{path}", self.url)).header("cookie", cookie).send().await.unwrap()
    }
    pub async fn post(
        &self,
        path: &str,
        cookie: &str,
        site: Option<(&str, &str)>,
        body: &str,
    ) -> Response {
        let mut request = self.http.post(format!("{}{path}", self.url)).header("cookie", cookie);
        request = request
            .header("content-type", "application/x-www-form-urlencoded")
            .body(body.to_owned());
        if let Some((name, value)) = site {
            request = request.header(name, value);
        }
        request.send().await.unwrap()
    }
    pub async fn sign_in(&self, world: &World) -> String {
        let token = std::fs::read_to_string(world.dir.path().join("admin.token")).unwrap();
        let response = self.post("/signin", "", OURS, &format!("token={}", token.trim())).await;
        assert_eq!(response.status(), 303);
        let cookie = response.headers()["set-cookie"].to_str().unwrap().to_owned();
        assert!(cookie.contains("HttpOnly") && cookie.contains("SameSite=Strict"), "{cookie}");
        cookie.split(';').next().unwrap().to_owned()
    }
}

/// The header with which a browser marks a request of a page of this server.
pub const OURS: Option<(&str, &str)> = Some(("sec-fetch-site", "same-origin"));
