//! An OCI image of server and signing service, of the same Debian packages that machines install:
//! an image layout (image-spec 1.0) in `target/oci/image`, with one layer that mmdebstrap makes.

use crate::clean_root::{release, sources};
use crate::package::{self, Order, stdout};
use crate::{run, target};
use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const PREFIX: &str = "application/vnd.oci.image.";
/// What is in the image; the server brings the signing service.
const INCLUDED: &str = "fleeti,fleeti-server";
/// What must not be in the image: it would be the same for every user of it, or is of no use.
const ABSENT: [&str; 5] = [
    "./var/lib/fleeti/admin.token",
    "./var/lib/fleeti-signer/pki/online",
    "./var/lib/systemd/credential.secret",
    "./var/cache/apt/pkgcache.bin",
    "./etc/ssh/",
];

/// Makes the image from packages of this order, and checks it.
pub fn image(order: &Order) -> Result<()> {
    let folder = target().join("oci");
    fs::remove_dir_all(&folder).ok();
    fs::create_dir_all(&folder)?;
    let tar = layer(order, &folder)?;
    let names = stdout(Command::new("tar").args(["--list", "--verbose", "--file"]).arg(&tar))?;
    check(&names)?;
    let layout = folder.join("image");
    write_layout(order, &tar, &layout)?;
    fs::remove_file(&tar)?;
    println!("    {}", layout.display());
    judge(&layout)
}

/// The root file system as a tar.
fn layer(order: &Order, folder: &Path) -> Result<PathBuf> {
    let repository = folder.join("packages");
    fs::create_dir_all(&repository)?;
    for entry in fs::read_dir(&order.out)? {
        let path = entry?.path();
        if path.extension().is_some_and(|e| e == "deb") {
            fs::copy(&path, repository.join(path.file_name().context("a package")?))?;
        }
    }
    let index = stdout(Command::new("dpkg-scanpackages").arg(".").current_dir(&repository))?;
    fs::write(repository.join("Packages"), index)?;
    let tar = folder.join("root.tar");
    let ours = format!("deb [trusted=yes] copy://{} ./", repository.display());
    // What a unit would make. A volume takes its owner from here.
    let socket =
        "chroot \"$1\" install -d -o fleeti-signer -g fleeti-signer -m 0750 /run/fleeti-signer";
    let clean = "rm -rf \"$1\"/var/lib/systemd/deb-systemd-helper-* \"$1\"/etc/systemd/system/*.wants/fleeti-*";
    run(
        "the root of the OCI image",
        Command::new("mmdebstrap")
            .args(["--quiet", "--variant=essential", "--format=tar"])
            .arg(format!("--include={INCLUDED}"))
            .arg("--dpkgopt=path-exclude=/usr/share/man/*")
            .arg(format!("--customize-hook={socket}"))
            .arg(format!("--customize-hook={clean}"))
            .arg(release()?)
            .arg(&tar)
            .args(sources()?)
            .arg(ours)
            .env("SOURCE_DATE_EPOCH", package::epoch()?.to_string()),
    )?;
    Ok(tar)
}

/// Checks owners, modes and absences in the listing of the layer.
fn check(names: &str) -> Result<()> {
    let line =
        |path: &str| names.lines().find(|l| l.trim_end_matches('/').ends_with(&format!(" {path}")));
    for (path, expected) in [
        ("./usr/bin/fleeti-server", "-rwxr-xr-x root/root"),
        ("./usr/bin/fleeti-signer", "-rwxr-xr-x root/root"),
        ("./usr/bin/fleeti", "-rwxr-xr-x root/root"),
        ("./var/lib/fleeti", "drwx--x--- fleeti/fleeti"),
        ("./var/lib/fleeti-signer/pki", "drwx------ fleeti-signer/fleeti-signer"),
        ("./run/fleeti-signer", "drwxr-x--- fleeti-signer/fleeti-signer"),
        ("./etc/fleeti/server.conf", "-rw-r--r-- root/root"),
    ] {
        let found = line(path).with_context(|| format!("the image has no {path}"))?;
        ensure!(found.starts_with(expected), "expected {expected} in the image: {found}");
    }
    for path in ABSENT {
        ensure!(!names.contains(&format!(" {path}")), "{path} is in the image");
    }
    Ok(())
}

fn write_layout(order: &Order, tar: &Path, layout: &Path) -> Result<()> {
    let created = format!("--date=@{}", package::epoch()?);
    let created = stdout(Command::new("date").args(["--utc", "+%Y-%m-%dT%H:%M:%SZ", &created]))?;
    let diff_id = digest(tar)?;
    fs::create_dir_all(layout.join("blobs/sha256"))?;
    stdout(Command::new("gzip").args(["-6", "--no-name", "--keep", "--force"]).arg(tar))?;
    let packed = tar.with_extension("tar.gz");
    let layer = add(layout, &packed, "layer.v1.tar+gzip")?;
    fs::remove_file(&packed)?;
    let config = config(order, created.trim(), &diff_id);
    let config = add_json(layout, &config, "config.v1+json")?;
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": format!("{PREFIX}manifest.v1+json"),
        "config": config,
        "layers": [layer],
    });
    let mut manifest = add_json(layout, &manifest, "manifest.v1+json")?;
    manifest["annotations"] = json!({ "org.opencontainers.image.ref.name": order.version });
    let index = json!({ "schemaVersion": 2, "manifests": [manifest] });
    fs::write(layout.join("index.json"), index.to_string())?;
    Ok(fs::write(layout.join("oci-layout"), json!({ "imageLayoutVersion": "1.0.0" }).to_string())?)
}

