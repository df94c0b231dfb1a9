//! `fleeti profile`: fragments, drafts, origins of values, and the JSON Schema.

use crate::{fleeti, fleeti_in};
use fleeti_core::profile::{Builtin, Kind, check};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const BASE: &str = "\
# What all our devices have.
identity.time_zone = \"Europe/Berlin\"
software.packages = [\"curl\"]
[[users]]
name = \"ops\"
shell = \"/bin/sh\"
";

const PROFILE: &str = "\
schema = 1
name = \"web\"
architecture = \"x86_64\"
extends = [\"packages/minimal\", \"./base.toml\", \"../shared/site.toml\"]
[[users]]
name = \"ops\"
shell = \"/bin/bash\"
";

/// A folder with a profile and its fragments in files.
struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        for folder in ["profiles", "shared"] {
            fs::create_dir(dir.path().join(folder)).unwrap();
        }
        let folder = Self(dir);
        folder.write("base.toml", BASE);
        folder.write("../shared/site.toml", "network.time.servers = [\"ntp.example.com\"]\n");
        folder.write("web.toml", PROFILE);
        folder
    }
    fn path(&self) -> PathBuf {
        self.0.path().join("profiles")
    }
    fn write(&self, name: &str, text: &str) {
        fs::write(self.path().join(name), text).unwrap();
    }
    /// Runs `fleeti profile ARGUMENTS` in the folder of the profile.
    fn run(&self, arguments: &str) -> String {
        let words: Vec<_> = std::iter::once("profile").chain(arguments.split(' ')).collect();
        fleeti_in(&self.path(), &words)
    }
    /// The error for a profile that extends this.
    fn refused(&self, extends: &str) -> String {
        self.write("x.toml", &PROFILE.replace("./base.toml", extends));
        let said = self.run("check x.toml");
        assert!(said.starts_with("exit 1\n"), "{said}");
        said
    }
}

fn stdout(said: &str) -> &str {
    let (_, rest) = said.split_once("--- stdout\n").unwrap();
    rest.split_once("--- stderr\n").unwrap().0
}

#[test]
fn the_library_is_listed_by_kind_and_each_fragment_can_be_read() {
    insta::assert_snapshot!("library", fleeti(&["profile", "library"]));
    for fragment in Builtin::all() {
        let said = fleeti(&["profile", "library", &fragment.name]);
        assert!(said.starts_with("exit 0\n"), "{said}");
        assert_eq!(stdout(&said).trim_end(), fragment.text.trim_end());
    }
    let said = fleeti(&["-o", "json", "profile", "library"]);
    let listed: serde_json::Value = serde_json::from_str(stdout(&said)).unwrap();
    assert_eq!(listed.as_array().unwrap().len(), Builtin::all().len());
    assert_eq!(listed[0]["kind"], "package set");
    insta::assert_snapshot!("library_unknown", fleeti(&["profile", "library", "template/web"]));
}

#[test]
fn a_new_profile_is_valid_and_is_never_written_over_another() {
    let folder = Folder::new();
    insta::assert_snapshot!("new", folder.run("new shop --template web-server"));
    let path = folder.path().join("shop.toml");
    let written = fs::read_to_string(&path).unwrap();
    insta::assert_snapshot!("new_text", written);
    assert!(folder.run("check shop.toml").starts_with("exit 0\n--- stdout\nshop is valid"));
    insta::assert_snapshot!("new_again", folder.run("new shop --template kiosk"));
    assert_eq!(fs::read_to_string(&path).unwrap(), written);
    insta::assert_snapshot!("new_unknown", folder.run("new x --template web-sever"));
    let said = folder.run("new box --template kiosk --extends ./base.toml --out -");
    assert!(check_text(&folder, stdout(&said)).starts_with("exit 0\n"), "{said}");
    assert!(!folder.path().join("box.toml").exists());
    assert!(folder.run("new A --template kiosk").starts_with("exit 2\n"));
    assert!(folder.run("new x --template kiosk --extends ./none.toml").starts_with("exit 1\n"));
}

fn check_text(folder: &Folder, text: &str) -> String {
    folder.write("checked.toml", text);
    folder.run("check checked.toml")
}

