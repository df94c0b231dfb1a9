//! The overlay: what Fleeti and a profile add to a base, as one JSON document of files, links,
//! users and directories.
//!
//! The module is pure: the same profile, release name and public keys always give the same
//! document. Each section of a profile has a file here.

mod accounts;
mod entry;
mod error;
mod firewall;
mod fleeti;
mod kernel;
mod network;
mod proxy;
mod security;
mod state;
mod text;
mod trust;
mod units;
mod wifi;
mod wireguard;

pub use error::OverlayError;
pub(crate) use fleeti::is_masked;
pub use trust::Trust;

use entry::{Account, Additions};
use fleeti_core::id::{ReleaseName, Version};
use fleeti_core::profile::Profile;

/// Files, users and directories that are added to a base.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Overlay {
    additions: Additions,
}

impl Overlay {
    /// Makes the overlay of a profile.
    ///
    /// # Errors
    /// [`OverlayError::Written`], [`OverlayError::Json`].
    pub fn new(
        profile: &Profile,
        release: &ReleaseName,
        minimum: &Version,
        trust: &Trust,
    ) -> Result<Self, OverlayError> {
        let mut out = Additions::default();
        // The files of the profile first: what Fleeti writes afterwards replaces them.
        files(profile, &mut out);
        out.setuid.clone_from(&profile.security.setuid);
        for add in [
            units::add,
            accounts::add,
            network::add,
            wireguard::add,
            wifi::add,
            proxy::add,
            firewall::add,
            kernel::add,
            security::add,
            state::add,
        ] {
            add(profile, &mut out);
        }
        let (of_files, of_sections) = out.files.split_at(profile.files.len());
        if let Some(entry) = of_files.iter().find(|f| of_sections.iter().any(|s| s.path == f.path))
        {
            return Err(OverlayError::Written(entry.path.clone()));
        }
        fleeti::add(fleeti::Image { profile, release, minimum, trust }, &mut out)?;
        Ok(Self { additions: out })
    }

    /// The document that the base reads.
    #[must_use]
    pub fn to_json(&self) -> String {
        serde_json::to_string(&self.additions).unwrap_or_default()
    }
}

fn files(profile: &Profile, out: &mut Additions) {
    for (i, f) in profile.files.iter().enumerate() {
        out.text(&f.path, f.mode_bits().unwrap_or(0o644), f.content.clone());
        let Some(entry) = out.files.last_mut() else { continue };
        entry.owner = (f.owner != "root").then(|| f.owner.clone());
        entry.group = (f.group != "root").then(|| f.group.clone());
        out.need(format!("files[{i}].owner"), Account::User, &f.owner);
        out.need(format!("files[{i}].group"), Account::Group, &f.group);
    }
}

#[cfg(test)]
mod sample;

#[cfg(test)]
mod tests {
    use super::{OverlayError, sample};
    use fleeti_core::profile::File;

    #[test]
    fn the_transfers_carry_line_and_floor_and_leave_the_url_open() {
        let text = sample::overlay("").text("/usr/lib/fleeti/sysupdate.d/30-uki.transfer");
        assert!(
            text.contains("MinVersion=1\n")
                && text.contains("kiosk_@v.staged ")
                && text.contains("Path=@URL@")
        );
    }

    #[test]
    fn a_profile_cannot_overwrite_a_unit_of_fleeti() {
        // The check of the profile refuses this already. Even without it, Fleeti's files are
        // written last.
        let path = "/usr/lib/systemd/system/fleeti-agent.service";
        let mut profile = sample::profile("");
        profile.files.push(File::new(path, "x"));
        let o = sample::of(&profile).unwrap();
        assert!(o.text(path).contains("User=fleeti"));
    }

    #[test]
    fn nothing_about_fleet_device_or_server_is_in_an_image() {
        let text = sample::overlay("").json.to_string();
        assert!(!text.contains("8443") && !text.contains("8883") && !text.contains("token"));
    }

    #[test]
    fn a_file_that_a_section_writes_as_well_is_refused_by_its_path() {
        let mut profile = sample::profile("network.firewall.enabled = true\n");
        profile.files.push(File::new("/etc/nftables.conf", "flush ruleset\n"));
        let error = sample::of(&profile).err().unwrap();
        assert!(matches!(error, OverlayError::Written(path) if path == "/etc/nftables.conf"));
    }

    #[test]
    fn a_file_has_its_owner_and_they_must_exist() {
        let o = sample::overlay(
            "[[files]]\npath = \"/etc/app.conf\"\ncontent = \"a\"\nmode = \"0640\"\n\
             owner = \"ops\"\ngroup = \"adm\"\n[[files]]\npath = \"/etc/b\"\ncontent = \"b\"\n",
        );
        let entry = o.entry("/etc/app.conf");
        assert_eq!((&entry["owner"], &entry["group"]), (&"ops".into(), &"adm".into()));
        assert!(o.entry("/etc/b").get("owner").is_none());
        let needs = o.json["needs"].to_string();
        assert!(needs.contains(r#"{"field":"files[0].owner","kind":"user","name":"ops"}"#));
    }

    #[test]
    fn the_size_of_var_and_the_time_zone_are_those_of_the_profile() {
        let o = sample::overlay("storage.var_mib = 512\nidentity.time_zone = \"Europe/Berlin\"\n");
        assert!(
            o.text("/etc/fstab").contains("tmpfs /var tmpfs mode=0755,nodev,nosuid,size=512M ")
        );
        assert_eq!(o.entry("/etc/localtime")["link"], "/usr/share/zoneinfo/Europe/Berlin");
        assert!(sample::overlay("").text("/etc/fstab").contains("size=256M"));
    }
}
