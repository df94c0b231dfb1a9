//! Statements that run on either database. Their text is the same on both; where it cannot be, a
//! function of [`Dialect`] writes it, see [`crate::dialect`].
//!
//! The interface is that of sqlx: [`query`], [`query_as`], [`query_scalar`] and [`QueryBuilder`].
//! The database is chosen when a statement runs, because only then its connection is known.

use crate::connection::{Connection, Pool, Raw};
use crate::dialect::{self, Dialect, POSTGRES, SQLITE};
use crate::error::StoreError;
use sqlx::postgres::{PgArguments, PgRow};
use sqlx::sqlite::{SqliteArguments, SqliteRow};
use sqlx::{Arguments, Decode, FromRow, Postgres, Sqlite, Type};
use std::borrow::Cow;
use std::fmt::Display;
use std::marker::PhantomData;
use std::pin::Pin;

pub use sqlx::AssertSqlSafe;
use sqlx::{SqlSafeStr, SqlStr};

/// A parameter. `NULL` has a type, because PostgreSQL asks for one.
#[derive(Debug, Clone)]
pub enum Value<'q> {
    /// Text.
    Text(Option<Cow<'q, str>>),
    /// A number, time or flag.
    Integer(Option<i64>),
    /// Bytes.
    Bytes(Option<Cow<'q, [u8]>>),
}

macro_rules! values {
    ($($from:ty, $variant:ident, $value:ident => $into:expr;)*) => {$(
        impl<'q> From<$from> for Value<'q> {
            fn from($value: $from) -> Self {
                Self::$variant($into)
            }
        }
    )*};
}

values! {
    &'q str, Text, text => Some(Cow::Borrowed(text));
    &'q String, Text, text => Some(Cow::Borrowed(text));
    String, Text, text => Some(Cow::Owned(text));
    Option<&'q str>, Text, text => text.map(Cow::Borrowed);
    Option<String>, Text, text => text.map(Cow::Owned);
    &'q Option<String>, Text, text => text.as_deref().map(Cow::Borrowed);
    i64, Integer, number => Some(number);
    u32, Integer, number => Some(i64::from(number));
    Option<i64>, Integer, number => number;
    &'q [u8], Bytes, bytes => Some(Cow::Borrowed(bytes));
    &'q Vec<u8>, Bytes, bytes => Some(Cow::Borrowed(bytes));
}

impl Value<'_> {
    fn add_to_sqlite(self, arguments: &mut SqliteArguments) -> Result<(), StoreError> {
        let added = match self {
            Self::Text(Some(Cow::Owned(text))) => arguments.add(text),
            Self::Text(text) => arguments.add(text.as_deref()),
            Self::Integer(number) => arguments.add(number),
            Self::Bytes(bytes) => arguments.add(bytes.as_deref()),
        };
        added.map_err(|e| sqlx::Error::Encode(e).into())
    }

    fn add_to_postgres(self, arguments: &mut PgArguments) -> Result<(), StoreError> {
        let added = match self {
            Self::Text(text) => arguments.add(text.as_deref().map(dialect::postgres_text)),
            Self::Integer(number) => arguments.add(number),
            Self::Bytes(bytes) => arguments.add(bytes.as_deref()),
        };
        added.map_err(|e| sqlx::Error::Encode(e).into())
    }
}

/// The text of a statement.
#[derive(Debug)]
pub struct Text(Source);

#[derive(Debug)]
enum Source {
    Same(SqlStr),
    /// With `?` for each parameter, in order.
    Built(String),
    Each(fn(&Dialect) -> String),
}

impl Text {
    /// A text that differs between the databases.
    #[must_use]
    pub fn each(write: fn(&Dialect) -> String) -> Self {
        Self(Source::Each(write))
    }

    fn sqlite(self) -> SqlStr {
        match self.0 {
            Source::Same(text) => text,
            Source::Built(text) => AssertSqlSafe(text).into_sql_str(),
            Source::Each(write) => AssertSqlSafe(write(&SQLITE)).into_sql_str(),
        }
    }

    fn postgres(self) -> SqlStr {
        match self.0 {
            Source::Same(text) => text,
            Source::Built(text) => AssertSqlSafe(dialect::numbered(&text)).into_sql_str(),
            Source::Each(write) => AssertSqlSafe(write(&POSTGRES)).into_sql_str(),
        }
    }
}

impl From<&'static str> for Text {
    fn from(text: &'static str) -> Self {
        Self(Source::Same(text.into_sql_str()))
    }
}

impl From<AssertSqlSafe<String>> for Text {
    fn from(text: AssertSqlSafe<String>) -> Self {
        Self(Source::Same(text.into_sql_str()))
    }
}

