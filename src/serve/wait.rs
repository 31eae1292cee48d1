//! Long polls: an answer that is held until something has happened, through the [hub](super::hub).

use std::time::Duration;

use actix_web::{HttpRequest, http::header::HeaderValue};

use super::{Api, caller::Caller, problem::Problem, query::Query};
use crate::core::{
    Lookup,
    model::{Task, TaskId},
};

/// No answer is held longer: proxies close what is silent for a minute.
const LONGEST: u64 = 50;

/// How long a client wants its answer held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wait {
    /// Seconds, already clamped.
    pub seconds: u64,
    /// It came as `Prefer: wait=…`, and the answer says what became of it.
    preferred: bool,
}

impl Wait {
    /// Reads `?wait=` (where the query has it) and `Prefer: wait=` (RFC 7240, 4.3); the query wins. A preference that
    /// cannot be read is ignored, as that document says; a parameter is refused.
    pub fn of(request: &HttpRequest, query: &Query) -> Result<Option<Self>, Problem> {
        if let Some(text) = query.one("wait")? {
            let wrong =
                || Problem::parameter("wait", format!("a whole number of seconds; {LONGEST} at most are waited"));
            let seconds: u64 = text.parse().map_err(|_| wrong())?;
            return Ok(Some(Self { seconds: seconds.min(LONGEST), preferred: false }));
        }
        let preferences = request.headers().get_all("prefer").filter_map(|value| value.to_str().ok());
        let wait = preferences.flat_map(|text| text.split(',')).find_map(|preference| {
            let (name, value) = preference.split(';').next()?.split_once('=')?;
            let seconds = value.trim().trim_matches('"').parse::<u64>().ok()?;
            name.trim().eq_ignore_ascii_case("wait").then_some(seconds)
        });
        Ok(wait.map(|seconds| Self { seconds: seconds.min(LONGEST), preferred: true }))
    }

    /// The value of `Preference-Applied`, where a preference was.
    pub fn applied(self) -> Option<HeaderValue> {
        self.preferred.then(|| HeaderValue::from_str(&format!("wait={}", self.seconds)).ok()).flatten()
    }
}

/// Reads a task, and holds the answer until `enough` says so, the time is over or the server leaves. In every case
/// what comes back is the present state.
pub async fn until(
    api: &Api,
    id: TaskId,
    caller: &Caller,
    wait: Wait,
    enough: impl Fn(&Task) -> bool,
) -> Result<Lookup<Task>, Problem> {
    let end = tokio::time::Instant::now() + Duration::from_secs(wait.seconds);
    let mut watch = api.hub.watch(id);
    loop {
        watch.rejoin();
        let task = match api.core.get(id, &caller.scope).await? {
            Lookup::Found(task) if !enough(&task) && tokio::time::Instant::now() < end => task,
            answer => return Ok(answer),
        };
        if api.closing.is_cancelled() {
            return Ok(Lookup::Found(task));
        }
        if !watch.settle(task.seq, &task) {
            continue;
        }
        loop {
            tokio::select! {
                () = api.closing.cancelled() => break,
                () = tokio::time::sleep_until(end) => break,
                update = watch.next() => match update.as_deref() {
                    Some(update) => match &update.state {
                        Some(state) if enough(&state.task) && state.task.version >= task.version => {
                            return Ok(Lookup::Found(Task::clone(&state.task)));
                        }
                        _ => {}
                    },
                    // Fallen behind the feed: read again.
                    None => break,
                },
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    fn wait(uri: &str, prefer: Option<&str>) -> Result<Option<Wait>, Problem> {
        let mut request = TestRequest::get().uri(uri);
        if let Some(prefer) = prefer {
            request = request.insert_header(("prefer", prefer));
        }
        let request = request.to_http_request();
        Wait::of(&request, &Query::of(&request, &["wait"], None)?)
    }

    #[test]
    fn both_spellings_are_read_and_clamped() {
        let seconds = |uri, prefer| wait(uri, prefer).unwrap().map(|wait| wait.seconds);
        assert_eq!(seconds("/t", None), None);
        assert_eq!(seconds("/t?wait=30", None), Some(30));
        assert_eq!(seconds("/t?wait=3000", None), Some(50));
        assert_eq!(seconds("/t", Some("respond-async, wait=10")), Some(10));
        assert_eq!(seconds("/t", Some("Wait = \"7\"; x=y")), Some(7));
        assert_eq!(seconds("/t", Some("wait=soon")), None);
        assert_eq!(seconds("/t?wait=1", Some("wait=9")), Some(1));
        assert!(wait("/t?wait=-1", None).is_err());
        let why = wait("/t?wait=abc", None).unwrap_err().to_string();
        assert!(why.ends_with("wait: a whole number of seconds; 50 at most are waited"), "{why}");
        assert_eq!(wait("/t", Some("wait=60")).unwrap().unwrap().applied().unwrap(), "wait=50");
        assert_eq!(wait("/t?wait=60", None).unwrap().unwrap().applied(), None);
    }
}
