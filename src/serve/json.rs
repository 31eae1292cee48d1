//! JSON as it is accepted: one pass over the text of a request body that finds what a JSON parser lets through and
//! what must not come further.
//!
//! Syntax is `serde_json`'s business. The pass then walks the tokens with a stack of its own (no recursion, so depth
//! costs no thread stack) and finds duplicate keys, depth, integers outside i64 and u64, numbers that f64 cannot
//! hold, U+0000 and lone surrogates. It changes nothing: what is accepted is stored and given back with the digits,
//! the escapes and the order that came. See RFC 8259 and, for the rules beyond it, RFC 7493 (I-JSON).

use std::{borrow::Cow, collections::HashSet};

use serde_json::value::RawValue;

use crate::tasks::Finding;

/// Arrays and objects may be nested this deep.
pub const MAX_DEPTH: usize = 64;
/// A number may have this many decimal places: the smallest f64 has 1,074, and PostgreSQL's numeric ends at 16,383.
const MAX_DECIMAL_PLACES: i64 = 1_100;
/// Digits, with sign and point, of a number without an exponent that every type of number can hold: i64 has 18 and more.
const SHORT_NUMBER: usize = 18;
/// No more findings than this are told at a time.
const MAX_FINDINGS: usize = 20;

/// Why a text is not accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// It is not JSON: a sentence with line and column.
    Malformed(String),
    /// It is JSON, with these faults.
    Invalid(Vec<Finding>),
}

/// A member of an object, as it is spelled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member<'a> {
    /// The key, decoded.
    pub key: Cow<'a, str>,
    /// The key with its quotes and escapes.
    pub key_text: &'a str,
    /// The value's text.
    pub value: &'a str,
}

/// Checks a body from its first to its last byte.
pub fn check(body: &[u8]) -> Result<&str, Refusal> {
    let text = std::str::from_utf8(body)
        .map_err(|error| Refusal::Malformed(format!("the body is not UTF-8 from byte {} on", error.valid_up_to())))?;
    let raw: &RawValue = serde_json::from_str(text).map_err(|error| Refusal::Malformed(error.to_string()))?;
    let findings = Pass::default().run(raw.get());
    if findings.is_empty() { Ok(raw.get()) } else { Err(Refusal::Invalid(findings)) }
}

/// The members of an object in their order; `None` when the text is another kind of value. The text must have passed
/// [`check`].
pub fn members(object: &str) -> Option<Vec<Member<'_>>> {
    if !object.starts_with('{') {
        return None;
    }
    let mut members = Vec::new();
    let mut key: Option<&str> = None;
    for (value, is_key) in children(object) {
        match key.take() {
            None if is_key => key = Some(value),
            Some(key_text) => members.push(Member { key: decoded(key_text), key_text, value }),
            None => return None,
        }
    }
    Some(members)
}

/// The elements of an array in their order; `None` when the text is another kind of value. The text must have passed
/// [`check`].
pub fn elements(array: &str) -> Option<Vec<&str>> {
    array.starts_with('[').then(|| children(array).into_iter().map(|(value, _)| value).collect())
}

/// Adds one step to a JSON pointer (RFC 6901).
pub fn pointer_to(parent: &str, key: &str) -> String {
    format!("{parent}/{}", key.replace('~', "~0").replace('/', "~1"))
}

/// The text of a JSON string, without its escapes.
pub fn decoded(string: &str) -> Cow<'_, str> {
    if !string.contains('\\') {
        return Cow::Borrowed(string.trim_matches('"'));
    }
    // Only a lone surrogate can fail here, and the pass has told of it.
    Cow::Owned(serde_json::from_str(string).unwrap_or_default())
}

