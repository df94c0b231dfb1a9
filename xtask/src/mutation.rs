//! `cargo xtask mutate`: checks that a test fails when a check is deleted. Every check in a file
//! gets a switch, a copy of the repository is built once with all of them, and the tests run once
//! for each switch.
//!
//! A check is a condition that leads to an error (`if a || b { return Err(…) }`: each of `a` and
//! `b`), the guard of a match arm, a call whose value is only an error (`check(x)?;`), the closure
//! of a `filter` or `find`, and each part of an `&&` that is a return value. A deleted check
//! accepts everything.

use crate::{cargo, root, setup, target, tools};
use anyhow::{Context, Result, bail, ensure};
use quote::ToTokens;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use syn::visit_mut::{self, VisitMut};
use syn::{
    Attribute, BinOp, Block, Expr, ImplItemFn, Item, ItemFn, ReturnType, Signature, Stmt, Type,
};

/// Default files: those that decide about TPM evidence and what a device gets for it.
const ATTESTATION: &[&str] = &[
    "fleeti-pki/src/attestation",
    "fleeti-pki/src/tpm",
    "fleeti-pki/src/measured",
    "fleeti-control/src/attestation",
    "fleeti-control/src/boot",
    "fleeti-control/src/enrollment",
    "fleeti-control/src/secrets",
    "fleeti-control/src/trust/access",
    "fleeti-server/src/http/device",
];
/// Environment variable with the number of the deleted check.
const SWITCH: &str = "FLEETI_DELETED_CHECK";
/// Module that is added to every crate with checks; `SWITCH` is replaced by the name above.
const MODULE: &str = r#"
#[doc(hidden)]
pub(crate) mod deleted_check {
    static NUMBER: std::sync::LazyLock<Option<u32>> =
        std::sync::LazyLock::new(|| std::env::var("SWITCH").ok().and_then(|n| n.parse().ok()));
    pub(crate) fn is(number: u32) -> bool { *NUMBER == Some(number) }
}
"#;
/// Time limit of a test: a deleted check may have ended a loop.
const NEXTEST: &str =
    "[profile.default]\nslow-timeout = { period = \"60s\", terminate-after = 2 }\n";
/// Tests that run first, by the crate of the check: they notice most deletions.
const FIRST: &[(&str, &str)] = &[
    (
        "fleeti-pki",
        "package(fleeti-pki) & test(/^(areas|attestation|crafted|logs|measured|pcr_policy|started|tpm)::/)",
    ),
    (
        "fleeti-server",
        "binary_id(fleeti-server::it) & test(/^(attestation|boot|policy|tpm|vault)::/)",
    ),
];
/// Tests of other crates that also run.
const ALSO: &[(&str, &str)] =
    &[("fleeti-pki", "binary_id(fleeti-server::it) & test(/^(attestation|policy|tpm)::/)")];

/// Deletes each check of the files whose path begins with one of `paths`; `--list` only lists them.
pub fn mutate(words: &[&str]) -> Result<()> {
    let (only_lists, paths) = match words {
        ["--list", paths @ ..] => (true, paths),
        paths => (false, paths),
    };
    let paths = if paths.is_empty() { ATTESTATION } else { paths };
    let mut checks = Vec::new();
    let files = with_switches(paths, &mut checks)?;
    ensure!(!checks.is_empty(), "no check in {}", paths.join(", "));
    if only_lists {
        checks.iter().for_each(|check| println!("{check}"));
        return Ok(());
    }
    setup::run()?;
    tools::install()?;
    let folder = target().join("mutation");
    files.iter().try_for_each(|(name, content)| write(&folder.join("tree").join(name), content))?;
    println!("{} checks", checks.len());
    let packages: BTreeSet<&str> = checks.iter().filter_map(|check| package(check)).collect();
    let tests = Tests::build(&folder, &packages)?;
    for package in &packages {
        if let Some(said) = tests.failures(package, None)? {
            bail!("tests of {package} fail without a deleted check:\n{said}");
        }
    }
    let mut unnoticed = Vec::new();
    for (number, check) in checks.iter().enumerate() {
        let is_noticed =
            tests.failures(package(check).unwrap_or_default(), Some(number))?.is_some();
        println!("{} {check}", if is_noticed { "noticed  " } else { "UNNOTICED" });
        if !is_noticed {
            unnoticed.push(check.as_str());
        }
    }
    println!("{} of {} deletions were noticed", checks.len() - unnoticed.len(), checks.len());
    ensure!(unnoticed.is_empty(), "no test fails without\n  {}", unnoticed.join("\n  "));
    Ok(())
}

