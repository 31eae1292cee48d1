//! Text of tasks, made safe for a terminal, and cut to its width.
//!
//! A log line, a title or an error may hold anything, sequences that drive a terminal and characters that reverse its
//! text among them. Colour codes are dropped, every other control and direction character is shown as a sign.

use unicode_width::UnicodeWidthChar;

/// What the reader of a text can show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Charset {
    /// Everything.
    Unicode,
    /// A terminal without a UTF-8 locale: there a byte of a letter may be a control character.
    Ascii,
}

/// What becomes of line ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lines {
    /// They are shown as a sign: one text, one line.
    One,
    /// They stay.
    Many,
}

/// The text without anything that a terminal could obey.
pub fn safe(text: &str, lines: Lines, charset: Charset) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        if let Some(after) = colour_code(rest) {
            rest = after;
            continue;
        }
        rest = &rest[c.len_utf8()..];
        match c {
            '\n' if lines == Lines::Many => shown.push('\n'),
            '\r' if lines == Lines::Many && rest.starts_with('\n') => {}
            '\t' => shown.push_str("    "),
            '\0'..='\x1f' | '\x7f' if charset == Charset::Unicode => shown.push(picture(c)),
            c if c.is_control() || steers(c) || charset == Charset::Ascii && !c.is_ascii() => {
                shown.push_str(&format!("[U+{:04X}]", u32::from(c)));
            }
            c => shown.push(c),
        }
    }
    shown
}

/// JSON that goes to a terminal: the same value, with what a terminal could obey written as `\u…`.
pub fn safe_json(json: &str) -> String {
    let mut shown = String::with_capacity(json.len());
    for c in json.chars() {
        match c {
            '\n' | '\r' | '\t' => shown.push(c),
            c if c.is_control() || steers(c) => shown.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => shown.push(c),
        }
    }
    shown
}

/// JSON with a line for each member. Its tokens stay as they are: digits, escapes, order.
pub fn indented(json: &str) -> String {
    let mut shown = String::new();
    let (mut depth, mut in_string, mut escaped) = (0_usize, false, false);
    let mut rest = json.chars().peekable();
    while let Some(c) = rest.next() {
        if in_string {
            shown.push(c);
            in_string = escaped || c != '"';
            escaped = c == '\\' && !escaped;
            continue;
        }
        match c {
            c if c.is_ascii_whitespace() => {}
            '{' | '[' => {
                while rest.next_if(char::is_ascii_whitespace).is_some() {}
                shown.push(c);
                if let Some(end) = rest.next_if(|next| matches!(next, '}' | ']')) {
                    shown.push(end);
                } else {
                    depth += 1;
                    shown.push_str(&format!("\n{}", "  ".repeat(depth)));
                }
            }
            '}' | ']' => {
                depth = depth.saturating_sub(1);
                shown.push_str(&format!("\n{}{c}", "  ".repeat(depth)));
            }
            ',' => shown.push_str(&format!(",\n{}", "  ".repeat(depth))),
            ':' => shown.push_str(": "),
            c => {
                in_string = c == '"';
                shown.push(c);
            }
        }
    }
    shown
}

/// Columns that a text takes.
pub fn width(text: &str) -> usize {
    text.chars().map(|c| c.width().unwrap_or(0)).sum()
}

/// The text cut to so many columns, with `mark` where something was left out.
pub fn cut(text: &str, columns: usize, mark: &str) -> String {
    if width(text) <= columns {
        return text.to_owned();
    }
    let room = columns.saturating_sub(width(mark));
    let mut kept = String::new();
    let mut used = 0;
    for c in text.chars() {
        used += c.width().unwrap_or(0);
        if used > room {
            break;
        }
        kept.push(c);
    }
    kept + &mark.chars().take(columns).collect::<String>()
}

/// The text filled up with spaces to so many columns.
pub fn pad(text: &str, columns: usize) -> String {
    format!("{text}{}", " ".repeat(columns.saturating_sub(width(text))))
}

