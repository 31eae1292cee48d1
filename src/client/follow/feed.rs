//! Feed: a thread that reads one task's stream to its end, over as many connections as that takes.
//!
//! It goes on after the last event that came whole, so nothing is missed and nothing is told twice. The end is what the
//! task itself says: a final status in a stream may be that of an earlier run, and a connection may break after it.

use std::{
    sync::mpsc::Sender,
    time::{Duration, Instant},
};

use serde::Deserialize;

use super::sse::{Event, Events, Said};
use crate::client::{
    api::{Opened, SharedApi, jittered},
    exit::Exit,
    failure::Failure,
    wire::{self, LogLine, Progress, Status, Task, TaskError, Timeline, TimelineEntry},
};

/// After the first loss; doubled from try to try.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// The data of an event that is no log line.
#[derive(Debug, Clone, Deserialize)]
pub struct State {
    pub status: Status,
    pub progress: Option<Progress>,
    pub error: Option<TaskError>,
}

/// What a feed tells.
#[derive(Debug)]
pub enum News {
    /// A change of status, with what is known of it beyond the event.
    Status { seq: i64, state: State, data: String, entry: Option<TimelineEntry>, task: Option<Box<Task>> },
    /// Progress.
    Progress { seq: i64, state: State, data: String },
    /// A log line.
    Log { line: LogLine, data: String },
    /// The task as it waits, read again.
    Waiting(Box<Task>),
    /// The connection is gone, and why.
    Lost { seq: i64, reason: String },
    /// It is there again, and goes on after this event.
    Resumed { seq: i64 },
    /// The end.
    Ended { seq: i64, task: Box<Task>, body: String },
    /// There is nothing to follow, or nobody may.
    Broken(Failure),
}

/// What a feed is to do.
pub struct Feed {
    pub api: SharedApi,
    pub id: String,
    /// The last event that came whole.
    pub last: i64,
    /// How long to try again.
    pub reconnect_for: Option<Duration>,
}

/// How a connection ended.
enum End {
    /// After the final state, in order.
    Final,
    /// Too early.
    Cut(String),
    /// With the wish that we come back later.
    Later(Duration),
}

/// A running feed.
struct Reader<'a> {
    feed: Feed,
    tell: &'a dyn Fn(News) -> bool,
    /// A final status that may be the end, not told yet.
    held: Option<(State, Event)>,
    status: Option<Status>,
    timeline: Vec<TimelineEntry>,
    lost_since: Option<Instant>,
}

/// Nobody listens any more.
struct Gone;

impl Feed {
    /// Reads in a thread of its own; each piece of news goes to `sender` in the shape that `told` gives it.
    pub fn start<T: Send + 'static>(self, sender: Sender<T>, told: impl Fn(News) -> T + Send + 'static) {
        std::thread::spawn(move || {
            let tell = |news| sender.send(told(news)).is_ok();
            let reader =
                Reader { feed: self, tell: &tell, held: None, status: None, timeline: Vec::new(), lost_since: None };
            let _ = reader.run();
        });
    }
}

