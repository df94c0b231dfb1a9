//! Limits: how much one client may hold, and how long each part of a conversation may take.
//!
//! A server reads them from `--limits FILE` (TOML); what the file does not name has its default.
//! Descriptors bound them further: see [`Budget`].

use anyhow::{Context, Result};
use fleeti_core::wire::attestation::CHALLENGE_S;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde::Deserialize;
use std::path::Path;

/// Limits of the ports, and of what is asked over them. Times are milliseconds unless the name says
/// otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// From a connection to its whole ClientHello, or to the head of its first request where there
    /// is no TLS.
    pub hello_ms: u64,
    /// TLS handshake, CONNECT and the head of a device's first request, each; a device's TPM may
    /// sign in it.
    pub handshake_ms: u64,
    /// An unfinished or anonymous client holds its place at least this long, also while others want
    /// one.
    pub stalled_ms: u64,
    /// A write to an MQTT client that does not read.
    pub write_ms: u64,
    /// A write to an HTTP client that does not read.
    pub download_ms: u64,
    /// The body of a request may take this long, and longer by what [`Limits::body_bytes_per_s`]
    /// allows.
    pub body_ms: u64,
    /// A body must arrive at least this fast once [`Limits::body_ms`] has passed.
    pub body_bytes_per_s: u64,
    /// An HTTP connection on which no request begins and no answer is read.
    pub idle_ms: u64,
    /// MQTT sessions at once.
    pub connections: usize,
    /// TLS handshakes at once, on all ports.
    pub handshakes: usize,
    /// Connections whose ClientHello has come and that wait for one of [`Limits::handshakes`].
    pub waiting: usize,
    /// Connections that have not said anything yet. The oldest of the address with the most gives
    /// way to a new one.
    pub silent: usize,
    /// HTTPS connections without a device certificate that have asked something; as many again may
    /// not have yet.
    pub anonymous: usize,
    /// As many of them as one address (IPv6: one /64) may hold.
    pub anonymous_per_address: usize,
    /// HTTPS connections of devices.
    pub downloads: usize,
    /// As many of them as one device may hold.
    pub downloads_per_device: usize,
    /// MQTT connections that one device may hold: its session, and those that take it over.
    pub sessions_per_device: usize,
    /// Connections on the port of API and pages.
    pub api: usize,
    /// Codes for pairing that one address (IPv6: one /64) gets in a minute.
    pub codes_per_minute: u32,
    /// Devices that wait for their code to be entered.
    pub pairing: usize,
    /// An answer to a question of a TPM.
    pub challenge_ms: u64,
    /// The proof that a TPM that was shown is there.
    pub proving_ms: u64,
    /// What was found out about the device of an HTTPS connection is good for this long: what it
    /// proved grows old.
    pub known_ms: u64,
    /// From one recovery key of a device to its next, seconds.
    pub recovery_key_s: u64,
    /// MQTT packets of one device at once; beyond them it is read more slowly.
    pub messages_burst: u32,
    /// One more of them after this time.
    pub message_interval_ms: u64,
    /// Payloads of one device that are not what their topic says, at once; one more each half
    /// minute. The next one ends its session (0x99).
    pub invalid_messages: u32,
    /// How long a device whose session was ended for that waits for the next one.
    pub penalty_ms: u64,
}

impl Default for Limits {
    fn default() -> Self {
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
            codes_per_minute: 20,
            pairing: 2000,
            challenge_ms: CHALLENGE_S * 1000,
            proving_ms: 600_000,
            known_ms: 60_000,
            recovery_key_s: 300,
            messages_burst: 200,
            message_interval_ms: 200,
            invalid_messages: 20,
            penalty_ms: 10_000,
        }
    }
}

impl Limits {
    /// Reads a TOML file.
    ///
    /// # Errors
    /// Names the file, and the line that is wrong.
    pub fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
        toml::from_str(&text).with_context(|| path.display().to_string())
    }
}

/// Descriptors that connections never take: database, files of releases, builds, the signer,
/// listeners.
const RESERVED: usize = 128;
/// A download needs its connection and two descriptors of the file.
const PER_DOWNLOAD: usize = 3;
/// No port gets less than this.
const LEAST: usize = 8;

/// Places by kind, which together fit into the descriptors that this process may have: no kind can
/// take what another needs.
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
    /// Shares `descriptors` out: MQTT gets what the other kinds leave.
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

/// Raises the limit on descriptors as far as this process may, and gives it.
#[must_use]
pub fn raise_descriptors() -> usize {
    let now = getrlimit(Resource::Nofile);
    if now.current != now.maximum
        && let Err(e) =
            setrlimit(Resource::Nofile, Rlimit { current: now.maximum, maximum: now.maximum })
    {
        tracing::warn!("the limit on descriptors stays at {:?}: {e}", now.current);
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
