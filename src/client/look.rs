//! `app queues`, `app workers`, `app types`: what a server has and does.

use chrono::TimeDelta;
use clap::Args;

use super::{
    Session,
    exit::Exit,
    failure::Failure,
    screen::{Format, Style},
    table::{Cell, Table},
    text, time,
    wire::{self, Queue, TaskType, Worker},
};

/// All queues.
#[derive(Args)]
pub struct Queues {}

/// All workers.
#[derive(Args)]
pub struct Workers {}

/// All task types, or one.
#[derive(Args)]
pub struct Types {
    /// Show this one's input schema and defaults
    #[arg(value_name = "TYPE")]
    task_type: Option<String>,
}

impl Queues {
    /// Runs the command.
    pub fn run(self, session: Session) -> Result<Exit, Failure> {
        let answer = session.api.get("/queues")?;
        if session.screen.format == Format::Json {
            session.screen.json(&answer.body)?;
            return Ok(Exit::Done);
        }
        let look = &session.screen.out;
        let heading =
            ["QUEUE", "STATE", "READY", "SCHEDULED", "RUNNING", "OLDEST", "DONE/MIN", "EMPTIES IN", "WORKERS"];
        let mut table = Table::new(&heading);
        for queue in wire::read::<Vec<Queue>>(&answer.body)? {
            let (state, style) = if queue.paused { ("paused", Style::Yellow) } else { ("active", Style::Plain) };
            table.row([
                look.safe(&queue.queue).into(),
                Cell::styled(state, style),
                queue.ready.to_string().into(),
                queue.scheduled.to_string().into(),
                format!("{}/{}", queue.running, queue.slots).into(),
                queue.oldest_age_seconds.map_or_else(|| "-".to_owned(), seconds).into(),
                format!("{:.1}", queue.throughput.ended_per_minute).into(),
                empties_in(&queue).into(),
                workers(&queue).into(),
            ]);
        }
        table.print(&session.screen)?;
        Ok(Exit::Done)
    }
}

/// Those of its own, and those over HTTP: as many as hold a task, or that somebody asks.
fn workers(queue: &Queue) -> String {
    match (queue.http_workers.len(), queue.http_asked) {
        (0, false) => queue.workers.to_string(),
        (0, true) => format!("{} + HTTP", queue.workers),
        (some, _) => format!("{} + {some} HTTP", queue.workers),
    }
}

/// At the pace of the last minutes.
fn empties_in(queue: &Queue) -> String {
    match (queue.ready, queue.throughput.ended_per_minute) {
        (0, _) => "-".to_owned(),
        (_, pace) if queue.paused || pace <= 0.0 => "never".to_owned(),
        (ready, pace) => seconds(ready as f64 / pace * 60.0),
    }
}

fn seconds(seconds: f64) -> String {
    time::span(TimeDelta::milliseconds((seconds * 1_000.0) as i64))
}

impl Workers {
    /// Runs the command.
    pub fn run(self, session: Session) -> Result<Exit, Failure> {
        let answer = session.api.get("/workers")?;
        if session.screen.format == Format::Json {
            session.screen.json(&answer.body)?;
            return Ok(Exit::Done);
        }
        let look = &session.screen.out;
        let now = session.api.clock.now();
        let mut table = Table::new(&["HOST", "WORKER", "VERSION", "STATE", "RENEWED", "SLOTS", "UP SINCE", "QUEUES"]);
        for worker in wire::read::<Vec<Worker>>(&answer.body)? {
            let (id, up) = match look.terminal {
                true => {
                    let ending = &worker.worker_id[worker.worker_id.len().saturating_sub(4)..];
                    (format!("{}{ending}", look.ellipsis()), format!("{} ago", time::rough(now - worker.started_at)))
                }
                false => (worker.worker_id.clone(), time::rfc3339(worker.started_at)),
            };
            let slots: i64 = worker.queues.values().sum();
            let queues: Vec<_> = worker.queues.iter().map(|(name, slots)| format!("{name}={slots}")).collect();
            let style = if worker.state == "alive" { Style::Plain } else { Style::Yellow };
            table.row([
                look.safe(&worker.host).into(),
                id.into(),
                look.safe(&worker.version).into(),
                Cell::styled(look.safe(&worker.state), style),
                format!("{} ago", seconds(worker.lease_age_seconds)).into(),
                format!("{}/{slots}", worker.running).into(),
                up.into(),
                look.safe(&queues.join(" ")).into(),
            ]);
        }
        table.print(&session.screen)?;
        Ok(Exit::Done)
    }
}

impl Types {
    /// Runs the command.
    pub fn run(self, session: Session) -> Result<Exit, Failure> {
        let answer = session.api.get("/task-types")?;
        let Some(name) = self.task_type else {
            match session.screen.format {
                Format::Json => session.screen.json(&answer.body)?,
                Format::Text => print_types(&session, &wire::read::<Vec<TaskType>>(&answer.body)?)?,
            }
            return Ok(Exit::Done);
        };
        // As they came, since the schema is more than what is read of it.
        let all: Vec<Box<serde_json::value::RawValue>> = wire::read(&answer.body)?;
        for raw in all {
            let kind: TaskType = wire::read(raw.get())?;
            if kind.task_type == name {
                match session.screen.format {
                    Format::Json => session.screen.json(raw.get())?,
                    Format::Text => print_type(&session, &kind)?,
                }
                return Ok(Exit::Done);
            }
        }
        Err(Failure::new(Exit::Refused, format!("there is no task type {name:?}: 'app types' lists them")))
    }
}

fn print_types(session: &Session, types: &[TaskType]) -> Result<(), Failure> {
    let look = &session.screen.out;
    let mut table = Table::new(&["TYPE", "INPUT", "DESCRIPTION"]);
    for kind in types {
        table.row([
            look.safe(&kind.task_type).into(),
            look.safe(&inputs(&kind.input_schema)).into(),
            look.safe(&kind.description).into(),
        ]);
    }
    table.print(&session.screen)
}

/// `url [duration]`: the keys, those that may be left out in brackets.
fn inputs(schema: &serde_json::Value) -> String {
    let required: Vec<&str> =
        schema["required"].as_array().into_iter().flatten().filter_map(|key| key.as_str()).collect();
    let (needed, others): (Vec<_>, Vec<_>) = schema["properties"]
        .as_object()
        .into_iter()
        .flatten()
        .map(|(key, _)| key)
        .partition(|key| required.contains(&key.as_str()));
    let others = others.into_iter().map(|key| format!("[{key}]"));
    needed.into_iter().cloned().chain(others).collect::<Vec<_>>().join(" ")
}

fn print_type(session: &Session, kind: &TaskType) -> Result<(), Failure> {
    let (screen, look) = (&session.screen, &session.screen.out);
    let timeout = kind.defaults.timeout.as_deref().unwrap_or("none");
    screen.line(&format!(
        "{}  {}",
        look.paint(Style::Bold, &look.safe(&kind.task_type)),
        look.safe(&kind.description)
    ))?;
    screen.line(&format!(
        "queue {}, {} attempts, time limit {}",
        look.safe(&kind.defaults.queue),
        kind.defaults.max_attempts,
        look.safe(timeout)
    ))?;
    screen.json(&text::indented(&kind.input_schema.to_string()))
}
