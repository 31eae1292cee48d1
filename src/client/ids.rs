//! Ids: whole, or cut to an ending that only one of the newest tasks has.

use std::cell::OnceCell;

use serde::Deserialize;

use super::{
    api::Api,
    exit::Exit,
    failure::Failure,
    wire::{self, Status},
};

/// Characters of a whole id (a ULID in Crockford's base 32).
const WHOLE: usize = 26;
/// Characters of the shortest ending.
const SHORTEST: usize = 4;
/// Tasks among which an ending is looked up.
const NEWEST: usize = 1_000;
/// Candidates that are shown.
const SHOWN: usize = 10;

/// The ids of one command line.
pub struct Ids<'a> {
    api: &'a Api,
    newest: OnceCell<Vec<Known>>,
}

/// What is shown of a candidate.
#[derive(Debug, Deserialize)]
struct Known {
    task_id: String,
    task_type: String,
    status: Status,
}

impl<'a> Ids<'a> {
    /// On this server.
    pub fn on(api: &'a Api) -> Self {
        Self { api, newest: OnceCell::new() }
    }

    /// The whole ids, in the order given, each once.
    pub fn whole(&self, given: &[String]) -> Result<Vec<String>, Failure> {
        let mut ids = Vec::new();
        for text in given {
            let id = self.one(text)?;
            if !ids.contains(&id) {
                ids.push(id);
            }
        }
        Ok(ids)
    }

    /// The whole id.
    pub fn one(&self, given: &str) -> Result<String, Failure> {
        let ending = normal(given)?;
        if ending.len() == WHOLE {
            return Ok(ending);
        }
        let newest = match self.newest.get() {
            Some(newest) => newest,
            None => {
                let newest = wire::read(&self.api.get(&format!("/tasks?limit={NEWEST}"))?.body)?;
                self.newest.get_or_init(|| newest)
            }
        };
        choose(&ending, newest)
    }
}

/// Upper case, without the dots that tables put in place of the beginning.
fn normal(given: &str) -> Result<String, Failure> {
    let ending = given.trim_start_matches(['…', '.']).to_ascii_uppercase();
    let is_ours = ending.bytes().all(|byte| byte.is_ascii_alphanumeric());
    match ending.len() {
        SHORTEST..=WHOLE if is_ours => Ok(ending),
        _ => Err(Failure::usage(format!(
            "{given:?} is no task id: give all of its {WHOLE} letters and digits, or the last {SHORTEST} or more"
        ))),
    }
}

fn choose(ending: &str, newest: &[Known]) -> Result<String, Failure> {
    let found: Vec<_> = newest.iter().filter(|task| task.task_id.ends_with(ending)).collect();
    match found.as_slice() {
        [] => Err(Failure::new(
            Exit::NoSuchTask,
            format!("none of the newest {NEWEST} tasks ends in {ending}: give the whole id"),
        )),
        [one] => Ok(one.task_id.clone()),
        many => {
            let lines: String = many
                .iter()
                .take(SHOWN)
                .map(|task| format!("\n  {}  {}  {}", task.task_id, task.task_type, task.status.word()))
                .collect();
            Err(Failure::usage(format!("{} tasks end in {ending}: give more of the id{lines}", many.len())))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn newest() -> Vec<Known> {
        let known = |id: &str| Known { task_id: id.into(), task_type: "t".into(), status: Status::Running };
        ["01M855Z9FNVC7F7BJMWV67JG2H", "01M855Z9FNVC7F7BJMWV60JG2H", "01M855Z9FNVC7F7BJMWV67AAAA"].map(known).into()
    }

    #[test]
    fn an_ending_names_one_task_or_none() {
        assert_eq!(choose("7JG2H", &newest()).unwrap(), "01M855Z9FNVC7F7BJMWV67JG2H");
        let ambiguous = choose("JG2H", &newest()).unwrap_err();
        assert_eq!(ambiguous.exit, Exit::Usage);
        assert!(ambiguous.message.contains("01M855Z9FNVC7F7BJMWV60JG2H"), "{ambiguous}");
        assert_eq!(choose("ZZZZ", &newest()).unwrap_err().exit, Exit::NoSuchTask);
    }

    #[test]
    fn an_ending_may_be_copied_from_a_table() {
        assert_eq!(normal("…7q3f").unwrap(), "7Q3F");
        assert_eq!(normal("...7Q3F").unwrap(), "7Q3F");
        for bad in ["7Q3", "", "7Q/3", "01M855Z9FNVC7F7BJMWV67JG2HX", "../../x"] {
            assert_eq!(normal(bad).unwrap_err().exit, Exit::Usage, "{bad}");
        }
    }
}
