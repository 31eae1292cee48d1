//! Registry: the task types of a program, by name.
//!
//! A [`TaskKind`] has types of its own for input and output; serve and work know only names and JSON. An
//! [`ErasedKind`] stands between the two: it checks, decodes, runs and encodes. Everything that can be wrong with a
//! type itself (a name used twice, a schema that does not compile, an input that hides a reserved key) panics in
//! [`Registry::with`], at start, so that no task meets it.

mod findings;
mod form;

use std::{borrow::Cow, collections::BTreeMap, sync::Arc, time::Duration};

use futures_util::future::BoxFuture;
use jsonschema::Validator;
use schemars::generate::SchemaSettings;
use serde::Deserialize;
use serde_json::{
    Value,
    value::{RawValue, to_raw_value},
};

use super::{Context, Defaults, Failure, Finding, TaskKind};
use crate::core::model::{is_type_name, storable_json};

pub use form::Form;

/// Keys of a submit that never reach a task type's input.
pub(super) const RESERVED_KEYS: [&str; 3] = ["task_type", "metadata", "options"];

/// The task types of a program. Cheap to clone.
#[derive(Clone, Default)]
pub struct Registry {
    kinds: Arc<BTreeMap<String, Arc<dyn ErasedKind>>>,
    /// Other names, each with the one that is meant.
    aliases: Arc<BTreeMap<&'static str, String>>,
}

impl Registry {
    /// No types yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a type.
    ///
    /// # Panics
    /// When the name is taken or not `snake_case`, when the input's JSON Schema does not compile, or when the input
    /// has a member called `task_type`, `metadata` or `options`: those are the server's and would never arrive.
    #[must_use]
    pub fn with<K: TaskKind>(mut self, kind: K) -> Self {
        let added = self.add(Arc::new(Erased::new(kind)));
        assert!(added.is_ok(), "the task type {:?} is registered twice: give one of the two another NAME", K::NAME);
        self
    }

    /// Adds a type that was declared while the program runs, or in a file of its own.
    pub fn add(&mut self, kind: Arc<dyn ErasedKind>) -> Result<(), NameTaken> {
        if let Some(taken) = kind.aliases().iter().copied().chain([kind.name()]).find(|name| self.get(name).is_some()) {
            return Err(NameTaken(taken.to_owned()));
        }
        for alias in kind.aliases() {
            Arc::make_mut(&mut self.aliases).insert(alias, kind.name().to_owned());
        }
        Arc::make_mut(&mut self.kinds).insert(kind.name().to_owned(), kind);
        Ok(())
    }

    /// The type of this name or alias.
    pub fn get(&self, name: &str) -> Option<&Arc<dyn ErasedKind>> {
        self.kinds.get(self.aliases.get(name).map_or(name, String::as_str))
    }

    /// The same types, each one turned into another of the same name.
    pub fn map(&self, turn: impl Fn(&Arc<dyn ErasedKind>) -> Arc<dyn ErasedKind>) -> Self {
        let kinds = self.kinds.iter().map(|(name, kind)| (name.clone(), turn(kind))).collect();
        Self { kinds: Arc::new(kinds), aliases: self.aliases.clone() }
    }

    /// All types, by name.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &Arc<dyn ErasedKind>> {
        self.kinds.values()
    }

    /// All names, aliases last.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.kinds.keys().map(String::as_str).chain(self.aliases.keys().copied())
    }
}

/// There is a type of this name already.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there is a task type {0:?} already")]
pub struct NameTaken(String);

impl std::fmt::Debug for Registry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.names()).finish()
    }
}

/// A task type as serve and work see it: JSON in, JSON out. [`Registry::with`] makes one of every [`TaskKind`].
pub trait ErasedKind: Send + Sync {
    /// The name in `task_type`.
    fn name(&self) -> &str;

    /// Other names that it answers to.
    fn aliases(&self) -> &'static [&'static str] {
        &[]
    }

    /// One line for people who choose from a list.
    fn description(&self) -> &str;

    /// The JSON Schema (draft 2020-12) of the input.
    fn schema(&self) -> &Value;

    /// Queue, retries and time limit where the submitter names none.
    fn defaults(&self) -> Defaults;

    /// Checks an input: first against the schema, then by decoding it, then by the type's own
    /// [`TaskKind::check`]. The first of the three that objects says everything that it has found.
    fn check(&self, input: &RawValue) -> Result<(), Vec<Finding>>;

    /// Whether what it needs is there, as a worker sees it. The text says what is missing.
    fn check_runnable(&self) -> Result<(), String> {
        Ok(())
    }

    /// How long it may take to stop when it was asked to, where that may be longer than `APP_STOP_TIMEOUT`.
    fn grace(&self) -> Duration {
        Duration::ZERO
    }

    /// Decodes the input at once, and returns the attempt. A result of `null` becomes `{}`.
    fn run(self: Arc<Self>, input: &RawValue, ctx: Context) -> BoxFuture<'static, Result<Box<RawValue>, RunError>>;
}

