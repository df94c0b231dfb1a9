use super::*;
use crate::profile::{Builtin, Severity, check, resolve_with};
use crate::wire::problem::FieldError;
use std::collections::BTreeSet;

fn head() -> IndexHead {
    IndexHead { suite: "trixie".to_owned(), snapshot: "0".repeat(64), has_contents: true }
}

fn open(text: String) -> SuiteIndex {
    SuiteIndex::open(Box::new(text)).unwrap()
}

fn parts() -> IndexParts {
    let mut parts = IndexParts::default();
    for (name, depends, summary) in [
        ("nginx", "nginx-common,libc6", "small, powerful web server"),
        ("nginx-common", "", "small, powerful web server - common files"),
        ("libc6", "", "GNU C Library"),
        ("zsh", "libc6", "shell with\tlots of features"),
        ("mail-client", "mail-transport-agent|nothing", "reads mail"),
        ("exim4", "libc6", "mail transport agent"),
        ("bash", "", "GNU Bourne Again SHell"),
        ("docker.io", "", "Linux container runtime"),
    ] {
        let package = IndexedPackage {
            version: "1.0".to_owned(),
            size_kib: 10,
            depends: depends.to_owned(),
            summary: summary.to_owned(),
            ..IndexedPackage::default()
        };
        parts.packages.insert(name.to_owned(), package);
    }
    let by = |name: &str| BTreeSet::from([name.to_owned()]);
    parts.units.insert("nginx.service".to_owned(), by("nginx-common"));
    parts.units.insert("getty@.service".to_owned(), by("bash"));
    parts.programs.insert("/usr/bin/zsh".to_owned(), by("zsh"));
    parts.programs.insert("/usr/bin/bash".to_owned(), by("bash"));
    parts.provided.insert("mail-transport-agent".to_owned(), by("exim4"));
    parts
}

fn index() -> SuiteIndex {
    open(parts().to_text(&head()))
}

#[test]
fn versions_of_the_security_suite_are_kept_with_the_time_when_they_were_first_seen() {
    let mut parts = parts();
    let fix = SecurityVersion { version: "1.0-1".to_owned(), since_s: 1000 };
    parts.security.insert("nginx".to_owned(), fix.clone());
    let text = parts.to_text(&head());
    assert_eq!(open(text.clone()).security().unwrap(), [("nginx".to_owned(), fix)].into());
    assert_eq!(index().security().unwrap(), [].into());
    let wrong = text.replace("\t1000\n", "\tlong ago\n");
    assert!(SuiteIndex::open(Box::new(wrong)).is_err());
}

/// What packages create, as if they had been installed once.
fn learnt() -> SuiteIndex {
    let mut parts = parts();
    for name in parts.packages.keys().cloned().collect::<Vec<_>>() {
        parts.learn(&name, &Brought::default());
    }
    let docker = Brought {
        groups: BTreeSet::from(["docker".to_owned(), "dockremap".to_owned()]),
        enabled: BTreeSet::from(["docker.service".to_owned()]),
        units: BTreeSet::from(["docker.service".to_owned()]),
        users: BTreeSet::from(["dockremap".to_owned()]),
        ..Brought::default()
    };
    parts.learn("docker.io", &docker);
    open(parts.to_text(&head()))
}

struct Said {
    errors: Vec<String>,
    warnings: Vec<String>,
}

fn said_by(index: &SuiteIndex, more: &str) -> Said {
    let text = format!("schema = 1\nname = \"kiosk\"\narchitecture = \"x86_64\"\n{more}");
    let profile = check(&text).unwrap();
    let found = against_suite(&profile, index, &["bash".to_owned()]).unwrap();
    let lines = |list: Vec<FieldError>| {
        list.into_iter().map(|f| format!("{}: {}", f.path, f.remedy)).collect()
    };
    Said { errors: lines(found.errors), warnings: lines(found.warnings) }
}

fn is_silent(said: &Said) -> bool {
    said.errors.is_empty() && said.warnings.is_empty()
}

#[test]
fn packages_units_and_programs_are_found() {
    let index = index();
    assert_eq!(index.head(), &head());
    assert_eq!(index.package("zsh").unwrap().unwrap().summary, "shell with lots of features");
    assert_eq!(index.package("zs").unwrap(), None);
    assert_eq!(index.package("zzz").unwrap(), None);
    assert_eq!(index.with_unit("nginx.service").unwrap(), ["nginx-common"]);
    assert_eq!(index.with_unit("getty@tty1.service").unwrap(), ["bash"]);
    assert_eq!(index.with_program("/bin/zsh").unwrap(), ["zsh"]);
    assert_eq!(learnt().with_group("docker").unwrap(), ["docker.io"]);
    assert_eq!(learnt().with_user("dockremap").unwrap(), ["docker.io"]);
    let found = |text: &str, limit: usize| -> Vec<_> {
        index.search(text, limit).unwrap().into_iter().map(|facts| facts.name).collect()
    };
    assert_eq!(found("nginx", 5), ["nginx", "nginx-common"]);
    assert_eq!(found("NGINX", 1), ["nginx"]);
    assert_eq!(found("mail agent", 5), ["exim4"]);
    assert!(found(" ", 5).is_empty());
    let units = index.search_units("nginx", 5).unwrap();
    assert_eq!(units[0].packages, ["nginx-common"]);
    assert_eq!(units.len(), 1);
}

