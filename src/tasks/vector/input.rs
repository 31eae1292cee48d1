//! Input: what a submitter sends to `vector_processing`.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, de};

use super::math::Vectors;
use crate::tasks::Finding;

/// A task with no `duration` is paced over this many seconds.
const DEFAULT_DURATION: f64 = 10.0;
/// Larger numbers could make a sum of lengths overflow.
const LARGEST_COMPONENT: f64 = 1e300;
/// More findings than this help nobody.
const MAX_FINDINGS: usize = 20;

/// Vectors, and over how long they are processed.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct VectorInput {
    /// One vector as an array of numbers, or several as an array of equally long arrays of numbers
    #[schemars(example = [0.1, 0.2, 0.3])]
    pub vector_data: VectorData,
    /// Seconds over which the work is paced, 0 to 86400; 0 is as fast as it goes
    #[serde(default = "default_duration")]
    #[schemars(range(min = 0.0, max = 86400.0))]
    pub duration: f64,
}

fn default_duration() -> f64 {
    DEFAULT_DURATION
}

/// One vector or several.
#[derive(Debug, PartialEq, JsonSchema)]
#[schemars(untagged)]
pub enum VectorData {
    /// One vector
    One(#[schemars(length(min = 1))] Vec<f64>),
    /// Equally long vectors
    Several(#[schemars(length(min = 1))] Vec<NotEmpty>),
}

/// A vector of at least one component.
#[derive(Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct NotEmpty(#[schemars(length(min = 1))] Vec<f64>);

/// One element of `vector_data`. Read by hand, since serde's untagged enums copy every number once more on the way.
enum Element {
    Number(f64),
    Vector(Vec<f64>),
}

impl<'de> Deserialize<'de> for VectorData {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Elements;
        impl<'de> de::Visitor<'de> for Elements {
            type Value = VectorData;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an array of numbers, or an array of arrays of numbers")
            }

            fn visit_seq<A: de::SeqAccess<'de>>(self, mut elements: A) -> Result<VectorData, A::Error> {
                match elements.next_element()? {
                    None => Ok(VectorData::One(Vec::new())),
                    Some(Element::Number(first)) => {
                        let mut numbers = vec![first];
                        while let Some(number) = elements.next_element()? {
                            numbers.push(number);
                        }
                        Ok(VectorData::One(numbers))
                    }
                    Some(Element::Vector(first)) => {
                        let mut vectors = vec![NotEmpty(first)];
                        while let Some(vector) = elements.next_element()? {
                            vectors.push(vector);
                        }
                        Ok(VectorData::Several(vectors))
                    }
                }
            }
        }
        deserializer.deserialize_seq(Elements)
    }
}

impl<'de> Deserialize<'de> for Element {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct NumberOrVector;
        impl<'de> de::Visitor<'de> for NumberOrVector {
            type Value = Element;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number or an array of numbers")
            }

            fn visit_f64<E>(self, number: f64) -> Result<Element, E> {
                Ok(Element::Number(number))
            }

            fn visit_i64<E>(self, number: i64) -> Result<Element, E> {
                Ok(Element::Number(number as f64))
            }

            fn visit_u64<E>(self, number: u64) -> Result<Element, E> {
                Ok(Element::Number(number as f64))
            }

            fn visit_seq<A: de::SeqAccess<'de>>(self, mut numbers: A) -> Result<Element, A::Error> {
                let mut vector = Vec::new();
                while let Some(number) = numbers.next_element()? {
                    vector.push(number);
                }
                Ok(Element::Vector(vector))
            }
        }
        deserializer.deserialize_any(NumberOrVector)
    }
}

impl VectorInput {
    /// What the schema cannot say: vectors are equally long, numbers finite and not absurdly large.
    pub fn check(&self) -> Vec<Finding> {
        let mut findings = Vec::new();
        let mut look_at = |place: String, vector: &[f64]| {
            for (index, number) in vector.iter().enumerate().filter(|(_, number)| number.abs() > LARGEST_COMPONENT) {
                let detail = format!("{number:e} is too large: numbers from -1e300 to 1e300 can be processed");
                findings.push(Finding { pointer: format!("{place}/{index}"), detail });
                if findings.len() == MAX_FINDINGS {
                    return;
                }
            }
        };
        match &self.vector_data {
            VectorData::One(vector) => look_at("/vector_data".to_owned(), vector),
            VectorData::Several(vectors) => {
                let expected = vectors.first().map_or(0, |first| first.0.len());
                for (index, NotEmpty(vector)) in vectors.iter().enumerate() {
                    look_at(format!("/vector_data/{index}"), vector);
                }
                for (index, NotEmpty(vector)) in vectors.iter().enumerate().filter(|(_, v)| v.0.len() != expected) {
                    let detail = format!(
                        "has {} where the first vector has {expected}: all must be equally long",
                        super::counted(vector.len(), "number")
                    );
                    findings.push(Finding { pointer: format!("/vector_data/{index}"), detail });
                    if findings.len() >= MAX_FINDINGS {
                        break;
                    }
                }
            }
        }
        findings.truncate(MAX_FINDINGS);
        findings
    }

    /// The vectors, once [`check`](Self::check) has found nothing.
    pub fn into_vectors(self) -> Vectors {
        match self.vector_data {
            VectorData::One(components) => Vectors::new(components.len(), components),
            VectorData::Several(vectors) => {
                let dimensions = vectors.first().map_or(1, |first| first.0.len());
                Vectors::new(dimensions, vectors.into_iter().flat_map(|vector| vector.0).collect())
            }
        }
    }
}