#[test]
fn every_template_makes_a_valid_profile_also_with_its_examples() {
    let folder = Folder::new();
    let templates = Builtin::all().into_iter().filter(|f| f.kind == Kind::Template);
    let mut examples = 0;
    for template in templates {
        let said = folder.run(&format!("new x --template {} --out -", template.name));
        let text = stdout(&said);
        check(text).unwrap();
        let uncomment = |line: &str| {
            let example = line.strip_prefix('#').filter(|rest| rest.starts_with(|c| c != ' '));
            example.unwrap_or(line).to_owned()
        };
        let all: Vec<_> = text.lines().map(uncomment).collect();
        let key = "AAAAC3NzaC1lZDI1NTE5AAAAIPNkOPd3ZQm0vwqRmTMvsAV9xzmXwDuBhMJ9ssMyPXTt";
        let all = all.join("\n").replace("AAAA...", key);
        let profile = check(&all).map_err(|e| format!("{all}\n{e:#?}")).unwrap();
        assert_ne!(profile, check(text).unwrap());
        examples += profile.users.iter().filter(|user| !user.ssh_keys.is_empty()).count();
    }
    assert!(examples >= 3, "templates with SSH show where the key goes");
}

#[test]
fn what_the_guide_adds_to_the_web_server_is_valid() {
    let guide = fs::read_to_string(repository().join("docs/guides/web-server.md")).unwrap();
    let blocks = guide.split("```toml\n").skip(1).map(|rest| rest.split("```").next().unwrap());
    let (entries, fields): (Vec<_>, Vec<_>) = blocks.partition(|block| block.starts_with("[["));
    assert!(entries.len() == 2 && fields.len() == 2, "{entries:?} {fields:?}");
    let folder = Folder::new();
    folder.write("site.toml", "# Nothing yet.\n");
    let said = folder.run("new web --template web-server --out -");
    let draft = stdout(&said).replace("extends = [\"template/web-server\"]\n", &fields.join("\n"));
    assert!(draft.contains("./site.toml") && draft.contains("remove"), "{draft}");
    let text = format!("{draft}{}", entries.join("\n"));
    let key = "AAAAC3NzaC1lZDI1NTE5AAAAIPNkOPd3ZQm0vwqRmTMvsAV9xzmXwDuBhMJ9ssMyPXTt";
    let said = check_text(&folder, &text.replace("AAAA...", key));
    assert!(said.starts_with("exit 0\n--- stdout\nweb is valid"), "{said}");
    let (_, said) = said.split_once("--- stderr\n").unwrap();
    assert!(said.starts_with("note: ") && said.lines().count() == 1, "no warnings: {said}");
}

#[test]
fn a_profile_extends_files_and_shows_where_each_value_comes_from() {
    let folder = Folder::new();
    insta::assert_snapshot!("show", folder.run("show web.toml"));
    insta::assert_snapshot!("show_resolved", folder.run("show web.toml --resolved"));
    insta::assert_snapshot!("show_why", folder.run("show web.toml --why users[ops].shell"));
    insta::assert_snapshot!("show_why_default", folder.run("show web.toml --why kernel.flavour"));
    insta::assert_snapshot!("show_why_unknown", folder.run("show web.toml --why users[ops].shel"));
    let said = folder.run("show web.toml --resolved");
    assert!(check_text(&folder, stdout(&said)).starts_with("exit 0\n"), "{said}");
    let words = ["-o", "json", "profile", "show", "web.toml", "--why", "identity"];
    let steps: serde_json::Value =
        serde_json::from_str(stdout(&fleeti_in(&folder.path(), &words))).unwrap();
    assert_eq!(steps[0]["source"], "./base.toml");
    assert_eq!(steps[0]["line"], 2);
    // The folder of the profile counts, not the one in which the command runs.
    let above = folder.0.path();
    let said = fleeti_in(above, &["profile", "check", "profiles/web.toml"]);
    assert!(said.starts_with("exit 0\n"), "{said}");
}

