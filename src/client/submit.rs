//! `app submit`: a task from the command line.
//!
//! A key is always sent, so what this command repeats after a lost answer is one task.

use std::{collections::BTreeMap, time::Duration};

use clap::Args;
use serde_json::{Value, json, value::RawValue};

use super::{
    Session,
    api::Request,
    exit::Exit,
    failure::Failure,
    fields::{self, Field},
    filter::Priority,
    follow::{self, Following},
    screen::{Format, Style},
    wait::{self, wait_time},
    wire::{self, Task, TaskType},
};
use crate::config;

/// Bytes of an Idempotency-Key, as the API takes it.
const LONGEST_KEY: usize = 255;

/// What to submit, and what to do then.
#[derive(Args)]
pub struct Submit {
    /// The task type; 'app types' lists them
    #[arg(value_name = "TYPE")]
    task_type: String,
    /// Input: key=value typed by the type's schema, key:=json as it is, key=@file and key:=@file from a file
    #[arg(value_name = "KEY=VALUE")]
    fields: Vec<Field>,
    /// A JSON object with the input, or - for stdin; fields win over it
    #[arg(long, value_name = "FILE")]
    input: Option<String>,
    /// Metadata: key=value, or key:=json. May be given several times
    #[arg(long = "meta", value_name = "KEY=VALUE")]
    metadata: Vec<Field>,
    /// The queue to wait in
    #[arg(long, value_name = "NAME")]
    queue: Option<String>,
    /// The place in the queue
    #[arg(long, value_name = "PRIORITY", value_enum, ignore_case = true)]
    priority: Option<Priority>,
    /// Do not start before this long from now
    #[arg(long, value_name = "TIME", value_parser = config::duration)]
    delay: Option<Duration>,
    /// How long one attempt may take
    #[arg(long, value_name = "TIME", value_parser = config::duration)]
    task_timeout: Option<Duration>,
    /// The Idempotency-Key: a submit with a used key and the same input is the same task. By default a new one
    #[arg(long, value_name = "KEY", value_parser = key)]
    key: Option<String>,
    /// Wait silently for the end, this long at most, and print the result
    #[arg(long, value_name = "TIME", num_args = 0..=1, require_equals = true, value_parser = wait_time, default_missing_value = "", conflicts_with = "follow")]
    wait: Option<wait::Limit>,
    /// Follow the task to its end
    #[arg(long)]
    follow: bool,
    #[command(flatten)]
    following: Following,
}

impl Submit {
    /// Runs the command.
    pub fn run(self, session: Session) -> Result<Exit, Failure> {
        let body = self.body(&session)?;
        let key = self.key.clone().unwrap_or_else(|| format!("{:032x}", rand::random::<u128>()));
        let answer = session.api.send(&Request::post("/tasks", body).with_key(&key))?;
        let task: Task = wire::read(&answer.body)?;
        if let Some(notice) = &task.notice {
            session.screen.hint(&session.screen.err.safe(notice));
        }
        match (self.follow, self.wait) {
            (true, _) => {
                if session.screen.format == Format::Text {
                    say_accepted(&session, &task)?;
                }
                follow::follow(&session, vec![task.task_id], 0, &self.following)
            }
            (_, Some(limit)) => wait::wait(&session, &task.task_id, limit, &self.following),
            (false, None) => {
                match session.screen.format {
                    Format::Json => session.screen.json(&answer.body)?,
                    Format::Text => say_accepted(&session, &task)?,
                }
                Ok(Exit::Done)
            }
        }
    }

    fn body(&self, session: &Session) -> Result<String, Failure> {
        // An unknown type is refused by the server, with the names of those that it knows.
        let types: Vec<TaskType> = wire::read(&session.api.get("/task-types")?.body)?;
        let known = types.into_iter().find(|kind| kind.task_type == self.task_type);
        let schema = known.map_or(Value::Null, |kind| kind.input_schema);
        let mut members = fields::input(&self.fields, self.input.as_deref(), &schema)?;
        members.insert("task_type".to_owned(), raw(&self.task_type)?);
        if !self.metadata.is_empty() {
            members.insert("metadata".to_owned(), raw(&fields::metadata(&self.metadata)?)?);
        }
        let time = |time: Duration| json!(humantime::format_duration(time).to_string());
        let options: BTreeMap<&str, Value> = [
            ("queue", self.queue.as_ref().map(|name| json!(name))),
            ("priority", self.priority.map(|priority| json!(priority.word()))),
            ("delay", self.delay.map(time)),
            ("timeout", self.task_timeout.map(time)),
        ]
        .into_iter()
        .filter_map(|(name, value)| Some((name, value?)))
        .collect();
        if !options.is_empty() {
            members.insert("options".to_owned(), raw(&options)?);
        }
        serde_json::to_string(&members).map_err(|error| Failure::unexpected(error.to_string()))
    }
}

/// One that the API takes as it is: printable ASCII without quotes, blanks within only.
fn key(text: &str) -> Result<String, String> {
    let good = (1..=LONGEST_KEY).contains(&text.len())
        && text.bytes().all(|byte| matches!(byte, b' '..=b'~') && byte != b'"')
        && text.trim() == text;
    if good { Ok(text.to_owned()) } else { Err(format!("write 1 to {LONGEST_KEY} letters, digits and marks of ASCII")) }
}

fn raw(value: &impl serde::Serialize) -> Result<Box<RawValue>, Failure> {
    serde_json::value::to_raw_value(value).map_err(|error| Failure::unexpected(error.to_string()))
}

/// The id; on a terminal also what and where.
fn say_accepted(session: &Session, task: &Task) -> Result<(), Failure> {
    let look = &session.screen.out;
    if !look.terminal {
        return session.screen.line(&task.task_id);
    }
    let page = session.api.url(&format!("/ui/tasks/{}", task.task_id));
    session.screen.line(&format!(
        "{}  {}  {}  {}",
        look.paint(Style::Bold, &task.task_id),
        look.safe(&task.task_type),
        look.safe(&task.queue),
        look.paint(Style::Faint, &page)
    ))
}
