//! A server as a child process that ends with its owner, and its CPU time and memory (proc(5)).

use crate::tether::tethered;
use anyhow::{Context, Result, bail};
use std::fs;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

/// Ticks per second in proc_pid_stat(5), constant in the kernel's interface.
const TICKS: f64 = 100.0;

/// A running server.
pub struct Peer {
    child: Child,
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

impl Peer {
    /// Starts an executable and waits until its port accepts connections; its output goes to `log`.
    ///
    /// # Errors
    /// If it ends, or does not listen within ten seconds.
    pub fn start(program: &str, arguments: &[&str], port: SocketAddr, log: &Path) -> Result<Self> {
        let file = fs::File::create(log)?;
        let child = tethered(program)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file)
            .spawn()
            .with_context(|| format!("{program}: is it installed?"))?;
        let mut peer = Self { child };
        let started = Instant::now();
        while TcpStream::connect(port).is_err() {
            if let Some(status) = peer.child.try_wait()? {
                bail!(
                    "{program} ended with {status}: {}",
                    fs::read_to_string(log).unwrap_or_default()
                );
            }
            if started.elapsed() > Duration::from_secs(10) {
                bail!("{program} does not listen: {}", fs::read_to_string(log).unwrap_or_default());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(peer)
    }

    /// Process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }
}

/// A loopback port that is free now.
///
/// # Errors
/// If there is none.
pub fn free_port() -> Result<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}

/// CPU seconds of a process with all its threads, including ended ones, from its own clock in
/// nanoseconds: proc(5) counts hundredths of a second.
///
/// # Errors
/// If it does not run.
pub fn cpu_s(id: u32) -> Result<f64> {
    let clock = nix::time::clock_getcpuclockid(nix::unistd::Pid::from_raw(i32::try_from(id)?))?;
    Ok(Duration::from(nix::time::clock_gettime(clock)?).as_secs_f64())
}

/// CPU seconds of ended child processes.
///
/// # Errors
/// I/O.
pub fn children_cpu_s() -> Result<f64> {
    let stat = fs::read_to_string("/proc/self/stat")?;
    let fields: Vec<&str> = stat.rsplit(')').next().context("stat")?.split_whitespace().collect();
    let ticks = |i: usize| fields.get(i).and_then(|f| f.parse::<f64>().ok()).context("stat");
    Ok((ticks(13)? + ticks(14)?) / TICKS)
}

/// CPU seconds between two readings. The kernel counts ended children in ticks, so less than one
/// tick becomes one: a rate is then too low, but never infinite.
#[must_use]
pub fn spent_s(before: f64, after: f64) -> f64 {
    (after - before).max(1.0 / TICKS)
}

/// Resident memory of a process, KiB.
///
/// # Errors
/// When it does not run.
pub fn resident_kib(id: u32) -> Result<f64> {
    status_kib(id, "VmRSS:")
}

/// Peak resident memory of a process, KiB.
///
/// # Errors
/// When it does not run.
pub fn peak_kib(id: u32) -> Result<f64> {
    status_kib(id, "VmHWM:")
}

fn status_kib(id: u32, field: &'static str) -> Result<f64> {
    let status = fs::read_to_string(format!("/proc/{id}/status"))?;
    let line = status.lines().find_map(|l| l.strip_prefix(field)).context(field)?;
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}