/// One token of a text that is known to be JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Token<'a> {
    /// `{` or `[`.
    Open(char),
    /// `}` or `]`.
    Close,
    /// `,`
    Comma,
    /// `:`
    Colon,
    /// A string with its quotes: a value or a key.
    String(&'a str),
    /// A number as written.
    Number(&'a str),
    /// `true`, `false` or `null`.
    Word(&'a str),
}

/// The tokens of a text that is known to be JSON, each with the offset of its first byte.
pub fn tokens(text: &str) -> impl Iterator<Item = (usize, Token<'_>)> {
    let bytes = text.as_bytes();
    let mut at = 0;
    std::iter::from_fn(move || {
        while matches!(bytes.get(at)?, b' ' | b'\t' | b'\n' | b'\r') {
            at += 1;
        }
        let start = at;
        let token = match bytes[at] {
            open @ (b'{' | b'[') => Token::Open(open as char),
            b'}' | b']' => Token::Close,
            b',' => Token::Comma,
            b':' => Token::Colon,
            b'"' => {
                at += 1;
                while !matches!(bytes.get(at), Some(b'"') | None) {
                    at += if bytes[at] == b'\\' { 2 } else { 1 };
                }
                Token::String(text.get(start..=at)?)
            }
            first => {
                while matches!(bytes.get(at + 1), Some(b'0'..=b'9' | b'a'..=b'z' | b'E' | b'+' | b'-' | b'.')) {
                    at += 1;
                }
                let word = text.get(start..=at)?;
                if first.is_ascii_alphabetic() { Token::Word(word) } else { Token::Number(word) }
            }
        };
        at += 1;
        Some((start, token))
    })
}

/// The texts directly inside an object (keys and values in turn) or an array, and whether a colon follows.
fn children(container: &str) -> Vec<(&str, bool)> {
    let mut found = Vec::new();
    let mut depth = 0;
    let mut start = None;
    for (at, token) in tokens(container) {
        match token {
            Token::Close => depth -= 1,
            Token::Comma | Token::Colon => {}
            _ if depth == 1 && start.is_none() => start = Some(at),
            _ => {}
        }
        let ends = (depth == 1 && matches!(token, Token::Comma | Token::Colon)) || depth == 0;
        if let (true, Some(from)) = (ends, start) {
            found.push((container[from..at].trim_ascii_end(), token == Token::Colon));
            start = None;
        }
        if matches!(token, Token::Open(_)) {
            depth += 1;
        }
    }
    found
}

/// Where the pass stands inside one array or object.
enum Level<'a> {
    Array { index: usize },
    Object { seen: HashSet<Cow<'a, str>>, key: Cow<'a, str>, awaits_key: bool },
}

#[derive(Default)]
struct Pass<'a> {
    levels: Vec<Level<'a>>,
    /// Containers below [`MAX_DEPTH`]: counted and not entered.
    too_deep: usize,
    findings: Vec<Finding>,
}

impl<'a> Pass<'a> {
    fn run(mut self, text: &'a str) -> Vec<Finding> {
        for (_, token) in tokens(text) {
            if self.findings.len() >= MAX_FINDINGS {
                break;
            }
            match token {
                Token::Open(_) if self.levels.len() == MAX_DEPTH => {
                    if self.too_deep == 0 {
                        self.find(format!("nested deeper than {MAX_DEPTH} levels"));
                    }
                    self.too_deep += 1;
                }
                Token::Close if self.too_deep > 0 => self.too_deep -= 1,
                _ if self.too_deep > 0 => {}
                Token::Open('[') => self.levels.push(Level::Array { index: 0 }),
                Token::Open(_) => {
                    self.levels.push(Level::Object { seen: HashSet::new(), key: Cow::Borrowed(""), awaits_key: true })
                }
                Token::Close => {
                    self.levels.pop();
                }
                Token::Comma => match self.levels.last_mut() {
                    Some(Level::Array { index }) => *index += 1,
                    Some(Level::Object { awaits_key, .. }) => *awaits_key = true,
                    None => {}
                },
                Token::Colon | Token::Word(_) => {}
                Token::Number(number) => self.number(number),
                Token::String(string) => self.string(string),
            }
        }
        self.findings
    }

    fn string(&mut self, string: &'a str) {
        if let Some(Level::Object { seen, key, awaits_key: awaits_key @ true }) = self.levels.last_mut() {
            *awaits_key = false;
            *key = decoded(string);
            if !seen.insert(key.clone()) {
                self.find("this key is there twice: leave one out".to_owned());
            }
        }
        if let Some(fault) = fault_of_escapes(string) {
            self.find(fault.to_owned());
        }
    }

