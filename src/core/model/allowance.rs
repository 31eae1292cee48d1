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

/// Whether a checkpoint of so many bytes of JSON may be kept.
pub(crate) fn checkpoint(bytes: usize) -> Result<(), TooLarge> {
    within("checkpoint_too_large", "checkpoint", bytes, MAX_CHECKPOINT_BYTES)
}

/// Whether a result of so many bytes of JSON may be kept, where `most` are allowed (`APP_MAX_RESULT`).
pub(crate) fn result(bytes: usize, most: usize) -> Result<(), TooLarge> {
    within("result_too_large", "result", bytes, most)
}

fn within(code: &'static str, what: &str, bytes: usize, most: usize) -> Result<(), TooLarge> {
    match bytes <= most {
        true => Ok(()),
        false => Err(TooLarge { code, message: format!("the {what} has {bytes} bytes, and may have {most} at most") }),
    }
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
