//! How long a person waits for a page, with a thousand devices in the database.

use super::Record;
use super::organisation::Organisation;
use anyhow::{Result, ensure};
use std::fs;
use std::path::Path;
use std::time::Instant;

const DEVICES: usize = 1000;
const LOOKS: usize = 50;
const PAGES: &[&str] = &["/", "/devices", "/profiles", "/profiles/new", "/builds", "/releases", "/rollouts"];

/// Runs the scenario in a folder.
///
/// # Errors
/// When the server does not start or serve.
pub fn run(dir: &Path) -> Result<Vec<Record>> {
    let mut organisation = Organisation::found(dir)?;
    organisation.devices("bench", DEVICES)?;
    organisation.start_server()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(look(&organisation))
}

async fn look(organisation: &Organisation) -> Result<Vec<Record>> {
    let api = organisation.world.api();
    let http = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build()?;
    let token = fs::read_to_string(organisation.world.path("server/admin.token"))?;
    let signed_in = http
        .post(format!("{api}/signin"))
        .header("sec-fetch-site", "same-origin")
        .header("content-type", "application/x-www-form-urlencoded")
        .body(format!("token={}", token.trim()))
        .send()
        .await?;
    let cookie = signed_in.headers().get("set-cookie").and_then(|c| c.to_str().ok()).unwrap_or_default().to_owned();
    let cookie = cookie.split(';').next().unwrap_or_default();
    let mut worst = (0.0f64, 0.0f64);
    for page in PAGES {
        let mut times = Vec::with_capacity(LOOKS);
        for _ in 0..LOOKS {
            let started = Instant::now();
            let response = http.get(format!("{api}{page}")).header("cookie", cookie).send().await?;
            times.push(started.elapsed().as_secs_f64() * 1000.0);
            ensure!(response.status() == 200, "{page}: {}", response.status());
            response.bytes().await?;
        }
        times.sort_by(f64::total_cmp);
        eprintln!("    {page:<16} median {:.1} ms, slowest {:.1} ms", times[LOOKS / 2], times[LOOKS - 1]);
        worst = (worst.0.max(times[LOOKS / 2]), worst.1.max(times[LOOKS - 1]));
    }
    Ok(vec![
        Record::new("page_first_byte_median_ms", worst.0, "ms", "fleeti"),
        Record::new("page_first_byte_slowest_ms", worst.1, "ms", "fleeti"),
    ])
}
