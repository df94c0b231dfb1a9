//! Checks of the repository's map, `ARCHITECTURE.md`: it is short, and the files that it names exist.

/// Longest map, in words (wc(1)).
const WORDS_MAX: usize = 2000;
/// Ends of file names. Other texts in backticks can be anything.
const ENDS: [&str; 9] = [".rs", ".py", ".pyi", ".md", ".json", ".toml", ".mjs", ".sql", "/"];

/// What is wrong with the map of a repository that has these files. A file is named by its whole
/// path or by the end of it, a folder with a slash at its end.
pub fn wrong(map: &str, files: &[&str]) -> Vec<String> {
    let mut wrong = Vec::new();
    let words = map.split_whitespace().count();
    if words > WORDS_MAX {
        wrong.push(format!("ARCHITECTURE.md has {words} words, at most {WORDS_MAX} are allowed"));
    }
    for (i, line) in map.lines().enumerate() {
        let named = line.split('`').skip(1).step_by(2);
        let missing = named.filter(|name| is_path(name) && !exists(name, files));
        wrong.extend(missing.map(|name| format!("ARCHITECTURE.md:{}: no file {name}", i + 1)));
    }
    wrong
}

fn is_path(text: &str) -> bool {
    !text.starts_with('/') && !text.contains(' ') && ENDS.iter().any(|end| text.ends_with(end))
}

fn exists(name: &str, files: &[&str]) -> bool {
    files.iter().any(|file| {
        let is_whole = |at: usize| at == 0 || file.as_bytes()[at - 1] == b'/';
        let is_at =
            |at: usize| is_whole(at) && (name.ends_with('/') || at + name.len() == file.len());
        file.match_indices(name).any(|(at, _)| is_at(at))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILES: [&str; 2] = ["fleeti-core/src/profile/rules/storage.rs", "xtask/src/map.rs"];

    #[test]
    fn a_file_that_is_not_there_is_named_with_its_line() {
        let map = "sizes: `rules/storage.rs`, `map.rs`, `src/profile/`\n\
                   `GET /x/`, `/readyz`, `Act::new`\n\
                   gone: `storage.py`, `torage.rs`, `rules/storage/`, `src/storage.rs`\n";
        let gone = ["storage.py", "torage.rs", "rules/storage/", "src/storage.rs"];
        let expected = gone.map(|name| format!("ARCHITECTURE.md:3: no file {name}"));
        assert_eq!(wrong(map, &FILES), expected);
    }

    #[test]
    fn the_map_is_short() {
        assert!(wrong(&"word ".repeat(WORDS_MAX), &FILES).is_empty());
        assert_eq!(wrong(&"word ".repeat(WORDS_MAX + 1), &FILES).len(), 1);
    }
}
