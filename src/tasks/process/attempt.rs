//! Attempt: the worker's side. Starts a supervisor, gives it the plan, reads what the payload writes, and asks it to
//! stop when the attempt is asked to.
//!
//! Dropped at any moment, it closes the supervisor's stdin, and that ends everything.

use std::{
    process::Stdio,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, killpg},
    unistd::Pid,
};
use serde_json::value::RawValue;
use tokio::{
    io::{AsyncRead, AsyncWriteExt},
    process::{ChildStdin, Command},
    sync::Notify,
};

use super::{
    lines::{Line, Lines},
    plan::{ASK, Ended, Plan, Report, STOP},
    protocol::{ErrorLine, FailureLine, Message},
};
use crate::{
    core::model::{
        Level,
        allowance::{Kept, MAX_CHECKPOINT_BYTES, MAX_LOG_LINES, TooLarge},
    },
    tasks::{Context, Failure, StopReason},
};

/// Lines of the log that are taken in one go; the payload then waits for the rest of the moment. What is in memory
/// and not yet written stays small, however fast it writes.
const LINES_PER_MOMENT: usize = 200;
/// Longer lines are cut, where results may not be longer.
const LONGEST_LINE: usize = 4 * 1024 * 1024;
/// Bytes around the longest result in its line.
const AROUND: usize = 1024;
const MOMENT: Duration = Duration::from_millis(100);

/// What came of a payload.
#[derive(Debug)]
pub struct Outcome {
    /// How it ended; `None` when its supervisor was killed.
    pub ended: Option<Ended>,
    /// The last result that it wrote, or that it was too long to be read.
    pub(in crate::tasks) result: Option<Result<Box<RawValue>, TooLarge>>,
    /// The last error that it wrote.
    pub error: Option<ErrorLine>,
    /// How a Rust type failed.
    pub failure: Option<FailureLine>,
    /// The last line on stderr: mostly the reason.
    pub last_words: Option<String>,
}

/// Runs a payload to its end, and everything that came of it.
pub async fn run(plan: &Plan, ctx: &Context) -> Result<Outcome, Failure> {
    let line = serde_json::to_string(plan)
        .map_err(|error| Failure::fatal("plan", format!("the attempt cannot be told to its process: {error}")))?;
    let mut child = Command::new("/proc/self/exe")
        .args(["attempt-child", "supervise"])
        .env_clear()
        .envs(plan.supervisor_environment.iter().map(|(name, value)| (name, value)))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .spawn()
        .map_err(|error| Failure::retry("process", format!("cannot start a process: {error}")))?;
    let (Some(stdin), Some(stdout), Some(stderr)) = (child.stdin.take(), child.stdout.take(), child.stderr.take())
    else {
        return Err(Failure::retry("process", "a process has no pipes"));
    };
    let refusal = Notify::new();
    let mut said = Said::new(ctx, &refusal);
    let mut errors = Said::new(ctx, &refusal);
    {
        let read = async { tokio::join!(said.listen(stdout, None), errors.listen(stderr, Some(&plan.mark))) };
        // Ends with the pipes; the control goes on until then, so that stdin stays open.
        tokio::select! {
            _ = read => {}
            () = control(stdin, line, ctx, &refusal) => {}
        }
    }
    let left = child.wait().await;
    if let Some(why) = errors.not_started {
        return Err(Failure::retry("process", format!("cannot start {why}")));
    }
    if let Some(refusal) = said.refused {
        return Err(refusal);
    }
    let began = errors.payload.is_some() || errors.outcome.ended.is_some();
    if let (false, None, Some(code)) = (began, ctx.stopping(), left.ok().and_then(|status| status.code())) {
        let words = errors.outcome.last_words.unwrap_or_else(|| "without a word".to_owned());
        return Err(Failure::retry(
            "process",
            format!("the program left with {code} before the attempt began: {words}"),
        ));
    }
    let outcome = Outcome { ended: errors.outcome.ended, last_words: errors.outcome.last_words, ..said.outcome };
    if let (None, Some(payload)) = (&outcome.ended, errors.payload) {
        // The supervisor was killed, and with it whatever it had started itself; this is for what forked.
        let _ = killpg(Pid::from_raw(payload), Signal::SIGKILL);
    }
    Ok(outcome)
}

/// Tells the plan, and then to stop when it is time, or when the attempt has failed already. Never returns: the end of
/// stdin would be the end of the payload.
async fn control(mut stdin: ChildStdin, plan: String, ctx: &Context, refusal: &Notify) {
    let written = async {
        stdin.write_all(plan.as_bytes()).await?;
        stdin.write_all(b"\n").await?;
        let refused = tokio::select! {
            () = refusal.notified() => true,
            () = ctx.stopped() => false,
        };
        if !refused && ctx.stopping() == Some(StopReason::Drain) {
            // A worker that leaves gives its tasks time to save a checkpoint, and knows itself how long.
            stdin.write_all(&[ASK]).await?;
            refusal.notified().await;
        }
        stdin.write_all(&[STOP]).await
    };
    if let Err(error) = written.await {
        tracing::debug!(%error, "the supervisor has gone");
    }
    std::future::pending().await
}

