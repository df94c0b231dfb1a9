//! Commands in the documents are held against the real arguments of `fleeti`: examples must have no
//! wrong subcommand, option or value.

use std::fs;
use std::path::{Path, PathBuf};

/// The documents: `docs/`, and those beside it. The changelog names commands of former versions.
fn documents() -> Vec<PathBuf> {
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut found = Vec::new();
    for name in ["README.md", "CONTRIBUTING.md", "SECURITY.md", "ARCHITECTURE.md"] {
        found.push(repository.join(name));
    }
    add(&repository.join("docs"), &mut found);
    found.push(repository.join("packaging/postinst.fleeti-server"));
    found
}

fn add(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            add(&path, found);
        } else if path.extension().is_some_and(|e| e == "md") {
            found.push(path);
        }
    }
}

/// A command of a document, with its line.
struct Example {
    line: usize,
    text: String,
}

/// Commands in blocks of code: a line that begins with `fleeti`, with the lines that continue it.
fn in_blocks(text: &str) -> Vec<Example> {
    let mut found: Vec<Example> = Vec::new();
    let mut continues = false;
    for (i, line) in text.lines().enumerate() {
        let line = line.trim();
        let begins = ["fleeti ", "sudo fleeti "].iter().any(|b| line.starts_with(b));
        if continues {
            let last = found.last_mut().expect("a line before");
            last.text.push_str(line.trim_end_matches('\\'));
        } else if begins && !is_prose(line) {
            let text = line.trim_start_matches("sudo ").trim_end_matches('\\').to_owned();
            found.push(Example { line: i + 1, text });
        }
        continues = (continues || begins) && line.ends_with('\\');
    }
    found
}

/// A line of text that only begins with the name: it ends as a sentence or contains code.
fn is_prose(line: &str) -> bool {
    line.contains('`') && !line.contains("# ")
}

/// Commands in text, between backquotes.
fn in_text(text: &str) -> Vec<Example> {
    let mut found = Vec::new();
    let mut is_block = false;
    let mut before: Vec<(usize, String)> = Vec::new();
    for (i, line) in text.lines().enumerate() {
        if line.trim_start().starts_with("```") {
            is_block = !is_block;
        } else if !is_block {
            before.push((i + 1, line.to_owned()));
        }
    }
    // A span may continue on the next line.
    let joined: String = before.iter().map(|(_, line)| line.trim().to_owned() + "\n").collect();
    let mut at = 0;
    for (n, part) in joined.split('`').enumerate() {
        let text = part.replace('\n', " ");
        if n % 2 == 1 && text.starts_with("fleeti ") {
            let line = before.get(at).map_or(0, |(line, _)| *line);
            found.push(Example { line, text });
        }
        at += part.matches('\n').count();
    }
    found
}

/// The words of a command, as a shell splits them; without a comment at the end.
fn words(text: &str) -> Vec<String> {
    let (mut words, mut word, mut quote) = (Vec::new(), String::new(), None);
    for c in text.chars() {
        match (quote, c) {
            (Some(q), c) if c == q => quote = None,
            (None, '"' | '\'') => quote = Some(c),
            (None, '#') if word.is_empty() => break,
            (None, ' ') => words.extend((!word.is_empty()).then(|| std::mem::take(&mut word))),
            (_, c) => word.push(c),
        }
    }
    words.extend((!word.is_empty()).then_some(word));
    // "and so on", and a digest that is not written out.
    words.retain(|w| w != "..." && w != "&");
    words.iter().map(|w| w.replace("sha256:...", &format!("sha256:{}", "0".repeat(64)))).collect()
}

/// A value for a word in capitals, which stands for one.
fn for_placeholder(word: &str) -> Option<String> {
    let is_one = word.len() > 1 && word.bytes().all(|b| b.is_ascii_uppercase());
    is_one.then(|| match word {
        "RELEASE" => "kiosk@1".to_owned(),
        word => word.to_lowercase(),
    })
}

/// What is wrong with a whole command.
fn refused(text: &str) -> Option<String> {
    let words = words(text).into_iter().map(|w| for_placeholder(&w).unwrap_or(w));
    let result = fleeti_cli::command().try_get_matches_from(words);
    let error = result.err()?;
    let is_answer = matches!(
        error.kind(),
        clap::error::ErrorKind::DisplayHelp | clap::error::ErrorKind::DisplayVersion
    );
    (!is_answer).then(|| error.to_string())
}

/// What is wrong with a command in text, which may leave out arguments: a subcommand or an option
/// that does not exist. `a|b` stands for two commands, `[--x]` for an option.
fn unknown(text: &str) -> Option<String> {
    let all = fleeti_cli::command();
    let mut at = vec![&all];
    for word in words(text).iter().skip(1) {
        let word = word.trim_matches(['[', ']', '.', ',']);
        if let Some(option) = word.strip_prefix("--") {
            let option = option.split('=').next().unwrap_or_default();
            let has = |command: &&clap::Command| {
                ["help", "output"].contains(&option)
                    || command.get_arguments().any(|a| a.get_long() == Some(option))
            };
            if !at.iter().any(has) {
                return Some(format!("{} has no option --{option}", at[0].get_name()));
            }
            continue;
        }
        if !at.iter().any(|c| c.has_subcommands()) || word.chars().all(|c| !c.is_lowercase()) {
            continue;
        }
        let mut next = Vec::new();
        for name in word.split('|') {
            match at.iter().find_map(|c| c.find_subcommand(name)) {
                Some(found) => next.push(found),
                None => return Some(format!("{} has no subcommand {name}", at[0].get_name())),
            }
        }
        at = next;
    }
    None
}

#[test]
fn every_command_in_a_document_is_one_that_fleeti_accepts() {
    let (mut whole, mut parts, mut wrong) = (0, 0, Vec::new());
    for path in documents() {
        let text = fs::read_to_string(&path).unwrap();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        for example in in_blocks(&text) {
            whole += 1;
            let why = refused(&example.text);
            wrong.extend(why.map(|w| format!("{name}:{}: {}\n{w}", example.line, example.text)));
        }
        for example in in_text(&text) {
            parts += 1;
            let why = unknown(&example.text);
            wrong.extend(why.map(|w| format!("{name}:{}: {}: {w}", example.line, example.text)));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(whole > 60 && parts > 100, "only {whole} and {parts} commands were found");
}

#[test]
fn a_wrong_subcommand_option_or_value_of_an_example_is_found() {
    for good in [
        "fleeti pki init pki   # offline/",
        "fleeti --help",
        "fleeti login https://a.test:1 --fingerprint sha256:...",
    ] {
        assert_eq!(refused(good), None, "{good}");
    }
    for bad in [
        "fleeti pki start pki",
        "fleeti pki init",
        "fleeti pki init pki --fast",
        "fleeti rollout start --release kiosk --fleet demo",
        "fleeti login https://a.test:1 --fingerprint sha256:12",
    ] {
        assert!(refused(bad).is_some(), "{bad}");
    }
    for good in
        ["fleeti attest show|now", "fleeti NOUN VERB", "fleeti profile show FILE [--why PATH]"]
    {
        assert_eq!(unknown(good), None, "{good}");
    }
    for bad in
        ["fleeti attest show|later", "fleeti profile show FILE [--because PATH]", "fleeti nouns"]
    {
        assert!(unknown(bad).is_some(), "{bad}");
    }
    let found = in_text("a `fleeti\nattest sho`, then\n`fleeti user`");
    assert_eq!(found.iter().map(|e| e.line).collect::<Vec<_>>(), [1, 3]);
}
