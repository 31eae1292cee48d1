//! Views: what clients were shown is what was so, in the order in which it was so.

use std::collections::HashMap;

use super::{Evidence, Violation};
use crate::soak::{
    client::is_final,
    history::{Followed, Id, Outcome, Request, View},
};

/// Every answer shows a version that the row has had, with the status of that version, and no answer shows an older one
/// than an answer that came before its request.
pub fn polls(evidence: &Evidence) -> Vec<Violation> {
    let mut found = Vec::new();
    let mut by_task: HashMap<Id, Vec<(i64, i64, &View)>> = HashMap::new();
    for entry in &evidence.record.entries {
        if let (Request::Poll(_), Outcome::Answered { view: Some(view), .. }) = (&entry.request, &entry.outcome) {
            by_task.entry(view.id).or_default().push((entry.from, entry.to, view));
        }
    }
    for (id, mut views) in by_task {
        let mut wrong = |text: String| found.push(Violation { invariant: "views", task: Some(id), text });
        let changes = evidence.tables.changes.get(&id).map_or(&[][..], Vec::as_slice);
        let statuses: HashMap<i64, &str> =
            changes.iter().map(|change| (i64::from(change.version), change.to.as_str())).collect();
        views.sort_by_key(|(from, ..)| *from);
        let mut answered: Vec<(i64, i64)> = views.iter().map(|(_, to, view)| (*to, view.version)).collect();
        answered.sort_unstable();
        let (mut next, mut newest) = (0, 0);
        for (from, _, view) in views {
            while next < answered.len() && answered[next].0 < from {
                newest = newest.max(answered[next].1);
                next += 1;
            }
            if view.version < newest {
                wrong(format!("version {} was shown after version {newest}", view.version));
            }
            match statuses.get(&view.version) {
                Some(status) if *status == view.status => {}
                other => wrong(format!("version {} was shown as {}, and is {other:?}", view.version, view.status)),
            }
        }
    }
    found
}

/// What a follower got, over all its connections, is the history of the task from its beginning, without a gap or a
/// repeat, and ends with the end of a run.
pub fn streams(evidence: &Evidence) -> Vec<Violation> {
    let mut found = Vec::new();
    for followed in &evidence.record.followed {
        let mut wrong = |text: String| found.push(Violation { invariant: "streams", task: Some(followed.id), text });
        let events = evidence.tables.events.get(&followed.id).map_or(&[][..], Vec::as_slice);
        for (place, frame) in followed.frames.iter().enumerate() {
            let expected = place as i64 + 1;
            if frame.seq != expected {
                wrong(format!("frame {} came where {expected} was next", frame.seq));
                break;
            }
            let same = events.get(place).is_some_and(|event| {
                event.status == frame.status && (frame.status.is_some() || event.message == frame.message)
            });
            if !same {
                wrong(format!("{frame:?} is not event {expected}: {:?}", events.get(place)));
                break;
            }
        }
        ends(followed, &mut wrong);
    }
    found
}

fn ends(followed: &Followed, wrong: &mut impl FnMut(String)) {
    if followed.final_without_id > 0 {
        wrong(format!("{} final frames came without an id", followed.final_without_id));
    }
    // A final frame in the middle is the end of an earlier run: a new one begins right behind it.
    for pair in followed.frames.windows(2) {
        if pair[0].status.as_deref().is_some_and(is_final) && pair[1].status.as_deref() != Some("PENDING") {
            wrong(format!("{:?} came after the final frame {}", pair[1], pair[0].seq));
        }
    }
    // A run that an operator began meanwhile has a stream to show.
    if let Some(status) = followed.after_the_end.filter(|status| !matches!(status, 200 | 204)) {
        wrong(format!("coming back after the end was answered {status}"));
    }
}
