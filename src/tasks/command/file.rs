//! File: command tasks as a TOML file declares them. Everything wrong in it is told with the file and the key.

use std::{
    collections::BTreeMap,
    fmt::Display,
    path::{Path, PathBuf},
    time::Duration,
};

use serde::Deserialize;
use serde_json::Value;

use super::Command;
use crate::{
    config::duration,
    core::model::{Declaration, RetryPolicy},
    tasks::{
        declared::Declared,
        process::{
            Limits,
            isolated::{GRACE, is_the_workers_own},
        },
    },
};

/// Exit code of a failure that may pass (sysexits.h, EX_TEMPFAIL).
const TEMPORARY: i32 = 75;
/// A stop takes no longer than this.
const LONGEST_GRACE: Duration = Duration::from_secs(60);

/// The file cannot be used. The text names it, the key, and what would be right.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("APP_TASKS: {0}")]
pub struct Unreadable(String);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    tasks: BTreeMap<String, Entry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    #[serde(default)]
    description: String,
    command: Vec<String>,
    input_schema: Option<Value>,
    queue: Option<String>,
    max_attempts: Option<i32>,
    backoff: Option<String>,
    longest_backoff: Option<String>,
    timeout: Option<String>,
    folder: Option<PathBuf>,
    #[serde(default)]
    environment: BTreeMap<String, String>,
    #[serde(default)]
    pass_environment: Vec<String>,
    retry_exit_codes: Option<Vec<i32>>,
    grace: Option<String>,
    #[serde(default)]
    limits: LimitsEntry,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct LimitsEntry {
    memory: Option<String>,
    data: Option<String>,
    cpu: Option<String>,
    files: Option<u64>,
    file_size: Option<String>,
}

/// Reads the command tasks of a file.
pub fn read(file: &Path) -> Result<Vec<Command>, Unreadable> {
    let wrong = |why: &dyn Display| Unreadable(format!("{}: {why}", file.display()));
    let text = std::fs::read_to_string(file).map_err(|error| wrong(&error))?;
    let folder = std::path::absolute(file).map_err(|error| wrong(&error))?;
    let folder = folder.parent().unwrap_or(Path::new("/"));
    parse(&text, folder).map_err(|why| wrong(&why))
}

fn parse(text: &str, folder: &Path) -> Result<Vec<Command>, String> {
    let File { tasks } = toml::from_str(text).map_err(|error| error.to_string())?;
    tasks
        .into_iter()
        .map(|(name, entry)| command(&name, entry, folder).map_err(|(key, why)| format!("tasks.{name}{key}: {why}")))
        .collect()
}

/// A command, or the key and what is wrong there.
fn command(name: &str, entry: Entry, folder: &Path) -> Result<Command, (String, String)> {
    let at = |key: &'static str| move |why: String| (key.to_owned(), why);
    let time = |key: &'static str, text: Option<String>| text.map(|text| duration(&text).map_err(at(key))).transpose();
    let size = |key: &'static str, text: Option<String>| text.map(|text| bytes(&text).map_err(at(key))).transpose();
    if entry.command.first().is_none_or(String::is_empty) {
        return Err((".command".into(), "must begin with a program: [\"python3\", \"work.py\"]".into()));
    }
    let Some(input_schema) = entry.input_schema else {
        let why =
            "is missing: the JSON Schema of the input. One that takes any object: input_schema = { type = \"object\" }";
        return Err((".input_schema".into(), why.into()));
    };
    let policy = RetryPolicy::default();
    let declaration = Declaration {
        name: name.to_owned(),
        description: entry.description,
        input_schema,
        queue: entry.queue.unwrap_or_else(|| "default".to_owned()),
        retry: RetryPolicy {
            max_attempts: entry.max_attempts.unwrap_or(policy.max_attempts),
            initial: time(".backoff", entry.backoff)?.unwrap_or(policy.initial),
            longest: time(".longest_backoff", entry.longest_backoff)?.unwrap_or(policy.longest),
        },
        timeout: time(".timeout", entry.timeout)?,
    };
    let declared = Declared::new(declaration).map_err(|findings| {
        let first = findings.into_iter().next().map(|finding| (finding.pointer, finding.detail));
        let (pointer, detail) = first.unwrap_or_default();
        (if pointer == "/name" { String::new() } else { pointer.replace('/', ".") }, detail)
    })?;
    let folder = folder.join(entry.folder.unwrap_or_default());
    if !folder.is_dir() {
        return Err((".folder".into(), format!("{} is no folder", folder.display())));
    }
    if let Some(own) = entry.pass_environment.iter().find(|name| is_the_workers_own(name)) {
        return Err((".pass_environment".into(), format!("{own} is the worker's own and is never passed on")));
    }
    let is_name = |name: &String| !name.is_empty() && !name.contains(['=', '\0']);
    if let Some(odd) = entry.environment.keys().chain(&entry.pass_environment).find(|name| !is_name(name)) {
        return Err((".environment".into(), format!("{odd:?} is not the name of a variable")));
    }
    let codes = entry.retry_exit_codes.unwrap_or_else(|| vec![TEMPORARY]);
    if let Some(odd) = codes.iter().find(|code| !(1..=255).contains(*code)) {
        return Err((".retry_exit_codes".into(), format!("{odd} is not an exit code of a failure: 1 to 255")));
    }
    let grace = time(".grace", entry.grace)?.unwrap_or(GRACE);
    if grace > LONGEST_GRACE {
        return Err((".grace".into(), "must be at most 1m: the slot is not free before".into()));
    }
    let limits = Limits {
        memory: size(".limits.memory", entry.limits.memory)?,
        data: size(".limits.data", entry.limits.data)?,
        cpu: time(".limits.cpu", entry.limits.cpu)?,
        files: entry.limits.files,
        file_size: size(".limits.file_size", entry.limits.file_size)?,
    };
    Ok(Command {
        declared,
        command: entry.command,
        folder,
        environment: entry.environment.into_iter().collect(),
        pass: entry.pass_environment,
        limits,
        grace,
        retry_exit_codes: codes,
    })
}

