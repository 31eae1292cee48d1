//! Idempotency keys: how a client that repeats a submit says that it is the same one.
//!
//! The key is the caller's; the fingerprint says whether the body is the same. Two bodies are the same when they have
//! the same tokens, whatever their whitespace, the order of their keys and the escapes in their strings; numbers are
//! the same only when they are written alike, since what is accepted is kept as written. (IETF draft "The
//! Idempotency-Key HTTP Header Field".)

use std::borrow::Cow;

use actix_web::HttpRequest;
use sha2::{Digest, Sha256};

use super::{
    json::{Token, decoded, tokens},
    problem::Problem,
};

const HEADER: &str = "Idempotency-Key";
/// Bytes of a key.
const LONGEST: usize = 255;

/// The key of a request: `"abc"` as a structured-field string (RFC 9651, 3.3.3) and bare `abc` are the same key.
pub fn key_of(request: &HttpRequest) -> Result<Option<String>, Problem> {
    let mut values = request.headers().get_all(HEADER);
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(Problem::parameter(HEADER, "given twice: give it once"));
    }
    let key = value.to_str().ok().and_then(|text| unquoted(text.trim()));
    match key.filter(|key| (1..=LONGEST).contains(&key.len())) {
        Some(key) => Ok(Some(key)),
        None => {
            Err(Problem::parameter(HEADER, format!("1 to {LONGEST} printable ASCII characters, bare or in quotes")))
        }
    }
}

fn unquoted(text: &str) -> Option<String> {
    if !text.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
        return None;
    }
    let Some(inner) = text.strip_prefix('"') else {
        return (!text.contains('"')).then(|| text.to_owned());
    };
    let mut key = String::new();
    let mut characters = inner.chars();
    loop {
        match characters.next()? {
            '"' => break,
            '\\' => key.push(characters.next().filter(|c| matches!(c, '"' | '\\'))?),
            other => key.push(other),
        }
    }
    // Parameters may follow an item; none is defined for this one.
    let rest = characters.as_str();
    (rest.is_empty() || rest.starts_with(';')).then_some(key)
}

/// SHA-256 over the tokens of a body that has passed [`json::check`](super::json::check): keys sorted, numbers as
/// written. One pass, however deep the body is.
pub fn fingerprint(body: &str) -> [u8; 32] {
    let mut levels: Vec<Level<'_>> = Vec::new();
    let mut whole = Sha256::new();
    for (_, token) in tokens(body) {
        let value = match token {
            Token::Open('[') => {
                levels.push(Level::Array(Sha256::new()));
                continue;
            }
            Token::Open(_) => {
                levels.push(Level::Object { members: Vec::new(), key: None });
                continue;
            }
            Token::Comma | Token::Colon => continue,
            Token::Close => match levels.pop() {
                Some(level) => level.closed(),
                None => continue,
            },
            Token::String(text) => match levels.last_mut() {
                Some(Level::Object { key: key @ None, .. }) => {
                    *key = Some(decoded(text));
                    continue;
                }
                _ => Value { kind: b's', bytes: decoded(text).into_owned().into_bytes() },
            },
            Token::Number(text) => Value { kind: b'n', bytes: text.as_bytes().to_vec() },
            Token::Word(text) => Value { kind: b'w', bytes: text.as_bytes().to_vec() },
        };
        match levels.last_mut() {
            None => value.feed(&mut whole),
            Some(Level::Array(hash)) => value.feed(hash),
            Some(Level::Object { members, key }) => members.push((key.take().unwrap_or_default(), value)),
        }
    }
    whole.finalize().into()
}

/// A value that is ready to go into the hash of what holds it: its own bytes, or the hash of what it holds.
struct Value {
    kind: u8,
    bytes: Vec<u8>,
}

impl Value {
    /// The length goes in front, so that no two sequences of values look alike.
    fn feed(&self, hash: &mut Sha256) {
        hash.update([self.kind]);
        hash.update((self.bytes.len() as u64).to_be_bytes());
        hash.update(&self.bytes);
    }
}

enum Level<'a> {
    Array(Sha256),
    Object { members: Vec<(Cow<'a, str>, Value)>, key: Option<Cow<'a, str>> },
}

