//! Statements for many rows at once. The text of a statement depends on its number of rows, and
//! SQLite compiles each text anew; so there are few numbers, and the rest of the rows is padding.

use crate::sql::{Columns, QueryBuilder};

/// Rows of a statement beyond the first few come in multiples of this number.
const STEP: usize = 16;

/// Number of rows of the statement for `rows` rows: at least as many, and one of few numbers.
#[must_use]
fn padded(rows: usize) -> usize {
    match rows {
        0 | 1 => 1,
        2..=4 => 4,
        _ => rows.next_multiple_of(STEP),
    }
}

/// Pushes the values of `IN (...)`, without the parentheses. The last value fills the padding.
/// There must be a value.
pub(crate) fn push_list<'q>(query: &mut QueryBuilder<'q>, values: &[&'q str]) {
    let mut list = query.columns();
    for i in 0..padded(values.len()) {
        list.push_bind(values.get(i).or(values.last()).copied());
    }
}

/// As [`push_list`], for integers.
pub(crate) fn push_integers(query: &mut QueryBuilder<'_>, values: &[i64]) {
    let mut list = query.columns();
    for i in 0..padded(values.len()) {
        list.push_bind(values.get(i).or(values.last()).copied());
    }
}

/// Pushes `VALUES` with a row for each element. Rows of NULL, of the same types, fill the padding: the
/// statement must skip rows whose first column is NULL.
pub(crate) fn push_rows<'q, T>(
    query: &mut QueryBuilder<'q>,
    rows: impl ExactSizeIterator<Item = T>,
    mut push: impl FnMut(&mut Columns<'_, 'q>, T),
) {
    let length = rows.len();
    if length == 0 {
        return;
    }
    let from = query.parameters();
    query.push_values(rows, |mut row, element| push(&mut row, element));
    let columns = (query.parameters() - from) / length;
    let nulls = query.nulls(from..from + columns);
    for _ in length..padded(length) {
        query.push(", (");
        let mut row = query.columns();
        for null in &nulls {
            row.push_bind(null.clone());
        }
        query.push(")");
    }
}

#[cfg(test)]
mod tests {
    use super::padded;
    use std::collections::BTreeSet;

    #[test]
    fn few_statements_serve_all_numbers_of_rows() {
        let all: BTreeSet<usize> = (1..=128).map(padded).collect();
        assert!((1..=128).all(|rows| padded(rows) >= rows && padded(rows) < rows + 16));
        assert_eq!(all.len(), 10, "{all:?}");
    }
}
