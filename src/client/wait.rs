//! Waiting silently for the end of a task: the result on stdout, by long polls that a lost connection only delays.

use std::{
    sync::mpsc::{self, RecvTimeoutError, Sender},
    time::{Duration, Instant},
};

use super::{
    Session,
    api::{Answer, LONGEST_HOLD, Request, SharedApi, jittered},
    exit::Exit,
    failure::Failure,
    follow::{Following, Going, cancel_in_background, leave},
    screen::Format,
    signals,
    wire::{self, Task},
};
use crate::config;

/// After a failed poll.
const PAUSE: Duration = Duration::from_secs(2);
/// For the last look, when the wait is over: whoever set a limit does not wait much longer for its status.
const LAST_LOOK: Duration = Duration::from_secs(2);

/// How long to wait at most; `None` is as long as it takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit(Option<Duration>);

/// Reads the value of `--wait`, which may have none.
pub fn wait_time(text: &str) -> Result<Limit, String> {
    if text.is_empty() { Ok(Limit(None)) } else { config::duration(text).map(|time| Limit(Some(time))) }
}

enum Heard {
    Polled(Result<Answer, Failure>),
    Signal(Exit),
}

/// Waits, and prints the result; with `--json` the whole task.
pub fn wait(session: &Session, id: &str, limit: Limit, following: &Following) -> Result<Exit, Failure> {
    let end = limit.0.map(|limit| Instant::now() + limit);
    let (sender, heard) = mpsc::channel();
    signals::listen(sender.clone(), Heard::Signal);
    let (api, path) = (session.api.clone(), format!("/tasks/{id}"));
    std::thread::spawn(move || poll(&api, &path, end, &sender));
    let mut last: Option<Task> = None;
    let mut lost: Option<Instant> = None;
    let mut asked_to_cancel = false;
    loop {
        let left = end.map_or(Duration::MAX, |end| end.saturating_duration_since(Instant::now()));
        let next = match left {
            // The channel knows no such long times.
            Duration::MAX => heard.recv().map_err(|_| RecvTimeoutError::Disconnected),
            left => heard.recv_timeout(left),
        };
        match next {
            Ok(Heard::Polled(Ok(answer))) => {
                if lost.take().is_some() {
                    session.screen.hint("connected again");
                }
                let task: Task = wire::read(&answer.body)?;
                if task.status.is_final() {
                    return ended(session, &task, &answer.body);
                }
                last = Some(task);
            }
            Ok(Heard::Polled(Err(failure))) if failure.exit == Exit::Away => {
                let since = *lost.get_or_insert_with(|| {
                    session.screen.hint("connection lost, trying again");
                    Instant::now()
                });
                if following.reconnect_for.is_some_and(|limit| since.elapsed() >= limit) {
                    return Err(failure);
                }
            }
            Ok(Heard::Polled(Err(failure))) => return Err(failure),
            Ok(Heard::Signal(_)) if following.cancel_on_interrupt && !asked_to_cancel => {
                asked_to_cancel = true;
                session.screen.hint("Cancelling. Once more leaves at once.");
                cancel_in_background(&session.api, id);
            }
            Ok(Heard::Signal(exit)) => {
                leave(session, "Detached.", &[going(id, last.as_ref())]);
                return Ok(exit);
            }
            Err(_) => {
                // What the last poll told may be as old as the whole wait.
                let path = format!("/tasks/{id}");
                if let Some(answer) = session.api.try_once(&Request::get(&path).within(LAST_LOOK)) {
                    let task: Task = wire::read(&answer.body)?;
                    if task.status.is_final() {
                        return ended(session, &task, &answer.body);
                    }
                    last = Some(task);
                }
                leave(session, "The wait is over.", &[going(id, last.as_ref())]);
                return Ok(Exit::WaitOver);
            }
        }
    }
}

fn going<'a>(id: &'a str, last: Option<&Task>) -> Going<'a> {
    let percent = last.and_then(|task| task.progress.as_ref()?.percent);
    Going { id, status: last.map(|task| task.status), percent }
}

fn poll(api: &SharedApi, path: &str, end: Option<Instant>, sender: &Sender<Heard>) {
    // The first tells the state, for whoever leaves early.
    let mut hold = Duration::ZERO;
    loop {
        let path = format!("{path}?wait={}", hold.as_secs());
        let answer = api.send(&Request::get(&path).held(hold));
        let failed = answer.is_err();
        if sender.send(Heard::Polled(answer)).is_err() {
            return;
        }
        if failed {
            std::thread::sleep(jittered(PAUSE));
        }
        let left = end.map_or(LONGEST_HOLD, |end| end.saturating_duration_since(Instant::now()));
        hold = left.min(LONGEST_HOLD).max(Duration::from_secs(1));
    }
}

fn ended(session: &Session, task: &Task, body: &str) -> Result<Exit, Failure> {
    let screen = &session.screen;
    match (screen.format, &task.result, &task.error) {
        (Format::Json, ..) => screen.json(body)?,
        (Format::Text, Some(result), _) => screen.json(result.get())?,
        (Format::Text, None, error) => {
            let reason = error.as_ref().map(|error| format!(" {}", error.shown())).unwrap_or_default();
            screen.say(&screen.err.safe(&format!("{}{reason}", task.status.word())));
        }
    }
    Ok(task.status.exit())
}
