//! Checks of the repository's rules.

use crate::{calls, circles, documents, foreign, map};
use anyhow::{Context, Result, bail};
use std::fs;
use std::path::Path;
use std::process::Command;

/// The crates of the workspace that each crate may use. Tests may also use the testkit, the client
/// and the build crate.
const ALLOWED: &[(&str, &[&str])] = &[
    ("fleeti-core", &[]),
    ("fleeti-files", &[]),
    ("fleeti-adopt", &["fleeti-core"]),
    ("fleeti-pki", &["fleeti-core"]),
    ("fleeti-build", &["fleeti-core", "fleeti-files", "fleeti-pki"]),
    ("fleeti-agent", &["fleeti-core", "fleeti-files", "fleeti-pki"]),
    ("fleeti-signer-client", &["fleeti-core", "fleeti-pki"]),
    (
        "fleeti-signer",
        &["fleeti-core", "fleeti-files", "fleeti-pki", "fleeti-build", "fleeti-signer-client"],
    ),
    ("fleeti-store", &["fleeti-core"]),
    (
        "fleeti-control",
        &[
            "fleeti-core",
            "fleeti-files",
            "fleeti-pki",
            "fleeti-build",
            "fleeti-signer-client",
            "fleeti-store",
        ],
    ),
    // The client: a build worker is a client of its server.
    (
        "fleeti-server",
        &[
            "fleeti-core",
            "fleeti-files",
            "fleeti-client",
            "fleeti-control",
            "fleeti-pki",
            "fleeti-build",
            "fleeti-signer",
            "fleeti-signer-client",
            "fleeti-store",
        ],
    ),
    ("fleeti-client", &["fleeti-core"]),
    (
        "fleeti-cli",
        &[
            "fleeti-core",
            "fleeti-adopt",
            "fleeti-files",
            "fleeti-client",
            "fleeti-pki",
            "fleeti-build",
        ],
    ),
    (
        "fleeti-testkit",
        &[
            "fleeti-core",
            "fleeti-client",
            "fleeti-pki",
            "fleeti-build",
            "fleeti-agent",
            "fleeti-signer",
            "fleeti-signer-client",
            "fleeti-store",
            "fleeti-control",
            "fleeti-server",
        ],
    ),
    (
        "fleeti-examples",
        &[
            "fleeti-core",
            "fleeti-client",
            "fleeti-pki",
            "fleeti-build",
            "fleeti-agent",
            "fleeti-signer",
            "fleeti-signer-client",
            "fleeti-store",
            "fleeti-control",
            "fleeti-server",
            "fleeti-testkit",
        ],
    ),
    ("fleeti-python", &["fleeti-core", "fleeti-client", "fleeti-pki", "fleeti-build"]),
    ("xtask", &[]),
];

/// Checks the dependencies between crates, and between the files of each.
pub fn deps(root: &Path) -> Result<()> {
    let output = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .args(["metadata", "--format-version", "1", "--no-deps", "--offline"])
        .current_dir(root)
        .output()
        .context("cargo metadata")?;
    let metadata: serde_json::Value =
        serde_json::from_slice(&output.stdout).context("cargo metadata")?;
    let mut wrong = Vec::new();
    for package in metadata["packages"].as_array().context("packages")? {
        let name = package["name"].as_str().unwrap_or_default();
        let Some((_, allowed)) = ALLOWED.iter().find(|(n, _)| *n == name) else {
            wrong.push(format!(
                "{name} is not in the list of allowed dependencies; add it to xtask/src/checks.rs"
            ));
            continue;
        };
        for dependency in package["dependencies"].as_array().into_iter().flatten() {
            let on = dependency["name"].as_str().unwrap_or_default();
            let is_dev = dependency["kind"] == "dev";
            let ours = on.starts_with("fleeti-");
            if ours
                && !allowed.contains(&on)
                && !(is_dev && ["fleeti-testkit", "fleeti-client", "fleeti-build"].contains(&on))
            {
                wrong.push(format!("{name} must not use {on}"));
            }
        }
        let manifest = Path::new(package["manifest_path"].as_str().context("manifest_path")?);
        let src = manifest.parent().context("manifest_path")?.join("src");
        let circles = circles::of_crate(&src)?;
        wrong.extend(circles.iter().map(|files| {
            format!("{name}: files that import each other in a circle: {}", files.join(", "))
        }));
        wrong.extend(calls::of_crate(&src)?.iter().map(|files| {
            format!("{name}: files whose methods call each other in a circle: {}", files.join(", "))
        }));
    }
    report("deps", wrong)
}

/// Longest body of a handler, in lines.
const HANDLER_MAX: usize = 15;
/// Longest source file, tests included.
const LINES_MAX: usize = 600;
const NAMELESS: &[&str] = &["util", "utils", "common", "helpers", "types", "misc"];