/// The files that git knows, with a switch for each check, and the checks in the order of their
/// numbers.
fn with_switches(paths: &[&str], checks: &mut Vec<String>) -> Result<BTreeMap<String, Vec<u8>>> {
    let listed = Command::new("git")
        .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
        .current_dir(root())
        .output()?;
    ensure!(listed.status.success(), "git ls-files: {}", listed.status);
    let names = String::from_utf8(listed.stdout)?;
    let (mut files, mut crates) = (BTreeMap::new(), BTreeSet::new());
    for name in names.split_terminator('\0').filter(|name| root().join(name).is_file()) {
        let mut content = fs::read(root().join(name))?;
        if name.ends_with(".rs") && paths.iter().any(|path| name.starts_with(path)) {
            let mut file =
                syn::parse_file(std::str::from_utf8(&content)?).with_context(|| name.to_owned())?;
            Switches { file: name, function: String::new(), checks }.visit_file_mut(&mut file);
            content = file.into_token_stream().to_string().into_bytes();
            let package = package(name).with_context(|| format!("{name} is not in a crate"))?;
            crates.insert(format!("{package}/src/lib.rs"));
        }
        files.insert(name.to_owned(), content);
    }
    for library in crates {
        files
            .get_mut(&library)
            .with_context(|| format!("there is no {library}"))?
            .extend_from_slice(MODULE.replace("SWITCH", SWITCH).as_bytes());
    }
    Ok(files)
}

/// The crate of a file.
fn package(file: &str) -> Option<&str> {
    file.split_once("/src/").map(|(package, _)| package)
}

/// Writes changed files only, so that cargo compiles nothing else again.
fn write(path: &Path, content: &[u8]) -> Result<()> {
    if fs::read(path).is_ok_and(|there| there == content) {
        return Ok(());
    }
    fs::create_dir_all(path.parent().context("no folder")?)?;
    fs::write(path, content).with_context(|| path.display().to_string())
}

struct Tests {
    tree: PathBuf,
    /// Values that cargo would otherwise look up each time.
    metadata: PathBuf,
    binaries: PathBuf,
    config: PathBuf,
}

impl Tests {
    fn build(folder: &Path, packages: &BTreeSet<&str>) -> Result<Self> {
        let tests = Self {
            tree: folder.join("tree"),
            metadata: folder.join("metadata.json"),
            binaries: folder.join("binaries.json"),
            config: folder.join("nextest.toml"),
        };
        write(&tests.config, NEXTEST.as_bytes())?;
        // Generated code has redundant parentheses.
        let lax = |arguments: &[&str]| {
            let mut command = cargo(arguments);
            command
                .env("CARGO_TARGET_DIR", folder.join("build"))
                .env("RUSTFLAGS", "--cap-lints=warn -Awarnings")
                .current_dir(&tests.tree);
            command
        };
        let metadata = lax(&["metadata", "--format-version=1"]).output()?;
        ensure!(
            metadata.status.success(),
            "cargo metadata: {}",
            String::from_utf8_lossy(&metadata.stderr)
        );
        write(&tests.metadata, &metadata.stdout)?;
        println!("==> build the tests with a switch for each check");
        let mut wanted = vec![
            "nextest",
            "list",
            "--list-type",
            "binaries-only",
            "--message-format",
            "json",
            "--cargo-profile",
            "ci",
        ];
        // Tests of the server also cover other crates, and start the signing service.
        packages
            .iter()
            .chain(&["fleeti-server", "fleeti-signer"])
            .for_each(|package| wanted.extend(["-p", package]));
        let binaries = lax(&wanted).stderr(Stdio::inherit()).output()?;
        ensure!(binaries.status.success(), "building the tests failed: {}", binaries.status);
        write(&tests.binaries, &binaries.stdout)?;
        Ok(tests)
    }

