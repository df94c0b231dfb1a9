//! Downloads packages into the cache.
//!
//! A package is written to `<sha256>.part`, hashed during the download, and renamed when its size
//! and its SHA-256 match the lock. After a broken connection the download is resumed (RFC 9110,
//! 14.2). Proxies are taken from the environment (`http_proxy`, `https_proxy`, `all_proxy`,
//! `no_proxy`).

use crate::file::{open_plain, sha256_file};
use crate::package::{Package, Sha256Text};
use futures::StreamExt;
use reqwest::header::{CONTENT_RANGE, RANGE};
use reqwest::{Client, StatusCode};
use sha2::{Digest, Sha256};
use std::fs;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::{Once, mpsc};
use std::time::Duration;

/// Number of parallel downloads.
const AT_ONCE: usize = 8;
/// How often a download is tried.
const ATTEMPTS_MAX: u32 = 4;
/// Time limit for a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(20);
/// Time limit for the next bytes.
const READ_TIMEOUT: Duration = Duration::from_secs(60);

/// Why a package could not be downloaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Problem {
    /// The mirror no longer has the package.
    Gone,
    /// The file does not match the lock.
    Digest { found: String },
    /// Any other error of the connection or the mirror.
    Failed(String),
}

/// Where a package is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Place {
    /// At an address.
    Url(String),
    /// On this machine.
    File(PathBuf),
}

/// How large a package is, bytes.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Length {
    /// As a list says.
    Exactly(u64),
    /// Known by its digest only.
    AtMost(u64),
}

impl Length {
    fn most(self) -> u64 {
        match self {
            Self::Exactly(size) | Self::AtMost(size) => size,
        }
    }
}

/// A package to download.
#[derive(Debug, Clone)]
pub(crate) struct Wanted {
    pub(crate) place: Place,
    pub(crate) sha256: Sha256Text,
    pub(crate) length: Length,
}

/// Whether the file is the package, by size and SHA-256.
pub(crate) fn is_whole(file: &Path, package: &Package) -> bool {
    fs::metadata(file).is_ok_and(|m| m.is_file() && m.len() == package.size)
        && sha256_file(file).is_ok_and(|found| found == *package.sha256)
}

/// Downloads packages into `folder`, each to a file named by its SHA-256. Returns those that
/// failed. `pause` is the time before the second attempt; it is twice and three times as long before
/// the next ones. Calls `done` after each package.
pub(crate) fn all(
    pause: Duration,
    folder: &Path,
    packages: &[Wanted],
    done: &mut dyn FnMut(),
) -> Vec<(usize, Problem)> {
    let (sender, results) = mpsc::channel();
    // A separate thread, because the caller may already be in a runtime.
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let failed = |e: &dyn std::fmt::Display| Problem::Failed(e.to_string());
            match runtime
                .map_err(|e| failed(&e))
                .and_then(|r| client().map(|c| (r, c)).map_err(|e| failed(&e)))
            {
                Ok((runtime, client)) => runtime.block_on(each(
                    &To { client: &client, pause, folder },
                    packages,
                    &sender,
                )),
                Err(problem) => {
                    (0..packages.len()).for_each(|at| drop(sender.send((at, Err(problem.clone())))))
                }
            }
        });
        results
            .into_iter()
            .inspect(|_| done())
            .filter_map(|(at, result)| result.err().map(|problem| (at, problem)))
            .collect()
    })
}

fn client() -> reqwest::Result<Client> {
    static PROVIDER: Once = Once::new();
    // Another part of the program may have installed a provider already, which then stays.
    PROVIDER.call_once(|| {
        rustls::crypto::aws_lc_rs::default_provider().install_default().ok();
    });
    Client::builder()
        .user_agent("fleeti")
        .connect_timeout(CONNECT_TIMEOUT)
        .read_timeout(READ_TIMEOUT)
        .build()
}

type Answer = (usize, Result<(), Problem>);

/// What all downloads of a call share.
struct To<'a> {
    client: &'a Client,
    pause: Duration,
    folder: &'a Path,
}

async fn each(to: &To<'_>, packages: &[Wanted], sender: &mpsc::Sender<Answer>) {
    let one = |(at, wanted): (usize, &Wanted)| {
        let wanted = wanted.clone();
        async move { (at, persistently(to, &wanted).await) }
    };
    let mut answers =
        futures::stream::iter(packages.iter().enumerate()).map(one).buffer_unordered(AT_ONCE);
    while let Some(answer) = answers.next().await {
        // If the receiver is gone, the caller has already failed.
        let _ = sender.send(answer);
    }
}

