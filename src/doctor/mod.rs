//! Doctor: looks whether the servers around this program, and its own settings, are as they should be.
//!
//! It reads and changes nothing. Each finding is a sentence with its remedy; what is in order is said too, so that a
//! clean report shows what was looked at. What a server does not tell (a managed Redis may hide its configuration) is
//! left out.

mod postgres;
mod redis;
mod settings;

use std::fmt;

use serde::Serialize;

use crate::config;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// As it should be.
    Ok,
    /// It works, and something is lost or slower than it need be.
    Warn,
    /// Tasks cannot be accepted or run, or what was promised cannot be kept.
    Fail,
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// How bad it is.
    pub level: Level,
    /// Whose it is: PostgreSQL, Redis or the settings.
    pub subject: &'static str,
    /// What was found.
    pub message: String,
    /// What to do; only where there is something to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fix: Option<String>,
}

/// What is looked at.
pub struct Patient<'a> {
    /// PostgreSQL.
    pub postgres: &'a config::Postgres,
    /// Redis.
    pub redis: &'a config::Redis,
    /// How workers are set up.
    pub work: &'a config::Work,
    /// Processes that share PostgreSQL's connections; `None`: the live workers and one server.
    pub processes: Option<u32>,
    /// Why `serve` or `work` would not start with its settings.
    pub wrong: &'a [String],
}

/// All findings, in the order in which they were made.
pub struct Report(Vec<Finding>);

/// Looks at everything.
pub async fn examine(patient: &Patient<'_>) -> Report {
    let mut findings = postgres::examine(patient).await;
    findings.extend(redis::examine(patient.redis).await);
    findings.extend(settings::refused(patient.wrong));
    findings.extend(settings::examine(patient.work));
    Report(findings)
}

/// What of a worker's settings works and is unwise: lines for the log of one that starts.
pub fn doubts(work: &config::Work) -> Vec<String> {
    let unwise = settings::examine(work).into_iter().filter(|finding| finding.level == Level::Warn);
    unwise.map(|finding| format!("{}; fix: {}", finding.message, finding.fix.unwrap_or_default())).collect()
}

impl Report {
    /// The worst of all.
    pub fn worst(&self) -> Level {
        self.0.iter().map(|finding| finding.level).max().unwrap_or(Level::Ok)
    }

    /// For programs: a JSON array.
    pub fn json(&self) -> serde_json::Result<String> {
        serde_json::to_string_pretty(&self.0)
    }
}

/// A line for what is in order of each subject, and one for each thing that is not.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut subjects: Vec<&str> = self.0.iter().map(|finding| finding.subject).collect();
        subjects.dedup();
        for subject in subjects {
            let of_subject = || self.0.iter().filter(|finding| finding.subject == subject);
            let good: Vec<&str> =
                of_subject().filter(|finding| finding.level == Level::Ok).map(|finding| &*finding.message).collect();
            if !good.is_empty() {
                writeln!(f, "ok    {subject} {}", good.join(" · "))?;
            }
            for finding in of_subject().filter(|finding| finding.level != Level::Ok) {
                let word = if finding.level == Level::Fail { "fail" } else { "warn" };
                write!(f, "{word}  {subject} {}", finding.message)?;
                match &finding.fix {
                    Some(fix) => writeln!(f, "        fix: {fix}")?,
                    None => writeln!(f)?,
                }
            }
        }
        Ok(())
    }
}

/// Findings about one subject.
struct Findings {
    subject: &'static str,
    all: Vec<Finding>,
}

impl Findings {
    fn about(subject: &'static str) -> Self {
        Self { subject, all: Vec::new() }
    }

    fn ok(&mut self, message: impl Into<String>) {
        self.add(Level::Ok, message.into(), None);
    }

    fn warn(&mut self, message: impl Into<String>, fix: impl Into<String>) {
        self.add(Level::Warn, message.into(), Some(fix.into()));
    }

    fn fail(&mut self, message: impl Into<String>, fix: impl Into<String>) {
        self.add(Level::Fail, message.into(), Some(fix.into()));
    }

    /// Of a server that was not asked, because the setting that says where it is cannot be.
    fn wrong_setting(&mut self, error: &anyhow::Error) {
        self.fail(format!("was not asked: {error:#}"), "correct the setting: serve and work do not start with it");
    }

    fn add(&mut self, level: Level, message: String, fix: Option<String>) {
        // One finding is one line, whatever a server's message contains.
        let message = message.split_whitespace().collect::<Vec<_>>().join(" ");
        self.all.push(Finding { level, subject: self.subject, message, fix });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_in_order_is_one_line_and_the_rest_has_its_remedy() {
        let mut findings = Findings::about("Redis");
        findings.ok("7.0.15");
        findings.warn("keeps\nnothing", "CONFIG SET appendonly yes");
        findings.ok("noeviction");
        let report = Report(findings.all);
        assert_eq!(
            report.to_string(),
            "ok    Redis 7.0.15 · noeviction\nwarn  Redis keeps nothing        fix: CONFIG SET appendonly yes\n"
        );
        assert_eq!(report.worst(), Level::Warn);
        let json: serde_json::Value = serde_json::from_str(&report.json().unwrap()).unwrap();
        assert_eq!(json[1]["level"], "warn");
        assert_eq!(json[0].get("fix"), None);
    }
}
