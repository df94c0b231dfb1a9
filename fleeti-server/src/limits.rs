//! Limits: the resources that one client may use, and timeouts. Sizes of request bodies are not
//! among them: see [`crate::http::extract::BodyMax`].
//!
//! The server reads them from `--limits FILE` (TOML); missing values have defaults. The number of
//! file descriptors limits them further: see [`Budget`].

use anyhow::{Context, Result};
use fleeti_control::hub::TURNS_MAX;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde::{Deserialize, Serialize};
use std::path::Path;
use std::time::Duration;

/// Limits of the ports and of requests. Times are in milliseconds unless the name says otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Time from accept to the whole ClientHello, or to the head of the first request without TLS.
    pub hello_ms: u64,
    /// Time for each of TLS handshake, CONNECT, and the head of a device's first request. Includes
    /// a signature by the device's TPM.
    pub handshake_ms: u64,
    /// Minimum time that an unfinished or anonymous client keeps its place while others wait.
    pub stalled_ms: u64,
    /// Timeout of a write to an MQTT client that does not read.
    pub write_ms: u64,
    /// Timeout of a write to an HTTP client that does not read.
    pub download_ms: u64,
    /// Time for the body of a request; extended as [`Limits::body_bytes_per_s`] allows.
    pub body_ms: u64,
    /// Minimum rate of a body after [`Limits::body_ms`].
    pub body_bytes_per_s: u64,
    /// Timeout of an HTTP connection without a new request and without a response being read.
    pub idle_ms: u64,
    /// Maximum number of MQTT sessions.
    pub connections: usize,
    /// Maximum number of concurrent TLS handshakes, over all ports.
    pub handshakes: usize,
    /// Maximum number of connections that have sent a ClientHello and wait for one of
    /// [`Limits::handshakes`].
    pub waiting: usize,
    /// Maximum number of connections that have not sent anything. A new one evicts the oldest of
    /// the address with the most.
    pub silent: usize,
    /// Maximum number of HTTPS connections without a device certificate that have sent a request.
    /// As many again may not have sent one yet.
    pub anonymous: usize,
    /// The same per address (IPv6: per /64).
    pub anonymous_per_address: usize,
    /// Maximum number of HTTPS connections of devices.
    pub downloads: usize,
    /// The same per device.
    pub downloads_per_device: usize,
    /// MQTT connections per device: its session, and connections that take it over.
    pub sessions_per_device: usize,
    /// Maximum number of connections on the port of API and pages.
    pub api: usize,
    /// Pairing codes per minute and address (IPv6: per /64).
    pub codes_per_minute: u32,
    /// Maximum number of pending enrollments.
    pub pairing: usize,
    /// Time for the evidence that answers a challenge.
    pub challenge_ms: u64,
    /// Time for a TPM to return its secret (credential activation).
    pub proving_ms: u64,
    /// How long the state of a device is cached for its HTTPS connection; limited because evidence
    /// expires.
    pub known_ms: u64,
    /// Minimum time between two recovery keys of a device, in seconds.
    pub recovery_key_s: u64,
    /// Burst of MQTT packets per device. Beyond it the server reads the device more slowly.
    pub messages_burst: u32,
    /// Time after which one more packet is allowed.
    pub message_interval_ms: u64,
    /// Burst of payloads per device that do not match their topic; one more is allowed every half
    /// minute. Beyond it the session ends (0x99).
    pub invalid_messages: u32,
    /// How long such a device must wait for its next session.
    pub penalty_ms: u64,
    /// How long a device must wait for its next session after [`TURNS_MAX`] sessions within ten
    /// minutes that took over one whose client was connected; each further one doubles it.
    pub takeover_pause_ms: u64,
    /// The longest such time.
    pub takeover_pause_ms_max: u64,
}

impl Default for Limits {
    fn default() -> Self {
        let of_control = fleeti_control::settings::Limits::default();
        Self {
            hello_ms: 4_000,
            handshake_ms: 30_000,
            stalled_ms: 2_000,
            write_ms: 10_000,
            download_ms: 60_000,
            body_ms: 15_000,
            body_bytes_per_s: 1024,
            idle_ms: 90_000,
            connections: 20_000,
            handshakes: 1024,
            waiting: 4096,
            silent: 2048,
            anonymous: 512,
            anonymous_per_address: 128,
            downloads: 4096,
            downloads_per_device: 16,
            sessions_per_device: 4,
            api: 512,
            codes_per_minute: of_control.codes_per_minute,
            pairing: of_control.pairing,
            challenge_ms: of_control.challenge_ms,
            proving_ms: of_control.proving_ms,
            known_ms: 60_000,
            recovery_key_s: of_control.recovery_key_s,
            messages_burst: 200,
            message_interval_ms: 200,
            invalid_messages: 20,
            penalty_ms: 10_000,
            takeover_pause_ms: 1_000,
            takeover_pause_ms_max: 30_000,
        }
    }
}

impl Limits {
    /// How long a device must wait for its next session, after this many takeovers.
    #[must_use]
    pub fn takeover_pause(&self, takeovers: u32) -> Option<Duration> {
        let doublings = takeovers.checked_sub(TURNS_MAX)?;
        let longer = self.takeover_pause_ms.saturating_mul(1 << doublings.min(32));
        Some(Duration::from_millis(longer.min(self.takeover_pause_ms_max)))
    }

    /// Reads a TOML file.
    ///
    /// # Errors
    /// Names the file and the wrong line.
    pub fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
        toml::from_str(&text).with_context(|| path.display().to_string())
    }
}