async fn persistently(to: &To<'_>, wanted: &Wanted) -> Result<(), Problem> {
    let url = match &wanted.place {
        Place::Url(url) => url,
        Place::File(path) => return copy(path, to.folder, wanted),
    };
    let mut attempt = 1;
    loop {
        match once(to, url, wanted).await {
            Err(Problem::Failed(_)) if attempt < ATTEMPTS_MAX => {
                tokio::time::sleep(to.pause * attempt).await;
                attempt += 1;
            }
            result => return result,
        }
    }
}

/// Copies a package of this machine.
fn copy(path: &Path, folder: &Path, wanted: &Wanted) -> Result<(), Problem> {
    let failed = |e: std::io::Error| Problem::Failed(format!("{}: {e}", path.display()));
    let size = wanted.length.most();
    let mut source = open_plain(path).map_err(failed)?.take(size + 1);
    let target = folder.join(format!("{}.part", wanted.sha256));
    let mut part = Part::open(target, 0).map_err(failed)?;
    part.begin_again().map_err(failed)?;
    let mut buffer = vec![0u8; 1 << 18];
    loop {
        let n = source.read(&mut buffer).map_err(failed)?;
        if n == 0 {
            break;
        }
        part.append(&buffer[..n]).map_err(failed)?;
    }
    let is_too_long = part.length > size;
    let found = hex::encode(part.hash.clone().finalize());
    if is_too_long || found != *wanted.sha256 {
        let _ = fs::remove_file(&part.path);
        // The digest of another file of this machine is not shown: a profile may name any path.
        let why = if is_too_long { "is too large" } else { "has another SHA-256" };
        return Err(Problem::Failed(format!("{} {why}", path.display())));
    }
    part.finish(folder, wanted)
}

/// The file that a package is downloaded to.
struct Part {
    path: PathBuf,
    file: fs::File,
    length: u64,
    hash: Sha256,
}

impl Part {
    /// Opens what an earlier attempt left, or an empty file.
    fn open(path: PathBuf, size: u64) -> std::io::Result<Self> {
        let mut file =
            fs::File::options().create(true).truncate(false).read(true).write(true).open(&path)?;
        let (mut hash, mut length, mut buffer) = (Sha256::new(), 0, vec![0u8; 1 << 18]);
        if file.metadata()?.len() < size {
            loop {
                let n = file.read(&mut buffer)?;
                if n == 0 {
                    break;
                }
                hash.update(&buffer[..n]);
                length += n as u64;
            }
        }
        let mut part = Self { path, file, length, hash };
        if part.length == 0 {
            part.begin_again()?;
        }
        Ok(part)
    }
    fn begin_again(&mut self) -> std::io::Result<()> {
        self.file.set_len(0)?;
        self.file.seek(SeekFrom::Start(0))?;
        (self.length, self.hash) = (0, Sha256::new());
        Ok(())
    }
    fn append(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.file.write_all(bytes)?;
        self.hash.update(bytes);
        self.length += bytes.len() as u64;
        Ok(())
    }
    /// Moves the file to its place, when its digest was compared.
    fn finish(self, folder: &Path, wanted: &Wanted) -> Result<(), Problem> {
        self.file
            .sync_all()
            .and_then(|()| fleeti_files::rename_durably(&self.path, &folder.join(&*wanted.sha256)))
            .map_err(|e| Problem::Failed(e.to_string()))
    }
}

