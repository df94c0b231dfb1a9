//! Device certificates through the whole path (token, proof of possession, intent, signature,
//! outcome, durable row), beside cfssl, which stores nothing, and `openssl ca`, which stores a text
//! file. Also the audit log: the cost of an entry, and of a proof among a million entries.

use super::organisation::Organisation;
use super::process::{Peer, children_cpu_s, cpu_s, free_port, spent_s};
use super::{Record, Scale};
use anyhow::{Context, Result, bail, ensure};
use fleeti_core::canonical::sha256_hex;
use fleeti_core::enrollment::token::Terms;
use fleeti_core::wire::enrollment::EnrollRequest;
use fleeti_pki::audit::{Act, verify_proof};
use fleeti_pki::csr;
use fleeti_pki::signer::{Algorithm, SoftKey};
use fleeti_signer::limits::Limits;
use fleeti_signer::service::SigningService;
use fleeti_signer_client::wire::{Request, Response};
use fleeti_store::{self as store, Db};
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use rustls_pki_types::ServerName;
use std::fs;
use std::net::SocketAddr;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Instant, SystemTime, UNIX_EPOCH};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// Rounds, in each of which every server is measured once: other processes on the machine may slow
/// one turn, but never speed it up.
const ROUNDS: usize = 5;
const CONNECTIONS: usize = 96;
/// Entries of the audit log in one request to the signing service.
const BATCH: u64 = 10_000;

fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs())
}

/// Runs the scenario in a folder.
///
/// # Errors
/// If a server does not start or sign.
pub fn run(dir: &Path, scale: Scale) -> Result<Vec<Record>> {
    let mut records = certificates(dir, scale)?;
    records.extend(audit(&dir.join("certificates_p384_per_cpu_s"), &dir.join("audit"), scale)?);
    records.extend(super::boot::run(&dir.join("boot"), scale)?);
    Ok(records)
}

/// Measures certificates only.
///
/// # Errors
/// If a server does not start or sign.
pub fn certificates(dir: &Path, scale: Scale) -> Result<Vec<Record>> {
    let (of_one_turn, by_openssl) = scale.pick((1500, 300), (20, 3));
    let requests = requests(of_one_turn)?;
    let mut records = Vec::new();
    for (name, algorithm) in [
        ("certificates_p384_per_cpu_s", Algorithm::P384),
        ("certificates_p256_per_cpu_s", Algorithm::P256),
    ] {
        let folder = dir.join(name);
        let mut organisation = Organisation::found(&folder)?;
        organisation.replace_device_ca(algorithm)?;
        let ours = Ours::start(&mut organisation)?;
        let cfssl = Cfssl::start(&organisation, &folder)?;
        let openssl = Openssl::new(&organisation, &folder)?;
        let mut rates = [const { Vec::new() }; 3];
        for requests in requests.chunks(of_one_turn) {
            rates[0].push(ours.sign(requests)?);
            rates[1].push(cfssl.sign(requests)?);
            rates[2].push(openssl.sign(&requests[..by_openssl])?);
        }
        for (mut rates, by) in rates.into_iter().zip(["fleeti", "cfssl", "openssl ca"]) {
            rates.sort_by(f64::total_cmp);
            eprintln!(
                "    {by}: {:.0} to {:.0}, median {:.0}",
                rates[0],
                rates[ROUNDS - 1],
                rates[ROUNDS / 2]
            );
            records.push(Record::new(name, rates[ROUNDS - 1], "1/CPU-s", by));
        }
    }
    Ok(records)
}

/// Requests of devices, each with its own key.
fn requests(of_one_turn: usize) -> Result<Vec<String>> {
    (0..ROUNDS * of_one_turn)
        .map(|_| Ok(csr::create(&SoftKey::generate(Algorithm::P256)?)?))
        .collect()
}

fn runtime() -> Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?)
}

