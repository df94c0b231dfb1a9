//! What a search of the editor found: packages, units, programs, users or groups of the suite.

use askama::Template;
use fleeti_control::suites::Names;
use fleeti_core::profile::{FoundName, IndexedKind};
use fleeti_core::wire::suite::FoundPackage;

/// Largest number of names that a search shows.
pub const SHOWN_MAX: usize = 20;
/// Largest number of packages that are named as those that bring something.
const PACKAGES_MAX: usize = 3;

/// A name that was found.
struct Row {
    name: String,
    /// Version of a package.
    version: String,
    /// Size of a package, ready for display.
    size: String,
    /// What it is, or what brings it.
    about: String,
}

/// The list under a field. Its words are for the screen and for screen readers.
#[derive(Template)]
#[template(path = "_found.html")]
pub struct Found {
    label: String,
    rows: Vec<Row>,
    status: String,
    /// The server has no index: what to do about it is shown.
    is_missing: bool,
}

impl Found {
    /// The answer to a search for up to [`SHOWN_MAX`] names, which asked for one more.
    pub fn of(kind: IndexedKind, names: &Names) -> Self {
        let mut rows: Vec<Row> = match names {
            Names::NoIndex => Vec::new(),
            Names::Packages(packages) => packages.iter().map(Row::from).collect(),
            Names::Others(names) => names.iter().map(Row::from).collect(),
        };
        let is_missing = matches!(names, Names::NoIndex);
        let has_more = rows.len() > SHOWN_MAX;
        rows.truncate(SHOWN_MAX);
        let noun = kind.noun();
        let status = match rows.len() {
            _ if is_missing => "This server has no index of packages yet.".to_owned(),
            0 => format!("No {noun} found. Try fewer or other words."),
            1 => format!("1 {noun}"),
            n if has_more => format!("The first {n} {noun}s. Type more to narrow the list."),
            n => format!("{n} {noun}s"),
        };
        Self { label: format!("{noun}s"), rows, status, is_missing }
    }
}

impl From<&FoundPackage> for Row {
    fn from(package: &FoundPackage) -> Self {
        Self {
            name: package.name.clone(),
            version: package.version.clone(),
            size: size(package.size_kib),
            about: package.summary.clone(),
        }
    }
}

impl From<&FoundName> for Row {
    fn from(found: &FoundName) -> Self {
        let shown =
            found.packages.iter().take(PACKAGES_MAX).cloned().collect::<Vec<_>>().join(", ");
        let about = match found.packages.len() {
            0 => "in every image".to_owned(),
            n if n > PACKAGES_MAX => format!("from {shown} and {} more", n - PACKAGES_MAX),
            _ => format!("from {shown}"),
        };
        let name = found.name.clone();
        Self { name, version: String::new(), size: String::new(), about }
    }
}

fn size(kib: u64) -> String {
    if kib < 1024 {
        return format!("{kib} KiB");
    }
    format!("{}.{} MiB", kib / 1024, kib % 1024 * 10 / 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn package(name: &str) -> FoundPackage {
        let (version, summary) = ("1:2-<3>".to_owned(), "a <b>server</b>".to_owned());
        FoundPackage { name: name.to_owned(), version, summary, size_kib: 1383 }
    }

    #[test]
    fn a_package_is_an_option_with_version_size_and_summary_and_no_markup() {
        let one = Names::Packages(vec![package("nginx")]);
        let html = Found::of(IndexedKind::Package, &one).render().unwrap();
        assert!(
            html.contains("role=\"option\"") && html.contains("data-value=\"nginx\""),
            "{html}"
        );
        assert!(html.contains("1.3 MiB") && html.contains("1 package"), "{html}");
        assert!(!html.contains("<b>server") && !html.contains("2-<3"), "{html}");
    }

    #[test]
    fn a_long_list_is_cut_and_says_so() {
        let many = (0..=SHOWN_MAX).map(|i| package(&format!("p{i}"))).collect();
        let found = Found::of(IndexedKind::Package, &Names::Packages(many));
        assert_eq!(found.rows.len(), SHOWN_MAX);
        assert!(found.status.starts_with("The first 20 packages."), "{}", found.status);
    }

    #[test]
    fn what_is_missing_is_said_with_what_to_do() {
        let html = Found::of(IndexedKind::Unit, &Names::NoIndex).render().unwrap();
        assert!(html.contains("no index") && html.contains("fleeti worker add"), "{html}");
        let none = Found::of(IndexedKind::Unit, &Names::Others(Vec::new()));
        assert_eq!(none.status, "No unit found. Try fewer or other words.");
    }

    #[test]
    fn a_name_says_what_brings_it() {
        let found = |packages: &[&str]| {
            let packages = packages.iter().map(|p| (*p).to_owned()).collect();
            Row::from(&FoundName { name: "x".to_owned(), packages }).about
        };
        assert_eq!(found(&[]), "in every image");
        assert_eq!(found(&["a", "b"]), "from a, b");
        assert_eq!(found(&["a", "b", "c", "d"]), "from a, b, c and 1 more");
        assert_eq!((size(1023).as_str(), size(1024 * 10).as_str()), ("1023 KiB", "10.0 MiB"));
    }
}
