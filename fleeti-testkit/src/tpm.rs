//! A TPM of its own for a test: swtpm with a maker of its own, spoken to by tpm2-tools.

use crate::vm::tethered;
use anyhow::{Context, Result, bail, ensure};
use fleeti_agent::Paths;
use fleeti_agent::privileged::{Helper, Request, Response, measured};
use fleeti_core::wire::device::EnrollmentRecord;
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

/// Tries to find ports.
const TRIES_MAX: u32 = 20;
/// Ports of the loopback that TPMs have, in pairs: below those of the kernel's choice
/// (`ip_local_port_range`).
const PORTS: Range<u16> = 20_000..32_000;
/// How long swtpm may take to answer; it has ended long before, if it does not.
const PATIENCE: Duration = Duration::from_secs(60);
/// What swtpm is asked: `CMD_GET_CAPABILITY` of its control channel (swtpm_ioctls(3)).
const GET_CAPABILITY: u32 = 1;

/// For openssl, in the folder of a maker.
const OPENSSL_CNF: &str = "[req]\ndistinguished_name = name\nprompt = no\n[name]\nCN = maker of TPMs\n\
    [maker]\nbasicConstraints = critical,CA:TRUE\nkeyUsage = critical,keyCertSign,cRLSign\nsubjectKeyIdentifier = hash\n[ca]\ndefault_ca = own\n\
    [own]\ndatabase = index.txt\ncertificate = issuercert.pem\nprivate_key = signkey.pem\ndefault_md = sha256\n\
    crlnumber = number\ncrl_extensions = list\n[list]\nauthorityKeyIdentifier = keyid\n";

/// A maker of TPMs in software: what swtpm_localca keeps.
pub struct Maker {
    dir: PathBuf,
    /// Taken away with the maker, where its folder is nobody else's.
    _folder: Option<tempfile::TempDir>,
}

impl Maker {
    /// A new one; it makes its keys with its first TPM.
    ///
    /// # Errors
    /// When the folder cannot be written.
    pub fn new() -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let maker = Self::at(folder.path())?;
        Ok(Self { _folder: Some(folder), ..maker })
    }

    /// The one in this folder, which is made.
    ///
    /// # Errors
    /// When the folder cannot be written.
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

    /// The certificate that signs those of its TPMs, PEM.
    ///
    /// # Errors
    /// When its first TPM cannot be made.
    pub fn certificate_pem(&self) -> Result<String> {
        let path = self.dir.join("issuercert.pem");
        if !path.exists() {
            // It makes its own keys with its first TPM, which nobody needs.
            self.make(tempfile::tempdir()?.path())?;
        }
        Ok(fs::read_to_string(path)?)
    }

    /// The certificate above that one, PEM.
    ///
    /// # Errors
    /// When its first TPM cannot be made.
    pub fn root_pem(&self) -> Result<String> {
        self.certificate_pem()?;
        Ok(fs::read_to_string(self.dir.join("swtpm-localca-rootca-cert.pem"))?)
    }

    /// One whose certificate may sign revocation lists as well, which swtpm_localca's own may not.
    ///
    /// # Errors
    /// When openssl fails.
    pub fn with_lists() -> Result<Self> {
        let maker = Self::new()?;
        fs::write(maker.dir.join("openssl.cnf"), OPENSSL_CNF)?;
        fs::write(maker.dir.join("index.txt"), "")?;
        fs::write(maker.dir.join("number"), "01")?;
        maker.openssl(
            "req -x509 -newkey rsa:2048 -nodes -keyout signkey.pem -out issuercert.pem -days 30 -config openssl.cnf -extensions maker",
        )?;
        Ok(maker)
    }

    /// A revocation list by it (DER) that ends in a day, with these certificates (DER) and those of
    /// its lists before.
    ///
    /// # Errors
    /// For a maker that is not [`Maker::with_lists`].
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

    /// Makes a TPM with endorsement keys (RSA-2048 and P-384) and their certificates, in `state`.
    ///
    /// # Errors
    /// When swtpm_setup fails.
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

/// A running TPM; its power is cut when it is dropped.
pub struct Tpm {
    dir: tempfile::TempDir,
    process: Child,
    port: u16,
}

impl Tpm {
    /// One by this maker, started.
    ///
    /// # Errors
    /// When swtpm does not start.
    pub fn new(maker: &Maker) -> Result<Self> {
        let dir = tempfile::Builder::new().prefix("fleeti-tpm").tempdir()?;
        let state = dir.path().join("state");
        fs::create_dir(&state)?;
        maker.make(&state)?;
        let (process, port) = started(dir.path())?;
        Ok(Self { dir, process, port })
    }