#[test]
fn an_index_of_many_blocks_finds_its_first_and_its_last_line() {
    let mut parts = IndexParts::default();
    for i in 0..3000 {
        let package = IndexedPackage { summary: "x".repeat(100), ..IndexedPackage::default() };
        parts.packages.insert(format!("p{i:04}"), package);
        let by = BTreeSet::from([format!("p{i:04}")]);
        parts.units.insert(format!("u{i:04}.service"), by);
    }
    let index = open(parts.to_text(&head()));
    for i in (0..3000).step_by(7).chain([2999]) {
        let name = format!("p{i:04}");
        assert_eq!(index.package(&name).unwrap().unwrap().name, name);
        assert_eq!(index.with_unit(&format!("u{i:04}.service")).unwrap(), [name]);
    }
    assert_eq!(index.search("p", 200).unwrap().len(), 200);
    assert_eq!(index.search("p2999", 200).unwrap()[0].name, "p2999");
    assert_eq!(index.search_units("u0000", 9).unwrap()[0].name, "u0000.service");
}

#[test]
fn a_closure_follows_alternatives_and_virtual_packages() {
    let closure = index().closure(&["mail-client".to_owned(), "nginx".to_owned()]).unwrap();
    assert_eq!(closure.names(), ["exim4", "libc6", "mail-client", "nginx", "nginx-common"]);
    assert!(!closure.is_cut());
}

#[test]
fn an_alternative_that_is_installed_anyway_is_enough() {
    let mut parts = parts();
    let signs = IndexedPackage { depends: "zsh|bash".to_owned(), ..IndexedPackage::default() };
    parts.packages.insert("signs".to_owned(), signs);
    let index = open(parts.to_text(&head()));
    let names = |names: &[&str]| {
        let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
        index.closure(&names).unwrap().names().join(" ")
    };
    assert_eq!(names(&["signs", "bash"]), "bash signs");
    assert_eq!(names(&["signs"]), "libc6 signs zsh");
}

#[test]
fn a_closure_ends_after_its_look_ups() {
    let learnt = learnt();
    let names = ["nginx".to_owned()];
    let cut = learnt.closure_within(&names, 2).unwrap();
    assert_eq!(cut.names(), ["nginx", "nginx-common"]);
    assert!(cut.is_cut() && !cut.is_learnt(), "what was left out is not known");
    let whole = learnt.closure_within(&names, 3).unwrap();
    assert_eq!(whole.names(), ["libc6", "nginx", "nginx-common"]);
    assert!(!whole.is_cut() && whole.is_learnt());
}

#[test]
fn an_index_has_no_package_with_too_many_dependencies() {
    let first = head().to_line();
    for (separator, many, is_open) in [("|", 1024, true), ("|", 1025, false), (",", 1025, false)] {
        let depends = vec!["x"; many].join(separator);
        let text = format!("{first}P\ta\t1\t1\t-\t-\t{depends}\tx\n");
        let opened = SuiteIndex::open(Box::new(text));
        assert_eq!(opened.is_ok(), is_open, "{many}{separator}");
        let package = IndexedPackage { depends, ..IndexedPackage::default() };
        let parts =
            IndexParts { packages: [("a".to_owned(), package)].into(), ..IndexParts::default() };
        let index = open(parts.to_text(&head()));
        assert_eq!(index.package("a").unwrap().is_some(), is_open, "{many}{separator}");
    }
}

#[test]
fn a_package_that_does_not_exist_is_an_error_with_a_near_name() {
    let said = said_by(&index(), "software.packages = [\"nginz\", \"mail-transport-agent\"]\n");
    // Near names are looked for at the end, in one pass.
    assert_eq!(
        said.errors,
        [
            "software.packages[1]: write exim4, which provides it",
            "software.packages[0]: did you mean nginx?"
        ]
    );
}

