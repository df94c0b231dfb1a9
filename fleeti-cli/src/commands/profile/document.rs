//! Profiles in files, and the fragments in files beside them.

use super::suite::Indexed;
use crate::output::{Failure, Output};
use fleeti_build::base::nixos;
use fleeti_build::suite;
use fleeti_core::profile::{
    self, BaseName, Builtin, Finding, Fragment, Kind, Library, Missing, Profile, Resolved,
    Severity, SuiteFindings, SuiteIndex, TEXT_MAX,
};
use std::borrow::Cow;
use std::cell::RefCell;
use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::path::{Path, PathBuf};

/// The fragments of Fleeti, and the TOML files around a profile: `./base.toml` and
/// `../shared/base.toml` are relative to the profile, also where another fragment names them.
pub struct Files {
    folder: PathBuf,
}

impl Files {
    /// The files around a profile.
    pub fn around(profile: &Path) -> Self {
        Self { folder: profile.parent().unwrap_or(Path::new("")).to_owned() }
    }

    fn read(&self, name: &str) -> Result<String, Missing> {
        let missing = |message: &str, remedy: String| Missing {
            message: message.to_owned(),
            remedy: Some(remedy),
        };
        if !name.starts_with("./") && !name.starts_with("../") {
            let file = name.rsplit('/').next().unwrap_or(name);
            let remedy = format!("write ./{file}, or ../FOLDER/{file}");
            return Err(missing("is not a path relative to the profile", remedy));
        }
        if !is_toml(name) {
            let remedy = "name a file with the suffix .toml".to_owned();
            return Err(missing("is not a TOML file", remedy));
        }
        match read_text(&self.folder.join(name)) {
            Ok(text) if text.len() <= TEXT_MAX => Ok(text),
            Ok(_) => {
                let message = format!("has more than {TEXT_MAX} bytes");
                Err(missing(&message, "split it".to_owned()))
            }
            Err(e) if e.kind() == ErrorKind::NotFound => {
                let beside = self.beside();
                let near = profile::nearest(name, beside.iter().map(String::as_str));
                let remedy = match near {
                    Some(near) => format!("did you mean {near}?"),
                    None => "write the path as seen from the folder of the profile".to_owned(),
                };
                Err(missing(&format!("there is no file {name:?}"), remedy))
            }
            Err(e) => Err(missing(&format!("is not readable: {e}"), "correct the file".to_owned())),
        }
    }

    /// Names of the TOML files in the profile's folder.
    fn beside(&self) -> Vec<String> {
        let folder = if self.folder.as_os_str().is_empty() { Path::new(".") } else { &self.folder };
        let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
        let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
        names.filter(|name| is_toml(name)).map(|name| format!("./{name}")).collect()
    }
}

impl Library for Files {
    fn find(&self, name: &str) -> Option<Fragment> {
        if !is_path(name) {
            return Builtin.find(name);
        }
        let text = Cow::Owned(self.read(name).ok()?);
        Some(Fragment { name: Cow::Owned(name.to_owned()), kind: Kind::Profile, text })
    }
    fn names(&self) -> Vec<String> {
        Builtin.names()
    }
    fn missing(&self, name: &str) -> Option<Missing> {
        if is_path(name) { self.read(name).err() } else { None }
    }
}

/// Whether an entry of `extends` means a file. No fragment of Fleeti has such a name.
fn is_path(name: &str) -> bool {
    name.starts_with(['.', '/']) || is_toml(name)
}

fn is_toml(name: &str) -> bool {
    Path::new(name).extension().is_some_and(|extension| extension == "toml")
}

/// Reads at most one byte more than a profile may have.
fn read_text(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    File::open(path)?.take(TEXT_MAX as u64 + 1).read_to_string(&mut text)?;
    Ok(text)
}

/// Reads and checks a profile.
pub fn read(file: &Path) -> Result<Profile, Failure> {
    resolve(file).map(|resolved| resolved.profile)
}

