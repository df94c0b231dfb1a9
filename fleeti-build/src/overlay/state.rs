//! Persistent directories: each is a folder of the data partition, bound to its path.

use super::entry::{Account, Additions, UNITS};
use super::text::{command_word, line, mount_unit};
use fleeti_core::profile::{OnReset, Profile};

/// The folder of the data partition that has the folders of all persistent directories.
const FOLDER: &str = "/data/state";
/// Stamps of timers that are started if a time was missed.
const TIMER_STAMPS: &str = "/var/lib/systemd/timers";

struct Bound<'a> {
    path: &'a str,
    owner: &'a str,
    group: &'a str,
    mode: &'a str,
}

pub(super) fn add(profile: &Profile, out: &mut Additions) {
    for (i, directory) in profile.state.directories.iter().enumerate() {
        out.need(format!("state.directories[{i}].owner"), Account::User, &directory.owner);
        out.need(format!("state.directories[{i}].group"), Account::Group, &directory.group);
    }
    let mut bound: Vec<_> = profile
        .state
        .directories
        .iter()
        .map(|d| Bound { path: &d.path, owner: &d.owner, group: &d.group, mode: &d.mode })
        .collect();
    if profile.timers.iter().any(|timer| timer.persistent) {
        bound.push(Bound { path: TIMER_STAMPS, owner: "root", group: "root", mode: "0755" });
    }
    if bound.is_empty() {
        return;
    }
    out.text(&format!("{UNITS}/fleeti-state.service"), 0o644, service(&bound));
    for directory in &bound {
        let unit = mount_unit(directory.path);
        out.text(&format!("{UNITS}/{unit}"), 0o644, mount(directory));
        // A link and not a preset: the name may have characters that presets read as patterns.
        let link = format!("/etc/systemd/system/local-fs.target.requires/{unit}");
        out.link(&link, &format!("{UNITS}/{unit}"));
        // The root is read-only; below /var, which is in memory, systemd makes the directory.
        if !directory.path.starts_with("/var/") {
            out.directories.push(directory.path.to_owned());
        }
    }
}

/// The folder of the data partition. All of them are beside each other, in a folder that only root
/// can change: the owner of one cannot put a link where another one is expected.
fn source(path: &str) -> String {
    format!("{FOLDER}/{}", folder(path))
}

fn folder(path: &str) -> String {
    let name = path.trim_start_matches('/').replace('%', "%25").replace('+', "%2b");
    name.replace('/', "+")
}

/// The folders below [`FOLDER`] that a factory reset empties.
pub(super) fn wiped(profile: &Profile) -> Vec<String> {
    let directories = profile.state.directories.iter();
    let wiped = directories.filter(|d| d.on_reset == OnReset::Wipe);
    wiped.map(|d| folder(&d.path)).collect()
}

fn service(bound: &[Bound]) -> String {
    let mut text = format!(
        "[Unit]\nDescription=Folders of the profile's persistent directories\n\
         DefaultDependencies=no\nRequires=fleeti-data.service\nAfter=fleeti-data.service\n\
         Before=local-fs.target\n\n[Service]\nType=oneshot\nRemainAfterExit=yes\n\
         ExecStart=-/usr/lib/fleeti/fleeti-agent factory-reset\n\
         ExecStart=/usr/bin/mkdir -p -m 0755 {FOLDER}\n"
    );
    for Bound { path, owner, group, mode } in bound {
        let folder = command_word(&source(path));
        text.push_str(&format!(
            "ExecStart=/usr/bin/install -d -o {owner} -g {group} -m {mode} {folder}\n"
        ));
    }
    text
}

fn mount(directory: &Bound) -> String {
    let (what, path) = (source(directory.path), directory.path);
    format!(
        "[Unit]\nDescription=Persistent directory {path}\nDefaultDependencies=no\n\
         Requires=fleeti-state.service\nAfter=fleeti-state.service var.mount\n\
         Before=local-fs.target\n\n[Mount]\nWhat={what}\nWhere={path}\nType=none\n\
         Options=bind,nodev,nosuid\n",
        path = line(path),
        what = line(&what),
    )
}