/// Where a statement runs.
pub enum Target<'c> {
    /// On this connection.
    Connection(&'c mut Connection),
    /// On any connection of these.
    Pool(&'c Pool),
}

impl<'c> From<&'c mut Connection> for Target<'c> {
    fn from(connection: &'c mut Connection) -> Self {
        Self::Connection(connection)
    }
}

impl<'c> From<&'c Pool> for Target<'c> {
    fn from(pool: &'c Pool) -> Self {
        Self::Pool(pool)
    }
}

impl<'c> Target<'c> {
    fn raw(self) -> Raw<'c> {
        match self {
            Self::Connection(connection) => connection.raw(),
            Self::Pool(pool) => pool.raw(),
        }
    }
}

/// A row of either database becomes this.
pub trait Row: for<'r> FromRow<'r, SqliteRow> + for<'r> FromRow<'r, PgRow> + Send + Unpin {}

impl<T> Row for T where T: for<'r> FromRow<'r, SqliteRow> + for<'r> FromRow<'r, PgRow> + Send + Unpin
{}

/// A column of either database becomes this.
pub trait Scalar:
    for<'r> Decode<'r, Sqlite>
    + Type<Sqlite>
    + for<'r> Decode<'r, Postgres>
    + Type<Postgres>
    + Send
    + Unpin
{
}

impl<T> Scalar for T where
    T: for<'r> Decode<'r, Sqlite>
        + Type<Sqlite>
        + for<'r> Decode<'r, Postgres>
        + Type<Postgres>
        + Send
        + Unpin
{
}

/// A statement with its parameters.
#[derive(Debug)]
#[must_use = "a statement does nothing until it runs"]
pub struct Query<'q> {
    text: Text,
    values: Vec<Value<'q>>,
}

/// A statement whose result is discarded.
pub fn query<'q>(text: impl Into<Text>) -> Query<'q> {
    Query { text: text.into(), values: Vec::with_capacity(8) }
}

/// A statement whose rows become `T`.
pub fn query_as<'q, T: Row>(text: impl Into<Text>) -> QueryAs<'q, T> {
    QueryAs { query: query(text), rows: PhantomData }
}

/// A statement whose rows have one column.
pub fn query_scalar<'q, T: Scalar>(text: impl Into<Text>) -> QueryScalar<'q, T> {
    QueryScalar(query_as(text))
}

/// The number of rows that a statement has changed.
#[derive(Debug, Clone, Copy)]
pub struct Done(u64);

impl Done {
    /// The number of rows.
    #[must_use]
    pub fn rows_affected(self) -> u64 {
        self.0
    }
}

/// Runs a statement on the database of its target.
macro_rules! run {
    ($query:expr, $raw:expr, $method:ident) => {
        match $raw {
            Raw::SqlitePool(pool) => {
                let (text, arguments) = $query.for_sqlite()?;
                sqlx::query_with::<Sqlite, _>(text, arguments).$method(pool).await?.into()
            }
            Raw::Sqlite(connection) => {
                let (text, arguments) = $query.for_sqlite()?;
                sqlx::query_with::<Sqlite, _>(text, arguments).$method(connection).await?.into()
            }
            Raw::PostgresPool(pool) => {
                let (text, arguments) = $query.for_postgres()?;
                sqlx::query_with::<Postgres, _>(text, arguments).$method(pool).await?.into()
            }
            Raw::Postgres(connection) => {
                let (text, arguments) = $query.for_postgres()?;
                sqlx::query_with::<Postgres, _>(text, arguments).$method(connection).await?.into()
            }
        }
    };
}

/// A statement that is running. It is boxed: otherwise the state of each function that waits for one
/// would contain, and drop, what four kinds of connection need.
type Running<'a, T> = Pin<Box<dyn Future<Output = Result<T, StoreError>> + Send + 'a>>;

/// Rows as the database sent them. The code that fetches them does not depend on what they become.
enum Rows {
    Sqlite(Vec<SqliteRow>),
    Postgres(Vec<PgRow>),
}

impl Rows {
    fn read<T: Row>(&self) -> Result<Vec<T>, StoreError> {
        let read: Result<Vec<T>, sqlx::Error> = match self {
            Self::Sqlite(rows) => rows.iter().map(T::from_row).collect(),
            Self::Postgres(rows) => rows.iter().map(T::from_row).collect(),
        };
        Ok(read?)
    }
}

impl From<Vec<SqliteRow>> for Rows {
    fn from(rows: Vec<SqliteRow>) -> Self {
        Self::Sqlite(rows)
    }
}

