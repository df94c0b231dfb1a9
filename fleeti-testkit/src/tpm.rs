//! swtpm for one test, with its own manufacturer, used through tpm2-tools.

use crate::tether::tethered;
use anyhow::{Context, Result, bail, ensure};
use fleeti_agent::Paths;
use fleeti_agent::privileged::{Helper, Request, Response, measured};
use fleeti_core::wire::enrollment::EnrollmentRecord;
use fleeti_pki::measured::log::FirmwareLog;
use fleeti_pki::tpm::Hash;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::ops::Range;
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// Attempts to find free ports.
const TRIES_MAX: u32 = 20;
/// Range of loopback ports for TPMs, in pairs: below the ports that the kernel assigns
/// (`ip_local_port_range`).
const PORTS: Range<u16> = 20_000..32_000;
/// Time limit for swtpm to respond; if it fails, it ends much earlier.
const PATIENCE: Duration = Duration::from_secs(60);
/// Request to swtpm: `CMD_GET_CAPABILITY` of its control channel (swtpm_ioctls(3)).
const GET_CAPABILITY: u32 = 1;

/// Configuration of openssl, in the folder of a manufacturer.
const OPENSSL_CNF: &str = "[req]\ndistinguished_name = name\nprompt = no\n[name]\nCN = manufacturer of TPMs\n\
    [manufacturer]\nbasicConstraints = critical,CA:TRUE\nkeyUsage = critical,keyCertSign,cRLSign\nsubjectKeyIdentifier = hash\n[ca]\ndefault_ca = own\n\
    [own]\ndatabase = index.txt\ncertificate = issuercert.pem\nprivate_key = signkey.pem\ndefault_md = sha256\n\
    crlnumber = number\ncrl_extensions = list\n[list]\nauthorityKeyIdentifier = keyid\n";

/// A manufacturer of software TPMs: the state of swtpm_localca.
pub struct Manufacturer {
    dir: PathBuf,
    /// Temporary folder of the manufacturer, removed with it.
    _folder: Option<tempfile::TempDir>,
}

