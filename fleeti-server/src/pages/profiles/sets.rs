//! Templates, sets and baselines by choice.

use fleeti_core::profile::{Builtin, Draft, Finding, Kind};
use fleeti_store::revisions::Head;
use serde_json::Value;

use super::finding::Answer;

/// A fragment that the profile extends or can extend.
pub struct Offer {
    pub name: String,
    pub summary: String,
    /// Another fragment that the profile extends brings it.
    pub is_included: bool,
}

/// Fragments of one kind.
pub struct Shelf {
    pub title: &'static str,
    pub offers: Vec<Offer>,
}

/// What the profile extends, in order, and what it can extend.
pub struct Sets {
    pub chosen: Vec<Offer>,
    pub shelves: Vec<Shelf>,
    pub errors: Vec<Answer>,
}

impl Sets {
    /// The sets of a profile.
    pub fn of(value: &Value, draft: &Draft, profiles: &[Head]) -> Self {
        let names = value.get("extends").and_then(Value::as_array).into_iter().flatten();
        let names: Vec<_> = names.filter_map(Value::as_str).collect();
        let own = value.get("name").and_then(Value::as_str);
        let all = offers(draft, profiles, own);
        let summary = |name: &str| {
            let known = all.iter().find(|(_, offer)| offer.name == name);
            known.map_or_else(String::new, |(_, offer)| offer.summary.clone())
        };
        let chosen = names
            .iter()
            .map(|name| Offer {
                name: (*name).to_owned(),
                summary: summary(name),
                is_included: false,
            })
            .collect();
        let mut shelves: Vec<_> = Kind::ALL
            .iter()
            .map(|kind| Shelf { title: title(*kind), offers: Vec::new() })
            .collect();
        for (kind, offer) in all {
            if names.contains(&offer.name.as_str()) {
                continue;
            }
            if let Some(shelf) = shelves.iter_mut().find(|shelf| shelf.title == title(kind)) {
                shelf.offers.push(offer);
            }
        }
        shelves.retain(|shelf| !shelf.offers.is_empty());
        let is_here = |f: &&Finding| f.path.starts_with("extends") || f.path.starts_with("remove");
        let errors = draft.findings.iter().filter(is_here).map(Answer::from).collect();
        Self { chosen, shelves, errors }
    }
}

fn offers(draft: &Draft, profiles: &[Head], own: Option<&str>) -> Vec<(Kind, Offer)> {
    let shipped = Builtin::all().into_iter().map(|fragment| {
        let offer = Offer {
            summary: fragment.summary().to_owned(),
            is_included: draft.extends.contains(&fragment.name.clone().into_owned()),
            name: fragment.name.into_owned(),
        };
        (fragment.kind, offer)
    });
    let others = profiles.iter().filter(|head| Some(head.line.as_str()) != own).map(|head| {
        let name = format!("profile/{}", head.line);
        let is_included = draft.extends.contains(&name);
        (Kind::Profile, Offer { name, summary: head.description.clone(), is_included })
    });
    shipped.chain(others).collect()
}

fn title(kind: Kind) -> &'static str {
    match kind {
        Kind::PackageSet => "Package sets",
        Kind::UserSet => "User sets",
        Kind::ServiceSet => "Service sets",
        Kind::Baseline => "Security baselines",
        Kind::Template => "Templates",
        Kind::Profile => "Profiles of this server",
    }
}

/// The templates that a new profile can start from.
pub fn templates() -> Vec<Offer> {
    let templates = Builtin::all().into_iter().filter(|fragment| fragment.kind == Kind::Template);
    templates
        .map(|fragment| Offer {
            summary: fragment.summary().to_owned(),
            is_included: false,
            name: fragment.name.into_owned(),
        })
        .collect()
}