impl Reader<'_> {
    fn run(mut self) -> Result<(), Gone> {
        let mut pause = FIRST_PAUSE;
        loop {
            let seen = self.feed.last;
            let (reason, wait) = match self.feed.api.stream(&self.feed.id, self.feed.last) {
                Ok(Opened::Over) => match self.conclude()? {
                    Some(reason) => (reason, None),
                    None => return Ok(()),
                },
                Ok(Opened::Stream(body)) => match self.read(Events::new(body))? {
                    End::Final => match self.conclude()? {
                        Some(reason) => (reason, None),
                        None => return Ok(()),
                    },
                    End::Cut(reason) => (reason, None),
                    End::Later(wait) => ("the server cannot serve it just now".to_owned(), Some(wait)),
                },
                Err(failure) if failure.exit == Exit::Away => (failure.message, None),
                Err(failure) => return self.say(News::Broken(failure)),
            };
            if self.feed.last > seen {
                pause = FIRST_PAUSE;
            }
            if self.lost_since.is_none() {
                self.say(News::Lost { seq: self.feed.last, reason: reason.clone() })?;
            }
            let since = *self.lost_since.get_or_insert_with(Instant::now);
            let wait = wait.unwrap_or_else(|| jittered(pause));
            if self.feed.reconnect_for.is_some_and(|limit| since.elapsed() + wait > limit) {
                let text = format!("the connection did not come back: {reason}. The task goes on");
                return self.say(News::Broken(Failure::new(Exit::Away, text)));
            }
            std::thread::sleep(wait);
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    fn read(&mut self, mut events: Events<impl std::io::Read>) -> Result<End, Gone> {
        let mut later = None;
        loop {
            match events.next() {
                Ok(Some(Said::Retry(wait))) => later = Some(wait),
                Ok(Some(said)) => {
                    later = None;
                    if self.lost_since.take().is_some() {
                        self.say(News::Resumed { seq: self.feed.last })?;
                    }
                    match said {
                        Said::Event(event) => self.take(event)?,
                        _ if self.status == Some(Status::Pending) => self.look_again()?,
                        _ => {}
                    }
                }
                Ok(None) => {
                    return Ok(match (later, &self.held) {
                        (Some(wait), _) => End::Later(wait),
                        (None, Some(_)) => End::Final,
                        (None, None) => End::Cut("the server ended the stream".to_owned()),
                    });
                }
                Err(error) => return Ok(End::Cut(error.to_string())),
            }
        }
    }

    fn take(&mut self, event: Event) -> Result<(), Gone> {
        if event.seq.is_some_and(|seq| seq <= self.feed.last) {
            return Ok(());
        }
        if let Some((state, earlier)) = self.held.take() {
            self.say_status(state, earlier)?;
        }
        self.feed.last = event.seq.unwrap_or(self.feed.last);
        if event.name == "log" {
            // What cannot be read is of a newer server, and passes.
            let Ok(line) = serde_json::from_str::<LogLine>(&event.data) else { return Ok(()) };
            return self.say(News::Log { line, data: event.data });
        }
        let Ok(state) = serde_json::from_str::<State>(&event.data) else { return Ok(()) };
        if state.status.is_final() {
            self.held = Some((state, event));
            return Ok(());
        }
        if event.seq.is_some() || self.status != Some(state.status) {
            return self.say_status(state, event);
        }
        self.say(News::Progress { seq: self.feed.last, state, data: event.data })
    }

    fn say_status(&mut self, state: State, event: Event) -> Result<(), Gone> {
        self.status = Some(state.status);
        let entry = event.seq.and_then(|seq| self.entry(seq));
        let is_newest =
            entry.as_ref().is_none_or(|entry| self.timeline.last().is_some_and(|last| last.seq == entry.seq));
        let task = if is_newest && !state.status.is_final() { self.task() } else { None };
        let task = task.map(|(task, _)| Box::new(task));
        self.say(News::Status { seq: self.feed.last, state, data: event.data, entry, task })
    }

    fn look_again(&mut self) -> Result<(), Gone> {
        match self.task() {
            Some((task, _)) if task.status == Status::Pending => self.say(News::Waiting(Box::new(task))),
            _ => Ok(()),
        }
    }

    /// Asks the task whether this is the end. When it is not, or cannot be asked, a reason to go on.
    fn conclude(&mut self) -> Result<Option<String>, Gone> {
        match self.feed.api.get(&format!("/tasks/{}", self.feed.id)) {
            Ok(answer) => match wire::read::<Task>(&answer.body) {
                Ok(task) if task.status.is_final() => {
                    if self.lost_since.take().is_some() {
                        self.say(News::Resumed { seq: self.feed.last })?;
                    }
                    self.say(News::Ended { seq: self.feed.last, task: Box::new(task), body: answer.body })?;
                    Ok(None)
                }
                Ok(_) => Ok(Some("the task runs again".to_owned())),
                Err(failure) => self.say(News::Broken(failure)).map(|()| None),
            },
            Err(failure) if failure.exit == Exit::Away => Ok(Some(failure.message)),
            Err(failure) => self.say(News::Broken(failure)).map(|()| None),
        }
    }

    /// What the timeline has of an event. It is read again only for an event that it does not have yet.
    fn entry(&mut self, seq: i64) -> Option<TimelineEntry> {
        let find = |timeline: &[TimelineEntry]| timeline.iter().find(|entry| entry.seq == seq).cloned();
        if let Some(entry) = find(&self.timeline) {
            return Some(entry);
        }
        let answer = self.feed.api.get(&format!("/tasks/{}/timeline", self.feed.id)).ok()?;
        self.timeline = wire::read::<Timeline>(&answer.body).ok()?.entries;
        find(&self.timeline)
    }

    fn task(&self) -> Option<(Task, String)> {
        let answer = self.feed.api.get(&format!("/tasks/{}", self.feed.id)).ok()?;
        Some((wire::read(&answer.body).ok()?, answer.body))
    }

    fn say(&self, news: News) -> Result<(), Gone> {
        if (self.tell)(news) { Ok(()) } else { Err(Gone) }
    }
}
