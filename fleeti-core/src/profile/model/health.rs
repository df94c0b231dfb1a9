//! Health checks of a new image.

use serde::{Deserialize, Serialize};

/// A health check: a new image is kept only if the checks succeed. Each check names exactly one of
/// `command`, `unit`, `http`, `tcp`, `file`, `disk` and `memory_free_mib`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct HealthCheck {
    /// Name, shown when the check fails.
    #[schema(example = "the page is served")]
    pub name: String,
    /// Executable and its arguments. Exit status 0 means healthy.
    #[schema(example = json!(["/usr/bin/systemctl", "is-active", "kiosk.service"]))]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub command: Vec<String>,
    /// A unit that must be active.
    #[schema(example = "nginx.service")]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<String>,
    /// An address on the device that must answer with a status from 200 to 399.
    #[schema(example = "http://127.0.0.1/")]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http: Option<String>,
    /// `ADDRESS:PORT` that must accept connections.
    #[schema(example = "127.0.0.1:5432")]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tcp: Option<String>,
    /// A file that must exist.
    #[schema(example = "/run/app/ready")]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// A directory with a minimum of free space, for example `/var/lib/app:500M`.
    #[schema(example = "/var/lib/app:500M")]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk: Option<String>,
    /// Minimum memory available, MiB.
    #[schema(example = 200)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_free_mib: Option<u32>,
    /// Seconds after which the check counts as failed. A check other than a command is repeated
    /// until then.
    #[serde(default = "default_timeout")]
    pub timeout_s: u32,
    /// Weight of a failure. The image is unhealthy if the weights of the failed checks reach 100.
    #[schema(minimum = 1, maximum = 100)]
    #[serde(default = "default_weight", skip_serializing_if = "is_default_weight")]
    pub weight: u32,
}

fn default_timeout() -> u32 {
    30
}
fn default_weight() -> u32 {
    100
}
fn is_default_weight(weight: &u32) -> bool {
    *weight == default_weight()
}

/// What a health check looks at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Probe<'a> {
    /// A command that must exit with 0.
    Command(&'a [String]),
    /// A unit that must be active.
    Unit(&'a str),
    /// A URL that must answer with 200 to 399.
    Http(&'a str),
    /// `ADDRESS:PORT` that must accept connections.
    Tcp(&'a str),
    /// A file that must exist.
    File(&'a str),
    /// A directory with a minimum of free space.
    Disk(DiskCheck<'a>),
    /// Minimum memory available, MiB.
    MemoryFree(u32),
}

/// A directory with a minimum of free space.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DiskCheck<'a> {
    /// Absolute path.
    pub path: &'a str,
    /// Minimum free space, MiB.
    pub free_mib: u32,
}

impl DiskCheck<'_> {
    /// Reads `PATH:SIZE`, with a size in `M` (MiB) or `G` (GiB).
    #[must_use]
    pub fn parse(text: &str) -> Option<DiskCheck<'_>> {
        let (path, size) = text.rsplit_once(':')?;
        let (number, factor) = match size.strip_suffix('G') {
            Some(number) => (number, 1024),
            None => (size.strip_suffix('M')?, 1),
        };
        let free_mib = number.parse::<u32>().ok()?.checked_mul(factor)?;
        path.starts_with('/').then_some(DiskCheck { path, free_mib })
    }
}

impl HealthCheck {
    /// The check that an image with a packet filter has besides those of its profile: a device
    /// whose rules do not load would be open.
    #[must_use]
    pub fn of_packet_filter() -> Self {
        let command = ["/usr/bin/systemctl", "is-active", "--quiet", "nftables.service"];
        Self::of_command("the packet filter is loaded", &command, 30)
    }

    /// A check that runs a command.
    #[must_use]
    pub fn of_command(name: &str, command: &[&str], timeout_s: u32) -> Self {
        Self {
            name: name.to_owned(),
            command: command.iter().map(|part| (*part).to_owned()).collect(),
            unit: None,
            http: None,
            tcp: None,
            file: None,
            disk: None,
            memory_free_mib: None,
            timeout_s,
            weight: default_weight(),
        }
    }

    /// A check that a unit is active.
    #[must_use]
    pub fn of_unit(name: &str, unit: &str) -> Self {
        Self { unit: Some(unit.to_owned()), ..Self::of_command(name, &[], default_timeout()) }
    }

    /// What the check looks at; `None` unless it names exactly one thing.
    #[must_use]
    pub fn probe(&self) -> Option<Probe<'_>> {
        let mut probes = [
            (!self.command.is_empty()).then_some(Probe::Command(&self.command)),
            self.unit.as_deref().map(Probe::Unit),
            self.http.as_deref().map(Probe::Http),
            self.tcp.as_deref().map(Probe::Tcp),
            self.file.as_deref().map(Probe::File),
            self.disk.as_deref().and_then(DiskCheck::parse).map(Probe::Disk),
            self.memory_free_mib.map(Probe::MemoryFree),
        ]
        .into_iter()
        .flatten();
        let one = probes.next();
        if probes.next().is_some() || self.disk.is_some() && !matches!(one, Some(Probe::Disk(_))) {
            return None;
        }
        one
    }
}