/// File descriptors that connections cannot use: for database, files of releases, builds, signing
/// service, listeners.
const RESERVED: usize = 128;
/// File descriptors per download: its connection, and two for the file.
const PER_DOWNLOAD: usize = 3;
/// Minimum number of places per kind.
const LEAST: usize = 8;

/// Numbers of places by kind. Together they fit into the file descriptors of this process, so that
/// no kind can starve another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget {
    /// [`Limits::silent`], or less.
    pub silent: usize,
    /// HTTP connections without a whole request: as many as [`Budget::anonymous`].
    pub quiet: usize,
    /// [`Limits::waiting`], or less.
    pub waiting: usize,
    /// [`Limits::handshakes`], or less.
    pub handshakes: usize,
    /// [`Limits::anonymous`], or less.
    pub anonymous: usize,
    /// [`Limits::downloads`], or less.
    pub downloads: usize,
    /// [`Limits::api`], or less.
    pub api: usize,
    /// [`Limits::connections`], or what the others leave.
    pub sessions: usize,
}

impl Budget {
    /// Distributes `descriptors`: MQTT gets the rest after the other kinds.
    #[must_use]
    pub fn of(limits: &Limits, descriptors: usize) -> Self {
        let free = descriptors.saturating_sub(RESERVED);
        let part = |wanted: usize, parts: usize| wanted.min((free / parts).max(LEAST));
        let (silent, waiting, handshakes) =
            (part(limits.silent, 8), part(limits.waiting, 16), part(limits.handshakes, 16));
        let (anonymous, downloads, api) =
            (part(limits.anonymous, 8), part(limits.downloads, 24), part(limits.api, 8));
        let quiet = anonymous;
        let others =
            silent + quiet + waiting + handshakes + anonymous + downloads * PER_DOWNLOAD + api;
        let sessions = limits.connections.min(free.saturating_sub(others).max(LEAST));
        Self { silent, quiet, waiting, handshakes, anonymous, downloads, api, sessions }
    }
}

/// Raises the limit on file descriptors as far as possible, and returns it.
#[must_use]
pub fn raise_descriptors() -> usize {
    let now = getrlimit(Resource::Nofile);
    if now.current != now.maximum
        && let Err(e) =
            setrlimit(Resource::Nofile, Rlimit { current: now.maximum, maximum: now.maximum })
    {
        tracing::warn!(
            "cannot raise the limit on file descriptors, it stays at {:?}: {e}",
            now.current
        );
    }
    getrlimit(Resource::Nofile)
        .current
        .map_or(usize::MAX, |n| usize::try_from(n).unwrap_or(usize::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_in_the_documents_names_every_limit_with_its_default() {
        let table = include_str!("../../docs/limits.md");
        let rows = table.lines().filter_map(|line| line.strip_prefix("| `")?.split_once("` | "));
        let toml: String = rows
            .map(|(name, rest)| {
                format!("{name} = {}\n", rest.split(' ').next().unwrap_or_default())
            })
            .collect();
        assert_eq!(toml::from_str::<Limits>(&toml).unwrap(), Limits::default(), "{toml}");
        let source = include_str!("limits.rs");
        let fields = source
            .lines()
            .take_while(|line| *line != "}")
            .filter(|line| line.starts_with("    pub "))
            .count();
        assert_eq!(toml.lines().count(), fields);
    }

    #[test]
    fn the_pause_after_takeovers_grows_to_its_maximum() {
        let limits = Limits::default();
        let pause = |takeovers| limits.takeover_pause(takeovers).map(|pause| pause.as_secs());
        assert!((0..TURNS_MAX).all(|takeovers| pause(takeovers).is_none()));
        let pauses: Vec<_> = (TURNS_MAX..TURNS_MAX + 7).filter_map(pause).collect();
        assert_eq!(pauses, [1, 2, 4, 8, 16, 30, 30]);
        assert_eq!(pause(u32::MAX), Some(30));
    }

    #[test]
    fn the_kinds_of_connections_fit_into_the_descriptors_and_none_goes_without() {
        for descriptors in [300, 1024, 4096, 65_536, usize::MAX] {
            let b = Budget::of(&Limits::default(), descriptors);
            let all = b.silent
                + b.quiet
                + b.waiting
                + b.handshakes
                + b.anonymous
                + b.downloads * PER_DOWNLOAD
                + b.api
                + b.sessions;
            assert!(all <= descriptors - RESERVED, "{descriptors}: {b:?}");
            for part in
                [b.silent, b.waiting, b.handshakes, b.anonymous, b.downloads, b.api, b.sessions]
            {
                assert!(part >= LEAST, "{descriptors}: {b:?}");
            }
        }
        let whole = Budget::of(&Limits::default(), 65_536);
        assert_eq!((whole.sessions, whole.silent, whole.anonymous), (20_000, 2048, 512));
    }

    #[test]
    fn a_file_changes_what_it_names_and_may_name_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("limits.toml");
        std::fs::write(&path, "hello_ms = 3000\n").unwrap();
        assert_eq!(Limits::read(&path).unwrap(), Limits { hello_ms: 3000, ..Limits::default() });
        std::fs::write(&path, "hello_min = 3000\n").unwrap();
        let refused = format!("{:#}", Limits::read(&path).unwrap_err());
        assert!(refused.contains("limits.toml") && refused.contains("hello_min"), "{refused}");
    }
}
