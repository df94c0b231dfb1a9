//! Takes out of a draft what breaks a rule of profiles, so that the rest can be used, and says what
//! was taken out and why. The rules themselves are those of [`fleeti_core::profile`].

use crate::draft::Draft;
use crate::note::Area;
use fleeti_core::profile::{LIST_MAX, Profile, broken_rules};
use serde_json::Value;

/// Maximum number of values that are taken out; a foreign system must not take forever.
const PRUNED_MAX: usize = 2000;

/// A step of a path such as `users[0].ssh_keys`.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Step {
    Field(String),
    Index(usize),
}

/// Takes out every value that breaks a rule. What is left over after the limit is reported by the
/// check of the document.
pub(crate) fn prune(draft: &mut Draft) {
    shorten(draft);
    for _ in 0..PRUNED_MAX {
        let Some(wrong) = broken_rules(&draft.profile).into_iter().next() else { return };
        let Ok(whole) = serde_json::to_value(&draft.profile) else { return };
        let steps = steps(&wrong.path);
        let Some((profile, length)) = without(&whole, &steps) else { return };
        draft.profile = profile;
        let subject = subject(&whole, &steps, length);
        // Such a remedy is for an author, who can choose.
        let is_reserved = wrong.message.starts_with("is reserved for");
        let next = if is_reserved {
            "use the section of the profile for it, if there is one"
        } else {
            wrong.remedy.as_str()
        };
        draft.not_taken(area(&wrong.path), &subject, &wrong.message, next);
    }
}

/// Cuts lists to the length that a profile may have.
fn shorten(draft: &mut Draft) {
    fn cut<T>(list: &mut Vec<T>) -> usize {
        let more = list.len().saturating_sub(LIST_MAX);
        list.truncate(LIST_MAX);
        more
    }
    let profile = &mut draft.profile;
    let cuts = [
        ("users", cut(&mut profile.users)),
        ("groups", cut(&mut profile.groups)),
        ("sudo", cut(&mut profile.sudo)),
        ("software.packages", cut(&mut profile.software.packages)),
        ("services", cut(&mut profile.services)),
        ("network.interfaces", cut(&mut profile.network.interfaces)),
        ("network.firewall.rules", cut(&mut profile.network.firewall.rules)),
        ("files", cut(&mut profile.files)),
        ("state.directories", cut(&mut profile.state.directories)),
        ("kernel.modules", cut(&mut profile.kernel.modules)),
        ("kernel.blacklist", cut(&mut profile.kernel.blacklist)),
    ];
    for user in &mut profile.users {
        cut(&mut user.ssh_keys);
        cut(&mut user.groups);
    }
    for (list, more) in cuts.into_iter().filter(|(_, more)| *more > 0) {
        let why = format!("a list has at most {LIST_MAX} entries; the last {more} are left out");
        draft.not_taken(area(list), list, &why, "split the profile, and extend the parts");
    }
}

/// The profile without the value at the path or, if it is not valid without it, without the nearest
/// parent; and the number of steps to what was taken out.
fn without(whole: &Value, steps: &[Step]) -> Option<(Profile, usize)> {
    // A unit without its text would be a unit that does not exist.
    let is_unit = matches!(steps, [Step::Field(list), Step::Index(_), Step::Field(field)]
        if list == "services" && field == "unit");
    let longest = if is_unit { 2 } else { steps.len() };
    (1..=longest).rev().find_map(|length| {
        let mut value = whole.clone();
        if !remove(&mut value, &steps[..length]) {
            return None;
        }
        let bytes = serde_json::to_vec(&value).ok()?;
        Some((fleeti_core::strict::from_slice(&bytes).ok()?, length))
    })
}

fn remove(value: &mut Value, steps: &[Step]) -> bool {
    let Some((last, parents)) = steps.split_last() else { return false };
    let mut at = value;
    for step in parents {
        let child = match step {
            Step::Field(name) => at.get_mut(name.as_str()),
            Step::Index(index) => at.get_mut(*index),
        };
        match child {
            Some(child) => at = child,
            None => return false,
        }
    }
    match (last, at) {
        (Step::Field(name), Value::Object(fields)) => fields.remove(name).is_some(),
        (Step::Index(index), Value::Array(items)) if *index < items.len() => {
            items.remove(*index);
            true
        }
        _ => false,
    }
}

fn steps(path: &str) -> Vec<Step> {
    let mut found = Vec::new();
    let mut rest = path;
    while !rest.is_empty() {
        if let Some(quoted) = rest.strip_prefix("[\"") {
            let (name, after) = quoted.split_once("\"]").unwrap_or((quoted, ""));
            found.push(Step::Field(name.to_owned()));
            rest = after;
        } else if let Some(index) = rest.strip_prefix('[') {
            let (number, after) = index.split_once(']').unwrap_or((index, ""));
            found.push(Step::Index(number.parse().unwrap_or(usize::MAX)));
            rest = after;
        } else {
            let text = rest.strip_prefix('.').unwrap_or(rest);
            let end = text.find(['.', '[']).unwrap_or(text.len());
            found.push(Step::Field(text[..end].to_owned()));
            rest = &text[end..];
        }
    }
    found
}

