//! The way of a profile through the editor's form.

use super::document;
use super::finding::Answer;
use super::form::field;
use super::read::{FormError, read};
use super::said::{Look, Said};
use super::schema::Place;
use fleeti_core::profile::{self, Builtin, Finding, HealthCheck, Profile, UnitState, draft};
use serde_json::Value;

/// The profile, or all findings by path.
fn check(value: &Value) -> Result<Profile, Vec<Finding>> {
    profile::check(&document::text(value).unwrap())
}

/// The fields of a document, as the editor shows them.
fn render(text: &str, findings: &[Finding]) -> String {
    let draft = draft(text, &Builtin);
    let said = Said { own: draft.own.as_ref(), inherited: Some(&draft.inherited) };
    let look = Look { findings, touched: "", removed: None };
    field(&Place::root(), said, look, true).unwrap().html
}

fn fields(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect()
}

const GOOD: &[(&str, &str)] = &[
    ("schema", "1"),
    ("name", "kiosk"),
    ("architecture", "x86_64"),
    ("software.packages", "bash\r\n jq \n\n"),
    ("users[0].name", "ops"),
    ("users[0].groups", "sudo"),
    ("services[0].name", "a.service"),
    ("services[0].unit", "[Service]\r\nExecStart=/bin/true\r\n"),
    ("services[3].name", "b.service"),
    ("services[3].state", "disabled"),
];

#[test]
fn a_form_becomes_the_profile_that_it_says() {
    let profile = check(&read(&fields(GOOD)).unwrap()).unwrap();
    assert_eq!(profile.software.packages, ["bash", "jq"]);
    assert_eq!(profile.users[0].groups, ["sudo"]);
    assert_eq!(profile.users[0].shell, "/bin/bash", "an empty field leaves the default");
    assert_eq!(
        profile.services.iter().map(|s| s.state).collect::<Vec<_>>(),
        [UnitState::Enabled, UnitState::Disabled]
    );
    assert_eq!(profile.services[0].unit.as_deref(), Some("[Service]\nExecStart=/bin/true\n"));
}

#[test]
fn a_hidden_field_of_another_kind_is_refused() {
    for (name, kept) in [
        ("users:kept", "5"),
        ("users:kept", "null"),
        ("users[0]:kept", "[]"),
        ("software.packages:kept", "{}"),
        ("software.packages:kept", "[null]"),
        ("description:kept", "[\"a\"]"),
        ("kernel.sysctl:kept", "[]"),
        ("name:kept", "18446744073709551615"),
        ("remove:kept", "1"),
        ("remove:kept", "{\"users\": null}"),
        ("remove:kept", "{"),
    ] {
        let refused = read(&fields(&[(name, kept)]));
        assert!(matches!(refused, Err(FormError::Kept(_))), "{name} {kept}");
    }
    // The whole profile is never hidden.
    let value = read(&fields(&[(":kept", "1"), ("extends", "x"), ("name", "web")])).unwrap();
    assert_eq!(value["extends"][0], "x");
    assert_eq!(value["name"], "web");
}

#[test]
fn a_form_of_too_many_fields_is_refused() {
    let many = |n: usize| vec![(String::new(), String::new()); n];
    assert!(matches!(read(&many(20_001)), Err(FormError::TooManyFields(20_001))));
    assert!(read(&many(20_000)).is_ok());
}

#[test]
fn a_profile_survives_the_way_through_its_form() {
    for name in ["kiosk", "gateway"] {
        let path = format!("{}/../examples/profiles/{name}.toml", env!("CARGO_MANIFEST_DIR"));
        let mut profile = profile::check(&std::fs::read_to_string(path).unwrap()).unwrap();
        // Values that a browser would change.
        let command = ["/bin/sh", "-c", "a\nb", "", " spaced "];
        profile.health_checks.push(HealthCheck::of_command("odd", &command, 10));
        profile.description = "two\nlines".into();
        for (path, content) in [
            ("/etc/a", "\nfirst line empty\n"),
            ("/etc/b", "dos\r\n"),
            ("/etc/c", ""),
            ("/etc/d", "no end"),
        ] {
            profile.files.push(profile::File::new(path, content));
        }
        let page = render(&toml::to_string(&profile).unwrap(), &[]);
        assert_eq!(check(&read(&filled_in(&page)).unwrap()).unwrap(), profile);
    }
}

