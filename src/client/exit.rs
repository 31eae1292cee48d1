//! Exit: how a client command ends. Scripts read the number, so the table is a contract.

use std::{fmt, process::ExitCode};

/// The ways to end, by exit code. Of several tasks the worst decides: the order is from good to bad.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Exit {
    /// Done; after waiting: SUCCESS.
    Done,
    /// The task was cancelled.
    TaskCancelled,
    /// The task failed.
    TaskFailed,
    /// The time that was given for waiting is over.
    WaitOver,
    /// The task's state, or another use of the key, stands in the way.
    Conflict,
    /// There is no such task, or not any more.
    NoSuchTask,
    /// The server does not take the input.
    Refused,
    /// The caller may not do this.
    NotAllowed,
    /// The server cannot be reached, or is too busy.
    Away,
    /// The command line cannot be carried out.
    Usage,
    /// What nobody reckoned with.
    Unexpected,
    /// Whoever read our output has left. As a shell tells of a process that SIGPIPE ended.
    NoReader,
    /// Ctrl-C.
    Interrupted,
    /// SIGTERM.
    Terminated,
}

impl Exit {
    /// The number.
    pub fn code(self) -> u8 {
        match self {
            Exit::Done => 0,
            Exit::Unexpected => 1,
            Exit::Usage => 2,
            Exit::TaskFailed => 3,
            Exit::TaskCancelled => 4,
            Exit::NoSuchTask => 5,
            Exit::Refused => 6,
            Exit::NotAllowed => 7,
            Exit::Conflict => 8,
            Exit::Away => 9,
            Exit::WaitOver => 10,
            Exit::Interrupted => 130,
            Exit::NoReader => 141,
            Exit::Terminated => 143,
        }
    }

    /// What an answer of the API means, by its status and the `code` of its problem.
    pub fn of_problem(status: u16, code: Option<&str>) -> Self {
        match (status, code) {
            (422, Some("idempotency_key_reused")) => Exit::Conflict,
            (401 | 403, _) => Exit::NotAllowed,
            (404, Some("path_not_found") | None) => Exit::Unexpected,
            (404 | 410, _) => Exit::NoSuchTask,
            (409, _) => Exit::Conflict,
            (408 | 429 | 502 | 503 | 504, _) => Exit::Away,
            (400..=499, _) => Exit::Refused,
            _ => Exit::Unexpected,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        ExitCode::from(exit.code())
    }
}

/// The table as `--help` and the manual show it.
pub const TABLE: [(&str, &str); 13] = [
    ("0", "done; when waiting: SUCCESS"),
    ("1", "unexpected; doctor found a failure"),
    ("2", "wrong usage"),
    ("3", "task FAILED"),
    ("4", "task CANCELLED"),
    ("5", "no such task, or purged (404, 410)"),
    ("6", "refused: invalid input, unknown type, too large (400, 413, 422)"),
    ("7", "not allowed (401, 403)"),
    ("8", "conflict: already finished, key reused (409, 422 key)"),
    ("9", "server busy or away after retries (429, 503, no connection)"),
    ("10", "the wait ran out, the task goes on"),
    ("130", "detached by Ctrl-C; the task goes on"),
    ("143", "detached by SIGTERM; the task goes on"),
];

/// The table as text for the end of a `--help`.
pub fn table_text() -> String {
    let lines: String = TABLE.iter().map(|(code, meaning)| format!("  {code:>3}  {meaning}\n")).collect();
    format!("Exit codes:\n{}", lines.trim_end())
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.code())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_have_the_codes_of_the_table() {
        for (status, code, exit) in [
            (400, Some("malformed_json"), 6),
            (413, Some("body_too_large"), 6),
            (422, Some("unknown_task_type"), 6),
            (422, Some("idempotency_key_reused"), 8),
            (401, Some("unauthorized"), 7),
            (403, None, 7),
            (404, Some("task_not_found"), 5),
            (410, Some("task_gone"), 5),
            (404, Some("path_not_found"), 1),
            (404, None, 1),
            (409, Some("already_final"), 8),
            (429, Some("rate_limited"), 9),
            (503, Some("unavailable"), 9),
            (502, None, 9),
            (500, Some("internal_error"), 1),
        ] {
            assert_eq!(Exit::of_problem(status, code).code(), exit, "{status} {code:?}");
        }
    }

    #[test]
    fn the_worst_wins() {
        let worst = [Exit::Done, Exit::TaskFailed, Exit::TaskCancelled].into_iter().max();
        assert_eq!(worst, Some(Exit::TaskFailed));
        assert!(Exit::NoSuchTask > Exit::TaskFailed && Exit::Away > Exit::NoSuchTask);
    }

    #[test]
    fn the_manual_has_the_table() {
        let table: String = TABLE.iter().map(|(code, meaning)| format!("| {code} | {meaning} |\n")).collect();
        assert!(include_str!("../../docs/cli.md").contains(&table), "docs/cli.md must have this table:\n{table}");
    }
}