impl Manufacturer {
    /// A new manufacturer. It makes its keys with its first TPM.
    ///
    /// # Errors
    /// If the folder cannot be written.
    pub fn new() -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let manufacturer = Self::at(folder.path())?;
        Ok(Self { _folder: Some(folder), ..manufacturer })
    }

    /// The manufacturer of this folder, which is created if missing.
    ///
    /// # Errors
    /// If the folder cannot be written.
    pub fn at(dir: &Path) -> Result<Self> {
        fs::create_dir_all(dir)?;
        let at = dir.display();
        let write = |name: &str, text: String| fs::write(dir.join(name), text);
        write(
            "localca.conf",
            format!(
                "statedir = {at}\nsigningkey = {at}/signkey.pem\nissuercert = {at}/issuercert.pem\ncertserial = {at}/certserial\n"
            ),
        )?;
        write(
            "localca.options",
            "--platform-manufacturer fleeti --platform-version 1 --platform-model test\n".into(),
        )?;
        let conf = format!(
            "create_certs_tool = /usr/bin/swtpm_localca\ncreate_certs_tool_config = {at}/localca.conf\ncreate_certs_tool_options = {at}/localca.options\nactive_pcr_banks = sha256\n"
        );
        write("setup.conf", conf)?;
        Ok(Self { dir: dir.to_owned(), _folder: None })
    }

    /// The certificate that issues endorsement certificates, PEM.
    ///
    /// # Errors
    /// If its first TPM cannot be made.
    pub fn certificate_pem(&self) -> Result<String> {
        let path = self.dir.join("issuercert.pem");
        if !path.exists() {
            // Its keys are made with its first TPM, which is not used.
            self.make(tempfile::tempdir()?.path())?;
        }
        Ok(fs::read_to_string(path)?)
    }

    /// The issuer of that certificate, PEM.
    ///
    /// # Errors
    /// If its first TPM cannot be made.
    pub fn root_pem(&self) -> Result<String> {
        self.certificate_pem()?;
        Ok(fs::read_to_string(self.dir.join("swtpm-localca-rootca-cert.pem"))?)
    }

    /// A manufacturer whose certificate may also sign CRLs; that of swtpm_localca may not.
    ///
    /// # Errors
    /// If openssl fails.
    pub fn with_lists() -> Result<Self> {
        let manufacturer = Self::new()?;
        fs::write(manufacturer.dir.join("openssl.cnf"), OPENSSL_CNF)?;
        fs::write(manufacturer.dir.join("index.txt"), "")?;
        fs::write(manufacturer.dir.join("number"), "01")?;
        manufacturer.openssl(
            "req -x509 -newkey rsa:2048 -nodes -keyout signkey.pem -out issuercert.pem -days 30 -config openssl.cnf -extensions manufacturer",
        )?;
        Ok(manufacturer)
    }

    /// A CRL of the manufacturer (DER), valid for one day, with these certificates (DER) and those
    /// of its earlier CRLs.
    ///
    /// # Errors
    /// If the manufacturer is not of [`Manufacturer::with_lists`].
    pub fn list(&self, revoked: &[Vec<u8>]) -> Result<Vec<u8>> {
        for certificate in revoked {
            fs::write(self.dir.join("revoked.der"), certificate)?;
            self.openssl("x509 -inform DER -in revoked.der -out revoked.pem")?;
            self.openssl("ca -config openssl.cnf -revoke revoked.pem -crl_reason keyCompromise")?;
        }
        self.openssl("ca -config openssl.cnf -gencrl -crldays 1 -out list.pem")?;
        self.openssl("crl -in list.pem -outform DER -out list.crl")?;
        Ok(fs::read(self.dir.join("list.crl"))?)
    }

    fn openssl(&self, line: &str) -> Result<()> {
        let output = Command::new("openssl")
            .args(line.split_whitespace())
            .current_dir(&self.dir)
            .stdin(Stdio::null())
            .output()?;
        ensure!(
            output.status.success(),
            "openssl {line}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(())
    }

    /// Makes a TPM in `state`, with endorsement keys (RSA-2048 and P-384) and their certificates.
    ///
    /// # Errors
    /// If swtpm_setup fails.
    pub fn make(&self, state: &Path) -> Result<()> {
        let output = Command::new("swtpm_setup")
            .args(["--tpm2", "--create-ek-cert", "--ecc", "--pcr-banks", "sha256", "--tpmstate"])
            .arg(state)
            .arg("--config")
            .arg(self.dir.join("setup.conf"))
            .stdin(Stdio::null())
            .output()
            .context("swtpm_setup")?;
        ensure!(
            output.status.success(),
            "swtpm_setup: {}",
            String::from_utf8_lossy(&output.stdout)
        );
        Ok(())
    }
}

/// A running TPM; dropping it cuts its power.
pub struct Tpm {
    dir: tempfile::TempDir,
    process: Child,
    port: u16,
}

impl Tpm {
    /// Makes and starts a TPM of this manufacturer.
    ///
    /// # Errors
    /// If swtpm does not start.
    pub fn new(manufacturer: &Manufacturer) -> Result<Self> {
        let dir = tempfile::Builder::new().prefix("fleeti-tpm").tempdir()?;
        let state = dir.path().join("state");
        fs::create_dir(&state)?;
        manufacturer.make(&state)?;
        let (process, port) = started(dir.path())?;
        Ok(Self { dir, process, port })
    }

    /// Makes and starts a TPM without endorsement certificates.
    ///
    /// # Errors
    /// If swtpm does not start.
    pub fn without_manufacturer() -> Result<Self> {
        let dir = tempfile::Builder::new().prefix("fleeti-tpm").tempdir()?;
        fs::create_dir(dir.path().join("state"))?;
        let (process, port) = started(dir.path())?;
        Ok(Self { dir, process, port })
    }

    /// Extends PCRs as the logs say: each event of the firmware log, then each event of the user
    /// space log into PCR 11.
    ///
    /// # Errors
    /// If the log cannot be read.
    pub fn measure(&self, firmware_log: &[u8], phases: &[&str]) -> Result<()> {
        let log = FirmwareLog::parse(firmware_log)?;
        let phases = phases.iter().map(|p| (11, Hash::Sha256.digest(&[p.as_bytes()])));
        let all = log.events().iter().map(|e| (e.pcr, e.digest.to_vec())).chain(phases);
        let words: Vec<String> =
            all.map(|(pcr, digest)| format!("{pcr}:sha256={}", hex::encode(digest))).collect();
        self.tool(&format!("tpm2_pcrextend {}", words.join(" "))).map(drop)
    }

