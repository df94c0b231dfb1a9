//! Who is the active server of a database.

use crate::time::seconds;
use std::fmt::{self, Display};

/// An active server, as it names itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// Unique for each start.
    pub id: String,
    /// The name of its machine.
    pub host: String,
    /// Its process.
    pub pid: u32,
    /// When it started, Unix seconds.
    pub since_s: u64,
}

impl Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let since = jiff::Timestamp::from_second(seconds(self.since_s)).unwrap_or_default();
        write!(f, "process {} on {:?} since {since}", self.pid, self.host)
    }
}
