//! Compares a filter with the label keys that are declared.

use super::error::FilterError;
use super::expression::{Filter, LabelTest, WORDS};
use crate::id::LabelKey;
use crate::profile::nearest;
use crate::wire::labels::LabelType;
use std::collections::BTreeMap;

impl Filter {
    /// Checks that each label has a declared key, and is compared with values of its type.
    ///
    /// # Errors
    /// [`FilterError`] for the first one that does not fit.
    pub fn check(&self, keys: &BTreeMap<LabelKey, LabelType>) -> Result<(), FilterError> {
        for (column, key, test) in &self.labels {
            let Some(of) = keys.get(key) else {
                return Err(unknown(*column, key, keys));
            };
            let wrong = match test {
                LabelTest::Present | LabelTest::Contains(_) => None,
                LabelTest::OneOf(values) => {
                    values.iter().find_map(|value| of.check(key, value).err())
                }
                LabelTest::Number(order, _) if *of != LabelType::Number => {
                    let message =
                        format!("label {key} is not a number, so {} does not fit", order.as_str());
                    return Err(FilterError::new(*column, message, "use =, in or ~"));
                }
                LabelTest::Number(..) => None,
            };
            if let Some(wrong) = wrong {
                return Err(FilterError::new(*column, wrong.to_string(), wrong.hint()));
            }
        }
        Ok(())
    }
}

fn unknown(column: usize, key: &LabelKey, keys: &BTreeMap<LabelKey, LabelType>) -> FilterError {
    let known = keys.keys().map(LabelKey::as_str).chain(WORDS);
    let hint = match nearest(key.as_str(), known) {
        Some(near) => format!("write {near}"),
        None => "fields are id, fleet, name, note, line, release, version, state, last_seen, revoked and alarm; \
                 declare a label key with `fleeti label key`"
            .to_owned(),
    };
    FilterError::new(column, format!("there is no field or label key {key}"), hint)
}
