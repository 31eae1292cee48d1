//! Isolated: a Rust type whose attempts run in processes of their own. Everything else about it stays as it was.

use std::{ffi::OsString, sync::Arc, time::Duration};

use futures_util::future::BoxFuture;
use serde::{Deserialize, Serialize};
use serde_json::{Value, value::RawValue};
use tokio_util::sync::CancellationToken;

use super::{
    Isolation, Limits, attempt,
    plan::{Ended, Plan},
    probe::{asking, try_out},
    protocol::FailureLine,
};
use crate::{
    config,
    core::model::Priority,
    tasks::{
        Context, Defaults, Failure, Finding, Registry,
        registry::{ErasedKind, RunError},
    },
};

/// Between SIGTERM and SIGKILL: with the rest of an ending, a slot is free within two seconds.
pub const GRACE: Duration = Duration::from_millis(1_500);

/// What the process of a Rust type is told on stdin.
#[derive(Debug, Serialize, Deserialize)]
pub struct Envelope {
    /// The task.
    pub task_id: String,
    /// The type.
    pub task_type: String,
    /// The attempt, from 1.
    pub attempt: i32,
    /// Attempts in all.
    pub max_attempts: i32,
    /// The delivery, from 1.
    pub delivery: i32,
    /// The queue it came from.
    pub queue: String,
    /// Its place there.
    pub priority: Priority,
    /// The type's own input.
    pub input: Box<RawValue>,
    /// The submitter's notes.
    pub metadata: Box<RawValue>,
    /// What an earlier delivery saved.
    pub checkpoint: Option<Box<RawValue>>,
    /// W3C `traceparent` of the submit.
    pub trace_context: Option<String>,
    /// What tasks may reach over the network.
    pub outbound: Outbound,
    /// Threads that may compute at a time.
    pub cpu_threads: usize,
}

/// [`config::Outbound`], as a process is told it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Outbound {
    /// Private networks, as CIDRs.
    pub allow: Vec<String>,
    /// Further ports.
    pub ports: Vec<u16>,
    /// Where `vector_processing` sends its chunks.
    pub sink: Option<String>,
}

impl From<&config::Outbound> for Outbound {
    fn from(outbound: &config::Outbound) -> Self {
        Self {
            allow: outbound.outbound_allow.iter().map(ToString::to_string).collect(),
            ports: outbound.outbound_ports.clone(),
            sink: outbound.vector_sink_url.as_ref().map(|url| url.expose().to_owned()),
        }
    }
}

/// What every process of a worker is told.
#[derive(Debug, Clone)]
pub struct Household {
    /// What tasks may reach over the network.
    pub outbound: Outbound,
    /// Threads that may compute at a time, in each process.
    pub cpu_threads: usize,
    /// Variables of the worker's own that its processes get all the same: `APP_CHILD_ENV`.
    pub pass: Vec<String>,
}

/// Gives processes of their own to the types that ask for it. For a worker: who only checks inputs needs none.
pub fn isolated(registry: &Registry, household: &Household) -> Registry {
    registry.map(|kind| match kind.defaults().isolation {
        Isolation::Inline => kind.clone(),
        Isolation::Process(limits) => {
            Arc::new(Isolated { kind: kind.clone(), limits, household: household.clone() }) as Arc<dyn ErasedKind>
        }
    })
}

/// Whether all types of a worker can run here; the text says which cannot, and why. Looks for programs and starts
/// processes, so it blocks, for half a minute at worst; when `told` is cancelled, they are killed.
pub fn check_runnable(registry: &Registry, household: &Household, told: CancellationToken) -> Result<(), String> {
    asking(told, || {
        for kind in registry.iter() {
            kind.check_runnable().map_err(|why| format!("the task type {:?} cannot run here: {why}", kind.name()))?;
        }
        household.try_out(registry)
    })
}

struct Isolated {
    kind: Arc<dyn ErasedKind>,
    limits: Limits,
    household: Household,
}

impl ErasedKind for Isolated {
    fn name(&self) -> &str {
        self.kind.name()
    }