/// What a browser would submit for this page.
fn filled_in(page: &str) -> Vec<(String, String)> {
    let text = |s: &str| {
        s.replace("&#34;", "\"")
            .replace("&#39;", "'")
            .replace("&#60;", "<")
            .replace("&#62;", ">")
            .replace("&#38;", "&")
    };
    let attribute = |tag: &str, name: &str| {
        Some(text(tag.split_once(&format!(" {name}=\""))?.1.split('"').next()?))
    };
    let mut sent = Vec::new();
    for piece in page.split('<').skip(1) {
        let (tag, content) = piece.split_once('>').unwrap();
        let Some(name) = attribute(tag, "name") else { continue };
        if tag.starts_with("input") && (!tag.contains("checkbox") || tag.contains(" checked")) {
            sent.push((
                name,
                attribute(tag, "value").unwrap_or_default().replace(['\n', '\r'], ""),
            ));
        } else if tag.starts_with("textarea") {
            // HTML drops a newline right after the tag, and sends line ends as CR LF.
            sent.push((
                name,
                text(content.strip_prefix('\n').unwrap_or(content)).replace('\n', "\r\n"),
            ));
        } else if tag.starts_with("select") {
            let options = &page[page.find(&format!("name=\"{name}\"")).unwrap()..];
            let chosen =
                options.split("<option selected>").nth(1).unwrap().split('<').next().unwrap();
            sent.push((name, chosen.to_owned()));
        }
    }
    sent
}

#[test]
fn what_is_wrong_is_shown_at_its_field() {
    let mut wrong = fields(GOOD);
    wrong.push(("kernel.arguments".into(), "quiet\ninit=/bin/sh".into()));
    wrong.push(("users[0].shell".into(), "zsh".into()));
    let value = read(&wrong).unwrap();
    let text = document::text(&value).unwrap();
    let findings = check(&value).unwrap_err();
    let page = render(&text, &findings);
    for path in ["kernel.arguments", "users[0].shell"] {
        assert!(
            page.contains(&format!("aria-invalid=\"true\" aria-describedby=\"{path}-error ")),
            "{path} in {page}"
        );
    }
    assert!(page.contains("kernel.arguments[1]: "), "the line is named");
    assert_eq!(page.matches("role=\"alert\"").count(), 2);
}

const WEB: &str = "schema = 1\nname = \"web\"\narchitecture = \"x86_64\"\nextends = [\"template/web-server\"]\n\n[remove.software]\npackages = [\"strace\"]\n\n[[users]]\nname = \"ops\"\nssh_keys = []\n\n[[network.firewall.rules]]\nname = \"web\"\nports = [\"8443\"]\n\n[security.ssh]\npassword_login = true\nattempts_max = 3\n";

#[test]
fn a_form_has_what_the_profile_says_and_not_what_it_inherits() {
    let page = render(WEB, &[]);
    let mut sent = filled_in(&page);
    sent.push(("extends".into(), "template/web-server".into()));
    let removed = "{\"software\":{\"packages\":[\"strace\"]}}";
    sent.push(("remove:kept".into(), removed.into()));
    let value = read(&sent).unwrap();
    assert_eq!(check(&value).unwrap(), profile::check(WEB).unwrap());
    assert_eq!(value["users"][0].get("comment"), None, "{value}");
    assert_eq!(value["security"]["ssh"].as_object().unwrap().len(), 2, "{value}");
    assert_eq!(value.get("kernel"), None, "{value}");
}

#[test]
fn an_inherited_value_is_shown_with_its_origin_and_a_button() {
    let page = render(WEB, &[]);
    for shown in [
        "name=\"override\" value=\"security.ssh.idle_timeout_s\"",
        "from baseline/standard",
        "name=\"inherit\" value=\"security.ssh.attempts_max\"",
        "name=\"override\" value=\"health_checks=ssh accepts connections\"",
        "name=\"drop\" value=\"software.packages=nginx\"",
    ] {
        assert!(page.contains(shown), "{shown}");
    }
    assert!(!page.contains("name=\"security.ssh.idle_timeout_s\""), "it has no input");
}

#[test]
fn what_a_profile_says_is_never_markup() {
    let text = "schema = 1\nname = \"x\"\narchitecture = \"x86_64\"\ndescription = \"</textarea><script>a\"\nfiles = [{path = \"/etc/<b>\", content = \"</textarea><script>\"}]\n[kernel.sysctl]\n\"<i>\" = \"<u>\"\n";
    let findings = profile::check(text).err().unwrap_or_default();
    let page = render(text, &findings);
    for markup in ["<script>", "/etc/<b>", "<i>", "<u>"] {
        assert!(!page.contains(markup), "{markup}");
    }
    let answer = Answer::from(&Finding {
        path: "users[0].shell".into(),
        line: 1,
        message: "is wrong".into(),
        remedy: "did you mean /bin/sh?".into(),
        severity: profile::Severity::Error,
        suggestion: Some(profile::Suggestion::Value("/bin/sh".into())),
    });
    assert_eq!(answer.fix.as_deref(), Some("/bin/sh"));
}