/// How an attempt ends without a result.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// This build of the type cannot read an input that another build has accepted. Nothing has run.
    #[error("the input cannot be decoded: {0}")]
    Undecodable(String),
    /// The handler's own failure.
    #[error("the attempt failed: {0:?}")]
    Failed(Failure),
}

struct Erased<K> {
    kind: Arc<K>,
    schema: Value,
    validator: Validator,
}

impl<K: TaskKind> Erased<K> {
    fn new(kind: K) -> Self {
        let name = K::NAME;
        for name in K::ALIASES.iter().copied().chain([name]) {
            assert!(is_type_name(name), "the task type {name:?} needs another NAME: 1 to 64 of a-z, 0-9 and _");
        }
        let schema = SchemaSettings::draft2020_12().into_generator().into_root_schema_for::<K::Input>().to_value();
        for key in RESERVED_KEYS {
            assert!(
                schema.pointer("/properties").and_then(|known| known.get(key)).is_none(),
                "the input of the task type {name:?} has a member {key:?}, which is the server's own: rename it"
            );
        }
        let validator = jsonschema::draft202012::new(&schema)
            .unwrap_or_else(|error| panic!("the JSON Schema of the task type {name:?} does not compile: {error}"));
        Self { kind: Arc::new(kind), schema, validator }
    }
}

impl<K: TaskKind> ErasedKind for Erased<K> {
    fn name(&self) -> &str {
        K::NAME
    }

    fn aliases(&self) -> &'static [&'static str] {
        K::ALIASES
    }

    fn description(&self) -> &str {
        K::DESCRIPTION
    }

    fn schema(&self) -> &Value {
        &self.schema
    }

    fn defaults(&self) -> Defaults {
        self.kind.defaults()
    }

    fn check(&self, input: &RawValue) -> Result<(), Vec<Finding>> {
        let value = fits(&self.validator, &self.schema, input)?;
        // The value is there already, and decoding it costs a fraction of reading the text again. The text has the last
        // word, since it is what a worker decodes, and some types (a RawValue) are made of text alone.
        let decoded = match K::Input::deserialize(&value) {
            Ok(decoded) => decoded,
            Err(_) => serde_json::from_str(input.get()).map_err(at_the_root)?,
        };
        let findings = self.kind.check(&decoded);
        if findings.is_empty() { Ok(()) } else { Err(findings) }
    }

    fn run(self: Arc<Self>, input: &RawValue, ctx: Context) -> BoxFuture<'static, Result<Box<RawValue>, RunError>> {
        let decoded = serde_json::from_str::<K::Input>(input.get());
        let kind = self.kind.clone();
        Box::pin(async move {
            let input = decoded.map_err(|error| RunError::Undecodable(error.to_string()))?;
            let output = kind.run(input, ctx).await.map_err(RunError::Failed)?;
            encode(&output).map_err(RunError::Failed)
        })
    }
}

/// Checks an input against its schema alone, and returns it as it was read for that.
pub(super) fn fits(validator: &Validator, schema: &Value, input: &RawValue) -> Result<Value, Vec<Finding>> {
    let value: Value = serde_json::from_str(input.get()).map_err(at_the_root)?;
    // Nearly every input is right: the errors are collected only when there are any.
    match validator.is_valid(&value) {
        true => Ok(value),
        false => Err(findings::explain(validator.iter_errors(&value), schema, "this task type")),
    }
}

fn at_the_root(error: serde_json::Error) -> Vec<Finding> {
    vec![Finding { pointer: String::new(), detail: error.to_string() }]
}

/// A result as it is stored: JSON that every reader takes, and never `null`.
pub(crate) fn encode<T: serde::Serialize>(output: &T) -> Result<Box<RawValue>, Failure> {
    let encoded = to_raw_value(output)
        .and_then(|text| match storable_json(text.get()) {
            Cow::Borrowed(_) => Ok(text),
            Cow::Owned(cleaned) => RawValue::from_string(cleaned),
        })
        .map_err(|error| Failure::fatal("encode_result", format!("the result is not JSON: {error}")))?;
    Ok(if encoded.get() == "null" { RawValue::from_string("{}".to_owned()).unwrap_or(encoded) } else { encoded })
}

#[cfg(test)]
mod tests {
    use schemars::JsonSchema;
    use serde::Deserialize;
    use serde_json::json;

