//! A signed repository of Debian packages on loopback, made and signed by Debian's own tools.

use anyhow::{Context, Result, ensure};
use sha2::{Digest, Sha256};
use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{SystemTime, UNIX_EPOCH};
use tempfile::TempDir;

/// Longest request line, bytes.
const LINE_MAX: u64 = 8192;

/// A repository with the suite `stable` and the component `main`.
#[derive(Debug)]
pub struct AptRepository {
    directory: TempDir,
    /// Address of the repository.
    pub url: String,
}

/// What a signed list says of itself.
#[derive(Debug, Clone, Copy, Default)]
pub struct Said {
    /// Its age, seconds.
    pub age_s: u64,
    /// Seconds from now until it expires.
    pub valid_s: Option<i64>,
}

fn run(program: &str, home: &Path, arguments: &[&str]) -> Result<Vec<u8>> {
    let output = Command::new(program)
        .args(arguments)
        .env("GNUPGHOME", home)
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .output()
        .with_context(|| program.to_owned())?;
    ensure!(
        output.status.success(),
        "{program} {arguments:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(output.stdout)
}

impl AptRepository {
    /// An empty repository, with a key of its own.
    ///
    /// # Errors
    /// I/O, or if gpg fails.
    pub fn new() -> Result<Self> {
        let directory = tempfile::Builder::new().prefix("apt").tempdir()?;
        fs::create_dir_all(directory.path().join("www/dists/stable/main/binary-amd64"))?;
        fs::create_dir_all(directory.path().join("www/pool"))?;
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let url = format!("http://{}", listener.local_addr()?);
        let root = directory.path().join("www");
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let root = root.clone();
                std::thread::spawn(move || answer(&stream, &root).ok());
            }
        });
        let repository = Self { directory, url };
        repository.change_key("vendor")?;
        Ok(repository)
    }

    fn home(&self) -> PathBuf {
        self.directory.path().join("gnupg")
    }

    /// The file that the repository serves at a path.
    #[must_use]
    pub fn file(&self, path: &str) -> PathBuf {
        self.directory.path().join("www").join(path)
    }

    /// Makes another key, which signs from now on.
    ///
    /// # Errors
    /// I/O, or if gpg fails.
    pub fn change_key(&self, name: &str) -> Result<()> {
        let home = self.home();
        self.stop_agent();
        let _ = fs::remove_dir_all(&home);
        fs::create_dir_all(&home)?;
        fs::set_permissions(&home, fs::Permissions::from_mode(0o700))?;
        let user = format!("{name} <{name}@example.com>");
        let make = ["--batch", "--quiet", "--pinentry-mode", "loopback", "--passphrase", ""];
        let key = ["--quick-gen-key", &user, "ed25519", "sign", "never"];
        run("gpg", &home, &[&make[..], &key[..]].concat()).map(drop)
    }

    /// The public key that signs, in armour.
    ///
    /// # Errors
    /// If gpg fails.
    pub fn key(&self) -> Result<String> {
        Ok(String::from_utf8(run("gpg", &self.home(), &["--armor", "--export"])?)?)
    }

    /// Adds a package with further fields, and returns its file.
    ///
    /// # Errors
    /// I/O, or if dpkg-deb fails.
    pub fn add(&self, name: &str, version: &str, fields: &str) -> Result<PathBuf> {
        let source = self.directory.path().join("source");
        let _ = fs::remove_dir_all(&source);
        let docs = source.join("usr/share/doc").join(name);
        fs::create_dir_all(source.join("DEBIAN"))?;
        fs::create_dir_all(&docs)?;
        let control = format!(
            "Package: {name}\nVersion: {version}\nArchitecture: amd64\nMaintainer: A <a@example.com>\n\
             Description: test\n{fields}"
        );
        fs::write(source.join("DEBIAN/control"), control)?;
        let changelog = docs.join("changelog.Debian");
        let text = format!("{name} ({version}) stable; urgency=high\n\n  * CVE-2026-0001\n");
        fs::write(&changelog, text)?;
        let changelog = changelog.display().to_string();
        run("gzip", &self.home(), &["-9n", &changelog])?;
        let deb = self.file(&format!("pool/{name}_{version}_amd64.deb"));
        let (source, target) = (source.display().to_string(), deb.display().to_string());
        run(
            "dpkg-deb",
            &self.home(),
            &["--root-owner-group", "-Zgzip", "--build", &source, &target],
        )?;
        Ok(deb)
    }

    /// Writes and signs the lists of all packages.
    ///
    /// # Errors
    /// I/O, or if gpg fails.
    pub fn sign(&self, said: Said) -> Result<()> {
        let mut list = String::new();
        for entry in fs::read_dir(self.file("pool"))? {
            let path = entry?.path();
            let fields = run("dpkg-deb", &self.home(), &["--field", &path.display().to_string()])?;
            let bytes = fs::read(&path)?;
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let _ = writeln!(
                list,
                "{}\nFilename: pool/{name}\nSize: {}\nSHA256: {}\n",
                String::from_utf8(fields)?.trim(),
                bytes.len(),
                hex::encode(Sha256::digest(&bytes))
            );
        }
        fs::write(self.file("dists/stable/main/binary-amd64/Packages"), &list)?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs().cast_signed();
        // It claims to be Debian's archive, which no rule must believe.
        let mut release = format!(
            "Origin: Debian\nLabel: Debian\nSuite: stable\nCodename: trixie\nDate: {}\n\
             Architectures: amd64\nComponents: main\n",
            self.date(now - said.age_s.cast_signed())?
        );
        if let Some(valid_s) = said.valid_s {
            let _ = writeln!(release, "Valid-Until: {}", self.date(now + valid_s)?);
        }
        let digest = hex::encode(Sha256::digest(list.as_bytes()));
        let _ = writeln!(release, "SHA256:\n {digest} {} main/binary-amd64/Packages", list.len());
        let (path, signed) =
            (self.file("dists/stable/Release"), self.file("dists/stable/InRelease"));
        fs::write(&path, release)?;
        let (path, signed) = (path.display().to_string(), signed.display().to_string());
        run(
            "gpg",
            &self.home(),
            &["--batch", "--yes", "--quiet", "--output", &signed, "--clearsign", &path],
        )
        .map(drop)
    }

    fn date(&self, at: i64) -> Result<String> {
        let at = format!("@{at}");
        let text = run("date", &self.home(), &["-u", "-d", &at, "+%a, %d %b %Y %H:%M:%S UTC"])?;
        Ok(String::from_utf8(text)?.trim().to_owned())
    }

    fn stop_agent(&self) {
        let _ = run("gpgconf", &self.home(), &["--kill", "gpg-agent"]);
    }
}

impl Drop for AptRepository {
    fn drop(&mut self) {
        self.stop_agent();
    }
}

fn answer(stream: &TcpStream, root: &Path) -> std::io::Result<()> {
    let mut lines = BufReader::new(std::io::Read::take(stream, LINE_MAX)).lines();
    let first = lines.next().transpose()?.unwrap_or_default();
    for line in lines {
        if line?.is_empty() {
            break;
        }
    }
    let path = first.split(' ').nth(1).unwrap_or_default().trim_start_matches('/').to_owned();
    let found = if path.contains("..") { None } else { fs::read(root.join(path)).ok() };
    let (status, body) = found.map_or(("404 Not Found", Vec::new()), |body| ("200 OK", body));
    let mut stream = stream;
    write!(
        stream,
        "HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    )?;
    stream.write_all(&body)
}
