//! An operation: one method of one path, put together word by word and then written as OpenAPI has it.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::super::{access::Access, problem::Code};

/// Any request may be answered with these: what HTTP itself refuses, and our own failures.
const ALWAYS: &[Code] = &[Code::BadRequest, Code::UriTooLong, Code::HeadersTooLarge, Code::Internal, Code::Unavailable];

/// One method of one path.
pub struct Operation {
    /// In capitals.
    pub method: &'static str,
    /// As in the routes.
    pub path: &'static str,
    id: &'static str,
    tag: &'static str,
    summary: &'static str,
    description: &'static str,
    parameters: Vec<Value>,
    body: Option<Value>,
    answers: Vec<Answer>,
    problems: Vec<Code>,
    access: Access,
}

/// What comes back when it went well.
pub struct Answer {
    status: u16,
    description: &'static str,
    content: Option<(&'static str, Value)>,
    headers: Vec<(&'static str, Presence)>,
    links: Map<String, Value>,
}

/// Whether a header is in every answer of its kind.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Presence {
    Always,
    Sometimes,
}

/// Refers to a component.
pub fn reference(kind: &str, name: &str) -> Value {
    json!({"$ref": format!("#/components/{kind}/{name}")})
}

/// Refers to a schema.
pub fn schema(name: &str) -> Value {
    reference("schemas", name)
}

impl Operation {
    /// An operation without parameters, body or answers yet.
    pub fn new(method: &'static str, path: &'static str, id: &'static str) -> Self {
        Self {
            method,
            path,
            id,
            tag: "",
            summary: "",
            description: "",
            parameters: Vec::new(),
            body: None,
            answers: Vec::new(),
            // The router itself may answer: a slash in a variable part makes another path of it.
            access: Access::Public,
            problems: if path.contains('{') { vec![Code::PathNotFound] } else { Vec::new() },
        }
    }

    /// Where it belongs, what it does in a few words, and in a paragraph.
    pub fn about(mut self, tag: &'static str, summary: &'static str, description: &'static str) -> Self {
        (self.tag, self.summary, self.description) = (tag, summary, description);
        self
    }

    /// The parameters, by the names of their components.
    pub fn takes(mut self, parameters: &[&str]) -> Self {
        self.parameters.extend(parameters.iter().map(|name| reference("parameters", name)));
        self
    }

    /// A JSON body, with examples by name. What every body can fail with comes along.
    pub fn body(mut self, schema: Value, examples: impl IntoIterator<Item = (String, Value)>) -> Self {
        let examples: Map<String, Value> =
            examples.into_iter().map(|(name, value)| (name, json!({"value": value}))).collect();
        self.body = Some(json!({
            "required": true,
            "content": {"application/json": {"schema": schema, "examples": examples}},
        }));
        self.fails(&[
            Code::MalformedJson,
            Code::RequestTimeout,
            Code::BodyTooLarge,
            Code::UnsupportedMediaType,
            Code::InvalidJson,
        ])
    }

    /// One more answer.
    pub fn answers(mut self, answer: Answer) -> Self {
        self.answers.push(answer);
        self
    }

    /// Problems that it may answer with, beside those of every operation.
    pub fn fails(mut self, codes: &[Code]) -> Self {
        self.problems.extend(codes);
        self
    }

    /// Who may use it, with what that makes it fail with.
    pub fn open_to(mut self, access: Access) -> Self {
        self.access = access;
        if access != Access::Public {
            self.problems.push(Code::Unauthorized);
        }
        if matches!(access, Access::Only(_)) {
            self.problems.push(Code::Forbidden);
        }
        if self.method != "GET" {
            self.problems.push(Code::CrossSite);
        }
        self
    }

    /// As OpenAPI writes it.
    pub fn describe(self) -> Value {
        let mut responses: Map<String, Value> =
            self.answers.into_iter().map(|answer| (answer.status.to_string(), answer.describe())).collect();
        let mut by_status: BTreeMap<u16, Vec<Code>> = BTreeMap::new();
        for code in ALWAYS.iter().chain(&self.problems) {
            let codes = by_status.entry(code.status().as_u16()).or_default();
            if !codes.contains(code) {
                codes.push(*code);
            }
        }
        responses.extend(by_status.into_iter().map(|(status, codes)| (status.to_string(), problem(status, &codes))));
        let mut operation = json!({
            "operationId": self.id,
            "tags": [self.tag],
            "summary": self.summary,
            "description": format!("{}{}", self.description, self.access.in_words()),
            "responses": responses,
            "security": match self.access {
                Access::Public => json!([]),
                Access::Known | Access::Only(_) => json!([{"key": []}, {"session": []}]),
            },
        });
        if !self.parameters.is_empty() {
            operation["parameters"] = self.parameters.into();
        }
        if let Some(body) = self.body {
            operation["requestBody"] = body;
        }
        operation
    }
}

impl Answer {
    /// An answer without a body.
    pub fn empty(status: u16, description: &'static str) -> Self {
        Self { status, description, content: None, headers: Vec::new(), links: Map::new() }
    }

