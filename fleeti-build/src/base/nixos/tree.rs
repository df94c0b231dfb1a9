//! A module tree of NixOS: the folders `nixos` and `lib` of nixpkgs.

use super::error::EvaluationError;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// The environment variable that names a module tree.
pub const VARIABLE: &str = "FLEETI_NIXPKGS";

/// Largest file of a tree that is read for names of packages, bytes.
const FILE_MAX: u64 = 4 << 20;
/// Largest number of files in a tree.
const FILES_MAX: usize = 20_000;
/// Shells that modules name at run time.
const NAMED_LATE: [&str; 3] = ["fish", "xonsh", "zsh"];

/// A module tree.
#[derive(Debug, Clone)]
pub struct Tree {
    root: PathBuf,
    names: Vec<String>,
}

impl Tree {
    /// Opens a checkout of nixpkgs, or a directory with its folders `nixos` and `lib` only. Reads the
    /// names of the packages that its modules use.
    ///
    /// # Errors
    /// [`EvaluationError::NoTree`] if the folders are not there; [`EvaluationError::Io`].
    pub fn open(root: &Path) -> Result<Self, EvaluationError> {
        let is_tree = root.join("nixos/lib/eval-config.nix").is_file()
            && root.join("lib/default.nix").is_file();
        if !is_tree {
            return Err(EvaluationError::NoTree(root.to_owned()));
        }
        let io = |source| EvaluationError::Io { path: root.to_owned(), source };
        let root = fs::canonicalize(root).map_err(io)?;
        let mut names: BTreeSet<String> = NAMED_LATE.map(str::to_owned).into();
        let mut number = 0;
        collect(&root.join("nixos"), &mut number, &mut names)?;
        Ok(Self { root, names: names.into_iter().collect() })
    }

    /// The tree that [`VARIABLE`] names; `None` if it is not set.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn named() -> Option<Result<Self, EvaluationError>> {
        std::env::var_os(VARIABLE)
            .filter(|path| !path.is_empty())
            .map(|path| Self::open(path.as_ref()))
    }

    /// Its directory.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Names of the packages that its modules use, sorted.
    #[must_use]
    pub fn names(&self) -> &[String] {
        &self.names
    }
}

fn collect(
    folder: &Path,
    number: &mut usize,
    names: &mut BTreeSet<String>,
) -> Result<(), EvaluationError> {
    let io = |source| EvaluationError::Io { path: folder.to_owned(), source };
    for entry in fs::read_dir(folder).map_err(io)? {
        let entry = entry.map_err(io)?;
        // Links are not followed: a tree has no loop.
        let kind = entry.file_type().map_err(io)?;
        let path = entry.path();
        if kind.is_dir() {
            collect(&path, number, names)?;
        } else if kind.is_file() && path.extension().is_some_and(|e| e == "nix") {
            *number += 1;
            let size = entry.metadata().map_err(io)?.len();
            if *number > FILES_MAX || size > FILE_MAX {
                return Err(EvaluationError::TooLarge(path));
            }
            let text = fs::read(&path).map_err(|source| EvaluationError::Io { path, source })?;
            names.extend(packages(&String::from_utf8_lossy(&text)).map(str::to_owned));
        }
    }
    Ok(())
}

/// The names after `pkgs.` in a text.
pub(super) fn packages(text: &str) -> impl Iterator<Item = &str> {
    const PREFIX: &str = "pkgs.";
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    text.match_indices(PREFIX).filter_map(move |(at, _)| {
        let is_word = !text[..at].ends_with(is_part);
        let rest = &text[at + PREFIX.len()..];
        let name = &rest[..rest.find(|c| !is_part(c)).unwrap_or(rest.len())];
        let is_name = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
        (is_word && is_name).then_some(name)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_packages_follow_the_word_pkgs() {
        let text = "x = pkgs.jq; y = \"${pkgs.util-linux}/bin\"; mypkgs.no; pkgs.${name}; pkgs.lib";
        assert_eq!(packages(text).collect::<Vec<_>>(), ["jq", "util-linux", "lib"]);
    }

    #[test]
    fn a_directory_without_modules_is_no_tree() {
        let folder = tempfile::tempdir().unwrap();
        let error = Tree::open(folder.path()).unwrap_err();
        assert!(error.to_string().contains("no module tree"), "{error}");
    }
}