    /// One that nobody vouches for, started.
    ///
    /// # Errors
    /// When swtpm does not start.
    pub fn without_maker() -> Result<Self> {
        let dir = tempfile::Builder::new().prefix("fleeti-tpm").tempdir()?;
        fs::create_dir(dir.path().join("state"))?;
        let (process, port) = started(dir.path())?;
        Ok(Self { dir, process, port })
    }

    /// Measures what logs say: each event of firmware, then each word of user space into register
    /// 11.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub fn measure(&self, firmware_log: &[u8], phases: &[&str]) -> Result<()> {
        let log = FirmwareLog::parse(firmware_log)?;
        let phases = phases.iter().map(|p| (11, Hash::Sha256.digest(&[p.as_bytes()])));
        let all = log.events().iter().map(|e| (e.register, e.digest.to_vec())).chain(phases);
        let words: Vec<String> = all
            .map(|(register, digest)| format!("{register}:sha256={}", hex::encode(digest)))
            .collect();
        self.tool(&format!("tpm2_pcrextend {}", words.join(" "))).map(drop)
    }

    /// What an agent's helper with this TPM sees, with logs in a folder of the TPM.
    ///
    /// # Errors
    /// When the logs cannot be written.
    pub fn paths(&self, firmware_log: &[u8], phases_log: &[u8]) -> Result<Paths> {
        let paths = Paths { tpm: Some(self.tcti()), ..Paths::below(self.dir.path()) };
        fs::write(&paths.firmware_log, firmware_log)?;
        fs::write(&paths.phases_log, phases_log)?;
        Ok(paths)
    }

    /// How a TPM library finds it (TCTI).
    #[must_use]
    pub fn tcti(&self) -> String {
        format!("swtpm:host=127.0.0.1,port={}", self.port)
    }

    /// Where tools leave their files.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// A file that a tool left.
    ///
    /// # Errors
    /// When it left none.
    pub fn file(&self, name: &str) -> Result<Vec<u8>> {
        let path = self.path(name);
        fs::read(&path).with_context(|| path.display().to_string())
    }

    /// Where such a file is.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Runs one of tpm2-tools in the folder of its files; the words as in a shell.
    ///
    /// # Errors
    /// With what the tool said.
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

    /// Several of them, a line each.
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

    /// Cuts the power and gives it back: registers begin anew, and nobody said goodbye.
    ///
    /// # Errors
    /// When swtpm does not start again.
    pub fn cut_power(&mut self) -> Result<()> {
        self.stop();
        (self.process, self.port) = started(self.dir.path())?;
        Ok(())
    }

    /// An orderly restart.
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

/// Starts swtpm at two ports of the loopback that follow one another, as TPM libraries expect of
/// it.
fn started(dir: &Path) -> Result<(Child, u16)> {
    for _ in 0..TRIES_MAX {
        let (port, control) = claimed_pair()?;
        // A bound socket can be handed over for control alone: for commands swtpm takes one that is
        // connected.
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
        // Somebody who knows nothing of claims took the first port meanwhile: swtpm has ended.
        process.kill().ok();
        process.wait()?;
    }
    bail!("swtpm did not start in {TRIES_MAX} tries")
}

/// Waits until swtpm answers at its control channel, which it does once it has both ports.
fn serves(control: u16) -> Result<()> {
    let mut stream = TcpStream::connect(("127.0.0.1", control))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(&GET_CAPABILITY.to_be_bytes())?;
    Ok(stream.read_exact(&mut [0; 4])?)
}

/// A free even port, and the socket at the odd one behind it: who holds the second has claimed
/// both. None of them is a port that the kernel gives to whoever asks for any, or connects from: a
/// connection that waits for such a port can be answered by itself.
fn claimed_pair() -> Result<(u16, TcpListener)> {
    for _ in 0..TRIES_MAX {
        let port = 2 * rand::random_range(PORTS.start / 2..PORTS.end / 2);
        let Ok(control) = TcpListener::bind(("127.0.0.1", port + 1)) else { continue };
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return Ok((port, control));
        }
    }
    bail!("no two ports that follow one another are free")
}

/// The helper of a device that has nothing but an enrollment record and a TPM, in a thread of its
/// own: TLS waits for its signatures. It ends with this process.
///
/// # Errors
/// When its socket cannot be made.
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

/// What a helper answers to what is about the TPM.
///
/// # Errors
/// When the TPM refuses, or the question is about something else.
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
        other => bail!("this device does not {other:?}"),
    })
}

/// What systemd writes into its log for these phases of a boot.
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
