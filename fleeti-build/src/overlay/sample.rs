//! Overlays of small profiles, for the tests of the sections.

use super::{Overlay, OverlayError, Trust};
use fleeti_core::profile::Profile;
use serde_json::Value;

pub(super) struct Sample {
    pub(super) json: Value,
}

impl Sample {
    /// The last entry of a path, which is the one that counts.
    pub(super) fn find(&self, path: &str) -> Option<&Value> {
        self.json["files"].as_array()?.iter().rev().find(|f| f["path"] == path)
    }

    pub(super) fn entry(&self, path: &str) -> &Value {
        self.find(path).unwrap_or_else(|| panic!("the overlay has no {path}"))
    }

    pub(super) fn text(&self, path: &str) -> String {
        self.entry(path)["content"].as_str().unwrap().to_owned()
    }
}

pub(super) fn profile(text: &str) -> Profile {
    let head = "schema = 1\nname = \"kiosk\"\narchitecture = \"x86_64\"\n";
    fleeti_core::profile::check(&format!("{head}{text}")).unwrap()
}

pub(super) fn of(profile: &Profile) -> Result<Sample, OverlayError> {
    let trust = Trust {
        root_pem: "R".into(),
        release_pem: "S".into(),
        audit_pub: "A".into(),
        openpgp: vec![1],
        pcr_pem: "P".into(),
    };
    let (release, minimum) = ("kiosk@2".parse().unwrap(), "1".parse().unwrap());
    let overlay = Overlay::new(profile, &release, &minimum, &trust)?;
    Ok(Sample { json: serde_json::from_str(&overlay.to_json()).unwrap() })
}

pub(super) fn overlay(text: &str) -> Sample {
    of(&profile(text)).unwrap()
}
