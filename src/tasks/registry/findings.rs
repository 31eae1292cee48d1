//! Findings: what a JSON Schema validator objects to, told to the person who wrote the input.
//!
//! A validator says which rule was broken; a person wants to know where, and what would be right. Missing and unknown
//! keys are pointed at themselves, not at the object around them, and of several allowed forms the one is explained
//! that the input comes closest to.

use jsonschema::{
    ValidationError,
    error::{TypeKind, ValidationErrorKind as Kind},
};
use serde_json::Value;

use crate::tasks::Finding;

/// More of them help nobody.
const MAX_FINDINGS: usize = 20;
/// Lists of allowed values are cut after this many.
const MAX_LISTED: usize = 12;

/// The findings behind a validator's errors, by place. `whole` is what the schema describes, as a person calls it.
pub(super) fn explain<'a>(
    errors: impl Iterator<Item = ValidationError<'a>>,
    schema: &Value,
    whole: &str,
) -> Vec<Finding> {
    let mut findings = Vec::new();
    for error in errors.take(MAX_FINDINGS) {
        tell(&error, schema, whole, &mut findings);
    }
    findings.truncate(MAX_FINDINGS);
    findings.sort_by(|one, other| one.pointer.cmp(&other.pointer));
    findings.dedup();
    findings
}

fn tell(error: &ValidationError<'_>, schema: &Value, whole: &str, findings: &mut Vec<Finding>) {
    let here = error.instance_path().as_str();
    let mut add = |pointer: String, detail: String| findings.push(Finding { pointer, detail });
    let around = || {
        let (parent, _keyword) = error.schema_path().as_str().rsplit_once('/')?;
        schema.pointer(parent)
    };
    match error.kind() {
        Kind::AdditionalProperties { unexpected } | Kind::UnevaluatedProperties { unexpected } => {
            let known = around().and_then(|object| object.get("properties")).and_then(Value::as_object);
            let detail = match known.map(|known| known.keys().map(String::as_str).collect::<Vec<_>>()) {
                Some(names) if !names.is_empty() => {
                    let place = if here.is_empty() { whole } else { "this object" };
                    format!("unknown key: {place} takes {}", names.join(", "))
                }
                _ => "unknown key: leave it out".to_owned(),
            };
            for key in unexpected {
                add(member(here, key), detail.clone());
            }
        }
        Kind::Required { property } => {
            let key = property.as_str().unwrap_or_default();
            let wanted = around().and_then(|object| object.get("properties")?.get(key)).and_then(form_of);
            let detail = match wanted {
                Some(form) => format!("this key is missing: it must be {form}"),
                None => "this key is missing".to_owned(),
            };
            add(member(here, key), detail);
        }
        Kind::Type { kind } => {
            let wanted = match kind {
                TypeKind::Single(one) => with_article(one.as_str()).to_owned(),
                TypeKind::Multiple(set) => {
                    set.iter().map(|one| with_article(one.as_str())).collect::<Vec<_>>().join(" or ")
                }
            };
            add(here.to_owned(), format!("must be {wanted}, not {}", with_article(type_of(error.instance()))));
        }
        Kind::AnyOf { context } | Kind::OneOfNotValid { context } => match closest(context) {
            Some(branch) => {
                for error in branch {
                    tell(error, schema, whole, findings);
                }
            }
            None => add(here.to_owned(), "has none of the forms that are allowed here".to_owned()),
        },
        Kind::Minimum { limit } => add(here.to_owned(), format!("must be at least {}", number(limit))),
        Kind::Maximum { limit } => add(here.to_owned(), format!("must be at most {}", number(limit))),
        Kind::ExclusiveMinimum { limit } => add(here.to_owned(), format!("must be more than {}", number(limit))),
        Kind::ExclusiveMaximum { limit } => add(here.to_owned(), format!("must be less than {}", number(limit))),
        Kind::MinItems { limit } => add(here.to_owned(), format!("must have at least {}", counted(*limit, "element"))),
        Kind::MaxItems { limit } => add(here.to_owned(), format!("must have at most {}", counted(*limit, "element"))),
        Kind::MinLength { limit } => {
            add(here.to_owned(), format!("must have at least {}", counted(*limit, "character")));
        }
        Kind::MaxLength { limit } => {
            add(here.to_owned(), format!("must have at most {}", counted(*limit, "character")))
        }
        Kind::Enum { options } => {
            let options = options.as_array().map(Vec::as_slice).unwrap_or_default();
            let listed = options.iter().take(MAX_LISTED).map(Value::to_string).collect::<Vec<_>>().join(", ");
            let more = if options.len() > MAX_LISTED { ", …" } else { "" };
            add(here.to_owned(), format!("must be one of {listed}{more}"));
        }
        Kind::Constant { expected_value } => add(here.to_owned(), format!("must be {expected_value}")),
        Kind::Pattern { pattern } => add(here.to_owned(), format!("must match the pattern {pattern}")),
        Kind::UniqueItems => add(here.to_owned(), "must not have the same element twice".to_owned()),
        Kind::FalseSchema => add(here.to_owned(), "is not allowed here: leave it out".to_owned()),
        // What is left is rare. The value itself is masked: it may be long, and it may be secret.
        _ => add(here.to_owned(), error.masked_with("the value").to_string()),
    }
}

/// Of several allowed forms the one that the input comes closest to: whose objections lie deepest, then fewest.
fn closest<'a>(context: &'a [Vec<ValidationError<'static>>]) -> Option<&'a Vec<ValidationError<'static>>> {
    let depth = |branch: &&Vec<ValidationError<'static>>| {
        branch.iter().map(|error| error.instance_path().segments().count()).max().unwrap_or(0)
    };
    context
        .iter()
        .filter(|branch| !branch.is_empty())
        .min_by_key(|branch| (std::cmp::Reverse(depth(branch)), branch.len()))
}

/// The JSON pointer of a member (RFC 6901, section 3: `~` is written `~0`, `/` is written `~1`).
fn member(object: &str, key: &str) -> String {
    format!("{object}/{}", key.replace('~', "~0").replace('/', "~1"))
}

fn form_of(schema: &Value) -> Option<&'static str> {
    schema.get("type")?.as_str().map(with_article)
}

fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

fn with_article(name: &str) -> &'static str {
    match name {
        "null" => "null",
        "boolean" => "true or false",
        "integer" => "a whole number",
        "number" => "a number",
        "string" => "a string",
        "array" => "an array",
        _ => "an object",
    }
}

/// A limit as a person writes it: 86400 and not 86400.0.
fn number(limit: &Value) -> String {
    limit.as_f64().map_or_else(|| limit.to_string(), |limit| limit.to_string())
}

fn counted(count: u64, noun: &str) -> String {
    if count == 1 { format!("1 {noun}") } else { format!("{count} {noun}s") }
}
