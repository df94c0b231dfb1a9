//! Debian packages by `dpkg-deb`, which every Debian has: nothing has to be compiled for it. For each
//! package: its tree, its control files, and what is checked in it. Two calls with the
//! same executables write the same bytes: times are given, names sorted, owners root.

use crate::package::{Order, PACKAGES, Package, Service, epoch, source, stdout, text};
use anyhow::{Context, Result, bail, ensure};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, UNIX_EPOCH};

const MAINTAINER: &str = "Fleeti maintainers <maintainers@fleeti.invalid>";

/// Makes all packages.
pub fn make(order: &Order) -> Result<Vec<PathBuf>> {
    fs::remove_dir_all(&order.out).ok();
    fs::create_dir_all(&order.out)?;
    let epoch = epoch()?;
    PACKAGES.iter().map(|package| pack(package, order, epoch)).collect()
}

/// Packs a package, and returns its path.
fn pack(package: &Package, order: &Order, epoch: u64) -> Result<PathBuf> {
    let tree = order.out.join(format!("{}.tree", package.name));
    let result = fill(package, order, epoch, &tree).and_then(|()| {
        let architecture = architecture()?;
        let name = format!("{}_{}_{architecture}.deb", package.name, order.version);
        let file = order.out.join(name);
        stdout(
            Command::new("dpkg-deb")
                .args(["--build", "--root-owner-group", "-Zzstd"])
                .arg(format!("-z{}", order.level))
                .args([&tree, &file])
                .env("SOURCE_DATE_EPOCH", epoch.to_string()),
        )?;
        Ok(file)
    });
    fs::remove_dir_all(&tree).ok();
    result.with_context(|| package.name)
}

fn architecture() -> Result<String> {
    Ok(stdout(Command::new("dpkg").arg("--print-architecture"))?.trim().to_owned())
}

fn fill(package: &Package, order: &Order, epoch: u64, tree: &Path) -> Result<()> {
    let put = |to: &str, content: &[u8], mode: u32| write(tree, to, content, mode);
    for program in package.programs {
        let to = format!("/usr/bin/{program}");
        let from = order.programs.join(program);
        put(&to, &fs::read(&from).with_context(|| from.display().to_string())?, 0o755)?;
        let strip = ["--strip-unneeded", "--remove-section=.comment", "--remove-section=.note"];
        stdout(Command::new("strip").args(strip).arg(tree.join(&to[1..])))?;
    }
    for (from, to, mode) in package.files {
        put(to, &fs::read(source(from)).with_context(|| (*from).to_owned())?, *mode)?;
    }
    if package.name == "fleeti" {
        add_manual(order, tree)?;
    }
    if let Some(service) = &package.service {
        add_service(package, service, order, tree)?;
    }
    let doc = format!("/usr/share/doc/{}", package.name);
    put(&format!("{doc}/copyright"), text("copyright")?.as_bytes(), 0o644)?;
    let log = tree.join(&doc[1..]).join("changelog");
    let date = format!("--date=@{epoch}");
    let date = stdout(Command::new("date").args(["--utc", "--rfc-email", &date]))?;
    let entry = format!(
        "fleeti ({}) unstable; urgency=medium\n\n  * See CHANGELOG.md of this version.\n\n -- {MAINTAINER}  {}\n",
        order.version,
        date.trim()
    );
    put(&format!("{doc}/changelog"), entry.as_bytes(), 0o644)?;
    stdout(Command::new("gzip").args(["-9n"]).arg(&log))?;
    put("/DEBIAN/control", control(package, order, tree)?.as_bytes(), 0o644)?;
    settle(tree, UNIX_EPOCH + Duration::from_secs(epoch))
}

/// Manual pages and completions, as the command writes them.
fn add_manual(order: &Order, tree: &Path) -> Result<()> {
    let share = tree.join("usr/share");
    stdout(Command::new(order.programs.join("fleeti")).arg("manual").arg(&share))?;
    let pages = fs::read_dir(share.join("man/man1"))?;
    let pages: Vec<PathBuf> = pages.map(|e| Ok(e?.path())).collect::<std::io::Result<_>>()?;
    stdout(Command::new("gzip").arg("-9n").args(pages))?;
    // Whatever the umask is.
    stdout(Command::new("chmod").args(["-R", "u=rwX,go=rX"]).arg(&share))?;
    Ok(())
}