impl From<Option<SqliteRow>> for Rows {
    fn from(row: Option<SqliteRow>) -> Self {
        Self::Sqlite(row.into_iter().collect())
    }
}

impl From<Vec<PgRow>> for Rows {
    fn from(rows: Vec<PgRow>) -> Self {
        Self::Postgres(rows)
    }
}

impl From<Option<PgRow>> for Rows {
    fn from(row: Option<PgRow>) -> Self {
        Self::Postgres(row.into_iter().collect())
    }
}

impl<'q> Query<'q> {
    /// Adds a parameter.
    pub fn bind(mut self, value: impl Into<Value<'q>>) -> Self {
        self.values.push(value.into());
        self
    }

    /// Runs it.
    pub async fn execute<'c>(self, target: impl Into<Target<'c>>) -> Result<Done, StoreError> {
        self.done(target.into().raw()).await
    }

    fn done<'a>(self, raw: Raw<'a>) -> Running<'a, Done>
    where
        'q: 'a,
    {
        Box::pin(async move { Ok(run!(self, raw, execute)) })
    }

    fn all<'a>(self, raw: Raw<'a>) -> Running<'a, Rows>
    where
        'q: 'a,
    {
        Box::pin(async move { Ok(run!(self, raw, fetch_all)) })
    }

    fn first<'a>(self, raw: Raw<'a>) -> Running<'a, Rows>
    where
        'q: 'a,
    {
        Box::pin(async move { Ok(run!(self, raw, fetch_optional)) })
    }

    fn for_sqlite(self) -> Result<(SqlStr, SqliteArguments), StoreError> {
        let mut arguments = SqliteArguments::default();
        arguments.reserve(self.values.len(), 0);
        self.values.into_iter().try_for_each(|value| value.add_to_sqlite(&mut arguments))?;
        Ok((self.text.sqlite(), arguments))
    }

    fn for_postgres(self) -> Result<(SqlStr, PgArguments), StoreError> {
        let mut arguments = PgArguments::default();
        arguments.reserve(self.values.len(), 64 * self.values.len());
        self.values.into_iter().try_for_each(|value| value.add_to_postgres(&mut arguments))?;
        Ok((self.text.postgres(), arguments))
    }
}

impl From<sqlx::sqlite::SqliteQueryResult> for Done {
    fn from(done: sqlx::sqlite::SqliteQueryResult) -> Self {
        Self(done.rows_affected())
    }
}

impl From<sqlx::postgres::PgQueryResult> for Done {
    fn from(done: sqlx::postgres::PgQueryResult) -> Self {
        Self(done.rows_affected())
    }
}

/// A statement whose rows become `T`.
#[derive(Debug)]
#[must_use = "a statement does nothing until it runs"]
pub struct QueryAs<'q, T> {
    query: Query<'q>,
    rows: PhantomData<fn() -> T>,
}

impl<'q, T: Row> QueryAs<'q, T> {
    /// Adds a parameter.
    pub fn bind(mut self, value: impl Into<Value<'q>>) -> Self {
        self.query = self.query.bind(value);
        self
    }

    /// All rows.
    pub async fn fetch_all<'c>(self, target: impl Into<Target<'c>>) -> Result<Vec<T>, StoreError> {
        self.query.all(target.into().raw()).await?.read()
    }

    /// The first row, if there is one.
    pub async fn fetch_optional<'c>(
        self,
        target: impl Into<Target<'c>>,
    ) -> Result<Option<T>, StoreError> {
        Ok(self.query.first(target.into().raw()).await?.read()?.pop())
    }

    /// The first row.
    ///
    /// # Errors
    /// When there is none.
    pub async fn fetch_one<'c>(self, target: impl Into<Target<'c>>) -> Result<T, StoreError> {
        let row = self.fetch_optional(target).await?;
        row.ok_or(StoreError::Database(sqlx::Error::RowNotFound))
    }
}

/// A statement whose rows have one column.
#[derive(Debug)]
#[must_use = "a statement does nothing until it runs"]
pub struct QueryScalar<'q, T>(QueryAs<'q, (T,)>);

impl<'q, T: Scalar> QueryScalar<'q, T> {
    /// Adds a parameter.
    pub fn bind(mut self, value: impl Into<Value<'q>>) -> Self {
        self.0 = self.0.bind(value);
        self
    }