async fn once(to: &To<'_>, url: &str, wanted: &Wanted) -> Result<(), Problem> {
    let failed = |e: &dyn std::fmt::Display| Problem::Failed(e.to_string());
    let size = wanted.length.most();
    let mut part = Part::open(to.folder.join(format!("{}.part", wanted.sha256)), size)
        .map_err(|e| failed(&e))?;
    let mut request = to.client.get(url);
    if part.length > 0 {
        request = request.header(RANGE, format!("bytes={}-", part.length));
    }
    let mut response = request.send().await.map_err(|e| failed(&e))?;
    let is_continued = part.length > 0 && response.status() == StatusCode::PARTIAL_CONTENT;
    let continues_here = || {
        let range =
            response.headers().get(CONTENT_RANGE).and_then(|v| v.to_str().ok()).unwrap_or_default();
        range.starts_with(&format!("bytes {}-", part.length))
    };
    match response.status() {
        StatusCode::OK => part.begin_again().map_err(|e| failed(&e))?,
        StatusCode::PARTIAL_CONTENT if is_continued && continues_here() => {}
        StatusCode::NOT_FOUND | StatusCode::GONE => {
            let _ = fs::remove_file(&part.path);
            return Err(Problem::Gone);
        }
        status => {
            part.begin_again().map_err(|e| failed(&e))?;
            return Err(Problem::Failed(format!("the mirror answered {status}")));
        }
    }
    while let Some(bytes) = response.chunk().await.map_err(|e| failed(&e))? {
        if part.length + bytes.len() as u64 > size {
            let _ = fs::remove_file(&part.path);
            return Err(Problem::Failed(format!("the mirror's file is longer than {size} bytes")));
        }
        part.append(&bytes).map_err(|e| failed(&e))?;
    }
    if part.length < size && matches!(wanted.length, Length::Exactly(_)) {
        return Err(Problem::Failed(format!(
            "the connection ended after {} of {size} bytes",
            part.length
        )));
    }
    let found = hex::encode(part.hash.clone().finalize());
    if found != *wanted.sha256 {
        let _ = fs::remove_file(&part.path);
        // A resumed file may have begun with wrong bytes.
        return Err(if is_continued {
            Problem::Failed("the resumed download does not match the lock".into())
        } else {
            Problem::Digest { found }
        });
    }
    part.finish(to.folder, wanted)
}

#[cfg(test)]
mod tests {
    use super::*;
    use fleeti_core::canonical::sha256_hex;
    use std::io::{BufRead, BufReader};
    use std::net::TcpListener;

    /// A mirror that accepts one connection after the other and sends what `answer` makes of the
    /// request's head.
    fn mirror(answers: Vec<fn(&str) -> Vec<u8>>) -> (String, std::thread::JoinHandle<Vec<String>>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/debian/", listener.local_addr().unwrap());
        let heads = std::thread::spawn(move || {
            let one = |answer: fn(&str) -> Vec<u8>| {
                let (mut stream, _) = listener.accept().unwrap();
                let lines =
                    BufReader::new(stream.try_clone().unwrap()).lines().map_while(Result::ok);
                let head = lines.take_while(|l| !l.is_empty()).collect::<Vec<_>>().join("\n");
                stream.write_all(&answer(&head)).unwrap();
                head
            };
            answers.into_iter().map(one).collect()
        });
        (url, heads)
    }

    const BODY: &[u8] = b"a package of some bytes";

    fn package() -> Package {
        let path = "pool/main/x/xx/xx_1_all.deb".parse().unwrap();
        let sha256 = sha256_hex(BODY).parse().unwrap();
        Package {
            name: "xx".parse().unwrap(),
            version: "1".parse().unwrap(),
            sha256,
            size: BODY.len() as u64,
            path,
            origin: None,
        }
    }

    fn whole(body: &[u8]) -> Vec<u8> {
        [
            format!(
                "HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
                body.len()
            )
            .as_bytes(),
            body,
        ]
        .concat()
    }

    /// The problems, and the request heads that the mirror received. Checks that afterwards only
    /// complete files are in place.
    fn fetched(
        answers: Vec<fn(&str) -> Vec<u8>>,
        before: Option<&[u8]>,
    ) -> (Vec<Problem>, Vec<String>) {
        let (url, heads) = mirror(answers);
        let dir = tempfile::tempdir().unwrap();
        let package = package();
        let wanted = Wanted {
            place: Place::Url(format!("{url}{}", package.path)),
            sha256: package.sha256.clone(),
            length: Length::Exactly(package.size),
        };
        if let Some(bytes) = before {
            fs::write(dir.path().join(format!("{}.part", package.sha256)), bytes).unwrap();
        }
        let mut finished = 0;
        let problems: Vec<_> = all(Duration::ZERO, dir.path(), &[wanted], &mut || finished += 1)
            .into_iter()
            .map(|(_, problem)| problem)
            .collect();
        assert_eq!(finished, 1);
        let file = dir.path().join(&*package.sha256);
        assert_eq!(is_whole(&file, &package), problems.is_empty());
        assert_eq!(file.exists(), problems.is_empty());
        (problems, heads.join().unwrap())
    }

