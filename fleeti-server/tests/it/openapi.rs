//! The OpenAPI document with tools that read such documents: a validator, a tester (schemathesis)
//! and two generators of clients. `cargo xtask tools` installs them.

use crate::world::World;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

/// Examples for each operation and kind of test.
const EXAMPLES: &str = "8";
/// A test that does not end in this time is a failure.
const TIME_MAX: Duration = Duration::from_secs(400);

fn tools(variable: &str, usual: &str) -> PathBuf {
    let usual = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/tools").join(usual);
    let folder = std::env::var_os(variable).map_or(usual, PathBuf::from);
    assert!(folder.exists(), "there is no {}: `cargo xtask tools` installs it", folder.display());
    folder
}

/// Runs a program beside this test's server, and returns its output.
async fn said(mut command: Command) -> (Output, String) {
    let what = format!("{command:?}");
    let run = tokio::task::spawn_blocking(move || command.output());
    let output = tokio::time::timeout(TIME_MAX, run)
        .await
        .unwrap_or_else(|_| panic!("{what} takes too long"))
        .unwrap()
        .unwrap();
    let text = format!(
        "{}\n{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    (output, text)
}

fn document() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("openapi.json")
}

#[actix_web::test]
async fn the_api_document_is_the_one_that_is_checked_in() {
    let path = format!("{}/openapi.json", env!("CARGO_MANIFEST_DIR"));
    let now = format!("{}\n", fleeti_server::api::openapi::document().to_pretty_json().unwrap());
    if std::env::var_os("INSTA_UPDATE").is_some_and(|v| v == "always") {
        std::fs::write(&path, &now).unwrap();
    }
    let kept = std::fs::read_to_string(&path).unwrap();
    assert!(
        kept == now,
        "the API changed: run this test with INSTA_UPDATE=always, and look at the difference"
    );
    let world = World::new().await;
    let served = reqwest::get(format!("http://{}/api/v1/openapi.json", world.server.addresses.api))
        .await
        .unwrap();
    let text = served.text().await.unwrap();
    assert!(text == kept, "the server serves another document: compile it again");
}

#[actix_web::test]
async fn the_document_is_valid() {
    let mut validator =
        Command::new(tools("FLEETI_OPENAPI_TOOLS", "openapi/bin").join("openapi-spec-validator"));
    validator.args(["--schema", "3.1"]).arg(document());
    let (output, text) = said(validator).await;
    assert!(output.status.success(), "{text}");
}

#[actix_web::test]
async fn schemathesis_finds_no_answer_that_is_not_documented() {
    let world = World::new().await;
    let token = std::fs::read_to_string(world.dir.path().join("admin.token")).unwrap();
    let config = world.dir.path().join("schemathesis.toml");
    // The token is read from the environment: other users can see arguments.
    std::fs::write(&config, include_str!("schemathesis.toml")).unwrap();
    let mut tester =
        Command::new(tools("FLEETI_OPENAPI_TOOLS", "openapi/bin").join("schemathesis"));
    tester.arg("--config-file").arg(&config).arg("run").arg(document());
    tester.args(["--url", &format!("http://{}", world.server.addresses.api)]);
    tester.args([
        "--checks",
        "all",
        "--max-examples",
        EXAMPLES,
        "--seed",
        "1",
        "--workers",
        "1",
        "--no-color",
    ]);
    tester.env("FLEETI_TOKEN", token.trim()).current_dir(world.dir.path());
    let (output, text) = said(tester).await;
    assert!(output.status.success(), "{text}");
}

#[actix_web::test]
async fn a_generated_typescript_client_compiles_and_lists_devices() {
    let world = World::new().await;
    let device = world.enroll().await;
    let (from, work) = (tools("FLEETI_OPENAPI_TS", "openapi-ts"), tempfile::tempdir().unwrap());
    for name in ["package.json", "tsconfig.json", "list-devices.ts"] {
        std::fs::copy(from.join(name), work.path().join(name)).unwrap();
    }
    std::os::unix::fs::symlink(from.join("node_modules"), work.path().join("node_modules"))
        .unwrap();
    let program = |name: &str| {
        let mut command = Command::new("node");
        command.arg(from.join("node_modules/.bin").join(name)).current_dir(work.path());
        command
    };
    let mut generate = program("openapi-typescript");
    generate.arg(document()).args(["--output", "api.ts"]);
    let (output, text) = said(generate).await;
    assert!(output.status.success(), "{text}");
    let (output, text) = said(program("tsc")).await;
    assert!(output.status.success(), "{text}");
    let token = std::fs::read_to_string(world.dir.path().join("admin.token")).unwrap();
    let mut list = Command::new("node");
    list.arg("out/list-devices.js").current_dir(work.path());
    list.env("FLEETI_SERVER", format!("http://{}", world.server.addresses.api))
        .env("FLEETI_TOKEN", token.trim());
    let (output, text) = said(list).await;
    assert!(output.status.success(), "{text}");
    assert_eq!(
        String::from_utf8(output.stdout).unwrap(),
        format!("{} demo\n404 urn:fleeti:problem:not_found\n", device.id)
    );
}

#[actix_web::test]
async fn a_generated_python_client_lists_devices() {
    let world = World::new().await;
    let device = world.enroll().await;
    let work = tempfile::tempdir().unwrap();
    let script =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../xtask/openapi-python/list_devices.py");
    let token = std::fs::read_to_string(world.dir.path().join("admin.token")).unwrap();
    let mut list =
        Command::new(tools("FLEETI_OPENAPI_PYTHON", "openapi-python/bin").join("python"));
    list.arg(script).arg(document()).arg(work.path());
    list.env("FLEETI_SERVER", format!("http://{}", world.server.addresses.api))
        .env("FLEETI_TOKEN", token.trim());
    let (output, text) = said(list).await;
    assert!(output.status.success(), "{text}");
    assert_eq!(
        String::from_utf8(output.stdout).unwrap(),
        format!("{} demo\n404 urn:fleeti:problem:not_found\n", device.id)
    );
}
