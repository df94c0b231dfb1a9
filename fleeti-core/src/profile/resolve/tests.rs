use super::*;
use crate::profile::{Fragment, Kind, Suggestion};
use std::borrow::Cow;

const GOOD: &str = "schema = 1\nname = \"kiosk\"\narchitecture = \"x86_64\"\n";

fn paths(text: &str) -> Vec<(String, usize)> {
    check(text).unwrap_err().into_iter().map(|f| (f.path, f.line)).collect()
}

#[test]
fn a_list_is_no_table() {
    for list in [
        "release_log = [true, 3]",
        "users = [[\"a\", []]]",
        "files = [[\"/a\", \"x\"]]",
        "health_checks = [[\"a\"]]",
    ] {
        assert!(check(&format!("{GOOD}{list}\n")).is_err(), "{list}");
    }
}

#[test]
fn the_smallest_profile_passes() {
    assert_eq!(check(GOOD).unwrap().identity.hostname, "{id}");
}

#[test]
fn all_errors_come_at_once_with_their_lines() {
    let text = "schema = 2\nname = \"Kiosk\"\narchitecture = \"x86_64\"\nsoftware.packages = [\"bash\", 3]\ncolour = \"red\"\n\n[[users]]\nshell = \"zsh\"\n";
    let found = paths(text);
    for want in [
        ("schema", 1),
        ("name", 2),
        ("software.packages[1]", 4),
        ("colour", 5),
        ("users[0].name", 7),
        ("users[0].shell", 8),
    ] {
        assert!(found.contains(&(want.0.to_owned(), want.1)), "{want:?} in {found:?}");
    }
}

#[test]
fn aarch64_is_refused_with_the_reason() {
    let findings = check(&GOOD.replace("x86_64", "aarch64")).unwrap_err();
    assert_eq!(findings[0].path, "architecture");
    assert!(findings[0].message.contains("no base builds aarch64 yet"), "{}", findings[0].message);
}

#[test]
fn a_syntax_error_names_its_line() {
    assert_eq!(paths("schema = 1\nname = \n"), [(String::new(), 2)]);
}

#[test]
fn every_rule_has_a_line_and_a_remedy() {
    let text = format!(
        "{GOOD}identity.hostname = \"a b\"\nkernel.arguments = [\"init=/bin/sh\", \"a b\"]\nsoftware.packages = [\"Bash\", \"jq\", \"jq\"]\n\
         [[users]]\nname = \"root\"\npassword_hash = \"hunter2\"\nssh_keys = [\"ssh-rsa\"]\nshell = \"bash\"\n\
         [[services]]\nname = \"x\"\n[[files]]\npath = \"/etc/../root\"\ncontent = \"\"\nmode = \"4755\"\n\
         [[health_checks]]\nname = \"h\"\ncommand = []\ntimeout_s = 0\n[release_log]\nage_days_max = 0\n\
         [server_contact]\ndeadline_s = 5\n"
    );
    let findings = check(&text).unwrap_err();
    let found: Vec<_> = findings.iter().map(|f| f.path.as_str()).collect();
    for want in [
        "identity.hostname",
        "kernel.arguments[0]",
        "kernel.arguments[1]",
        "software.packages[0]",
        "software.packages[2]",
        "users[0].name",
        "users[0].password_hash",
        "users[0].ssh_keys[0]",
        "users[0].shell",
        "services[0].name",
        "files[0].path",
        "files[0].mode",
        "health_checks[0].command",
        "health_checks[0].timeout_s",
        "release_log.age_days_max",
        "server_contact.deadline_s",
    ] {
        assert!(found.contains(&want), "{want} in {found:?}");
    }
    assert!(findings.iter().all(|f| f.line > 3 && !f.remedy.is_empty()));
}

#[test]
fn secrets_are_not_repeated_in_findings() {
    let text = format!("{GOOD}[[users]]\nname = \"ops\"\npassword_hash = \"hunter2\"\n");
    assert!(check(&text).unwrap_err().iter().all(|f| !f.to_string().contains("hunter2")));
}

