//! `cargo xtask site`: the documents as a site that works without internet, by mdBook. The texts are
//! those of the repository; references of API, command line and Python are generated.

use crate::package::stdout;
use crate::{openapi, root, run, target};
use anyhow::{Context, Result, bail, ensure};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const MDBOOK: &str = "0.5.4";
const BOOK: &str = "[book]\ntitle = \"Fleeti\"\nlanguage = \"en\"\nsrc = \"src\"\n\n\
                    [build]\nbuild-dir = \"book\"\ncreate-missing = false\n\n\
                    [output.html]\nno-section-label = true\n\n\
                    [output.html.fold]\nenable = true\nlevel = 1\n";
/// Generated pages: their path, and their title in the table of contents.
const GENERATED: [(&str, &str); 3] = [
    ("docs/reference/cli.md", "Command line"),
    ("docs/reference/api.md", "HTTP API"),
    ("docs/reference/python.md", "Python"),
];

/// Builds the site in `target/site/book`, with the command `fleeti` of this folder of executables.
pub fn build(programs: &Path) -> Result<()> {
    let check = ["docs/images/draw.py", "--check"];
    run("the pictures are those of their script", Command::new("python3").args(check))?;
    let mdbook = mdbook()?;
    let folder = target().join("site");
    fs::remove_dir_all(&folder).ok();
    let src = folder.join("src");
    let names = crate::checks::tracked(&root())?;
    for name in names.lines() {
        copy(name, &src)?;
    }
    write(&src.join("SUMMARY.md"), &summary()?)?;
    write(&src.join(GENERATED[0].0), &command_line(&programs.join("fleeti"))?)?;
    let document = fs::read_to_string(root().join("fleeti-server/openapi.json"))?;
    write(&src.join(GENERATED[1].0), &openapi::page(&document)?)?;
    let script = ["xtask/python_reference.py", "bindings/python/python/fleeti"];
    let python = stdout(Command::new("python3").args(script).current_dir(root()))?;
    write(&src.join(GENERATED[2].0), &python)?;
    write(&folder.join("book.toml"), BOOK)?;
    run("the site", Command::new(mdbook).arg("build").arg(&folder))?;
    let book = folder.join("book");
    let pages = check_links(&book)?;
    println!("    {} pages: {}", pages, book.join("index.html").display());
    Ok(())
}

/// Installs mdBook into `target/tools` if it is missing, and returns its path.
fn mdbook() -> Result<PathBuf> {
    let folder = target().join("tools/mdbook");
    let program = folder.join("bin/mdbook");
    let is_current = Command::new(&program)
        .arg("--version")
        .output()
        .is_ok_and(|o| String::from_utf8_lossy(&o.stdout).contains(MDBOOK));
    if !is_current {
        run(
            "install mdBook",
            crate::cargo(&["install", "mdbook", "--version", MDBOOK, "--locked"])
                .args(["--no-default-features", "--features", "search", "--root"])
                .arg(&folder),
        )?;
    }
    Ok(program)
}

/// Copies a document, and each file that a document may show. mdBook wants `index.md` for README.md.
fn copy(name: &str, src: &Path) -> Result<()> {
    const LINKED: [&str; 8] = [".md", ".svg", ".png", ".json", ".toml", ".snap", ".service", ".rs"];
    if !LINKED.iter().any(|ending| name.ends_with(ending)) || name == "docs/SUMMARY.md" {
        return Ok(());
    }
    let from = root().join(name);
    if name.ends_with(".md") {
        let text = fs::read_to_string(&from)?.replace("README.md", "index.md");
        return write(&src.join(name.replace("README.md", "index.md")), &text);
    }
    let to = src.join(name);
    fs::create_dir_all(to.parent().context("a file in a folder")?)?;
    fs::copy(from, to)?;
    Ok(())
}

fn write(path: &Path, text: &str) -> Result<()> {
    fs::create_dir_all(path.parent().context("a file in a folder")?)?;
    Ok(fs::write(path, text)?)
}

/// The table of contents, with paths from the root of the repository and the generated pages.
fn summary() -> Result<String> {
    let text = fs::read_to_string(root().join("docs/SUMMARY.md"))?;
    let mut lines = Vec::new();
    for line in text.replace("README.md", "index.md").lines() {
        let line = line.replace("](../", "](@").replace("](", "](docs/").replace("](docs/@", "](");
        let is_reference = line.contains("](docs/reference/index.md)");
        let has_decisions = line.contains("](docs/decisions/index.md)");
        lines.push(line);
        if has_decisions {
            lines.extend(decisions()?);
        }
        if is_reference {
            lines.extend(GENERATED.iter().map(|(path, title)| format!("  - [{title}]({path})")));
        }
    }
    Ok(lines.join("\n") + "\n")
}