impl Outcome {
    fn new() -> Self {
        Self { ended: None, result: None, error: None, failure: None, last_words: None }
    }
}

/// What one of the two pipes has said.
struct Said<'a> {
    ctx: &'a Context,
    pace: Pace,
    outcome: Outcome,
    payload: Option<i32>,
    not_started: Option<String>,
    /// Something of it may not be kept.
    refused: Option<Failure>,
    /// Told of that: what the payload does from then on is in vain.
    refusal: &'a Notify,
}

impl<'a> Said<'a> {
    fn new(ctx: &'a Context, refusal: &'a Notify) -> Self {
        Self {
            ctx,
            pace: Pace::new(),
            outcome: Outcome::new(),
            payload: None,
            not_started: None,
            refused: None,
            refusal,
        }
    }
}

impl Said<'_> {
    async fn listen(&mut self, pipe: impl AsyncRead + Unpin, mark: Option<&str>) {
        // Results and checkpoints come on stdout alone.
        let longest = if mark.is_some() { LONGEST_LINE } else { self.ctx.max_result().max(LONGEST_LINE) + AROUND };
        let mut lines = Lines::new(pipe, longest);
        // A pipe that fails is one that has ended.
        while let Ok(Some(line)) = lines.next().await {
            match (line, mark) {
                (Line::Whole(text), None) => match Message::parse(&text) {
                    Some(message) => self.take(message).await,
                    None => self.log(Level::Info, &text).await,
                },
                (Line::Whole(text), Some(mark)) => match text.strip_prefix(mark).map(serde_json::from_str) {
                    Some(Ok(Report::Started(payload))) => self.payload = Some(payload),
                    Some(Ok(Report::NotStarted(why))) => self.not_started = Some(why),
                    Some(Ok(Report::Ended(ended))) => self.outcome.ended = Some(ended),
                    // The supervisor begins a line of its own, whatever stood there.
                    Some(Err(_)) | None if text.is_empty() => {}
                    Some(Err(_)) | None => {
                        self.log(Level::Warning, &text).await;
                        self.outcome.last_words = Some(text);
                    }
                },
                (Line::Cut(text), _) => match Message::kept(&text).filter(|_| mark.is_none()) {
                    Some(Kept::Checkpoint) => self.refuse(Kept::Checkpoint.too_long(MAX_CHECKPOINT_BYTES).into()),
                    Some(Kept::Result) => {
                        self.outcome.result = Some(Err(Kept::Result.too_long(self.ctx.max_result())));
                    }
                    None => self.log(Level::Warning, &format!("a line that is too long begins with {text}")).await,
                },
            }
        }
    }

    async fn take(&mut self, message: Message) {
        match message {
            Message::Progress(progress) => {
                self.ctx.progress(progress.current, progress.total, progress.message.as_deref());
            }
            Message::Log(log) => self.log(log.level, &log.message).await,
            Message::Checkpoint(position) => {
                // JSON that was just read can be written: it is too large.
                if let Err(refusal) = self.ctx.checkpoint(&position) {
                    self.refuse(refusal);
                }
            }
            Message::Result(result) => self.outcome.result = Some(Ok(result)),
            Message::Error(mut error) => {
                for line in error.made_usable() {
                    self.log(Level::Warning, &line).await;
                }
                self.outcome.error = Some(error);
            }
            Message::Failure(failure) => self.outcome.failure = Some(failure),
        }
    }

    /// The task has failed, whatever the payload does from here on.
    fn refuse(&mut self, why: Failure) {
        self.refused.get_or_insert(why);
        self.refusal.notify_one();
    }

    async fn log(&mut self, level: Level, text: &str) {
        if self.pace.lines > MAX_LOG_LINES {
            return;
        }
        self.ctx.log(level, text);
        self.pace.keep().await;
    }
}

/// How fast lines are taken in.
struct Pace {
    lines: usize,
    in_moment: usize,
    since: Instant,
}

impl Pace {
    fn new() -> Self {
        Self { lines: 0, in_moment: 0, since: Instant::now() }
    }

    async fn keep(&mut self) {
        self.lines += 1;
        self.in_moment += 1;
        let passed = self.since.elapsed();
        if passed < MOMENT && self.in_moment < LINES_PER_MOMENT {
            return;
        }
        if passed < MOMENT {
            tokio::time::sleep(MOMENT - passed).await;
        }
        (self.in_moment, self.since) = (0, Instant::now());
    }
}
