//! Statements for many rows at once. The text of a statement depends on its number of rows, and
//! SQLite compiles each text anew; so there are few numbers, and the rest of the rows is padding.

use sqlx::query_builder::Separated;
use sqlx::{QueryBuilder, Sqlite};

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
pub(crate) fn push_list(query: &mut QueryBuilder<Sqlite>, values: &[&str]) {
    let mut list = query.separated(", ");
    for i in 0..padded(values.len()) {
        list.push_bind(values.get(i).or(values.last()).copied());
    }
}

/// As [`push_list`], for integers.
pub(crate) fn push_integers(query: &mut QueryBuilder<Sqlite>, values: &[i64]) {
    let mut list = query.separated(", ");
    for i in 0..padded(values.len()) {
        list.push_bind(values.get(i).or(values.last()).copied());
    }
}

/// Pushes `VALUES` with a row for each element. Rows of NULL, `columns` wide, fill the padding: the
/// statement must skip rows whose first column is NULL.
pub(crate) fn push_rows<T: Copy>(
    query: &mut QueryBuilder<Sqlite>,
    (rows, columns): (&[T], usize),
    mut push: impl FnMut(&mut Separated<'_, Sqlite, &'static str>, T),
) {
    query.push_values(0..padded(rows.len()), |mut row, i| match rows.get(i) {
        Some(element) => push(&mut row, *element),
        None => {
            for _ in 0..columns {
                row.push_bind(None::<i64>);
            }
        }
    });
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