/// Reads `512MiB`, `2GiB`, `64KiB`.
fn bytes(text: &str) -> Result<u64, String> {
    let wrong = || format!("{text:?} is not a size: write 512MiB or 2GiB");
    let (number, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?);
    let unit: u64 = match unit.trim() {
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return Err(wrong()),
    };
    number.parse::<u64>().ok().and_then(|number| number.checked_mul(unit)).filter(|bytes| *bytes > 0).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tasks::registry::ErasedKind;

    const WHOLE: &str = r#"
        [tasks.resize]
        description = "Makes pictures smaller"
        command = ["sh", "resize.sh"]
        queue = "pictures"
        max_attempts = 2
        backoff = "1s"
        timeout = "5m"
        environment = { QUALITY = "80" }
        pass_environment = ["HTTP_PROXY"]
        retry_exit_codes = [75, 99]
        grace = "2s"
        limits = { memory = "512MiB", data = "1GiB", cpu = "10m", files = 64, file_size = "64KiB" }
        [tasks.resize.input_schema]
        type = "object"
        required = ["url"]
        properties.url.type = "string"
    "#;

    fn error(text: &str) -> String {
        parse(text, Path::new("/tmp")).err().unwrap_or_default()
    }

    #[test]
    fn a_whole_entry_is_read() {
        let commands = parse(WHOLE, Path::new("/tmp")).unwrap();
        let [command] = commands.as_slice() else { panic!("one command") };
        assert_eq!((command.name(), command.description()), ("resize", "Makes pictures smaller"));
        assert_eq!(command.defaults().queue, "pictures");
        assert_eq!(command.defaults().timeout, Some(Duration::from_secs(300)));
        assert_eq!(command.retry_exit_codes, [75, 99]);
        assert_eq!(command.limits.memory, Some(512 << 20));
        assert_eq!(command.limits.cpu, Some(Duration::from_secs(600)));
        assert!(command.find_program().is_ok());
        assert_eq!(parse("", Path::new("/tmp")).unwrap().len(), 0);
    }

    #[test]
    fn what_is_wrong_is_told_with_its_key() {
        for (change, to, place, words) in [
            ("max_attempts = 2", "max_attempt = 2", "max_attempt", "unknown field"),
            (r#"["sh", "resize.sh"]"#, "[]", "tasks.resize.command", "must begin with a program"),
            (r#"["sh", "resize.sh"]"#, r#""sh resize.sh""#, "command", "invalid type"),
            (r#""5m""#, r#""soon""#, "tasks.resize.timeout", "30s"),
            (r#""pictures""#, r#""A B""#, "tasks.resize.queue", "a-z"),
            (r#"type = "object""#, r#"type = "array""#, "tasks.resize.input_schema.type", "object"),
            (r#""512MiB""#, r#""512""#, "tasks.resize.limits.memory", "512MiB"),
            (r#""512MiB""#, r#""0MiB""#, "tasks.resize.limits.memory", "512MiB"),
            ("99]", "0]", "tasks.resize.retry_exit_codes", "exit code"),
            (r#""HTTP_PROXY""#, r#""DATABASE_URL""#, "tasks.resize.pass_environment", "never"),
            (r#"grace = "2s""#, r#"grace = "1h""#, "tasks.resize.grace", "1m"),
            (r#"queue = "pictures""#, r#"folder = "none""#, "tasks.resize.folder", "no folder"),
            ("[tasks.resize]", "[tasks.Resize]", "tasks", "a-z"),
        ] {
            let text = match change {
                "[tasks.resize]" => WHOLE.replace("tasks.resize", "tasks.Resize"),
                _ => WHOLE.replace(change, to),
            };
            let told = error(&text);
            assert!(told.contains(place) && told.contains(words), "{change} -> {to}: {told}");
        }
        let told = error("[tasks.t]\ncommand = [\"sh\"]");
        assert!(
            told.starts_with("tasks.t.input_schema: is missing") && told.contains("{ type = \"object\" }"),
            "{told}"
        );
    }
}
