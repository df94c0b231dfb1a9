//! A profile of 300 packages: its check, and the editor that opens it.

use super::organisation::Organisation;
use super::pages::sign_in;
use super::{Record, Scale, median, suite_index};
use anyhow::{Result, bail, ensure};
use fleeti_core::profile::{Builtin, resolve};
use fleeti_store::{self as store, Db};
use std::fmt::Write as _;
use std::path::Path;
use std::time::Instant;

/// Number of packages of the profile.
const PACKAGES: usize = 300;

/// Runs the scenario in a folder.
///
/// # Errors
/// If the profile is not valid, or the server does not start or serve.
pub fn run(dir: &Path, scale: Scale) -> Result<Vec<Record>> {
    let text = document()?;
    let mut records = suite_index::run(dir, scale)?;
    let mut organisation = Organisation::found(dir)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(save(&organisation.world.path("server/fleeti.db"), &text))?;
    organisation.start_server()?;
    let looks = scale.pick(100, 3);
    records.extend([
        Record::new("check_ms", check(&text, looks)?, "ms", "fleeti"),
        Record::new(
            "editor_first_byte_ms",
            runtime.block_on(open(&organisation, looks))?,
            "ms",
            "fleeti",
        ),
    ]);
    Ok(records)
}

/// A web server with many packages, users, services, files and rules.
fn document() -> Result<String> {
    let mut text = "schema = 1\nname = \"shop\"\narchitecture = \"x86_64\"\n\
                    extends = [\"template/web-server\"]\nsoftware.packages = [\n"
        .to_owned();
    for i in 0..PACKAGES {
        writeln!(text, "  \"package-{i}\",")?;
    }
    text.push_str("]\n");
    for i in 0..20 {
        writeln!(text, "[[users]]\nname = \"user-{i}\"\ngroups = [\"adm\"]")?;
        writeln!(text, "[[services]]\nname = \"unit-{i}.service\"")?;
        writeln!(text, "unit = \"[Service]\\nExecStart=/usr/bin/true\\n\"")?;
        writeln!(text, "[[files]]\npath = \"/etc/app/{i}.conf\"\ncontent = \"number = {i}\\n\"")?;
        writeln!(text, "[[network.firewall.rules]]\nname = \"rule-{i}\"")?;
        writeln!(text, "service = \"unit-{i}.service\"\nports = [\"{}\"]", 8000 + i)?;
    }
    Ok(text)
}

/// Saves the profile as the first revision of its line.
async fn save(database: &Path, text: &str) -> Result<()> {
    let resolved = match resolve(text, &Builtin) {
        Ok(resolved) => resolved,
        Err(findings) => bail!("the profile: {findings:?}"),
    };
    ensure!(resolved.profile.software.packages.len() >= PACKAGES, "packages are missing");
    let db = Db::open(database).await?;
    let mut tx = db.write().await?;
    store::revisions::number(&mut tx, &resolved.profile, Some(text), 1).await?;
    tx.commit().await?;
    db.close().await;
    Ok(())
}

/// The median time of schema and rules, in ms.
fn check(text: &str, looks: usize) -> Result<f64> {
    let mut times = Vec::with_capacity(looks);
    for _ in 0..looks {
        let started = Instant::now();
        let resolved = resolve(text, &Builtin);
        times.push(started.elapsed().as_secs_f64() * 1000.0);
        ensure!(resolved.is_ok(), "the profile has errors");
    }
    Ok(median("check", times))
}

/// The median time to the first byte of the editor, in ms.
async fn open(organisation: &Organisation, looks: usize) -> Result<f64> {
    let http = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build()?;
    let cookie = sign_in(organisation).await?;
    let page = format!("{}/profiles/shop/1/edit", organisation.world.api());
    let mut times = Vec::with_capacity(looks);
    for _ in 0..looks {
        let started = Instant::now();
        let response = http.get(&page).header("cookie", &cookie).send().await?;
        times.push(started.elapsed().as_secs_f64() * 1000.0);
        ensure!(response.status() == 200, "{page}: {}", response.status());
        let body = response.text().await?;
        ensure!(body.contains("package-299"), "the editor shows another profile");
    }
    Ok(median("editor", times))
}
