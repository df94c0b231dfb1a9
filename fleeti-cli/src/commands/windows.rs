//! The update windows of a fleet: options of `fleeti attest policy`, and their text.

use crate::output::Failure;
use clap::Args;
use fleeti_core::windows::{Job, Window, Windows};

/// Update windows. Those of a job that is named replace all of its windows.
#[derive(Args)]
pub struct WindowOptions {
    /// When devices may begin to download, as in `mon-fri 22:00-05:00 Europe/Berlin fits 2h`.
    /// Without days: every day; without a zone: the zone of each device; `fits`: so much of the
    /// window must be left. Repeat it for each window; `none` removes all.
    #[arg(long = "download-window", value_name = "WINDOW")]
    download: Vec<String>,
    /// When devices may make a release bootable. Any boot after that starts it.
    #[arg(long = "install-window", value_name = "WINDOW")]
    install: Vec<String>,
    /// When devices may reboot for an update. Alerts that a reboot causes are silent then.
    #[arg(long = "reboot-window", value_name = "WINDOW")]
    reboot: Vec<String>,
    /// How long a reboot waits for a program that blocks shutdowns (`systemd-inhibit`), minutes;
    /// `none` for not at all.
    #[arg(long, value_name = "MINUTES", value_parser = number)]
    user_delay: Option<Number>,
    /// Highest rate at which each device downloads, KiB per second; `none` for no limit.
    #[arg(long, value_name = "KIB", value_parser = number)]
    download_limit: Option<Number>,
}

/// A number, or `none`.
#[derive(Debug, Clone, Copy)]
pub struct Number(Option<u32>);

fn number(text: &str) -> Result<Number, String> {
    if text == "none" {
        return Ok(Number(None));
    }
    text.parse().map(|n| Number(Some(n))).map_err(|_| "expected a number, or none".to_owned())
}

/// What the options change.
pub struct WindowChanges {
    of: [(Job, Option<Vec<Window>>); 3],
    user_delay: Option<Number>,
    download_limit: Option<Number>,
}

impl WindowOptions {
    /// Reads the windows.
    ///
    /// # Errors
    /// For one that is not a window, with its column.
    pub fn read(self) -> Result<WindowChanges, Failure> {
        let Self { download, install, reboot, user_delay, download_limit } = self;
        let of = [
            (Job::Download, read(Job::Download, &download)?),
            (Job::Install, read(Job::Install, &install)?),
            (Job::Reboot, read(Job::Reboot, &reboot)?),
        ];
        Ok(WindowChanges { of, user_delay, download_limit })
    }
}

/// `None` if no window is named: what is set stays.
fn read(job: Job, lines: &[String]) -> Result<Option<Vec<Window>>, Failure> {
    if lines.is_empty() {
        return Ok(None);
    }
    let lines = lines.iter().filter(|line| *line != "none");
    let windows = lines.map(|line| line.parse::<Window>()).collect::<Result<_, _>>();
    windows.map(Some).map_err(|e| {
        Failure::new(format!("--{job}-window: {e}"), Some("see `fleeti attest policy --help`"))
    })
}

impl WindowChanges {
    /// Applies the changes.
    pub fn apply(self, windows: &mut Windows) {
        for (job, lines) in self.of {
            let part = match job {
                Job::Download => &mut windows.download,
                Job::Install => &mut windows.install,
                Job::Reboot => &mut windows.reboot,
            };
            *part = lines.unwrap_or_else(|| std::mem::take(part));
        }
        if let Some(Number(minutes)) = self.user_delay {
            windows.user_delay_min = minutes;
        }
        if let Some(Number(rate)) = self.download_limit {
            windows.download_kib_s = rate;
        }
    }
}

/// The windows as lines.
pub fn words(windows: &Windows) -> Vec<String> {
    let mut lines = Vec::new();
    for job in Job::ALL {
        for (n, window) in windows.of(job).iter().enumerate() {
            let name = if n == 0 { job.as_str() } else { "" };
            lines.push(format!("  {name:<8}  {window}"));
        }
    }
    let delay =
        windows.user_delay_min.map(|m| format!("  user      a reboot waits at most {m} min"));
    let rate = windows.download_kib_s.map(|r| format!("  limit     {r} KiB/s on each device"));
    lines.extend(delay.into_iter().chain(rate));
    if lines.is_empty() {
        lines.push("  windows   none: devices update at any time".to_owned());
    } else {
        lines.insert(0, "  windows".to_owned());
    }
    lines
}
