//! Until when the suites of the base get security updates.
//!
//! ```
//! let support = fleeti_core::support::of("trixie").unwrap();
//! assert!(support.full_until_s < support.lts_until_s);
//! ```

/// How long before an end it is announced, seconds: 180 days.
const NOTICE_S: u64 = 180 * 86_400;

/// How long a suite gets security updates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Support {
    /// The suite.
    pub suite: &'static str,
    /// End of support by Debian's security team, Unix seconds.
    pub full_until_s: u64,
    /// End of long-term support, which leaves out some packages, Unix seconds.
    pub lts_until_s: u64,
}

/// Source: <https://wiki.debian.org/LTS>.
const SUITES: &[Support] = &[
    // 2028-08-09 and 2030-06-30.
    Support { suite: "trixie", full_until_s: 1_849_392_000, lts_until_s: 1_909_008_000 },
];

/// Where a suite is in its support.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// It has full support for more than 180 days.
    Full,
    /// Full support ends within 180 days.
    Ending,
    /// It has long-term support only.
    Lts,
    /// It gets no security updates.
    Ended,
}

impl Support {
    /// The stage at a time.
    #[must_use]
    pub fn stage(&self, now_s: u64) -> Stage {
        if now_s >= self.lts_until_s {
            Stage::Ended
        } else if now_s >= self.full_until_s {
            Stage::Lts
        } else if now_s + NOTICE_S >= self.full_until_s {
            Stage::Ending
        } else {
            Stage::Full
        }
    }
}

/// How long a suite is supported; `None` if that is not known.
#[must_use]
pub fn of(suite: &str) -> Option<&'static Support> {
    SUITES.iter().find(|support| support.suite == suite)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_support_is_announced_before_it_comes() {
        let support = of("trixie").unwrap();
        let (full, lts) = (support.full_until_s, support.lts_until_s);
        for (now_s, expected) in [
            (full - NOTICE_S - 1, Stage::Full),
            (full - NOTICE_S, Stage::Ending),
            (full - 1, Stage::Ending),
            (full, Stage::Lts),
            (lts - 1, Stage::Lts),
            (lts, Stage::Ended),
        ] {
            assert_eq!(support.stage(now_s), expected, "{now_s}");
        }
        assert_eq!(of("sid"), None);
    }
}
