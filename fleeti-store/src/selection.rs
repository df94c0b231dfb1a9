//! Filters of devices as SQL. Tests of one device by `fleeti_core::filter` and these statements find
//! the same devices.
//!
//! A page is found in the order of ids, from one index: that of a label's devices if the filter asks
//! for a label and few devices have it, or else `devices_searched`, which has all columns that a
//! filter looks at, without the documents of a device's row.

use crate::sql::{QueryAs, QueryBuilder, Row, Target};
use crate::{Pool, StoreError, Tx, from_seconds, seconds};
use fleeti_core::filter::{Filter, Flag, LabelTest, Node, Test, TextField, TextTest, seen_step};
use fleeti_core::id::{DeviceId, FleetId, LabelKey, Line};

/// A label that more devices have is looked up for each device that fits the rest of the filter.
const FEW: u32 = 4096;

/// Devices that a filter matches, in the fleets that the reader may see.
#[derive(Debug, Clone, Copy)]
pub struct Selection<'a> {
    /// The filter.
    pub filter: &'a Filter,
    /// The fleets; `None` for all.
    pub fleets: Option<&'a [&'a FleetId]>,
    /// Only devices that are in service and run another release than their desired one.
    pub is_drifting: bool,
    /// Unix seconds.
    pub now_s: u64,
}

/// Ids of a selection, in their order, after `after`.
pub async fn page(
    pool: &Pool,
    selection: Selection<'_>,
    after: &str,
    limit: u32,
) -> Result<Vec<DeviceId>, StoreError> {
    let driver = match driver(selection) {
        Some(label) if label.is_all || has_few(pool, label, after).await? => Some(label),
        _ => None,
    };
    ids(statement(selection, driver, after, limit), pool).await
}

/// As [`page`], in a transaction.
pub async fn page_in(
    tx: &mut Tx<'_>,
    selection: Selection<'_>,
    after: &str,
    limit: u32,
) -> Result<Vec<DeviceId>, StoreError> {
    ids(statement(selection, None, after, limit), &mut **tx).await
}

/// The statement of a first page with words before it, for a test of how the database runs it.
#[doc(hidden)]
pub fn explained<'q, T: Row>(before: &str, selection: Selection<'q>) -> QueryAs<'q, T> {
    statement(selection, None, "", 100).after(before).build_query_as()
}

async fn ids<'c>(
    mut query: QueryBuilder<'_>,
    target: impl Into<Target<'c>>,
) -> Result<Vec<DeviceId>, StoreError> {
    let found: Vec<String> = query.build_query_scalar().fetch_all(target).await?;
    found.into_iter().map(|id| id.parse().map_err(StoreError::value)).collect()
}

/// Number of devices of a selection.
pub async fn count(pool: &Pool, selection: Selection<'_>) -> Result<u64, StoreError> {
    let mut query = QueryBuilder::new("SELECT COUNT(*) FROM devices d WHERE d.id > ''");
    conditions(&mut query, selection);
    let count: i64 = query.build_query_scalar().fetch_one(pool).await?;
    Ok(from_seconds(count))
}

/// A label that each device of a selection has.
#[derive(Clone, Copy)]
struct Driver<'a> {
    key: &'a LabelKey,
    test: &'a LabelTest,
    /// Whether the filter asks for nothing else.
    is_all: bool,
}

fn driver(selection: Selection<'_>) -> Option<Driver<'_>> {
    let tests = match selection.filter.root() {
        Node::All(all) => all.as_slice(),
        one => std::slice::from_ref(one),
    };
    let is_all = tests.len() == 1 && selection.fleets.is_none() && !selection.is_drifting;
    let all = || tests.iter().filter_map(|node| label(node, is_all));
    // One value is found at once, the others among all devices that have the key.
    let one =
        all().find(|label| matches!(label.test, LabelTest::OneOf(values) if values.len() == 1));
    one.or_else(|| all().next())
}

fn label(node: &Node, is_all: bool) -> Option<Driver<'_>> {
    match node {
        Node::Test(Test::Label(key, test)) => Some(Driver { key, test, is_all }),
        Node::Test(_) | Node::All(_) | Node::Any(_) | Node::Not(_) => None,
    }
}

async fn has_few(pool: &Pool, label: Driver<'_>, after: &str) -> Result<bool, StoreError> {
    let mut query = QueryBuilder::new("SELECT COUNT(*) FROM (SELECT 1 FROM device_labels l WHERE ");
    query.push("l.label_key = ").push_bind(label.key.as_str());
    query.push(" AND l.device > ").push_bind(after.to_owned());
    value(&mut query, label.test);
    query.push(" LIMIT ").push(FEW).push(") AS found");
    let count: i64 = query.build_query_scalar().fetch_one(pool).await?;
    Ok(count < i64::from(FEW))
}

