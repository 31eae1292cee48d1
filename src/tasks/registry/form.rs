//! Form: what a JSON value must look like, and what is wrong with one that does not.

use jsonschema::Validator;
use schemars::{JsonSchema, generate::SchemaSettings};
use serde_json::Value;

use super::findings;
use crate::tasks::Finding;

/// A JSON Schema with its validator, for a body that is no task's input.
pub struct Form {
    schema: Value,
    validator: Validator,
}

impl Form {
    /// The form of a type. Formats such as `date-time` are checked too.
    ///
    /// # Panics
    /// When the schema does not compile: a defect of the type.
    pub fn of<T: JsonSchema>() -> Self {
        // Without references the place of a rule in the schema can be looked up.
        let settings = SchemaSettings::draft2020_12().with(|settings| settings.inline_subschemas = true);
        let schema = settings.into_generator().into_root_schema_for::<T>().to_value();
        let validator = jsonschema::draft202012::options()
            .should_validate_formats(true)
            .build(&schema)
            .unwrap_or_else(|error| panic!("a JSON Schema does not compile: {error}"));
        Self { schema, validator }
    }

    /// What is wrong with a value, each with its place.
    pub fn check(&self, value: &Value) -> Result<(), Vec<Finding>> {
        match self.validator.is_valid(value) {
            true => Ok(()),
            false => Err(findings::explain(self.validator.iter_errors(value), &self.schema, "the body")),
        }
    }
}
