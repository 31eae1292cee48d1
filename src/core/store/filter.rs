//! Filter: the conditions of a list, as text and values.
//!
//! Metadata is found through a table of its own (`task_metadata`: a hash of key and value, and the task), newest first
//! like everything else, so that a thousandth page costs what the first one does and no match is soon known to be none.
//! A GIN index costs a submit less, but has no order: it would read all matches to show fifty of them. Whoever sees only
//! their own tasks goes through those instead, newest first.

use chrono::{DateTime, Utc};
use diesel::{
    pg::Pg,
    serialize::ToSql,
    sql_types::{Array, HasSqlType, SmallInt, Text, Timestamptz, Uuid as SqlUuid},
};
use uuid::Uuid;

use super::{
    TaskFilter,
    rows::{self, uuids},
    statement::Statement,
};
use crate::core::model::{Scope, Status, TaskId};

/// Filters by metadata that are looked up. What more there are only sift what these find.
const LOOKED_UP: usize = 4;

/// Literals of a closed set, because the planner cannot match a bound array with the partial indexes. PENDING is
/// spelled as its two halves, each of which has an index.
fn in_states(statuses: &[Status]) -> String {
    if statuses.iter().all(|status| matches!(status, Status::Failed | Status::Cancelled)) {
        let literals: Vec<String> = statuses.iter().map(|status| format!("'{status}'")).collect();
        return format!("t.status IN ({})", literals.join(", "));
    }
    let arms = statuses.iter().map(|status| match status {
        Status::Pending => {
            "t.status = 'PENDING' AND t.due_at IS NULL OR t.status = 'PENDING' AND t.due_at IS NOT NULL".to_owned()
        }
        other => format!("t.status = '{other}'"),
    });
    format!("({})", arms.collect::<Vec<_>>().join(" OR "))
}

/// The conditions of a filter, with its values. The text depends on which parts are there, not on their values, so each
/// shape is planned for its own index.
pub(super) struct Conditions {
    parts: Vec<String>,
    /// Whose tasks: the placeholder.
    owner: Option<String>,
    /// Ids from here on, and those below this one: the placeholders.
    from: Option<String>,
    below: Option<String>,
    /// Members of the metadata that are looked up: the placeholders of key and value.
    members: Vec<String>,
    binds: Binds,
}

/// Where matching tasks are found: what to select from, with `t` for the tasks, and the order of newest first.
pub(super) struct Selection {
    pub(super) from: String,
    pub(super) conditions: String,
    pub(super) order: &'static str,
    pub(super) binds: Binds,
}

/// Values, in the order of their placeholders.
#[derive(Default)]
pub(super) struct Binds(Vec<Box<dyn FnOnce(Statement) -> Statement + Send>>);

impl Binds {
    /// Adds a value and names its placeholder.
    pub(super) fn add<ST, T>(&mut self, value: T) -> String
    where
        Pg: HasSqlType<ST>,
        T: ToSql<ST, Pg> + Send + 'static,
        ST: Send + 'static,
    {
        self.0.push(Box::new(move |statement| statement.bind::<ST, T>(value)));
        format!("${}", self.0.len())
    }

    /// The statement with this text and these values.
    pub(super) fn onto(self, name: &'static str, text: String) -> Statement {
        self.0.into_iter().fold(Statement::built(name, text), |statement, bind| bind(statement))
    }
}

