//! `app list`: tasks, newest first.

use clap::Args;

use super::{
    Session,
    api::{self, Answer},
    exit::Exit,
    failure::Failure,
    filter::Filter,
    screen::{Format, Style, Talk},
    table::{Cell, Table},
    time,
    wire::{self, Counts, Status, Task},
};

/// Which tasks.
#[derive(Args)]
pub struct List {
    #[command(flatten)]
    filter: Filter,
    /// Tasks on the page, 1 to 1000
    #[arg(long, default_value_t = 50, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1000))]
    limit: u16,
    /// The page that an earlier list named as its next
    #[arg(long, value_name = "CURSOR")]
    cursor: Option<String>,
}

impl List {
    /// Runs the command.
    pub fn run(self, session: Session) -> Result<Exit, Failure> {
        let mut pairs = self.filter.pairs(session.api.clock.now())?;
        pairs.push(("limit".to_owned(), self.limit.to_string()));
        pairs.extend(self.cursor.clone().map(|cursor| ("cursor".to_owned(), cursor)));
        let answer = session.api.get(&format!("/tasks{}", api::query(&pairs)))?;
        if session.screen.format == Format::Json {
            session.screen.json(&answer.body)?;
        } else {
            let tasks: Vec<Task> = wire::read(&answer.body)?;
            print(&session, &tasks)?;
            if session.screen.talk >= Talk::Normal && session.screen.err.terminal {
                self.hint(&session, &tasks, &answer)?;
            }
        }
        Ok(Exit::Done)
    }

    /// What a person may want next.
    fn hint(&self, session: &Session, tasks: &[Task], answer: &Answer) -> Result<(), Failure> {
        if tasks.is_empty() {
            session.screen.hint(if self.filter.is_empty() { "No tasks yet." } else { "No task matches." });
            return Ok(());
        }
        let now = session.api.clock.now();
        let next = answer.next().and_then(|path| path.split(['?', '&']).find_map(|pair| pair.strip_prefix("cursor=")));
        let mut hint = match next {
            Some(cursor) => {
                let query = api::query(&self.filter.pairs(now)?);
                let counts: Counts = wire::read(&session.api.get(&format!("/tasks/counts{query}"))?.body)?;
                let all: i64 = counts.counts.values().flatten().sum();
                let more = if counts.more.is_empty() { "" } else { "+" };
                format!("{} of {all}{more} shown. Next page: --cursor {cursor}", tasks.len())
            }
            None => return Ok(()),
        };
        if tasks.iter().all(|task| task.status == Status::Failed) {
            hint.push_str(&format!("   Retry all: app retry{}{} --dry-run", self.filter.flags(now), session.again));
        }
        session.screen.hint(&session.screen.err.safe(&hint));
        Ok(())
    }
}

fn print(session: &Session, tasks: &[Task]) -> Result<(), Failure> {
    let look = &session.screen.out;
    let now = session.api.clock.now();
    let mut table = Table::new(&["STATUS", "ID", "TYPE", "QUEUE", "TRY", "TOOK", "CREATED", "REASON"]);
    for task in tasks {
        let took = task.took(now).map_or_else(|| "-".to_owned(), time::span);
        let (status, id, created) = match look.terminal {
            true => {
                let ending = &task.task_id[task.task_id.len().saturating_sub(4)..];
                (
                    format!("{} {}", task.status.sign(look), task.status.word()),
                    format!("{}{ending}", look.ellipsis()),
                    format!("{} ago", time::rough(now - task.created_at)),
                )
            }
            false => (task.status.word().to_owned(), task.task_id.clone(), time::rfc3339(task.created_at)),
        };
        table.row([
            Cell::styled(status, task.status.style()),
            id.into(),
            look.safe(&task.task_type).into(),
            look.safe(&task.queue).into(),
            format!("{}/{}", task.attempt, task.max_attempts).into(),
            took.into(),
            Cell::styled(created, Style::Faint),
            look.safe(&task.reason(now)).into(),
        ]);
    }
    table.print(&session.screen)
}