/// An entry for each decision, by number.
fn decisions() -> Result<Vec<String>> {
    let folder = root().join("docs/decisions");
    let mut names = fs::read_dir(&folder)?
        .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
        .collect::<Result<Vec<_>>>()?;
    names.retain(|name| name.ends_with(".md") && name != "README.md");
    names.sort();
    let entry = |name: &String| -> Result<String> {
        let text = fs::read_to_string(folder.join(name))?;
        let title = text.lines().next().unwrap_or_default().trim_start_matches("# ");
        Ok(format!("    - [{title}](docs/decisions/{name})"))
    };
    names.iter().map(entry).collect()
}

/// The help of every subcommand.
fn command_line(program: &Path) -> Result<String> {
    let mut page =
        String::from("# Command line\n\nThe help of each command, as `--help` prints it.\n");
    describe(program, &[], &mut page)?;
    Ok(page)
}

fn describe(program: &Path, path: &[String], page: &mut String) -> Result<()> {
    let help = stdout(Command::new(program).args(path).arg("--help").env("COLUMNS", "100"))?;
    let name: Vec<&str> =
        std::iter::once("fleeti").chain(path.iter().map(String::as_str)).collect();
    let level = "#".repeat((path.len() + 2).min(4));
    page.push_str(&format!("\n{level} {}\n\n```text\n{}\n```\n", name.join(" "), help.trim_end()));
    for command in subcommands(&help) {
        let next: Vec<String> = path.iter().cloned().chain([command]).collect();
        describe(program, &next, page)?;
    }
    Ok(())
}

/// The names below `Commands:` of a help.
fn subcommands(help: &str) -> Vec<String> {
    let list = help.lines().skip_while(|line| *line != "Commands:").skip(1);
    list.take_while(|line| line.starts_with(' '))
        .filter(|line| line.starts_with("  ") && !line.starts_with("   "))
        .filter_map(|line| line.split_whitespace().next())
        .filter(|name| *name != "help")
        .map(str::to_owned)
        .collect()
}

/// Checks that every relative link of every page leads to a file of the site and a heading in it;
/// returns the number of pages.
fn check_links(book: &Path) -> Result<usize> {
    let mut pages = Vec::new();
    collect(book, &mut pages)?;
    let mut wrong = Vec::new();
    for page in &pages {
        let text = fs::read_to_string(page)?;
        for attribute in ["href=\"", "src=\""] {
            for part in text.split(attribute).skip(1) {
                let link = part.split('"').next().unwrap_or_default();
                if link.contains(':') || link.is_empty() || link.starts_with("//") {
                    continue;
                }
                if !leads_somewhere(page, link) {
                    wrong.push(format!("{}: {link}", page.strip_prefix(book)?.display()));
                }
            }
        }
    }
    wrong.sort();
    wrong.dedup();
    ensure!(pages.len() > 100, "the site has only {} pages", pages.len());
    if wrong.is_empty() {
        Ok(pages.len())
    } else {
        bail!("broken links:\n  {}", wrong.join("\n  "))
    }
}

fn collect(folder: &Path, pages: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            collect(&path, pages)?;
        } else if path.extension().is_some_and(|e| e == "html") {
            // It belongs to no folder: its links count from the root of a web server.
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if name != "404.html" {
                pages.push(path);
            }
        }
    }
    Ok(())
}

fn leads_somewhere(page: &Path, link: &str) -> bool {
    let (path, anchor) = link.split_once('#').unwrap_or((link, ""));
    let path = path.split('?').next().unwrap_or_default();
    let target = if path.is_empty() {
        page.to_owned()
    } else {
        page.parent().unwrap_or(Path::new("")).join(path)
    };
    let Ok(bytes) = fs::read(&target) else { return false };
    let is_page = target.extension().is_some_and(|e| e == "html");
    anchor.is_empty()
        || !is_page
        || String::from_utf8_lossy(&bytes).contains(&format!("id=\"{anchor}\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subcommands_are_read_from_a_help() {
        let help = "Manage\n\nUsage: fleeti pki <COMMAND>\n\nCommands:\n  init  Create keys\n          on this \
                    machine\n  root  The root\n  help  Print\n\nOptions:\n  -o  x\n";
        assert_eq!(subcommands(help), ["init", "root"]);
        assert_eq!(subcommands("Usage: fleeti pki init\n\nOptions:\n  -h\n"), Vec::<String>::new());
    }

    #[test]
    fn a_link_of_the_site_leads_to_a_file_and_a_heading() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("a")).unwrap();
        let page = dir.path().join("a/x.html");
        fs::write(&page, "<h2 id=\"here\">").unwrap();
        fs::write(dir.path().join("y.json"), "{}").unwrap();
        for good in ["#here", "x.html", "../y.json", "../y.json#n", "x.html?highlight=1#here"] {
            assert!(leads_somewhere(&page, good), "{good}");
        }
        for bad in ["#there", "y.json", "../a/z.html", "../a"] {
            assert!(!leads_somewhere(&page, bad), "{bad}");
        }
    }
}
