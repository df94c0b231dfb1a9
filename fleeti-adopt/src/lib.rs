//! Reads a running Debian system and describes it as a profile, with notes about what was taken,
//! what was not, why, and what to do.
//!
//! [`collect`] reads files only, below any root directory, so that it works on a mounted disk as
//! well. It runs no command. [`adopt`] is pure: from what was read to a document that passes
//! [`fleeti_core::profile::check`].
//!
//! ```
//! # let root = tempfile::tempdir()?;
//! # std::fs::create_dir_all(root.path().join("var/lib/dpkg"))?;
//! # let text = "Package: nginx\nStatus: install ok installed\nArchitecture: all\n";
//! # std::fs::write(root.path().join("var/lib/dpkg/status"), text)?;
//! let snapshot = fleeti_adopt::collect(root.path())?;
//! let adopted = fleeti_adopt::adopt(&snapshot, &"web".parse()?, &Default::default())?;
//! assert_eq!(adopted.profile.software.packages, ["nginx"]);
//! assert!(adopted.text.contains("name = \"web\""));
//! # Ok::<_, Box<dyn std::error::Error>>(())
//! ```
//!
//! The system may be foreign. INVARIANT: no link leads out of its root, nothing but regular files
//! is opened (`tree`), private keys and passphrases are neither taken nor shown (`secret`), and
//! what breaks a rule of profiles is taken out and named (`prune`).
//!
//! Code map: `tree` (I/O) · `collect` (what is read) · `snapshot` (what was read) · one file for
//! each section: `identity`, `accounts`, `sudo`, `ssh`, `packages`, `sources`, `units`, `cron`,
//! `network`, `kernel`, `files`, `state` · `conffile` (whether a file is as its package brought
//! it) · `draft`, `note` (the result while it is made) · `prune` · `document` (TOML with comments).

#![warn(missing_docs)]

mod accounts;
mod collect;
mod conffile;
mod cron;
mod document;
mod draft;
mod files;
mod identity;
mod ini;
mod kernel;
mod name;
mod network;
mod note;
mod options;
mod packages;
mod prune;
mod secret;
mod snapshot;
mod sources;
mod ssh;
mod state;
mod sudo;
mod tree;
mod units;

pub use collect::collect;
pub use note::{Area, Note, Outcome};
pub use options::Options;
pub use snapshot::{Content, DataDirectory, Entry, Gap, Kind, Snapshot};

use conffile::Conffiles;
use draft::Draft;
use fleeti_core::foreign::Foreign;
use fleeti_core::id::{Architecture, Line};
use fleeti_core::profile::{Profile, SCHEMA};

/// A profile of a system.
#[derive(Debug, Clone)]
pub struct Adopted {
    /// The profile.
    pub profile: Profile,
    /// The profile as a TOML document with comments.
    pub text: String,
    /// What was taken and what was not.
    pub notes: Vec<Note>,
}