    /// The column in all rows.
    pub async fn fetch_all<'c>(self, target: impl Into<Target<'c>>) -> Result<Vec<T>, StoreError> {
        Ok(self.0.fetch_all(target).await?.into_iter().map(|(value,)| value).collect())
    }

    /// The column in the first row, if there is one.
    pub async fn fetch_optional<'c>(
        self,
        target: impl Into<Target<'c>>,
    ) -> Result<Option<T>, StoreError> {
        Ok(self.0.fetch_optional(target).await?.map(|(value,)| value))
    }

    /// The column in the first row.
    ///
    /// # Errors
    /// When there is no row.
    pub async fn fetch_one<'c>(self, target: impl Into<Target<'c>>) -> Result<T, StoreError> {
        Ok(self.0.fetch_one(target).await?.0)
    }
}

/// Writes a statement with as many parameters as there are values. They have no numbers: SQLite
/// looks for each name among all earlier ones.
#[derive(Debug)]
pub struct QueryBuilder<'q> {
    text: String,
    values: Vec<Value<'q>>,
}

impl<'q> QueryBuilder<'q> {
    /// Begins with this text.
    pub fn new(text: impl Into<String>) -> Self {
        Self { text: text.into(), values: Vec::new() }
    }

    /// Adds text.
    pub fn push(&mut self, text: impl Display) -> &mut Self {
        use std::fmt::Write as _;
        // Writing to a string does not fail.
        write!(self.text, "{text}").ok();
        self
    }

    /// Puts words before the statement.
    pub(crate) fn after(mut self, words: &str) -> Self {
        self.text.insert_str(0, words);
        self
    }

    /// Adds a parameter.
    pub(crate) fn push_bind(&mut self, value: impl Into<Value<'q>>) -> &mut Self {
        self.text.push('?');
        self.values.push(value.into());
        self
    }

    /// Adds a list in parentheses, as after `IN`. PostgreSQL refuses an empty one: nothing equals
    /// `NULL`.
    pub fn push_list<V: Into<Value<'q>>>(
        &mut self,
        values: impl IntoIterator<Item = V>,
    ) -> &mut Self {
        self.text.push('(');
        let mut list = self.columns();
        for value in values {
            list.push_bind(value);
        }
        if list.is_first {
            self.text.push_str("NULL");
        }
        self.text.push(')');
        self
    }

    /// Adds `VALUES` and a row for each item.
    pub fn push_values<I>(
        &mut self,
        items: impl IntoIterator<Item = I>,
        mut row: impl FnMut(Columns<'_, 'q>, I),
    ) -> &mut Self {
        self.text.push_str("VALUES ");
        for (n, item) in items.into_iter().enumerate() {
            self.text.push_str(if n == 0 { "(" } else { ", (" });
            row(self.columns(), item);
            self.text.push(')');
        }
        self
    }

    /// Adds parameters with commas between them.
    pub(crate) fn columns(&mut self) -> Columns<'_, 'q> {
        Columns { builder: self, is_first: true }
    }

    /// Number of parameters so far.
    pub(crate) fn parameters(&self) -> usize {
        self.values.len()
    }

    /// `NULL`s of the types of some parameters.
    pub(crate) fn nulls(&self, of: std::ops::Range<usize>) -> Vec<Value<'q>> {
        let null = |value: &Value<'q>| match value {
            Value::Text(_) => Value::Text(None),
            Value::Integer(_) => Value::Integer(None),
            Value::Bytes(_) => Value::Bytes(None),
        };
        self.values.get(of).unwrap_or_default().iter().map(null).collect()
    }

    /// The statement. The builder is empty afterwards.
    pub fn build(&mut self) -> Query<'q> {
        let text = Text(Source::Built(std::mem::take(&mut self.text)));
        Query { text, values: std::mem::take(&mut self.values) }
    }

    /// The statement, whose rows have one column. The builder is empty afterwards.
    pub fn build_query_scalar<T: Scalar>(&mut self) -> QueryScalar<'q, T> {
        QueryScalar(self.build_query_as())
    }

    /// The statement, whose rows become `T`. The builder is empty afterwards.
    pub fn build_query_as<T: Row>(&mut self) -> QueryAs<'q, T> {
        QueryAs { query: self.build(), rows: PhantomData }
    }
}

/// Adds parameters with commas between them.
#[derive(Debug)]
pub struct Columns<'b, 'q> {
    builder: &'b mut QueryBuilder<'q>,
    is_first: bool,
}

impl<'q> Columns<'_, 'q> {
    /// Adds a parameter.
    pub fn push_bind(&mut self, value: impl Into<Value<'q>>) -> &mut Self {
        if !std::mem::replace(&mut self.is_first, false) {
            self.builder.text.push_str(", ");
        }
        self.builder.push_bind(value);
        self
    }
}
