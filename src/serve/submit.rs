//! `POST /tasks` and `POST /tasks/batch`: bodies become tasks, checked with every default filled in, and are committed
//! before the 202.

use actix_web::{
    HttpRequest, HttpResponse,
    http::header::{HeaderName, HeaderValue, LOCATION, VARY},
    web::{Data, Payload},
};
use serde_json::value::RawValue;
use tracing::{Instrument, Span};

use super::{
    Api, admission, body,
    caller::Caller,
    idempotency,
    json::{self, Refusal},
    options::Options,
    problem::{Code, Problem},
    query::Query,
    read::{PREFERENCE_APPLIED, found, say_when_to_ask_again},
    task_view::path_of,
    wait::{self, Wait},
};
use crate::{
    core::model::{IdempotencyKey, NewTask, Start, Submission, Submitted, Task, TaskId},
    tasks::{Finding, Registry},
    telemetry,
};

/// Says that an earlier request with the same key made the task.
const REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");
/// What a body without `task_type` is.
pub const DEFAULT_TYPE: &str = "vector_processing";
/// Deliveries that may be lost with their worker between two checkpoints, where the submitter says nothing.
const DEFAULT_MAX_LOST: i32 = 3;

/// A task type that nobody knows is repeated up to this length, in bytes.
const LONGEST_SHOWN: usize = 64;
/// Bodies of one batch.
pub const LARGEST_BATCH: usize = 1_000;
/// Bytes of a batch.
const BATCH_BYTES: usize = 8 * 1024 * 1024;
/// No more findings than this are told of a batch.
const MAX_FINDINGS: usize = 20;

/// `POST /tasks`.
pub async fn submit(
    api: Data<Api>,
    caller: Caller,
    request: HttpRequest,
    mut payload: Payload,
) -> Result<HttpResponse, Problem> {
    let body = body::read_json(&request, &mut payload, api.max_body).await?;
    let wait = Wait::of(&request, &Query::of(&request, &[], None)?)?;
    let body = json::check(&body)?;
    let mut new = knowing_all(&api, |registry| new_task(registry, &caller, body)).await?;
    let span = traced(std::slice::from_mut(&mut new));
    let key = key_of(&request, &caller, body)?;
    let submission = Submission { tasks: vec![new], key };
    let admitted = admission::admit(&api, &caller, &request, &submission).await?;
    let submitted = api.core.submit(submission).instrument(span).await?;
    let replayed = submitted.replayed;
    api.look_for_workers(&submitted.tasks);
    count(&api, &submitted);
    let Some(task) = submitted.tasks.into_iter().next() else {
        return Err(Problem::task_gone());
    };
    let task = match wait {
        None => task,
        Some(wait) => {
            // The task is committed. Whatever keeps us from reading it, this submit has succeeded.
            match wait::until(&api, task.id, &caller, wait, |task| task.status.is_final()).await.and_then(found) {
                Ok(present) => present,
                Err(_) => task,
            }
        }
    };
    let mut response = accepted(&api, &task, wait).await;
    admitted.tell(response.headers_mut());
    if replayed {
        response.headers_mut().insert(REPLAYED, HeaderValue::from_static("true"));
    }
    Ok(response)
}

/// `POST /tasks/batch`: all of the bodies become tasks, in one commit, or none does. One key covers the batch.
pub async fn submit_batch(
    api: Data<Api>,
    caller: Caller,
    request: HttpRequest,
    mut payload: Payload,
) -> Result<HttpResponse, Problem> {
    let body = body::read_json(&request, &mut payload, BATCH_BYTES.max(api.max_body)).await?;
    Query::of(&request, &[], None)?;
    let body = json::check(&body)?;
    let mut tasks = knowing_all(&api, |registry| new_tasks(registry, &caller, body)).await?;
    let span = traced(&mut tasks);
    let key = key_of(&request, &caller, body)?;
    let submission = Submission { tasks, key };
    let admitted = admission::admit(&api, &caller, &request, &submission).await?;
    let submitted = api.core.submit(submission).instrument(span).await?;
    api.look_for_workers(&submitted.tasks);
    count(&api, &submitted);
    let Some(first) = submitted.tasks.first() else {
        return Err(Problem::task_gone());
    };
    let mut response = HttpResponse::Accepted();
    say_when_to_ask_again(&mut response, &api, first);
    if submitted.replayed {
        response.insert_header((REPLAYED, "true"));
    }
    let mut views = Vec::with_capacity(submitted.tasks.len());
    for task in &submitted.tasks {
        views.push(api.outlook.view(task).await);
    }
    let mut response = response.json(views);
    admitted.tell(response.headers_mut());
    Ok(response)
}