    fn number(&mut self, number: &str) {
        // So short that it fits: most are, and parsing each would be a third of the pass over a long list of them.
        let is_plain = number.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'-' | b'.'));
        if is_plain && number.len() <= SHORT_NUMBER {
            return;
        }
        if !number.contains(['.', 'e', 'E']) {
            if number.parse::<i64>().is_err() && number.parse::<u64>().is_err() {
                self.find("an integer outside -2^63 to 2^64-1: send it as a string".to_owned());
            }
        } else if !number.parse::<f64>().is_ok_and(f64::is_finite) {
            self.find("a number too large for a 64-bit float: send it as a string".to_owned());
        } else if decimal_places(number) > MAX_DECIMAL_PLACES {
            self.find(format!("a number with more than {MAX_DECIMAL_PLACES} decimal places: send it as a string"));
        }
    }

    fn find(&mut self, detail: String) {
        let pointer = self.levels.iter().fold(String::new(), |pointer, level| match level {
            Level::Array { index } => pointer_to(&pointer, &index.to_string()),
            Level::Object { key, .. } => pointer_to(&pointer, key),
        });
        // A key with U+0000 would carry it into the answer, and from there into logs.
        self.findings.push(Finding { pointer: pointer.replace('\0', "\u{FFFD}"), detail });
    }
}

/// Digits after the decimal point once the exponent is written out.
fn decimal_places(number: &str) -> i64 {
    let (mantissa, exponent) = number.split_once(['e', 'E']).unwrap_or((number, "0"));
    let fraction = mantissa.split_once('.').map_or(0, |(_, digits)| digits.len() as i64);
    // An exponent that i64 cannot hold is hugely negative here: hugely positive ones are no f64 (or zero times ten to
    // the billions, which is refused with them).
    fraction.saturating_sub(exponent.parse().unwrap_or(i64::MIN))
}

/// What is wrong with the `\u` escapes of a string.
fn fault_of_escapes(string: &str) -> Option<&'static str> {
    let mut rest = string;
    let mut high_at_end = false;
    while let Some(at) = rest.find('\\') {
        let escape = &rest[at..];
        if high_at_end && at > 0 {
            return Some(LONE_SURROGATE);
        }
        let code = match escape.as_bytes().get(1) {
            Some(b'u') => escape.get(2..6).and_then(|digits| u16::from_str_radix(digits, 16).ok()),
            _ => None,
        };
        match code {
            Some(0) => return Some("U+0000 cannot be stored: leave it out"),
            Some(0xD800..=0xDBFF) if !high_at_end => high_at_end = true,
            Some(0xDC00..=0xDFFF) if high_at_end => high_at_end = false,
            Some(0xD800..=0xDFFF) => return Some(LONE_SURROGATE),
            _ if high_at_end => return Some(LONE_SURROGATE),
            _ => {}
        }
        rest = &escape[if code.is_some() { 6 } else { 2 }..];
    }
    high_at_end.then_some(LONE_SURROGATE)
}

