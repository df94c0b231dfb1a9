//! Checks of the documents: relative links and their anchors exist, and blocks of TOML can be read.
//! Commands in them are checked by a test of `fleeti-cli`, against its real arguments.

use anyhow::Result;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Component, Path, PathBuf};

/// What is wrong in these files of the repository.
pub fn wrong(root: &Path, names: &[&str]) -> Result<Vec<String>> {
    let known: BTreeSet<&str> = names.iter().copied().collect();
    let mut wrong = Vec::new();
    let summary = fs::read_to_string(root.join(SUMMARY)).unwrap_or_default();
    for name in names.iter().filter(|n| n.ends_with(".md")) {
        let Ok(text) = fs::read_to_string(root.join(name)) else { continue };
        for link in links(&text) {
            if let Some(why) = broken(root, &known, name, &link) {
                wrong.push(format!("{name}:{}: {why}", link.line));
            }
        }
        if name.starts_with("docs/") && *name != SUMMARY && !is_in_summary(&summary, name) {
            wrong.push(format!("{name} is not in {SUMMARY}"));
        }
        for (line, block) in blocks(&text, "toml") {
            if let Err(e) = block.parse::<toml::Table>() {
                wrong.push(format!("{name}:{line}: this block is not TOML: {}", e.message()));
            }
        }
    }
    wrong.extend(unsaid(root, names));
    Ok(wrong)
}

/// Symptoms of the troubleshooting page that no program says: each text between backquotes in the
/// first column must be in a source file.
fn unsaid(root: &Path, names: &[&str]) -> Vec<String> {
    const PAGE: &str = "docs/troubleshooting.md";
    let Ok(page) = fs::read_to_string(root.join(PAGE)) else { return Vec::new() };
    let is_source = |name: &&&str| name.ends_with(".rs") && !name.starts_with("xtask/");
    let sources: String = names
        .iter()
        .filter(is_source)
        .filter_map(|name| fs::read_to_string(root.join(name)).ok())
        .map(|text| joined(&text))
        .collect();
    let mut wrong = Vec::new();
    for (line, row) in prose(&page).filter(|(_, row)| row.starts_with("| ")) {
        let symptom = row.trim_start_matches("| ").split(" | ").next().unwrap_or_default();
        for said in symptom.split('`').skip(1).step_by(2) {
            if !sources.contains(said) {
                wrong.push(format!("{PAGE}:{line}: no program says {said:?}"));
            }
        }
    }
    wrong
}

/// A source text in which literals that continue on the next line are whole.
fn joined(text: &str) -> String {
    let mut whole = String::new();
    for line in text.lines() {
        match line.strip_suffix('\\') {
            Some(part) => {
                whole.push_str(if whole.ends_with('\n') { part } else { part.trim_start() })
            }
            None if whole.ends_with('\n') || whole.is_empty() => {
                whole.push_str(line);
                whole.push('\n');
            }
            None => {
                whole.push_str(line.trim_start());
                whole.push('\n');
            }
        }
    }
    whole
}

/// The table of contents of the site.
const SUMMARY: &str = "docs/SUMMARY.md";

fn is_in_summary(summary: &str, name: &str) -> bool {
    summary.contains(&format!("]({})", name.trim_start_matches("docs/")))
}

struct Link {
    line: usize,
    target: String,
}

fn broken(root: &Path, known: &BTreeSet<&str>, from: &str, link: &Link) -> Option<String> {
    let (path, anchor) = link.target.split_once('#').unwrap_or((&link.target, ""));
    let target = if path.is_empty() {
        from.to_owned()
    } else {
        let folder = Path::new(from).parent().unwrap_or(Path::new(""));
        let Some(target) = inside(&folder.join(path)) else {
            return Some(format!("the link {} leaves the repository", link.target));
        };
        target
    };
    let folder = format!("{target}/");
    if !known.contains(target.as_str()) && !known.iter().any(|name| name.starts_with(&folder)) {
        return Some(format!("the link {} leads to no file of the repository", link.target));
    }
    if anchor.is_empty() || !target.ends_with(".md") {
        return None;
    }
    let text = fs::read_to_string(root.join(&target)).unwrap_or_default();
    let has = anchors(&text).iter().any(|a| a == anchor);
    (!has).then(|| format!("{target} has no heading for #{anchor}"))
}

/// A path without `..`; `None` if it leads out of the repository.
fn inside(path: &Path) -> Option<String> {
    let mut clean = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir if !clean.pop() => return None,
            Component::ParentDir | Component::CurDir => {}
            Component::Normal(name) => clean.push(name),
            Component::RootDir | Component::Prefix(_) => return None,
        }
    }
    Some(clean.to_string_lossy().trim_end_matches('/').to_owned())
}

/// Relative links `](target)` outside code.
fn links(text: &str) -> Vec<Link> {
    let mut found = Vec::new();
    for (line, content) in prose(text) {
        let content = without_spans(content);
        for part in content.split("](").skip(1) {
            let target = part.split(')').next().unwrap_or_default();
            let target = target.split(" \"").next().unwrap_or_default();
            let is_foreign = target.contains("://") || target.starts_with("mailto:");
            if !target.is_empty() && !is_foreign {
                found.push(Link { line, target: target.to_owned() });
            }
        }
    }
    found
}