fn statement<'q>(
    selection: Selection<'q>,
    driver: Option<Driver<'q>>,
    after: &str,
    limit: u32,
) -> QueryBuilder<'q> {
    let mut query = QueryBuilder::new("SELECT ");
    let column = match driver {
        Some(Driver { key, test, .. }) => {
            query.push("l.device FROM device_labels l JOIN devices d ON d.id = l.device WHERE ");
            query.push("l.label_key = ").push_bind(key.as_str());
            value(&mut query, test);
            query.push(" AND l.device > ");
            "l.device"
        }
        None => {
            query.push("d.id FROM devices d WHERE d.id > ");
            "d.id"
        }
    };
    query.push_bind(after.to_owned());
    conditions(&mut query, selection);
    query.push(format_args!(" ORDER BY {column} LIMIT {limit}"));
    query
}

fn conditions<'q>(query: &mut QueryBuilder<'q>, selection: Selection<'q>) {
    let Selection { filter, fleets, is_drifting, now_s } = selection;
    if is_drifting {
        // From an index of these: few devices drift.
        let drifting =
            "SELECT id FROM devices WHERE drift_since_s IS NOT NULL AND COALESCE(revoked_s, 0) = 0";
        query.push(" AND d.id IN (").push(drifting).push(")");
    }
    if let Some(fleets) = fleets {
        query.push(" AND ").push(fleet(filter.is_empty())).push(" IN ");
        query.push_list(fleets.iter().map(|fleet| fleet.as_str()));
    }
    if !filter.is_empty() {
        query.push(" AND ");
        let is_one = matches!(filter.root(), Node::Test(_)) && fleets.is_none();
        Writer { query, now_s, is_one }.node(filter.root());
    }
}

/// The column of the fleet. If other columns are looked at as well, the index of fleets must not be
/// chosen: it does not have them, and the rows of devices are long.
fn fleet(is_all: bool) -> &'static str {
    if is_all { "d.fleet" } else { "COALESCE(d.fleet, '')" }
}

fn value<'q>(query: &mut QueryBuilder<'q>, test: &'q LabelTest) {
    match test {
        LabelTest::Present => {}
        LabelTest::OneOf(values) => {
            query.push(" AND ");
            one_of(query, "l.value", values);
        }
        LabelTest::Contains(part) => {
            query.push(" AND instr(lower(l.value), ").push_bind(part.to_ascii_lowercase());
            query.push(") > 0");
        }
        LabelTest::Number(order, number) => {
            query.push(" AND l.number IS NOT NULL AND l.number ").push(order.as_str());
            query.push(" ").push_bind(*number);
        }
    }
}

fn one_of<'q>(query: &mut QueryBuilder<'q>, column: &str, values: &'q [String]) {
    query.push(column);
    match values {
        [value] => query.push(" = ").push_bind(value),
        values => query.push(" IN ").push_list(values),
    };
}

/// Writes conditions that are true or false, and never `NULL`.
struct Writer<'b, 'q> {
    query: &'b mut QueryBuilder<'q>,
    now_s: u64,
    /// Whether there is only one test.
    is_one: bool,
}

