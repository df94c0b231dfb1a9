//! The entries of an overlay: files, links, accounts, directories, and what must exist for them.

use serde::Serialize;

/// Directory of units in an image.
pub(super) const UNITS: &str = "/usr/lib/systemd/system";

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub(super) enum Content {
    Text { content: String },
    Bytes { base64: String },
    Link { link: String },
}

/// A file or a link.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Entry {
    pub(super) path: String,
    pub(super) mode: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) owner: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) group: Option<String>,
    #[serde(flatten)]
    pub(super) content: Content,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct OverlayUser {
    pub(super) name: String,
    pub(super) id: Option<u32>,
    pub(super) comment: String,
    pub(super) shell: String,
    pub(super) groups: Vec<String>,
    pub(super) password_hash: Option<String>,
    /// The last day on which the user can log in, `YYYY-MM-DD`.
    pub(super) expires: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct OverlayGroup {
    pub(super) name: String,
    pub(super) id: Option<u32>,
}

/// What an account is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Account {
    User,
    Group,
}

/// An account that a field of the profile names. The base refuses an image without it: packages
/// create accounts, so the profile alone does not tell.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Need {
    pub(super) field: String,
    pub(super) kind: Account,
    pub(super) name: String,
}

/// What is added to a base.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub(super) struct Additions {
    pub(super) files: Vec<Entry>,
    pub(super) users: Vec<OverlayUser>,
    pub(super) groups: Vec<OverlayGroup>,
    pub(super) directories: Vec<String>,
    pub(super) needs: Vec<Need>,
    /// Further programs that may be setuid or setgid.
    pub(super) setuid: Vec<String>,
    /// Lines of a preset (systemd.preset(5)) that come before those of packages.
    #[serde(skip)]
    pub(super) presets: Vec<String>,
}

impl Additions {
    pub(super) fn push(&mut self, path: &str, mode: u32, content: Content) {
        let mode = format!("{mode:04o}");
        self.files.push(Entry { path: path.into(), mode, owner: None, group: None, content });
    }

    pub(super) fn text(&mut self, path: &str, mode: u32, content: impl Into<String>) {
        self.push(path, mode, Content::Text { content: content.into() });
    }

    /// A file of configuration, mode 0644, unless it would be empty.
    pub(super) fn config(&mut self, path: &str, content: Option<String>) {
        if let Some(content) = content {
            self.text(path, 0o644, content);
        }
    }

    pub(super) fn link(&mut self, path: &str, link: &str) {
        self.push(path, 0o777, Content::Link { link: link.into() });
    }

    pub(super) fn need(&mut self, field: String, kind: Account, name: &str) {
        self.needs.push(Need { field, kind, name: name.to_owned() });
    }
}
