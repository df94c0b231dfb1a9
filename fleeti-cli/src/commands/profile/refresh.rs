//! `fleeti profile refresh-schedule`: when the server builds a line with refreshed packages.

use crate::CommandResult;
use crate::commands::server::Server;
use crate::output::{Lines, Output, when};
use fleeti_core::id::Line;
use fleeti_core::windows::Window;
use fleeti_core::wire::refresh::{LastRefresh, RefreshSchedule};

/// Show or set when the server builds a profile with refreshed packages.
///
/// A build of the newest revision begins each time that the window opens. It is signed and rolled out
/// as every other build. Without WINDOW the command shows the schedule.
#[derive(clap::Args)]
#[command(after_help = "Security updates twice a week:
  fleeti profile refresh-schedule web \"tue,fri 02:00-05:00 Europe/Berlin\"
  fleeti profile refresh-schedule web                # when is the next build, and what became of the last
  fleeti profile refresh-schedule web --off")]
pub struct Arguments {
    /// Name of the profile.
    profile: Line,
    /// When a build may begin: DAYS FROM-UNTIL ZONE; UTC without a zone.
    #[arg(conflicts_with = "off")]
    window: Option<Window>,
    /// Remove the schedule.
    #[arg(long)]
    off: bool,
    #[command(flatten)]
    server: Server,
}

pub(super) fn run(arguments: &Arguments, output: &Output) -> CommandResult {
    let Arguments { profile, window, off, server } = arguments;
    if *off {
        server.ask(async |c| c.remove_refresh_schedule(profile).await)?;
        let text = format!("{profile} is not refreshed by a schedule any more");
        output.data(&serde_json::json!({"line": profile}), |_| text.clone());
        return Ok(());
    }
    let schedule = match window {
        Some(window) => server.ask(async |c| c.set_refresh_schedule(profile, window).await)?,
        None => server.ask(async |c| c.refresh_schedule(profile).await)?,
    };
    output.data(&schedule, described);
    Ok(())
}

fn described(schedule: &RefreshSchedule) -> Lines {
    let RefreshSchedule { line, window, next_s, set_by, last } = schedule;
    let mut lines = vec![
        format!("{line} is built with refreshed packages: {window}, set by {set_by}"),
        format!("  next {}", when(*next_s)),
    ];
    if let Some(LastRefresh { at_s, build, problem }) = last {
        let what = problem.as_deref().or(build.as_deref()).unwrap_or_default();
        lines.push(format!("  last {}: {what}", when(*at_s)));
    }
    Lines::from(lines)
}
