//! `app logs`: the log of a task so far.

use std::collections::VecDeque;

use clap::{Args, ValueEnum};
use serde_json::value::RawValue;

use super::{
    Session,
    api::{self, Answer},
    exit::Exit,
    failure::Failure,
    follow::log_line,
    ids::Ids,
    screen::Format,
    wire,
};

/// Whose log, and how much of it.
#[derive(Args)]
pub struct Logs {
    /// The task's id, or an ending of it
    #[arg(value_name = "ID")]
    id: String,
    /// No lines lighter than this
    #[arg(long, value_name = "LEVEL", value_enum, ignore_case = true)]
    level: Option<Level>,
    /// Of this delivery only: each time that a worker takes the task is one
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i32).range(1..))]
    delivery: Option<i32>,
    /// The last lines only
    #[arg(long, value_name = "N")]
    tail: Option<usize>,
    /// Lines after the one with this number
    #[arg(long, value_name = "SEQ", value_parser = clap::value_parser!(i32).range(0..))]
    after: Option<i32>,
}

/// How heavy a line is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Level {
    Debug,
    Info,
    Warning,
    Error,
}

impl Logs {
    /// Runs the command.
    pub fn run(self, session: Session) -> Result<Exit, Failure> {
        let id = Ids::on(&session.api).one(&self.id)?;
        let level = self.level.map(|level| format!("{level:?}").to_ascii_uppercase());
        let all = [
            ("level", level),
            ("delivery", self.delivery.map(|number| number.to_string())),
            ("after", self.after.map(|number| number.to_string())),
        ];
        let pairs: Vec<_> = all.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect();
        let first = session.api.get(&format!("/tasks/{id}/logs{}", api::query(&pairs)))?;
        match self.tail {
            None => print(&session, first),
            Some(tail) => print_last(&session, first, tail),
        }?;
        Ok(Exit::Done)
    }
}

/// The pages, as they come.
fn print(session: &Session, first: Answer) -> Result<(), Failure> {
    let mut page = Some(first);
    let mut lines = 0;
    while let Some(answer) = page {
        for line in wire::read::<Vec<Box<RawValue>>>(&answer.body)? {
            match session.screen.format {
                // One array, whatever the number of pages, and each line as it came.
                Format::Json => session.screen.json(&format!("{}{line}", if lines == 0 { "[" } else { "," }))?,
                Format::Text => show(session, &line)?,
            }
            lines += 1;
        }
        page = answer.next().map(|path| session.api.get(path)).transpose()?;
    }
    match session.screen.format {
        Format::Json => session.screen.line(if lines == 0 { "[]" } else { "]" }),
        Format::Text => Ok(()),
    }
}

fn print_last(session: &Session, first: Answer, tail: usize) -> Result<(), Failure> {
    let mut kept: VecDeque<Box<RawValue>> = VecDeque::new();
    let mut page = Some(first);
    while let Some(answer) = page {
        kept.extend(wire::read::<Vec<Box<RawValue>>>(&answer.body)?);
        kept.drain(..kept.len().saturating_sub(tail));
        page = answer.next().map(|path| session.api.get(path)).transpose()?;
    }
    if session.screen.format == Format::Json {
        let lines: Vec<&str> = kept.iter().map(|line| line.get()).collect();
        return session.screen.json(&format!("[{}]", lines.join(",\n")));
    }
    kept.iter().try_for_each(|line| show(session, line))
}

fn show(session: &Session, line: &RawValue) -> Result<(), Failure> {
    let line = wire::read(line.get())?;
    session.screen.line(&log_line(&session.screen, &line))
}
