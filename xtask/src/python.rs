//! The wheel: built, installed in a fresh virtual environment, and tested there.

use crate::{root, run, target};
use anyhow::{Result, bail};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const TOOLS: &[&str] = &["maturin>=1.16,<2"];

/// Builds the wheel and tests it.
pub fn test() -> Result<()> {
    let work = target().join("python");
    let tools = work.join("tools");
    if !tools.join("bin/maturin").exists() {
        environment(&tools)?;
        install("maturin", &tools, TOOLS)?;
    }
    let wheels = work.join("wheels");
    fs::remove_dir_all(&wheels).ok();
    let bindings = root().join("bindings/python");
    run(
        "wheel",
        Command::new(tools.join("bin/maturin"))
            .args(["build", "--quiet", "--profile", "ci", "--manifest-path"])
            .arg(bindings.join("Cargo.toml"))
            .arg("--out")
            .arg(&wheels),
    )?;
    let fresh = work.join("fresh");
    fs::remove_dir_all(&fresh).ok();
    environment(&fresh)?;
    let wheel = only_file(&wheels)?;
    // With the test dependencies of pyproject.toml.
    let wanted = format!("{}[test]", wheel.display());
    install("the wheel, pytest and mypy", &fresh, &[&wanted])?;
    let python = fresh.join("bin/python");
    // Not in the source folder, so that the installed wheel is tested.
    let inside = |command: &mut Command| {
        command.arg(bindings.join("tests")).env("FLEETI_PROGRAMS", target().join("ci"));
    };
    let mut pytest = Command::new(&python);
    pytest.args(["-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir"]).arg(&fresh);
    inside(&mut pytest);
    run("pytest", &mut pytest)?;
    let mut mypy = Command::new(&python);
    mypy.args(["-m", "mypy", "--strict", "--cache-dir"]).arg(work.join("mypy"));
    inside(&mut mypy);
    run("mypy", &mut mypy)
}

pub fn environment(at: &Path) -> Result<()> {
    run("virtual environment", Command::new("python3").args(["-m", "venv"]).arg(at))
}

pub fn install(what: &str, environment: &Path, wanted: &[&str]) -> Result<()> {
    let pip = environment.join("bin/pip");
    run(
        &format!("install {what}"),
        Command::new(pip).args(["install", "--quiet", "--disable-pip-version-check"]).args(wanted),
    )
}

fn only_file(folder: &Path) -> Result<PathBuf> {
    let files: Vec<_> =
        fs::read_dir(folder)?.map(|e| e.map(|e| e.path())).collect::<std::io::Result<_>>()?;
    match files.as_slice() {
        [one] => Ok(one.clone()),
        other => bail!("{} wheels in {}", other.len(), folder.display()),
    }
}
