//! Testing: one attempt of one task type, through its real JSON round trip, without servers.
//!
//! The input is checked, decoded, run and its result encoded exactly as a server and a worker would; what the attempt
//! reports is recorded instead of written. Outside it reaches nothing but the networks that the test allows.
//!
//! ```
//! # use longrun::{tasks::{testing, Context, Failure, TaskKind}};
//! # use serde::Deserialize; use serde_json::json;
//! # struct Double;
//! # #[derive(Deserialize, schemars::JsonSchema)] struct Number { number: i64 }
//! # impl TaskKind for Double {
//! #     const NAME: &'static str = "double"; const DESCRIPTION: &'static str = ""; type Input = Number; type Output = serde_json::Value;
//! #     async fn run(&self, input: Number, ctx: Context) -> Result<Self::Output, Failure> { ctx.step(1, 1)?; Ok(json!({ "doubled": input.number * 2 })) }
//! # }
//! # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
//! let done = testing::run(Double, json!({"number": 21})).await;
//! assert_eq!(done.result(), &json!({"doubled": 42}));
//! # });
//! ```

use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};

use ipnet::IpNet;
use serde_json::{
    Value,
    value::{RawValue, to_raw_value},
};
use tokio::sync::Semaphore;

use super::{
    Context, Failure, Finding, Registry, StopReason, TaskKind,
    context::{Outbox, Stop, Tools},
    outbound::Outbound,
    registry::RunError,
};
use crate::{
    config,
    core::model::{Claimed, LogLine, Priority, Progress, TaskId},
};

/// Runs one attempt of a fresh task.
pub async fn run<K: TaskKind>(kind: K, input: Value) -> TestRun {
    task(kind, input).run().await
}

/// A task to be run with more circumstances than its input.
pub fn task<K: TaskKind>(kind: K, input: Value) -> TestTask {
    TestTask {
        name: K::NAME,
        registry: Registry::new().with(kind),
        input,
        metadata: Value::Object(Default::default()),
        checkpoint: None,
        outbound: no_outbound(),
        stop: Stop::default(),
        stop_at: None,
    }
}

/// A context that reports to nobody: for code below a task type that asks for one.
pub fn context() -> Context {
    let claimed = claimed("test", &Value::Null, &Value::Object(Default::default()), None);
    Context::new(claimed, Arc::new(Outbox::new(|| ())), Stop::default(), tools(&no_outbound()))
}

/// The circumstances of one attempt.
pub struct TestTask {
    name: &'static str,
    registry: Registry,
    input: Value,
    metadata: Value,
    checkpoint: Option<Value>,
    outbound: config::Outbound,
    stop: Stop,
    stop_at: Option<(i64, StopReason)>,
}

impl TestTask {
    /// The submitter's own notes.
    #[must_use]
    pub fn metadata(mut self, metadata: Value) -> Self {
        self.metadata = metadata;
        self
    }

    /// The checkpoint that an earlier delivery left.
    #[must_use]
    pub fn resume(mut self, checkpoint: Value) -> Self {
        self.checkpoint = Some(checkpoint);
        self
    }

    /// Lets the attempt reach a private network: a server of the test, at `127.0.0.0/8`.
    #[must_use]
    pub fn allow(mut self, network: IpNet) -> Self {
        self.outbound.outbound_allow.push(network);
        self
    }

    /// Sets `APP_VECTOR_SINK_URL`.
    #[must_use]
    pub fn vector_sink(mut self, url: impl Into<String>) -> Self {
        self.outbound.vector_sink_url = Some(url.into().into());
        self
    }

    /// Asks the attempt to stop as soon as it reports this many steps.
    #[must_use]
    pub fn stop_at(mut self, current: u64, reason: StopReason) -> Self {
        self.stop_at = Some((i64::try_from(current).unwrap_or(i64::MAX), reason));
        self
    }

    /// The handle by which the test itself asks the attempt to stop.
    pub fn stop(&self) -> Stop {
        self.stop.clone()
    }

    /// Runs the attempt to its end.
    pub async fn run(self) -> TestRun {
        let recorder =
            Arc::new(Recorder { stop_at: self.stop_at, stop: self.stop.clone(), reported: Mutex::default() });
        let outbox = recorder.outbox();
        let outcome = match self.registry.get(self.name) {
            None => unreachable!("the registry was made with this type"),
            Some(kind) => {
                let claimed = claimed(self.name, &self.input, &self.metadata, self.checkpoint.as_ref());
                match kind.check(&claimed.input) {
                    Err(findings) => Outcome::Invalid(findings),
                    Ok(()) => {
                        let input = claimed.input.clone();
                        let ctx = Context::new(claimed, outbox.clone(), self.stop.clone(), tools(&self.outbound));
                        match kind.clone().run(&input, ctx).await {
                            Ok(text) => Outcome::Success(serde_json::from_str(text.get()).unwrap_or(Value::Null)),
                            Err(RunError::Undecodable(why)) => Outcome::Undecodable(why),
                            Err(RunError::Failed(failure)) => Outcome::Failed(failure),
                        }
                    }
                }
            }
        };
        recorder.record(&outbox);
        let reported = std::mem::take(&mut *recorder.lock());
        TestRun { outcome, progress: reported.progress, checkpoint: reported.checkpoint, lines: reported.lines }
    }
}

