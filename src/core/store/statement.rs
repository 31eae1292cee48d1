//! Statement: a fixed SQL text with its values, prepared once per connection.
//!
//! A statement is prepared anew at each call, one more round trip, and so is planned for its values and for the tables as
//! they are. The few that most of the load is made of are prepared once per connection, and PostgreSQL keeps their plan.
//! The values are always bound, never part of the text.

use std::borrow::Cow;

use diesel::{
    QueryResult,
    pg::Pg,
    query_builder::{AstPass, Query, QueryFragment, QueryId},
    serialize::ToSql,
    sql_types::{HasSqlType, Untyped},
};
use diesel_async::{AsyncPgConnection, RunQueryDsl, methods::LoadQuery};

use crate::core::faults::mutant;

/// An SQL text with `$1`, `$2`, … and a value for each of them.
pub(super) struct Statement {
    name: &'static str,
    text: Cow<'static, str>,
    values: Vec<Box<dyn QueryFragment<Pg> + Send>>,
    keeps_plan: bool,
}

/// A statement whose text is known when the program is written. The name is that of the verb.
pub(super) fn sql(name: &'static str, text: &'static str) -> Statement {
    Statement { name, text: Cow::Borrowed(text), values: Vec::new(), keeps_plan: false }
}

impl Statement {
    /// A statement put together from constant parts.
    pub(super) fn built(name: &'static str, text: String) -> Self {
        Self { name, text: Cow::Owned(text), values: Vec::new(), keeps_plan: false }
    }

    /// Keeps the plan, by text, for as long as the connection lives. To plan a batch takes longer than to run it; but the
    /// plan is made while the tables may be empty, and then serves until the next ANALYZE, with a hundred thousand tasks
    /// in them by then. So only for a statement that names its rows by their key, and that no partial index seems to
    /// serve, which is the cheapest of all as long as it is empty: hide the status (`CASE`), or leave the plan to each
    /// call.
    pub(super) fn with_kept_plan(mut self) -> Self {
        self.keeps_plan = true;
        self
    }

    /// What it is called: for fault injection and for people.
    pub(super) fn name(&self) -> &'static str {
        self.name
    }

    /// Leaves something out when the build is to have this defect: a check of the tests. Otherwise nothing happens.
    pub(super) fn with_defect(mut self, name: &str, part: &str, instead: &str) -> Self {
        if mutant(name) {
            assert!(self.text.contains(part), "the defect {name} finds nothing to change");
            self.text = Cow::Owned(self.text.replace(part, instead));
        }
        self
    }

    /// The value of the next placeholder, with its SQL type.
    pub(super) fn bind<ST, T>(mut self, value: T) -> Self
    where
        Pg: HasSqlType<ST>,
        T: ToSql<ST, Pg> + Send + 'static,
        ST: Send + 'static,
    {
        self.values.push(Box::new(Value { value, sql_type: std::marker::PhantomData::<ST> }));
        self
    }

    /// Runs it and reads its rows.
    pub(super) async fn rows<R>(self, conn: &mut AsyncPgConnection) -> QueryResult<Vec<R>>
    where
        R: Send,
        Self: for<'q> LoadQuery<'q, AsyncPgConnection, R>,
    {
        self.load(conn).await
    }

    /// Runs it and counts the rows that it changed.
    pub(super) async fn run(self, conn: &mut AsyncPgConnection) -> QueryResult<usize> {
        self.execute(conn).await
    }
}

impl QueryFragment<Pg> for Statement {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        if !self.keeps_plan {
            out.unsafe_to_cache_prepared();
        }
        out.push_sql(&self.text);
        self.values.iter().try_for_each(|value| value.walk_ast(out.reborrow()))
    }
}

impl QueryId for Statement {
    type QueryId = ();
    // Without an id of its type the connection's cache goes by the text.
    const HAS_STATIC_QUERY_ID: bool = false;
}

impl Query for Statement {
    type SqlType = Untyped;
}

struct Value<ST, T> {
    value: T,
    sql_type: std::marker::PhantomData<ST>,
}

impl<ST, T> QueryFragment<Pg> for Value<ST, T>
where
    Pg: HasSqlType<ST>,
    T: ToSql<ST, Pg>,
{
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        // The text already has the placeholder.
        out.push_bind_param_value_only(&self.value)
    }
}
