//! Runs health checks: what each kind looks at, when it is repeated, and when it has failed.

use crate::server_trust;
use anyhow::Context as _;
use fleeti_core::profile::{DiskCheck, HealthCheck, Probe};
use futures::future::join_all;
use reqwest::redirect::Policy;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;
use sysinfo::System;
use tokio::net::TcpStream;
use tokio::process::Command;
use tokio::time::{Instant, sleep, timeout_at};

/// Time between two attempts of a check.
const PAUSE: Duration = Duration::from_secs(1);

/// Maximum time of one attempt, so that a service that accepted a connection while it started and
/// then forgot it is asked again.
const ATTEMPT: Duration = Duration::from_secs(10);

/// Maximum length of the reason of a failure, characters.
const WHY_MAX: usize = 500;

/// A check that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failed {
    /// Name of the check.
    pub name: String,
    /// Its weight, 1 to 100.
    pub weight: u32,
    /// What it found.
    pub why: String,
}

/// Runs every check until it passes or its time is over, at most until the deadline. Returns the
/// failed ones in the order of the profile.
///
/// A command runs alone, in its place: it may need what an earlier check waits for, and it may
/// change what another check looks at. Checks between two commands only look, and run together.
pub async fn run(checks: &[HealthCheck], deadline: Instant) -> Vec<Failed> {
    let mut failed = Vec::new();
    for together in checks.chunk_by(|a, b| a.command.is_empty() && b.command.is_empty()) {
        let results = join_all(together.iter().map(|check| run_one(check, deadline))).await;
        failed.extend(together.iter().zip(results).filter_map(|(check, result)| {
            let why = result.err()?.chars().take(WHY_MAX).collect();
            Some(Failed { name: check.name.clone(), weight: check.weight, why })
        }));
    }
    failed
}

async fn run_one(check: &HealthCheck, deadline: Instant) -> Result<(), String> {
    let now = Instant::now();
    let limit = Duration::from_secs(check.timeout_s.into());
    let time = Time { limit: limit.min(deadline.duration_since(now)), pause: PAUSE };
    match check.probe().ok_or("names nothing to look at, or several things")? {
        Probe::Command(command) => run_command(command, time.limit).await,
        Probe::Unit(unit) => time.until_passed(async || is_active(systemctl(unit)).await).await,
        Probe::Http(url) => time.until_passed(async || answers(url).await).await,
        Probe::Tcp(address) => time.until_passed(async || accepts(address).await).await,
        Probe::File(file) => time.until_passed(async || exists(file).await).await,
        Probe::Disk(disk) => time.until_passed(async || has_free_space(disk).await).await,
        Probe::MemoryFree(mib) => time.until_passed(async || has_free_memory(mib)).await,
    }
}

/// The time that a check has.
#[derive(Debug, Clone, Copy)]
struct Time {
    /// From its start to its failure.
    limit: Duration,
    /// Between two attempts.
    pause: Duration,
}

impl Time {
    /// Repeats a check until it passes. Returns what the last attempt found otherwise.
    async fn until_passed(
        self,
        mut attempt: impl AsyncFnMut() -> Result<(), String>,
    ) -> Result<(), String> {
        let deadline = Instant::now() + self.limit;
        loop {
            let limit = deadline.min(Instant::now() + ATTEMPT);
            let why = match timeout_at(limit, attempt()).await {
                Ok(Ok(())) => return Ok(()),
                Ok(Err(why)) => why,
                Err(_) => no_answer(ATTEMPT.min(self.limit)),
            };
            if Instant::now() + self.pause > deadline {
                return Err(why);
            }
            sleep(self.pause).await;
        }
    }
}

fn no_answer(after: Duration) -> String {
    format!("no answer after {} s", after.as_secs())
}

/// A command must exit with 0. It runs once.
async fn run_command(command: &[String], limit: Duration) -> Result<(), String> {
    let (program, arguments) = command.split_first().ok_or("has no command")?;
    let mut command = Command::new(program);
    command
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    let child = command.spawn().map_err(|e| format!("{program}: {e}"))?;
    let output = tokio::time::timeout(limit, child.wait_with_output()).await;
    let output = output.map_err(|_| no_answer(limit))?.map_err(|e| e.to_string())?;
    if output.status.success() {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&output.stderr);
    Err(format!("{} {}", output.status, text.trim()).trim_end().to_owned())
}