/// What came of an attempt.
#[derive(Debug)]
pub struct TestRun {
    /// How it ended.
    pub outcome: Outcome,
    /// All progress reports that were seen, oldest first. Reports made at the same moment may be seen as one.
    pub progress: Vec<Progress>,
    /// The last checkpoint.
    pub checkpoint: Option<Value>,
    /// The log, oldest first.
    pub lines: Vec<LogLine>,
}

/// How an attempt ended.
#[derive(Debug)]
pub enum Outcome {
    /// The input was refused: a submit would have answered 422.
    Invalid(Vec<Finding>),
    /// The input passed its check and did not decode: a defect of the type.
    Undecodable(String),
    /// The result.
    Success(Value),
    /// The handler's failure.
    Failed(Failure),
}

impl TestRun {
    /// The result.
    ///
    /// # Panics
    /// When the attempt did not succeed, with what it did instead.
    #[track_caller]
    pub fn result(&self) -> &Value {
        match &self.outcome {
            Outcome::Success(result) => result,
            other => panic!("expected a result, got {other:?}, with the log {:?}", self.texts()),
        }
    }

    /// The failure.
    ///
    /// # Panics
    /// When the attempt did not fail, with what it did instead.
    #[track_caller]
    pub fn failure(&self) -> &Failure {
        match &self.outcome {
            Outcome::Failed(failure) => failure,
            other => panic!("expected a failure, got {other:?}"),
        }
    }

    /// The findings for which the input was refused.
    ///
    /// # Panics
    /// When it was not refused, with what happened instead.
    #[track_caller]
    pub fn findings(&self) -> &[Finding] {
        match &self.outcome {
            Outcome::Invalid(findings) => findings,
            other => panic!("expected findings, got {other:?}"),
        }
    }

    /// The last progress report, as (current, total).
    pub fn last_progress(&self) -> Option<(i64, Option<i64>)> {
        self.progress.last().map(|progress| (progress.current, progress.total))
    }

    /// The log's texts.
    pub fn texts(&self) -> Vec<&str> {
        self.lines.iter().map(|line| line.message.as_str()).collect()
    }
}

#[derive(Default)]
struct Reported {
    progress: Vec<Progress>,
    checkpoint: Option<Value>,
    lines: Vec<LogLine>,
}

/// Empties the outbox whenever something is in it.
struct Recorder {
    stop_at: Option<(i64, StopReason)>,
    stop: Stop,
    reported: Mutex<Reported>,
}

impl Recorder {
    fn outbox(self: &Arc<Self>) -> Arc<Outbox> {
        let (recorder, own) = (self.clone(), Arc::new(OnceLock::<Weak<Outbox>>::new()));
        let to_be_emptied = own.clone();
        let outbox = Arc::new(Outbox::new(move || {
            if let Some(outbox) = to_be_emptied.get().and_then(Weak::upgrade) {
                recorder.record(&outbox);
            }
        }));
        let _ = own.set(Arc::downgrade(&outbox));
        outbox
    }

    fn record(&self, outbox: &Outbox) {
        let mut reported = self.lock();
        let pending = outbox.take();
        reported.lines.extend(pending.lines);
        if let Some(position) = pending.checkpoint {
            reported.checkpoint = serde_json::from_str(position.get()).ok();
        }
        if let Some(progress) = pending.progress {
            if let Some((_, reason)) = self.stop_at.filter(|(current, _)| progress.current >= *current) {
                self.stop.ask(reason);
            }
            reported.progress.push(progress);
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Reported> {
        self.reported.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn claimed(name: &str, input: &Value, metadata: &Value, checkpoint: Option<&Value>) -> Claimed {
    Claimed {
        id: TaskId::new(),
        delivery: 1,
        attempt: 1,
        max_attempts: 1,
        failures: 0,
        task_type: name.to_owned(),
        queue: "default".to_owned(),
        priority: Priority::Normal,
        input: raw(input),
        metadata: raw(metadata),
        checkpoint: checkpoint.map(raw),
        timeout: None,
        trace_context: None,
        undecodable_for_too_long: false,
        waited: std::time::Duration::ZERO,
        seq: 1,
        version: 2,
    }
}

fn raw(value: &Value) -> Box<RawValue> {
    to_raw_value(value).unwrap_or_else(|_| unreachable!("a JSON value is JSON"))
}

fn no_outbound() -> config::Outbound {
    config::Outbound { outbound_allow: Vec::new(), outbound_ports: Vec::new(), vector_sink_url: None }
}

fn tools(outbound: &config::Outbound) -> Tools {
    let http = Outbound::new(outbound).unwrap_or_else(|error| panic!("the test's outbound settings: {error}"));
    Tools { cpu: Arc::new(Semaphore::new(2)), http, max_result: usize::MAX }
}
