//! Server-sent events: the frames of a task's stream (WHATWG HTML, 9.2).
//!
//! Pure. A frame's data is split at every line end that a reader knows (LF, CR, CR LF), so no text of a task can end
//! a frame or begin another event.

use std::{borrow::Cow, time::Duration};

use actix_web::web::Bytes;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Value, value::RawValue};

use super::task_view::{ProgressView, Time};
use crate::core::model::{Level, Status, Task, TaskError, TaskEvent, TaskId, What};

/// Tells a browser to come back after two seconds.
pub const RETRY: Bytes = Bytes::from_static(b"retry: 2000\n\n");
/// Tells a browser to come back later, where a stream cannot be served just now.
pub const RETRY_LATER: Bytes = Bytes::from_static(b"retry: 5000\n\n");
/// Keeps proxies from closing an idle stream. A comment: no reader sees it.
pub const PING: Bytes = Bytes::from_static(b": ping\n\n");

/// Something goes out this often while nothing happens.
pub const PING_EVERY: Duration = Duration::from_secs(15);

/// A log line on the wire: in `GET /tasks/{id}/logs` and in `event: log`.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "LogLine")]
pub struct LogView<'a> {
    /// When it was written, by the database's clock.
    timestamp: Time,
    level: Level,
    /// One line or several, for people.
    message: &'a str,
    /// The attempt that wrote it.
    attempt: i32,
    /// The delivery that wrote it.
    delivery: i32,
    /// Its number in the task's history: what `after` and `Last-Event-ID` take.
    seq: i32,
}

impl<'a> LogView<'a> {
    /// `None` for a change of status.
    pub fn of(event: &'a TaskEvent) -> Option<Self> {
        let What::Log { level, message } = &event.what else { return None };
        Some(Self {
            timestamp: Time(event.at),
            level: *level,
            message,
            attempt: event.attempt,
            delivery: event.delivery,
            seq: event.seq,
        })
    }

    /// The end of a task that no attempt wrote a line about: it expired, was lost or was cancelled.
    pub fn of_end(event: &'a TaskEvent) -> Option<Self> {
        let What::Status { status, error: Some(error), .. } = &event.what else { return None };
        let level = if *status == Status::Cancelled { Level::Info } else { Level::Error };
        Some(Self {
            timestamp: Time(event.at),
            level,
            message: &error.message,
            attempt: event.attempt,
            delivery: event.delivery,
            seq: event.seq,
        })
    }
}

/// The data of an unnamed event in a task's stream: a status or a progress.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "StreamState")]
pub struct StateView<'a> {
    task_id: TaskId,
    status: Status,
    progress: Option<ProgressView<'a>>,
    /// With the final frame of a task that succeeded.
    #[schemars(with = "Option<Value>")]
    result: Option<&'a RawValue>,
    /// With the final frame of a task that did not.
    error: Option<&'a TaskError>,
}

/// The state now, with the id that a client may resume from, or without one.
pub fn state_frame(task: &Task, id: Option<i32>) -> Bytes {
    let view = StateView {
        task_id: task.id,
        status: task.status,
        progress: task.progress.as_ref().map(ProgressView::from),
        result: task.result.as_deref(),
        error: task.error.as_ref(),
    };
    frame(None, id, &json(&view))
}

/// An unnamed event without an id.
pub fn unnamed(view: &impl Serialize) -> Bytes {
    frame(None, None, &json(view))
}

/// The frames of events that were read together with their task. `Last` tells that no event follows them: only then
/// the last change of status is the state now, and carries its progress, result and error.
pub fn event_frames(task: &Task, events: &[TaskEvent], page: Page) -> Vec<(i32, Bytes)> {
    let now = match page {
        Page::Last => {
            events.iter().rev().find(|event| matches!(event.what, What::Status { .. })).map(|event| event.seq)
        }
        Page::MoreFollow => None,
    };
    let frame_of = |event: &TaskEvent| match &event.what {
        What::Status { status, .. } if now == Some(event.seq) && *status == task.status => {
            state_frame(task, Some(event.seq))
        }
        What::Status { status, error, .. } => {
            let error = error.as_ref().filter(|_| status.is_final());
            let view = StateView { task_id: task.id, status: *status, progress: None, result: None, error };
            frame(None, Some(event.seq), &json(&view))
        }
        What::Log { .. } => frame(Some("log"), Some(event.seq), &json(&LogView::of(event))),
    };
    events.iter().map(|event| (event.seq, frame_of(event))).collect()
}

/// Whether these events end with the state of the task now.
pub fn tells_the_state(task: &Task, events: &[TaskEvent]) -> bool {
    let last = events.iter().rev().find_map(|event| match event.what {
        What::Status { status, .. } => Some(status),
        What::Log { .. } => None,
    });
    last == Some(task.status)
}

/// Whether a reading ended because the events did, or because the page was full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Page {
    /// There are no more events.
    Last,
    /// There may be more.
    MoreFollow,
}

fn json(view: &impl Serialize) -> String {
    // These views hold strings, numbers and JSON that has been checked: writing them cannot fail.
    serde_json::to_string(view).unwrap_or_else(|_| "{}".to_owned())
}

