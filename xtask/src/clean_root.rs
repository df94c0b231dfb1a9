//! The packages in a clean Debian root of this machine's release: installed, upgraded from a
//! previous version with data, removed and purged, by apt.

use crate::deb;
use crate::package::{self, Order};
use crate::run;
use anyhow::{Context, Result, ensure};
use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A version below every other one.
const PREVIOUS: &str = "0.0.1";

/// Checks packages that were made for this order.
pub fn check(order: &Order, made: &[PathBuf]) -> Result<()> {
    let debs = order.out.join("debs");
    let previous = Order {
        programs: order.programs.clone(),
        version: PREVIOUS.to_owned(),
        level: 1,
        out: debs.join("old"),
    };
    deb::make(&previous)?;
    let new = debs.join("new");
    fs::create_dir_all(&new)?;
    for package in made {
        fs::copy(package, new.join(package.file_name().context("a package")?))?;
    }
    let script = package::source("packaging/check-clean-root.sh");
    fs::copy(script, debs.join("check.sh"))?;
    let [api, https, mqtt] = ports()?;
    let inside = format!(
        "chroot \"$1\" env VERSION={} API={api} HTTPS={https} MQTT={mqtt} sh /debs/check.sh",
        order.version
    );
    let result = run(
        "packages in a clean root: install, upgrade, remove, purge",
        Command::new("mmdebstrap")
            .args(["--quiet", "--variant=apt", "--format=null"])
            .arg(format!("--customize-hook=copy-in {} /", debs.display()))
            .arg(format!("--customize-hook={inside}"))
            .args([&release()?, "-"])
            .args(sources()?),
    );
    fs::remove_dir_all(&debs)?;
    result
}

/// Ports that are free now.
fn ports() -> Result<[u16; 3]> {
    let listeners: Vec<TcpListener> =
        (0..3).map(|_| TcpListener::bind("127.0.0.1:0")).collect::<std::io::Result<_>>()?;
    let ports: Vec<u16> =
        listeners.iter().map(|l| Ok(l.local_addr()?.port())).collect::<std::io::Result<_>>()?;
    ports.try_into().map_err(|_| anyhow::anyhow!("three ports"))
}

/// The name of this machine's Debian release, whose libraries the executables are linked with.
pub fn release() -> Result<String> {
    let text = fs::read_to_string("/etc/os-release")?;
    let name = text.lines().find_map(|line| line.strip_prefix("VERSION_CODENAME="));
    Ok(name.context("/etc/os-release has no VERSION_CODENAME")?.to_owned())
}

/// The repositories of this machine.
pub fn sources() -> Result<Vec<&'static str>> {
    const FILES: [&str; 2] = ["/etc/apt/sources.list", "/etc/apt/sources.list.d/debian.sources"];
    let has_text = |file: &&&str| fs::metadata(Path::new(file)).is_ok_and(|m| m.len() > 0);
    let found: Vec<&str> = FILES.iter().filter(has_text).copied().collect();
    ensure!(!found.is_empty(), "none of {} exists", FILES.join(", "));
    Ok(found)
}
