//! A virtual machine: OVMF with Secure Boot, swtpm, a disk, and a serial console that is read
//! continuously.

use crate::qemu::{Accelerator, OVMF_CODE, OVMF_VARS, Tree, enroll_secure_boot};
use crate::tpm::swtpm;
use anyhow::{Context, Result, bail};
use std::fs;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

pub(crate) const MACHINE: [&str; 14] = [
    "-machine",
    "q35,smm=on",
    "-global",
    "driver=cfi.pflash01,property=secure,value=on",
    "-global",
    "ICH9-LPC.disable_s3=1",
    // With two processors, an emulated one sometimes loses its timer while Linux boots, and the
    // boot hangs.
    "-smp",
    "1",
    "-m",
    "1024",
    "-display",
    "none",
    "-nodefaults",
    "-no-user-config",
];

pub(crate) fn firmware(vars: &Path) -> [String; 4] {
    [
        "-drive".into(),
        format!("if=pflash,format=raw,unit=0,readonly=on,file={OVMF_CODE}"),
        "-drive".into(),
        format!("if=pflash,format=raw,unit=1,file={}", vars.display()),
    ]
}

/// Address of this host on the network of a machine's first network card.
pub const HOST: &str = "10.0.2.2";
/// Address of this host on the network of the second network card.
pub const SECOND_HOST: &str = "10.0.3.2";

/// Name of the virtio port at the first machine of a [`Cable`].
pub const FIRST_END: &str = "fleeti.first";
/// Name of the virtio port at the second machine.
pub const SECOND_END: &str = "fleeti.second";

/// A serial cable between two machines.
#[derive(Debug)]
pub struct Cable {
    /// A socket path has at most 108 characters, so it is not in a nested folder.
    folder: tempfile::TempDir,
}

impl Cable {
    /// A cable without connected machines.
    ///
    /// # Errors
    /// I/O.
    pub fn new() -> Result<Self> {
        Ok(Self { folder: tempfile::Builder::new().prefix("fleeti-cable").tempdir()? })
    }

    /// The end for the first machine.
    #[must_use]
    pub const fn first(&self) -> End<'_> {
        End { cable: self, name: FIRST_END, role: "server=on,wait=off" }
    }

    /// The end for the second machine, which may start before the first.
    #[must_use]
    pub const fn second(&self) -> End<'_> {
        End { cable: self, name: SECOND_END, role: "reconnect-ms=200" }
    }
}

/// An end of a [`Cable`]: `/dev/virtio-ports/NAME` of a machine. Unlike to a serial port, firmware
/// does not write to it.
#[derive(Debug, Clone, Copy)]
pub struct End<'a> {
    cable: &'a Cable,
    name: &'static str,
    role: &'static str,
}

impl End<'_> {
    fn arguments(self) -> [String; 6] {
        let Self { cable, name, role } = self;
        [
            "-chardev".into(),
            format!("socket,id=cable,path={},{role}", cable.folder.path().join("s").display()),
            "-device".into(),
            "virtio-serial-pci".into(),
            "-device".into(),
            format!("virtserialport,chardev=cable,name={name}"),
        ]
    }
}

/// Configuration of a machine.
#[derive(Debug)]
pub struct Machine<'a> {
    /// Folder with variables, TPM state and serial log.
    pub dir: &'a Path,
    /// Disk image.
    pub disk: &'a Path,
    /// Secure Boot certificates (`PK.pem`, `KEK.pem`, `db.pem`) that are already enrolled in the
    /// firmware. Without them it is in setup mode and enrolls those of the disk.
    pub public: Option<&'a Path>,
    /// File in `dir` with an SMBIOS OEM string.
    pub smbios: Option<&'a Path>,
    /// Further parts.
    pub parts: Parts,
    /// Cable to another machine.
    pub cable: Option<End<'a>>,
    /// How QEMU runs it.
    pub accelerator: Accelerator,
}

#[derive(Default)]
struct Console {
    lines: Vec<(Duration, String)>,
    ended: bool,
}

/// Parts of a machine that differ from the default.
#[derive(Debug, Clone, Copy, Default)]
pub struct Parts {
    /// Clock at power-on, as in `1970-01-01`; the current time by default.
    pub clock: Option<&'static str>,
    /// Without a TPM.
    pub no_tpm: bool,
    /// Its controllers.
    pub board: Board,
    /// With a second network card, on whose network this host is [`SECOND_HOST`].
    pub second_network: bool,
}

/// Controllers of a machine.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Board {
    /// Disk and network card of a virtual machine, and a TPM with the CRB interface.
    #[default]
    Virtio,
    /// A disk on NVMe, an Intel e1000e, and a TPM with the CRB interface.
    Nvme,
    /// A disk on SATA, an Intel e1000e, and a TPM with the TIS interface.
    Sata,
    /// A disk on USB, the network card of a virtual machine, and a TPM with the CRB interface.
    Usb,
}