/// Why a system cannot be adopted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AdoptError {
    /// There is no database of dpkg.
    #[error("/var/lib/dpkg/status is missing or empty: this is not the root of a Debian system")]
    NotDebian,
    /// The database of dpkg cannot be read.
    #[error("/var/lib/dpkg/status: {0}")]
    Status(String),
    /// An empty profile is not valid.
    #[error("profile: {0}")]
    Empty(#[from] serde_json::Error),
    /// A value cannot be written.
    #[error("write the profile: {0}")]
    Write(#[from] toml::ser::Error),
}

/// A name for the profile of a system, made from its host name.
#[must_use]
pub fn name_of(snapshot: &Snapshot) -> Option<Line> {
    let name = identity::hostname(snapshot)?.to_ascii_lowercase();
    let short: String = name.chars().take(16).collect();
    short.trim_end_matches('-').parse().ok()
}

/// Describes a system as a profile.
///
/// # Errors
/// [`AdoptError`].
pub fn adopt(snapshot: &Snapshot, name: &Line, options: &Options) -> Result<Adopted, AdoptError> {
    if snapshot.status.trim().is_empty() {
        return Err(AdoptError::NotDebian);
    }
    let installed = packages::installed(&snapshot.status, &snapshot.extended_states)
        .map_err(AdoptError::Status)?;
    let conffiles = Conffiles::of(snapshot, &installed);
    let mut draft = Draft::new(empty(name, snapshot)?);
    for gap in &snapshot.gaps {
        draft.not_taken(Area::System, &gap.path, &gap.why, "");
    }
    packages::adopt(snapshot, &installed, &mut draft);
    sources::adopt(snapshot, &mut draft);
    identity::adopt(snapshot, options, &mut draft);
    accounts::adopt(snapshot, options, &mut draft);
    sudo::adopt(snapshot, &mut draft);
    ssh::adopt(snapshot, &installed, options, &mut draft);
    units::adopt(snapshot, &installed, options, &mut draft);
    cron::adopt(snapshot, &conffiles, &installed, &mut draft);
    kernel::adopt(snapshot, &conffiles, &mut draft);
    network::adopt(snapshot, &conffiles, &installed, &mut draft);
    files::adopt(snapshot, &conffiles, options, &mut draft);
    state::adopt(snapshot, &mut draft);
    prune::prune(&mut draft);
    units::missing_programs(snapshot, &mut draft);
    draft.notes.sort_by(|a, b| a.area.cmp(&b.area).then_with(|| a.subject.cmp(&b.subject)));
    let host = identity::hostname(snapshot).unwrap_or("a system");
    let source = format!("{host} ({})", identity::release(snapshot));
    let text = document::write(&draft, &Foreign::log(&source).to_string())?;
    Ok(Adopted { profile: draft.profile, text, notes: draft.notes })
}

fn empty(name: &Line, snapshot: &Snapshot) -> Result<Profile, serde_json::Error> {
    let host = identity::hostname(snapshot).unwrap_or("a system");
    let plain: String = host.chars().filter(|c| c.is_ascii_alphanumeric() || *c == '-').collect();
    let json = serde_json::json!({
        "schema": SCHEMA,
        "name": name,
        "description": format!("Adopted from {plain}"),
        "architecture": Architecture::X86_64,
    });
    fleeti_core::strict::from_slice(&serde_json::to_vec(&json)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use fleeti_core::profile::{TEXT_MAX, check};

    #[test]
    fn a_document_stays_readable_however_much_there_is_and_the_rest_is_listed() {
        // Each character but one is longer in a document.
        let unit = "# ''' \"\"\"\\\\\n".repeat(4000);
        let file = "x '''\u{1b}\u{1b}\u{1b}\n".repeat(6000);
        let mut snapshot = Snapshot::default();
        for i in 0..30 {
            let folder = "/etc/systemd/system";
            let text = format!("[Service]\nExecStart=/bin/true\n{unit}");
            snapshot = snapshot
                .with(&format!("{folder}/u{i:02}.service"), &text)
                .with(&format!("{folder}/v{i:02}.service.d/a.conf"), &text)
                .with(&format!("/etc/app/{i:02}"), &file)
                .with(&format!("/etc/app/small{i:02}"), "x\n");
        }
        snapshot.status =
            "Package: nginx\nStatus: install ok installed\nArchitecture: all\n".to_owned();
        let adopted = adopt(&snapshot, &"web".parse().unwrap(), &Options::default()).unwrap();
        assert!(adopted.text.len() <= TEXT_MAX, "{} bytes", adopted.text.len());
        let read = check(&adopted.text).unwrap();
        assert_eq!(read.files, adopted.profile.files);
        assert_eq!(read.services, adopted.profile.services);
        assert!(adopted.profile.services.len() > 1 && adopted.profile.files.len() > 1);
        let of = |area: Area| {
            let notes = adopted.notes.iter().filter(move |note| note.area == area);
            notes.filter(|note| note.why.contains("bytes in total")).count()
        };
        assert_eq!(of(Area::Services) + adopted.profile.services.len(), 60);
        assert_eq!(of(Area::Files), 1);
    }
}