/// Server and signing service, each a process.
struct Ours {
    database: PathBuf,
    port: SocketAddr,
    tls: Arc<rustls::ClientConfig>,
    ids: [u32; 2],
    runtime: tokio::runtime::Runtime,
}

impl Ours {
    fn start(organisation: &mut Organisation) -> Result<Self> {
        organisation.world.certificates_per_minute = Some(1_000_000);
        let port = organisation.start_server()?.https;
        let world = &organisation.world;
        Ok(Self {
            database: world.path("server/fleeti.db"),
            port,
            tls: organisation.anonymous_tls()?,
            ids: [world.server_id()?, world.signer_id()?],
            runtime: runtime()?,
        })
    }

    fn cpu_s(&self) -> Result<f64> {
        self.ids.iter().map(|id| cpu_s(*id)).sum()
    }

    /// Certificates per second of CPU.
    #[allow(clippy::cast_precision_loss)]
    fn sign(&self, requests: &[String]) -> Result<f64> {
        let tokens: Vec<String> =
            requests.iter().map(|_| hex::encode(rand::random::<[u8; 32]>())).collect();
        self.runtime.block_on(async {
            let db = Db::open(&self.database).await?;
            let mut tx = db.write().await?;
            for token in &tokens {
                store::enrollments::insert(
                    &mut tx,
                    &sha256_hex(token.as_bytes()),
                    &"bench".parse()?,
                    &Terms::until(now_s() + 3600),
                )
                .await?;
            }
            tx.commit().await?;
            db.close().await;
            anyhow::Ok(())
        })?;
        let bodies = tokens.into_iter().zip(requests).map(|(token, csr_pem)| {
            let request = EnrollRequest {
                token,
                csr_pem: csr_pem.clone(),
                architecture: fleeti_core::id::Architecture::X86_64,
                running: "kiosk@1".parse()?,
                tpm: None,
            };
            Ok(serde_json::to_vec(&request)?)
        });
        let bodies = bodies.collect::<Result<Vec<_>>>()?;
        let senders = self.runtime.block_on(connect(self.port, Some(&self.tls)))?;
        let before = self.cpu_s()?;
        self.runtime.block_on(post_all(senders, "/enroll", bodies))?;
        Ok(requests.len() as f64 / spent_s(before, self.cpu_s()?))
    }
}

struct Cfssl {
    port: SocketAddr,
    peer: Peer,
}

impl Cfssl {
    fn start(organisation: &Organisation, folder: &Path) -> Result<Self> {
        let port = free_port()?;
        let config = serde_json::json!({"signing": {"default": {"usages": ["digital signature", "client auth"], "expiry": "720h"}}});
        fs::write(folder.join("cfssl.json"), config.to_string())?;
        let (certificate, key) = organisation.device_ca_files(folder)?;
        let text = |path: &Path| path.display().to_string();
        let arguments = [
            "serve".to_owned(),
            format!("-ca={}", text(&certificate)),
            format!("-ca-key={}", text(&key)),
            format!("-config={}", text(&folder.join("cfssl.json"))),
            "-address=127.0.0.1".to_owned(),
            format!("-port={}", port.port()),
            "-loglevel=5".to_owned(),
        ];
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let peer = Peer::start("/usr/bin/cfssl", &arguments, port, &folder.join("cfssl.log"))?;
        Ok(Self { port, peer })
    }

    /// Certificates per second of CPU.
    #[allow(clippy::cast_precision_loss)]
    fn sign(&self, requests: &[String]) -> Result<f64> {
        let bodies = requests
            .iter()
            .map(|csr| serde_json::json!({"certificate_request": csr}).to_string().into_bytes())
            .collect();
        let runtime = runtime()?;
        let senders = runtime.block_on(connect(self.port, None))?;
        let before = cpu_s(self.peer.id())?;
        runtime.block_on(post_all(senders, "/api/v1/cfssl/sign", bodies))?;
        Ok(requests.len() as f64 / spent_s(before, cpu_s(self.peer.id())?))
    }
}