#[test]
fn what_no_package_brings_is_a_warning_with_a_near_name() {
    let service = "[[services]]\nname = \"nginx.service\"\n";
    let warned = said_by(&index(), service).warnings;
    assert_eq!(warned, ["services[0].name: add nginx-common to software.packages"]);
    let with = format!("software.packages = [\"nginx\"]\n{service}");
    assert!(is_silent(&said_by(&index(), &with)));
    let wrong = "[[services]]\nname = \"nginy.service\"\n";
    let said = said_by(&index(), wrong);
    assert_eq!(said.warnings, ["services[0].name: did you mean nginx.service?"]);
    assert!(said.errors.is_empty());
    assert_eq!(said_by(&learnt(), wrong).errors, said.warnings);
    let shell = "[[users]]\nname = \"ops\"\nshell = \"/bin/zhs\"\n";
    assert_eq!(said_by(&index(), shell).warnings, ["users[0].shell: did you mean /usr/bin/zsh?"]);
}

#[test]
fn a_group_that_only_a_script_creates_is_a_warning_until_its_package_was_read() {
    let user = "[[users]]\nname = \"ops\"\ngroups = [\"dockremap\"]\n";
    let said = said_by(&index(), user);
    assert_eq!(said.warnings, ["users[0].groups[0]: correct the name, or add it to groups"]);
    let with = format!("software.packages = [\"docker.io\"]\n{user}");
    assert!(is_silent(&said_by(&learnt(), &with)));
    assert_eq!(
        said_by(&learnt(), user).warnings,
        ["users[0].groups[0]: add docker.io to software.packages"]
    );
    // The rules name its package, but only an installation shows the group.
    let docker = "software.packages = [\"docker.io\", \"nginx\"]\n\
                  [[users]]\nname = \"ops\"\ngroups = [\"docker\"]\n";
    assert!(is_silent(&said_by(&learnt(), docker)));
    let profile = check(&format!("schema = 1\nname = \"x\"\narchitecture = \"x86_64\"\n{docker}"));
    let found = against_suite(&profile.unwrap(), &index(), &["bash".to_owned()]).unwrap();
    assert!(found.errors.is_empty());
    assert_eq!(
        found.warnings[0].message,
        "no package of trixie is known to create the group docker; docker.io or 4 other packages \
         may create it: no build installed them yet"
    );
    let wrong = "[[users]]\nname = \"ops\"\ngroups = [\"vidoe\"]\n";
    assert_eq!(said_by(&learnt(), wrong).errors, ["users[0].groups[0]: did you mean video?"]);
}

#[test]
fn what_an_image_has_is_known_from_installations_of_its_packages() {
    let names = ["docker.io".to_owned(), "nginx".to_owned(), "none".to_owned()];
    let set = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<_>>();
    let all = set(&["docker.io", "libc6", "nginx", "nginx-common"]);
    let installed = learnt().installed(&names).unwrap();
    assert_eq!(installed.packages, all);
    assert_eq!(installed.enabled, set(&["docker.service"]));
    assert_eq!(installed.users, set(&["dockremap"]));
    assert_eq!(installed.groups, set(&["docker", "dockremap"]));
    assert!(installed.unknown.is_empty());
    let installed = index().installed(&names).unwrap();
    assert_eq!((installed.packages, installed.unknown), (all.clone(), all));
    assert!(learnt().installed(&names[1..]).unwrap().groups.is_empty());
}

#[test]
fn names_of_each_kind_are_found_those_of_the_base_without_a_package() {
    let found = |kind, text: &str| -> Vec<(String, String)> {
        let names = learnt().search_names(kind, text, 3).unwrap();
        names.into_iter().map(|found| (found.name, found.packages.join(","))).collect()
    };
    let pair = |name: &str, packages: &str| (name.to_owned(), packages.to_owned());
    assert_eq!(found(IndexedKind::Program, "zsh"), [pair("/usr/bin/zsh", "zsh")]);
    assert_eq!(
        found(IndexedKind::Group, "dock"),
        [pair("docker", "docker.io"), pair("dockremap", "docker.io")]
    );
    assert_eq!(found(IndexedKind::Group, "video"), [pair("video", "")]);
    assert_eq!(found(IndexedKind::User, "www"), [pair("www-data", "")]);
    assert!(found(IndexedKind::User, " ").is_empty());
}

#[test]
fn a_user_or_a_group_of_a_unit_that_nothing_creates_is_named() {
    let unit = |lines: &str| {
        format!(
            "[[users]]\nname = \"player\"\n\
             [[services]]\nname = \"a.service\"\nunit = \"\"\"\n[Service]\n{lines}\n\"\"\"\n"
        )
    };
    let said = |lines: &str| said_by(&index(), &unit(lines)).warnings;
    assert_eq!(said("User=playr"), ["services[0].unit: did you mean player?"]);
    assert_eq!(
        said("Group=dockremap"),
        ["services[0].unit: correct the name, or add it to groups"]
    );
    for right in
        ["User=player\nGroup=player", "User=playr\nDynamicUser=yes", "User=1000", "User=%i"]
    {
        assert!(said(right).is_empty(), "{right}");
    }
    assert_eq!(
        said_by(&learnt(), &unit("User=dockremap")).warnings,
        ["services[0].unit: add docker.io to software.packages"]
    );
}

