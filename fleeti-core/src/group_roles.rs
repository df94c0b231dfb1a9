//! Roles that follow from the groups of a person at an identity provider. Pure: what an account has,
//! and what the groups give, becomes what the account has then.

use crate::wire::accounts::{GRANTS_MAX, Grant, Role};
use std::collections::BTreeSet;

/// Maximum number of mapped groups.
pub const MAPPED_MAX: usize = 256;

/// The role of those who administer everything.
const ADMINISTRATOR: Grant = Grant { role: Role::Admin, fleet: None };

/// A group of the provider, and a role that its members have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MappedGroup {
    /// The group, byte for byte as the provider writes it.
    pub group: String,
    /// The role.
    pub grant: Grant,
}

/// The mapping of groups to roles.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Mapping(Vec<MappedGroup>);

/// Why a mapping is not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoMapping {
    /// More than [`MAPPED_MAX`].
    #[error("more than {MAPPED_MAX} groups are mapped to roles; hint: map fewer groups")]
    TooMany,
    /// A group without a name.
    #[error(
        "a group without a name is mapped to {0}; hint: write the name that the provider sends"
    )]
    Unnamed(Grant),
    /// The role belongs to no fleet.
    #[error("the role {} cannot be limited to a fleet, as for group {group}; hint: leave the fleet out", .grant.role)]
    NotOfAFleet {
        /// The group.
        group: String,
        /// The role.
        grant: Grant,
    },
}

impl Mapping {
    /// Checks a mapping.
    ///
    /// # Errors
    /// [`NoMapping`].
    pub fn new(groups: Vec<MappedGroup>) -> Result<Self, NoMapping> {
        if groups.len() > MAPPED_MAX {
            return Err(NoMapping::TooMany);
        }
        for MappedGroup { group, grant } in &groups {
            if group.is_empty() {
                return Err(NoMapping::Unnamed(grant.clone()));
            }
            if grant.fleet.is_some() && !grant.role.is_of_a_fleet() {
                let (group, grant) = (group.clone(), grant.clone());
                return Err(NoMapping::NotOfAFleet { group, grant });
            }
        }
        Ok(Self(groups))
    }

    /// The roles that these groups give. Groups are compared byte for byte.
    #[must_use]
    pub fn roles(&self, groups: &BTreeSet<String>) -> BTreeSet<Grant> {
        let mapped = self.0.iter().filter(|mapped| groups.contains(&mapped.group));
        mapped.map(|mapped| mapped.grant.clone()).collect()
    }
}

/// The roles of an account, by where they come from. A role may come from both.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Roles {
    /// Those that administrators gave. No group takes them away.
    pub by_hand: BTreeSet<Grant>,
    /// Those of the groups at the last sign-in.
    pub by_groups: BTreeSet<Grant>,
}

impl Roles {
    /// All of them.
    #[must_use]
    pub fn all(&self) -> BTreeSet<Grant> {
        self.by_hand.union(&self.by_groups).cloned().collect()
    }
}

/// What a sign-in knows of its person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The provider listed all groups, and they give these roles.
    Listed(BTreeSet<Grant>),
    /// The provider did not say which groups the person is in.
    NotListed,
}

/// What the caller knows beside it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ctx {
    /// Whether an account that no group can demote administers the server, other than this one.
    pub others_administer: bool,
}

/// What to record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// The account gets this role, which it did not have.
    Given(Grant),
    /// The account loses this role, which it had.
    Taken(Grant),
    /// No group gives the role of an administrator any more, and this is the last one: it is kept.
    /// An administrator gives the role to another person, or by hand to this one.
    LastAdministratorKept,
}

/// Why a person does not sign in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Nobody knows which roles the person has, and none was given by hand.
    #[error("the provider did not list the groups of this person, and no role was given by hand")]
    NotListed,
    /// No group gives a role, and none was given by hand.
    #[error(
        "no group of this person is mapped to a role; hint: add the person to a mapped group at the provider, or give a role with `fleeti user grant`"
    )]
    NoRole,
    /// More than an account can have.
    #[error("the groups of this person give more than {GRANTS_MAX} roles; hint: map fewer groups")]
    TooMany,
}

