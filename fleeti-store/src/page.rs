//! Where a page of a list begins that is ordered by time, newest first, and by id.

/// The last item of the page before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct After {
    /// Its time, Unix seconds.
    pub at_s: u64,
    /// Its id.
    pub id: String,
}

impl After {
    /// Values for `time < at OR (time = at AND id > id)`: every item without a page before.
    pub(crate) fn values(after: Option<&Self>) -> (i64, &str) {
        after.map_or((i64::MAX, ""), |after| (crate::seconds(after.at_s), after.id.as_str()))
    }
}