    fn aliases(&self) -> &'static [&'static str] {
        self.kind.aliases()
    }

    fn description(&self) -> &str {
        self.kind.description()
    }

    fn schema(&self) -> &Value {
        self.kind.schema()
    }

    fn defaults(&self) -> Defaults {
        self.kind.defaults()
    }

    fn check(&self, input: &RawValue) -> Result<(), Vec<Finding>> {
        self.kind.check(input)
    }

    fn check_runnable(&self) -> Result<(), String> {
        // Whether its process can make it is asked once for all types: see the function of this name.
        self.kind.check_runnable()
    }

    fn grace(&self) -> Duration {
        GRACE
    }

    fn run(self: Arc<Self>, input: &RawValue, ctx: Context) -> BoxFuture<'static, Result<Box<RawValue>, RunError>> {
        let input = input.to_owned();
        Box::pin(async move { self.attempt(input, &ctx).await })
    }
}

impl Isolated {
    async fn attempt(&self, input: Box<RawValue>, ctx: &Context) -> Result<Box<RawValue>, RunError> {
        let task = ctx.task();
        let envelope = Envelope {
            task_id: task.id.to_string(),
            task_type: self.kind.name().to_owned(),
            attempt: task.attempt,
            max_attempts: task.max_attempts,
            delivery: task.delivery,
            queue: task.queue.clone(),
            priority: task.priority,
            input,
            metadata: task.metadata.clone(),
            checkpoint: task.checkpoint.clone(),
            trace_context: task.trace_context.clone(),
            outbound: self.household.outbound.clone(),
            cpu_threads: self.household.cpu_threads,
        };
        let input = serde_json::to_string(&envelope)
            .map_err(|error| RunError::Failed(Failure::fatal("plan", error.to_string())))?;
        let environment = self.household.environment();
        let plan = Plan {
            mark: mark(),
            command: ["/proc/self/exe", "attempt-child", "run"].map(str::to_owned).to_vec(),
            folder: None,
            supervisor_environment: environment.clone(),
            environment,
            limits: self.limits,
            grace: GRACE,
            input,
        };
        let outcome = attempt::run(&plan, ctx).await.map_err(RunError::Failed)?;
        match (outcome.failure, outcome.ended, outcome.result) {
            (Some(FailureLine::Undecodable(why)), ..) => Err(RunError::Undecodable(why)),
            (Some(failure), ..) => Err(RunError::Failed(failure.into())),
            (None, Some(Ended { code: Some(0), .. }), Some(result)) => {
                result.map_err(|too_large| RunError::Failed(too_large.into()))
            }
            (None, ended, _) => Err(RunError::Failed(crashed(ended.as_ref(), outcome.last_words.as_deref(), ctx))),
        }
    }
}

impl From<FailureLine> for Failure {
    fn from(line: FailureLine) -> Self {
        match line {
            FailureLine::Retry { code, message, after } => Failure::Retry { code, message, after },
            FailureLine::Fatal { code, message } => Failure::Fatal { code, message },
            FailureLine::Snooze { time } => Failure::Snooze { time },
            FailureLine::Stopped | FailureLine::Undecodable(_) => Failure::Stopped,
        }
    }
}

/// How a process that did not say why ended: asked to stop, by a limit, or by a crash. All of it may go better another
/// time.
pub(in crate::tasks) fn crashed(ended: Option<&Ended>, last_words: Option<&str>, ctx: &Context) -> Failure {
    let words = last_words.map(|words| format!(": {words}")).unwrap_or_default();
    let signal = ended.and_then(|ended| ended.signal);
    let name = |number: i32| nix::sys::signal::Signal::try_from(number).map_or("a signal", |signal| signal.as_str());
    match ended {
        Some(Ended { too_large: Some(bytes), .. }) => Failure::retry(
            "memory_limit",
            format!("the attempt used {} MiB of memory, more than its limit", bytes / 1024 / 1024),
        ),
        _ if ctx.stopping().is_some() => Failure::Stopped,
        _ if signal == Some(nix::libc::SIGXCPU) => {
            Failure::retry("cpu_limit", "the attempt used more processor time than its limit")
        }
        _ if signal == Some(nix::libc::SIGXFSZ) => {
            Failure::retry("file_size_limit", "the attempt wrote a file larger than its limit")
        }
        Some(Ended { signal: Some(number), .. }) => {
            Failure::retry("crashed", format!("the process of the attempt was ended by {}{words}", name(*number)))
        }
        Some(Ended { code, .. }) => Failure::retry(
            "crashed",
            format!("the process of the attempt left with {} and no result{words}", code.unwrap_or(-1)),
        ),
        None => Failure::retry("crashed", "the supervisor of the attempt was killed"),
    }
}

