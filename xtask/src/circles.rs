//! `cargo xtask deps`, inside a crate: files that import each other in a circle.
//!
//! An edge is a `use` of another file of the crate. `mod` is no edge, and neither is the `pub use`
//! by which a module passes on what is in its own children: both only say where things are.

use anyhow::{Context, Result};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use syn::visit::{self, Visit};
use syn::{Attribute, ItemMod, ItemUse, UseTree, Visibility};

/// Circles of a crate whose sources are in `src`, each as the files in it, sorted.
///
/// # Errors
/// When a file cannot be read or is no Rust.
pub fn of_crate(src: &Path) -> Result<Vec<Vec<String>>> {
    let mut modules = BTreeMap::new();
    files(src, src, &mut modules)?;
    let mut edges: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for (module, file) in &modules {
        let mut imports = Imports { module: module.clone(), found: Vec::new() };
        imports.visit_file(&parsed(file)?);
        for path in imports.found {
            if let Some(target) = resolved(&modules, &path)
                && target != module
            {
                edges.entry(module).or_default().insert(target);
            }
        }
    }
    Ok(named(src, &modules, &edges))
}

/// What is in a file.
pub(crate) fn parsed(file: &Path) -> Result<syn::File> {
    let text = fs::read_to_string(file).with_context(|| file.display().to_string())?;
    syn::parse_file(&text).with_context(|| file.display().to_string())
}

/// Circles of modules, each as the files in it, sorted.
pub(crate) fn named(
    src: &Path,
    modules: &BTreeMap<String, PathBuf>,
    edges: &BTreeMap<&str, BTreeSet<&str>>,
) -> Vec<Vec<String>> {
    let name =
        |module: &str| modules[module].strip_prefix(src).unwrap_or(src).display().to_string();
    circles(edges).into_iter().map(|c| c.into_iter().map(name).collect()).collect()
}

/// Whether something is compiled only for some builds, as tests are.
pub(crate) fn is_test(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|a| a.path().is_ident("cfg"))
}

/// Files by their module path, as in `service::audit`; the crate's root is empty.
pub(crate) fn files(
    src: &Path,
    folder: &Path,
    modules: &mut BTreeMap<String, PathBuf>,
) -> Result<()> {
    for entry in fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let path = entry?.path();
        if path.is_dir() {
            // Each program of `bin` is a crate of its own.
            if path.file_name().is_some_and(|name| name != "bin") {
                files(src, &path, modules)?;
            }
            continue;
        }
        let is_main = path.file_name().is_some_and(|name| name == "main.rs");
        if path.extension().is_none_or(|e| e != "rs") || is_main {
            continue;
        }
        let relative = path.strip_prefix(src).unwrap_or(&path).with_extension("");
        let mut parts: Vec<_> = relative.iter().map(|p| p.to_string_lossy().into_owned()).collect();
        if matches!(parts.last().map(String::as_str), Some("mod" | "lib")) {
            parts.pop();
        }
        // Tests see everything of the file that they test.
        if parts.last().is_none_or(|last| last != "tests") {
            modules.insert(parts.join("::"), path);
        }
    }
    Ok(())
}

/// The file that a path leads into: that of its longest beginning which is a module.
fn resolved<'m>(modules: &'m BTreeMap<String, PathBuf>, path: &[String]) -> Option<&'m str> {
    (0..=path.len())
        .rev()
        .find_map(|n| Some(modules.get_key_value(&path[..n].join("::"))?.0.as_str()))
}

/// Paths inside the crate that a file imports.
struct Imports {
    module: String,
    found: Vec<Vec<String>>,
}

impl Imports {
    fn tree(&mut self, tree: &UseTree, mut path: Vec<String>) {
        match tree {
            UseTree::Path(part) => {
                path.push(part.ident.to_string());
                return self.tree(&part.tree, path);
            }
            UseTree::Group(group) => {
                return group.items.iter().for_each(|item| self.tree(item, path.clone()));
            }
            UseTree::Name(name) => path.push(name.ident.to_string()),
            UseTree::Rename(renamed) => path.push(renamed.ident.to_string()),
            UseTree::Glob(_) => {}
        }
        self.found.extend(self.absolute(path));
    }