    use super::*;
    use crate::tasks::testing;

    /// A type that shows every road through the registry.
    struct Greet;

    #[derive(Deserialize, JsonSchema)]
    #[serde(deny_unknown_fields)]
    struct Greeting {
        /// Who is greeted.
        name: String,
        #[serde(default)]
        #[schemars(range(min = 0, max = 3))]
        times: u32,
        #[serde(default)]
        words: Vec<String>,
    }

    impl TaskKind for Greet {
        const NAME: &'static str = "greet";
        const ALIASES: &'static [&'static str] = &["salute"];
        const DESCRIPTION: &'static str = "Greets somebody";
        type Input = Greeting;
        type Output = Option<Value>;

        fn check(&self, input: &Greeting) -> Vec<Finding> {
            let refused = input.name == "nobody";
            refused.then(|| Finding { pointer: "/name".into(), detail: "name somebody".into() }).into_iter().collect()
        }

        async fn run(&self, input: Greeting, _: Context) -> Result<Option<Value>, Failure> {
            match input.times {
                0 => Ok(None),
                _ => Ok(Some(json!({ "said": format!("hello {}\0", input.name), "words": input.words }))),
            }
        }
    }

    fn check(input: Value) -> Result<(), Vec<(String, String)>> {
        let registry = Registry::new().with(Greet);
        registry
            .get("greet")
            .unwrap()
            .check(&to_raw_value(&input).unwrap())
            .map_err(|found| found.into_iter().map(|finding| (finding.pointer, finding.detail)).collect())
    }

    fn pointers(input: Value) -> Vec<String> {
        check(input).unwrap_err().into_iter().map(|(pointer, _)| pointer).collect()
    }

    #[test]
    fn types_are_found_by_name() {
        let registry = Registry::new().with(Greet);
        assert_eq!(registry.iter().map(|kind| kind.name()).collect::<Vec<_>>(), ["greet"]);
        assert!(registry.get("unknown").is_none());
        assert_eq!(registry.get("greet").unwrap().schema()["properties"]["name"]["type"], "string");
    }

    #[test]
    #[should_panic(expected = "registered twice")]
    fn a_name_is_used_once() {
        let _ = Registry::new().with(Greet).with(Greet);
    }

    #[test]
    fn a_type_answers_to_its_aliases_and_they_are_taken() {
        let mut registry = Registry::new().with(Greet);
        assert_eq!(registry.get("salute").unwrap().name(), "greet");
        assert_eq!(registry.names().collect::<Vec<_>>(), ["greet", "salute"]);
        assert_eq!(registry.iter().len(), 1);
        let again = registry.get("greet").unwrap().clone();
        assert_eq!(registry.add(again), Err(NameTaken("salute".to_owned())));
    }

    #[test]
    fn a_right_input_passes() {
        assert_eq!(check(json!({"name": "Ada", "times": 3, "words": ["a"]})), Ok(()));
    }

    #[test]
    fn findings_point_at_the_place_and_say_what_is_right() {
        assert_eq!(
            check(json!({"times": 4, "a/b~c": 1})).unwrap_err(),
            [
                ("/a~1b~0c".into(), "unknown key: this task type takes name, times, words".into()),
                ("/name".into(), "this key is missing: it must be a string".into()),
                ("/times".into(), "must be at most 3".into()),
            ]
        );
        assert_eq!(pointers(json!({"name": 5})), ["/name"]);
        assert_eq!(pointers(json!({"name": "Ada", "words": ["a", 1]})), ["/words/1"]);
        assert_eq!(pointers(json!([])), [""]);
        assert_eq!(check(json!({"name": "nobody"})).unwrap_err(), [("/name".into(), "name somebody".into())]);
    }

    #[tokio::test]
    async fn null_becomes_an_object_and_nul_becomes_storable() {
        let nothing = testing::run(Greet, json!({"name": "Ada"})).await;
        assert_eq!(nothing.result(), &json!({}));
        let greeting = testing::run(Greet, json!({"name": "Ada", "times": 1, "words": ["\\u0000"]})).await;
        assert_eq!(greeting.result(), &json!({"said": "hello Ada\u{FFFD}", "words": ["\\u0000"]}));
    }

    #[tokio::test]
    async fn an_input_of_another_build_is_undecodable() {
        let kind: Arc<dyn ErasedKind> = Arc::new(Erased::new(Greet));
        let input = RawValue::from_string(r#"{"surname":"Lovelace"}"#.to_owned()).unwrap();
        let outcome = kind.run(&input, testing::context()).await;
        assert!(matches!(outcome, Err(RunError::Undecodable(why)) if why.contains("surname")));
    }
}