/// The roles of an account after a sign-in. Roles of earlier groups are replaced. If the provider did
/// not list the groups, those of earlier ones end: a person who left a group does not keep its role by
/// joining so many others that the list is left out.
///
/// # Errors
/// [`Refused`]: the caller stores the roles nevertheless if it gets some, and begins no session.
pub fn step(roles: &Roles, event: &Event, ctx: Ctx) -> (Roles, Vec<Effect>, Result<(), Refused>) {
    let (by_groups, otherwise) = match event {
        Event::Listed(given) => (given.clone(), Refused::NoRole),
        Event::NotListed => (BTreeSet::new(), Refused::NotListed),
    };
    let mut next = Roles { by_hand: roles.by_hand.clone(), by_groups };
    let (before, mut after) = (roles.all(), next.all());
    let is_demoted = before.contains(&ADMINISTRATOR) && !after.contains(&ADMINISTRATOR);
    let mut effects = vec![];
    if is_demoted && !ctx.others_administer {
        next.by_groups.insert(ADMINISTRATOR);
        after.insert(ADMINISTRATOR);
        effects.push(Effect::LastAdministratorKept);
    }
    if after.len() > GRANTS_MAX {
        return (roles.clone(), vec![], Err(Refused::TooMany));
    }
    effects.extend(after.difference(&before).cloned().map(Effect::Given));
    effects.extend(before.difference(&after).cloned().map(Effect::Taken));
    let is_let_in = if after.is_empty() { Err(otherwise) } else { Ok(()) };
    (next, effects, is_let_in)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grant(role: Role, fleet: Option<&str>) -> Grant {
        Grant { role, fleet: fleet.map(|fleet| fleet.parse().unwrap()) }
    }

    fn set(grants: &[&Grant]) -> BTreeSet<Grant> {
        grants.iter().map(|grant| (*grant).clone()).collect()
    }

    const OTHERS: Ctx = Ctx { others_administer: true };
    const ALONE: Ctx = Ctx { others_administer: false };

    #[test]
    fn groups_give_their_roles_byte_for_byte() {
        let (operator, admin) = (grant(Role::Operator, Some("north")), ADMINISTRATOR);
        let mapped = |group: &str, grant: &Grant| MappedGroup {
            group: group.to_owned(),
            grant: grant.clone(),
        };
        let all = vec![mapped("ops", &operator), mapped("Admins", &admin)];
        let mapping = Mapping::new(all).unwrap();
        let roles = |groups: &[&str]| mapping.roles(&groups.iter().map(|g| (*g).into()).collect());
        assert_eq!(roles(&["ops", "other"]), set(&[&operator]));
        assert_eq!(roles(&["ops", "Admins"]), set(&[&operator, &admin]));
        for not_mapped in ["admins", "Admins ", "ops,Admins", "", "*"] {
            assert!(roles(&[not_mapped]).is_empty(), "{not_mapped}");
        }
    }

    #[test]
    fn a_mapping_names_groups_and_roles_that_can_be() {
        let viewer = grant(Role::Viewer, None);
        let mapped = |group: &str, grant: &Grant| MappedGroup {
            group: group.to_owned(),
            grant: grant.clone(),
        };
        let unnamed = Mapping::new(vec![mapped("", &viewer)]);
        assert_eq!(unnamed, Err(NoMapping::Unnamed(viewer.clone())));
        let builder = grant(Role::Builder, Some("north"));
        let refused = Mapping::new(vec![mapped("devs", &builder)]).unwrap_err();
        assert!(refused.to_string().contains("builder cannot be limited to a fleet"), "{refused}");
        let many = vec![mapped("g", &viewer); MAPPED_MAX + 1];
        assert_eq!(Mapping::new(many.clone()), Err(NoMapping::TooMany));
        assert!(Mapping::new(many[1..].to_vec()).is_ok());
    }

    #[test]
    fn roles_of_groups_are_replaced_and_roles_by_hand_stay() {
        let (viewer, north) = (grant(Role::Viewer, None), grant(Role::Operator, Some("north")));
        let south = grant(Role::Operator, Some("south"));
        let roles = Roles { by_hand: set(&[&viewer]), by_groups: set(&[&viewer, &north]) };
        let (next, effects, is_let_in) = step(&roles, &Event::Listed(set(&[&south])), OTHERS);
        assert_eq!(next, Roles { by_hand: set(&[&viewer]), by_groups: set(&[&south]) });
        assert_eq!(effects, [Effect::Given(south.clone()), Effect::Taken(north)]);
        assert_eq!(is_let_in, Ok(()));
        let again = step(&next, &Event::Listed(set(&[&south])), OTHERS);
        assert_eq!(again, (next, vec![], Ok(())), "nothing changes");
    }

    #[test]
    fn a_person_whose_groups_are_not_listed_loses_their_roles() {
        let (viewer, north) = (grant(Role::Viewer, None), grant(Role::Operator, Some("north")));
        let of_groups = Roles { by_hand: set(&[]), by_groups: set(&[&north]) };
        let (next, effects, refused) = step(&of_groups, &Event::NotListed, OTHERS);
        assert_eq!(next, Roles::default());
        assert_eq!(effects, [Effect::Taken(north.clone())]);
        assert_eq!(refused, Err(Refused::NotListed));
        let with_hand = Roles { by_hand: set(&[&viewer]), ..of_groups };
        let (next, _, is_let_in) = step(&with_hand, &Event::NotListed, OTHERS);
        assert_eq!((next.all(), is_let_in), (set(&[&viewer]), Ok(())));
        let none = step(&Roles::default(), &Event::Listed(set(&[])), OTHERS);
        assert_eq!(none.2, Err(Refused::NoRole));
    }

    #[test]
    fn the_last_administrator_is_never_demoted_by_a_group() {
        let viewer = grant(Role::Viewer, None);
        let roles = Roles { by_hand: set(&[]), by_groups: set(&[&ADMINISTRATOR]) };
        for event in [Event::Listed(set(&[&viewer])), Event::Listed(set(&[])), Event::NotListed] {
            let (next, effects, is_let_in) = step(&roles, &event, ALONE);
            assert!(next.all().contains(&ADMINISTRATOR), "{event:?}");
            assert_eq!(effects.first(), Some(&Effect::LastAdministratorKept), "{event:?}");
            assert_eq!(is_let_in, Ok(()));
            let (next, effects, _) = step(&roles, &event, OTHERS);
            assert!(!next.all().contains(&ADMINISTRATOR), "{event:?}");
            assert!(effects.contains(&Effect::Taken(ADMINISTRATOR)), "{event:?}");
        }
        // An administrator of one fleet is no administrator of the server.
        let of_a_fleet = grant(Role::Admin, Some("north"));
        let roles = Roles { by_hand: set(&[]), by_groups: set(&[&of_a_fleet]) };
        let (next, effects, _) = step(&roles, &Event::Listed(set(&[&viewer])), ALONE);
        assert_eq!(next.all(), set(&[&viewer]));
        assert!(!effects.contains(&Effect::LastAdministratorKept));
    }

    #[test]
    fn groups_that_give_too_many_roles_change_nothing() {
        let grants = |n: usize| -> BTreeSet<Grant> {
            (0..n).map(|n| grant(Role::Viewer, Some(&format!("fleet-{n}")))).collect()
        };
        let roles = Roles { by_hand: set(&[&ADMINISTRATOR]), by_groups: set(&[]) };
        let (next, effects, refused) = step(&roles, &Event::Listed(grants(GRANTS_MAX)), OTHERS);
        assert_eq!((next, effects, refused), (roles.clone(), vec![], Err(Refused::TooMany)));
        let (next, _, is_let_in) = step(&roles, &Event::Listed(grants(GRANTS_MAX - 1)), OTHERS);
        assert_eq!((next.all().len(), is_let_in), (GRANTS_MAX, Ok(())));
        // Nor does the role that the last administrator keeps make one too many.
        let roles = Roles { by_hand: set(&[]), by_groups: set(&[&ADMINISTRATOR]) };
        let (next, _, refused) = step(&roles, &Event::Listed(grants(GRANTS_MAX)), ALONE);
        assert_eq!((next, refused), (roles, Err(Refused::TooMany)));
    }
}