/// Nobody can guess it, so no payload speaks for the supervisor.
pub(in crate::tasks) fn mark() -> String {
    format!("{:032x}", rand::random::<u128>())
}

impl Household {
    /// The variables of `APP_CHILD_ENV` that no process gets, since the worker has none of that name (or none that is
    /// text).
    pub fn missing(&self) -> Vec<&str> {
        let environment = self.environment();
        let there = |wanted: &str| environment.iter().any(|(name, _)| name == wanted);
        self.pass.iter().map(String::as_str).filter(|name| !name.is_empty() && !there(name)).collect()
    }

    fn environment(&self) -> Vec<(String, String)> {
        passed_on(std::env::vars_os(), &self.pass)
    }

    /// Asks one process for all types that get processes of their own.
    fn try_out(&self, registry: &Registry) -> Result<(), String> {
        let apart = registry.iter().filter(|kind| matches!(kind.defaults().isolation, Isolation::Process(_)));
        let names: Vec<&str> = apart.map(|kind| kind.name()).collect();
        if names.is_empty() {
            return Ok(());
        }
        try_out(&self.environment(), Some(names.as_slice())).map_err(|why| {
            let names: Vec<String> = names.iter().map(|name| format!("{name:?}")).collect();
            let refusal = format!("task types cannot run here in processes of their own ({}): {why}", names.join(", "));
            let missing = self.missing();
            match missing.is_empty() {
                true => refusal,
                false => format!("{refusal}. APP_CHILD_ENV names what is not set here: {}", missing.join(", ")),
            }
        })
    }
}

/// The worker's environment without what is the worker's own: its connections, its secrets, its settings, unless an
/// operator names them. What remains is what the program's own `main` reads when it makes its types. What is not UTF-8 is
/// left out: a process is told its environment as JSON.
fn passed_on(own: impl Iterator<Item = (OsString, OsString)>, pass: &[String]) -> Vec<(String, String)> {
    own.filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .filter(|(name, _)| !is_the_workers_own(name) || pass.contains(name))
        .collect()
}

/// Settings that may hold a secret or a connection.
pub(in crate::tasks) fn is_the_workers_own(name: &str) -> bool {
    // Test types are a part of the program that is tested.
    if cfg!(feature = "faults") && name == "APP_TEST_TYPES" {
        return false;
    }
    matches!(name, "DATABASE_URL" | "REDIS_URL" | "PGPASSWORD" | "PGPASSFILE" | "PGSERVICE")
        || ["APP_", "OTEL_"].iter().any(|prefix| name.starts_with(prefix))
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStringExt;

    use super::*;

    #[test]
    fn what_is_named_is_passed_on_and_what_is_no_text_is_not() {
        let odd = || OsString::from_vec(vec![b'x', 0xff]);
        let own: [(OsString, OsString); 5] = [
            ("APP_OUR_KEY".into(), "x".into()),
            ("APP_OTHER".into(), "x".into()),
            ("HOME".into(), "/".into()),
            ("ODD".into(), odd()),
            (odd(), "x".into()),
        ];
        let passed = passed_on(own.into_iter(), &["APP_OUR_KEY".to_owned()]);
        let expected = [("APP_OUR_KEY", "x"), ("HOME", "/")];
        assert_eq!(passed, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
    }

    #[test]
    fn what_is_named_and_not_set_is_told() {
        let outbound = Outbound { allow: Vec::new(), ports: Vec::new(), sink: None };
        let pass = ["PATH", "APP_NOBODY_SETS_THIS", ""].map(str::to_owned).to_vec();
        let household = Household { outbound, cpu_threads: 1, pass };
        assert_eq!(household.missing(), ["APP_NOBODY_SETS_THIS"]);
    }

    #[test]
    fn secrets_stay_with_the_worker() {
        for own in ["DATABASE_URL", "REDIS_URL", "APP_ANYTHING", "OTEL_EXPORTER_OTLP_HEADERS", "PGPASSWORD"] {
            assert!(is_the_workers_own(own), "{own}");
        }
        for other in ["PATH", "HOME", "MY_API_KEY", "RUST_LOG"] {
            assert!(!is_the_workers_own(other), "{other}");
        }
    }
}
