//! The program of the tests: `app` with its built-in task types, and types that count, cling and kill.
//!
//! With `E2E_BUILD=old` it stands for the release before: it does not know `newer`, and its `changed` has another
//! input than that of today.

use std::{process::ExitCode, time::Duration};

use longrun::tasks::{
    Context, Defaults, Failure, Isolation, Limits, Registry, TaskKind, scrape::WebScrape, vector::VectorProcessing,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

#[global_allocator]
static ALLOCATOR: longrun::Allocator = longrun::Allocator;

fn main() -> ExitCode {
    longrun::main(types)
}

fn types() -> Result<Registry, String> {
    // As a type that needs a key, or an address.
    if let Ok(name) = std::env::var("E2E_NEEDS") {
        std::env::var(&name).map_err(|_| format!("{name} is not set"))?;
    }
    let today = Registry::new()
        .with(VectorProcessing)
        .with(WebScrape)
        .with(Count)
        .with(Cling)
        .with(Kill)
        .with(Odd)
        .with(Hostile)
        .with(Apart);
    Ok(match std::env::var("E2E_BUILD").as_deref() {
        Ok("old") => today.with(ChangedBefore),
        _ => today.with(Changed).with(Newer),
    })
}

/// Adds the numbers from 1 to `steps`, with a line and a checkpoint for each.
struct Count;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct CountInput {
    steps: u64,
    /// Milliseconds per step.
    pace: u64,
}

#[derive(Serialize, Deserialize)]
struct Counted {
    steps: u64,
    sum: u64,
}

impl TaskKind for Count {
    const NAME: &'static str = "count";
    const DESCRIPTION: &'static str = "Counts, and says so";
    type Input = CountInput;
    type Output = Counted;

    async fn run(&self, input: CountInput, ctx: Context) -> Result<Counted, Failure> {
        let mut so_far = ctx.resume::<Counted>().unwrap_or(Counted { steps: 0, sum: 0 });
        while so_far.steps < input.steps {
            ctx.sleep(Duration::from_millis(input.pace)).await?;
            so_far.steps += 1;
            so_far.sum += so_far.steps;
            ctx.info(format!("step {} in delivery {}", so_far.steps, ctx.delivery()));
            ctx.checkpoint(&so_far)?;
            ctx.step(so_far.steps, input.steps)?;
        }
        Ok(so_far)
    }
}

/// Ignores every request to stop, for a time.
struct Cling;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct ClingInput {
    /// In milliseconds.
    time: u64,
    how: How,
}

#[derive(Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum How {
    /// Lets go at its awaits: it can be dropped.
    Awaits,
    /// A blocking closure that nothing ends.
    Blocks,
    /// Never lets go of a thread of the runtime.
    Hogs,
}

impl TaskKind for Cling {
    const NAME: &'static str = "cling";
    const DESCRIPTION: &'static str = "Does not stop when it is asked to";
    type Input = ClingInput;
    type Output = ();

    async fn run(&self, input: ClingInput, ctx: Context) -> Result<(), Failure> {
        let time = Duration::from_millis(input.time);
        match input.how {
            How::Awaits => tokio::time::sleep(time).await,
            How::Blocks => {
                ctx.blocking(move |_| {
                    std::thread::sleep(time);
                    Ok(())
                })
                .await?;
            }
            How::Hogs => std::thread::sleep(time),
        }
        Ok(())
    }
}

/// Kills its worker in its first so many deliveries.
struct Kill;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct KillInput {
    deliveries: i32,
}

impl TaskKind for Kill {
    const NAME: &'static str = "kill";
    const DESCRIPTION: &'static str = "Aborts the process that runs it";
    type Input = KillInput;
    type Output = ();

    async fn run(&self, input: KillInput, ctx: Context) -> Result<(), Failure> {
        if ctx.delivery() <= input.deliveries {
            std::process::abort();
        }
        Ok(())
    }
}

/// Runs in a process of its own, and behaves there as it is told.
struct Apart;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct ApartInput {
    how: Behaviour,
}

#[derive(Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Behaviour {
    /// Says something, and what it sees of its environment.
    Well,
    Abort,
    Panic,
    Overflow,
    /// Never asks whether it should stop.
    Loop,
    Leak,
    /// Comes back in a while.
    Snooze,
}

#[derive(Serialize)]
struct Seen {
    pid: u32,
    secrets: Vec<String>,
    resumed: Option<i64>,
}