    /// The output of the tests that fail without a check of a crate; `None` if all pass. Runs the
    /// first tests alone, if one of them fails.
    fn failures(&self, package: &str, deleted: Option<usize>) -> Result<Option<String>> {
        let of = |named: &[(&str, &'static str)]| {
            named.iter().find(|(name, _)| *name == package).map(|(_, tests)| *tests)
        };
        let (first, also) = (of(FIRST).unwrap_or("none()"), of(ALSO).unwrap_or("none()"));
        match self.failures_of(first, deleted)? {
            None => {
                self.failures_of(&format!("package({package}) - ({first}) | ({also})"), deleted)
            }
            said => Ok(said),
        }
    }

    fn failures_of(&self, tests: &str, deleted: Option<usize>) -> Result<Option<String>> {
        let mut command = Command::new("cargo-nextest");
        command
            .args(["nextest", "run", "--cargo-metadata"])
            .arg(&self.metadata)
            .arg("--binaries-metadata")
            .arg(&self.binaries);
        command.arg("--config-file").arg(&self.config).args([
            "--status-level",
            "none",
            "--final-status-level",
            "none",
            "--no-tests",
            "pass",
            "-E",
            tests,
        ]);
        if let Some(number) = deleted {
            command.env(SWITCH, number.to_string());
        }
        command.envs(tools::judges()).current_dir(&self.tree).stdin(Stdio::null());
        let output = command.output().context("cargo-nextest")?;
        let said = String::from_utf8_lossy(&output.stderr);
        match output.status.code() {
            Some(0) => Ok(None),
            // NEXTEST_EXIT_CODE of failed tests.
            Some(100) => Ok(Some(said.into_owned())),
            _ => bail!("cargo nextest: {}\n{said}", output.status),
        }
    }
}

struct Switches<'a> {
    file: &'a str,
    function: String,
    checks: &'a mut Vec<String>,
}

