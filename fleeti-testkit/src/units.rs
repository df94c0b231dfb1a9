//! Server, signing service and build worker, installed from the packages of `cargo xtask packages` and
//! started by systemd, in a virtual machine of Debian's packages.
//!
//! The machine has no disk and no network card. Its system is an initramfs that is copied to a
//! tmpfs once, so that systemd can create namespaces for services.

use crate::qemu::{Accelerator, Tree};
use crate::scenario::Scenario;
use crate::vm::Vm;
use crate::world::{BOOT, SOON, World};
use anyhow::{Context, Result, bail, ensure};
use fleeti_build::cache::Cache;
use std::fs;
use std::io::{BufWriter, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Prefix of the console line of a successful step.
const PASSED: &str = "fleeti-units: passed: ";
/// All steps of the script.
const STEPS: &[&str] = &[
    "the packages are installed, and their services wait for keys",
    "the installation says how to begin, and each step works",
    "signing service and server run",
    "systemd rates every service below its limit",
    "a client logs in with the fingerprint, and the API responds",
    "a build worker with its own token asks for builds",
    "each runs as its own user, without privileges, with seccomp",
    "the limits of the units apply",
    "no other user can read keys, tokens or database",
    "Nix builds in its sandbox, under the worker's restrictions",
    "the worker takes a build, and reports why it fails here",
    "a killed server is restarted, and the waiting worker reconnects",
    "a killed worker is restarted",
    "a killed signing service is restarted, and the server reconnects",
    "six failures in a row do not stop a service",
];

/// Script that runs from power-on until systemd starts.
const INIT: &str = r#"#!/bin/sh
set -e
mount -t devtmpfs dev /dev || true
mkdir -p /new
mount -t tmpfs -o size=90%,mode=0755 root /new
for d in bin sbin lib lib64 usr etc var root opt srv; do
    if [ -e "/$d" ] || [ -L "/$d" ]; then cp -a "/$d" /new/; fi
done
mkdir -p /new/dev /new/proc /new/sys /new/run /new/tmp /new/home
exec switch_root /new /usr/lib/systemd/systemd
"#;

/// Checks the running units. Every step ends with its console line; a failure ends the script.
const CHECK: &str = r#"#!/bin/bash
export HOME=/root XDG_CONFIG_HOME=/root/.config NO_COLOR=1
passed() { echo "fleeti-units: passed: $1"; }
failed() {
    echo "fleeti-units: failed: $1"
    systemctl --no-pager --full status fleeti-signer.service fleeti-server.service fleeti-worker.service
    journalctl --no-pager -b -o cat -u fleeti-signer -u fleeti-server -u fleeti-worker -u fleeti-nix | tail -40
    exit 1
}
pid() { systemctl show -p MainPID --value "$1"; }
until_true() { for _ in $(seq 600); do "$@" > /dev/null 2>&1 && return 0; sleep 0.2; done; return 1; }
serves() { fleeti device list; }
field() { sed -n "s/^$2:[[:space:]]*//p" "/proc/$(pid "$1")/status"; }

dpkg -i /root/packages/*.deb > /root/said 2>&1 || failed "dpkg: $(cat /root/said)"
for unit in fleeti-signer fleeti-server fleeti-worker; do
    systemctl is-enabled $unit.service > /dev/null || failed "$unit is not enabled"
    [ "$(systemctl show -p ConditionResult --value $unit.service)" = no ] || failed "$unit does not wait for keys"
    [ "$(systemctl is-active $unit.service)" = inactive ] || failed "$unit is $(systemctl is-active $unit.service)"
done
passed "the packages are installed, and their services wait for keys"

grep -qF 'fleeti-install-keys pki' /root/said || failed "the installation says: $(cat /root/said)"
fleeti-install-keys /root/signer-pki --passphrase-file /root/passphrase --with-key host || failed "fleeti-install-keys"
rm -r /root/passphrase /root/signer-pki
until_true test -s /var/lib/fleeti/first-admin.link || failed "there is no link for the first administrator"
link=$(cat /var/lib/fleeti/first-admin.link)
case "$link" in http://127.0.0.1:8080/join/*) ;; *) failed "the link is $link" ;; esac
for page in "$link" http://127.0.0.1:8080/signin; do
    until_true busybox wget -q -O /root/page "$page" || failed "no answer from $page"
    grep -q '<title>' /root/page || failed "$page is not a page: $(cat /root/page)"
done
echo "FLEETI_OPTIONS=--api 0.0.0.0:8080 --name fleet.test --name 127.0.0.1" >> /etc/fleeti/server.conf
sed -i 's|^CRL_URL=.*|CRL_URL=http://127.0.0.1/{issuer}.crl|' /etc/fleeti/signer.conf
systemctl restart fleeti-signer.service fleeti-server.service || failed "the services do not restart"
passed "the installation says how to begin, and each step works"

until_true systemctl is-active fleeti-signer.service || failed "the signing service does not run"
until_true test -s /var/lib/fleeti/pki/admin/fingerprint || failed "the server has no fingerprint"
until_true systemctl is-active fleeti-server.service || failed "the server does not run"
passed "signing service and server run"

for rated in fleeti-signer:24 fleeti-server:24 fleeti-worker:32; do
    systemd-analyze security --no-pager --threshold "${rated##*:}" "${rated%%:*}.service" > /root/said ||
        failed "${rated%%:*}: $(grep Overall /root/said)"
done
passed "systemd rates every service below its limit"

until_true fleeti login https://127.0.0.1:8080 --fingerprint "$(cat /var/lib/fleeti/pki/admin/fingerprint)" \
    --token-file /var/lib/fleeti/admin.token || failed "login: $(fleeti login https://127.0.0.1:8080 \
    --fingerprint "$(cat /var/lib/fleeti/pki/admin/fingerprint)" --token-file /var/lib/fleeti/admin.token 2>&1)"
serves || failed "the API does not respond"
fleeti login https://127.0.0.1:8080 --fingerprint "sha256:$(printf '0%.0s' $(seq 64))" --token-file /var/lib/fleeti/admin.token \
    && failed "another key was accepted"
passed "a client logs in with the fingerprint, and the API responds"

fleeti worker add here --out /etc/fleeti/worker.token || failed "no token for a worker"
echo "FLEETI_SERVER=https://127.0.0.1:8080" > /etc/fleeti/worker.conf
echo "FLEETI_FINGERPRINT=$(cat /var/lib/fleeti/pki/admin/fingerprint)" >> /etc/fleeti/worker.conf
asked_s() { fleeti worker list --output json | sed -n 's/.*"seen_s": *\([0-9]*\).*/\1/p'; }
asks() { [ "$(asked_s)" -gt "$1" ]; }
systemctl start fleeti-worker.service || failed "the worker does not start"
until_true asks 0 || failed "the worker does not ask for a build"
passed "a build worker with its own token asks for builds"

for unit in fleeti-signer:fleeti-signer fleeti-server:fleeti fleeti-worker:fleeti-worker; do
    service=${unit%%:*}.service user=${unit##*:}
    [ "$(field $service Uid | cut -f1)" = "$(id -u $user)" ] || failed "$service runs as $(field $service Uid)"
    [ "$(field $service Uid | cut -f1)" != 0 ] || failed "$service runs as root"
    [ "$(field $service CapBnd)" = 0000000000000000 ] || failed "$service has capabilities $(field $service CapBnd)"
    [ "$(field $service NoNewPrivs)" = 1 ] || failed "$service may get privileges"
    [ "$(field $service Seccomp)" = 2 ] || failed "$service has no seccomp filter"
    [ "$(field $service Umask)" = 0077 ] || failed "$service has the umask $(field $service Umask)"
done
passed "each runs as its own user, without privileges, with seccomp"

grep -q "Max open files *65536 *65536" "/proc/$(pid fleeti-server.service)/limits" || failed "LimitNOFILE of the server"
for service in fleeti-signer fleeti-server fleeti-worker; do
    [ "$(cat /sys/fs/cgroup/system.slice/$service.service/memory.max)" != max ] || failed "MemoryMax of $service"
    [ "$(cat /sys/fs/cgroup/system.slice/$service.service/pids.max)" != max ] || failed "TasksMax of $service"
done
passed "the limits of the units apply"

for user in nobody fleeti-worker; do
    for file in /var/lib/fleeti/admin.token /var/lib/fleeti/accounts.key /var/lib/fleeti/fleeti.db /var/lib/fleeti/pki/admin/key.pem /var/lib/fleeti-signer/audit \
        /etc/fleeti/worker.token; do
        [ -e "$file" ] || failed "there is no $file"
        setpriv --reuid "$(id -u $user)" --regid "$(id -g $user)" --init-groups test -r "$file" && failed "$user reads $file"
    done
done
setpriv --reuid "$(id -u fleeti)" --regid "$(id -g fleeti)" --init-groups ls /var/lib/fleeti-signer/pki && failed "the server reads the keys"
passed "no other user can read keys, tokens or database"

# The worker's unit, once with another command.
sed -e "s|^ExecStart=.*|ExecStart=/usr/bin/nix-build $(cat /root/nix-options) --out-link /var/lib/fleeti-worker/seen /usr/local/lib/fleeti-nix|" \
    -e '/^Restart[A-Za-z]*=/d' -e 's/^User=/Type=oneshot\nUser=/' /usr/lib/systemd/system/fleeti-worker.service > /run/systemd/system/fleeti-nix.service
systemctl daemon-reload
systemctl start fleeti-nix.service || failed "Nix does not build there"
[ "$(cat /var/lib/fleeti-worker/seen)" = "user 0" ] || failed "Nix has built $(cat /var/lib/fleeti-worker/seen)"
passed "Nix builds in its sandbox, under the worker's restrictions"

fleeti build start /root/profile.toml --version 1 --wait && failed "an image was built without a mirror"
fleeti build list --output json | grep -q '"detail": *"apt-get failed' || failed "unexpected reason: $(fleeti build list --output json)"
passed "the worker takes a build, and reports why it fails here"

killed=$(pid fleeti-server.service) worker=$(pid fleeti-worker.service); kill -KILL "$killed"
is_new() { [ "$(pid fleeti-server.service)" != "$killed" ] && serves; }
until_true is_new || failed "the server was not restarted"
until_true asks "$(date +%s)" || failed "the worker does not reconnect to the server"
[ "$(pid fleeti-worker.service)" = "$worker" ] || failed "the worker did not wait for the server"
passed "a killed server is restarted, and the waiting worker reconnects"

killed=$(pid fleeti-worker.service); kill -KILL "$killed"
is_new() { p=$(pid fleeti-worker.service); [ "$p" != 0 ] && [ "$p" != "$killed" ]; }
until_true is_new || failed "the worker was not restarted"
until_true asks "$(date +%s)" || failed "the restarted worker does not ask for a build"
passed "a killed worker is restarted"

killed=$(pid fleeti-signer.service); kill -KILL "$killed"
is_new() { [ "$(pid fleeti-signer.service)" != "$killed" ] && systemctl is-active fleeti-signer.service && serves && signs; }
signs() { fleeti audit verify --key /var/lib/fleeti/pki/public/audit.pub; }
until_true is_new || failed "the signing service was not restarted"
passed "a killed signing service is restarted, and the server reconnects"

for n in $(seq 6); do
    killed=$(pid fleeti-signer.service)
    [ "$killed" != 0 ] && kill -KILL "$killed"
    is_next() { p=$(pid fleeti-signer.service); [ "$p" != 0 ] && [ "$p" != "$killed" ]; }
    until_true is_next || failed "the signing service is not running after $n failures"
done
until_true serves || failed "the server does not respond afterwards"
passed "six failures in a row do not stop a service"
echo "fleeti-units: all steps succeeded"
"#;

/// A build like those of images: a static executable in Nix's sandbox, which creates a root of its
/// own there.
const NIX: &str = r#"let
  folder = builtins.path { path = ./seed; name = "busybox-seed"; };
  busybox = "${folder}/busybox";
in derivation {
  name = "seen";
  system = "x86_64-linux";
  builder = busybox;
  args = [ "sh" "-euc" ''
    exec ${busybox} unshare -Urm ${busybox} sh -euc '
      B=${busybox} R=$NIX_BUILD_TOP/root
      $B mkdir -p $R/nix $R/build $R/proc
      for d in nix build proc; do $B mount --rbind /$d $R/$d; done
      $B chroot $R $B sh -euc "$B test ! -e /etc; $B echo user \$($B id -u) > $out"
    '
  '' ];
}
"#;

/// The options with which `fleeti-build` calls Nix.
const NIX_OPTIONS: &str = "--option build-users-group '' --option sandbox true --option sandbox-fallback false \
    --option substitute false --option sandbox-paths ''";

const CHECK_UNIT: &str = "[Service]\nType=oneshot\n\
    ExecStart=/root/check\nTimeoutStartSec=infinity\nStandardOutput=tty\nStandardError=tty\nTTYPath=/dev/ttyS0\n";

/// Makes the machine, starts it, and waits for every step.
///
/// # Errors
/// The output of the machine.
pub fn run(world: &World, scenario: &mut Scenario, cache: &Cache, packages: &Path) -> Result<()> {
    let system = Tree::system(cache)?;
    let image = world.path("units.cpio");
    let kernel = scenario.step(
        "a machine of Debian's packages with Nix, the packages of Fleeti, and the keys",
        |e| {
            let kernel = kernel(&system)?;
            let mut archive = Archive::create(&image)?;
            archive.tree(system.root(), Path::new(""))?;
            install(world, &system, packages, &mut archive)?;
            archive.end()?;
            e.push(format!("{} MiB in memory", fs::metadata(&image)?.len() >> 20));
            Ok(kernel)
        },
    )?;
    let tree = Tree::qemu(cache)?;
    let accelerator = Accelerator::probe(&tree);
    let folder = world.path("units");
    fs::create_dir_all(&folder)?;
    let vm = scenario.step("systemd starts it", |e| {
        let vm = Vm::start_kernel(&tree, &folder, &kernel, &image, accelerator)?;
        e.push(format!("QEMU with {accelerator:?}"));
        Ok(vm)
    })?;
    let mut seen = 0;
    for step in STEPS {
        scenario.step(step, |_| {
            let (line, said) = vm.wait_for("fleeti-units: ", seen, BOOT)?;
            seen = line + 1;
            if said.contains(&format!("{PASSED}{step}")) {
                return Ok(());
            }
            // The following lines explain the failure.
            let why = vm
                .wait_for("there is no such line", seen, std::time::Duration::from_secs(10))
                .err();
            bail!("{said}\n{}", why.map(|e| e.to_string()).unwrap_or_default())
        })?;
    }
    vm.wait_for("fleeti-units: all steps succeeded", seen, SOON).map(drop)
}

fn kernel(system: &Tree) -> Result<PathBuf> {
    let found = fs::read_dir(system.root().join("boot"))?.filter_map(|e| Some(e.ok()?.path()));
    let kernel = found
        .into_iter()
        .find(|p| p.file_name().is_some_and(|n| n.to_string_lossy().starts_with("vmlinuz-")));
    kernel.context("the packages have no kernel")
}

fn install(world: &World, system: &Tree, packages: &Path, archive: &mut Archive) -> Result<()> {
    archive.file("init", 0o755, INIT.as_bytes())?;
    for name in ["passwd", "group"] {
        let master = system.root().join(format!("usr/share/base-passwd/{name}.master"));
        archive.file(
            &format!("etc/{name}"),
            0o644,
            &fs::read(&master).with_context(|| master.display().to_string())?,
        )?;
    }
    archive.file("etc/shadow", 0o600, b"root:!:::::::\n")?;
    archive.file(
        "etc/machine-id",
        0o444,
        format!("{}\n", hex::encode(rand::random::<[u8; 16]>())).as_bytes(),
    )?;
    if fs::symlink_metadata(system.root().join("usr/bin/sh")).is_err() {
        archive.link("usr/bin/sh", "bash")?;
    }
    add_packages(packages, archive)?;
    // No login on the console: the check uses it.
    archive.link("etc/systemd/system/serial-getty@ttyS0.service", "/dev/null")?;
    archive
        .link("etc/systemd/system/default.target", "/usr/lib/systemd/system/multi-user.target")?;
    archive.file("root/check", 0o755, CHECK.as_bytes())?;
    archive.file("root/profile.toml", 0o644, &read("examples/profiles/kiosk.toml")?)?;
    archive.file("root/nix-options", 0o644, NIX_OPTIONS.as_bytes())?;
    archive.file("usr/local/lib/fleeti-nix/default.nix", 0o644, NIX.as_bytes())?;
    archive.file(
        "usr/local/lib/fleeti-nix/seed/busybox",
        0o755,
        &fs::read(system.root().join("usr/bin/busybox")).context("busybox")?,
    )?;
    archive.file("root/passphrase", 0o600, &fs::read(world.path("passphrase"))?)?;
    archive.tree(&world.path("signer/pki"), Path::new("root/signer-pki"))
}

/// A file of the repository.
fn read(path: &str) -> Result<Vec<u8>> {
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    fs::read(repository.join(path)).with_context(|| path.to_owned())
}

/// Copies the packages, and the check that installs them.
fn add_packages(packages: &Path, archive: &mut Archive) -> Result<()> {
    let mut count = 0;
    for entry in fs::read_dir(packages).with_context(|| packages.display().to_string())? {
        let path = entry?.path();
        let Some(name) = path.file_name().filter(|_| path.extension().is_some_and(|e| e == "deb"))
        else {
            continue;
        };
        let to = format!("root/packages/{}", name.to_string_lossy());
        archive.file(&to, 0o644, &fs::read(&path)?)?;
        count += 1;
    }
    ensure!(
        count == PACKAGES,
        "{} has {count} packages, expected {PACKAGES}; make them with `cargo xtask packages`",
        packages.display()
    );
    archive.file("etc/systemd/system/fleeti-check.service", 0o644, CHECK_UNIT.as_bytes())?;
    let check = "etc/systemd/system/multi-user.target.wants/fleeti-check.service";
    archive.link(check, "/etc/systemd/system/fleeti-check.service")
}

/// Packages of Fleeti.
const PACKAGES: usize = 5;

/// Parts of Debian's packages that this machine does not need.
const UNUSED: &[&str] = &[
    "boot",
    "usr/share/doc",
    "usr/share/man",
    "usr/share/locale",
    "usr/lib/modules",
    "usr/lib/firmware",
    "usr/share/i18n",
];

/// An initramfs (cpio, "newc").
struct Archive {
    out: BufWriter<fs::File>,
    written: u64,
    inode: u32,
    folders: std::collections::BTreeSet<String>,
}

impl Archive {
    fn create(path: &Path) -> Result<Self> {
        Ok(Self {
            out: BufWriter::new(fs::File::create(path)?),
            written: 0,
            inode: 0,
            folders: std::collections::BTreeSet::new(),
        })
    }

    fn entry(&mut self, name: &str, mode: u32, content: &[u8]) -> Result<()> {
        self.inode += 1;
        let size = u32::try_from(content.len()).with_context(|| format!("{name} is too large"))?;
        let length = u32::try_from(name.len() + 1)?;
        let mut header = String::from("070701");
        for field in [self.inode, mode, 0, 0, 1, 0, size, 0, 0, 0, 0, length, 0] {
            header.push_str(&format!("{field:08x}"));
        }
        self.put(header.as_bytes())?;
        self.put(name.as_bytes())?;
        self.put(&[0])?;
        self.pad()?;
        self.put(content)?;
        self.pad()
    }

    fn put(&mut self, bytes: &[u8]) -> Result<()> {
        self.written += bytes.len() as u64;
        Ok(self.out.write_all(bytes)?)
    }

    fn pad(&mut self) -> Result<()> {
        let missing = usize::try_from(self.written.next_multiple_of(4) - self.written)?;
        self.put(&[0; 3][..missing])
    }

    /// The parent folders of a path, which the kernel does not create.
    fn above(&mut self, name: &str) -> Result<()> {
        let folders: Vec<String> = Path::new(name)
            .ancestors()
            .skip(1)
            .map(|p| p.display().to_string())
            .filter(|p| !p.is_empty())
            .collect();
        for folder in folders.into_iter().rev() {
            self.folder(&folder, 0o755)?;
        }
        Ok(())
    }

    fn folder(&mut self, name: &str, mode: u32) -> Result<()> {
        if self.folders.insert(name.to_owned()) {
            self.entry(name, 0o040_000 | mode, &[])
        } else {
            Ok(())
        }
    }

    fn file(&mut self, name: &str, mode: u32, content: &[u8]) -> Result<()> {
        self.above(name)?;
        self.entry(name, 0o100_000 | mode, content)
    }

    fn link(&mut self, name: &str, to: &str) -> Result<()> {
        self.above(name)?;
        self.entry(name, 0o120_777, to.as_bytes())
    }

    fn tree(&mut self, from: &Path, to: &Path) -> Result<()> {
        let mut entries = fs::read_dir(from)
            .with_context(|| from.display().to_string())?
            .collect::<std::io::Result<Vec<_>>>()?;
        entries.sort_by_key(fs::DirEntry::file_name);
        for entry in entries {
            let (path, name) = (entry.path(), to.join(entry.file_name()).display().to_string());
            let metadata = fs::symlink_metadata(&path)?;
            let mode = metadata.permissions().mode() & 0o7777;
            if UNUSED.contains(&name.as_str()) {
                continue;
            }
            if metadata.is_symlink() {
                // The folders may exist already: packages contain links for them.
                self.link(&name, &fs::read_link(&path)?.display().to_string())?;
            } else if metadata.is_dir() {
                self.above(&name)?;
                self.folder(&name, mode)?;
                self.tree(&path, Path::new(&name))?;
            } else if metadata.is_file() {
                ensure!(metadata.size() < 1 << 30, "{name} is too large");
                self.file(&name, mode, &fs::read(&path)?)?;
            }
        }
        Ok(())
    }

    fn end(mut self) -> Result<()> {
        self.inode = 0;
        self.entry("TRAILER!!!", 0, &[])?;
        Ok(self.out.flush()?)
    }
}