/// How containers of the image run: as the server's user, which may reach the signing service.
fn config(order: &Order, created: &str, diff_id: &str) -> Value {
    json!({
        "created": created,
        "architecture": "amd64",
        "os": "linux",
        "config": {
            "User": "fleeti",
            "Entrypoint": ["/usr/bin/fleeti-server"],
            "Cmd": ["--data", "/var/lib/fleeti", "--signer", "/run/fleeti-signer/socket", "--api", "0.0.0.0:8080"],
            "ExposedPorts": { "8080/tcp": {}, "8443/tcp": {}, "8883/tcp": {} },
            "Volumes": { "/var/lib/fleeti": {}, "/var/lib/fleeti-signer": {}, "/run/fleeti-signer": {} },
            "Labels": {
                "org.opencontainers.image.title": "fleeti-server",
                "org.opencontainers.image.version": order.version,
                "org.opencontainers.image.licenses": "Apache-2.0",
            },
        },
        "rootfs": { "type": "layers", "diff_ids": [format!("sha256:{diff_id}")] },
        "history": [{ "created": created, "created_by": "cargo xtask packages --oci" }],
    })
}

fn digest(file: &Path) -> Result<String> {
    let line = stdout(Command::new("sha256sum").arg(file))?;
    Ok(line.split_whitespace().next().context("sha256sum")?.to_owned())
}

/// Adds a file to the blobs, and returns its descriptor.
fn add(layout: &Path, file: &Path, kind: &str) -> Result<Value> {
    let digest = digest(file)?;
    fs::copy(file, layout.join("blobs/sha256").join(&digest))?;
    let size = fs::metadata(file)?.len();
    Ok(
        json!({ "mediaType": format!("{PREFIX}{kind}"), "digest": format!("sha256:{digest}"), "size": size }),
    )
}

fn add_json(layout: &Path, value: &Value, kind: &str) -> Result<Value> {
    let file = layout.join("next");
    fs::write(&file, value.to_string())?;
    let descriptor = add(layout, &file, kind)?;
    fs::remove_file(&file)?;
    Ok(descriptor)
}

/// Has skopeo read the layout, if it is installed: it checks every digest when it copies an image.
fn judge(layout: &Path) -> Result<()> {
    if !Path::new("/usr/bin/skopeo").exists() {
        println!("    skopeo is not installed: the layout was not read by it");
        return Ok(());
    }
    let copy = layout.with_extension("copy");
    let from = format!("oci:{}", layout.display());
    let to = format!("dir:{}", copy.display());
    let copying = ["--insecure-policy", "copy", "--quiet", &from, &to];
    let result = run("skopeo copies the OCI image", Command::new("skopeo").args(copying));
    fs::remove_dir_all(&copy).ok();
    result?;
    let seen = stdout(Command::new("skopeo").args(["inspect", "--config", &from]))?;
    let seen: Value = serde_json::from_str(&seen)?;
    ensure!(seen["config"]["User"] == "fleeti", "skopeo reads {seen}");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::check;

    const GOOD: &str = "-rwxr-xr-x root/root 1 2026-11-30 00:00 ./usr/bin/fleeti-server\n\
        -rwxr-xr-x root/root 1 2026-11-30 00:00 ./usr/bin/fleeti-signer\n\
        -rwxr-xr-x root/root 1 2026-11-30 00:00 ./usr/bin/fleeti\n\
        drwx--x--- fleeti/fleeti 0 2026-11-30 00:00 ./var/lib/fleeti/\n\
        drwx------ fleeti-signer/fleeti-signer 0 2026-11-30 00:00 ./var/lib/fleeti-signer/pki/\n\
        drwxr-x--- fleeti-signer/fleeti-signer 0 2026-11-30 00:00 ./run/fleeti-signer/\n\
        -rw-r--r-- root/root 1 2026-11-30 00:00 ./etc/fleeti/server.conf\n";

    #[test]
    fn a_wrong_owner_a_missing_program_or_a_secret_in_an_image_is_found() {
        check(GOOD).unwrap();
        let secret = "-rw------- fleeti/fleeti 65 2026-11-30 00:00 ./var/lib/fleeti/admin.token\n";
        for (bad, said) in [
            (GOOD.replace("fleeti/fleeti", "root/root"), "expected drwx--x--- fleeti/fleeti"),
            (GOOD.replace("bin/fleeti-signer", "bin/other"), "no ./usr/bin/fleeti-signer"),
            (format!("{GOOD}{secret}"), "admin.token is in the image"),
        ] {
            let error = check(&bad).unwrap_err().to_string();
            assert!(error.contains(said), "{error}");
        }
    }
}