    /// The paths of an agent's helper with this TPM, with logs in a folder of the TPM.
    ///
    /// # Errors
    /// If the logs cannot be written.
    pub fn paths(&self, firmware_log: &[u8], phases_log: &[u8]) -> Result<Paths> {
        let paths = Paths { tpm: Some(self.tcti()), ..Paths::below(self.dir.path()) };
        fs::write(&paths.firmware_log, firmware_log)?;
        fs::write(&paths.phases_log, phases_log)?;
        Ok(paths)
    }

    /// Address of the TPM for a TPM library (TCTI).
    #[must_use]
    pub fn tcti(&self) -> String {
        format!("swtpm:host=127.0.0.1,port={}", self.port)
    }

    /// Folder of the files that tools write.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Content of a file that a tool has written.
    ///
    /// # Errors
    /// If it does not exist.
    pub fn file(&self, name: &str) -> Result<Vec<u8>> {
        let path = self.path(name);
        fs::read(&path).with_context(|| path.display().to_string())
    }

    /// Path of such a file.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Runs a command of tpm2-tools in the folder of its files; words are separated by spaces.
    ///
    /// # Errors
    /// The output of the failed command.
    pub fn tool(&self, line: &str) -> Result<String> {
        let mut words = line.split_whitespace();
        let program = words.next().context("no tool")?;
        let output = Command::new(program)
            .args(words)
            .current_dir(self.dir.path())
            .env("TPM2TOOLS_TCTI", self.tcti())
            .stdin(Stdio::null())
            .output()
            .with_context(|| line.to_owned())?;
        let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        ensure!(output.status.success(), "{line}: {text}");
        Ok(text)
    }

    /// Runs several commands, one in each line.
    ///
    /// # Errors
    /// As [`Tpm::tool`].
    pub fn tools(&self, lines: &str) -> Result<()> {
        lines
            .lines()
            .map(str::trim)
            .filter(|l| !l.is_empty())
            .try_for_each(|line| self.tool(line).map(drop))
    }

    /// Cuts and restores the power: PCRs are reset without an orderly shutdown.
    ///
    /// # Errors
    /// If swtpm does not start again.
    pub fn cut_power(&mut self) -> Result<()> {
        self.stop();
        (self.process, self.port) = started(self.dir.path())?;
        Ok(())
    }

    /// Restarts the TPM after an orderly shutdown.
    ///
    /// # Errors
    /// As [`Tpm::cut_power`].
    pub fn restart(&mut self) -> Result<()> {
        self.tool("tpm2_shutdown --clear")?;
        self.cut_power()
    }

    fn stop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

impl Drop for Tpm {
    fn drop(&mut self) {
        self.stop();
    }
}

/// swtpm with this state; it ends with this process.
pub(crate) fn swtpm(state: &Path, flags: &str) -> Command {
    let mut command = tethered("swtpm");
    command
        .args(["socket", "--tpm2", "--flags", flags, "--tpmstate"])
        .arg(format!("dir={}", state.display()));
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command
}

/// Starts swtpm at two consecutive ports of the loopback, as TPM libraries expect.
fn started(dir: &Path) -> Result<(Child, u16)> {
    for _ in 0..TRIES_MAX {
        let (port, control) = claimed_pair()?;
        // swtpm accepts a bound socket for its control channel only; for commands it needs a
        // connected one.
        let mut process = swtpm(&dir.join("state"), "not-need-init,startup-clear")
            .args([
                "--server",
                &format!("type=tcp,port={port},bindaddr=127.0.0.1"),
                "--ctrl",
                "type=tcp,fd=0",
            ])
            .stdin(OwnedFd::from(control))
            .spawn()
            .context("starting swtpm")?;
        if serves(port + 1).is_ok() {
            return Ok((process, port));
        }
        // Another process has taken the first port, and swtpm has ended: try again.
        process.kill().ok();
        process.wait()?;
    }
    bail!("swtpm did not start in {TRIES_MAX} tries")
}

/// Waits until swtpm responds at its control channel, which happens after it has both ports.
fn serves(control: u16) -> Result<()> {
    let mut stream = TcpStream::connect(("127.0.0.1", control))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(&GET_CAPABILITY.to_be_bytes())?;
    Ok(stream.read_exact(&mut [0; 4])?)
}

/// A free even port, and the socket of the odd port after it. Holding the second port claims both.
/// The kernel assigns neither of them to other sockets: a client that waits for an assigned port
/// could connect to itself.
fn claimed_pair() -> Result<(u16, TcpListener)> {
    for _ in 0..TRIES_MAX {
        let port = 2 * rand::random_range(PORTS.start / 2..PORTS.end / 2);
        let Ok(control) = TcpListener::bind(("127.0.0.1", port + 1)) else { continue };
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return Ok((port, control));
        }
    }
    bail!("no two consecutive ports are free")
}