fn add_service(package: &Package, service: &Service, order: &Order, tree: &Path) -> Result<()> {
    let put = |to: &str, content: &[u8], mode: u32| write(tree, to, content, mode);
    let name = package.name;
    for (ending, to) in [
        ("service", format!("/usr/lib/systemd/system/{name}.service")),
        ("sysusers", format!("/usr/lib/sysusers.d/{name}.conf")),
        ("tmpfiles", format!("/usr/lib/tmpfiles.d/{name}.conf")),
    ] {
        let from = source(service.folder).join(format!("{name}.{ending}"));
        put(&to, &fs::read(&from).with_context(|| from.display().to_string())?, 0o644)?;
    }
    let conffile = format!("/etc/fleeti/{}", service.configuration);
    put(&conffile, text(service.configuration)?.as_bytes(), 0o644)?;
    put("/DEBIAN/conffiles", format!("{conffile}\n").as_bytes(), 0o644)?;
    for script in ["postinst", "prerm", "postrm"] {
        let mut body = text(script)?;
        // What only this package does.
        body.push_str(&text(&format!("{script}.{name}")).unwrap_or_default());
        let body = body
            .replace("@PACKAGE@", name)
            .replace("@VERSION@", &order.version)
            .replace("@DATA@", service.data);
        ensure!(!body.contains('@'), "{script}: a placeholder is left");
        put(&format!("/DEBIAN/{script}"), body.as_bytes(), 0o755)?;
    }
    Ok(())
}

fn write(tree: &Path, to: &str, content: &[u8], mode: u32) -> Result<()> {
    let path = tree.join(&to[1..]);
    fs::create_dir_all(path.parent().context("a file in a folder")?)?;
    fs::write(&path, content)?;
    Ok(fs::set_permissions(&path, fs::Permissions::from_mode(mode))?)
}

fn control(package: &Package, order: &Order, tree: &Path) -> Result<String> {
    let mut depends: Vec<String> =
        package.depends.iter().map(|d| d.replace('@', &order.version)).collect();
    depends.extend(libraries(package, tree)?);
    let kib = size(tree)?.div_ceil(1024);
    let mut lines = vec![
        format!("Package: {}", package.name),
        "Source: fleeti".to_owned(),
        format!("Version: {}", order.version),
        format!("Architecture: {}", architecture()?),
        format!("Maintainer: {MAINTAINER}"),
        format!("Installed-Size: {kib}"),
    ];
    if !depends.is_empty() {
        lines.push(format!("Depends: {}", depends.join(", ")));
    }
    if !package.suggests.is_empty() {
        lines.push(format!("Suggests: {}", package.suggests.join(", ")));
    }
    lines.extend([
        "Section: admin".to_owned(),
        "Priority: optional".to_owned(),
        format!("Description: {}", package.synopsis),
        format!(" {}", package.description),
    ]);
    Ok(lines.join("\n") + "\n")
}

/// The packages of the libraries that the executables are linked with.
fn libraries(package: &Package, tree: &Path) -> Result<Vec<String>> {
    if package.programs.is_empty() {
        return Ok(Vec::new());
    }
    // dpkg-shlibdeps wants to be called in the folder of a source package.
    let work = tree.with_extension("source");
    fs::create_dir_all(work.join("debian"))?;
    fs::write(
        work.join("debian/control"),
        "Source: fleeti\n\nPackage: fleeti\nArchitecture: any\n",
    )?;
    let programs = package.programs.iter().map(|p| tree.join("usr/bin").join(p));
    let found = stdout(Command::new("dpkg-shlibdeps").arg("-O").args(programs).current_dir(&work));
    fs::remove_dir_all(&work).ok();
    let found = found?;
    let list = found.trim().strip_prefix("shlibs:Depends=").unwrap_or_default();
    let names: Vec<String> = list.split(", ").map(str::to_owned).collect();
    ensure!(list.contains("libc6"), "dpkg-shlibdeps found {found:?}");
    Ok(names)
}

/// Bytes of all files of a tree.
fn size(tree: &Path) -> Result<u64> {
    let mut sum = 0;
    for entry in fs::read_dir(tree)? {
        let (path, metadata) = entry.and_then(|e| Ok((e.path(), e.metadata()?)))?;
        sum += if metadata.is_dir() { size(&path)? } else { metadata.len() };
    }
    Ok(sum)
}

/// Gives every folder the mode 0755, and everything the time.
fn settle(path: &Path, time: std::time::SystemTime) -> Result<()> {
    if path.is_dir() {
        for entry in fs::read_dir(path)? {
            settle(&entry?.path(), time)?;
        }
        fs::set_permissions(path, fs::Permissions::from_mode(0o755))?;
    }
    Ok(fs::File::open(path)?.set_modified(time)?)
}

