//! The partitions of a disk, and their sizes.

use fleeti_core::id::ReleaseName;
use fleeti_core::profile::Storage;
use serde_json::json;

/// Smallest size of a verity slot, MiB.
const VERITY_MIB: u32 = 16;

/// What systemd-repart makes the disk of, and the name of the UKI on its ESP. A hash tree of
/// SHA-256 over blocks of 4 KiB has a 127th of the size of its data; a slot has room for twice as
/// much.
pub(super) fn definitions(
    release: &ReleaseName,
    seed: &str,
    storage: &Storage,
) -> serde_json::Value {
    let (esp, root) = (storage.esp_mib, storage.root_mib);
    let verity = root.div_ceil(64).max(VERITY_MIB);
    let (line, version) = (&release.line, &release.version);
    let sized = |mib: u32| format!("SizeMinBytes={mib}M\nSizeMaxBytes={mib}M\n");
    let slot = |kind: &str, mib: u32, rest: String| {
        format!("[Partition]\nType={kind}\n{}{rest}", sized(mib))
    };
    json!({
        "uki_name": format!("{line}_{version}+3.efi"),
        "seed": seed,
        "definitions": {
            "00-esp.conf": slot("esp", esp, "Format=vfat\nCopyFiles=/esp:/\n".into()),
            "10-root-a.conf": slot("root", root,
                format!("Label={line}_{version}\nUUID=@ROOT_UUID@\nCopyBlocks=@ROOT@/root.erofs\nReadOnly=yes\n")),
            "11-verity-a.conf": slot("root-verity", verity,
                format!("Label={line}_{version}_verity\nUUID=@VERITY_UUID@\nCopyBlocks=@ROOT@/root.verity\nReadOnly=yes\n")),
            "20-root-b.conf": slot("root", root, "Label=_empty\n".into()),
            "21-verity-b.conf": slot("root-verity", verity, "Label=_empty\n".into()),
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_slots_have_the_sizes_of_the_profile_and_room_for_a_hash_tree() {
        let sizes = |text: &str| {
            let good = "schema = 1\nname = \"kiosk\"\narchitecture = \"x86_64\"\n";
            let profile = fleeti_core::profile::check(&format!("{good}{text}")).unwrap();
            let found = definitions(&"kiosk@1".parse().unwrap(), "seed", &profile.storage);
            let of = |name: &str| {
                let text = found["definitions"][name].as_str().unwrap();
                let line = text.lines().find_map(|line| line.strip_prefix("SizeMaxBytes="));
                line.unwrap().to_owned()
            };
            ["00-esp.conf", "20-root-b.conf", "21-verity-b.conf"].map(of)
        };
        assert_eq!(sizes(""), ["512M", "768M", "16M"]);
        assert_eq!(
            sizes("storage.esp_mib = 1024\nstorage.root_mib = 2048\n"),
            ["1024M", "2048M", "32M"]
        );
    }
}