/// Reads a profile and what it extends.
pub fn resolve(file: &Path) -> Result<Resolved, Failure> {
    resolve_with(file, None)
}

/// As [`resolve`], and checks it against the packages of the suite.
pub fn resolve_with(file: &Path, indexed: Option<&Indexed>) -> Result<Resolved, Failure> {
    resolve_text(file, &text(file)?, indexed)
}

/// The text of a profile. One that is too long is refused by those who read it.
pub fn text(file: &Path) -> Result<String, Failure> {
    read_text(file).map_err(|e| Failure::plain(format!("{}: {e}", file.display())))
}

/// As [`resolve_with`], for a text that is, or becomes, the content of this file.
pub fn resolve_text(
    file: &Path,
    text: &str,
    indexed: Option<&Indexed>,
) -> Result<Resolved, Failure> {
    let index = indexed.and_then(|indexed| indexed.index.as_ref());
    let unreadable = RefCell::new(None);
    let packages = |profile: &Profile| {
        found(profile, index).unwrap_or_else(|e| {
            *unreadable.borrow_mut() = Some(e);
            SuiteFindings::default()
        })
    };
    let resolved = profile::resolve_with(text, &Files::around(file), &packages);
    if let Some(e) = unreadable.take() {
        return Err(e);
    }
    resolved
        .map_err(|findings| wrong(file, findings, indexed.and_then(|indexed| indexed.note.clone())))
}

/// The error for a profile with errors, and a note about what was not checked.
pub fn wrong(file: &Path, findings: Vec<Finding>, note: Option<String>) -> Failure {
    let errors = findings.iter().filter(|f| f.severity == Severity::Error).count();
    let noun = if errors == 1 { "error" } else { "errors" };
    let details: Vec<_> = lines(file, &findings).into_iter().chain(note).collect();
    Failure::plain(format!("{errors} {noun} in {}", file.display()))
        .with_details(details)
        .with_findings(findings)
}

/// What the base and the packages of the suite show of a profile. The base NixOS evaluates it if there
/// is a module tree.
fn found(profile: &Profile, index: Option<&SuiteIndex>) -> Result<SuiteFindings, Failure> {
    let found = suite::check(profile, index);
    let mut found = found.map_err(|e| Failure::plain(format!("the index of packages {e}")))?;
    if profile.base == BaseName::Nixos && found.errors.is_empty() {
        let first = "1".parse().map_err(Failure::plain)?;
        let evaluated = nixos::check(profile, &first).map_err(Failure::plain)?.unwrap_or_default();
        found.errors.extend(evaluated.errors);
        found.warnings.extend(evaluated.warnings);
    }
    Ok(found)
}

/// Prints on stderr what was not checked, and the warnings.
pub fn warn_with(file: &Path, resolved: &Resolved, indexed: &Indexed, output: &Output) {
    if let Some(note) = &indexed.note {
        output.note(note.as_str());
    }
    warn(file, resolved, output);
}

/// Prints the warnings on stderr.
pub fn warn(file: &Path, resolved: &Resolved, output: &Output) {
    warn_of(file, &resolved.warnings, output);
}

/// Prints these findings on stderr.
pub fn warn_of(file: &Path, findings: &[Finding], output: &Output) {
    if !findings.is_empty() {
        output.note(lines(file, findings));
    }
}

fn lines(file: &Path, findings: &[Finding]) -> Vec<String> {
    let lines = |f: &Finding| {
        let path = if f.path.is_empty() { "document" } else { &f.path };
        let warning = match f.severity {
            Severity::Error => "",
            Severity::Warning => "warning: ",
        };
        [
            format!("{}:{}: {path}: {warning}{}", file.display(), f.line, f.message),
            format!("  hint: {}", f.remedy),
        ]
    };
    findings.iter().flat_map(lines).collect()
}