/// Checks a package: owners, modes, folders, configuration, and the syntax of its scripts.
pub fn check(package: &Package, file: &Path) -> Result<()> {
    let listing = stdout(Command::new("dpkg-deb").arg("--contents").arg(file))?;
    let mut wrong: Vec<String> = listing.lines().filter_map(misplaced).collect();
    let has = |path: &str| listing.lines().any(|line| line.ends_with(&format!(" .{path}")));
    for program in package.programs {
        if !has(&format!("/usr/bin/{program}")) {
            wrong.push(format!("{program} is missing"));
        }
    }
    if package.name == "fleeti" {
        for path in ["man/man1/fleeti.1.gz", "bash-completion/completions/fleeti"] {
            if !has(&format!("/usr/share/{path}")) {
                wrong.push(format!("{path} is missing"));
            }
        }
    }
    if package.service.is_some() {
        let control = file.with_extension("control");
        fs::remove_dir_all(&control).ok();
        stdout(Command::new("dpkg-deb").arg("--control").args([file, control.as_path()]))?;
        for script in ["postinst", "prerm", "postrm"] {
            stdout(Command::new("sh").arg("-n").arg(control.join(script)))?;
        }
        for line in fs::read_to_string(control.join("conffiles"))?.lines() {
            if !has(line) || !line.starts_with("/etc/fleeti/") {
                wrong.push(format!("conffile {line} is missing or elsewhere"));
            }
        }
        fs::remove_dir_all(&control)?;
    }
    if wrong.is_empty() { Ok(()) } else { bail!("{}:\n  {}", file.display(), wrong.join("\n  ")) }
}

/// What is wrong with a line of `dpkg-deb --contents`: `-rwxr-xr-x root/root SIZE DATE TIME ./PATH`.
fn misplaced(line: &str) -> Option<String> {
    const PLACES: [&str; 11] = [
        "./usr/bin/",
        "./usr/sbin/",
        "./usr/lib/systemd/system/",
        "./usr/lib/sysusers.d/",
        "./usr/lib/tmpfiles.d/",
        "./usr/share/doc/",
        "./usr/share/man/man1/",
        "./usr/share/bash-completion/completions/",
        "./usr/share/zsh/vendor-completions/",
        "./usr/share/fish/vendor_completions.d/",
        "./etc/fleeti/",
    ];
    let words: Vec<&str> = line.split_whitespace().collect();
    let [mode, owner, _, _, _, path] = words[..] else { return Some(line.to_owned()) };
    let is_place = PLACES.iter().any(|p| path.starts_with(p) || p.starts_with(path));
    let expected = match path {
        _ if path.ends_with('/') => "drwxr-xr-x",
        _ if path.contains("bin/") => "-rwxr-xr-x",
        _ => "-rw-r--r--",
    };
    (owner != "root/root" || mode != expected || !is_place).then(|| line.to_owned())
}

#[cfg(test)]
mod tests {
    use super::misplaced;

    #[test]
    fn a_file_of_another_owner_mode_or_place_is_named() {
        for good in [
            "drwxr-xr-x root/root 0 2026-11-30 00:00 ./",
            "drwxr-xr-x root/root 0 2026-11-30 00:00 ./usr/lib/",
            "-rwxr-xr-x root/root 9 2026-11-30 00:00 ./usr/bin/fleeti",
            "-rw-r--r-- root/root 9 2026-11-30 00:00 ./etc/fleeti/server.conf",
        ] {
            assert_eq!(misplaced(good), None);
        }
        for bad in [
            "-rwsr-xr-x root/root 9 2026-11-30 00:00 ./usr/bin/fleeti",
            "-rwxr-xr-x fleeti/root 9 2026-11-30 00:00 ./usr/bin/fleeti",
            "-rw-rw-r-- root/root 9 2026-11-30 00:00 ./etc/fleeti/server.conf",
            "-rwxr-xr-x root/root 9 2026-11-30 00:00 ./usr/local/bin/fleeti",
            "drwxrwxrwx root/root 0 2026-11-30 00:00 ./etc/fleeti/",
            "lrwxrwxrwx root/root 0 2026-11-30 00:00 ./usr/bin/x -> /bin/sh",
        ] {
            assert_eq!(misplaced(bad).as_deref(), Some(bad));
        }
    }
}