#[cfg(test)]
mod tests {
    use super::super::sample;

    const STATE: &str = "[[state.directories]]\npath = \"/var/lib/my-app\"\nowner = \"www-data\"\n\
                         group = \"adm\"\nmode = \"0750\"\n\
                         [[state.directories]]\npath = \"/srv/data\"\n";

    #[test]
    fn a_persistent_directory_is_a_folder_of_the_data_partition() {
        let o = sample::overlay(STATE);
        let service = o.text("/usr/lib/systemd/system/fleeti-state.service");
        let (_, commands) = service.split_once("RemainAfterExit=yes\n").unwrap();
        assert_eq!(
            commands,
            "ExecStart=-/usr/lib/fleeti/fleeti-agent factory-reset\n\
             ExecStart=/usr/bin/mkdir -p -m 0755 /data/state\n\
             ExecStart=/usr/bin/install -d -o www-data -g adm -m 0750 \"/data/state/var+lib+my-app\"\n\
             ExecStart=/usr/bin/install -d -o root -g root -m 0755 \"/data/state/srv+data\"\n"
        );
        let unit = "var-lib-my\\x2dapp.mount";
        let mount = o.text(&format!("/usr/lib/systemd/system/{unit}"));
        assert!(
            mount.ends_with(
                "[Mount]\nWhat=/data/state/var+lib+my-app\nWhere=/var/lib/my-app\nType=none\n\
                 Options=bind,nodev,nosuid\n"
            ),
            "{mount}"
        );
        let link = o.entry(&format!("/etc/systemd/system/local-fs.target.requires/{unit}"));
        assert_eq!(link["link"], format!("/usr/lib/systemd/system/{unit}"));
    }

    #[test]
    fn the_place_of_a_directory_outside_var_is_in_the_image() {
        let o = sample::overlay(STATE);
        let directories = o.json["directories"].as_array().unwrap();
        assert!(directories.contains(&"/srv/data".into()));
        assert!(!directories.contains(&"/var/lib/my-app".into()));
    }

    #[test]
    fn owner_and_group_must_exist_in_the_image() {
        let needs = sample::overlay(STATE).json["needs"].to_string();
        let need = r#"{"field":"state.directories[0].owner","kind":"user","name":"www-data"}"#;
        assert!(needs.contains(need), "{needs}");
    }

    #[test]
    fn paths_that_are_written_alike_have_folders_of_their_own() {
        let o = sample::overlay(
            "[[state.directories]]\npath = \"/var/lib/a+b\"\n\
             [[state.directories]]\npath = \"/var/lib/a/b\"\n",
        );
        let service = o.text("/usr/lib/systemd/system/fleeti-state.service");
        assert!(service.contains("\"/data/state/var+lib+a%%2bb\"\n"), "{service}");
        assert!(service.contains("\"/data/state/var+lib+a+b\"\n"), "{service}");
    }

    #[test]
    fn a_profile_without_state_has_no_service_for_it() {
        let o = sample::overlay("");
        assert!(o.find("/usr/lib/systemd/system/fleeti-state.service").is_none());
    }

    #[test]
    fn a_factory_reset_empties_the_folders_of_directories_that_are_not_kept() {
        let text = "[[state.directories]]\npath = \"/var/lib/a+b\"\n\
                    [[state.directories]]\npath = \"/srv/kept\"\non_reset = \"keep\"\n";
        let overlay = sample::overlay(text);
        let facts = overlay.text("/usr/lib/fleeti/image.json");
        let facts: fleeti_core::image::ImageFacts = serde_json::from_str(&facts).unwrap();
        assert_eq!(facts.wiped, ["var+lib+a%2bb"]);
    }
}
