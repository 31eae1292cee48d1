//! Command: a task type that is a program in any language, declared in a file.
//!
//! Each attempt is a [process](super::process): the program reads one JSON object on stdin, writes lines on stdout, and
//! its exit code says how it went. docs/commands.md is the contract.

mod file;

use std::{
    path::PathBuf,
    sync::{Arc, OnceLock},
    time::Duration,
};

use futures_util::future::BoxFuture;
use serde::Serialize;
use serde_json::{
    Value,
    value::{RawValue, to_raw_value},
};

use super::{
    Context, Defaults, Failure, Finding,
    declared::Declared,
    process::{
        Isolation, Limits, attempt,
        isolated::{crashed, mark},
        plan::{Ended, Plan},
        probe::try_out,
    },
    registry::{ErasedKind, RunError, encode},
};

pub use file::{Unreadable, read};

/// What a program is told about its surroundings, where the worker knows it.
const PASSED_ON: [&str; 6] = ["PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR"];

/// A command, checked.
pub struct Command {
    declared: Declared,
    /// Program and arguments.
    command: Vec<String>,
    folder: PathBuf,
    /// Set for the program.
    environment: Vec<(String, String)>,
    /// Variables of the worker that it gets too.
    pass: Vec<String>,
    limits: Limits,
    grace: Duration,
    /// Exit codes after which it is tried again.
    retry_exit_codes: Vec<i32>,
}

/// What the program reads on stdin: one line.
#[derive(Serialize)]
struct Told<'a> {
    task_id: String,
    task_type: &'a str,
    attempt: i32,
    max_attempts: i32,
    delivery: i32,
    input: &'a RawValue,
    metadata: &'a RawValue,
    checkpoint: Option<&'a RawValue>,
}

impl Command {
    fn find_program(&self) -> Result<(), String> {
        let Some(program) = self.command.first() else { return Err("there is no program".to_owned()) };
        let is_there = match program.contains('/') {
            true => self.folder.join(program).is_file(),
            false => {
                let path = self.environment().into_iter().find(|(name, _)| name == "PATH").map(|(_, path)| path);
                std::env::split_paths(&path.unwrap_or_default()).any(|folder| folder.join(program).is_file())
            }
        };
        if is_there {
            Ok(())
        } else {
            Err(format!("there is no program {program:?}, its command in APP_TASKS: give its path, or install it"))
        }
    }

    fn environment(&self) -> Vec<(String, String)> {
        let own = |name: &str| self.environment.iter().any(|(other, _)| other == name);
        let passed = PASSED_ON.iter().copied().chain(self.pass.iter().map(String::as_str)).filter(|name| !own(name));
        let passed = passed.filter_map(|name| Some((name.to_owned(), std::env::var(name).ok()?)));
        passed.chain(self.environment.iter().cloned()).collect()
    }

    async fn attempt(&self, input: Box<RawValue>, ctx: &Context) -> Result<Box<RawValue>, Failure> {
        let task = ctx.task();
        let told = Told {
            task_id: task.id.to_string(),
            task_type: self.name(),
            attempt: task.attempt,
            max_attempts: task.max_attempts,
            delivery: task.delivery,
            input: &input,
            metadata: &task.metadata,
            checkpoint: task.checkpoint.as_deref(),
        };
        let mut environment = self.environment();
        environment.push(("LONGRUN_TASK_ID".to_owned(), told.task_id.clone()));
        environment.push(("LONGRUN_DELIVERY".to_owned(), told.delivery.to_string()));
        if let Some(parent) = &task.trace_context {
            environment.push(("TRACEPARENT".to_owned(), parent.clone()));
        }
        let told = to_raw_value(&told).map_err(|error| Failure::fatal("plan", error.to_string()))?;
        let plan = Plan {
            mark: mark(),
            command: self.command.clone(),
            folder: Some(self.folder.clone()),
            environment,
            // Nothing of the worker's, so that the program cannot look it up there.
            supervisor_environment: Vec::new(),
            limits: self.limits,
            grace: self.grace,
            input: format!("{told}\n"),
        };
        let outcome = attempt::run(&plan, ctx).await?;
        let (code, last_words) = match &outcome.ended {
            Some(Ended { code: Some(0), too_large: None, .. }) => {
                return match outcome.result {
                    Some(result) => encode(&result?),
                    None => encode(&Value::Null),
                };
            }
            Some(Ended { code: Some(code), too_large: None, .. }) => (*code, outcome.last_words),
            ended => return Err(crashed(ended.as_ref(), outcome.last_words.as_deref(), ctx)),
        };
        let after = outcome.error.as_ref().and_then(|error| error.after());
        let (word, message) = match outcome.error {
            Some(error) => (error.code, Some(error.message).filter(|message| !message.is_empty())),
            None => (None, last_words),
        };
        let word = word.unwrap_or_else(|| format!("exit_{code}"));
        let message = format!("exit code {code}: {}", message.as_deref().unwrap_or("without a word"));
        match self.retry_exit_codes.contains(&code) {
            // What a program says when it was asked to stop is the answer to that.
            _ if ctx.stopping().is_some() => Err(Failure::Stopped),
            true => Err(Failure::Retry { code: word, message, after }),
            false => Err(Failure::Fatal { code: word, message }),
        }
    }
}

impl ErasedKind for Command {
    fn name(&self) -> &str {
        self.declared.name()
    }

    fn description(&self) -> &str {
        self.declared.description()
    }

    fn schema(&self) -> &Value {
        self.declared.schema()
    }

    fn defaults(&self) -> Defaults {
        // A process already: there is nothing to put into another one.
        Defaults { isolation: Isolation::Inline, ..self.declared.defaults() }
    }

    fn check(&self, input: &RawValue) -> Result<(), Vec<Finding>> {
        self.declared.check(input)
    }

    fn check_runnable(&self) -> Result<(), String> {
        self.find_program()?;
        static CAN_BEGIN: OnceLock<Result<(), String>> = OnceLock::new();
        CAN_BEGIN.get_or_init(|| try_out(&[], None)).clone()
    }

    fn grace(&self) -> Duration {
        self.grace
    }

    fn run(self: Arc<Self>, input: &RawValue, ctx: Context) -> BoxFuture<'static, Result<Box<RawValue>, RunError>> {
        let input = input.to_owned();
        Box::pin(async move { self.attempt(input, &ctx).await.map_err(RunError::Failed) })
    }
}