fn frame(event: Option<&'static str>, id: Option<i32>, data: &str) -> Bytes {
    let mut frame = String::with_capacity(data.len() + 48);
    if let Some(event) = event {
        frame.push_str(&format!("event: {event}\n"));
    }
    if let Some(id) = id {
        frame.push_str(&format!("id: {id}\n"));
    }
    let data = match data.contains('\r') {
        true => Cow::Owned(data.replace("\r\n", "\n").replace('\r', "\n")),
        false => Cow::Borrowed(data),
    };
    for line in data.split('\n') {
        frame.push_str("data: ");
        frame.push_str(line);
        frame.push('\n');
    }
    frame.push('\n');
    Bytes::from(frame)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::serve::task_view::tests::sample;

    fn event(seq: i32, what: What) -> TaskEvent {
        TaskEvent { seq, at: sample().created_at, delivery: 1, attempt: 1, what }
    }

    fn status(seq: i32, status: Status) -> TaskEvent {
        event(seq, What::Status { status, reason: None, worker_id: None, error: None })
    }

    fn log(seq: i32, message: &str) -> TaskEvent {
        event(seq, What::Log { level: Level::Info, message: message.into() })
    }

    /// What a reader makes of a stream: (event, id, data) of every frame, as the WHATWG algorithm says.
    fn read(stream: &str) -> Vec<(String, Option<String>, String)> {
        let (mut frames, mut name, mut id, mut data) = (Vec::new(), String::new(), None, Vec::new());
        for line in stream.replace("\r\n", "\n").split(['\n', '\r']) {
            match line.split_once(": ") {
                Some(("event", value)) => name = value.to_owned(),
                Some(("id", value)) => id = Some(value.to_owned()),
                Some(("data", value)) => data.push(value.to_owned()),
                _ if line.is_empty() && !data.is_empty() => {
                    frames.push((std::mem::take(&mut name), id.take(), data.join("\n")));
                    data.clear();
                }
                _ => assert!(line.is_empty(), "{line:?}"),
            }
        }
        frames
    }

    #[test]
    fn frames_carry_what_the_contract_says() {
        let task = sample();
        let events = [status(1, Status::Pending), status(2, Status::Running), log(3, "one\ntwo")];
        let frames = event_frames(&task, &events, Page::Last);
        let text: String = frames.iter().map(|(_, frame)| String::from_utf8(frame.to_vec()).unwrap()).collect();
        let progress = r#"{"current":3,"total":10,"percent":30.0,"message":"Parsing HTML","updated_at":"2026-01-01T00:00:02.005Z"}"#;
        let id = task.id;
        assert_eq!(
            text,
            format!(
                "id: 1\ndata: {{\"task_id\":\"{id}\",\"status\":\"PENDING\",\"progress\":null,\"result\":null,\"error\":null}}\n\n\
                 id: 2\ndata: {{\"task_id\":\"{id}\",\"status\":\"RUNNING\",\"progress\":{progress},\"result\":null,\"error\":null}}\n\n\
                 event: log\nid: 3\ndata: {{\"timestamp\":\"2026-01-01T00:00:00.005Z\",\"level\":\"INFO\",\
                 \"message\":\"one\\ntwo\",\"attempt\":1,\"delivery\":1,\"seq\":3}}\n\n"
            )
        );
        assert!(state_frame(&task, None).starts_with(b"data: {"));
        assert!(tells_the_state(&task, &events) && !tells_the_state(&task, &events[2..]));
    }

    #[test]
    fn only_the_last_page_tells_the_state() {
        let task = sample();
        let full = event_frames(&task, &[status(2, Status::Running)], Page::MoreFollow);
        assert!(!String::from_utf8(full[0].1.to_vec()).unwrap().contains("Parsing"));
    }

    #[test]
    fn a_result_with_line_ends_between_its_tokens_stays_one_frame() {
        let result = RawValue::from_string("{\"a\":\r\n1,\r\"b\":\n\n2}".into()).unwrap();
        let task = Task { status: Status::Success, result: Some(result), ..sample() };
        let frames = read(std::str::from_utf8(&state_frame(&task, Some(9))).unwrap());
        assert_eq!(frames.len(), 1);
        let data: serde_json::Value = serde_json::from_str(&frames[0].2).unwrap();
        assert_eq!(data["result"], serde_json::json!({"a": 1, "b": 2}));
    }

    proptest! {
        #[test]
        fn no_message_forges_an_event(message in "[a\r\n:d t\u{2028}\u{202e}\u{0}{}\"\\\\]{0,24}(\n\nevent: x\ndata: y)?") {
            let frames = event_frames(&sample(), &[log(7, &message)], Page::Last);
            let read = read(std::str::from_utf8(&frames[0].1).unwrap());
            prop_assert_eq!(read.len(), 1);
            prop_assert_eq!((read[0].0.as_str(), read[0].1.as_deref()), ("log", Some("7")));
            let data: serde_json::Value = serde_json::from_str(&read[0].2).unwrap();
            prop_assert_eq!(data["message"].as_str().unwrap(), message);
        }

        #[test]
        fn raw_lines_never_leave_their_frame(data in "[a\r\n: ]{0,16}") {
            let frame = frame(None, Some(1), &data);
            let read = read(std::str::from_utf8(&frame).unwrap());
            prop_assert_eq!(read.len(), 1);
            prop_assert_eq!(&read[0].2, &data.replace("\r\n", "\n").replace('\r', "\n"));
        }
    }
}
