//! Fields: `key=value`, `key:=json` and `key=@file` become the input of a task, typed by the schema of its type.
//!
//! A value that does not fit the schema goes to the server as a string: it is the server that says what is wrong with
//! it, in the same words to every client.

use std::{collections::BTreeMap, fs, io::Read, str::FromStr};

use serde_json::{Value, value::RawValue};

use super::failure::Failure;

/// References that lead on to others; a schema that goes deeper is read as taking anything.
const DEEPEST: usize = 16;
/// Keys of a submit that are not the task type's.
const RESERVED: [(&str, &str); 3] = [
    ("task_type", "give the type as the first argument"),
    ("metadata", "use --meta"),
    ("options", "use --queue, --priority, --delay and --task-timeout"),
];

/// The input of a task, or its metadata: JSON by key, digits as they were written.
pub type Members = BTreeMap<String, Box<RawValue>>;

/// One field of a command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Field {
    key: String,
    content: Content,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Content {
    Text(String),
    TextFile(String),
    Json(String),
    JsonFile(String),
}

impl FromStr for Field {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (key, value) = text.split_once('=').ok_or("write key=value, key:=json or key=@file")?;
        let (key, is_json) = key.strip_suffix(':').map_or((key, false), |key| (key, true));
        if key.is_empty() {
            return Err("the key is missing before =".to_owned());
        }
        let content = match (is_json, value.strip_prefix('@')) {
            (false, None) => Content::Text(value.to_owned()),
            (false, Some(file)) => Content::TextFile(file.to_owned()),
            (true, None) => Content::Json(value.to_owned()),
            (true, Some(file)) => Content::JsonFile(file.to_owned()),
        };
        Ok(Self { key: key.to_owned(), content })
    }
}

impl Field {
    fn value(&self, kinds: &Kinds) -> Result<Box<RawValue>, Failure> {
        match &self.content {
            Content::Text(text) => Ok(kinds.typed(text)),
            Content::TextFile(file) => Ok(kinds.typed(&read(file)?)),
            Content::Json(text) => json(&self.key, text),
            Content::JsonFile(file) => json(&self.key, &read(file)?),
        }
    }
}

/// The input: what `--input` holds, and the fields on top of it. `schema` is that of the type; null takes anything.
pub fn input(fields: &[Field], file: Option<&str>, schema: &Value) -> Result<Members, Failure> {
    let mut members = match file {
        None => Members::new(),
        Some(file) => {
            let text = read(file)?;
            serde_json::from_str(&text)
                .map_err(|error| Failure::usage(format!("--input {file}: not a JSON object: {error}")))?
        }
    };
    let from_fields = collect(fields, |key| Kinds::of(schema, &schema["properties"][key]))?;
    members.extend(from_fields);
    for (key, instead) in RESERVED {
        if members.contains_key(key) {
            return Err(Failure::usage(format!("{key} is not part of the input: {instead}")));
        }
    }
    Ok(members)
}

/// Metadata: text, unless it is written as JSON.
pub fn metadata(fields: &[Field]) -> Result<Members, Failure> {
    collect(fields, |_| Kinds::text())
}

/// Pairs of a filter by metadata, which compares text.
pub fn pairs(fields: &[Field]) -> Result<Vec<(String, String)>, Failure> {
    let pair = |field: &Field| match &field.content {
        Content::Text(text) => Ok((field.key.clone(), text.clone())),
        _ => Err(Failure::usage(format!("--meta {}: a filter is written key=value", field.key))),
    };
    fields.iter().map(pair).collect()
}

fn collect(fields: &[Field], kinds: impl Fn(&str) -> Kinds) -> Result<Members, Failure> {
    let mut members = Members::new();
    for field in fields {
        if members.insert(field.key.clone(), field.value(&kinds(&field.key))?).is_some() {
            return Err(Failure::usage(format!("{} is given twice", field.key)));
        }
    }
    Ok(members)
}

/// A file, or stdin as `-`.
fn read(file: &str) -> Result<String, Failure> {
    let mut text = String::new();
    let outcome = match file {
        "-" => std::io::stdin().read_to_string(&mut text).map(drop),
        path => fs::read_to_string(path).map(|content| text = content),
    };
    match outcome {
        Ok(()) => Ok(text),
        Err(error) => Err(Failure::usage(format!("cannot read {file}: {error}"))),
    }
}

fn json(key: &str, text: &str) -> Result<Box<RawValue>, Failure> {
    RawValue::from_string(text.trim().to_owned())
        .map_err(|error| Failure::usage(format!("{key}:= is not followed by JSON: {error}")))
}

/// The JSON types that a schema takes.
#[derive(Debug, Default)]
struct Kinds {
    names: Vec<String>,
    /// It does not say.
    anything: bool,
}

impl Kinds {
    fn text() -> Self {
        Self { names: vec!["string".to_owned()], anything: false }
    }

    fn of(root: &Value, schema: &Value) -> Self {
        let mut kinds = Self::default();
        kinds.add(root, schema, DEEPEST);
        kinds
    }

