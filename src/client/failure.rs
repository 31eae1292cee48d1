//! Failure: why a client command could not do what it was told, for people or, with `--json`, as a problem object.

use std::{fmt, io};

use serde::Deserialize;
use serde_json::{Value, json};

use super::exit::Exit;

/// One failure.
#[derive(Debug, Clone)]
pub struct Failure {
    /// How the program ends.
    pub exit: Exit,
    /// What is wrong and what to do. May hold text of the server: make it safe before it is shown.
    pub message: String,
    /// The problem+json object of the server, as it came.
    pub problem: Option<String>,
}

/// The members of a problem that people are told (RFC 9457).
#[derive(Deserialize, Default)]
struct Problem {
    title: Option<String>,
    detail: Option<String>,
    code: Option<String>,
    request_id: Option<String>,
    #[serde(default)]
    errors: Vec<Finding>,
}

#[derive(Deserialize)]
struct Finding {
    pointer: String,
    detail: String,
}

impl Failure {
    /// A failure of our own.
    pub fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, message: message.into(), problem: None }
    }

    /// A command line that cannot be carried out.
    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(Exit::Usage, message)
    }

    /// What nobody reckoned with.
    pub fn unexpected(message: impl Into<String>) -> Self {
        Self::new(Exit::Unexpected, message)
    }

    /// An answer that is an error.
    pub fn of_answer(status: u16, body: &str) -> Self {
        let Ok(problem) = serde_json::from_str::<Problem>(body) else {
            let exit = Exit::of_problem(status, None);
            let text = match exit {
                Exit::Unexpected => format!("the server answered {status}: is this the address of a longrun server?"),
                _ => format!("the server, or a proxy before it, answered {status}"),
            };
            return Self::new(exit, text);
        };
        let exit = Exit::of_problem(status, problem.code.as_deref());
        let mut message = problem.title.unwrap_or_else(|| "the request failed".to_owned());
        if let Some(detail) = problem.detail {
            message = format!("{message}: {detail}");
        }
        let code = problem.code.map(|code| format!(" {code}")).unwrap_or_default();
        message = format!("{message} ({status}{code})");
        // A single one is what the detail says.
        for finding in problem.errors.iter().filter(|_| problem.errors.len() > 1) {
            message = format!("{message}\n  {}  {}", finding.pointer, finding.detail);
        }
        if let Some(id) = problem.request_id.filter(|_| status >= 500) {
            message = format!("{message}\n  request {id}");
        }
        Self { exit, message, problem: Some(body.to_owned()) }
    }

    /// The same, with what this program says to a problem beside what the API says to all programs. `again` is what a
    /// command needs to reach the same server.
    #[must_use]
    pub fn with_hint(mut self, again: &str) -> Self {
        let problem = self.problem.as_deref().and_then(|text| serde_json::from_str::<Problem>(text).ok());
        let hint = match problem.and_then(|problem| problem.code).as_deref() {
            Some("path_not_found") => "is --url (APP_URL) right, and the server as new as this program?".to_owned(),
            Some("unauthorized") => "APP_TOKEN (--token) must hold a good key: 'app keys create' makes one".to_owned(),
            Some("unknown_task_type") => format!("'app types{again}' lists them"),
            _ => return self,
        };
        self.message = format!("{}\n{hint}", self.message);
        self
    }

    /// The failure as one JSON object: the server's own, or one of the same shape.
    pub fn json(&self) -> String {
        if let Some(problem) = &self.problem {
            return problem.clone();
        }
        let (code, title) = match self.exit {
            Exit::Usage => ("usage", "The command cannot be carried out as it is written"),
            Exit::Away => ("no_connection", "The server cannot be reached"),
            Exit::WaitOver => ("wait_over", "The time for waiting is over"),
            Exit::TaskFailed | Exit::TaskCancelled => ("no_result", "The task has no result"),
            _ => ("client_error", "The command failed"),
        };
        let body: Value = json!({"type": "about:blank", "title": title, "detail": self.message, "code": code});
        body.to_string()
    }
}

impl From<io::Error> for Failure {
    /// Of writing to stdout: whoever read it may leave when it has seen enough.
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::new(Exit::NoReader, ""),
            _ => Self::unexpected(format!("cannot write the output: {error}")),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_is_told_whole() {
        let body = r#"{"title":"The input is invalid","status":422,"detail":"2 parts are wrong","code":"invalid_input",
            "errors":[{"pointer":"/url","detail":"is missing"},{"pointer":"/uri","detail":"unknown"}],"request_id":"r"}"#;
        let failure = Failure::of_answer(422, body);
        assert_eq!(failure.exit, Exit::Refused);
        assert_eq!(
            failure.message,
            "The input is invalid: 2 parts are wrong (422 invalid_input)\n  /url  is missing\n  /uri  unknown"
        );
        assert_eq!(failure.json(), body);
    }

    #[test]
    fn what_to_do_here_is_told_beside() {
        let told = |code: &str| {
            let problem = json!({"title": "No", "code": code}).to_string();
            Failure::of_answer(422, &problem).with_hint(" --url http://x").message
        };
        assert_eq!(told("unknown_task_type"), "No (422 unknown_task_type)\n'app types --url http://x' lists them");
        assert_eq!(told("invalid_input"), "No (422 invalid_input)");
    }

    #[test]
    fn another_program_at_the_address_is_named_as_such() {
        let failure = Failure::of_answer(404, "<html>nothing here");
        assert_eq!(failure.exit, Exit::Unexpected);
        assert!(failure.message.contains("address"), "{failure}");
        assert_eq!(Failure::of_answer(502, "<html>").exit, Exit::Away);
    }

    #[test]
    fn a_failure_of_our_own_has_the_same_shape() {
        let body: Value = serde_json::from_str(&Failure::usage("no").json()).unwrap();
        assert_eq!((&body["code"], &body["detail"]), (&json!("usage"), &json!("no")));
    }
}