/// What was taken out: the path, with the names of entries instead of their numbers.
fn subject(whole: &Value, steps: &[Step], length: usize) -> String {
    // A file is known by its path.
    if let [Step::Field(list), Step::Index(index)] = &steps[..length]
        && list == "files"
        && let Some(path) = whole[list.as_str()][*index]["path"].as_str()
    {
        return path.to_owned();
    }
    let mut text = String::new();
    let mut at = Some(whole);
    for step in &steps[..length] {
        match step {
            Step::Field(name) => {
                if !text.is_empty() {
                    text.push('.');
                }
                text.push_str(name);
                at = at.and_then(|value| value.get(name.as_str()));
            }
            Step::Index(index) => {
                at = at.and_then(|value| value.get(*index));
                let name = ["name", "path", "ssid", "service", "public_key"]
                    .iter()
                    .find_map(|key| at?.get(*key)?.as_str())
                    // A key of SSH is long and says nothing.
                    .or_else(|| at?.as_str().filter(|text| text.len() <= 120));
                text.push_str(&format!("[{}]", name.unwrap_or(&index.to_string())));
            }
        }
    }
    text
}

/// The area of a path in a profile.
fn area(path: &str) -> Area {
    let first = path.split(['.', '[']).next().unwrap_or_default();
    match first {
        "identity" => Area::System,
        "users" | "groups" | "sudo" => Area::Accounts,
        "software" => Area::Software,
        "services" | "timers" | "containers" => Area::Services,
        "network" => Area::Network,
        "secrets" => Area::Secrets,
        "kernel" | "hardware" => Area::Kernel,
        "security" => Area::Ssh,
        "state" | "storage" => Area::State,
        _ => Area::Files,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fleeti_core::profile::{DropIn, File, Service, UnitState};

    fn service(name: &str, unit: Option<&str>) -> Service {
        let unit = unit.map(str::to_owned);
        Service { name: name.to_owned(), state: UnitState::Enabled, unit, drop_ins: Vec::new() }
    }

    #[test]
    fn what_breaks_a_rule_is_taken_out_and_named_with_the_rule() {
        let mut draft = crate::draft::made();
        let profile = &mut draft.profile;
        profile.files.push(File::new("/etc/pam.d/login", "x"));
        profile.files.push(File::new("/etc/motd", "x"));
        profile.kernel.sysctl.insert("kernel.modprobe".to_owned(), "/x".to_owned());
        profile.kernel.sysctl.insert("net.ipv4.ip_forward".to_owned(), "1".to_owned());
        profile.services.push(service("app.service", Some("[Service]\nUser=0day\n")));
        let mut nginx = service("nginx.service", None);
        for text in ["no section", "[Service]\nMemoryMax=1G\n"] {
            let name = format!("d{}", nginx.drop_ins.len());
            nginx.drop_ins.push(DropIn { name, text: text.to_owned() });
        }
        profile.services.push(nginx);
        profile.software.packages = ["ok", "Bad Name", "also-ok"].map(str::to_owned).to_vec();
        prune(&mut draft);
        let profile = &draft.profile;
        assert!(broken_rules(profile).is_empty());
        assert_eq!(profile.files.len(), 1);
        assert_eq!(profile.kernel.sysctl.len(), 1);
        assert_eq!(profile.software.packages, ["ok", "also-ok"]);
        assert_eq!(profile.services.len(), 1);
        assert_eq!(profile.services[0].drop_ins.len(), 1);
        let mut subjects: Vec<_> = draft.notes.iter().map(|n| n.subject.as_str()).collect();
        subjects.sort_unstable();
        assert_eq!(
            subjects,
            [
                "/etc/pam.d/login",
                "kernel.sysctl.kernel.modprobe",
                "services[app.service]",
                "services[nginx.service].drop_ins[d0]",
                "software.packages[Bad Name]",
            ]
        );
        let login = draft.notes.iter().find(|n| n.subject.contains("pam.d")).unwrap();
        assert!(login.why.contains("reserved for logins"), "{}", login.why);
    }

    #[test]
    fn a_list_that_is_too_long_is_cut_and_said() {
        let mut draft = crate::draft::made();
        draft.profile.software.packages = (0..LIST_MAX + 3).map(|i| format!("p{i:04}")).collect();
        prune(&mut draft);
        assert_eq!(draft.profile.software.packages.len(), LIST_MAX);
        assert!(draft.notes[0].why.contains("the last 3"), "{:?}", draft.notes);
    }

    #[test]
    fn a_path_is_read_into_its_steps() {
        let field = |name: &str| Step::Field(name.to_owned());
        assert_eq!(
            steps("users[1].ssh_keys[0]"),
            [field("users"), Step::Index(1), field("ssh_keys"), Step::Index(0)]
        );
        assert_eq!(
            steps("kernel.sysctl[\"net.ipv4.x\"]"),
            [field("kernel"), field("sysctl"), field("net.ipv4.x")]
        );
    }
}
