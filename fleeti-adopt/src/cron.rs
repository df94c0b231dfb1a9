//! Jobs of cron.

use crate::conffile::{Conffiles, Origin};
use crate::draft::{Draft, count};
use crate::note::Area;
use crate::packages::Installed;
use crate::snapshot::{Entry, Kind, Snapshot};

pub(crate) const CRONTABS: &str = "/var/spool/cron/crontabs";

pub(crate) fn adopt(
    snapshot: &Snapshot,
    conffiles: &Conffiles<'_>,
    installed: &Installed,
    draft: &mut Draft,
) {
    for (_, user, entry) in snapshot.below(CRONTABS) {
        let jobs = entry.text().map(jobs);
        if let (Kind::File(_), false) = (&entry.kind, jobs == Some(0)) {
            let jobs = jobs.map_or("jobs".to_owned(), |jobs| count(jobs, "job", "jobs"));
            let why = format!("{jobs} of cron; a profile has no crontabs of users");
            let next = "write a unit and a [[timers]] entry for each job";
            draft.not_taken(Area::Services, &format!("crontab of {user}"), &why, next);
        }
    }
    // Own files below `/etc/cron.*` are taken as files. They are of no use without cron.
    let is_own = |(path, _, entry): &(&str, &str, &Entry)| {
        let is_job =
            path.strip_prefix("/etc/cron").is_some_and(|rest| rest.starts_with(['.', 't']));
        is_job
            && matches!(entry.kind, Kind::File(_))
            && conffiles.origin(path, entry) != Origin::Package
    };
    let cron = ["cron", "cronie", "systemd-cron"].into_iter().find(|p| installed.contains_key(*p));
    if let (Some(cron), true) = (cron, snapshot.below("/etc").any(|found| is_own(&found))) {
        draft.install(cron);
    }
}

/// The number of jobs in a crontab.
fn jobs(text: &str) -> usize {
    let lines = text.lines().map(str::trim);
    let is_job =
        |line: &&str| line.starts_with(|c: char| c.is_ascii_digit() || c == '*' || c == '@');
    lines.filter(is_job).count()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packages::Package;

    #[test]
    fn jobs_of_users_are_counted_and_own_files_keep_cron() {
        let installed = Installed::from([("cron".to_owned(), Package::default())]);
        let snapshot = Snapshot::default()
            .with(&format!("{CRONTABS}/ada"), "# c\nMAILTO=x\n0 3 * * * backup\n@daily x\n")
            .with(&format!("{CRONTABS}/bob"), "# nothing\n")
            .with("/etc/cron.d/own", "0 3 * * * root x\n");
        let mut draft = crate::draft::made();
        adopt(&snapshot, &Conffiles::of(&snapshot, &installed), &installed, &mut draft);
        let [note] = draft.notes.as_slice() else { panic!("{:?}", draft.notes) };
        assert!(note.subject == "crontab of ada" && note.why.starts_with("2 jobs of"), "{note:?}");
        assert!(draft.installs("cron"));
    }
}