    fn add(&mut self, root: &Value, schema: &Value, depth: usize) {
        if let Some(target) = schema["$ref"].as_str().and_then(|reference| reference.strip_prefix('#'))
            && depth > 0
            && let Some(found) = root.pointer(target)
        {
            return self.add(root, found, depth - 1);
        }
        match &schema["type"] {
            Value::String(name) => return self.names.push(name.clone()),
            Value::Array(names) => {
                return self.names.extend(names.iter().filter_map(|name| Some(name.as_str()?.to_owned())));
            }
            _ => {}
        }
        for key in ["anyOf", "oneOf", "allOf"] {
            if let Some(schemas) = schema[key].as_array().filter(|_| depth > 0) {
                return schemas.iter().for_each(|schema| self.add(root, schema, depth - 1));
            }
        }
        match (&schema["enum"], &schema["const"]) {
            (Value::Array(values), _) => self.names.extend(values.iter().map(|value| kind_of(value).to_owned())),
            (_, Value::Null) => self.anything = true,
            (_, value) => self.names.push(kind_of(value).to_owned()),
        }
    }

    /// The text as JSON: as it is where it is of one of the types, otherwise as a string.
    fn typed(&self, text: &str) -> Box<RawValue> {
        let takes = |kind: &str| self.names.iter().any(|name| name == kind);
        let as_it_is = RawValue::from_string(text.trim().to_owned()).ok().filter(|raw| {
            // A shallow look: what it is, not what is in it.
            let kind = match raw.get().as_bytes().first() {
                Some(b'{') => "object",
                Some(b'[') => "array",
                Some(b'"') => "string",
                Some(b't' | b'f') => "boolean",
                Some(b'n') => "null",
                _ => "number",
            };
            match kind {
                _ if takes("string") => false,
                // In quotes or not: a string is meant.
                "string" => false,
                "number" => takes("number") || takes("integer") || self.anything,
                kind => takes(kind) || self.anything,
            }
        });
        // Writing a string as JSON cannot fail.
        as_it_is.or_else(|| serde_json::value::to_raw_value(text).ok()).unwrap_or_else(|| RawValue::NULL.to_owned())
    }
}

fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn schema() -> Value {
        json!({
            "properties": {
                "url": {"type": "string"},
                "duration": {"type": ["number", "null"]},
                "count": {"$ref": "#/$defs/Count"},
                "deep": {"type": "boolean"},
                "data": {"anyOf": [{"type": "array"}, {"type": "null"}]},
                "mode": {"enum": ["fast", "5"]},
                "any": {},
                "loop": {"$ref": "#/properties/loop"},
            },
            "$defs": {"Count": {"type": "integer"}},
        })
    }

    fn typed(field: &str) -> String {
        let members = input(&[field.parse().unwrap()], None, &schema()).unwrap();
        members.values().next().unwrap().get().to_owned()
    }

    #[test]
    fn values_are_typed_by_the_schema() {
        for (field, json) in [
            ("url=https://x/?a=b", r#""https://x/?a=b""#),
            ("url=5", r#""5""#),
            ("url=null", r#""null""#),
            ("duration=1.50", "1.50"),
            ("duration=null", "null"),
            ("duration=soon", r#""soon""#),
            ("duration=true", r#""true""#),
            ("count=12345678901234567890", "12345678901234567890"),
            ("deep=true", "true"),
            ("deep=yes", r#""yes""#),
            ("data=[1, 2.0]", "[1, 2.0]"),
            ("mode=5", r#""5""#),
            ("any=5", "5"),
            ("any=five", r#""five""#),
            ("any:=\"5\"", r#""5""#),
            ("loop=1", "1"),
            ("unknown=x", r#""x""#),
            ("url:={\"a\":1}", r#"{"a":1}"#),
            ("url=", r#""""#),
        ] {
            assert_eq!(typed(field), json, "{field}");
        }
    }

    #[test]
    fn files_are_read_and_fields_win() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name).display().to_string();
        fs::write(path("input"), r#"{"url": "a", "duration": 1.10}"#).unwrap();
        fs::write(path("text"), "b").unwrap();
        let fields = [format!("url=@{}", path("text")).parse().unwrap()];
        let members = input(&fields, Some(&path("input")), &schema()).unwrap();
        assert_eq!(serde_json::to_string(&members).unwrap(), r#"{"duration":1.10,"url":"b"}"#);
        assert!(input(&[], Some(&path("nothing")), &schema()).unwrap_err().message.contains("cannot read"));
        assert!(input(&[], Some(&path("text")), &schema()).unwrap_err().message.contains("not a JSON object"));
    }

    #[test]
    fn what_cannot_be_is_wrong_usage() {
        for bad in ["url", "=x", ":=1"] {
            assert!(bad.parse::<Field>().is_err(), "{bad}");
        }
        for fields in [&["a:={"][..], &["a=1", "a=2"], &["metadata=x"], &["options:={}"], &["task_type=x"]] {
            let fields: Vec<Field> = fields.iter().map(|field| field.parse().unwrap()).collect();
            assert!(input(&fields, None, &schema()).is_err(), "{fields:?}");
        }
    }

    #[test]
    fn metadata_is_text_unless_it_is_written_as_json() {
        let fields = ["tenant=5".parse().unwrap(), "tags:=[1]".parse().unwrap()];
        assert_eq!(serde_json::to_string(&metadata(&fields).unwrap()).unwrap(), r#"{"tags":[1],"tenant":"5"}"#);
    }
}