/// One process for a whole turn.
struct Openssl {
    dir: PathBuf,
}

impl Openssl {
    fn new(organisation: &Organisation, folder: &Path) -> Result<Self> {
        let (certificate, key) = organisation.device_ca_files(folder)?;
        let dir = folder.join("openssl");
        fs::create_dir_all(dir.join("certs"))?;
        fs::write(dir.join("index.txt"), "")?;
        fs::write(dir.join("serial"), "1000\n")?;
        let config = format!(
            "[ca]\ndefault_ca=d\n[d]\ndatabase={0}/index.txt\nserial={0}/serial\nnew_certs_dir={0}/certs\ncertificate={1}\nprivate_key={2}\n\
             default_md=sha384\ndefault_days=30\nunique_subject=no\npolicy=p\nx509_extensions=x\n[p]\ncommonName=supplied\n\
             [x]\nbasicConstraints=critical,CA:false\nkeyUsage=critical,digitalSignature\nextendedKeyUsage=clientAuth\n\
             subjectKeyIdentifier=hash\nauthorityKeyIdentifier=keyid\n",
            dir.display(),
            certificate.display(),
            key.display()
        );
        fs::write(dir.join("ca.cnf"), config)?;
        Ok(Self { dir })
    }

    /// Certificates per second of CPU.
    #[allow(clippy::cast_precision_loss)]
    fn sign(&self, requests: &[String]) -> Result<f64> {
        let mut command = Command::new("openssl");
        command
            .args(["ca", "-batch", "-notext", "-config"])
            .arg(self.dir.join("ca.cnf"))
            .arg("-infiles");
        for (i, csr) in requests.iter().enumerate() {
            let path = self.dir.join(format!("{i}.csr"));
            fs::write(&path, csr)?;
            command.arg(path);
        }
        let before = children_cpu_s()?;
        let output = command.stdin(Stdio::null()).output().context("openssl")?;
        ensure!(output.status.success(), "openssl ca: {}", String::from_utf8_lossy(&output.stderr));
        Ok(requests.len() as f64 / spent_s(before, children_cpu_s()?))
    }
}

type Sender = SendRequest<Full<Bytes>>;

/// Posts every body once, over open connections; `channel` measures handshakes.
async fn post_all(senders: Vec<Sender>, path: &'static str, bodies: Vec<Vec<u8>>) -> Result<()> {
    let (bodies, next) = (Arc::new(bodies), Arc::new(AtomicUsize::new(0)));
    let failed = Arc::new(Mutex::new(None));
    let mut tasks = Vec::new();
    for mut sender in senders {
        let (bodies, next, failed) = (Arc::clone(&bodies), Arc::clone(&next), Arc::clone(&failed));
        tasks.push(tokio::spawn(async move {
            loop {
                let Some(body) = bodies.get(next.fetch_add(1, Ordering::Relaxed)) else { return };
                if let Err(e) = post(&mut sender, path, body.clone()).await {
                    *failed.lock().unwrap_or_else(PoisonError::into_inner) = Some(e);
                    return;
                }
            }
        }));
    }
    for task in tasks {
        task.await?;
    }
    match failed.lock().unwrap_or_else(PoisonError::into_inner).take() {
        Some(e) => Err(e),
        None => Ok(()),
    }
}

async fn connect(port: SocketAddr, tls: Option<&Arc<rustls::ClientConfig>>) -> Result<Vec<Sender>> {
    let mut senders = Vec::with_capacity(CONNECTIONS);
    for _ in 0..CONNECTIONS {
        let tcp = TcpStream::connect(port).await?;
        tcp.set_nodelay(true)?;
        senders.push(match tls {
            Some(tls) => {
                let stream = TlsConnector::from(Arc::clone(tls))
                    .connect(ServerName::try_from("localhost")?, tcp)
                    .await?;
                over(stream).await?
            }
            None => over(tcp).await?,
        });
    }
    Ok(senders)
}

