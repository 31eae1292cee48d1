//! Metadata, as lists find tasks by it: a row of `task_metadata` per member.
//!
//! Submits write these rows in the statement that inserts the task; a trigger on the table would take twice the time.
//! The trigger that deletes them divides the metadata by itself, with the function `metadata_pairs` of the database: the
//! two must agree. Where that function fails nothing can be deleted; what it fails on (U+0000 and half a surrogate pair,
//! however deep in a value) no submit has, since the server refuses it in any body.

use serde::{
    Deserializer,
    de::{IgnoredAny, MapAccess, Visitor},
};
use serde_json::value::RawValue;

use super::{StoreError, rows::unreadable};

/// Metadata with more members, or more bytes, is not divided: it stands under the one member of two empty texts, where
/// every reader looks too. A batch shares its transaction with others, who wait for its rows.
const MEMBERS: usize = 32;
const BYTES: usize = 4_096;

/// The members of an object, as the operator `->>` reads them: a text without its quotes, anything else as it is
/// written, and no nulls. Of a key that comes twice, which no submit has, both. The INSERT merges those of one hash: whoever
/// wants two such members can find them.
pub(super) fn members_of(metadata: &RawValue) -> Result<Vec<(String, String)>, StoreError> {
    let text = metadata.get();
    if text == "{}" {
        return Ok(Vec::new());
    }
    let members = if text.len() <= BYTES { read(text)? } else { None };
    Ok(members.unwrap_or_else(|| vec![(String::new(), String::new())]))
}

/// `None`: there are too many.
fn read(text: &str) -> Result<Option<Vec<(String, String)>>, StoreError> {
    let mut json = serde_json::Deserializer::from_str(text);
    json.deserialize_map(Members).map_err(|error| unreadable("metadata", error))
}

struct Members;

impl<'de> Visitor<'de> for Members {
    type Value = Option<Vec<(String, String)>>;

    fn expecting(&self, formatter: &mut std::fmt::Formatter) -> std::fmt::Result {
        formatter.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut members = Vec::new();
        let mut seen = 0;
        while let Some((key, value)) = map.next_entry::<String, &'de RawValue>()? {
            seen += 1;
            if seen > MEMBERS {
                while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                return Ok(None);
            }
            match value.get() {
                "null" => {}
                quoted if quoted.starts_with('"') => {
                    let text = serde_json::from_str(quoted).map_err(serde::de::Error::custom)?;
                    members.push((key, text));
                }
                other => members.push((key, other.to_owned())),
            }
        }
        Ok(Some(members))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn members(text: &str) -> Vec<(String, String)> {
        members_of(&RawValue::from_string(text.to_owned()).unwrap()).unwrap()
    }

    fn pair(key: &str, value: &str) -> (String, String) {
        (key.to_owned(), value.to_owned())
    }

    #[test]
    fn a_member_is_read_as_its_text() {
        assert_eq!(members("{}"), []);
        assert_eq!(members("{ }"), []);
        assert_eq!(members(r#"{"a": 1, "a": 2}"#), [pair("a", "1"), pair("a", "2")]);
        assert_eq!(
            members(r#"{"a": "b", "n": 1.50, "t": true, "no": null, "o": {"x": [1, 2]}, "\u00e9": "\u00e9\n"}"#),
            [pair("a", "b"), pair("n", "1.50"), pair("t", "true"), pair("o", r#"{"x": [1, 2]}"#), pair("é", "é\n")]
        );
    }

    #[test]
    fn what_is_too_much_is_not_divided() {
        let object = |members: usize| {
            let members: Vec<String> = (0..members).map(|n| format!(r#""k{n}": {n}"#)).collect();
            format!("{{{}}}", members.join(", "))
        };
        assert_eq!(members(&object(MEMBERS)).len(), MEMBERS);
        assert_eq!(members(&object(MEMBERS + 1)), [pair("", "")]);
        assert_eq!(members(&format!(r#"{{"a": "{}"}}"#, "x".repeat(BYTES))), [pair("", "")]);
    }
}
