//! The charts of the overview and of the pages of fleets.

use crate::pages::display::query_value;
use crate::pages::svg::{Chart, Part};
use fleeti_control::board::Numbers;
use fleeti_core::attestation::Level;

/// Colours of releases, the most used first.
const SERIES: [&str; 5] = ["s1", "s2", "s3", "s4", "s5"];

/// The list of devices of a filter, in one fleet or in all.
fn list(filter: &str, fleet: Option<&str>) -> String {
    let of = fleet.map(|name| format!("fleet={name} and ")).unwrap_or_default();
    format!("/devices?filter={}", query_value(&format!("{of}{filter} and not revoked")))
}

/// Devices by release, health, level and drift.
pub fn charts(numbers: &Numbers, fleet: Option<&str>, lists_drift: bool) -> Vec<Chart> {
    vec![
        releases(numbers, fleet),
        health(numbers, fleet),
        levels(numbers),
        drift(numbers, fleet, lists_drift),
    ]
}

fn releases(numbers: &Numbers, fleet: Option<&str>) -> Chart {
    let named = numbers.releases.iter().filter_map(|(name, n)| Some((name.as_ref()?, *n)));
    let mut named: Vec<_> = named.map(|(name, n)| (name.to_string(), n)).collect();
    named.sort_by(|(a, devices), (b, others)| others.cmp(devices).then_with(|| a.cmp(b)));
    let others: u64 = named.iter().skip(SERIES.len()).map(|(_, n)| n).sum();
    let mut parts: Vec<_> = named
        .into_iter()
        .zip(SERIES)
        .map(|((name, n), tone)| {
            let filter = list(&format!("release={name}"), fleet);
            Part::new(name, n, tone).to(filter)
        })
        .collect();
    if others > 0 {
        parts.push(Part::new("other releases", others, "s6"));
    }
    let silent = numbers.releases.get(&None).copied().unwrap_or_default();
    if silent > 0 || parts.is_empty() {
        parts.push(Part::new("no report yet", silent, ""));
    }
    Chart::of("Releases", parts)
}

fn health(numbers: &Numbers, fleet: Option<&str>) -> Chart {
    let moving = "state in (staging, staged, armed, trying, unconfirmed)";
    Chart::of(
        "Health",
        vec![
            Part::new("healthy", numbers.healthy, "good")
                .to(list("state=idle and not alarm", fleet)),
            Part::new("updating", numbers.updating, "busy").to(list(moving, fleet)),
            Part::new("update failed", numbers.failed, "bad")
                .to(list("state in (failed, rolled_back)", fleet)),
            Part::new("alarm", numbers.alarms, "warn").to(list("alarm", fleet)),
        ],
    )
}

fn levels(numbers: &Numbers) -> Chart {
    let tone = |level: Level| match level {
        Level::SelfReported => "bad",
        Level::Token => "",
        Level::UnverifiedTpm => "s3",
        Level::ObservedBoot => "warn",
        Level::VerifiedBoot => "s2",
        Level::VerifiedFirmware => "good",
    };
    let parts = Level::ALL.into_iter().rev().zip(numbers.levels.into_iter().rev());
    let part = |(level, n): (Level, u64)| {
        Part::new(format!("{} {}", level.code(), level.title()), n, tone(level))
    };
    Chart::of("Attestation levels", parts.filter(|(_, n)| *n > 0).map(part).collect())
}

fn drift(numbers: &Numbers, fleet: Option<&str>, lists: bool) -> Chart {
    let of = fleet.map(|name| format!("&fleet={name}")).unwrap_or_default();
    let drifting = Part::new("another release than desired", numbers.drifting, "warn");
    let drifting = if lists { drifting.to(format!("/devices?drifting=1{of}")) } else { drifting };
    let as_desired = numbers.devices.saturating_sub(numbers.drifting);
    Chart::of("Drift", vec![Part::new("as desired", as_desired, "good"), drifting])
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    #[test]
    fn the_most_used_releases_are_named_and_the_links_are_filters() {
        let name = |n: u64| Some(format!("kiosk@{n}").parse().unwrap());
        let mut releases: HashMap<_, _> = (1..=7).map(|n| (name(n), n)).collect();
        releases.insert(None, 2);
        let numbers = Numbers { devices: 30, drifting: 40, releases, ..Numbers::default() };
        let all = charts(&numbers, Some("demo"), true);
        let texts: Vec<_> = all[0].parts.iter().map(|p| (p.text.as_str(), p.count)).collect();
        let expected = [("kiosk@7", 7), ("kiosk@6", 6), ("kiosk@5", 5), ("kiosk@4", 4)];
        assert_eq!(texts[..4], expected);
        assert_eq!(texts[5..], [("other releases", 3), ("no report yet", 2)]);
        let hrefs = all.iter().flat_map(|chart| &chart.parts).filter_map(|p| p.href.as_deref());
        let first = hrefs.clone().next().unwrap();
        assert_eq!(
            first,
            "/devices?filter=fleet%3Ddemo%20and%20release%3Dkiosk%407%20and%20not%20revoked"
        );
        let drifting = "/devices?drifting=1&fleet=demo";
        assert!(hrefs.clone().any(|href| href == drifting));
        assert!(hrefs.clone().all(|href| href.contains("fleet=demo") || href.contains("%3Ddemo")));
        assert_eq!(all[3].parts[0].count, 0, "the numbers are not of one moment");
    }
}