/// What follows a colour code (`ESC [ … m`) at the beginning of `text`, where there is one.
fn colour_code(text: &str) -> Option<&str> {
    let inside = text.strip_prefix("\x1b[").or_else(|| text.strip_prefix('\u{9b}'))?;
    let end = inside.find(|c: char| !c.is_ascii_digit() && c != ';' && c != ':')?;
    inside[end..].strip_prefix('m')
}

/// The sign for a control character (Unicode block Control Pictures).
fn picture(c: char) -> char {
    match u32::from(c) {
        0x7f => '\u{2421}',
        number => char::from_u32(0x2400 + number).unwrap_or('\u{fffd}'),
    }
}

/// Characters that turn the direction of a text (Unicode, UAX #9), end lines, or hide.
fn steers(c: char) -> bool {
    matches!(
        c,
        '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}'
            | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}'
    )
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn one(text: &str) -> String {
        safe(text, Lines::One, Charset::Unicode)
    }

    #[test]
    fn colours_are_dropped_and_the_rest_is_shown() {
        assert_eq!(one("\x1b[1;31mred\x1b[0m"), "red");
        assert_eq!(one("\x1b[2J\x1b]0;title\x07"), "␛[2J␛]0;title␇");
        assert_eq!(one("a\u{202e}b\u{2066}c\u{9b}5n"), "a[U+202E]b[U+2066]c[U+009B]5n");
        assert_eq!(one("a\r\nb\tc"), "a␍␊b    c");
        assert_eq!(safe("a\r\nb\rc", Lines::Many, Charset::Unicode), "a\nb␍c");
        assert_eq!(safe("Grüße \x1b", Lines::One, Charset::Ascii), "Gr[U+00FC][U+00DF]e [U+001B]");
        assert_eq!(one("\x1b["), "␛[");
        assert_eq!(safe_json("{\"a\":\"\u{202e}\u{9b}ü\"}"), r#"{"a":"\u202e\u009bü"}"#);
    }

    #[test]
    fn json_is_indented_as_it_came() {
        assert_eq!(
            indented(r#"{"a":[1.50, 2],"b": {},"c":"x, {\"y\": 1}\\","d":[ ]}"#),
            "{\n  \"a\": [\n    1.50,\n    2\n  ],\n  \"b\": {},\n  \"c\": \"x, {\\\"y\\\": 1}\\\\\",\n  \"d\": []\n}"
        );
    }

    #[test]
    fn cutting_counts_columns() {
        assert_eq!(cut("日本語", 5, "…"), "日本…");
        assert_eq!(cut("abc", 3, "…"), "abc");
        assert_eq!(cut("abcd", 3, "..."), "...");
        assert_eq!(cut("abcd", 0, "…"), "");
        assert_eq!(pad("日", 4), "日  ");
    }

    proptest! {
        #[test]
        fn nothing_that_a_terminal_obeys_comes_through(text in "\\PC*|[\\x00-\\x1f\\x7f-\u{9f}\u{200e}-\u{2069}\\[0-9;mA-H]{0,24}") {
            for charset in [Charset::Unicode, Charset::Ascii] {
                let shown = safe(&text, Lines::One, charset);
                prop_assert!(!shown.chars().any(|c| c.is_control() || steers(c)), "{shown:?}");
                prop_assert!(charset == Charset::Unicode || shown.is_ascii());
                prop_assert!(width(&cut(&shown, 7, "…")) <= 7);
            }
        }

        #[test]
        fn json_keeps_its_value(text in "\\PC*|[\u{80}-\u{9f}\u{200e}-\u{2069}\"\\\\]{0,12}") {
            let json = serde_json::to_string(&text).unwrap();
            let back: String = serde_json::from_str(&safe_json(&json)).unwrap();
            prop_assert_eq!(back, text);
        }
    }
}