impl Switches<'_> {
    fn add(&mut self, what: &impl ToTokens) -> Expr {
        let number = u32::try_from(self.checks.len()).unwrap_or(u32::MAX);
        let text = what.to_token_stream().to_string();
        self.checks.push(format!(
            "{} {}: {}",
            self.file,
            self.function,
            text.chars().take(160).collect::<String>()
        ));
        syn::parse_quote!(crate::deleted_check::is(#number))
    }

    /// Each part of an `||`: false when it is deleted.
    fn refuse(&mut self, condition: &mut Expr) {
        each_part(condition, |op| matches!(op, BinOp::Or(_)), &mut |part| {
            let is_deleted = self.add(part);
            // A `let` cannot be in parentheses.
            *part = if has_let(part) {
                syn::parse_quote!(!#is_deleted && #part)
            } else {
                syn::parse_quote!((!#is_deleted && (#part)))
            };
        });
    }

    /// Each part of an `&&`: true when it is deleted.
    fn require(&mut self, condition: &mut Expr) {
        each_part(condition, |op| matches!(op, BinOp::And(_)), &mut |part| {
            if !has_let(part) {
                let is_deleted = self.add(part);
                *part = syn::parse_quote!((#is_deleted || (#part)));
            }
        });
    }

    fn function(&mut self, signature: &Signature, attributes: &[Attribute], block: &mut Block) {
        if signature.constness.is_some() || is_test(attributes) {
            return;
        }
        let answers = is_bool(&signature.output);
        let outer = std::mem::replace(&mut self.function, signature.ident.to_string());
        self.visit_block_mut(block);
        if let Some(Stmt::Expr(answer, None)) = block.stmts.last_mut().filter(|_| answers)
            && matches!(answer, Expr::Binary(both) if matches!(both.op, BinOp::And(_)))
        {
            self.require(answer);
        }
        self.function = outer;
    }
}

impl VisitMut for Switches<'_> {
    fn visit_item_mut(&mut self, item: &mut Item) {
        match item {
            Item::Mod(inner) if is_test(&inner.attrs) => {}
            Item::Const(_) | Item::Static(_) | Item::Macro(_) => {}
            _ => visit_mut::visit_item_mut(self, item),
        }
    }

    fn visit_item_fn_mut(&mut self, item: &mut ItemFn) {
        self.function(&item.sig, &item.attrs, &mut item.block);
    }

    fn visit_impl_item_fn_mut(&mut self, item: &mut ImplItemFn) {
        self.function(&item.sig, &item.attrs, &mut item.block);
    }

    fn visit_expr_if_mut(&mut self, found: &mut syn::ExprIf) {
        visit_mut::visit_expr_if_mut(self, found);
        if refuses(&found.then_branch) {
            self.refuse(&mut found.cond);
        }
    }

    fn visit_pat_guard_mut(&mut self, pattern: &mut syn::PatGuard) {
        visit_mut::visit_pat_guard_mut(self, pattern);
        self.refuse(&mut pattern.guard);
    }

    fn visit_expr_method_call_mut(&mut self, call: &mut syn::ExprMethodCall) {
        visit_mut::visit_expr_method_call_mut(self, call);
        if (call.method == "filter" || call.method == "find")
            && let Some(Expr::Closure(closure)) = call.args.first_mut()
            && !matches!(*closure.body, Expr::Block(_))
        {
            self.require(&mut closure.body);
        }
    }

    fn visit_stmt_mut(&mut self, statement: &mut Stmt) {
        visit_mut::visit_stmt_mut(self, statement);
        if let Stmt::Expr(Expr::Try(check), Some(_)) = statement
            && matches!(*check.expr, Expr::Call(_) | Expr::MethodCall(_))
        {
            let is_deleted = self.add(check);
            *statement = syn::parse_quote!(if !#is_deleted { #check; });
        }
    }
}

/// The operands of an operator, without parentheses.
fn each_part(condition: &mut Expr, splits: fn(&BinOp) -> bool, found: &mut impl FnMut(&mut Expr)) {
    match condition {
        Expr::Binary(both) if splits(&both.op) => {
            each_part(&mut both.left, splits, found);
            each_part(&mut both.right, splits, found);
        }
        Expr::Paren(inner) => each_part(&mut inner.expr, splits, found),
        _ => found(condition),
    }
}

fn is_test(attributes: &[Attribute]) -> bool {
    attributes
        .iter()
        .any(|a| a.path().is_ident("cfg") && a.meta.to_token_stream().to_string().contains("test"))
}

fn is_bool(output: &ReturnType) -> bool {
    matches!(output, ReturnType::Type(_, what) if matches!(&**what, Type::Path(path) if path.path.is_ident("bool")))
}

fn has_let(condition: &Expr) -> bool {
    match condition {
        Expr::Let(_) => true,
        Expr::Binary(both) => has_let(&both.left) || has_let(&both.right),
        _ => false,
    }
}

/// Whether a block ends with something other than success: an error, `None`, `false`, or a claim
/// about evidence.
fn refuses(block: &Block) -> bool {
    match block.stmts.last() {
        Some(Stmt::Expr(Expr::Return(returned), _)) => {
            returned.expr.as_deref().is_some_and(is_refusal)
        }
        Some(Stmt::Expr(Expr::Call(call), None)) => is_named(call, &["Err"]),
        Some(Stmt::Expr(expression, None)) => {
            !matches!(expression, Expr::Tuple(_)) && is_refusal(expression)
        }
        _ => false,
    }
}

fn is_refusal(returned: &Expr) -> bool {
    match returned {
        Expr::Call(call) => !is_named(call, &["Ok", "Some"]),
        Expr::MethodCall(_) => true,
        Expr::Tuple(tuple) => tuple.to_token_stream().to_string().contains("Tier ::"),
        Expr::Path(path) => path.path.is_ident("None"),
        Expr::Lit(literal) => matches!(&literal.lit, syn::Lit::Bool(b) if !b.value),
        _ => false,
    }
}

fn is_named(call: &syn::ExprCall, names: &[&str]) -> bool {
    matches!(&*call.func, Expr::Path(path) if names.iter().any(|name| path.path.is_ident(name)))
}