    /// An answer in JSON with an example.
    pub fn json(status: u16, description: &'static str, schema: Value, example: Value) -> Self {
        let content = json!({"schema": schema, "examples": {"answer": {"value": example}}});
        Self { content: Some(("application/json", content)), ..Self::empty(status, description) }
    }

    /// An answer of another kind, as text.
    pub fn text(status: u16, description: &'static str, media_type: &'static str) -> Self {
        let content = json!({"schema": {"type": "string"}});
        Self { content: Some((media_type, content)), ..Self::empty(status, description) }
    }

    /// A stream of server-sent events, whose data is JSON of one of these schemas. OpenAPI has words for the events
    /// of a stream since 3.2 only; until then it is custom that the schema is that of one event.
    pub fn events(description: &'static str, schemas: &[&str], examples: Vec<(&str, Value)>) -> Self {
        let data: Vec<Value> = schemas.iter().map(|name| schema(name)).collect();
        let examples: Map<String, Value> =
            examples.into_iter().map(|(name, event)| (name.to_owned(), json!({"value": event}))).collect();
        let content = json!({
            "schema": {
                "type": "object",
                "required": ["data"],
                "properties": {
                    "event": {"type": "string"},
                    "id": {"type": "string"},
                    "data": {
                        "type": "string", "contentMediaType": "application/json", "contentSchema": {"anyOf": data},
                    },
                },
            },
            "examples": examples,
        });
        Self { content: Some(("text/event-stream", content)), ..Self::empty(200, description) }
    }

    /// Headers that it always has, by the names of their components.
    pub fn with(mut self, headers: &[&'static str]) -> Self {
        self.headers.extend(headers.iter().map(|name| (*name, Presence::Always)));
        self
    }

    /// Headers that it may have.
    pub fn may_have(mut self, headers: &[&'static str]) -> Self {
        self.headers.extend(headers.iter().map(|name| (*name, Presence::Sometimes)));
        self
    }

    /// Where a client can go on with this answer: other operations, and where in the answer their `parameter` is.
    pub fn leads_to(mut self, parameter: &str, found_at: &str, operations: &[&str]) -> Self {
        for operation in operations {
            self.links.insert(
                (*operation).to_owned(),
                json!({"operationId": operation, "parameters": {parameter: found_at}}),
            );
        }
        self
    }

    fn describe(self) -> Value {
        let mut answer = json!({"description": self.description});
        let mut headers = self.headers;
        headers.push(("X-Request-Id", Presence::Always));
        answer["headers"] =
            headers.into_iter().map(|(name, presence)| (name.to_owned(), header(name, presence))).collect();
        if let Some((media_type, content)) = self.content {
            answer["content"] = json!({media_type: content});
        }
        if !self.links.is_empty() {
            answer["links"] = Value::Object(self.links);
        }
        answer
    }
}

fn header(name: &str, presence: Presence) -> Value {
    let component = match presence {
        Presence::Always => name.to_owned(),
        Presence::Sometimes => format!("{name}.optional"),
    };
    reference("headers", &component)
}

/// The answer of a status with all the codes that it may have here.
fn problem(status: u16, codes: &[Code]) -> Value {
    let words: Vec<&str> = codes.iter().map(|code| code.as_str()).collect();
    let lines: Vec<String> = codes.iter().map(|code| format!("`{}`: {}", code.as_str(), code.title())).collect();
    let examples: Map<String, Value> =
        words.iter().map(|word| ((*word).to_owned(), reference("examples", word))).collect();
    let mut headers = vec![("X-Request-Id", Presence::Always)];
    match status {
        429 | 503 => headers.push(("Retry-After", Presence::Always)),
        409 if codes.contains(&Code::StillStopping) => headers.push(("Retry-After", Presence::Sometimes)),
        _ => {}
    }
    if status == 401 {
        headers.push(("WWW-Authenticate", Presence::Always));
    }
    if status == 429 {
        headers.extend(["RateLimit", "RateLimit-Policy"].map(|name| (name, Presence::Always)));
    }
    let headers: Map<String, Value> =
        headers.into_iter().map(|(name, presence)| (name.to_owned(), header(name, presence))).collect();
    let mut schema = schema("Problem");
    schema["properties"] = json!({"status": {"const": status}, "code": {"enum": words}});
    json!({
        "description": lines.join("; "),
        "headers": headers,
        "content": {"application/problem+json": {"schema": schema, "examples": examples}},
    })
}
