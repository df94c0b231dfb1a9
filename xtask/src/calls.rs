//! `cargo xtask deps`, inside a crate: files whose methods call each other in a circle.
//!
//! A type can have methods in several files. They need no `use` of each other, so [`circles`] does
//! not see them. Here, an edge is a call `self.method()` or `Self::method()` of a method that only
//! one other file defines for the type.

use crate::circles;
use anyhow::Result;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use syn::visit::{self, Visit};
use syn::{Expr, ExprCall, ExprMethodCall, ImplItem, ItemImpl, ItemMod, Type};

/// A method: its type and its name.
type Method = (String, String);

/// Circles of a crate whose sources are in `src`, each as the files in it, sorted.
///
/// # Errors
/// When a file cannot be read or is no Rust.
pub fn of_crate(src: &Path) -> Result<Vec<Vec<String>>> {
    let mut modules = BTreeMap::new();
    circles::files(src, src, &mut modules)?;
    let mut methods = Methods::default();
    for (module, file) in &modules {
        methods.module.clone_from(module);
        methods.visit_file(&circles::parsed(file)?);
    }
    Ok(circles::named(src, &modules, &methods.edges()))
}

/// Where methods are defined and called.
#[derive(Default)]
struct Methods {
    module: String,
    /// The type whose methods are visited.
    of: Option<String>,
    defined: BTreeMap<Method, BTreeSet<String>>,
    called: Vec<(String, Method)>,
}

impl Methods {
    fn edges(&self) -> BTreeMap<&str, BTreeSet<&str>> {
        let mut edges: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        for (caller, method) in &self.called {
            let files = self.defined.get(method).into_iter().flatten();
            // Two types of one name cannot be told apart.
            let mut files = files.collect::<Vec<_>>();
            if let (Some(file), true) = (files.pop(), files.is_empty())
                && file != caller
            {
                edges.entry(caller).or_default().insert(file);
            }
        }
        edges
    }

    fn call(&mut self, method: String) {
        if let Some(of) = &self.of {
            self.called.push((self.module.clone(), (of.clone(), method)));
        }
    }
}

impl<'ast> Visit<'ast> for Methods {
    fn visit_item_mod(&mut self, item: &'ast ItemMod) {
        if !circles::is_test(&item.attrs) {
            visit::visit_item_mod(self, item);
        }
    }

    fn visit_item_impl(&mut self, item: &'ast ItemImpl) {
        let Type::Path(path) = &*item.self_ty else { return };
        let Some(name) = path.path.segments.last().map(|s| s.ident.to_string()) else { return };
        let inherent = item.trait_.is_none();
        for part in &item.items {
            if let (ImplItem::Fn(method), true) = (part, inherent) {
                let key = (name.clone(), method.sig.ident.to_string());
                self.defined.entry(key).or_default().insert(self.module.clone());
            }
        }
        let outer = self.of.replace(name);
        visit::visit_item_impl(self, item);
        self.of = outer;
    }

    fn visit_expr_method_call(&mut self, call: &'ast ExprMethodCall) {
        if matches!(&*call.receiver, Expr::Path(path) if path.path.is_ident("self")) {
            self.call(call.method.to_string());
        }
        visit::visit_expr_method_call(self, call);
    }

    fn visit_expr_call(&mut self, call: &'ast ExprCall) {
        if let Expr::Path(path) = &*call.func
            && let [of, method] = &path.path.segments.iter().collect::<Vec<_>>()[..]
            && of.ident == "Self"
        {
            self.call(method.ident.to_string());
        }
        visit::visit_expr_call(self, call);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;
    use std::fs;

    fn planted(files: &[(&str, &str)]) -> Vec<Vec<String>> {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in files {
            fs::write(dir.path().join(name), text).unwrap();
        }
        of_crate(dir.path()).unwrap()
    }

    const STATE: &str = "pub struct Session; impl Session { fn keep(&self) {} }";

    #[test]
    fn a_circle_of_methods_is_found() {
        let inner = ("inner.rs", "impl Session { fn step(&self) { self.end() } }");
        let outer = "impl Session { fn run(&self) { self.step() } fn end(&self) {} }";
        assert_eq!(planted(&[("outer.rs", outer), inner]), [["inner.rs", "outer.rs"]]);
        let by_type =
            "impl<'a> Session<'a> { fn run(&self) { Self::step(self) } fn end(&self) {} }";
        assert_eq!(planted(&[("outer.rs", by_type), inner]), [["inner.rs", "outer.rs"]]);
        let far = [
            ("a.rs", "impl Session { fn a(&self) { self.b() } }"),
            ("b.rs", "impl Session { fn b(&self) { self.c() } }"),
            (
                "c.rs",
                "impl Drop for Session { fn drop(&mut self) { self.a() } }\nimpl Session { fn c(&self) {} }",
            ),
        ];
        assert_eq!(planted(&far), [["a.rs", "b.rs", "c.rs"]]);
    }

    #[test]
    fn one_direction_tests_and_other_types_are_no_circle() {
        let files = [
            ("state.rs", STATE),
            ("inner.rs", "impl Session { fn step(&self) { self.keep() } }"),
            ("outer.rs", "impl Session { fn run(&self) { self.step(); self.keep() } }"),
            ("other.rs", "impl Other { fn keep(&self) { self.run() } fn run(&self) {} }"),
        ];
        assert_eq!(planted(&files), [[""; 0]; 0]);
        let test = "#[cfg(test)] mod tests { impl Session { fn t(&self) { self.run() } } }";
        let inner = format!("impl Session {{ fn step(&self) {{}} }} {test}");
        let outer = "impl Session { fn run(&self) { self.step() } }";
        assert_eq!(planted(&[("inner.rs", inner.as_str()), ("outer.rs", outer)]), [[""; 0]; 0]);
    }
}
