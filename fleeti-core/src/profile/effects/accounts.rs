//! Users and groups of an image.

use super::image::Image;
use std::collections::{BTreeMap, BTreeSet};

/// The first and the last number of users and groups of a profile that do not name one.
const NUMBERS: std::ops::Range<u32> = 1000..60_000;

/// What a rule of sudo allows.
type Right<'a> = (&'a str, bool, &'a [String]);

/// Everything that makes a user what it is. Users of packages have nothing here.
#[derive(PartialEq, Default)]
pub(super) struct User<'a> {
    number: u32,
    comment: &'a str,
    shell: &'a str,
    password_hash: Option<&'a str>,
    expires: Option<&'a str>,
    groups: BTreeSet<&'a str>,
    ssh_keys: BTreeSet<&'a str>,
    rights: BTreeSet<Right<'a>>,
}

/// Everything that makes a group what it is.
#[derive(PartialEq, Default)]
pub(super) struct Group<'a> {
    number: u32,
    rights: BTreeSet<Right<'a>>,
}

/// Numbers of users and of groups. Those that a profile does not name are the next free ones, in the
/// order of the profile and users first: a user before it that comes or goes changes them.
struct Numbers {
    users: Vec<u32>,
    groups: Vec<u32>,
}

impl Numbers {
    fn of(image: &Image) -> Self {
        let users = || image.profile.users.iter().map(|user| user.id);
        let groups = || image.profile.groups.iter().map(|group| group.id);
        let named: BTreeSet<u32> = users().chain(groups()).flatten().collect();
        let mut free = NUMBERS.filter(|number| !named.contains(number));
        let mut number = |id: Option<u32>| id.or_else(|| free.next()).unwrap_or_default();
        let users = users().map(&mut number).collect();
        Self { users, groups: groups().map(&mut number).collect() }
    }
}

pub(super) fn users<'a>(image: &Image<'a>) -> BTreeMap<String, User<'a>> {
    let profile = image.profile;
    let of_packages = image.installed.users.iter().map(|name| (name.clone(), User::default()));
    let of_profile = profile.users.iter().zip(Numbers::of(image).users).map(|(user, number)| {
        let rules = profile.sudo.iter().filter(|rule| rule.users.contains(&user.name));
        let account = User {
            number,
            comment: &user.comment,
            shell: &user.shell,
            password_hash: user.password_hash.as_deref(),
            expires: user.expires.as_deref(),
            groups: user.groups.iter().map(String::as_str).collect(),
            ssh_keys: user.ssh_keys.iter().map(String::as_str).collect(),
            rights: rules.map(right).collect(),
        };
        (user.name.clone(), account)
    });
    of_packages.chain(of_profile).collect()
}

/// Groups by name.
type Groups<'a> = BTreeMap<String, Group<'a>>;

/// Groups of two images, but for those of users that have their name.
pub(super) fn groups<'a>(before: &Image<'a>, after: &Image<'a>) -> (Groups<'a>, Groups<'a>) {
    // A rule may be about a group that every system has.
    let of_rules = |image: &Image<'a>| image.profile.sudo.iter().flat_map(|rule| &rule.groups);
    let is_brought = |image: &Image<'a>, name: &String| {
        image.installed.groups.contains(name)
            || image.profile.groups.iter().any(|group| group.name == *name)
    };
    let of_systems: BTreeSet<_> = of_rules(before)
        .chain(of_rules(after))
        .filter(|name| !is_brought(before, name) && !is_brought(after, name))
        .collect();
    (with_rights(before, &of_systems), with_rights(after, &of_systems))
}

fn with_rights<'a>(image: &Image<'a>, of_systems: &BTreeSet<&String>) -> Groups<'a> {
    let profile = image.profile;
    let is_of_user = |name: &String| profile.users.iter().any(|user| user.name == *name);
    let rights = |name: &String| {
        profile.sudo.iter().filter(|rule| rule.groups.contains(name)).map(right).collect()
    };
    let mut groups: Groups<'a> = image
        .installed
        .groups
        .iter()
        .chain(of_systems.iter().copied())
        .filter(|name| !is_of_user(name))
        .map(|name| (name.clone(), Group { number: 0, rights: rights(name) }))
        .collect();
    for (group, number) in profile.groups.iter().zip(Numbers::of(image).groups) {
        let account = Group { number, rights: rights(&group.name) };
        groups.insert(group.name.clone(), account);
    }
    groups
}

fn right(rule: &super::super::SudoRule) -> Right<'_> {
    (&rule.run_as, rule.no_password, &rule.commands)
}