async fn over(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) -> Result<Sender> {
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    Ok(sender)
}

async fn post(sender: &mut Sender, path: &str, body: Vec<u8>) -> Result<()> {
    sender.ready().await?;
    let request = hyper::Request::post(path)
        .header("host", "localhost")
        .header("content-type", "application/json");
    let response = sender.send_request(request.body(Full::new(Bytes::from(body)))?).await?;
    let status = response.status();
    let text = response.into_body().collect().await?.to_bytes();
    ensure!(
        status == 200 && text.windows(22).any(|w| w == b"-----BEGIN CERTIFICATE"),
        "{path}: {status} {}",
        String::from_utf8_lossy(&text)
    );
    Ok(())
}

#[allow(clippy::cast_precision_loss)]
fn audit(organisation: &Path, log: &Path, scale: Scale) -> Result<Vec<Record>> {
    let (appends, entries, proofs) = scale.pick((1000, 1_000_000, 1000), (20, 2000, 20));
    let keys = fleeti_signer::keys::open(
        &organisation.join("signer/pki"),
        &fs::read(organisation.join("passphrase"))?,
        None,
    )?;
    let key = keys.log.clone();
    // The clock of the benchmark stands still, so the limit of one minute must allow all requests.
    let limits = Limits { records_per_minute: u32::try_from(entries)?, ..Limits::default() };
    let mut service = SigningService::open(keys, log, limits)?;
    let now_s = now_s();
    // One at a time, so that each has its own flush.
    let started = Instant::now();
    for i in 0..appends {
        record(&mut service, now_s, i..i + 1)?;
    }
    let append_ms = started.elapsed().as_secs_f64() * 1000.0 / appends as f64;
    let mut next = appends;
    while next < entries {
        let end = entries.min(next + BATCH);
        record(&mut service, now_s, next..end)?;
        next = end;
    }
    let answers = service.perform(now_s, vec![Request::Checkpoint])?;
    ensure!(matches!(answers[..], [Response::Checkpoint { .. }]), "no checkpoint: {answers:?}");
    let mut times = Vec::with_capacity(usize::try_from(proofs)?);
    for i in 0..proofs {
        let started = Instant::now();
        let number = i * 7919 % entries;
        let mut answers = service.perform(now_s, vec![Request::Prove { number }])?;
        times.push(started.elapsed().as_secs_f64() * 1000.0);
        let Some(Response::Proof { proof }) = answers.pop() else {
            bail!("no proof of entry {number}: {answers:?}")
        };
        let proved = verify_proof(&proof, &key)?;
        let subject = &proved.entry().act.subject;
        ensure!(
            *subject == format!("subject {number}"),
            "the proof of entry {number} is about {subject:?}"
        );
    }
    let (proof_ms, slowest) =
        (times.iter().sum::<f64>() / proofs as f64, times.iter().copied().fold(0.0, f64::max));
    eprintln!("    the slowest of {proofs} proofs took {slowest:.3} ms");
    Ok(vec![
        Record::new("audit_append_ms", append_ms, "ms", "fleeti"),
        Record::new("inclusion_proof_1m_ms", proof_ms, "ms", "fleeti"),
    ])
}

/// Writes acts in one batch, and checks the returned entry numbers.
fn record(service: &mut SigningService, now_s: u64, numbers: Range<u64>) -> Result<()> {
    let acts = numbers
        .clone()
        .map(|i| Request::Record { act: Act::new("admin", "bench.act", format!("subject {i}")) });
    let answers = service.perform(now_s, acts.collect())?;
    ensure!(
        answers.len() as u64 == numbers.end - numbers.start,
        "{} answers for {numbers:?}",
        answers.len()
    );
    for (expected, answer) in numbers.zip(answers) {
        ensure!(
            matches!(answer, Response::Recorded { number } if number == expected),
            "entry {expected}: {answer:?}"
        );
    }
    Ok(())
}
