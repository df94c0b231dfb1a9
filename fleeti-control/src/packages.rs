//! Which devices have a package.

use crate::accounts::actor::{Actor, Scope};
use crate::context::Context;
use crate::devices::check_page;
use crate::error::Error;
use fleeti_core::id::ReleaseName;
use fleeti_core::wire::accounts::Permission;
use fleeti_core::wire::attestation::FRESH_S;
use fleeti_core::wire::package::{
    Basis, PackageDevice, PackageDevices, PackageQuery, PackageRelease, QUERY_MAX, RELEASES_MAX,
    ReleasePackage,
};
use fleeti_core::wire::problem::Code;
use fleeti_store as store;
use fleeti_store::packages::{Among, Runs};
use std::cmp::Reverse;
use std::collections::{HashMap, HashSet};

/// A question, and the page of devices that is wanted.
#[derive(Debug, Clone)]
pub struct Question {
    /// The question, as in `openssl<3.5.1-1`.
    pub query: String,
    /// The last id of the previous page; empty for the first page.
    pub after: String,
    /// Maximum number of devices in the page.
    pub limit: u32,
}

/// The devices that have a package, among those that the actor may see.
///
/// # Errors
/// [`Code::Invalid`] for an invalid question, limit or id; [`Code::Forbidden`].
pub async fn devices(
    cx: &Context,
    by: &Actor,
    question: &Question,
) -> Result<PackageDevices, Error> {
    let query = read(question)?;
    let fleets = by.fleets(Permission::View);
    if fleets.as_ref().is_some_and(Vec::is_empty) {
        return Err(by.refused(Permission::View, Scope::All));
    }
    let among =
        Among { fresh_after_s: cx.now_s().saturating_sub(FRESH_S), fleets: fleets.as_deref() };
    let fitting = fitting(cx, &query).await?;
    let pool = cx.db.pool();
    let known: HashSet<_> = store::packages::known(pool).await?.into_iter().collect();
    let mut answer = PackageDevices {
        query: query.to_string(),
        proved: 0,
        reported: 0,
        unknown: 0,
        others: 0,
        releases: Vec::new(),
        devices: Vec::new(),
    };
    let mut on = HashMap::new();
    for count in store::packages::counts(pool, among).await? {
        let all = count.proved + count.reported;
        match &count.release {
            Some(release) if fitting.contains_key(release) => {
                answer.proved += count.proved;
                answer.reported += count.reported;
                on.insert(release.clone(), (count.proved, count.reported));
            }
            Some(release) if known.contains(release) => answer.others += all,
            Some(_) | None => answer.unknown += all,
        }
    }
    let releases: Vec<_> = fitting.keys().collect();
    let page = (question.after.as_str(), question.limit);
    let found = store::packages::page(pool, among, &releases, page).await?;
    answer.devices = found.into_iter().map(|runs| device(runs, &fitting)).collect();
    answer.releases = listed(fitting, &on);
    Ok(answer)
}

type Fitting = HashMap<ReleaseName, Vec<ReleasePackage>>;

fn read(question: &Question) -> Result<PackageQuery, Error> {
    let invalid = |text: String| Error::new(Code::Invalid, text);
    let Question { query, after, limit } = question;
    if query.len() > QUERY_MAX {
        return Err(invalid(format!("the question is longer than {QUERY_MAX} characters")));
    }
    check_page(after, *limit)?;
    query.parse::<PackageQuery>().map_err(|e| {
        invalid(e.to_string()).hint("write a question such as `openssl<3.5.1-1+deb13u2`")
    })
}

/// The releases that have such a package. A package that is asked for by its source is compared by
/// the version of its source.
async fn fitting(cx: &Context, query: &PackageQuery) -> Result<Fitting, Error> {
    let mut fitting = Fitting::new();
    for (release, package) in store::packages::named(cx.db.pool(), query.name()).await? {
        let is_it = if package.name == query.name() {
            query.is_fitting(&package.version)
        } else {
            query.is_fitting(&package.source_version)
        };
        if is_it {
            fitting.entry(release).or_default().push(package);
        }
    }
    Ok(fitting)
}

fn device(runs: Runs, fitting: &Fitting) -> PackageDevice {
    let basis = match (&runs.proved, &runs.reported) {
        (Some(release), _) if fitting.contains_key(release) => Basis::Proved,
        (None, Some(release)) if fitting.contains_key(release) => Basis::Reported,
        (Some(_) | None, Some(_) | None) => Basis::Unknown,
    };
    PackageDevice { id: runs.id, fleet: runs.fleet, release: runs.proved.or(runs.reported), basis }
}

/// Releases with the most devices come first.
fn listed(fitting: Fitting, on: &HashMap<ReleaseName, (u64, u64)>) -> Vec<PackageRelease> {
    let mut releases: Vec<_> = fitting
        .into_iter()
        .map(|(release, packages)| {
            let (proved, reported) = on.get(&release).copied().unwrap_or_default();
            PackageRelease { release, packages, proved, reported }
        })
        .collect();
    releases.sort_by_key(|r| (Reverse(r.proved + r.reported), r.release.to_string()));
    releases.truncate(RELEASES_MAX);
    releases
}
