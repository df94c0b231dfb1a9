//! What a caller decides.

/// What is taken into the profile beyond what is safe by itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Options {
    /// Take the hashes of passwords.
    pub password_hashes: bool,
    /// Paths of files and directories that are taken although not every user may read them, or
    /// although they look as if they had a secret. Private keys are never taken.
    pub include: Vec<String>,
    /// The suite that the base builds.
    pub suite: String,
}

impl Options {
    /// Whether the caller asked for a path.
    pub(crate) fn includes(&self, path: &str) -> bool {
        self.include.iter().any(|asked| {
            let asked = asked.trim_end_matches('/');
            path.strip_prefix(asked).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::Options;

    #[test]
    fn a_directory_includes_what_is_below_it_and_nothing_beside_it() {
        let include = vec!["/etc/postgresql/".to_owned(), "/etc/a".to_owned()];
        let options = Options { include, ..Options::default() };
        assert!(options.includes("/etc/postgresql/15/x") && options.includes("/etc/a"));
        assert!(!options.includes("/etc/postgresql-common/x") && !options.includes("/etc/ab"));
    }
}
