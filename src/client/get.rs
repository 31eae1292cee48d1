//! `app get`: one task, as it is now or when it has ended.

use chrono::{DateTime, Utc};
use clap::Args;

use super::{
    Session,
    exit::Exit,
    failure::Failure,
    follow::Following,
    ids::Ids,
    screen::{Format, Style},
    text, time,
    wait::{self, wait_time},
    wire::{self, Task},
};

/// Columns of the names.
const NAMES: usize = 10;

/// Which task.
#[derive(Args)]
pub struct Get {
    /// The task's id, or an ending of it: 4 letters or more, looked up among the newest 1,000 tasks
    #[arg(value_name = "ID")]
    id: String,
    /// Wait silently for the end, this long at most, and print the result
    #[arg(long, value_name = "TIME", num_args = 0..=1, require_equals = true, value_parser = wait_time, default_missing_value = "")]
    wait: Option<wait::Limit>,
    #[command(flatten)]
    following: Following,
}

impl Get {
    /// Runs the command.
    pub fn run(self, session: Session) -> Result<Exit, Failure> {
        let id = Ids::on(&session.api).one(&self.id)?;
        if let Some(limit) = self.wait {
            return wait::wait(&session, &id, limit, &self.following);
        }
        let answer = session.api.get(&format!("/tasks/{id}"))?;
        match session.screen.format {
            Format::Json => session.screen.json(&answer.body)?,
            Format::Text => show(&session, &wire::read(&answer.body)?)?,
        }
        Ok(Exit::Done)
    }
}

fn show(session: &Session, task: &Task) -> Result<(), Failure> {
    let (screen, look) = (&session.screen, &session.screen.out);
    let now = session.api.clock.now();
    let moment = |at: DateTime<Utc>| match look.terminal {
        true => format!("{} ({} ago)", screen.zone.moment(at), time::rough(now - at)),
        false => time::rfc3339(at),
    };
    let line = |name: &str, value: &str| match look.terminal {
        true => screen.line(&format!("{}{value}", look.paint(Style::Faint, &text::pad(name, NAMES)))),
        false => screen.line(&format!("{name}\t{value}")),
    };
    line("id", &task.task_id)?;
    line("status", &task.status.shown(look))?;
    line("type", &look.safe(&task.task_type))?;
    line("queue", &format!("{}, {}", look.safe(&task.queue), look.safe(&task.priority)))?;
    line("try", &format!("{}/{}", task.attempt, task.max_attempts))?;
    if task.status == wire::Status::Pending {
        line("waits", &look.safe(&task.why_pending(now)))?;
    }
    if let Some(progress) = &task.progress {
        line("progress", &look.safe(&progress.shown()))?;
    }
    line("created", &moment(task.created_at))?;
    if let Some(at) = task.started_at {
        line("started", &moment(at))?;
    }
    if let Some(at) = task.completed_at {
        line("ended", &moment(at))?;
    }
    if let Some(took) = task.took(now) {
        line(if task.status.is_final() { "took" } else { "running" }, &time::span(took))?;
    }
    if let Some(at) = task.deadline_at {
        line("deadline", &if look.terminal { screen.zone.moment(at) } else { time::rfc3339(at) })?;
    }
    if task.metadata.get() != "{}" {
        line("metadata", &text::safe_json(&one_line(task.metadata.get())))?;
    }
    if let Some(id) = &task.trace_id {
        line("trace", &look.safe(id))?;
    }
    if let Some(notice) = &task.notice {
        line("notice", &look.safe(notice))?;
    }
    if let Some(error) = task.error.as_ref().or(task.last_error.as_ref()) {
        line(if task.error.is_some() { "error" } else { "last error" }, &look.safe(&error.shown()))?;
    }
    match &task.result {
        Some(result) if look.terminal => {
            line("result", "")?;
            screen.line(&text::safe_json(&text::indented(result.get())))
        }
        Some(result) => line("result", &one_line(result.get())),
        None => Ok(()),
    }
}

/// JSON whose line ends, which stand between its tokens only, are spaces.
fn one_line(json: &str) -> String {
    json.replace(['\n', '\r'], " ")
}