/// Asks systemd for the state of a unit.
fn systemctl(unit: &str) -> Command {
    let mut command = Command::new("/usr/bin/systemctl");
    command.args(["is-active", "--", unit]);
    command
}

/// `systemctl is-active` prints the state, and exits with 0 if the unit is active.
async fn is_active(mut systemctl: Command) -> Result<(), String> {
    systemctl.stdin(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
    let output = systemctl.output().await.map_err(|e| format!("systemctl: {e}"))?;
    if output.status.success() {
        return Ok(());
    }
    let state = String::from_utf8_lossy(&output.stdout);
    Err(match state.trim() {
        "" => format!("systemctl: {}", output.status),
        state => format!("the unit is {state}"),
    })
}

/// A URL on the device must answer with a status from 200 to 399.
async fn answers(url: &str) -> Result<(), String> {
    let status = status(url).await.map_err(|e| format!("{e:#}"))?;
    if (200..400).contains(&status) { Ok(()) } else { Err(format!("status {status}")) }
}

/// The status of a response. A redirect is not followed: it may lead away from the device, and a
/// service that redirects works.
async fn status(url: &str) -> anyhow::Result<u16> {
    let this_device =
        [SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), SocketAddr::from((Ipv6Addr::LOCALHOST, 0))];
    let client = reqwest::Client::builder()
        // The check asks whether a service of this device answers. The certificate of such a
        // service names the device, not the loopback address.
        .tls_backend_preconfigured(server_trust::danger::of_any_server()?)
        .no_proxy()
        .redirect(Policy::none())
        .resolve_to_addrs("localhost", &this_device)
        .build()?;
    let response = client.get(url).send().await.map_err(reqwest::Error::without_url)?;
    Ok(response.status().as_u16())
}

/// `ADDRESS:PORT` must accept connections.
async fn accepts(address: &str) -> Result<(), String> {
    let stream = TcpStream::connect(address).await.map_err(|e| e.to_string())?;
    // A connection to a free port of the loopback address can meet itself.
    let ends = (stream.local_addr(), stream.peer_addr());
    match ends {
        (Ok(local), Ok(peer)) if local != peer => Ok(()),
        _ => Err("nothing listens".to_owned()),
    }
}

/// A file must exist.
async fn exists(file: &str) -> Result<(), String> {
    tokio::fs::metadata(file).await.map(drop).map_err(|e| e.to_string())
}

/// A directory must have a minimum of free space.
async fn has_free_space(disk: DiskCheck<'_>) -> Result<(), String> {
    let path = Path::new(disk.path).to_owned();
    // A file system that does not answer must not stop the other checks.
    let read = tokio::task::spawn_blocking(move || {
        rustix::fs::statvfs(&path).with_context(|| path.display().to_string())
    });
    let read = read.await.map_err(|e| e.to_string())?.map_err(|e| format!("{e:#}"))?;
    // Without the blocks that only root can use.
    let free_mib = read.f_bavail.saturating_mul(read.f_frsize) >> 20;
    enough("free", free_mib, disk.free_mib)
}

/// The kernel must be able to give a minimum of memory to a program (`MemAvailable` of
/// `proc_meminfo(5)`).
fn has_free_memory(wanted_mib: u32) -> Result<(), String> {
    let mut system = System::new().map_err(|e| e.to_string())?;
    system.refresh_memory();
    enough("available", system.available_memory() >> 20, wanted_mib)
}