const LONE_SURROGATE: &str = "half a surrogate pair is no character: send both halves or neither";

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn finding(body: &str) -> (String, String) {
        match check(body.as_bytes()) {
            Err(Refusal::Invalid(mut findings)) => {
                let first = findings.remove(0);
                (first.pointer, first.detail)
            }
            other => panic!("{body}: {other:?}"),
        }
    }

    #[test]
    fn what_is_not_json_is_malformed() {
        let bad: [&[u8]; 14] = [
            b"",
            b"{",
            b"{\"a\":}",
            b"{\"a\":1,}",
            b"[1 2]",
            b"{} {}",
            b"NaN",
            b"[Infinity]",
            b"[01]",
            b"[1.]",
            b"'a'",
            b"\"\\x\"",
            b"\"a\nb\"",
            b"\xff",
        ];
        for body in bad {
            assert!(matches!(check(body), Err(Refusal::Malformed(_))), "{:?}", String::from_utf8_lossy(body));
        }
    }

    #[test]
    fn what_json_lets_through_is_found_with_its_place() {
        for (body, pointer, words) in [
            (r#"{"a":1,"a":2}"#, "/a", "twice"),
            (r#"{"a":1,"\u0061":2}"#, "/a", "twice"),
            (r#"{"x":[{},{"b/~":1,"b/~":1}]}"#, "/x/1/b~1~0", "twice"),
            (r#"{"n":18446744073709551616}"#, "/n", "integer"),
            (r#"[0,-9223372036854775809]"#, "/1", "integer"),
            ("1e400", "", "too large"),
            ("[-1e309]", "/0", "too large"),
            ("[1e-20000]", "/0", "decimal places"),
            ("[0e-99999999999999999999]", "/0", "decimal places"),
            (r#"{"s":"a\u0000b"}"#, "/s", "U+0000"),
            (r#"{"\u0000":1}"#, "/\u{FFFD}", "U+0000"),
            (r#"["\ud800"]"#, "/0", "surrogate"),
            (r#"["\udc00"]"#, "/0", "surrogate"),
            (r#"["\ud800\n\udc00"]"#, "/0", "surrogate"),
            (r#"["\ud800x\udc00"]"#, "/0", "surrogate"),
            (r#"["\ud800\ud800\udc00"]"#, "/0", "surrogate"),
        ] {
            let (found, detail) = finding(body);
            assert_eq!(found, pointer, "{body}");
            assert!(detail.contains(words), "{body}: {detail}");
        }
    }

    #[test]
    fn depth_is_bounded_and_costs_no_stack() {
        let nested = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
        assert!(check(nested(MAX_DEPTH).as_bytes()).is_ok());
        assert!(finding(&nested(MAX_DEPTH + 1)).1.contains("nested deeper"));
        assert!(finding(&nested(500_000)).1.contains("nested deeper"));
        let objects = "{\"a\":".repeat(100) + "1" + &"}".repeat(100);
        assert!(finding(&objects).1.contains("nested deeper"));
    }

    #[test]
    fn what_is_accepted_stays_as_it_came() {
        for body in [
            r#"{"a":0.10,"b":1e2,"c":-0,"d":18446744073709551615,"e":-9223372036854775808}"#,
            r#"["\ud83d\ude00", "\\u0000", "\\\\", "é", "\/", "\""]"#,
            r#"{"a":{"k":1},"b":{"k":1}, "k":[{"k":1},{"k":2}]}"#,
            "3.141592653589793238462643383279502884197",
            "null",
        ] {
            assert_eq!(check(body.as_bytes()), Ok(body));
        }
    }

    #[test]
    fn members_keep_their_spelling() {
        let text = r#"{ "a\u0062" : [1, {"x":"}"}] , "c":"d,\"e" ,"f" : -1.50 }"#;
        let members = members(text).unwrap();
        let spelled: Vec<_> = members.iter().map(|m| (m.key.as_ref(), m.key_text, m.value)).collect();
        assert_eq!(
            spelled,
            [("ab", r#""a\u0062""#, r#"[1, {"x":"}"}]"#), ("c", r#""c""#, r#""d,\"e""#), ("f", r#""f""#, "-1.50"),]
        );
        assert_eq!(super::members("{ }"), Some(vec![]));
        assert_eq!(super::members("[1]"), None);
        assert_eq!(elements("[ 1 ,{\"a\":[2]}, [ ] ]"), Some(vec!["1", "{\"a\":[2]}", "[ ]"]));
        assert_eq!(elements("[]"), Some(vec![]));
        assert_eq!(elements("{}"), None);
    }

    fn any_json() -> impl Strategy<Value = serde_json::Value> {
        let leaf = prop_oneof![
            Just(serde_json::Value::Null),
            any::<bool>().prop_map(Into::into),
            any::<i64>().prop_map(Into::into),
            any::<f64>().prop_filter("JSON has no others", |n| n.is_finite()).prop_map(Into::into),
            "[^\0]{0,12}".prop_map(Into::into),
        ];
        leaf.prop_recursive(5, 40, 6, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..6).prop_map(Into::into),
                prop::collection::btree_map("[^\0]{0,6}", inner, 0..6)
                    .prop_map(|map| serde_json::Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn every_clean_value_passes_and_falls_into_its_parts(value in any_json(), pretty: bool) {
            let text = if pretty { serde_json::to_string_pretty(&value) } else { serde_json::to_string(&value) }.unwrap();
            prop_assert_eq!(check(text.as_bytes()), Ok(text.as_str()));
            if let Some(object) = value.as_object() {
                let members = members(&text).unwrap();
                prop_assert_eq!(members.len(), object.len());
                for member in members {
                    prop_assert_eq!(&serde_json::from_str::<serde_json::Value>(member.value).unwrap(), &object[&*member.key]);
                }
            }
            if let Some(array) = value.as_array() {
                let parsed: Vec<serde_json::Value> =
                    elements(&text).unwrap().into_iter().map(|e| serde_json::from_str(e).unwrap()).collect();
                prop_assert_eq!(&parsed, array);
            }
        }

        #[test]
        fn no_bytes_make_it_panic(body in prop::collection::vec(any::<u8>(), 0..64), text in "[\\[\\]{}:,\"\\\\u0d8ceE+.\\- a1-9]{0,48}") {
            let _ = check(&body);
            if check(text.as_bytes()).is_ok() {
                let value: Result<serde_json::Value, _> = serde_json::from_str(&text);
                prop_assert!(value.is_ok(), "accepted what cannot be read: {}", text);
                let _ = (members(text.trim()), elements(text.trim()));
            }
        }
    }
}
