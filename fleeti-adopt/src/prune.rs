//! Takes out of a draft what breaks a rule of profiles, so that the rest can be used, and says what
//! was taken out and why. The rules themselves are those of [`fleeti_core::profile`].

use crate::draft::{Draft, count};
use crate::note::Area;
use fleeti_core::profile::{LIST_MAX, Profile, broken_rules};
use fleeti_core::wire::problem::FieldError;
use serde_json::Value;
use std::collections::BTreeMap;

/// Maximum number of passes; a foreign system must not take forever. There is more than one because
/// a value can be wrong only after another one was taken out.
const PASSES_MAX: usize = 20;

/// Messages about two entries of a list. They wait for the others, because the other entry may be
/// taken out for a reason of its own.
const BETWEEN_ENTRIES: [&str; 3] =
    ["is listed twice", "is below another file", "is below another one"];

/// A step of a path such as `users[0].ssh_keys`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Step {
    Field(String),
    /// A key of a map, `["KEY"]`.
    Key(String),
    Index(usize),
}

impl Step {
    fn of<'a>(&self, value: &'a Value) -> Option<&'a Value> {
        match self {
            Self::Field(name) | Self::Key(name) => value.get(name.as_str()),
            Self::Index(index) => value.get(*index),
        }
    }

    /// The step without what differs between the entries of a list or a map.
    fn shape(&self) -> Self {
        match self {
            Self::Field(name) => Self::Field(name.clone()),
            Self::Key(_) => Self::Key(String::new()),
            Self::Index(_) => Self::Index(0),
        }
    }
}

/// Takes out every value that breaks a rule, all those of a pass together. What is left over after
/// the last pass is in a note, and is reported by the check of the document.
pub(crate) fn prune(draft: &mut Draft) {
    shorten(draft);
    let mut shapes = Shapes::default();
    for _ in 0..PASSES_MAX {
        if broken_rules(&draft.profile).is_empty() {
            return;
        }
        if pass(draft, &mut shapes).is_none() {
            break;
        }
    }
    let left = broken_rules(&draft.profile);
    if let Some(first) = left.first() {
        let rules = count(left.len(), "rule", "rules");
        let why = format!("breaks {rules} still; the first: {}: {}", first.path, first.message);
        draft.taken(Area::System, "the profile", &why, "correct it before the profile is used");
    }
}

/// Takes out what breaks a rule now; `None` if nothing can be taken out.
fn pass(draft: &mut Draft, shapes: &mut Shapes) -> Option<()> {
    let whole = serde_json::to_value(&draft.profile).ok()?;
    let mut found: BTreeMap<Vec<Step>, FieldError> = BTreeMap::new();
    for wrong in urgent(broken_rules(&draft.profile)) {
        if let Some(target) = shapes.target(&whole, steps(&wrong.path)) {
            found.entry(target).or_insert(wrong);
        }
    }
    // What is within something that is taken out goes with it. A parent is before its children.
    let mut chosen: Vec<(Vec<Step>, FieldError)> = Vec::new();
    for (target, wrong) in found {
        if chosen.last().is_none_or(|(parent, _)| !target.starts_with(parent)) {
            chosen.push((target, wrong));
        }
    }
    let profile = without(&whole, &chosen).or_else(|| {
        // Not valid together.
        chosen.truncate(1);
        without(&whole, &chosen)
    });
    draft.profile = profile?;
    for (target, wrong) in &chosen {
        // Such a remedy is for an author, who can choose.
        let is_reserved = wrong.message.starts_with("is reserved for");
        let next = if is_reserved {
            "use the section of the profile for it, if there is one"
        } else {
            wrong.remedy.as_str()
        };
        draft.not_taken(area(&wrong.path), &subject(&whole, target), &wrong.message, next);
    }
    (!chosen.is_empty()).then_some(())
}

/// The rules of single values; those between entries if there are no others.
fn urgent(broken: Vec<FieldError>) -> Vec<FieldError> {
    let (between, single): (Vec<_>, Vec<_>) =
        broken.into_iter().partition(|wrong| BETWEEN_ENTRIES.contains(&wrong.message.as_str()));
    if single.is_empty() { between } else { single }
}

/// Whether a profile is valid without a value, by the shape of the path of the value: it depends on
/// the type alone, and is not asked for each of thousands of entries.
#[derive(Default)]
struct Shapes(BTreeMap<Vec<Step>, bool>);

impl Shapes {
    /// The value at the path or, if a profile is not valid without it, the nearest parent.
    fn target(&mut self, whole: &Value, mut steps: Vec<Step>) -> Option<Vec<Step>> {
        // A unit without its text would be a unit that does not exist.
        let is_unit = matches!(
            steps.as_slice(),
            [Step::Field(list), Step::Index(_), Step::Field(field)]
                if list == "services" && field == "unit"
        );
        if is_unit {
            steps.truncate(2);
        }
        while !steps.is_empty() {
            if self.is_optional(whole, &steps) {
                return Some(steps);
            }
            steps.pop();
        }
        None
    }