/// Gives these tasks the trace context that their attempts continue, and returns the span of their submit, as
/// OpenTelemetry's semantic conventions for messaging say. Where nothing is exported there is no span, and the context is
/// the caller's.
fn traced(tasks: &mut [NewTask]) -> Span {
    let span = match tasks.first() {
        Some(first) if telemetry::is_exporting() => tracing::info_span!(
            "submit",
            otel.name = format!("submit {}", first.queue),
            otel.kind = "producer",
            messaging.system = "longrun",
            messaging.operation.name = "submit",
            messaging.operation.type = "send",
            messaging.destination.name = first.queue,
            messaging.message.id = (tasks.len() == 1).then(|| first.id.to_string()),
            messaging.batch.message_count = (tasks.len() > 1).then_some(tasks.len() as u64),
        ),
        _ => Span::none(),
    };
    let context = span.in_scope(telemetry::current_traceparent);
    tasks.iter_mut().for_each(|task| task.trace_context.clone_from(&context));
    span
}

/// A replay accepts nothing new.
fn count(api: &Api, submitted: &Submitted) {
    if !submitted.replayed {
        submitted.tasks.iter().for_each(|task| api.core.metrics.http.submitted(&task.task_type));
    }
}

fn key_of(request: &HttpRequest, caller: &Caller, body: &str) -> Result<Option<IdempotencyKey>, Problem> {
    Ok(idempotency::key_of(request)?.map(|key| IdempotencyKey {
        // A caller without a name shares the keys of all others without one.
        scope: caller.owner.clone().unwrap_or_default(),
        key,
        fingerprint: idempotency::fingerprint(body).to_vec(),
    }))
}

/// 202 with the task, or 200 when it has ended while the answer was held.
async fn accepted(api: &Api, task: &Task, wait: Option<Wait>) -> HttpResponse {
    let mut response = match wait.is_some() && task.status.is_final() {
        true => HttpResponse::Ok(),
        false => HttpResponse::Accepted(),
    };
    response.insert_header((LOCATION, path_of(task.id))).insert_header((VARY, "Prefer"));
    if let Some(applied) = wait.and_then(Wait::applied) {
        response.insert_header((PREFERENCE_APPLIED, applied));
    }
    say_when_to_ask_again(&mut response, api, task);
    response.json(api.outlook.view(task).await)
}

/// Reads bodies. Where one names a type that this replica does not know, it is read once more with whatever has been
/// declared by now: another replica may have answered the declaration.
async fn knowing_all<T>(api: &Api, read: impl Fn(&Registry) -> Result<T, Unacceptable>) -> Result<T, Problem> {
    match read(&api.types.now().registry) {
        Err(Unacceptable { unknown_type: true, .. }) => {
            api.types.catch_up().await?;
            Ok(read(&api.types.now().registry)?)
        }
        known => Ok(known?),
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Malformed(detail) => Problem::new(Code::MalformedJson, detail),
            Refusal::Invalid(findings) => Problem::invalid(Code::InvalidJson, findings),
        }
    }
}

/// Why a body is not a task of this server.
#[derive(Debug)]
pub struct Unacceptable {
    code: Code,
    findings: Vec<Finding>,
    /// A body names a type that is not known here.
    unknown_type: bool,
}

impl From<Unacceptable> for Problem {
    fn from(unacceptable: Unacceptable) -> Self {
        Problem::invalid(unacceptable.code, unacceptable.findings)
    }
}

/// The tasks that a checked array of bodies asks for. What is wrong is told with the place in the array in front.
fn new_tasks(registry: &Registry, caller: &Caller, body: &str) -> Result<Vec<NewTask>, Unacceptable> {
    let whole = |detail: String| Unacceptable {
        code: Code::InvalidInput,
        findings: vec![Finding { pointer: String::new(), detail }],
        unknown_type: false,
    };
    let Some(bodies) = json::elements(body) else {
        return Err(whole("the body must be an array of task bodies".to_owned()));
    };
    if bodies.is_empty() || bodies.len() > LARGEST_BATCH {
        return Err(whole(format!("a batch has 1 to {LARGEST_BATCH} bodies; this one has {}", bodies.len())));
    }
    let mut tasks = Vec::with_capacity(bodies.len());
    let mut wrong: Option<Unacceptable> = None;
    for (index, body) in bodies.into_iter().enumerate() {
        match new_task(registry, caller, body) {
            Ok(task) => tasks.push(task),
            Err(unacceptable) => {
                let Unacceptable { code, unknown_type, .. } = unacceptable;
                let all = wrong.get_or_insert(Unacceptable { code, findings: Vec::new(), unknown_type });
                all.unknown_type |= unknown_type;
                if all.code != unacceptable.code {
                    all.code = Code::InvalidInput;
                }
                let under = |finding: Finding| Finding { pointer: format!("/{index}{}", finding.pointer), ..finding };
                all.findings.extend(unacceptable.findings.into_iter().map(under));
                if all.findings.len() >= MAX_FINDINGS {
                    break;
                }
            }
        }
    }
    match wrong {
        None => Ok(tasks),
        Some(mut unacceptable) => {
            unacceptable.findings.truncate(MAX_FINDINGS);
            Err(unacceptable)
        }
    }
}

