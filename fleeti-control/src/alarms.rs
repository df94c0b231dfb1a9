//! Alarms that have been raised recently.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The audit log gets the same alarm of the same source once in this time.
const ALARMED_AGAIN: Duration = Duration::from_secs(3600);
/// Maximum number of remembered alarms.
const ALARMS_MAX: usize = 4096;

/// Recent alarms, by action and source.
#[derive(Default)]
pub struct Alarms(Mutex<HashMap<(&'static str, String), Instant>>);

impl Alarms {
    /// Whether this alarm of this source is new. Rate-limits audit entries per source and action,
    /// so that an attacker can neither fill the log nor hide other alarms.
    pub(crate) fn is_new(&self, action: &'static str, who: &str) -> bool {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|_, at| at.elapsed() < ALARMED_AGAIN);
        if all.len() >= ALARMS_MAX {
            all.clear();
        }
        let alarm = (action, who.to_owned());
        let is_new = !all.contains_key(&alarm);
        if is_new {
            all.insert(alarm, Instant::now());
        }
        is_new
    }
}
