//! The wheel: built, installed in a fresh virtual environment, and tested there.

use crate::package::stdout;
use crate::{root, run, target};
use anyhow::{Result, bail, ensure};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const TOOLS: &[&str] = &["maturin>=1.16,<2"];

/// Builds the wheel and tests it.
pub fn test() -> Result<()> {
    let bindings = root().join("bindings/python");
    let python = with_wheel("ci")?;
    // Not in the source folder, so that the installed wheel is tested.
    let mut pytest = Command::new(&python);
    pytest.args(["-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir"]).arg(target());
    pytest.arg(bindings.join("tests")).env("FLEETI_PROGRAMS", target().join("ci"));
    run("pytest", &mut pytest)?;
    doctests(&python)?;
    types(&python)?;
    source_distribution()
}

/// What must be in the source distribution beside the package: files that crates include.
const INCLUDED: [&str; 3] =
    ["fleeti-build/nix/debian/default.nix", "fleeti-core/Cargo.toml", "python/fleeti/py.typed"];

/// Makes the source distribution.
fn source_distribution() -> Result<()> {
    let folder = target().join("python/sdist");
    fs::remove_dir_all(&folder).ok();
    let mut maturin = Command::new(target().join("python/tools/bin/maturin"));
    maturin.args(["sdist", "--manifest-path"]).arg(root().join("bindings/python/Cargo.toml"));
    run("sdist", maturin.arg("--out").arg(&folder))?;
    let file = only_file(&folder)?;
    let names = stdout(Command::new("tar").args(["--list", "--file"]).arg(&file))?;
    for wanted in INCLUDED {
        ensure!(names.lines().any(|n| n.ends_with(wanted)), "{} has no {wanted}", file.display());
    }
    Ok(())
}

/// The interpreter with the wheel of the last test.
pub fn tested() -> PathBuf {
    target().join("python/fresh/bin/python")
}

/// Builds the wheel in a profile, and installs it in a new virtual environment. Returns its
/// interpreter.
pub fn with_wheel(profile: &str) -> Result<PathBuf> {
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
            .args(["build", "--quiet", "--profile", profile, "--manifest-path"])
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
    install("the wheel, pytest, mypy and pyright", &fresh, &[&wanted])?;
    Ok(tested())
}

/// Modules of the package with examples.
const EXAMPLES: [&str; 4] = ["errors", "profiles", "planning", "pki"];

fn doctests(python: &Path) -> Result<()> {
    let check = "import doctest, importlib, sys; \
         found = [doctest.testmod(importlib.import_module('fleeti.' + m)) for m in sys.argv[1:]]; \
         sys.exit(any(f.failed for f in found) or not all(f.attempted for f in found))";
    let mut command = Command::new(python);
    run("doctests of the package", command.args(["-c", check]).args(EXAMPLES))
}

/// The package, its tests and examples by mypy and pyright, and the stubs by stubtest.
fn types(python: &Path) -> Result<()> {
    let (tests, examples) = (root().join("bindings/python/tests"), root().join("examples"));
    let mypy = || {
        let mut command = Command::new(python);
        command.args(["-m", "mypy", "--strict", "--cache-dir"]).arg(target().join("python/mypy"));
        command
    };
    run("mypy: package", mypy().args(["-p", "fleeti"]))?;
    run("mypy: tests", mypy().arg(&tests))?;
    for folder in ["python", "automation"] {
        let scripts = scripts(&examples.join(folder))?;
        run(
            &format!("mypy: examples/{folder}"),
            mypy().arg("--scripts-are-modules").args(scripts),
        )?;
    }
    let mut stubs = Command::new(python);
    run("stubtest", stubs.args(["-m", "mypy.stubtest", "fleeti._fleeti"]))?;
    let mut pyright = Command::new(python);
    pyright.args(["-m", "pyright", "--pythonpath"]).arg(python).arg(tests);
    run("pyright", pyright.arg(examples.join("python")).arg(examples.join("automation")))
}

/// The files of a folder that are Python.
fn scripts(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "py") {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
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
        other => bail!("{} files in {}", other.len(), folder.display()),
    }
}