fn enough(what: &str, found_mib: u64, wanted_mib: u32) -> Result<(), String> {
    if found_mib >= wanted_mib.into() {
        return Ok(());
    }
    Err(format!("{found_mib} MiB {what}, expected at least {wanted_mib} MiB"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;
    use std::sync::Arc;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;
    use tokio::sync::Barrier;

    fn command(command: &[&str], timeout_s: u32) -> HealthCheck {
        HealthCheck::of_command("x", command, timeout_s)
    }

    fn check(name: &str) -> HealthCheck {
        HealthCheck::of_command(name, &[], 30)
    }

    fn later() -> Instant {
        Instant::now() + Duration::from_secs(60)
    }

    /// Why a check fails; `None` if it passes.
    async fn why(check: HealthCheck) -> Option<String> {
        run(&[check], later()).await.pop().map(|failed| failed.why)
    }

    async fn listener() -> (TcpListener, SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        (listener, address)
    }

    /// An HTTP server that gives this head to every request, once as many wait as it should have
    /// together.
    async fn server(head: &'static str, together: usize) -> SocketAddr {
        let (listener, address) = listener().await;
        let all = Arc::new(Barrier::new(together));
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let all = Arc::clone(&all);
                tokio::spawn(async move {
                    let read = stream.read(&mut [0; 4096]).await.unwrap();
                    assert!(read > 0, "a request");
                    all.wait().await;
                    let answer = format!("HTTP/1.1 {head}\r\nContent-Length: 0\r\n\r\n");
                    stream.write_all(answer.as_bytes()).await.unwrap();
                });
            }
        });
        address
    }

    /// An address on which nothing listens.
    async fn free() -> SocketAddr {
        listener().await.1
    }

    #[tokio::test]
    async fn a_command_passes_fails_with_its_words_or_runs_out_of_time() {
        assert_eq!(why(command(&["/bin/true"], 5)).await, None);
        let said = why(command(&["/bin/sh", "-c", "echo no screen >&2; exit 3"], 5)).await.unwrap();
        assert!(said.contains("no screen") && said.contains('3'), "{said}");
        let said = why(command(&["/bin/sleep", "60"], 0)).await.unwrap();
        assert!(said.contains("no answer"), "{said}");
        assert!(why(command(&["/does/not/exist"], 5)).await.is_some());
    }

    #[tokio::test]
    async fn a_unit_must_be_active_and_its_state_is_named() {
        let shell = |script: &str| {
            let mut command = Command::new("/bin/sh");
            command.args(["-c", script]);
            command
        };
        assert_eq!(is_active(shell("echo active")).await, Ok(()));
        let failed = is_active(shell("echo failed; exit 3")).await.unwrap_err();
        assert_eq!(failed, "the unit is failed");
        let silent = is_active(shell("exit 1")).await.unwrap_err();
        assert_eq!(silent, "systemctl: exit status: 1");
        assert!(is_active(Command::new("/does/not/exist")).await.is_err());
        let asked = systemctl("--help.service");
        let words: Vec<_> = asked.as_std().get_args().collect();
        assert_eq!(words, ["is-active", "--", "--help.service"]);
    }

    #[tokio::test]
    async fn a_url_must_answer_with_200_to_399_and_no_redirect_is_followed() {
        let ask = async |head| answers(&format!("http://{}/", server(head, 1).await)).await;
        assert_eq!(ask("200 OK").await, Ok(()));
        // The address is one of documentation (RFC 5737): following it would end in an error.
        assert_eq!(ask("302 Found\r\nLocation: http://192.0.2.1/").await, Ok(()));
        assert_eq!(ask("404 Not Found").await.unwrap_err(), "status 404");
        assert_eq!(ask("503 Service Unavailable").await.unwrap_err(), "status 503");
        let nobody = format!("http://{}/", free().await);
        assert!(answers(&nobody).await.unwrap_err().contains("refused"));
    }

    #[tokio::test]
    async fn localhost_is_this_device() {
        let url = format!("http://localhost:{}/", server("200 OK", 1).await.port());
        assert_eq!(answers(&url).await, Ok(()));
    }

    #[tokio::test]
    async fn a_port_must_accept_connections() {
        let (_listener, address) = listener().await;
        assert_eq!(accepts(&address.to_string()).await, Ok(()));
        assert!(accepts(&free().await.to_string()).await.unwrap_err().contains("refused"));
    }

    #[tokio::test]
    async fn a_file_must_exist() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ready").display().to_string();
        assert!(exists(&path).await.unwrap_err().contains("No such file"));
        std::fs::write(&path, "").unwrap();
        assert_eq!(exists(&path).await, Ok(()));
    }

    #[tokio::test]
    async fn space_and_memory_are_compared_with_their_minimum() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().to_str().unwrap();
        assert_eq!(has_free_space(DiskCheck { path, free_mib: 1 }).await, Ok(()));
        let said = has_free_space(DiskCheck { path, free_mib: u32::MAX }).await.unwrap_err();
        assert!(said.ends_with("MiB free, expected at least 4294967295 MiB"), "{said}");
        let gone = DiskCheck { path: "/does/not/exist", free_mib: 1 };
        assert!(has_free_space(gone).await.unwrap_err().contains("/does/not/exist"));
        assert_eq!(has_free_memory(1), Ok(()));
        assert!(has_free_memory(u32::MAX).unwrap_err().contains("MiB available"));
    }

    #[tokio::test]
    async fn each_kind_of_check_is_carried_out() {
        let (_listener, address) = listener().await;
        let url = format!("http://{}/", server("200 OK", 1).await);
        for passes in [
            command(&["/bin/true"], 30),
            HealthCheck { http: Some(url), ..check("http") },
            HealthCheck { tcp: Some(address.to_string()), ..check("tcp") },
            HealthCheck { file: Some("/".into()), ..check("file") },
            HealthCheck { disk: Some("/:0M".into()), ..check("disk") },
            HealthCheck { memory_free_mib: Some(1), ..check("memory") },
        ] {
            let name = passes.name.clone();
            assert_eq!(why(passes).await, None, "{name}");
        }
        // No machine has this unit.
        let unit = Some("no-such-unit-of-fleeti.service".into());
        assert!(why(HealthCheck { unit, timeout_s: 0, ..check("unit") }).await.is_some());
    }

    #[tokio::test]
    async fn a_check_is_repeated_until_it_passes_or_its_time_is_over() {
        let time = Time { limit: Duration::from_secs(60), pause: Duration::from_millis(1) };
        let attempts = Cell::new(0);
        let third = async || {
            attempts.set(attempts.get() + 1);
            if attempts.get() == 3 { Ok(()) } else { Err("not yet".to_owned()) }
        };
        assert_eq!(time.until_passed(third).await, Ok(()));
        assert_eq!(attempts.get(), 3);
        let time = Time { limit: Duration::from_millis(20), ..time };
        assert_eq!(time.until_passed(async || Err("never".to_owned())).await.unwrap_err(), "never");
        let hangs = async || std::future::pending::<Result<(), String>>().await;
        assert!(time.until_passed(hangs).await.unwrap_err().contains("no answer"));
    }

    #[tokio::test]
    async fn checks_that_look_run_together_and_a_command_in_its_place() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("made").display().to_string();
        let file = Some(path.clone());
        let made =
            |name: &str, timeout_s| HealthCheck { file: file.clone(), timeout_s, ..check(name) };
        // The server answers only when two requests are there.
        let both = format!("http://{}/", server("200 OK", 2).await);
        let ask = |name: &str| HealthCheck { http: Some(both.clone()), ..check(name) };
        let touch = HealthCheck { weight: 7, ..command(&["/usr/bin/touch", &path], 30) };
        let never = HealthCheck { weight: 5, ..command(&["/bin/false"], 30) };
        let before = HealthCheck { weight: 30, ..made("before", 1) };
        let checks = [ask("one"), ask("two"), before, touch, made("after", 30), never];
        let failed = run(&checks, later()).await;
        let names: Vec<_> = failed.iter().map(|f| (f.name.as_str(), f.weight)).collect();
        assert_eq!(names, [("before", 30), ("x", 5)]);
    }

    #[tokio::test]
    async fn no_check_runs_longer_than_all_may() {
        let waits = HealthCheck { timeout_s: 600, ..command(&["/bin/sleep", "60"], 600) };
        let file =
            HealthCheck { file: Some("/does/not/exist".into()), timeout_s: 600, ..check("y") };
        let failed = run(&[waits, file], Instant::now()).await;
        assert_eq!(failed.len(), 2, "{failed:?}");
    }

    #[tokio::test]
    async fn a_check_of_nothing_fails() {
        assert!(why(check("x")).await.unwrap().contains("names nothing"));
    }
}
