//! Schemas: the views as schemars derives them, and one schema per task type for what is submitted.

use std::collections::BTreeSet;

use schemars::{JsonSchema, SchemaGenerator, generate::SchemaSettings};
use serde_json::{Map, Value, json};

use super::{
    super::{
        bulk::{BulkBody, BulkView},
        declare::DeclarationBody,
        events::FrameView,
        lease::{
            EndedView, LeasedView, RenewedView,
            body::{CheckpointBody, CompleteBody, FailBody, HeartbeatBody, LeaseBody, LogBody, ProgressBody},
        },
        list::CountsView,
        look::TypeView,
        options,
        problem::ProblemBody,
        queues::{AutoscaleView, QueueView},
        session::{SessionView, SignInBody},
        sse::{LogView, StateView},
        submit::{DEFAULT_TYPE, LARGEST_BATCH},
        task_view::TaskView,
        timeline::TimelineView,
        workers::WorkerView,
    },
    operation::schema,
};
use crate::tasks::{Registry, registry::ErasedKind};

/// All schemas, by name.
pub fn all(registry: &Registry) -> Map<String, Value> {
    let settings = SchemaSettings::draft2020_12().with(|settings| {
        settings.definitions_path = "/components/schemas".into();
        settings.meta_schema = None;
    });
    fn wanted<T: JsonSchema>(generator: &mut SchemaGenerator) {
        // What matters is that the generator then has the definition.
        let _ = generator.subschema_for::<T>();
    }
    // What clients send, and what they get: only of the latter every member is always there.
    let mut received = settings.clone().for_deserialize().into_generator();
    wanted::<BulkBody>(&mut received);
    wanted::<DeclarationBody>(&mut received);
    wanted::<LeaseBody>(&mut received);
    wanted::<HeartbeatBody>(&mut received);
    wanted::<ProgressBody>(&mut received);
    wanted::<LogBody>(&mut received);
    wanted::<CheckpointBody>(&mut received);
    wanted::<CompleteBody>(&mut received);
    wanted::<FailBody>(&mut received);
    wanted::<SignInBody>(&mut received);
    let mut generator = settings.for_serialize().into_generator();
    wanted::<TaskView<'_>>(&mut generator);
    wanted::<LogView<'_>>(&mut generator);
    wanted::<StateView<'_>>(&mut generator);
    wanted::<TypeView<'_>>(&mut generator);
    wanted::<ProblemBody<'_>>(&mut generator);
    wanted::<BulkView>(&mut generator);
    wanted::<CountsView>(&mut generator);
    wanted::<QueueView<'_>>(&mut generator);
    wanted::<AutoscaleView>(&mut generator);
    wanted::<WorkerView<'_>>(&mut generator);
    wanted::<TimelineView<'_>>(&mut generator);
    wanted::<LeasedView>(&mut generator);
    wanted::<RenewedView>(&mut generator);
    wanted::<EndedView>(&mut generator);
    wanted::<FrameView<'_>>(&mut generator);
    wanted::<SessionView<'_>>(&mut generator);
    let mut schemas = received.take_definitions(true);
    schemas.extend(generator.take_definitions(true));
    schemas.insert("Options".to_owned(), options::schema());
    let mut mapping = Map::new();
    for kind in registry.iter() {
        let name = format!("Submit.{}", kind.name());
        mapping.insert(kind.name().to_owned(), schema(&name)["$ref"].clone());
        let body = submit(kind.as_ref(), &mut schemas);
        schemas.insert(name, body);
    }
    let default = registry.get(DEFAULT_TYPE).map(|_| format!(" Without `task_type` it is `{DEFAULT_TYPE}`."));
    schemas.insert(
        "Submit".to_owned(),
        json!({
            "description": format!(
                "What is to be done: `task_type`, `metadata` and `options`, and beside them the input of the type. \
                 What a schema cannot say is checked too, and told as `invalid_input`.{}",
                default.unwrap_or_default(),
            ),
            "oneOf": mapping.values().map(|target| json!({"$ref": target})).collect::<Vec<_>>(),
            "discriminator": {"propertyName": "task_type", "mapping": mapping},
        }),
    );
    schemas.insert(
        "Batch".to_owned(),
        json!({"type": "array", "items": schema("Submit"), "minItems": 1, "maxItems": LARGEST_BATCH}),
    );
    schemas
}

/// The smallest input that the schema's own examples, defaults and constants make up.
pub fn example_input(kind: &dyn ErasedKind) -> Map<String, Value> {
    let schema = kind.schema();
    let required: BTreeSet<&str> =
        schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let properties = schema["properties"].as_object();
    let examples = properties.into_iter().flatten().filter(|(name, _)| required.contains(name.as_str()));
    examples
        .filter_map(|(name, property)| {
            let first = property.pointer("/examples/0").or(property.get("default")).or(property.get("const"));
            Some((name.clone(), first?.clone()))
        })
        .collect()
}

/// The body of a submit of this type: its input, and the reserved keys beside it. The definitions of the input become
/// schemas of the document.
fn submit(kind: &dyn ErasedKind, schemas: &mut Map<String, Value>) -> Value {
    let prefix = format!("{}.", kind.name());
    let mut body = kind.schema().clone();
    if let Value::Object(members) = &mut body {
        members.remove("$schema");
        members.remove("title");
        if let Some(Value::Object(definitions)) = members.remove("$defs") {
            for (name, mut definition) in definitions {
                point_to_components(&mut definition, &prefix);
                schemas.insert(format!("{prefix}{name}"), definition);
            }
        }
    }
    point_to_components(&mut body, &prefix);
    let mut task_type = json!({"description": kind.description(), "const": kind.name()});
    if kind.name() == DEFAULT_TYPE {
        task_type["default"] = kind.name().into();
    }
    let reserved = json!({
        "task_type": task_type,
        "metadata": {
            "type": "object",
            "description": "The submitter's own notes, which come back with the task.",
            "default": {},
        },
        "options": schema("Options"),
    });
    admit(&mut body, &reserved);
    body["title"] = kind.name().into();
    if kind.name() != DEFAULT_TYPE {
        let mut required = vec![json!("task_type")];
        required.extend(body["required"].as_array().into_iter().flatten().cloned());
        body["required"] = required.into();
    }
    body
}

/// Adds properties to an object's schema: there, and in each of its forms where it has several, since a form that
/// forbids unknown keys would forbid these.
fn admit(schema: &mut Value, reserved: &Value) {
    let Value::Object(members) = schema else { return };
    for word in ["oneOf", "anyOf", "allOf"] {
        for form in members.get_mut(word).and_then(Value::as_array_mut).into_iter().flatten() {
            admit(form, reserved);
        }
    }
    let properties = members.entry("properties").or_insert_with(|| json!({}));
    if let (Value::Object(properties), Value::Object(reserved)) = (properties, reserved) {
        properties.extend(reserved.clone());
    }
}

fn point_to_components(schema: &mut Value, prefix: &str) {
    match schema {
        Value::Object(members) => {
            for (key, value) in members {
                match value {
                    Value::String(target) if key == "$ref" => {
                        if let Some(name) = target.strip_prefix("#/$defs/") {
                            *target = format!("#/components/schemas/{prefix}{name}");
                        }
                    }
                    value => point_to_components(value, prefix),
                }
            }
        }
        Value::Array(elements) => elements.iter_mut().for_each(|element| point_to_components(element, prefix)),
        _ => {}
    }
}