    /// From the root of the crate; `None` for another crate's.
    fn absolute(&self, path: Vec<String>) -> Option<Vec<String>> {
        let own = || self.module.split("::").filter(|p| !p.is_empty()).map(str::to_owned);
        let mut from: Vec<String> = own().collect();
        let mut rest = path.into_iter().peekable();
        match rest.peek().map(String::as_str)? {
            "crate" => from.clear(),
            "self" => {}
            "super" => {
                from.pop();
            }
            _ => return None,
        }
        rest.next();
        while rest.next_if(|part| part == "super").is_some() {
            from.pop();
        }
        from.extend(rest.filter(|part| part != "self"));
        Some(from)
    }
}

impl<'ast> Visit<'ast> for Imports {
    fn visit_item_use(&mut self, item: &'ast ItemUse) {
        // A module that passes on what its children have.
        if !matches!(item.vis, Visibility::Inherited) {
            return;
        }
        self.tree(&item.tree, Vec::new());
    }

    fn visit_item_mod(&mut self, item: &'ast ItemMod) {
        if !is_test(&item.attrs) {
            // `super` of a module inside this file is this file.
            let outer = self.module.clone();
            self.module = [outer.as_str(), &item.ident.to_string()].join("::");
            visit::visit_item_mod(self, item);
            self.module = outer;
        }
    }
}

/// Strongly connected components of more than one file.
fn circles<'m>(edges: &BTreeMap<&'m str, BTreeSet<&'m str>>) -> Vec<Vec<&'m str>> {
    let reach = |from: &'m str| {
        let (mut seen, mut left) = (BTreeSet::new(), vec![from]);
        while let Some(file) = left.pop() {
            for next in edges.get(file).into_iter().flatten() {
                if seen.insert(*next) {
                    left.push(next);
                }
            }
        }
        seen
    };
    let reached: BTreeMap<_, _> = edges.keys().map(|file| (*file, reach(file))).collect();
    let mut found = BTreeSet::new();
    for (file, reachable) in &reached {
        let back = |other: &&&str| reached.get(**other).is_some_and(|r| r.contains(file));
        let circle: Vec<&str> = reachable.iter().filter(back).copied().collect();
        if circle.len() > 1 {
            found.insert(circle);
        }
    }
    found.into_iter().collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    fn planted(files: &[(&str, &str)]) -> Vec<Vec<String>> {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        of_crate(dir.path()).unwrap()
    }

    #[test]
    fn a_circle_of_files_is_found_however_it_is_imported() {
        let root = ("lib.rs", "mod a;\nmod b;\npub use a::A;");
        for (a, b) in [
            ("use crate::b::B;", "use crate::a::A;"),
            ("use super::b::{self, B};", "use std::fs;\nuse crate::{a, x};"),
            ("fn f() { use crate::b::B as C; }", "mod inner { use super::super::a::*; }"),
        ] {
            assert_eq!(planted(&[root, ("a.rs", a), ("b.rs", b)]), [["a.rs", "b.rs"]], "{a} {b}");
        }
        let far = [
            ("a.rs", "use crate::b::c::C;"),
            ("b/c.rs", "use crate::d::D;"),
            ("d.rs", "use crate::a;"),
        ];
        assert_eq!(planted(&far), [["a.rs", "b/c.rs", "d.rs"]]);
    }

    #[test]
    fn modules_tests_and_one_direction_are_no_circle() {
        let files = [
            ("lib.rs", "pub mod a;\nmod b;\npub use b::B;\n"),
            ("a.rs", "use crate::b::B;\nuse crate::B as C;"),
            ("b.rs", "mod c;\npub use self::c::C;\n#[cfg(test)]\nmod tests { use crate::a::A; }"),
            ("b/c.rs", "use super::B;"),
            ("b/tests.rs", "use crate::a::A;"),
            ("main.rs", "use crate::a::A;"),
        ];
        assert_eq!(planted(&files), [[""; 0]; 0]);
    }
}