impl<'q> Writer<'_, 'q> {
    fn node(&mut self, node: &'q Node) {
        match node {
            Node::All(all) => self.list(all, " AND ", "1 = 1"),
            Node::Any(any) => self.list(any, " OR ", "1 = 0"),
            Node::Not(one) => {
                self.query.push("NOT (");
                self.node(one);
                self.query.push(")");
            }
            Node::Test(test) => {
                self.query.push("(");
                self.test(test);
                self.query.push(")");
            }
        }
    }

    fn list(&mut self, nodes: &'q [Node], word: &str, of_none: &str) {
        if nodes.is_empty() {
            self.query.push(of_none);
            return;
        }
        self.query.push("(");
        // A label is looked up for each device, so what the index has comes first.
        let is_label = |node: &&Node| matches!(node, Node::Test(Test::Label(..)));
        let (labels, others): (Vec<_>, Vec<_>) = nodes.iter().partition(is_label);
        for (n, node) in others.into_iter().chain(labels).enumerate() {
            if n > 0 {
                self.query.push(word);
            }
            self.node(node);
        }
        self.query.push(")");
    }

    fn test(&mut self, test: &'q Test) {
        match test {
            Test::Text(field, test) => self.text(*field, test),
            Test::Version(order, version) => {
                self.query.push("d.version_key IS NOT NULL AND d.version_key ");
                self.query.push(order.as_str()).push(" ").push_bind(version.sort_key());
            }
            Test::SeenBefore(age) => self.seen("<", *age),
            Test::SeenWithin(age) => self.seen(">=", *age),
            Test::Flag(Flag::Revoked) => {
                self.query.push("d.revoked_s IS NOT NULL");
            }
            Test::Flag(Flag::Alarm) => self.alarm(),
            Test::Label(key, test) => {
                self.query.push("EXISTS (SELECT 1 FROM device_labels l WHERE l.label_key = ");
                self.query.push_bind(key.as_str()).push(" AND l.device = d.id");
                value(self.query, test);
                self.query.push(")");
            }
            Test::Search(text) => {
                self.contains("d.id", text);
                self.query.push(" OR d.name_key IS NOT NULL AND ");
                self.contains("d.name_key", text);
            }
        }
    }

    fn seen(&mut self, order: &str, age: u64) {
        let step = seconds(seen_step(self.now_s.saturating_sub(age)));
        self.query.push("d.seen_step ").push(order).push(" ").push_bind(step);
    }

    /// From indexes of the few devices that have one: the texts are long.
    fn alarm(&mut self) {
        let one = |column| format!("SELECT id FROM devices WHERE {column} IS NOT NULL");
        let columns = ["alarm", "report_refused", "clone_alarm", "attestation_failure"].map(one);
        self.query.push("d.id IN (").push(columns.join(" UNION ALL ")).push(")");
    }

    fn contains(&mut self, column: &str, part: &str) {
        self.query.push("instr(").push(column).push(", ").push_bind(part.to_ascii_lowercase());
        self.query.push(") > 0");
    }

    fn text(&mut self, field: TextField, test: &'q TextTest) {
        match (field, test) {
            (TextField::Id, test) => self.plain("d.id", test),
            (TextField::Fleet, test) => self.plain(fleet(self.is_one), test),
            (TextField::State, test) => self.plain("d.update_kind", test),
            (TextField::Release, test) => {
                self.query.push("d.running IS NOT NULL AND ");
                self.plain("d.running", test);
            }
            (TextField::Line, test) => self.line(test),
            (TextField::Name, TextTest::Contains(part)) => {
                self.query.push("d.name_key IS NOT NULL AND ");
                self.contains("d.name_key", part);
            }
            (TextField::Name, TextTest::OneOf(values)) => self.named(values),
            (TextField::Note, test) => self.noted(test),
        }
    }

    fn plain(&mut self, column: &str, test: &'q TextTest) {
        match test {
            TextTest::OneOf(values) => one_of(self.query, column, values),
            TextTest::Contains(part) => self.contains(column, part),
        }
    }

    fn line(&mut self, test: &'q TextTest) {
        match test {
            TextTest::OneOf(values) => {
                let lines = values.iter().filter(|value| value.parse::<Line>().is_ok());
                self.query.push("1 = 0");
                for line in lines {
                    self.query.push(" OR d.running IS NOT NULL AND instr(d.running, ");
                    self.query.push_bind(format!("{line}@")).push(") = 1");
                }
            }
            // Before the only @.
            TextTest::Contains(part) if part.contains('@') => {
                self.query.push("1 = 0");
            }
            TextTest::Contains(part) => {
                self.query.push("d.running IS NOT NULL AND ");
                self.contains("d.running", part);
                self.query.push(" AND instr(d.running, ").push_bind(part.to_ascii_lowercase());
                self.query.push(") < instr(d.running, '@')");
            }
        }
    }

    fn named(&mut self, values: &'q [String]) {
        self.query.push("d.id IN (SELECT id FROM devices WHERE name_key IN ");
        self.query.push_list(values.iter().map(|value| value.to_ascii_lowercase()));
        self.query.push(" AND ");
        one_of(self.query, "name", values);
        self.query.push(")");
    }

    /// From an index of the devices that have a note: notes are long.
    fn noted(&mut self, test: &'q TextTest) {
        self.query.push("d.id IN (SELECT id FROM devices WHERE note IS NOT NULL AND ");
        match test {
            TextTest::OneOf(values) => one_of(self.query, "note", values),
            TextTest::Contains(part) => self.contains("lower(note)", part),
        }
        self.query.push(")");
    }
}
