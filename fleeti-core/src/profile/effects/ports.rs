//! Ports that can be reached.

use super::super::{Direction, Firewall, FirewallRule, Protocol};
use super::image::Image;
use std::collections::{BTreeMap, BTreeSet};

/// What a profile without a packet filter says of ports.
const EVERY: &str = "every port: no packet filter";

/// How a port is reached, as it is shown after the port.
type Way = String;
/// Ports, as ranges that neither overlap nor touch.
type Ranges = Vec<(u16, u16)>;

/// A rule of a packet filter: its name, who may connect, and to which ports.
pub(super) type Rule<'a> = (&'a str, Vec<Way>, Ranges);

/// What can be reached: ports by the way to them. `None` without a packet filter, because a profile
/// then does not say what listens.
type Open = Option<BTreeMap<Way, Ranges>>;

/// Ports that can be reached and could not before, and those that no longer can.
pub(super) fn differ(before: &Image, after: &Image) -> (BTreeSet<String>, BTreeSet<String>) {
    let (old, new) = (open(before), open(after));
    (beyond(&new, &old), beyond(&old, &new))
}

/// The rules of a packet filter in the order in which it has them, with everything that matters.
pub(super) fn rules(firewall: &Firewall) -> Vec<Rule<'_>> {
    let of = |direction: Direction| {
        firewall.rules.iter().filter(move |rule| rule.direction == direction)
    };
    of(Direction::Incoming)
        .chain(of(Direction::Forward))
        .map(|rule| (rule.name.as_str(), ways(rule), joined(&rule.ports)))
        .collect()
}

fn open(image: &Image) -> Open {
    if !image.filters() {
        return None;
    }
    let mut open: BTreeMap<Way, Ranges> = BTreeMap::new();
    for rule in &image.profile.network.firewall.rules {
        for way in ways(rule) {
            let ranges = open.entry(way).or_default();
            ranges.extend(joined(&rule.ports));
            *ranges = merged(std::mem::take(ranges));
        }
    }
    Some(open)
}

fn ways(rule: &FirewallRule) -> Vec<Way> {
    let protocol = match rule.protocol {
        Protocol::Tcp => "tcp",
        Protocol::Udp => "udp",
    };
    let interface = rule.interface.iter().map(|name| format!(" on {name}")).collect::<String>();
    let through = match rule.direction {
        Direction::Incoming => "",
        Direction::Forward => " through the device",
    };
    let way = |from: String| format!("/{protocol}{from}{interface}{through}");
    if rule.from.is_empty() {
        return vec![way(String::new())];
    }
    rule.from.iter().map(|network| way(format!(" from {network}"))).collect()
}

fn joined(ports: &[String]) -> Ranges {
    let range = |text: &String| {
        let (low, high) = text.split_once('-').unwrap_or((text, text));
        Some((low.parse::<u16>().ok()?, high.parse::<u16>().ok()?))
    };
    merged(ports.iter().filter_map(range).collect())
}

fn merged(mut ranges: Ranges) -> Ranges {
    ranges.sort_unstable();
    let mut merged: Ranges = Vec::new();
    for (low, high) in ranges {
        match merged.last_mut() {
            Some(last) if u32::from(low) <= u32::from(last.1) + 1 => last.1 = last.1.max(high),
            _ => merged.push((low, high)),
        }
    }
    merged
}

/// What is open here and not there.
fn beyond(here: &Open, there: &Open) -> BTreeSet<String> {
    let here = match (here, there) {
        (None, Some(_)) => return BTreeSet::from([EVERY.to_owned()]),
        (None, None) => return BTreeSet::new(),
        (Some(here), _) => here,
    };
    let nothing = Ranges::new();
    let there = |way: &Way| there.as_ref().and_then(|there| there.get(way)).unwrap_or(&nothing);
    let shown = |(low, high): (u16, u16), way: &Way| {
        if low == high { format!("{low}{way}") } else { format!("{low}-{high}{way}") }
    };
    here.iter()
        .flat_map(|(way, ranges)| {
            without(ranges, there(way)).into_iter().map(move |range| shown(range, way))
        })
        .collect()
}

/// Parts of ranges that are not in others.
fn without(ranges: &[(u16, u16)], others: &[(u16, u16)]) -> Ranges {
    let mut left = Vec::new();
    for &(low, high) in ranges {
        let mut next = u32::from(low);
        for &(first, last) in others.iter().filter(|(first, last)| *last >= low && *first <= high) {
            if u32::from(first) > next
                && let Ok(from) = u16::try_from(next)
            {
                left.push((from, first - 1));
            }
            next = next.max(u32::from(last) + 1);
        }
        if let Ok(from) = u16::try_from(next)
            && from <= high
        {
            left.push((from, high));
        }
    }
    left
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_ranges_are_what_others_do_not_have() {
        let all = [(0, 65_535)];
        assert_eq!(without(&all, &all), []);
        assert_eq!(without(&all, &[(0, 0), (65_535, 65_535)]), [(1, 65_534)]);
        assert_eq!(without(&[(1, 5), (8, 9)], &[(2, 3), (9, 12)]), [(1, 1), (4, 5), (8, 8)]);
        assert_eq!(without(&[(5, 6)], &[(1, 5)]), [(6, 6)]);
    }
}
