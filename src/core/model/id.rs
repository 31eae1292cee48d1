//! Ids: ULIDs for tasks and for worker incarnations.
//!
//! A ULID (<https://github.com/ulid/spec>) is 48 bits of milliseconds and 80 random bits: it sorts by its creation
//! time, so lists page by id. The random part comes from the operating system's seeded generator and not from the
//! monotonic ULID generator, because a neighbour's id must not be guessable.

use std::{borrow::Cow, fmt, str::FromStr};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use ulid::Ulid;

/// The text is not a ULID of 26 Crockford base32 characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not an id: expected a ULID of 26 characters")]
pub struct InvalidId;

/// What every id looks like in an answer: Crockford base32, at most 128 bits.
const ULID_PATTERN: &str = "^[0-7][0-9A-HJKMNP-TV-Z]{25}$";

fn random_ulid() -> Ulid {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    let random: u128 = rand::random();
    Ulid::from_parts(now.as_millis() as u64, random & ((1 << 80) - 1))
}

macro_rules! ulid_newtype {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(Ulid);

        impl $name {
            /// A new id: now, and 80 random bits.
            #[allow(clippy::new_without_default, reason = "a default value that differs every time would surprise")]
            pub fn new() -> Self {
                Self(random_ulid())
            }

            /// The sixteen bytes, in the order in which ids sort.
            pub fn to_bytes(self) -> [u8; 16] {
                self.0.to_bytes()
            }

            /// The id with these sixteen bytes.
            pub fn from_bytes(bytes: [u8; 16]) -> Self {
                Self(Ulid::from_bytes(bytes))
            }

            /// Milliseconds since 1970 at which the id was made.
            pub fn timestamp_ms(self) -> u64 {
                self.0.timestamp_ms()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.0.array_to_str(&mut [0; ulid::ULID_LEN]))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;

            /// Either case is read; the canonical spelling is upper case.
            fn from_str(text: &str) -> Result<Self, InvalidId> {
                // The first character carries three bits: above '7' the value does not fit 128 bits.
                if text.len() != ulid::ULID_LEN || text.as_bytes()[0] > b'7' {
                    return Err(InvalidId);
                }
                Ulid::from_string(text).map(Self).map_err(|_| InvalidId)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.0.array_to_str(&mut [0; ulid::ULID_LEN]))
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                Cow::<str>::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
            }
        }

        impl JsonSchema for $name {
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({"type": "string", "pattern": ULID_PATTERN})
            }
        }
    };
}

ulid_newtype! {
    /// Names a task.
    TaskId
}

ulid_newtype! {
    /// Names one incarnation of a worker: a process that was declared dead and goes on is another worker.
    WorkerId
}

impl TaskId {
    /// The smallest id that can have been made at this time: ids below it are older.
    pub fn first_at(timestamp_ms: u64) -> Self {
        Self(Ulid::from_parts(timestamp_ms, 0))
    }

    /// The smallest id above this one.
    pub fn above(self) -> Self {
        Self(Ulid(self.0.0.saturating_add(1)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spelling_round_trips() {
        let id = TaskId::new();
        assert_eq!(id.to_string().parse(), Ok(id));
        assert_eq!(id.to_string().to_lowercase().parse(), Ok(id));
        assert_eq!(TaskId::from_bytes(id.to_bytes()), id);
        assert_eq!(serde_json::from_str::<TaskId>(&serde_json::to_string(&id).unwrap()).unwrap(), id);
    }

    #[test]
    fn garbage_is_refused() {
        for bad in ["", "abc", "01H455VB4PEX5VSKNK084SN02", "81H455VB4PEX5VSKNK084SN02Q", "01H455VB4PEX5VSKNK084SN0!Q"]
        {
            assert_eq!(bad.parse::<TaskId>(), Err(InvalidId), "{bad}");
        }
    }

    #[test]
    fn ids_sort_by_time_and_neighbours_differ() {
        let (a, b) = (TaskId::first_at(1_000), TaskId::first_at(1_001));
        assert!(a < b && a.to_string() < b.to_string());
        // 80 random bits: the chance that two ids share the first 16 of them by accident is one in 65,536 per pair.
        let heads: std::collections::HashSet<_> = (0..64).map(|_| TaskId::new().to_bytes()[6..].to_vec()).collect();
        assert_eq!(heads.len(), 64);
    }
}