/// Checks the style rules that a machine can check.
pub fn tidy(root: &Path) -> Result<()> {
    let names = tracked(root)?;
    let map = fs::read_to_string(root.join("ARCHITECTURE.md")).unwrap_or_default();
    let mut wrong = map::wrong(&map, &names.lines().collect::<Vec<_>>());
    wrong.extend(documents::wrong(root, &names.lines().collect::<Vec<_>>())?);
    let is_source = |name: &&str| [".rs", ".py", ".nix"].iter().any(|end| name.ends_with(end));
    for name in names.lines().filter(is_source) {
        let path = root.join(name);
        let Ok(text) = fs::read_to_string(&path) else { continue };
        let lines = text.lines().count();
        // A generated file is read through what generates it (`cargo xtask sdk`).
        if lines > LINES_MAX && !text.starts_with("# Generated from ") {
            wrong.push(format!(
                "{name} has {lines} lines, at most {LINES_MAX} are allowed: split the module"
            ));
        }
        if path.file_stem().is_some_and(|s| NAMELESS.contains(&s.to_string_lossy().as_ref())) {
            wrong.push(format!("{name}: choose a module name that says what is in it"));
        }
        if ["fleeti-server/src/pages/", "fleeti-server/src/api/", "fleeti-server/src/http/"]
            .iter()
            .any(|d| name.starts_with(d))
        {
            wrong.extend(long_handlers(&text).map(|(at, lines)| {
                format!(
                    "{name}:{at}: a handler of {lines} lines, at most {HANDLER_MAX} are allowed"
                )
            }));
        }
        wrong.extend(
            foreign::past_the_one_place(name, &text)
                .into_iter()
                .map(|(at, why)| format!("{name}:{at}: {why}")),
        );
        for (i, line) in text.lines().enumerate() {
            let marks = ["todo!(", "unimplemented!(", "dbg!("];
            if marks.iter().any(|m| line.contains(m)) && !name.starts_with("xtask/") {
                wrong.push(format!("{name}:{}: {}", i + 1, line.trim()));
            }
            let sql = ["SELECT ", "INSERT INTO ", "UPDATE ", "DELETE FROM "]
                .iter()
                .any(|s| line.contains(s));
            let is_ours = ["fleeti-server/src/", "fleeti-control/src/"];
            if sql && is_ours.iter().any(|d| name.starts_with(d)) {
                wrong.push(format!("{name}:{}: SQL outside fleeti-store", i + 1));
            }
            let past_services = ["api/", "pages/", "http/", "gateway/"]
                .iter()
                .any(|d| name.starts_with(&format!("fleeti-server/src/{d}")));
            // Pages may use row types that a service returned.
            if past_services && line.contains("store::") && !line.starts_with("use fleeti_store::")
            {
                wrong.push(format!("{name}:{}: a database call outside the services", i + 1));
            }
            // A passphrase that costs nothing to guess protects nothing.
            if line.contains("Sealing::for_tests")
                && !name.contains("/tests/")
                && !["fleeti-pki/src/sealed.rs", "xtask/src/checks.rs"].contains(&name)
            {
                wrong.push(format!("{name}:{}: a cheap passphrase outside tests", i + 1));
            }
            let topic = line.contains("fleeti/v1/")
                && !name.starts_with("fleeti-core/src/wire/mqtt")
                && !name.contains("/tests/");
            if topic && !name.starts_with("xtask/") {
                wrong.push(format!("{name}:{}: an MQTT topic outside core::wire::mqtt", i + 1));
            }
        }
    }
    report("tidy", wrong)
}

/// The names of the repository's files, one a line.
pub fn tracked(root: &Path) -> Result<String> {
    crate::package::stdout(Command::new("git").arg("ls-files").current_dir(root))
}

/// Async functions without indentation (the handlers of routes) whose body is longer than
/// [`HANDLER_MAX`]: first line and length.
fn long_handlers(text: &str) -> impl Iterator<Item = (usize, usize)> {
    let lines: Vec<&str> = text.lines().collect();
    let mut found = Vec::new();
    for (start, _) in lines
        .iter()
        .enumerate()
        .filter(|(_, l)| l.starts_with("async fn ") || l.starts_with("pub async fn "))
    {
        let opens = (start..lines.len()).find(|i| lines[*i].ends_with('{')).unwrap_or(start);
        let closes = (opens..lines.len()).find(|i| lines[*i] == "}").unwrap_or(opens);
        let body = (closes - opens).saturating_sub(1);
        if body > HANDLER_MAX {
            found.push((start + 1, body));
        }
    }
    found.into_iter()
}

fn report(what: &str, wrong: Vec<String>) -> Result<()> {
    if wrong.is_empty() {
        println!("    {what}: ok");
        return Ok(());
    }
    bail!("{what}:\n  {}", wrong.join("\n  "))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A repository with this file.
    fn planted(name: &str, text: &str) -> Result<()> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        for arguments in [&["init", "-q"][..], &["add", "."]] {
            assert!(
                Command::new("git")
                    .args(arguments)
                    .current_dir(dir.path())
                    .status()
                    .unwrap()
                    .success()
            );
        }
        tidy(dir.path())
    }

    #[test]
    fn tidy_names_the_line_where_a_violation_was_planted() {
        const PRINT: &str = "fn show(detail: &str) {\n    eprintln!(\"{detail}\");\n}\n";
        let error = planted("fleeti-cli/src/commands/x.rs", PRINT).unwrap_err().to_string();
        assert!(
            error.contains("fleeti-cli/src/commands/x.rs:2: a print outside output.rs"),
            "{error}"
        );
        assert!(planted("fleeti-cli/src/output.rs", PRINT).is_ok());
        let error = planted(
            "fleeti-server/src/x.rs",
            "fn f(t: &str) -> String {\n    t.escape_default().to_string()\n}\n",
        )
        .unwrap_err();
        assert!(
            error.to_string().contains("fleeti-server/src/x.rs:2: an escape outside"),
            "{error}"
        );
        let error = planted(
            "fleeti-signer/src/x.rs",
            "fn f(b: &[u8]) {\n    serde_json::from_slice::<X>(b);\n}\n",
        )
        .unwrap_err();
        assert!(error.to_string().contains("fleeti-signer/src/x.rs:2: serde's reader"), "{error}");
        let cheap = "fn f() {\n    seal(b\"\", \"\", Sealing::for_tests(b\"\"));\n}\n";
        let error = planted("fleeti-cli/src/commands/x.rs", cheap).unwrap_err();
        assert!(error.to_string().contains("x.rs:2: a cheap passphrase outside tests"), "{error}");
    }
}
