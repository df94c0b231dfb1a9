//! `fleeti doctor`: examines the server.

use super::server::Server;
use crate::CommandResult;
use crate::output::{Failure, Lines, Output, when};
use fleeti_core::doctor::{by, check_lines, ending_lines};
use fleeti_core::wire::doctor::{CheckResult, Examined};

/// Exit code if a check failed.
const FAILED_CHECK: u8 = 3;

// Its description is on the variant of the command: see `fleeti_server::options`.
#[derive(clap::Args)]
pub struct Doctor {
    /// List also what will have ended on this day (YYYY-MM-DD, UTC), and who must renew it.
    #[arg(long, value_parser = day)]
    at: Option<Day>,
    #[command(flatten)]
    server: Server,
}

/// The end of a day.
#[derive(Debug, Clone, Copy)]
struct Day(u64);

fn day(text: &str) -> Result<Day, String> {
    let date: jiff::civil::Date = text.parse().map_err(|e: jiff::Error| e.to_string())?;
    let end = jiff::tz::TimeZone::UTC.to_timestamp(date.at(23, 59, 59, 0));
    let end = end.map_err(|e| e.to_string())?.as_second();
    u64::try_from(end).map(Day).map_err(|_| "the day is before 1970".to_owned())
}

/// Runs it.
pub fn run(doctor: &Doctor, output: &Output) -> CommandResult {
    let diagnosis = doctor.server.ask(async |client| client.doctor().await)?;
    let ended = doctor.at.map(|Day(at_s)| by(&diagnosis.endings, at_s));
    let examined = Examined { diagnosis, ended };
    output.data(&examined, |examined| {
        let ended = examined.ended.as_ref().map(|all| ending_lines(all, when)).unwrap_or_default();
        Lines::from(check_lines(&examined.diagnosis.checks)).and(ended)
    });
    let failed = examined.diagnosis.checks.iter().filter(|c| c.result == CheckResult::Failed);
    let count = failed.count();
    if count > 0 {
        let error = format!("{count} check{} failed", if count == 1 { "" } else { "s" });
        return Err(Failure::plain(error).with_code(FAILED_CHECK));
    }
    Ok(())
}
