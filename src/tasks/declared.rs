//! Declared: a task type that is data. Its input is checked here; its work is done by an HTTP worker, wherever that is.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use jsonschema::Validator;
use serde_json::{Value, value::RawValue};

use super::{
    Context, Defaults, Finding,
    registry::{ErasedKind, RESERVED_KEYS, RunError, fits},
};
use crate::core::model::{Declaration, is_queue_name, is_type_name};

/// A schema beyond this many bytes is a mistake.
const LARGEST_SCHEMA: usize = 64 * 1024;
const LONGEST_DESCRIPTION: usize = 1_000;
/// The only place that a `$ref` may lead to: a type's schema becomes a part of the API's description.
const DEFINITIONS: &str = "#/$defs/";

/// A declared type, checked.
pub struct Declared {
    declaration: Declaration,
    validator: Validator,
}

impl Declared {
    /// Checks a declaration. Each finding is a JSON pointer into it, spelled as `PUT /task-types/{name}` has it.
    pub fn new(declaration: Declaration) -> Result<Self, Vec<Finding>> {
        let mut findings = Vec::new();
        let mut find = |pointer: &str, detail: String| findings.push(Finding { pointer: pointer.to_owned(), detail });
        if !is_type_name(&declaration.name) {
            find("/name", "must be 1 to 64 of a-z, 0-9 and _".to_owned());
        }
        if declaration.description.len() > LONGEST_DESCRIPTION {
            find("/description", format!("must have at most {LONGEST_DESCRIPTION} bytes"));
        }
        if !is_queue_name(&declaration.queue) {
            find("/queue", "must be 1 to 64 of a-z 0-9 _ . -".to_owned());
        }
        if declaration.retry.max_attempts < 1 {
            find("/max_attempts", "must be at least 1".to_owned());
        }
        findings.extend(faults_of(&declaration.input_schema));
        if !findings.is_empty() {
            return Err(findings);
        }
        let in_schema = |error: jsonschema::ValidationError<'_>| {
            let detail = format!("is not a JSON Schema (draft 2020-12): {error}");
            vec![Finding { pointer: format!("/input_schema{}", error.instance_path().as_str()), detail }]
        };
        let validator = jsonschema::draft202012::new(&declaration.input_schema).map_err(in_schema)?;
        Ok(Self { declaration, validator })
    }

    /// The declaration.
    pub fn declaration(&self) -> &Declaration {
        &self.declaration
    }
}

impl ErasedKind for Declared {
    fn name(&self) -> &str {
        &self.declaration.name
    }

    fn description(&self) -> &str {
        &self.declaration.description
    }

    fn schema(&self) -> &Value {
        &self.declaration.input_schema
    }

    fn defaults(&self) -> Defaults {
        let Declaration { queue, retry, timeout, .. } = &self.declaration;
        Defaults { queue: queue.clone().into(), retry: *retry, timeout: *timeout, ..Defaults::default() }
    }

    fn check(&self, input: &RawValue) -> Result<(), Vec<Finding>> {
        fits(&self.validator, &self.declaration.input_schema, input).map(drop)
    }

    fn run(self: Arc<Self>, _: &RawValue, _: Context) -> BoxFuture<'static, Result<Box<RawValue>, RunError>> {
        Box::pin(async { Err(RunError::Undecodable("this type is run by HTTP workers".to_owned())) })
    }
}

/// What is wrong with a schema as the schema of an input, apart from being one.
pub(super) fn faults_of(schema: &Value) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut find =
        |pointer: String, detail: String| findings.push(Finding { pointer: format!("/input_schema{pointer}"), detail });
    let Value::Object(members) = schema else {
        find(String::new(), "must be an object".to_owned());
        return findings;
    };
    if schema.to_string().len() > LARGEST_SCHEMA {
        find(String::new(), format!("must have at most {LARGEST_SCHEMA} bytes"));
        return findings;
    }
    if members.get("type").is_some_and(|kind| kind != "object") {
        find("/type".to_owned(), "must be \"object\": an input is one".to_owned());
    }
    for key in RESERVED_KEYS {
        if members.get("properties").is_some_and(|known| known.get(key).is_some()) {
            find(format!("/properties/{key}"), "is the server's own key and never arrives: rename it".to_owned());
        }
    }
    strays(schema, "", &mut find);
    findings
}

/// Finds references that lead out of the definitions, and names that would make of a part a document of its own.
fn strays(schema: &Value, pointer: &str, find: &mut impl FnMut(String, String)) {
    let below = |key: &str| format!("{pointer}/{}", key.replace('~', "~0").replace('/', "~1"));
    match schema {
        Value::Object(members) => {
            for (key, value) in members {
                match (key.as_str(), value) {
                    ("$ref", Value::String(target)) if !target.starts_with(DEFINITIONS) => {
                        find(below(key), format!("must begin with {DEFINITIONS}"));
                    }
                    ("$id" | "$anchor" | "$dynamicRef" | "$dynamicAnchor", Value::String(_)) => {
                        find(below(key), "is not supported here: leave it out".to_owned());
                    }
                    _ => strays(value, &below(key), find),
                }
            }
        }
        Value::Array(elements) => {
            elements.iter().enumerate().for_each(|(index, value)| strays(value, &below(&index.to_string()), find));
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::core::model::RetryPolicy;

    fn declaration(input_schema: Value) -> Declaration {
        Declaration {
            name: "resize".to_owned(),
            description: "Makes pictures smaller".to_owned(),
            input_schema,
            queue: "pictures".to_owned(),
            retry: RetryPolicy::default(),
            timeout: None,
        }
    }

    fn pointers(declaration: Declaration) -> Vec<String> {
        let Err(findings) = Declared::new(declaration) else { return Vec::new() };
        findings.into_iter().map(|finding| finding.pointer).collect()
    }

    #[test]
    fn inputs_are_checked_by_the_declared_schema() {
        let schema = json!({
            "type": "object", "required": ["width"], "additionalProperties": false,
            "properties": {"width": {"$ref": "#/$defs/size"}}, "$defs": {"size": {"type": "integer", "minimum": 1}},
        });
        let declared = Declared::new(declaration(schema)).ok().unwrap();
        let check = |text: &str| declared.check(&RawValue::from_string(text.to_owned()).unwrap());
        assert_eq!(check(r#"{"width":1}"#), Ok(()));
        assert_eq!(check(r#"{"width":0}"#).unwrap_err()[0].pointer, "/width");
        assert_eq!(check(r#"{"width":1,"x":1}"#).unwrap_err()[0].pointer, "/x");
    }

    #[test]
    fn what_cannot_be_a_type_is_told_with_its_place() {
        assert_eq!(pointers(declaration(json!({}))), [""; 0]);
        assert_eq!(pointers(declaration(json!(true))), ["/input_schema"]);
        assert_eq!(pointers(declaration(json!({"type": "array"}))), ["/input_schema/type"]);
        assert_eq!(pointers(declaration(json!({"type": "object", "required": 1}))), ["/input_schema/required"]);
        let reserved = json!({"properties": {"options": {}, "metadata": {}}});
        assert_eq!(pointers(declaration(reserved)).len(), 2);
        let stray = json!({"properties": {"a": {"$ref": "https://example.com/schema"}, "b": {"$id": "x"}}});
        let found = pointers(declaration(stray));
        assert_eq!(found, ["/input_schema/properties/a/$ref", "/input_schema/properties/b/$id"]);
        let nameless = Declaration { name: "Re size".to_owned(), queue: "Q".to_owned(), ..declaration(json!({})) };
        assert_eq!(pointers(nameless), ["/name", "/queue"]);
    }
}