/// Fragments that a test writes.
struct Shelf(&'static [(&'static str, &'static str)]);

impl Library for Shelf {
    fn find(&self, name: &str) -> Option<Fragment> {
        let (name, text) = self.0.iter().find(|(known, _)| *known == name)?;
        let (name, text) = (Cow::Borrowed(*name), Cow::Borrowed(*text));
        Some(Fragment { name, kind: Kind::Profile, text })
    }
    fn names(&self) -> Vec<String> {
        self.0.iter().map(|(name, _)| (*name).to_owned()).collect()
    }
}

const SHELF: Shelf = Shelf(&[
    (
        "base",
        "software.packages = [\"jq\", \"curl\"]\nidentity.locale = \"de_DE.UTF-8\"\n\
         [[users]]\nname = \"ops\"\nshell = \"/bin/sh\"\ngroups = [\"adm\"]\n",
    ),
    (
        "site",
        "extends = [\"base\"]\nsoftware.packages = [\"curl\", \"less\"]\n\
         identity.locale = \"fr_FR.UTF-8\"\n[kernel.sysctl]\n\"vm.swappiness\" = \"1\"\n",
    ),
    ("other", "identity.locale = \"it_IT.UTF-8\"\nidentity.keyboard = \"it\"\n"),
    ("loop", "extends = [\"pool\"]\n"),
    ("pool", "extends = [\"loop\"]\n"),
    ("wrong", "\n\nidentity.hostname = \"a b\"\n"),
    ("broken", "\ncolour = 1\n"),
]);

fn with(more: &str) -> Result<Resolved, Vec<Finding>> {
    resolve(&format!("{GOOD}{more}"), &SHELF)
}

#[test]
fn lists_are_joined_entries_with_a_key_are_merged_and_plain_values_replaced() {
    let resolved = with(
        "extends = [\"site\"]\nsoftware.packages = [\"htop\"]\n\
         [[users]]\nname = \"ops\"\nshell = \"/bin/bash\"\ngroups = [\"video\"]\n",
    )
    .unwrap();
    let profile = &resolved.profile;
    assert_eq!(profile.software.packages, ["jq", "curl", "less", "htop"]);
    assert_eq!(profile.identity.locale, "fr_FR.UTF-8", "site extends base");
    assert_eq!(profile.users.len(), 1);
    assert_eq!(profile.users[0].shell, "/bin/bash");
    assert_eq!(profile.users[0].groups, ["adm", "video"]);
    assert_eq!(profile.kernel.sysctl["vm.swappiness"], "1");
    assert_eq!(resolved.extends, ["base", "site"]);
    assert!(resolved.warnings.is_empty(), "{:?}", resolved.warnings);
}

#[test]
fn a_common_ancestor_does_not_undo_what_an_earlier_fragment_changed() {
    let resolved = with("extends = [\"site\", \"base\"]\n").unwrap();
    assert_eq!(resolved.profile.identity.locale, "fr_FR.UTF-8");
    assert!(resolved.warnings.is_empty());
}

#[test]
fn fragments_that_differ_are_reported_with_both_places_until_the_profile_decides() {
    let resolved = with("extends = [\"site\", \"other\"]\n").unwrap();
    assert_eq!(resolved.profile.identity.locale, "it_IT.UTF-8", "the later one");
    let [conflict] = resolved.warnings.as_slice() else { panic!("{:?}", resolved.warnings) };
    assert_eq!((conflict.path.as_str(), conflict.line), ("extends[1]", 4));
    for part in ["identity.locale", "site (line 3)", "other (line 1)"] {
        assert!(conflict.message.contains(part), "{part} in {}", conflict.message);
    }
    let decided = "extends = [\"site\", \"other\"]\nidentity.locale = \"it_IT.UTF-8\"\n";
    assert!(with(decided).unwrap().warnings.is_empty());
}

#[test]
fn what_is_inherited_can_be_removed_and_a_wrong_name_is_found() {
    let resolved = with(
        "extends = [\"site\"]\nremove.software.packages = [\"jq\"]\n\
         remove.users = [\"ops\"]\nremove.kernel.sysctl = [\"vm.swappiness\"]\n",
    )
    .unwrap();
    assert_eq!(resolved.profile.software.packages, ["curl", "less"]);
    assert!(resolved.profile.users.is_empty() && resolved.profile.kernel.sysctl.is_empty());
    let findings =
        with("extends = [\"site\"]\nremove.software.packages = [\"jql\"]\n").unwrap_err();
    assert_eq!(findings[0].path, "remove.software.packages[0]");
}

#[test]
fn an_error_in_a_fragment_names_the_fragment_and_the_line_that_extends_it() {
    for (name, at) in [("wrong", "wrong, line 3"), ("broken", "broken, line 2")] {
        let findings = with(&format!("extends = [\"{name}\"]\n")).unwrap_err();
        assert_eq!((findings[0].path.as_str(), findings[0].line), ("extends[0]", 4));
        assert!(findings[0].message.contains(at), "{}", findings[0].message);
    }
}

#[test]
fn a_fragment_that_does_not_exist_or_extends_itself_is_refused() {
    let findings = with("extends = [\"sit\"]\n").unwrap_err();
    assert_eq!(findings[0].remedy, "did you mean site?");
    assert_eq!(findings[0].suggestion, Some(Suggestion::Value("site".into())));
    let findings = with("extends = [\"loop\"]\n").unwrap_err();
    assert!(findings[0].message.contains("loop -> pool -> loop"), "{}", findings[0].message);
}

#[test]
fn every_value_says_where_it_came_from() {
    let resolved =
        with("extends = [\"site\"]\n[[users]]\nname = \"ops\"\nshell = \"/bin/bash\"\n").unwrap();
    let said = |at: &str| -> Vec<(Option<String>, usize, String, bool)> {
        let steps = resolved.why(at).unwrap();
        steps.into_iter().map(|s| (s.source, s.line, s.value, s.is_replaced)).collect()
    };
    assert_eq!(
        said("users[ops].shell"),
        [
            (Some("base".to_owned()), 5, "\"/bin/sh\"".to_owned(), true),
            (None, 7, "\"/bin/bash\"".to_owned(), false)
        ]
    );
    assert_eq!(said("identity.locale").len(), 2);
    assert_eq!(said("kernel.sysctl[\"vm.swappiness\"]")[0].0.as_deref(), Some("site"));
    assert_eq!(said("software.packages").len(), 3);
    assert!(said("identity.keyboard").is_empty(), "it has its default");
    assert!(resolved.why("identity.colour").is_err());
}

#[test]
fn a_wrong_choice_and_a_number_out_of_range_are_found_with_near_matches() {
    let findings = with(
        "kernel.flavour = \"generics\"\npackages = [\"jq\"]\n\
         [[network.vlans]]\nname = \"v\"\nid = 5000\n",
    )
    .unwrap_err();
    let remedy = |path: &str| {
        findings.iter().find(|f| f.path == path).map(|f| f.remedy.clone()).unwrap_or_default()
    };
    assert_eq!(remedy("kernel.flavour"), "did you mean generic?");
    let suggestion =
        |path: &str| findings.iter().find(|f| f.path == path).and_then(|f| f.suggestion.clone());
    assert_eq!(suggestion("kernel.flavour"), Some(Suggestion::Value("generic".into())));
    assert_eq!(suggestion("network.vlans[0].id"), None);
    assert_eq!(remedy("network.vlans[0].id"), "use 1 to 4094");
    assert!(findings.iter().any(|f| f.path == "packages"), "{findings:?}");
}

#[test]
fn a_resolved_profile_resolves_to_itself() {
    let text = format!("{GOOD}extends = [\"template/web-server\", \"baseline/strict\"]\n");
    let profile = check(&text).unwrap();
    let again = check(&toml::to_string(&profile).unwrap()).unwrap();
    assert_eq!(again, profile);
    let resolved = resolve(&text, &Builtin).unwrap();
    assert_eq!(check(&resolved.to_toml().unwrap()).unwrap(), profile);
}
