//! When the signed lists of a repository were made.

use crate::apt::{Apt, SUITE};
use crate::file::sha256_file;
use crate::lock::{LockError, Snapshot, io};
use crate::package::DEBIAN;
use std::collections::BTreeMap;
use std::fs;

/// Seconds of a day.
const DAY_S: u64 = 86_400;

/// The lists that apt has, by repository and suite.
pub(crate) fn read(apt: &Apt, repository: &str) -> Result<BTreeMap<String, Snapshot>, LockError> {
    let targets = apt.run(&[
        "indextargets",
        "--format",
        "$(FILENAME)|$(METAKEY)|$(RELEASE)",
        "Created-By: Packages",
    ])?;
    let mut found = BTreeMap::new();
    for line in targets.lines() {
        let [file, key, suite] = line.split('|').collect::<Vec<_>>()[..] else { continue };
        // The list of a suite is beside those of its components, in a file of the same beginning.
        let end = key.replace('/', "_");
        let missing = || LockError::Repository {
            origin: format!("{repository} {suite}"),
            detail: "apt has no signed list of it".to_owned(),
        };
        let at = file.rfind(&end).ok_or_else(missing)?;
        let names = ["InRelease", "Release"].map(|name| format!("{}{name}", &file[..at]));
        let is_there = |path: &&String| fs::exists(path).unwrap_or(false);
        let path = names.iter().find(is_there).ok_or_else(missing)?;
        let text = fs::read_to_string(path).map_err(io(path.as_ref()))?;
        let date = text.lines().find_map(|line| line.strip_prefix("Date:"));
        let date_s = date.and_then(|date| seconds(date.trim())).ok_or_else(|| {
            let detail = "its list has no date".to_owned();
            LockError::Repository { origin: format!("{repository} {suite}"), detail }
        })?;
        let sha256 = sha256_file(path.as_ref()).map_err(io(path.as_ref()))?;
        let sha256 = sha256.parse().map_err(|_| LockError::AptOutput(sha256))?;
        let suite = suite.trim_end_matches('/');
        found.insert(format!("{repository} {suite}"), Snapshot { date_s, sha256 });
    }
    Ok(found)
}

/// Refuses lists that are older than those of an earlier lock, or than a limit. The main suite
/// changes with point releases only, and has no limit.
pub(crate) fn check(
    found: &BTreeMap<String, Snapshot>,
    earlier: &BTreeMap<String, Snapshot>,
    limit_days: Option<u32>,
    now_s: u64,
) -> Result<(), LockError> {
    for (source, snapshot) in found {
        if let Some(before) = earlier.get(source).filter(|b| snapshot.date_s < b.date_s) {
            let days = (before.date_s - snapshot.date_s).div_ceil(DAY_S);
            return Err(LockError::OlderSnapshot { origin: source.clone(), days });
        }
        let days = now_s.saturating_sub(snapshot.date_s) / DAY_S;
        let limit = limit_days.filter(|limit| days > u64::from(*limit));
        if let Some(limit_days) = limit
            && *source != format!("{DEBIAN} {SUITE}")
        {
            return Err(LockError::OldSnapshot { origin: source.clone(), days, limit_days });
        }
    }
    Ok(())
}

/// Unix seconds of a date such as `Sat, 21 Nov 2026 09:15:44 UTC`.
fn seconds(date: &str) -> Option<u64> {
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let words: Vec<_> = date.split_whitespace().collect();
    let [_, day, month, year, time, zone] = words[..] else { return None };
    if !["UTC", "GMT", "+0000"].contains(&zone) {
        return None;
    }
    let [hour, minute, second] = time.split(':').collect::<Vec<_>>()[..] else { return None };
    let number = |text: &str, most: u64| text.parse::<u64>().ok().filter(|n| *n <= most);
    let (day, year) = (number(day, 31)?, number(year, 9999).filter(|year| *year >= 1970)?);
    let month = MONTHS.iter().position(|name| *name == month)? as u64 + 1;
    // Days since 1970 of a year that begins in March.
    let (y, m) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let of_years = y * 365 + y / 4 - y / 100 + y / 400;
    let days = (of_years + (m * 153 + 2) / 5 + day).checked_sub(719_469)?;
    Some(days * DAY_S + number(hour, 23)? * 3600 + number(minute, 59)? * 60 + number(second, 60)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_date_of_a_list_is_read() {
        for (text, expected) in [
            ("Thu, 01 Jan 1970 00:00:00 UTC", Some(0)),
            ("Sat, 21 Nov 2026 09:15:44 UTC", Some(1_795_252_544)),
            ("Thu, 29 Feb 2024 23:59:59 GMT", Some(1_709_251_199)),
            ("Sat, 1 Mar 2025 00:00:00 +0000", Some(1_740_787_200)),
            ("Sat, 1 Mar 2025 00:00:00 +0100", None),
            ("Sat, 1 Mar 1960 00:00:00 UTC", None),
            ("yesterday", None),
        ] {
            assert_eq!(seconds(text), expected, "{text}");
        }
    }

    #[test]
    fn a_list_older_than_the_limit_or_than_that_of_the_earlier_lock_is_refused() {
        let at = |source: &str, date_s| {
            let sha256 = "a".repeat(64).parse().unwrap();
            BTreeMap::from([(source.to_owned(), Snapshot { date_s, sha256 })])
        };
        let (none, now_s) = (BTreeMap::new(), 100 * DAY_S);
        let vendor = at("vendor stable", 80 * DAY_S);
        assert!(check(&vendor, &none, None, now_s).is_ok());
        assert!(check(&vendor, &none, Some(20), now_s).is_ok());
        let old = check(&vendor, &none, Some(19), now_s).unwrap_err().to_string();
        assert!(old.contains("vendor stable") && old.contains("20 days"), "{old}");
        assert!(check(&at("debian trixie", 0), &none, Some(19), now_s).is_ok());
        assert!(check(&at("debian trixie-security", 0), &none, Some(19), now_s).is_err());
        // A mirror that goes back in time.
        let replayed = check(&vendor, &at("vendor stable", 80 * DAY_S + 1), None, now_s);
        assert!(matches!(replayed, Err(LockError::OlderSnapshot { days: 1, .. })));
    }
}
