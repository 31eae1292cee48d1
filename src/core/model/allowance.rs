//! Allowance: how much one delivery may leave behind: lines of its log, a checkpoint, a result, the text of its error.
//!
//! The one place that says so, for attempts inside the worker, in processes of their own and over HTTP alike.

use super::{Level, LogLine, storable};

/// Lines of one delivery beyond this many are dropped, with one line that says so.
pub(crate) const MAX_LOG_LINES: usize = 10_000;
/// And so many bytes.
const MAX_LOG_BYTES: usize = 4 * 1024 * 1024;
/// Longer lines are cut, with an ellipsis.
const MAX_LINE_BYTES: usize = 8 * 1024;
/// A checkpoint is a position and not the data: it is written again and again.
pub(crate) const MAX_CHECKPOINT_BYTES: usize = 1024 * 1024;
/// A deeper one could not be read back: serde_json ends at 128 levels, and PostgreSQL at some thousands.
const MAX_CHECKPOINT_DEPTH: usize = 127;
/// Longer texts of errors are cut.
const MAX_ERROR_BYTES: usize = 4 * 1024;

/// How much a delivery has logged.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Logged {
    /// How many lines.
    pub(crate) lines: usize,
    /// The bytes of their texts.
    pub(crate) bytes: usize,
    /// The line that says so has been written: nothing follows it.
    pub(crate) is_full: bool,
}

impl Logged {
    /// What becomes of the next line: it is written, cut to its length; or the line in its place says that further ones
    /// are dropped; or it is dropped.
    pub(crate) fn admit(&mut self, line: LogLine) -> Option<LogLine> {
        if self.is_full {
            return None;
        }
        let line = LogLine { message: cut(storable(&line.message).into_owned()), ..line };
        self.lines += 1;
        self.bytes += line.message.len();
        if self.lines < MAX_LOG_LINES && self.bytes <= MAX_LOG_BYTES {
            return Some(line);
        }
        self.is_full = true;
        Some(LogLine { level: Level::Warning, message: last_words(), ..line })
    }
}

/// The text of the last line of a full log.
pub(crate) fn last_words() -> String {
    format!("this delivery may write {MAX_LOG_LINES} lines and {MAX_LOG_BYTES} bytes; further lines are dropped")
}

/// A line of bounded length.
pub(crate) fn cut(mut text: String) -> String {
    if text.len() > MAX_LINE_BYTES {
        text.truncate(text.floor_char_boundary(MAX_LINE_BYTES - '…'.len_utf8()));
        text.push('…');
    }
    text
}

/// The text of an error as it can be stored, of bounded length.
pub(crate) fn error_text(text: &str) -> String {
    let mut text = storable(text).into_owned();
    text.truncate(text.floor_char_boundary(MAX_ERROR_BYTES));
    text
}

/// What a delivery wants to leave behind is larger than it may be: its task has failed, for good.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TooLarge {
    /// Stable, for programs.
    pub(crate) code: &'static str,
    /// For people.
    pub(crate) message: String,
}

/// Whether a checkpoint may be kept. `json` is JSON.
pub(crate) fn checkpoint(json: &str) -> Result<(), TooLarge> {
    const CODE: &str = "checkpoint_too_large";
    within(CODE, "checkpoint", json.len(), "bytes", MAX_CHECKPOINT_BYTES)?;
    within(CODE, "checkpoint", depth(json), "levels", MAX_CHECKPOINT_DEPTH)
}

/// Whether a result of so many bytes of JSON may be kept, where `most` are allowed (`APP_MAX_RESULT`).
pub(crate) fn result(bytes: usize, most: usize) -> Result<(), TooLarge> {
    within("result_too_large", "result", bytes, "bytes", most)
}

fn within(code: &'static str, what: &str, number: usize, unit: &str, most: usize) -> Result<(), TooLarge> {
    match number <= most {
        true => Ok(()),
        false => {
            Err(TooLarge { code, message: format!("the {what} has {number} {unit}, and may have {most} at most") })
        }
    }
}

/// How many arrays and objects are open at most at a time, in a text that is JSON.
fn depth(json: &str) -> usize {
    let (mut open, mut most, mut in_string, mut escaped) = (0_usize, 0, false, false);
    for byte in json.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => in_string = !in_string,
            _ if in_string => {}
            b'[' | b'{' => {
                open += 1;
                most = most.max(open);
            }
            b']' | b'}' => open = open.saturating_sub(1),
            _ => {}
        }
    }
    most
}

#[cfg(test)]
mod tests {
    use chrono::Utc;

    use super::*;

    fn written(logged: &mut Logged, count: usize, bytes: usize) -> Vec<LogLine> {
        let line = || LogLine { at: Utc::now(), level: Level::Info, message: "x".repeat(bytes) };
        (0..count).filter_map(|_| logged.admit(line())).collect()
    }

    #[test]
    fn a_log_ends_with_one_line_that_says_so() {
        for (bytes, expected) in [(10, MAX_LOG_LINES), (MAX_LINE_BYTES, MAX_LOG_BYTES / MAX_LINE_BYTES + 1)] {
            let mut logged = Logged::default();
            let lines = written(&mut logged, MAX_LOG_LINES + 7, bytes);
            assert_eq!(lines.len(), expected);
            let marks: Vec<_> = lines.iter().filter(|line| line.message == last_words()).collect();
            assert!(marks.len() == 1 && lines.last().is_some_and(|line| line.level == Level::Warning));
        }
    }

    #[test]
    fn a_checkpoint_is_as_deep_as_it_can_be_read_back() {
        let nested = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
        assert!(checkpoint(&nested(MAX_CHECKPOINT_DEPTH)).is_ok());
        assert!(serde_json::from_str::<serde_json::Value>(&nested(MAX_CHECKPOINT_DEPTH)).is_ok());
        let refused = checkpoint(&nested(MAX_CHECKPOINT_DEPTH + 1)).unwrap_err();
        assert_eq!((refused.code, refused.message.contains("128 levels")), ("checkpoint_too_large", true));
        assert!(serde_json::from_str::<serde_json::Value>(&nested(MAX_CHECKPOINT_DEPTH + 1)).is_err());
    }

    #[test]
    fn brackets_in_texts_do_not_count() {
        for (json, levels) in [("1", 0), ("[]", 1), (r#"{"[":["]\"[["]}"#, 2), (r#"["\\",[{}]]"#, 3), ("[[],[[]]]", 3)]
        {
            assert_eq!(depth(json), levels, "{json}");
        }
    }

    #[test]
    fn a_small_line_after_the_end_is_dropped_too() {
        let mut logged = Logged { bytes: MAX_LOG_BYTES - 3, ..Logged::default() };
        assert_eq!(written(&mut logged, 1, 4).len(), 1, "the line that says so");
        assert!(written(&mut logged, 1, 0).is_empty());
    }

    #[test]
    fn a_line_is_cut_between_characters() {
        let mut logged = Logged::default();
        let line = LogLine { at: Utc::now(), level: Level::Info, message: "é".repeat(MAX_LINE_BYTES) };
        let message = logged.admit(line).unwrap().message;
        assert!(message.len() <= MAX_LINE_BYTES && message.ends_with("é…"));
    }

    #[test]
    fn the_text_of_an_error_is_cut_between_characters() {
        assert_eq!(error_text("no\0"), "no\u{FFFD}");
        let cut = error_text(&format!("x{}", "é".repeat(MAX_ERROR_BYTES)));
        assert!(cut.len() == MAX_ERROR_BYTES - 1 && cut.ends_with('é'));
    }
}
