//! The Nix files of the base, and the texts that they share with other bases.

use fleeti_core::canonical::sha256_hex;
use std::fs;
use std::io;
use std::path::Path;

macro_rules! embedded {
    ($($path:literal),* $(,)?) => {
        &[$(($path, include_str!(concat!("../../../nix/", $path)))),*]
    };
}

/// Every file that an evaluation reads, by its path below `nix`.
const FILES: &[(&str, &str)] = embedded![
    "nixos/accounts.nix",
    "nixos/base.nix",
    "nixos/evaluate.nix",
    "nixos/image-modules.nix",
    "nixos/image.nix",
    "nixos/kernel.nix",
    "nixos/lib.nix",
    "nixos/modules/fleeti-agent.nix",
    "nixos/network.nix",
    "nixos/profile.nix",
    "nixos/report.nix",
    "nixos/services.nix",
    "nixos/stub.nix",
    "nixos/system.nix",
    "overlay/10-verity.transfer",
    "overlay/20-root.transfer",
    "overlay/30-uki.transfer",
    "overlay/50-data-sealed.conf",
    "overlay/50-data.conf",
    "overlay/emergency.service",
    "overlay/fleeti-agent.service",
    "overlay/fleeti-blessed.service",
    "overlay/fleeti-boot-secrets.service",
    "overlay/fleeti-data.service",
    "overlay/fleeti-deadline.service",
    "overlay/fleeti-deadline.timer",
    "overlay/fleeti-health.service",
    "overlay/fleeti-helper.service",
    "overlay/fleeti-recovery-key.service",
    "overlay/fleeti-secrets.target",
    "overlay/fleeti-ssh-keys.service",
    "overlay/fleeti-storage.service",
    "overlay/fleeti-var.service",
    "overlay/rescue.service",
    "overlay/var-home.mount",
    "overlay/var-lib-fleeti.mount",
];

/// SHA-256 of every file that an evaluation reads, hexadecimal.
#[must_use]
pub fn digest() -> String {
    let lines: Vec<_> = FILES
        .iter()
        .map(|(path, text)| format!("{path} {}\n", sha256_hex(text.as_bytes())))
        .collect();
    sha256_hex(lines.concat().as_bytes())
}

/// Writes the files below a folder, each at its path.
pub(super) fn write(folder: &Path) -> io::Result<()> {
    for (path, text) in FILES {
        let target = folder.join(path);
        if let Some(parent) = target.parent() {
            fs::create_dir_all(parent)?;
        }
        fs::write(target, text)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::FILES;

    #[test]
    fn every_nix_file_of_the_base_is_embedded_or_for_the_flake() {
        let nix = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../nix");
        for folder in ["nixos", "nixos/modules"] {
            for entry in std::fs::read_dir(nix.join(folder)).unwrap() {
                let name = entry.unwrap().file_name().into_string().unwrap();
                let path = format!("{folder}/{name}");
                let is_for_flake = [
                    "nixos/evaluate-server.nix",
                    "nixos/flake.nix",
                    "nixos/modules/fleeti-server.nix",
                ]
                .contains(&path.as_str());
                let is_nix = name.ends_with(".nix") && !is_for_flake;
                assert!(!is_nix || FILES.iter().any(|(known, _)| *known == path), "{path}");
            }
        }
    }
}