impl Board {
    const fn disk(self) -> &'static [&'static str] {
        match self {
            Self::Virtio => &["-device", "virtio-blk-pci,drive=disk,bootindex=1"],
            Self::Nvme => &["-device", "nvme,drive=disk,serial=fleeti,bootindex=1"],
            // q35 has an AHCI controller.
            Self::Sata => &["-device", "ide-hd,drive=disk,bus=ide.0,bootindex=1"],
            Self::Usb => &["-device", "qemu-xhci", "-device", "usb-storage,drive=disk,bootindex=1"],
        }
    }
    const fn network_card(self) -> &'static str {
        match self {
            Self::Virtio | Self::Usb => "virtio-net-pci",
            Self::Nvme | Self::Sata => "e1000e",
        }
    }
    const fn tpm(self) -> &'static str {
        match self {
            Self::Virtio | Self::Nvme | Self::Usb => "tpm-crb",
            Self::Sata => "tpm-tis",
        }
    }
}

/// A running machine; killed when dropped.
pub struct Vm {
    qemu: Child,
    swtpm: Option<Child>,
    console: Arc<(Mutex<Console>, Condvar)>,
    started: Instant,
    log: PathBuf,
}

impl Vm {
    /// Starts a machine. Its folder keeps variables and TPM state between runs.
    ///
    /// # Errors
    /// If swtpm or QEMU do not start.
    pub fn start(tree: &Tree, machine: &Machine<'_>) -> Result<Self> {
        let dir = fs::canonicalize(machine.dir).context("the machine's folder")?;
        let vars = dir.join("vars.fd");
        if !vars.exists() {
            match machine.public {
                Some(public) => enroll_secure_boot(tree, &fs::canonicalize(public)?, &vars)?,
                None => drop(fs::copy(OVMF_VARS, &vars)?),
            }
        }
        // A socket path has at most 108 characters, so it is not in a nested folder.
        let sockets = tempfile::Builder::new().prefix("fleeti-tpm").tempdir()?.keep();
        let socket = sockets.join("s");
        let swtpm =
            if machine.parts.no_tpm { None } else { Some(start_swtpm(&dir.join("tpm"), &socket)?) };
        let disk = fs::canonicalize(machine.disk).context("the disk")?;
        let disk_folder = disk.parent().context("the disk's folder")?;
        let mut shared = vec![&*dir, disk_folder, &sockets, Path::new("/usr/share/OVMF")];
        shared.extend(machine.cable.map(|end| end.cable.folder.path()));
        let mut command = tree.command("qemu-system-x86_64", &shared);
        command.args(MACHINE).args(machine.accelerator.arguments()).args(firmware(&vars));
        command.arg("-drive").arg(format!(
            "if=none,id=disk,format=raw,file={},cache=unsafe,discard=unmap",
            disk.display()
        ));
        let board = machine.parts.board;
        command.args(board.disk());
        if swtpm.is_some() {
            command.arg("-chardev").arg(format!("socket,id=tpm,path={}", socket.display()));
            command.args(["-tpmdev", "emulator,id=tpm0,chardev=tpm"]);
            command.args(["-device", &format!("{},tpmdev=tpm0", board.tpm())]);
        }
        if let Some(clock) = machine.parts.clock {
            command.args(["-rtc", &format!("base={clock}T00:00:00")]);
        }
        command.args(["-netdev", "user,id=net"]);
        command.args(["-device", &format!("{},netdev=net,romfile=", board.network_card())]);
        command.args(["-device", "virtio-rng-pci", "-serial", "stdio"]);
        if machine.parts.second_network {
            command.args(["-netdev", &format!("user,id=second,net=10.0.3.0/24,host={SECOND_HOST},dns=10.0.3.3,dhcpstart=10.0.3.15")]);
            command.args(["-device", "virtio-net-pci,netdev=second,romfile="]);
        }
        command.args(machine.cable.map(End::arguments).into_iter().flatten());
        if let Some(file) = machine.smbios {
            command.arg("-smbios").arg(format!("type=11,path={}", file.display()));
        }
        let log = dir.join("serial.log");
        let mut qemu = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::from(fs::File::create(dir.join("qemu.log"))?))
            .spawn()
            .context("starting qemu")?;
        let console = Arc::new((Mutex::new(Console::default()), Condvar::new()));
        let stdout = qemu.stdout.take().context("qemu's stdout")?;
        let started = Instant::now();
        let file = fs::OpenOptions::new().create(true).append(true).open(&log)?;
        std::thread::spawn({
            let console = Arc::clone(&console);
            move || read_console(stdout, file, started, &console)
        });
        Ok(Self { qemu, swtpm, console, started, log })
    }

    /// Starts a kernel with an initramfs: no firmware, TPM, disk or network card.
    ///
    /// # Errors
    /// If QEMU does not start.
    pub fn start_kernel(
        tree: &Tree,
        dir: &Path,
        kernel: &Path,
        initramfs: &Path,
        accelerator: Accelerator,
    ) -> Result<Self> {
        let dir = fs::canonicalize(dir).context("the machine's folder")?;
        let files = [fs::canonicalize(kernel)?, fs::canonicalize(initramfs)?];
        let folders: Vec<&Path> = files.iter().filter_map(|f| f.parent()).collect();
        let mut command = tree.command("qemu-system-x86_64", &[&folders[..], &[&dir]].concat());
        command.args([
            "-machine",
            "q35",
            "-smp",
            "2",
            "-m",
            "3072",
            "-display",
            "none",
            "-nodefaults",
            "-no-user-config",
            "-no-reboot",
        ]);
        command
            .args(accelerator.arguments())
            .arg("-kernel")
            .arg(&files[0])
            .arg("-initrd")
            .arg(&files[1]);
        command.args([
            "-append",
            "console=ttyS0 panic=-1 quiet systemd.show_status=0",
            "-serial",
            "stdio",
        ]);
        let log = dir.join("serial.log");
        let errors = Stdio::from(fs::File::create(dir.join("qemu.log"))?);
        let mut qemu = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(errors)
            .spawn()
            .context("starting qemu")?;
        let console = Arc::new((Mutex::new(Console::default()), Condvar::new()));
        let stdout = qemu.stdout.take().context("qemu's stdout")?;
        let started = Instant::now();
        let file = fs::OpenOptions::new().create(true).append(true).open(&log)?;
        std::thread::spawn({
            let console = Arc::clone(&console);
            move || read_console(stdout, file, started, &console)
        });
        Ok(Self { qemu, swtpm: None, console, started, log })
    }

    /// Waits for a line with `text`, from line `from` on. Returns its number and text.
    ///
    /// # Errors
    /// After `timeout`, or if the machine ends, with the last lines of the console.
    pub fn wait_for(&self, text: &str, from: usize, timeout: Duration) -> Result<(usize, String)> {
        let (mutex, condvar) = &*self.console;
        let deadline = Instant::now() + timeout;
        let mut console = mutex.lock().unwrap_or_else(PoisonError::into_inner);
        let mut next = from;
        loop {
            while next < console.lines.len() {
                if console.lines[next].1.contains(text) {
                    return Ok((next, console.lines[next].1.clone()));
                }
                next += 1;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() || console.ended {
                let tail: Vec<_> =
                    console.lines.iter().rev().take(15).rev().map(|l| l.1.as_str()).collect();
                let why = if console.ended { "the machine ended" } else { "timeout" };
                bail!(
                    "{why} before the console of {} said {text:?}; its last lines:\n{}",
                    self.log.display(),
                    tail.join("\n")
                );
            }
            console = condvar.wait_timeout(console, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Number of lines so far.
    #[must_use]
    pub fn lines(&self) -> usize {
        self.console.0.lock().unwrap_or_else(PoisonError::into_inner).lines.len()
    }

    /// Time since power-on.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// Cuts the power.
    pub fn power_off(&mut self) {
        for child in std::iter::once(&mut self.qemu).chain(&mut self.swtpm) {
            child.kill().ok();
            child.wait().ok();
        }
    }
}

impl Drop for Vm {
    fn drop(&mut self) {
        self.power_off();
    }
}

/// A TPM with its state in a folder, and a socket.
fn start_swtpm(tpm: &Path, socket: &Path) -> Result<Child> {
    fs::create_dir_all(tpm)?;
    // Listen before swtpm runs: the machine waits for its first response.
    let control = UnixListener::bind(socket)?;
    let started = swtpm(tpm, "startup-clear")
        .args(["--ctrl", "type=unixio,fd=0"])
        .stdin(OwnedFd::from(control))
        .spawn();
    started.context("starting swtpm")
}

fn read_console(
    mut from: impl Read,
    mut log: fs::File,
    started: Instant,
    console: &(Mutex<Console>, Condvar),
) {
    let (mut buffer, mut pending) = ([0u8; 4096], Vec::new());
    loop {
        let n = from.read(&mut buffer).unwrap_or(0);
        pending.extend_from_slice(&buffer[..n]);
        let mut new = Vec::new();
        while let Some(end) = pending.iter().position(|b| *b == b'\n') {
            let line: Vec<u8> = pending.drain(..=end).collect();
            let text = plain(&line);
            if !text.is_empty() {
                new.push((started.elapsed(), text));
            }
        }
        for (at, text) in &new {
            writeln!(log, "{:8.2} {text}", at.as_secs_f64()).ok();
        }
        let mut state = console.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.lines.append(&mut new);
        state.ended = n == 0;
        console.1.notify_all();
        if n == 0 {
            return;
        }
    }
}

/// Text without escape sequences (ECMA-48) and control characters.
fn plain(line: &[u8]) -> String {
    let text = String::from_utf8_lossy(line);
    let mut out = String::new();
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        if c == '\u{1b}' {
            if chars.next_if_eq(&'[').is_some() {
                while chars.next().is_some_and(|c| !('@'..='~').contains(&c)) {}
            } else {
                chars.next();
            }
        } else if !c.is_control() {
            out.push(c);
        }
    }
    out.trim().to_owned()
}