    fn is_optional(&mut self, whole: &Value, steps: &[Step]) -> bool {
        if steps.iter().try_fold(whole, |value, step| step.of(value)).is_none() {
            return false;
        }
        let shape = steps.iter().map(Step::shape).collect();
        *self.0.entry(shape).or_insert_with(|| {
            let mut value = whole.clone();
            remove(&mut value, steps) && parsed(&value).is_some()
        })
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
    let sysctl = &mut profile.kernel.sysctl;
    let settings = sysctl.len().saturating_sub(LIST_MAX);
    for _ in 0..settings {
        sysctl.pop_last();
    }
    let cuts = [
        ("kernel.sysctl", settings),
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

/// The profile without some values, sorted by their paths.
fn without(whole: &Value, targets: &[(Vec<Step>, FieldError)]) -> Option<Profile> {
    let mut value = whole.clone();
    // From the end, so that the numbers of the entries before stay as they are.
    for (target, _) in targets.iter().rev() {
        if !remove(&mut value, target) {
            return None;
        }
    }
    parsed(&value)
}

fn parsed(value: &Value) -> Option<Profile> {
    let bytes = serde_json::to_vec(value).ok()?;
    fleeti_core::strict::from_slice(&bytes).ok()
}

fn remove(value: &mut Value, steps: &[Step]) -> bool {
    let Some((last, parents)) = steps.split_last() else { return false };
    let mut at = value;
    for step in parents {
        let child = match step {
            Step::Field(name) | Step::Key(name) => at.get_mut(name.as_str()),
            Step::Index(index) => at.get_mut(*index),
        };
        match child {
            Some(child) => at = child,
            None => return false,
        }
    }
    match (last, at) {
        (Step::Field(name) | Step::Key(name), Value::Object(fields)) => {
            fields.remove(name).is_some()
        }
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
            found.push(Step::Key(name.to_owned()));
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
fn subject(whole: &Value, steps: &[Step]) -> String {
    // A file is known by its path.
    if let [Step::Field(list), Step::Index(index)] = steps
        && list == "files"
        && let Some(path) = whole[list.as_str()][*index]["path"].as_str()
    {
        return path.to_owned();
    }
    let mut text = String::new();
    let mut at = Some(whole);
    for step in steps {
        match step {
            Step::Field(name) | Step::Key(name) => {
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
    fn thousands_of_wrong_values_are_taken_out_in_few_passes() {
        let mut draft = crate::draft::made();
        let profile = &mut draft.profile;
        // Each second one, so that the numbers of the entries matter.
        let is_wrong = |i: usize| i.is_multiple_of(2);
        let name = |i: usize| format!("{}{i:03}", if is_wrong(i) { "P " } else { "p" });
        profile.software.packages = (0..LIST_MAX).map(name).collect();
        for i in 0..LIST_MAX {
            let path = if is_wrong(i) { "/etc/pam.d" } else { "/etc/app" };
            profile.files.push(File::new(&format!("{path}/{i:03}"), "x"));
            profile.kernel.sysctl.insert(format!("no name {i}"), "1".to_owned());
            let mut service = service(&format!("s{i}.service"), None);
            for text in ["no section", "[Service]\nNice=1\n", "none either"] {
                let name = format!("d{}", service.drop_ins.len());
                service.drop_ins.push(DropIn { name, text: text.to_owned() });
            }
            profile.services.push(service);
        }
        let mut shapes = Shapes::default();
        for _ in 0..3 {
            pass(&mut draft, &mut shapes);
        }
        let profile = &draft.profile;
        assert!(broken_rules(profile).is_empty());
        assert_eq!((profile.software.packages.len(), profile.files.len()), (256, 256));
        assert!(profile.kernel.sysctl.is_empty());
        assert!(profile.software.packages.iter().all(|name| name.starts_with('p')));
        assert!(profile.files.iter().all(|file| file.path.starts_with("/etc/app/")));
        assert_eq!(profile.services.len(), LIST_MAX);
        for service in &profile.services {
            let names: Vec<_> = service.drop_ins.iter().map(|d| d.name.as_str()).collect();
            assert_eq!(names, ["d1"]);
        }
        assert!(shapes.0.len() < 20, "{} kinds of values", shapes.0.len());
    }

    #[test]
    fn an_entry_stays_if_the_one_that_it_repeats_is_taken_out() {
        let mut draft = crate::draft::made();
        let unit = Some("[Service]\nNice=1\n");
        let wrong = Some("[Service]\nUser=0day\n");
        draft.profile.services = vec![
            service("a.service", wrong),
            service("a.service", unit),
            service("b.service", unit),
            service("b.service", unit),
        ];
        prune(&mut draft);
        let names: Vec<_> = draft.profile.services.iter().map(|s| s.name.as_str()).collect();
        assert_eq!(names, ["a.service", "b.service"]);
        assert_eq!(draft.profile.services[0].unit.as_deref(), unit);
        assert_eq!(draft.notes.len(), 2, "{:?}", draft.notes);
        assert!(draft.notes[1].why.contains("listed twice"), "{:?}", draft.notes);
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
            [field("kernel"), field("sysctl"), Step::Key("net.ipv4.x".to_owned())]
        );
    }
}
