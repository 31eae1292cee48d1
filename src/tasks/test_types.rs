//! Test types: task types that behave as tests need it, above all badly. Only in builds with the feature `faults`,
//! which no image has, and only where `APP_TEST_TYPES` is set, so that other tests see the program's own types alone.

use std::time::Duration;

use nix::sys::signal::{Signal, raise};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Context, Defaults, Failure, Isolation, Limits, Registry, TaskKind};

/// All of them, on top of the program's own.
pub fn registered_in(registry: Registry) -> Registry {
    if std::env::var_os("APP_TEST_TYPES").is_none() {
        return registry;
    }
    registry.with(TestSleep).with(TestSleepApart).with(TestFail).with(TestAbort).with(TestIgnoreStop)
}

/// `test_sleep`: waits in steps; each step has a log line with its number and a checkpoint, and adds to a sum, so the
/// result tells whether a resumed task has counted every step once.
struct TestSleep;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct SleepInput {
    /// How long in all, in milliseconds
    ms: u64,
    /// In how many steps
    #[schemars(range(min = 1, max = 10000))]
    steps: u32,
}

#[derive(Default, Serialize, Deserialize)]
struct Counted {
    steps: u32,
    sum: u64,
}

impl TaskKind for TestSleep {
    const NAME: &'static str = "test_sleep";
    const DESCRIPTION: &'static str = "Waits in steps, with a log line and a checkpoint each";
    type Input = SleepInput;
    type Output = Counted;

    async fn run(&self, input: SleepInput, ctx: Context) -> Result<Counted, Failure> {
        let mut counted = ctx.resume::<Counted>().filter(|saved| saved.steps <= input.steps).unwrap_or_default();
        while counted.steps < input.steps {
            ctx.sleep(Duration::from_millis(input.ms) / input.steps).await?;
            counted.steps += 1;
            counted.sum += u64::from(counted.steps);
            ctx.info(format!("step {} of {}", counted.steps, input.steps));
            ctx.checkpoint(&counted)?;
            ctx.step(u64::from(counted.steps), u64::from(input.steps))?;
        }
        Ok(counted)
    }
}

/// `test_sleep_apart`: the same, each attempt in a process of its own.
struct TestSleepApart;

impl TaskKind for TestSleepApart {
    const NAME: &'static str = "test_sleep_apart";
    const DESCRIPTION: &'static str = "Waits in steps, in a process of its own";
    type Input = SleepInput;
    type Output = Counted;

    fn defaults(&self) -> Defaults {
        Defaults { isolation: Isolation::Process(Limits::default()), ..Defaults::default() }
    }

    async fn run(&self, input: SleepInput, ctx: Context) -> Result<Counted, Failure> {
        TestSleep.run(input, ctx).await
    }
}

/// `test_fail`: fails so many attempts, then succeeds.
struct TestFail;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct FailInput {
    /// How many attempts fail
    times: i32,
}

#[derive(Serialize)]
struct FailOutput {
    attempt: i32,
}

impl TaskKind for TestFail {
    const NAME: &'static str = "test_fail";
    const DESCRIPTION: &'static str = "Fails some attempts, then succeeds";
    type Input = FailInput;
    type Output = FailOutput;

    async fn run(&self, input: FailInput, ctx: Context) -> Result<FailOutput, Failure> {
        if ctx.attempt() <= input.times {
            let text = format!("attempt {} was asked to fail", ctx.attempt());
            return Err(Failure::retry_after("asked_to_fail", text, Duration::from_millis(200)));
        }
        Ok(FailOutput { attempt: ctx.attempt() })
    }
}

/// `test_abort`: ends its whole worker, as the kernel does to a process that uses too much memory.
struct TestAbort;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct AbortInput {
    /// After how many milliseconds
    #[serde(default)]
    after_ms: u64,
}

impl TaskKind for TestAbort {
    const NAME: &'static str = "test_abort";
    const DESCRIPTION: &'static str = "Kills the worker that runs it";
    type Input = AbortInput;
    type Output = ();

    async fn run(&self, input: AbortInput, ctx: Context) -> Result<(), Failure> {
        ctx.sleep(Duration::from_millis(input.after_ms)).await?;
        raise(Signal::SIGKILL)?;
        Ok(())
    }
}

/// `test_ignore_stop`: does not hear that it is to stop. Its thread goes on even when the attempt is dropped.
struct TestIgnoreStop;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct IgnoreInput {
    /// How long, in milliseconds
    ms: u64,
}

#[derive(Serialize)]
struct IgnoreOutput {
    ms: u64,
}

impl TaskKind for TestIgnoreStop {
    const NAME: &'static str = "test_ignore_stop";
    const DESCRIPTION: &'static str = "Ignores every request to stop";
    type Input = IgnoreInput;
    type Output = IgnoreOutput;

    async fn run(&self, input: IgnoreInput, ctx: Context) -> Result<IgnoreOutput, Failure> {
        ctx.blocking(move |_| {
            std::thread::sleep(Duration::from_millis(input.ms));
            Ok(IgnoreOutput { ms: input.ms })
        })
        .await
    }
}