impl TaskKind for Apart {
    const NAME: &'static str = "apart";
    const ALIASES: &'static [&'static str] = &["aside"];
    const DESCRIPTION: &'static str = "Misbehaves at a distance";
    type Input = ApartInput;
    type Output = Seen;

    fn defaults(&self) -> Defaults {
        let limits = Limits { memory: Some(256 << 20), ..Limits::default() };
        Defaults { isolation: Isolation::Process(limits), ..Defaults::default() }
    }

    async fn run(&self, input: ApartInput, ctx: Context) -> Result<Seen, Failure> {
        match input.how {
            Behaviour::Well => {}
            Behaviour::Abort => std::process::abort(),
            Behaviour::Panic => panic!("as it was told"),
            Behaviour::Overflow => drop(deeper(&[1; 1024], 0)),
            Behaviour::Loop => loop {
                std::hint::spin_loop();
            },
            Behaviour::Leak => {
                let mut kept = Vec::new();
                loop {
                    kept.push(vec![1_u8; 1 << 20]);
                    std::thread::sleep(Duration::from_millis(2));
                }
            }
            Behaviour::Snooze if ctx.delivery() == 1 => {
                ctx.checkpoint(&7)?;
                return Err(Failure::snooze(Duration::from_millis(300)));
            }
            Behaviour::Snooze => {}
        }
        ctx.info("here");
        ctx.step(1, 1)?;
        let secrets = std::env::vars().map(|(name, _)| name).filter(|name| name.ends_with("_URL")).collect();
        Ok(Seen { pid: std::process::id(), secrets, resumed: ctx.resume() })
    }
}

#[expect(unconditional_recursion, reason = "that is what it is for")]
fn deeper(above: &[u8; 1024], depth: u64) -> u64 {
    let mut here = *above;
    here[depth as usize % 1024] = depth as u8;
    deeper(&here, depth + 1) + u64::from(here[0])
}

/// Says and returns what PostgreSQL does not take.
struct Odd;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct OddInput {
    fail: bool,
}

impl TaskKind for Odd {
    const NAME: &'static str = "odd";
    const DESCRIPTION: &'static str = "Writes U+0000 wherever it can";
    type Input = OddInput;
    type Output = String;

    async fn run(&self, input: OddInput, ctx: Context) -> Result<String, Failure> {
        ctx.info("a\0b");
        ctx.progress(1, Some(2), Some("half\0way"));
        if input.fail { Err(Failure::fatal("odd", "c\0d")) } else { Ok("e\0f".to_owned()) }
    }
}

/// Says what would drive a terminal or turn its text around, wherever it can.
struct Hostile;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct HostileInput {}

impl TaskKind for Hostile {
    const NAME: &'static str = "hostile";
    const DESCRIPTION: &'static str = "Tries to take over what shows it";
    type Input = HostileInput;
    type Output = ();

    async fn run(&self, _: HostileInput, ctx: Context) -> Result<(), Failure> {
        let text = "\x1b[31mred\x1b[0m \x1b]0;title\x07\x1b[2J\x1b[H \u{202e}gnp.exe \u{9b}31m two\nlines\rone";
        ctx.info(text);
        ctx.progress(1, Some(2), Some(text));
        Err(Failure::fatal("hostile", text))
    }
}

/// A type whose input has changed.
struct Changed;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct ChangedInput {
    new: i64,
}

impl TaskKind for Changed {
    const NAME: &'static str = "changed";
    const DESCRIPTION: &'static str = "Gives back what it got";
    type Input = ChangedInput;
    type Output = i64;

    async fn run(&self, input: ChangedInput, _: Context) -> Result<i64, Failure> {
        Ok(input.new)
    }
}

/// The same type as the release before had it.
struct ChangedBefore;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct ChangedBeforeInput {
    old: i64,
}

impl TaskKind for ChangedBefore {
    const NAME: &'static str = "changed";
    const DESCRIPTION: &'static str = "Gives back what it got";
    type Input = ChangedBeforeInput;
    type Output = i64;

    async fn run(&self, input: ChangedBeforeInput, _: Context) -> Result<i64, Failure> {
        Ok(input.old)
    }
}

/// A type that the release before does not know.
struct Newer;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct NewerInput {}

impl TaskKind for Newer {
    const NAME: &'static str = "newer";
    const DESCRIPTION: &'static str = "Is new";
    type Input = NewerInput;
    type Output = i64;

    async fn run(&self, _: NewerInput, _: Context) -> Result<i64, Failure> {
        Ok(2)
    }
}
