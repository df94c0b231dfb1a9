//! Sections and settings of systemd.syntax(7), which keyfiles of NetworkManager and files of
//! wg-quick(8) share: a section and a setting can occur more than once.

/// A section.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Section {
    pub(crate) name: String,
    pub(crate) settings: Vec<(String, String)>,
}

impl Section {
    /// The last value of a setting; names are compared without regard to case.
    pub(crate) fn last(&self, name: &str) -> Option<&str> {
        self.all(name).last()
    }

    /// Every value of a setting.
    pub(crate) fn all<'s, 'n>(
        &'s self,
        name: &'n str,
    ) -> impl Iterator<Item = &'s str> + use<'s, 'n> {
        self.settings
            .iter()
            .filter(move |(key, _)| key.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }
}

/// Reads a text. Lines that are neither sections nor settings are left out.
pub(crate) fn sections(text: &str) -> Vec<Section> {
    let mut found: Vec<Section> = Vec::new();
    let mut continued = String::new();
    for line in text.lines() {
        let line = line.trim();
        if line.starts_with(['#', ';']) || continued.is_empty() && line.is_empty() {
            continue;
        }
        if let Some(part) = line.strip_suffix('\\') {
            continued.push_str(part);
            continued.push(' ');
            continue;
        }
        let whole = std::mem::take(&mut continued) + line;
        if let Some(name) = whole.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            found.push(Section { name: name.to_owned(), settings: Vec::new() });
        } else if let (Some((key, value)), Some(section)) =
            (whole.split_once('='), found.last_mut())
        {
            section.settings.push((key.trim().to_owned(), value.trim().to_owned()));
        }
    }
    found
}

/// The first section of a name.
pub(crate) fn section<'a>(sections: &'a [Section], name: &str) -> Option<&'a Section> {
    sections.iter().find(|section| section.name.eq_ignore_ascii_case(name))
}

/// The value of a variable in a shell-like file such as `/etc/default/locale`, without quotes.
pub(crate) fn variable(text: &str, name: &str) -> Option<String> {
    let lines = text.lines().filter_map(|line| line.trim().strip_prefix(name));
    let mut values = lines.filter_map(|rest| rest.strip_prefix('='));
    values.next_back().map(|value| value.trim().trim_matches(['"', '\'']).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_section_and_a_setting_can_occur_more_than_once() {
        let text = "ignored=1\n[Peer]\n# c\nAddress = 192.0.2.1/24\naddress=x\\\n  y\n\n[Peer]\n; c\nbroken\nA=b=c\n";
        let found = sections(text);
        assert_eq!(found.len(), 2);
        assert_eq!(found[0].all("Address").collect::<Vec<_>>(), ["192.0.2.1/24", "x y"]);
        assert_eq!(found[1].last("a"), Some("b=c"));
        assert_eq!(section(&found, "peer"), Some(&found[0]));
    }

    #[test]
    fn a_variable_loses_its_quotes() {
        let text = "#LANG=no\nLANGUAGE=x\nLANG=\"de_DE.UTF-8\"\n";
        assert_eq!(variable(text, "LANG").as_deref(), Some("de_DE.UTF-8"));
        assert_eq!(variable(text, "LC_ALL"), None);
    }
}
