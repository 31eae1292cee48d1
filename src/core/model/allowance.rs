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
/// Levels of a checkpoint and of a result. Readers of answers that have them, and are some levels deeper, end at 128
/// (serde_json), or at 1,000 (Python); PostgreSQL takes thousands.
const MAX_DEPTH: usize = 120;
/// A number of no more digits is not too large for a double, unless it has an exponent.
const SHORT_NUMBER: usize = 300;
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

/// What a delivery may leave behind as JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kept {
    /// A position.
    Checkpoint,
    /// What was asked for.
    Result,
}

impl Kept {
    /// As messages call it.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Kept::Checkpoint => "checkpoint",
            Kept::Result => "result",
        }
    }

    fn too_large(self, message: String) -> TooLarge {
        let code = match self {
            Kept::Checkpoint => "checkpoint_too_large",
            Kept::Result => "result_too_large",
        };
        TooLarge { code, message }
    }

    /// Of a text that was not read to its end, because it has more bytes than it may have.
    pub(crate) fn too_long(self, most: usize) -> TooLarge {
        self.too_large(format!("the {} has more than the {most} bytes that it may have", self.word()))
    }
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
    within(Kept::Checkpoint, json, MAX_CHECKPOINT_BYTES)
}

/// Whether a result may be kept, where so many bytes are allowed (`APP_MAX_RESULT`). `json` is JSON.
pub(crate) fn result(json: &str, most: usize) -> Result<(), TooLarge> {
    within(Kept::Result, json, most)
}

fn within(kept: Kept, json: &str, most: usize) -> Result<(), TooLarge> {
    let (what, bytes) = (kept.word(), json.len());
    if bytes > most {
        return Err(kept.too_large(format!("the {what} has {bytes} bytes, and may have {most} at most")));
    }
    let Extent { depth, largest } = Extent::of(json);
    if depth > MAX_DEPTH {
        return Err(kept.too_large(format!("the {what} has {depth} levels, and may have {MAX_DEPTH} at most")));
    }
    if !largest.is_finite() {
        return Err(kept.too_large(format!("the {what} has a number that is too large for a double")));
    }
    Ok(())
}

/// What a reader of JSON has to bear, beside its length.
#[derive(Debug, PartialEq)]
struct Extent {
    /// Arrays and objects that are open at a time.
    depth: usize,
    /// The largest number without its sign, as most readers have it.
    largest: f64,
}

impl Extent {
    /// Of a text that is JSON.
    fn of(json: &str) -> Self {
        let is_number = |byte: &u8| matches!(byte, b'0'..=b'9' | b'.' | b'e' | b'E' | b'+' | b'-');
        let (bytes, mut at) = (json.as_bytes(), 0);
        let (mut extent, mut open) = (Self { depth: 0, largest: 0.0 }, 0_usize);
        while let Some(byte) = bytes.get(at) {
            let rest = &bytes[at + 1..];
            at += 1 + match byte {
                b'"' => string_length(rest),
                b'0'..=b'9' => {
                    let more = rest.iter().take_while(|byte| is_number(byte)).count();
                    // A short one without an exponent needs no look.
                    if more > SHORT_NUMBER || rest[..more].iter().any(|byte| matches!(byte, b'e' | b'E')) {
                        extent.largest = extent.largest.max(json[at..=at + more].parse().unwrap_or(0.0));
                    }
                    more
                }
                b'[' | b'{' => {
                    open += 1;
                    extent.depth = extent.depth.max(open);
                    0
                }
                b']' | b'}' => {
                    open = open.saturating_sub(1);
                    0
                }
                _ => 0,
            };
        }
        extent
    }
}

/// Bytes to the end of a string, its last quote included.
fn string_length(rest: &[u8]) -> usize {
    let mut escaped = false;
    let end = rest.iter().position(|byte| {
        let ends = *byte == b'"' && !escaped;
        escaped = *byte == b'\\' && !escaped;
        ends
    });
    end.map_or(rest.len(), |end| end + 1)
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
    fn what_is_kept_can_be_read_within_an_answer() {
        let nested = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
        let deepest = nested(MAX_DEPTH);
        assert!(checkpoint(&deepest).is_ok() && result(&deepest, 1_000).is_ok());
        let answer = format!(r#"{{"data":[{{"result":{deepest}}}]}}"#);
        assert!(serde_json::from_str::<serde_json::Value>(&answer).is_ok());
        let refused = checkpoint(&nested(MAX_DEPTH + 1)).unwrap_err();
        assert_eq!((refused.code, refused.message.contains("121 levels")), ("checkpoint_too_large", true));
        for number in ["1e400", "-1E+400", &"9".repeat(400)] {
            let refused = result(&format!("[1,{{\"a\":{number}}}]"), 1_000).unwrap_err();
            assert_eq!((refused.code, refused.message.contains("double")), ("result_too_large", true), "{number}");
        }
    }

    #[test]
    fn the_extent_of_a_text() {
        for (json, depth, largest) in [
            ("1", 0, 0.0),
            ("[]", 1, 0.0),
            (r#"{"[":["]\"[[ 1e400"]}"#, 2, 0.0),
            (r#"["\\",[{}]]"#, 3, 0.0),
            (r#"["\\\"",[[]],-2.5e3,1e-999]"#, 3, 2_500.0),
            ("-1e999", 0, f64::INFINITY),
            ("[true,false,null,12345]", 1, 0.0),
        ] {
            assert_eq!(Extent::of(json), Extent { depth, largest }, "{json}");
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