impl Level<'_> {
    fn closed(self) -> Value {
        match self {
            Level::Array(hash) => Value { kind: b'a', bytes: hash.finalize().to_vec() },
            Level::Object { mut members, .. } => {
                members.sort_by(|(one, _), (other, _)| one.cmp(other));
                let mut hash = Sha256::new();
                for (key, value) in members {
                    Value { kind: b'k', bytes: key.into_owned().into_bytes() }.feed(&mut hash);
                    value.feed(&mut hash);
                }
                Value { kind: b'o', bytes: hash.finalize().to_vec() }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;
    use proptest::prelude::*;

    use super::*;

    fn key(value: &str) -> Option<String> {
        let request = TestRequest::post().insert_header((HEADER, value)).to_http_request();
        key_of(&request).ok().flatten()
    }

    #[test]
    fn quoted_and_bare_are_the_same_key() {
        for (value, expected) in [
            ("abc", "abc"),
            ("\"abc\"", "abc"),
            (" \"a\\\"b\\\\c\" ", "a\"b\\c"),
            ("\"abc\";v=1", "abc"),
            ("8e03978e-40d5-43dd-bc93-6894a57f9324", "8e03978e-40d5-43dd-bc93-6894a57f9324"),
        ] {
            assert_eq!(key(value).as_deref(), Some(expected), "{value}");
        }
        for bad in ["", "\"\"", "\"abc", "a\"b", "\"a\\nb\"", "\"abc\"x", &"k".repeat(256)] {
            assert_eq!(key(bad), None, "{bad}");
        }
        assert_eq!(key(&"k".repeat(255)).map(|key| key.len()), Some(255));
        assert!(key_of(&TestRequest::post().to_http_request()).unwrap().is_none());
        let twice = TestRequest::post().append_header((HEADER, "a")).append_header((HEADER, "b")).to_http_request();
        assert!(key_of(&twice).is_err());
    }

    #[test]
    fn the_same_tokens_are_the_same_body() {
        let same = [
            r#"{"a":[1,2.0,{"x":"é","y":null}],"b":true}"#,
            r#" { "b" : true , "\u0061" : [ 1 , 2.0 , { "y":null, "x":"\u00e9" } ] } "#,
        ];
        assert_eq!(fingerprint(same[0]), fingerprint(same[1]));
        let different = [
            same[0],
            r#"{"a":[1,2,{"x":"é","y":null}],"b":true}"#,
            r#"{"a":[2.0,1,{"x":"é","y":null}],"b":true}"#,
            r#"{"a":[1,2.0,{"x":"é","y":"null"}],"b":true}"#,
            r#"{"a":[1,2.0,{"x":"é"}],"y":null,"b":true}"#,
            "[]",
            "{}",
            "[[]]",
            "[{}]",
            "[1,2]",
            "[12]",
            "[[1],2]",
            "[[1,2]]",
            r#"["1","2"]"#,
            r#"["1,2"]"#,
            "1",
            "\"1\"",
            r#"{"a":"b"}"#,
            r#"["a","b"]"#,
            "null",
            "true",
        ];
        let all: std::collections::HashSet<_> = different.iter().map(|body| fingerprint(body)).collect();
        assert_eq!(all.len(), different.len());
    }

    #[test]
    fn depth_costs_no_stack() {
        let deep = "[".repeat(300_000) + &"]".repeat(300_000);
        assert_ne!(fingerprint(&deep), fingerprint("[]"));
    }

    proptest! {
        #[test]
        fn order_and_whitespace_do_not_matter(mut members in prop::collection::btree_map("[a-z\"\\\\é]{1,4}", any::<i32>(), 1..8)
            .prop_map(|map| map.into_iter().collect::<Vec<_>>()), seed: u64) {
            let spelled = |members: &[(String, i32)], gap: &str| {
                let parts: Vec<_> = members.iter()
                    .map(|(key, value)| format!("{gap}{}{gap}:{gap}{value}", serde_json::to_string(key).unwrap())).collect();
                format!("{{{}{gap}}}", parts.join(","))
            };
            let before = fingerprint(&spelled(&members, ""));
            let turn = seed as usize % members.len();
            members.rotate_left(turn);
            prop_assert_eq!(before, fingerprint(&spelled(&members, "\n ")));
            members[0].1 = members[0].1.wrapping_add(1);
            prop_assert_ne!(before, fingerprint(&spelled(&members, "")));
        }
    }
}
