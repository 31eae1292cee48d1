//! View: what is known of one followed task.

use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};

use super::feed::{News, State};
use crate::client::{
    exit::Exit,
    wire::{Progress, Status, Task},
};

/// So long and so much must be seen before the rest is guessed.
const ENOUGH_TIME: Duration = Duration::from_secs(5);
const ENOUGH_PERCENT: f64 = 1.0;
/// Progress is told in lines at most this often, unless it is this much.
const SELDOM: Duration = Duration::from_secs(10);
const MUCH: f64 = 5.0;

/// One task.
pub struct View {
    /// The whole id.
    pub id: String,
    /// Its present status.
    pub status: Option<Status>,
    /// How far it is.
    pub progress: Option<Progress>,
    /// The task as it was last read.
    pub task: Option<Task>,
    /// Which attempt runs.
    pub attempt: Option<i64>,
    /// Where it runs.
    pub host: Option<String>,
    /// Since when it is in this status.
    pub since: Option<DateTime<Utc>>,
    /// How it ended.
    pub exit: Option<Exit>,
    /// Its connection is gone at present.
    pub lost: bool,
    first_seen: Option<(Instant, f64)>,
    told: Option<(Instant, f64)>,
    untold: bool,
}

impl View {
    /// Nothing is known yet.
    pub fn new(id: String) -> Self {
        Self {
            id,
            status: None,
            progress: None,
            task: None,
            attempt: None,
            host: None,
            since: None,
            exit: None,
            lost: false,
            first_seen: None,
            told: None,
            untold: false,
        }
    }

    /// Takes note.
    pub fn learn(&mut self, news: &News) {
        match news {
            News::Status { state, entry, task, .. } => {
                if let Some(task) = task {
                    self.attempt = Some(task.attempt);
                    self.task = Some(Task::clone(task));
                }
                if let Some(entry) = entry {
                    self.attempt = Some(entry.attempt);
                    self.host = entry.worker.as_ref().and_then(|worker| worker.host.clone());
                }
                let started = task.as_ref().and_then(|task| task.started_at);
                self.since = entry.as_ref().map(|entry| entry.at).or(started);
                // Another attempt may begin from anywhere.
                self.first_seen = None;
                self.progress = None;
                self.take(state);
            }
            News::Progress { state, .. } => self.take(state),
            News::Waiting(task) => self.task = Some(Task::clone(task)),
            News::Lost { .. } => self.lost = true,
            News::Resumed { .. } => self.lost = false,
            News::Ended { task, .. } => {
                self.status = Some(task.status);
                self.progress = task.progress.clone().or(self.progress.take());
                self.exit = Some(task.status.exit());
                self.task = Some(Task::clone(task));
            }
            News::Broken(failure) => self.exit = Some(failure.exit),
            News::Log { .. } => {}
        }
    }

    fn take(&mut self, state: &State) {
        self.status = Some(state.status);
        if state.progress.is_some() && state.progress != self.progress {
            self.progress.clone_from(&state.progress);
            self.untold = true;
        }
        if let Some(percent) = self.percent() {
            self.first_seen.get_or_insert((Instant::now(), percent));
        }
    }

    /// Whether progress that was not told yet is due for a line; it then counts as told. Nothing follows the final line.
    pub fn progress_is_due(&mut self) -> bool {
        let percent = self.percent().unwrap_or(0.0);
        let due =
            self.told.is_none_or(|(at, before)| at.elapsed() >= SELDOM || percent - before >= MUCH || percent < before);
        if self.exit.is_some() || !self.untold || !due {
            return false;
        }
        self.untold = false;
        self.told = Some((Instant::now(), percent));
        true
    }

    /// How long it has been in its status, or took in all.
    pub fn lasted(&self, now: DateTime<Utc>) -> Option<chrono::TimeDelta> {
        let task = self.task.as_ref();
        if self.exit.is_some() {
            return task.and_then(|task| task.took(now));
        }
        let since = self.since.or(task.map(|task| task.started_at.unwrap_or(task.created_at)))?;
        Some(now - since)
    }

    /// How long it will still take, at the pace seen so far.
    pub fn left(&self) -> Option<chrono::TimeDelta> {
        let ((at, first), now) = (self.first_seen?, self.percent()?);
        let (time, done) = (at.elapsed(), now - first);
        if time < ENOUGH_TIME || done < ENOUGH_PERCENT || self.status != Some(Status::Running) {
            return None;
        }
        chrono::TimeDelta::from_std(time.mul_f64(((100.0 - now) / done).max(0.0))).ok()
    }

    /// How far it is, where that is known.
    pub fn percent(&self) -> Option<f64> {
        self.progress.as_ref()?.percent
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn progress(current: i64) -> News {
        let progress = Progress { current, total: Some(100), percent: Some(current as f64), message: None };
        let state = State { status: Status::Running, progress: Some(progress), error: None };
        News::Progress { seq: 1, state, data: String::new() }
    }

    #[test]
    fn progress_is_told_now_and_then() {
        let mut view = View::new("x".into());
        assert!(!view.progress_is_due());
        let told: Vec<bool> = [1, 2, 5, 6, 7, 11]
            .into_iter()
            .map(|current| {
                view.learn(&progress(current));
                view.progress_is_due()
            })
            .collect();
        assert_eq!(told, [true, false, false, true, false, true]);
        view.learn(&progress(11));
        assert!(!view.progress_is_due(), "the same again is no news");
        assert_eq!(view.left(), None, "nothing is guessed from a moment");
    }
}