/// Lines outside fenced blocks, with their numbers.
fn prose(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut is_code = false;
    text.lines().enumerate().filter_map(move |(i, line)| {
        if line.trim_start().starts_with("```") {
            is_code = !is_code;
            return None;
        }
        (!is_code).then_some((i + 1, line))
    })
}

/// A line without its code spans.
fn without_spans(line: &str) -> String {
    line.split('`').step_by(2).collect()
}

/// The fenced blocks of a language, with the number of their first line.
fn blocks(text: &str, language: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let mut open: Option<(usize, String)> = None;
    let mut is_other = false;
    for (i, line) in text.lines().enumerate() {
        let fence = line.trim_start().strip_prefix("```");
        match (fence, &mut open) {
            (Some(_), Some(_)) => found.extend(open.take()),
            (Some(_), None) if is_other => is_other = false,
            (Some(of), None) if of.trim() == language => open = Some((i + 2, String::new())),
            (Some(_), None) => is_other = true,
            (None, Some((_, block))) => {
                block.push_str(line);
                block.push('\n');
            }
            (None, None) => {}
        }
    }
    found
}

/// Anchors of headings, as GitHub and mdBook make them.
fn anchors(text: &str) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    for (_, line) in prose(text) {
        let level = line.len() - line.trim_start_matches('#').len();
        if level == 0 || !line[level..].starts_with(' ') {
            continue;
        }
        let kept = line[level..].trim().to_lowercase();
        let slug: String = kept
            .chars()
            .filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'))
            .map(|c| if c == ' ' { '-' } else { c })
            .collect();
        let repeated = found.iter().filter(|f| **f == slug).count();
        found.push(if repeated == 0 { slug } else { format!("{slug}-{repeated}") });
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Vec<String> {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("docs")).unwrap();
        fs::write(dir.path().join("docs/a.md"), text).unwrap();
        fs::write(dir.path().join("docs/SUMMARY.md"), "- [A](a.md)\n").unwrap();
        fs::write(dir.path().join("README.md"), "# One `two`, three\n\n```sh\n# no heading\n```\n")
            .unwrap();
        wrong(dir.path(), &["README.md", "docs/a.md"]).unwrap()
    }

    #[test]
    fn a_link_to_a_file_or_heading_that_is_missing_is_named_with_its_line() {
        let good = "[a](../README.md) [b](../README.md#one-two-three) [c](https://x.test/y.md)\n\
                    [d](../docs) `[e](none.md)`\n\n# Here\n[f](#here)\n\n```sh\n[g](none.md)\n```\n";
        assert_eq!(of(good), Vec::<String>::new());
        for (text, expected) in [
            ("x\n[a](none.md)", "docs/a.md:2: the link none.md leads to no file of the repository"),
            (
                "[a](../README.md#no-heading)",
                "docs/a.md:1: README.md has no heading for #no-heading",
            ),
            ("[a](../../x.md)", "docs/a.md:1: the link ../../x.md leaves the repository"),
            ("[a](#nowhere)", "docs/a.md:1: docs/a.md has no heading for #nowhere"),
        ] {
            assert_eq!(of(text), [expected]);
        }
    }

    #[test]
    fn a_symptom_that_no_program_says_is_named() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("docs")).unwrap();
        let source = "fn f() {\n    g(\"the disk is \\\n       full\");\n}\n";
        let page = "| symptom | layer |\n|---|---|\n| `the disk is full` | disk, `df` |\n| `no paper` | x |\n";
        fs::write(dir.path().join("a.rs"), source).unwrap();
        fs::write(dir.path().join("docs/troubleshooting.md"), page).unwrap();
        fs::write(dir.path().join("docs/SUMMARY.md"), "- [T](troubleshooting.md)\n").unwrap();
        let names = ["a.rs", "docs/SUMMARY.md", "docs/troubleshooting.md"];
        let expected = "docs/troubleshooting.md:4: no program says \"no paper\"";
        assert_eq!(wrong(dir.path(), &names).unwrap(), [expected]);
    }

    #[test]
    fn a_document_that_the_site_leaves_out_is_named() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("docs")).unwrap();
        for (name, text) in [("SUMMARY.md", "- [A](a.md)\n"), ("a.md", "A\n"), ("b.md", "B\n")] {
            fs::write(dir.path().join("docs").join(name), text).unwrap();
        }
        let names = ["docs/SUMMARY.md", "docs/a.md", "docs/b.md"];
        assert_eq!(wrong(dir.path(), &names).unwrap(), ["docs/b.md is not in docs/SUMMARY.md"]);
    }

    #[test]
    fn a_block_of_toml_that_cannot_be_read_is_named_with_its_line() {
        assert_eq!(of("```toml\na = 1\n```\n```sh\na = [\n```\n"), Vec::<String>::new());
        let found = of("text\n\n```toml\na = [\n```\n");
        assert!(found[0].starts_with("docs/a.md:4: this block is not TOML"), "{found:?}");
    }
}