#[test]
fn what_the_profile_brings_itself_is_there() {
    let own = "[[services]]\nname = \"a.service\"\nunit = \"[Service]\"\n\
               [[timers]]\nservice = \"a.service\"\non_calendar = \"daily\"\n\
               [[health_checks]]\nname = \"u\"\nunit = \"a.timer\"\n\
               [[files]]\npath = \"/usr/local/bin/x\"\ncontent = \"\"\nmode = \"0755\"\n\
               [[health_checks]]\nname = \"c\"\ncommand = [\"/usr/local/bin/x\"]\n";
    assert!(is_silent(&said_by(&index(), own)));
}

/// The four profiles that once passed every check.
#[test]
fn a_wrong_user_group_shell_and_service_are_all_named() {
    let text = r#"schema = 1
name = "kiosk"
architecture = "x86_64"
software.packages = ["nginx"]
[[users]]
name = "ops"
groups = ["wheel", "docker"]
shell = "/bin/zsh"
[[services]]
name = "ngnix.service"
[[services]]
name = "a.service"
unit = """
[Service]
ExecStart=/usr/bin/true
User=0day
"""
"#;
    let index = learnt();
    let base = ["bash".to_owned()];
    let packages = |profile: &_| against_suite(profile, &index, &base).unwrap();
    let findings = resolve_with(text, &Builtin, &packages).unwrap_err();
    let said: Vec<_> = findings
        .iter()
        .map(|f| format!("{:?} {} {}: {}", f.severity, f.line, f.path, f.remedy))
        .collect();
    let error = Severity::Error;
    let warning = Severity::Warning;
    assert_eq!(
        said,
        [
            format!("{warning:?} 7 users[0].groups[0]: the group of administrators is sudo"),
            format!("{warning:?} 7 users[0].groups[1]: add docker.io to software.packages"),
            format!("{error:?} 8 users[0].shell: add zsh to software.packages, or write /bin/bash"),
            format!("{error:?} 10 services[0].name: did you mean nginx.service?"),
            format!(
                "{error:?} 13 services[1].unit: use a-z, 0-9, '_' and '-', starting with a letter: \
                 for other names systemd may run the service as root"
            ),
        ]
    );
}

#[test]
fn a_text_that_is_not_an_index_is_refused() {
    let first = head().to_line();
    let refused = |text: String| SuiteIndex::open(Box::new(text)).unwrap_err();
    assert_eq!(refused(String::new()), IndexError::Head);
    assert_eq!(refused(first.replace(" 3\t", " 2\t")), IndexError::Head);
    assert_eq!(refused(first.replace("contents", "all")), IndexError::Head);
    assert_eq!(refused(first.replace("000", "/..")), IndexError::Head);
    for (lines, problem) in [
        ("U\tb\tx\nU\ta\tx\n", "is not in order"),
        ("U\ta\tx\nU\ta\ty\n", "is not in order"),
        ("P\ta\t1\tmany\t-\t-\t\tx\n", "is not a package"),
        ("P\ta\t1\t1\n", "is not a package"),
        ("X\ta\tb\n", "is of no known kind"),
        ("U\ta\n", "is of no known kind"),
        ("U\t\tx\n", "has no name, or a long one"),
        ("U\ta\u{1b}[31m\tx\n", "has a control character"),
    ] {
        let IndexError::Line { problem: found, .. } = refused(format!("{first}{lines}")) else {
            unreachable!("{lines}: not refused by its line")
        };
        assert_eq!(found, problem, "{lines}");
    }
    let long = format!("{first}U\t{}\tx\n", "a".repeat(70_000));
    assert!(matches!(refused(long), IndexError::Unreadable(_)));
    assert!(matches!(refused(format!("{first}U\ta\tx")), IndexError::Unreadable(_)));
    assert!(SuiteIndex::open(Box::new(first)).is_ok());
}

#[test]
fn an_index_that_is_too_large_is_not_read() {
    #[derive(Debug)]
    struct Endless;
    impl IndexText for Endless {
        fn size(&self) -> u64 {
            INDEX_MAX + 1
        }
        fn read(&self, _: u64, _: &mut [u8]) -> Result<(), String> {
            unreachable!("it is refused by its size")
        }
    }
    let error = SuiteIndex::open(Box::new(Endless)).unwrap_err();
    assert_eq!(error, IndexError::TooLarge(INDEX_MAX + 1));
}