impl Conditions {
    /// Everything of the filter but its page (`skip` and `limit`), for ids from `bound` on.
    pub(super) fn of(filter: &TaskFilter, bound: Option<Uuid>, scope: &Scope) -> Self {
        let (mut members, mut lowest, mut highest) = (Vec::new(), Vec::new(), Vec::new());
        let mut parts = vec!["true".to_owned()];
        let mut binds = Binds::default();
        let owner = scope.owner().map(|owner| binds.add::<Text, _>(owner.to_owned()));
        let equal = [
            ("t.task_type", filter.task_type.clone()),
            ("t.queue", filter.queue.clone()),
            ("t.error ->> 'code'", filter.error.clone()),
        ];
        for (column, value) in equal {
            parts.extend(value.map(|value| format!("{column} = {}", binds.add::<Text, _>(value))));
        }
        if let Some(ids) = &filter.ids {
            parts.push(format!("t.id = ANY({})", binds.add::<Array<SqlUuid>, _>(uuids(ids))));
        }
        if !filter.statuses.is_empty() {
            parts.push(in_states(&filter.statuses));
        }
        if let Some(priority) = filter.priority {
            parts.push(format!("t.priority = {}", binds.add::<SmallInt, _>(rows::priority_number(priority))));
        }
        // An id is made just before its row, by another clock: a generous bound for the index, the exact one besides.
        let near = chrono::TimeDelta::minutes(10);
        let first_id_at = |time: DateTime<Utc>| Uuid::from(TaskId::first_at(time.timestamp_millis().max(0) as u64));
        if let Some(time) = filter.created_after {
            lowest.push(first_id_at(time - near));
            parts.push(format!("t.created_at >= {}", binds.add::<Timestamptz, _>(time)));
        }
        if let Some(time) = filter.created_before {
            highest.push(first_id_at(time + near));
            parts.push(format!("t.created_at < {}", binds.add::<Timestamptz, _>(time)));
        }
        // A window is small, and all of it is looked through: its statement needs no plan that could be a bad one. And
        // under a member stand everybody's tasks: an owner's would be looked for among those of all others, and the time
        // that it takes would tell how many those are. The index of the owner's own tasks has the order of the list too.
        let may_look_up = bound.is_none() && scope.owner().is_none();
        for (number, (key, value)) in filter.metadata.iter().cloned().enumerate() {
            let (key, value) = (binds.add::<Text, _>(key), binds.add::<Text, _>(value));
            if may_look_up && number < LOOKED_UP {
                members.push(format!("{key}, {value}"));
            }
            // Where it is looked up, the planner must not take it for one that leaves few: it sorted all to find some.
            parts.push(format!("coalesce(t.metadata ->> {key} = {value}, false)"));
        }
        lowest.extend(filter.from.map(Uuid::from).into_iter().chain(bound));
        highest.extend(filter.before.map(Uuid::from));
        let from = lowest.into_iter().max().map(|id| binds.add::<SqlUuid, _>(id));
        let below = highest.into_iter().min().map(|id| binds.add::<SqlUuid, _>(id));
        Self { parts, owner, from, below, members, binds }
    }

    /// For those who take the newest first.
    ///
    /// An owner is told by the order too, and never as a single value, or the order of the ids would look as good to the
    /// planner: it would walk through everybody's tasks where it believes that one in ten is this owner's, and come by
    /// millions when theirs are all old.
    pub(super) fn newest_first(mut self) -> Selection {
        let Some(owner) = &self.owner else { return self.in_any_order() };
        // One condition for each end of what is read: of two, PostgreSQL begins at either.
        let end = |operator: &str, or_equal: &str, id: &Option<String>| match id {
            Some(id) => format!("(t.owner, t.id) {operator} ({owner}, {id})"),
            None => format!("t.owner {or_equal} {owner}"),
        };
        let ends = [end(">=", ">=", &self.from), end("<", "<=", &self.below)];
        // The index has no others, and PostgreSQL does not see it in a comparison of rows.
        self.parts.push("t.owner IS NOT NULL".to_owned());
        self.parts.extend(ends);
        self.found("t.owner DESC, t.id DESC")
    }

    /// For those who take all of them.
    pub(super) fn in_any_order(mut self) -> Selection {
        self.parts.extend(self.owner.as_ref().map(|owner| format!("t.owner = {owner}")));
        self.parts.extend(self.ids("t.id"));
        self.found("t.id DESC")
    }

    /// Between which ids.
    fn ids(&self, column: &str) -> Vec<String> {
        let ends = [(">=", &self.from), ("<", &self.below)];
        ends.iter().filter_map(|(operator, id)| Some(format!("{column} {operator} {}", id.as_ref()?))).collect()
    }

    fn found(self, order: &'static str) -> Selection {
        let mut from = "tasks t".to_owned();
        let within: String = self.ids("task_id").iter().map(|bound| format!(" AND {bound}")).collect();
        for (number, member) in self.members.iter().enumerate() {
            // A task stands under a member once, or under that of two empty texts when it has too many of them, or too
            // large ones. Each half is sorted for itself, so that the two can be merged from the newest on instead of
            // read whole.
            let [own, large] = [member.as_str(), "'', ''"].map(|pair| {
                format!(
                    "(SELECT task_id FROM task_metadata
                      WHERE pair = metadata_pair({pair}){within} ORDER BY task_id DESC)"
                )
            });
            from += &format!(" JOIN ({own} UNION ALL {large}) AS m{number} ON m{number}.task_id = t.id");
        }
        Selection { from, conditions: self.parts.join(" AND "), order, binds: self.binds }
    }
}