/// The task that a checked body asks for.
pub fn new_task(registry: &Registry, caller: &Caller, body: &str) -> Result<NewTask, Unacceptable> {
    let invalid = |findings| Unacceptable { code: Code::InvalidInput, findings, unknown_type: false };
    let parts = Parts::split(body).map_err(invalid)?;
    let Some(kind) = registry.get(&parts.task_type) else {
        let name = (parts.task_type.len() <= LONGEST_SHOWN).then(|| format!("{:?} ", parts.task_type));
        let detail = name.unwrap_or_default() + "names no task type of this server: GET /task-types lists them";
        let findings = vec![Finding { pointer: "/task_type".into(), detail }];
        return Err(Unacceptable { code: Code::UnknownTaskType, findings, unknown_type: true });
    };
    kind.check(&parts.input).map_err(invalid)?;
    let defaults = kind.defaults();
    let options = parts.options;
    Ok(NewTask {
        id: TaskId::new(),
        // Under its own name, whatever alias it came by.
        task_type: kind.name().to_owned(),
        queue: options.queue.unwrap_or_else(|| defaults.queue.into_owned()),
        priority: options.priority.unwrap_or_default(),
        owner: caller.owner.clone(),
        input: parts.input,
        metadata: parts.metadata,
        max_attempts: options.max_attempts.unwrap_or(defaults.retry.max_attempts),
        max_lost: options.max_lost.unwrap_or(DEFAULT_MAX_LOST),
        timeout: options.timeout.or(defaults.timeout),
        start: options.start.unwrap_or(Start::Now),
        expires_in: options.expires_in,
        // Given with the submit.
        trace_context: None,
    })
}

/// A body, taken apart: the three reserved keys, and what belongs to the task type.
#[derive(Debug)]
struct Parts {
    task_type: String,
    metadata: Box<RawValue>,
    options: Options,
    /// All other members, spelled as they came.
    input: Box<RawValue>,
}

impl Parts {
    fn split(body: &str) -> Result<Self, Vec<Finding>> {
        let finding = |pointer: &str, detail: &str| Finding { pointer: pointer.into(), detail: detail.into() };
        let Some(members) = json::members(body) else {
            return Err(vec![finding("", "the body must be a JSON object")]);
        };
        let mut findings = Vec::new();
        let mut task_type = DEFAULT_TYPE.to_owned();
        let mut metadata = "{}";
        let mut options = Options::default();
        let mut input = String::with_capacity(body.len());
        for member in &members {
            match &*member.key {
                "task_type" if member.value.starts_with('"') => task_type = json::decoded(member.value).into_owned(),
                "task_type" => findings.push(finding("/task_type", "must be a string")),
                "metadata" if member.value.starts_with('{') => metadata = member.value,
                "metadata" => findings.push(finding("/metadata", "must be an object")),
                "options" => match Options::read(member.value) {
                    Ok(read) => options = read,
                    Err(more) => findings.extend(more),
                },
                _ => {
                    input.push(if input.is_empty() { '{' } else { ',' });
                    input.extend([member.key_text, ":", member.value]);
                }
            }
        }
        input.push_str(if input.is_empty() { "{}" } else { "}" });
        if !findings.is_empty() {
            return Err(findings);
        }
        // Both texts are pieces of a body that has been checked.
        let raw = |text: String| {
            RawValue::from_string(text).map_err(|error| vec![finding("", &format!("cannot be read: {error}"))])
        };
        Ok(Self { task_type, metadata: raw(metadata.to_owned())?, options, input: raw(input)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::model::Priority;

    fn split(body: &str) -> Result<Parts, Vec<Finding>> {
        Parts::split(json::check(body.as_bytes()).unwrap())
    }

    #[test]
    fn the_input_keeps_its_spelling() {
        let parts = split(
            r#"{ "vector_data" : [0.10, 2E1], "metadata":{"n": 1.0}, "d\u0075ration":5,"options":{"priority":"low"} }"#,
        )
        .unwrap();
        assert_eq!(parts.task_type, "vector_processing");
        assert_eq!(parts.input.get(), r#"{"vector_data":[0.10, 2E1],"d\u0075ration":5}"#);
        assert_eq!(parts.metadata.get(), r#"{"n": 1.0}"#);
        assert_eq!(parts.options.priority, Some(Priority::Low));

        let parts = split(r#"{"\u0074ask_type":"web_scrape"}"#).unwrap();
        assert_eq!((parts.task_type.as_str(), parts.input.get()), ("web_scrape", "{}"));
    }

    #[test]
    fn reserved_keys_of_the_wrong_kind_are_told_together() {
        let findings = split(r#"{"task_type":1,"metadata":[],"options":{"x":1,"delay":2}}"#).unwrap_err();
        let pointers: Vec<_> = findings.iter().map(|finding| finding.pointer.as_str()).collect();
        assert_eq!(pointers, ["/task_type", "/metadata", "/options/x", "/options/delay"]);
        for body in ["[]", "1", "\"x\"", "null"] {
            assert_eq!(split(body).unwrap_err()[0].pointer, "");
        }
        assert!(split(r#"{"metadata":null}"#).is_err());
    }
}
