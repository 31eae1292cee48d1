//! `app cancel` and `app retry`: tasks by their ids, or all that a filter means.
//!
//! Running work is lost when it is cancelled, so a person is asked first. A filter may mean more than its writer
//! thinks: the server counts before anything happens.

use clap::Args;
use serde_json::json;

use super::{
    Session,
    api::Request,
    exit::Exit,
    failure::Failure,
    filter::Filter,
    ids::Ids,
    screen::{Format, Style},
    time,
    wire::{self, BulkOutcome, Status, Task},
};

/// Which tasks to cancel.
#[derive(Args)]
pub struct Cancel {
    #[command(flatten)]
    which: Which,
}

/// Which tasks to run again.
#[derive(Args)]
pub struct Retry {
    #[command(flatten)]
    which: Which,
}

/// Tasks, by their ids or by a filter.
#[derive(Args)]
struct Which {
    /// Ids, or endings of ids
    #[arg(value_name = "ID")]
    ids: Vec<String>,
    #[command(flatten)]
    filter: Filter,
    /// Only tell how many a filter means
    #[arg(long)]
    dry_run: bool,
    /// Do not ask
    #[arg(short, long)]
    yes: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Action {
    Cancel,
    Retry,
}

impl Cancel {
    /// Runs the command.
    pub fn run(self, session: Session) -> Result<Exit, Failure> {
        self.which.run(&session, Action::Cancel)
    }
}

impl Retry {
    /// Runs the command.
    pub fn run(self, session: Session) -> Result<Exit, Failure> {
        self.which.run(&session, Action::Retry)
    }
}

impl Action {
    fn word(self) -> &'static str {
        match self {
            Action::Cancel => "cancel",
            Action::Retry => "retry",
        }
    }

    fn done(self) -> &'static str {
        match self {
            Action::Cancel => "cancelled",
            Action::Retry => "retried",
        }
    }
}

impl Which {
    fn run(self, session: &Session, action: Action) -> Result<Exit, Failure> {
        match (self.ids.is_empty(), self.filter.is_empty()) {
            (true, true) => Err(Failure::usage(format!(
                "which tasks? Give ids, or a filter such as --status; see 'app {} --help'",
                action.word()
            ))),
            (false, false) => Err(Failure::usage("give ids or a filter, not both")),
            (true, false) => self.by_filter(session, action),
            (false, true) if self.dry_run => {
                Err(Failure::usage("--dry-run counts what a filter means; ids are counted"))
            }
            (false, true) => self.by_ids(session, action),
        }
    }

    fn by_ids(&self, session: &Session, action: Action) -> Result<Exit, Failure> {
        let ids = Ids::on(&session.api).whole(&self.ids)?;
        let mut worst = Exit::Done;
        for id in &ids {
            if action == Action::Cancel && !self.yes && session.screen.can_ask() && !may_cancel(session, id)? {
                worst = worst.max(Exit::Unexpected);
                continue;
            }
            match act(session, action, id) {
                Ok(()) => {}
                // The others are not held up by one of them.
                Err(failure) if ids.len() > 1 && failure.exit != Exit::NoReader => {
                    session.screen.report(&Failure { message: format!("{id}: {failure}"), ..failure.clone() });
                    worst = worst.max(failure.exit);
                }
                Err(failure) => return Err(failure),
            }
        }
        Ok(worst)
    }

    fn by_filter(&self, session: &Session, action: Action) -> Result<Exit, Failure> {
        let filter = self.filter.body(session.api.clock.now())?;
        let path = format!("/tasks/{}", action.word());
        let ask = |body: serde_json::Value| {
            let body = body.to_string();
            let answer = session.api.send(&Request::post(&path, body))?;
            Ok::<_, Failure>((wire::read::<BulkOutcome>(&answer.body)?, answer.body))
        };
        let (counted, body) = ask(json!({"filter": filter, "dry_run": true}))?;
        let number = format!("{}{}", counted.count, if counted.more { "+" } else { "" });
        let tasks = if number == "1" { "task" } else { "tasks" };
        if self.dry_run {
            session.screen.hint(&format!("{number} {tasks} to {}; nothing was done", action.word()));
            return print(session, &body, &number);
        }
        session.screen.hint(&format!("{number} {tasks} to {}", action.word()));
        if counted.count > 0 && !self.yes {
            if !session.screen.can_ask() {
                return Err(Failure::usage(format!(
                    "{number} {tasks} would be {}, and nobody is there to be asked: add --yes, or --dry-run to count",
                    action.done()
                )));
            }
            let verb = if action == Action::Cancel { "Cancel" } else { "Retry" };
            if !session.screen.ask(&format!("{verb} {number} {tasks}?")) {
                session.screen.hint("Nothing was done.");
                return Ok(Exit::Unexpected);
            }
        }
        let (done, body) = ask(json!({ "filter": filter }))?;
        let changed = counted.count - done.count;
        let meanwhile =
            if changed > 0 && !counted.more { format!(", {changed} had changed meanwhile") } else { String::new() };
        session.screen.hint(&format!("{} {}{meanwhile}", done.count, action.done()));
        print(session, &body, &done.count.to_string())
    }
}

fn print(session: &Session, body: &str, number: &str) -> Result<Exit, Failure> {
    match session.screen.format {
        Format::Json => session.screen.json(body)?,
        Format::Text => session.screen.line(number)?,
    }
    Ok(Exit::Done)
}

/// Whether a person agrees that work is lost. What does not run yet is not worth a question.
fn may_cancel(session: &Session, id: &str) -> Result<bool, Failure> {
    let task: Task = wire::read(&session.api.get(&format!("/tasks/{id}"))?.body)?;
    if task.status != Status::Running {
        return Ok(true);
    }
    let spent = task.took(session.api.clock.now()).map(time::span).unwrap_or_default();
    let far = task.progress.as_ref().and_then(|progress| progress.percent);
    let far = far.map(|percent| format!(" ({percent:.0} %)")).unwrap_or_default();
    let kind = session.screen.err.safe(&task.task_type);
    let agreed = session.screen.ask(&format!("{kind} {id} is running: {spent} of work{far} will stop. Cancel it?"));
    if !agreed {
        session.screen.hint("It goes on.");
    }
    Ok(agreed)
}

fn act(session: &Session, action: Action, id: &str) -> Result<(), Failure> {
    let screen = &session.screen;
    let path = format!("/tasks/{id}");
    let body = match action {
        Action::Cancel => {
            session.api.send(&Request::delete(&path))?;
            // The answer to a DELETE is empty; what became of the task is what is printed.
            session.api.get(&path)?.body
        }
        Action::Retry => session.api.send(&Request::post(&format!("{path}/retry"), String::new()))?.body,
    };
    if screen.format == Format::Json {
        return screen.json(&body);
    }
    let task: Task = wire::read(&body)?;
    let look = &screen.out;
    match look.terminal {
        true => screen.line(&format!("{}  {}", task.status.shown(look), look.paint(Style::Bold, id))),
        false => screen.line(id),
    }
}