#[test]
fn a_fragment_in_a_file_is_refused_with_what_to_do() {
    let folder = Folder::new();
    folder.write("large.toml", &"#".repeat((1 << 20) + 1));
    folder.write("wrong.toml", "\nidentity.hostname = \"a b\"\n");
    folder.write("loop.toml", "extends = [\"./loop.toml\"]\n");
    fs::write(folder.path().join("binary.toml"), [0xff, 0xfe]).unwrap();
    let all: Vec<_> = [
        "./bas.toml",
        "./nowhere/other.toml",
        "base.toml",
        "/etc/passwd",
        "/etc/x.toml",
        "./base.txt",
        "./large.toml",
        "./binary.toml",
        "./wrong.toml",
        "./loop.toml",
    ]
    .map(|extends| folder.refused(extends))
    .into();
    insta::assert_snapshot!("fragments_refused", all.join("\n"));
}

#[test]
fn warnings_are_printed_and_do_not_change_the_exit_code() {
    let folder = Folder::new();
    folder.write("web.toml", &PROFILE.replace("shell = \"/bin/bash\"", "groups = [\"wheel\"]"));
    insta::assert_snapshot!("warnings", folder.run("check web.toml"));
    let said = fleeti_in(&folder.path(), &["-o", "json", "profile", "check", "web.toml"]);
    let checked: serde_json::Value = serde_json::from_str(stdout(&said)).unwrap();
    assert_eq!(checked["warnings"][0]["path"], "users[0].groups[0]");
    assert_eq!(checked["warnings"][0]["severity"], "warning");
}

fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

#[test]
fn the_json_schema_is_the_one_that_is_checked_in() {
    let path = repository().join("docs/reference/profile.schema.json");
    let said = fleeti(&["profile", "schema"]);
    let now = stdout(&said);
    if std::env::var_os("INSTA_UPDATE").is_some_and(|v| v == "always") {
        fs::write(&path, now).unwrap();
    }
    let kept = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        kept == now,
        "the schema changed: run this test with INSTA_UPDATE=always, and look at the difference"
    );
}

/// Every TOML file below a folder.
fn documents(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let below = |path: PathBuf| if path.is_dir() { documents(&path) } else { vec![path] };
    let all = entries.flat_map(below);
    all.filter(|path| path.extension().is_some_and(|suffix| suffix == "toml")).collect()
}

#[test]
fn the_json_schema_is_valid_and_every_example_and_fragment_fits_it() {
    let usual = repository().join("target/tools/openapi/bin");
    let tools = std::env::var_os("FLEETI_OPENAPI_TOOLS").map_or(usual, PathBuf::from);
    let python = tools.join("python");
    assert!(python.exists(), "there is no {}: `cargo xtask tools` installs it", python.display());
    let profile = repository().join("fleeti-core/src/profile");
    let mut good = documents(&repository().join("examples/profiles"));
    good.extend(documents(&profile.join("library")));
    good.push(profile.join("rules/everything.toml"));
    assert!(good.len() > Builtin::all().len());
    let folder = Folder::new();
    for (name, text) in [
        ("unknown", "colour = \"red\"\n"),
        ("unknown-below", "network.colour = \"red\"\n"),
        ("type", "software.packages = \"jq\"\n"),
        ("choice", "kernel.flavour = \"generics\"\n"),
        ("range", "network.vlans = [{ name = \"v\", id = 5000 }]\n"),
        ("key", "[[users]]\nshell = \"/bin/sh\"\n"),
        ("half", "schema = 1\n"),
        ("remove", "remove.software.package = [\"jq\"]\n"),
        ("extends", "extends = \"baseline/strict\"\n"),
    ] {
        folder.write(&format!("bad-{name}.toml"), text);
    }
    let bad = documents(&folder.path()).into_iter();
    let bad = bad.filter(|p| p.file_name().unwrap().to_string_lossy().starts_with("bad-"));
    let output = Command::new(python)
        .arg(repository().join("fleeti-cli/tests/it/schema.py"))
        .arg(repository().join("docs/reference/profile.schema.json"))
        .args(good)
        .arg("--")
        .args(bad)
        .output()
        .unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let said = format!("{}{}", text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{said}");
    assert!(said.contains("9 refused"), "{said}");
}