/// The helper of a device that has only an enrollment record and a TPM, in its own thread, because
/// TLS waits for its signatures. It ends with this process.
///
/// # Errors
/// If its socket cannot be created.
pub fn serve_helper(paths: &Paths, record: Option<EnrollmentRecord>) -> Result<Helper> {
    fs::create_dir_all(&paths.run)?;
    let listener = UnixListener::bind(paths.socket())?;
    let served = paths.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let conversed = stream
                .map_err(anyhow::Error::from)
                .and_then(|s| converse(&served, record.as_ref(), &s));
            if let Err(e) = conversed {
                eprintln!("helper: {e:#}");
            }
        }
    });
    Ok(Helper::at(paths.socket()))
}

fn converse(
    paths: &Paths,
    record: Option<&EnrollmentRecord>,
    mut stream: &UnixStream,
) -> Result<()> {
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line)?;
    let answered = match serde_json::from_str(&line)? {
        Request::EnrollmentRecord => Ok(Response::Record { record: record.cloned() }),
        request => answer(paths, request),
    };
    let answer = answered.unwrap_or_else(|e| {
        let code = fleeti_core::update::FailureCode::StageFailed;
        Response::Failed { code, detail: format!("{e:#}") }
    });
    Ok(stream.write_all(&[&serde_json::to_vec(&answer)?[..], b"\n"].concat())?)
}

/// Responds to requests of the helper protocol that are about the TPM.
///
/// # Errors
/// If the TPM refuses, or the request is not about the TPM.
pub fn answer(paths: &Paths, request: Request) -> Result<Response> {
    Ok(match request {
        Request::TpmIdentity => Response::Tpm { identity: measured::identity(paths)? },
        Request::TpmActivate { blob, secret } => {
            Response::Secret { secret: measured::activate(paths, &blob, &secret)? }
        }
        Request::DeviceKey { seed } => {
            Response::DeviceKey { public: measured::device_key(paths, &seed)? }
        }
        Request::Sign { seed, digest } => {
            Response::Signature { signature: measured::sign(paths, &seed, &digest)? }
        }
        Request::Certify { seed, occasion, channel } => {
            Response::Certified { key: measured::certify(paths, &seed, &occasion, &channel)? }
        }
        Request::Evidence { nonce, device } => {
            Response::Evidence { measured: Box::new(measured::evidence(paths, &nonce, &device)?) }
        }
        other => bail!("this device does not support {other:?}"),
    })
}

/// The log that systemd writes for these boot phases.
#[must_use]
pub fn phases_log(words: &[&str]) -> Vec<u8> {
    let record = |words: &&str| {
        let digest = hex::encode(Hash::Sha256.digest(&[words.as_bytes()]));
        format!(
            "\u{1e}{{\"pcr\":11,\"digests\":[{{\"hashAlg\":\"sha256\",\"digest\":\"{digest}\"}}],\"content_type\":\"systemd\",\"content\":{{\"string\":\"{words}\",\"eventType\":\"phase\"}}}}\n"
        )
    };
    words.iter().map(record).collect::<String>().into_bytes()
}