    #[test]
    fn a_package_is_in_place_when_it_is_whole() {
        let (problems, heads) = fetched(vec![|_| whole(BODY)], None);
        assert_eq!(problems, []);
        assert!(
            heads[0].starts_with("GET /debian/pool/main/x/xx/xx_1_all.deb HTTP/1.1"),
            "{heads:?}"
        );
    }

    #[test]
    fn another_file_is_refused_and_left_nowhere() {
        let (problems, _) = fetched(vec![|_| whole(b"a package of other byte")], None);
        assert_eq!(problems, [Problem::Digest { found: sha256_hex(b"a package of other byte") }]);
    }

    #[test]
    fn a_file_that_is_longer_than_the_lock_says_is_not_read_to_its_end() {
        let (problems, _) = fetched(vec![|_| whole(&[0; 5000]); ATTEMPTS_MAX as usize], None);
        assert!(
            matches!(&problems[..], [Problem::Failed(why)] if why.contains("longer than 23 bytes")),
            "{problems:?}"
        );
    }

    #[test]
    fn what_a_broken_connection_left_is_continued() {
        let broken: fn(&str) -> Vec<u8> = |_| whole(BODY)[..whole(BODY).len() - 10].to_vec();
        let rest: fn(&str) -> Vec<u8> = |_| {
            [
                b"HTTP/1.1 206 Partial Content\r\ncontent-length: 10\r\ncontent-range: bytes 13-22/23\r\nconnection: close\r\n\r\n",
                &BODY[13..],
            ]
            .concat()
        };
        let (problems, heads) = fetched(vec![broken, rest], None);
        assert_eq!(problems, []);
        assert!(heads[1].contains("range: bytes=13-"), "{heads:?}");
    }

    #[test]
    fn a_file_that_is_there_already_is_not_taken() {
        let rest: fn(&str) -> Vec<u8> = |_| {
            [
                b"HTTP/1.1 206 Partial Content\r\ncontent-length: 10\r\ncontent-range: bytes 13-22/23\r\nconnection: close\r\n\r\n",
                &BODY[13..],
            ]
            .concat()
        };
        let (problems, heads) = fetched(vec![rest, |_| whole(BODY)], Some(b"something bad"));
        assert_eq!(problems, []);
        assert!(!heads[1].contains("range:"), "{heads:?}");
    }

    #[test]
    fn what_the_mirror_does_not_have_is_gone_at_once() {
        let (problems, heads) = fetched(
            vec![|_| {
                b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\nconnection: close\r\n\r\n".to_vec()
            }],
            None,
        );
        assert_eq!((problems, heads.len()), (vec![Problem::Gone], 1));
    }

    fn copied(bytes: &[u8], most: u64) -> Vec<(usize, Problem)> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.deb");
        fs::write(&path, bytes).unwrap();
        let wanted = Wanted {
            place: Place::File(path),
            sha256: package().sha256,
            length: Length::AtMost(most),
        };
        let problems = all(Duration::ZERO, dir.path(), &[wanted], &mut || {});
        assert_eq!(dir.path().join(&*package().sha256).exists(), problems.is_empty());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1 + usize::from(problems.is_empty()));
        problems
    }

    #[test]
    fn a_file_of_this_machine_is_taken_by_its_digest_and_no_other_is() {
        assert_eq!(copied(BODY, 1000), []);
        let text = |problems: &[(usize, Problem)]| format!("{problems:?}");
        let other = text(&copied(b"root:secret", 1000));
        assert!(other.contains("another SHA-256"), "{other}");
        // Nothing of the file is told.
        assert!(!other.contains(&sha256_hex(b"root:secret")), "{other}");
        assert!(text(&copied(BODY, 5)).contains("too large"));
    }

    #[test]
    fn a_package_of_unknown_size_is_taken_up_to_a_limit() {
        for (most, expected) in [(1000, 0), (5, 1)] {
            let (url, heads) = mirror(vec![|_| whole(BODY); if expected == 0 { 1 } else { 4 }]);
            let dir = tempfile::tempdir().unwrap();
            let wanted = Wanted {
                place: Place::Url(url),
                sha256: package().sha256,
                length: Length::AtMost(most),
            };
            assert_eq!(all(Duration::ZERO, dir.path(), &[wanted], &mut || {}).len(), expected);
            heads.join().unwrap();
        }
    }
}
