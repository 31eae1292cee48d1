//! Lines: what followed tasks do, line by line on stdout: for people, for programs, or as one JSON object per line.

use chrono::{DateTime, Utc};

use super::{feed::News, view::View};
use crate::client::{
    failure::Failure,
    screen::{Format, Screen, Style},
    text::{self, Lines as LineEnds},
    time,
    wire::{LogLine, Status, Task},
};

/// What stdout is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Detail {
    /// Everything: nothing else tells of status and progress.
    Everything,
    /// Log lines, and what went wrong: bars on the same terminal tell the rest.
    BesideBars,
}

/// Writes the lines.
pub struct Teller {
    /// Where to.
    pub screen: Screen,
    /// How much.
    pub detail: Detail,
    /// Lines say of which task they are.
    pub several: bool,
}

impl Teller {
    /// Tells of one piece of news, which `view` has learnt already.
    pub fn tell(&self, view: &mut View, news: &News, now: DateTime<Utc>) -> Result<(), Failure> {
        match self.screen.format {
            Format::Json => self.tell_json(view, news),
            Format::Text => self.tell_text(view, news, now),
        }
    }

    /// Tells of progress that was held back, when it is time.
    pub fn tell_progress(&self, view: &mut View, now: DateTime<Utc>) -> Result<(), Failure> {
        let due = self.screen.format == Format::Text && self.detail == Detail::Everything && view.progress_is_due();
        match &view.progress {
            Some(progress) if due => self.line(view, now, "progress", &progress.shown(), Style::Plain),
            _ => Ok(()),
        }
    }

    fn tell_text(&self, view: &mut View, news: &News, now: DateTime<Utc>) -> Result<(), Failure> {
        match news {
            News::Log { line, .. } => {
                let label = self.label(view);
                self.screen.line(&labelled_log_line(&self.screen, &label, line))
            }
            News::Status { state, entry, task, .. } => {
                let error = state.error.as_ref().or(entry.as_ref().and_then(|entry| entry.error.as_ref()));
                let reason = match (error, entry, task) {
                    (Some(error), ..) => error.shown(),
                    (None, Some(entry), _) if entry.reason.is_some() => entry.reason.clone().unwrap_or_default(),
                    (None, _, Some(task)) if state.status == Status::Pending => task.why_pending(now),
                    _ => String::new(),
                };
                if self.detail == Detail::BesideBars && error.is_none() {
                    return Ok(());
                }
                let at = entry.as_ref().map_or(now, |entry| entry.at);
                let mut words = state.status.word().to_owned();
                if state.status == Status::Running {
                    let most = task.as_ref().map(|task| format!("/{}", task.max_attempts)).unwrap_or_default();
                    words.extend(view.attempt.map(|attempt| format!(" try {attempt}{most}")));
                    words.extend(view.host.as_ref().map(|host| format!(" on {host}")));
                }
                if !reason.is_empty() {
                    words = format!("{words} {reason}");
                }
                self.line(view, at, "status", &words, state.status.style())
            }
            News::Progress { .. } => self.tell_progress(view, now),
            News::Ended { task, .. } if self.detail == Detail::Everything => {
                let words = final_words(view, task, now);
                self.line(view, task.completed_at.unwrap_or(now), "final", &words, task.status.style())
            }
            _ => Ok(()),
        }
    }

    /// The API's own object, with what it is and where it stands.
    fn tell_json(&self, view: &View, news: &News) -> Result<(), Failure> {
        let id = &view.id;
        let line = match news {
            News::Status { seq, data, .. } => with(data, &format!(r#""event":"status","seq":{seq}"#)),
            News::Progress { seq, data, .. } => with(data, &format!(r#""event":"progress","seq":{seq}"#)),
            // It has its number already.
            News::Log { data, .. } => with(data, &format!(r#""event":"log","task_id":"{id}""#)),
            News::Ended { seq, body, .. } => {
                with(&body.replace(['\n', '\r'], " "), &format!(r#""event":"final","seq":{seq}"#))
            }
            News::Lost { seq, reason } => {
                let reason = serde_json::Value::from(reason.as_str());
                format!(r#"{{"event":"connection","seq":{seq},"task_id":"{id}","state":"lost","detail":{reason}}}"#)
            }
            News::Resumed { seq } => {
                format!(r#"{{"event":"connection","seq":{seq},"task_id":"{id}","state":"resumed"}}"#)
            }
            News::Waiting(_) | News::Broken(_) => return Ok(()),
        };
        self.screen.json(&line)
    }

    fn line(&self, view: &View, at: DateTime<Utc>, kind: &str, words: &str, style: Style) -> Result<(), Failure> {
        let look = &self.screen.out;
        let words = look.paint(style, &look.safe(words));
        self.screen.line(&format!("{} {}{kind} {words}", moment(&self.screen, at), self.label(view)))
    }

    fn label(&self, view: &View) -> String {
        let look = &self.screen.out;
        match (self.several, look.terminal) {
            (false, _) => String::new(),
            (true, true) => format!("{}{} ", look.ellipsis(), &view.id[view.id.len().saturating_sub(4)..]),
            (true, false) => format!("{} ", view.id),
        }
    }
}

/// A log line as it is shown.
pub fn log_line(screen: &Screen, line: &LogLine) -> String {
    labelled_log_line(screen, "", line)
}

fn labelled_log_line(screen: &Screen, label: &str, line: &LogLine) -> String {
    let look = &screen.out;
    let style = match line.level.as_str() {
        "ERROR" => Style::Red,
        "WARNING" => Style::Yellow,
        "DEBUG" => Style::Faint,
        _ => Style::Plain,
    };
    let level = look.safe(&line.level);
    let head = format!("{} {label}{} ", moment(screen, line.timestamp), look.paint(style, &text::pad(&level, 7)));
    if !look.terminal {
        return format!("{head}{}", look.safe(&line.message));
    }
    let indent = " ".repeat(text::width(&moment(screen, line.timestamp)) + text::width(label) + 9);
    let message = text::safe(&line.message, LineEnds::Many, look.charset);
    format!("{head}{}", message.trim_end().replace('\n', &format!("\n{indent}")))
}

fn moment(screen: &Screen, at: DateTime<Utc>) -> String {
    if screen.out.terminal { screen.zone.time_of_day(at) } else { time::rfc3339(at) }
}

/// `SUCCESS 100% 2000/2000 54m12s`.
fn final_words(view: &View, task: &Task, now: DateTime<Utc>) -> String {
    let mut words = vec![task.status.word().to_owned()];
    if let Some(progress) = &view.progress {
        words.extend(progress.percent.map(|percent| format!("{percent:.0}%")));
        words.push(progress.count());
    }
    words.extend(task.took(now).map(time::span));
    words.extend(task.error.as_ref().map(|error| error.shown()));
    words.join(" ")
}

/// A JSON object with more members in front.
fn with(object: &str, members: &str) -> String {
    match object.trim_start().strip_prefix('{') {
        Some(rest) if rest.trim_start().starts_with('}') => format!("{{{members}}}"),
        Some(rest) => format!("{{{members},{rest}"),
        None => format!("{{{members}}}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_are_put_in_front_of_what_came() {
        assert_eq!(with(r#"{"a":1.50}"#, r#""event":"log""#), r#"{"event":"log","a":1.50}"#);
        assert_eq!(with("{}", r#""seq":1"#), r#"{"seq":1}"#);
    }
}
