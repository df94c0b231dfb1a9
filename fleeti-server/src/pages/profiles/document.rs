//! What the editor's form says, as a document.

use super::kept;
use super::sections::SECTIONS;
use serde_json::{Map, Value};

/// Plain fields, which are first in a document.
const HEAD: &[&str] = &["schema", "name", "description", "architecture", "base", "extends"];

/// The document, TOML, with the fields in the order of the editor.
///
/// # Errors
/// For a value that TOML cannot represent. No form makes one.
pub fn text(value: &Value) -> Result<String, toml::ser::Error> {
    let mut text = String::new();
    for name in HEAD {
        text.push_str(&part(name, value)?);
    }
    let sections = SECTIONS.iter().flat_map(|section| section.fields);
    let fields = sections.copied().filter(|name| !HEAD.contains(name));
    for name in std::iter::once("remove").chain(fields) {
        let part = part(name, value)?;
        if !part.is_empty() {
            text.push('\n');
            text.push_str(&part);
        }
    }
    Ok(text)
}

fn part(name: &str, value: &Value) -> Result<String, toml::ser::Error> {
    match value.get(name) {
        Some(inner) => {
            let one: Map<_, _> = [(name.to_owned(), inner.clone())].into_iter().collect();
            toml::to_string_pretty(&one)
        }
        None => Ok(String::new()),
    }
}

/// The document: the text that the form was made from, changed where the form says something else.
/// Comments, order and format stay.
///
/// # Errors
/// As [`text`].
pub fn kept_or_written(value: &Value, source: &str) -> Result<String, toml::ser::Error> {
    let kept = match toml::from_str::<Value>(source) {
        Ok(said) if said == *value => Some(source.to_owned()),
        Ok(said) if !source.trim().is_empty() => kept::changed(source, &said, value),
        _ => None,
    };
    kept.map_or_else(|| text(value), Ok)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_document_begins_with_its_name_and_says_what_the_form_says() {
        let value = json!({
            "schema": 1, "name": "web", "architecture": "x86_64",
            "extends": ["template/web-server"],
            "users": [{"name": "ops", "groups": ["adm"]}],
            "network": {"firewall": {"rules": [{"name": "app", "ports": ["8080"]}]}},
        });
        let text = text(&value).unwrap();
        assert!(text.starts_with("schema = 1\nname = \"web\"\narchitecture"), "{text}");
        assert_eq!(toml::from_str::<Value>(&text).unwrap(), value);
        for source in ["", " \n", "no document"] {
            assert_eq!(kept_or_written(&value, source).unwrap(), text);
        }
    }

    const COMMENTED: &str = r#"# The web server of the shop.
schema = 1
name = "shop"            # also the line
architecture = "x86_64"
extends = ["template/web-server"]

# Asked for by the auditors.
[software]
packages = [
    # The editor of the night shift.
    "nano",
    "jq", # for the reports
    "htop",
]

# People.
[[users]]
name = 'ada' # the admin
groups = ["sudo"]

# Leaves in May.
[[users]]
name = "bob"

[[services]]
name = "a.service"
  [[services.drop_ins]]
  name = "memory" # measured
  text = "[Service]\nMemoryMax=1G\n"

# The other one.
[[services]]
name = "b.service"

[kernel]
sysctl = { "vm.swappiness" = "10" } # little memory
# The end.
"#;

    /// The document after a change of what it says.
    fn after(change: impl FnOnce(&mut Value)) -> String {
        let mut value: Value = toml::from_str(COMMENTED).unwrap();
        change(&mut value);
        let text = kept_or_written(&value, COMMENTED).unwrap();
        assert_eq!(toml::from_str::<Value>(&text).unwrap(), value);
        text
    }

    fn list<'a>(value: &'a mut Value, name: &str) -> &'a mut Vec<Value> {
        value[name].as_array_mut().unwrap()
    }

    /// The lines of the commented document that are missing, and those that are new.
    fn lines(text: &str) -> (Vec<&str>, Vec<&str>) {
        let missing = COMMENTED.lines().filter(|line| !text.lines().any(|l| l == *line));
        let new = text.lines().filter(|line| !COMMENTED.lines().any(|l| l == *line));
        (missing.collect(), new.collect())
    }

    #[test]
    fn an_unchanged_document_stays_as_it_is() {
        assert_eq!(after(|_| {}), COMMENTED);
    }

    #[test]
    fn a_change_writes_only_what_differs() {
        let text = after(|value| value["name"] = "store".into());
        assert_eq!(
            lines(&text),
            (
                vec!["name = \"shop\"            # also the line"],
                vec!["name = \"store\"            # also the line"]
            )
        );
        let text = after(|value| value["users"][0]["name"] = "eve".into());
        assert_eq!(
            lines(&text),
            (vec!["name = 'ada' # the admin"], vec!["name = \"eve\" # the admin"])
        );
        let text = after(|value| value["kernel"]["sysctl"]["vm.swappiness"] = "20".into());
        assert!(text.contains("{ \"vm.swappiness\" = \"20\" } # little memory"), "{text}");
        let text = after(|value| value["services"][0]["drop_ins"][0]["text"] = "x\ny\n".into());
        assert!(text.contains("# measured") && text.contains("# The other one."), "{text}");
    }

    #[test]
    fn an_entry_is_added_in_the_style_of_its_list() {
        let text = after(|value| list(&mut value["software"], "packages").push("vim".into()));
        assert_eq!(lines(&text), (vec![], vec!["    \"vim\","]));
        let text = after(|value| list(value, "users").push(json!({"name": "eve"})));
        assert_eq!(lines(&text), (vec![], vec!["name = \"eve\""]));
        let (bob, eve, service) = (text.find("bob"), text.find("eve"), text.find("[[services]]"));
        assert!(bob < eve && eve < service, "{text}");
        let rule = json!({"firewall": {"rules": [{"name": "app", "ports": ["1", "2"]}]}});
        let text = after(|value| value["network"] = rule);
        let written = "\n\n[[network.firewall.rules]]\nname = \"app\"\nports = [\"1\", \"2\"]\n";
        assert!(text.contains(written) && lines(&text).0.is_empty(), "{text}");
        let text = after(|value| value["users"][1]["groups"] = json!(["adm"]));
        assert_eq!(lines(&text), (vec![], vec!["groups = [\"adm\"]"]));
    }

    #[test]
    fn a_comment_goes_with_the_entry_that_it_is_about() {
        let without =
            |at: usize| after(|value| drop(list(&mut value["software"], "packages").remove(at)));
        assert_eq!(lines(&without(1)), (vec!["    \"jq\", # for the reports"], vec![]));
        assert_eq!(lines(&without(0)).0, ["    # The editor of the night shift.", "    \"nano\","]);
        let text = after(|value| list(&mut value["software"], "packages").swap(0, 2));
        let turned = "[\n    \"htop\",\n    \"jq\", # for the reports\n    \
                      # The editor of the night shift.\n    \"nano\",\n]";
        assert!(text.contains(turned), "{text}");
        let text = after(|value| drop(list(value, "users").remove(1)));
        assert_eq!(lines(&text).0, ["# Leaves in May.", "name = \"bob\""]);
        let text = after(|value| list(value, "users").clear());
        assert!(!text.contains("# People.") && text.contains("# The end."), "{text}");
    }

    #[test]
    fn entries_that_change_places_take_their_comments_and_tables_with_them() {
        let text = after(|value| list(value, "services").swap(0, 1));
        let (missing, new) = lines(&text);
        assert!(missing.is_empty() && new.is_empty(), "{text}");
        let at = |part: &str| text.find(part).unwrap();
        assert!(at("# The other one.") < at("b.service"), "{text}");
        assert!(at("b.service") < at("a.service") && at("a.service") < at("# measured"), "{text}");
        assert!(at("# measured") < at("[kernel]"), "{text}");
        let text = after(|value| list(value, "users").swap(0, 1));
        let turned = "# Leaves in May.\n[[users]]\nname = \"bob\"\n\n# People.\n[[users]]\n\
                      name = 'ada' # the admin";
        assert!(text.contains(turned), "{text}");
    }

    /// Whatever a form says, the document says exactly that, in every style of lists and tables.
    #[test]
    fn a_document_of_any_style_says_what_the_form_says() {
        let sources = [
            "a = [ 1, 2 ]\nt = {x = 1, y = {z = [\"q\"]}}\n",
            "a = [1 # one\n, 2 # two\n]\nt.x = 1\nt.y.z = [\"q\"]\n",
            "a = [ # head\n  1,\n  # two\n  2\n  # end\n]\n[t]\nx = 1 # x\n[t.y]\nz = [\"q\"]\n",
            "a=[1,2]\n[t]\nx=1\ny.z=['q']\n",
        ];
        let wanted = [
            json!({"a": [], "t": {"x": 1, "y": {"z": ["q"]}}}),
            json!({"a": [2], "t": {"x": 2, "y": {"z": []}}}),
            json!({"a": [2, 1, 3], "t": {"y": {"z": ["a", "b", "q"]}}}),
            json!({"a": [3, 1, 2], "t": {"x": {"deep": [{"k": 1}, {"k": 2}]}, "n": [{"k": true}]}}),
            json!({"a": [1], "new": {"empty": {}, "one": {"two": {"f": 1.5}}}, "s": "a\nb\"'''"}),
            json!({"a": "text", "t": [{"x": 1}]}),
        ];
        for source in sources {
            for value in &wanted {
                let said: Value = toml::from_str(source).unwrap();
                let text = kept::changed(source, &said, value);
                let text = text.unwrap_or_else(|| panic!("{source}\n{value}"));
                for comment in ["# head", "# end"].iter().filter(|c| source.contains(**c)) {
                    assert!(text.contains(comment) || !value["a"].is_array(), "{text}");
                }
            }
        }
    }
}
