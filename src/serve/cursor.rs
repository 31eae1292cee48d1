//! The cursor of a list: the last id shown, wrapped so that nobody builds on what is inside.

use std::{fmt, str::FromStr};

use sha2::{Digest, Sha256};

use crate::core::model::TaskId;

/// Goes on below this task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cursor(pub TaskId);

/// Four bytes over the id: they tell a slip or a forgery from a cursor of ours. Not a secret: a cursor gives no
/// right, since the owner is in every WHERE.
fn seal(id: TaskId) -> u32 {
    let digest = Sha256::new().chain_update(b"cursor of a task list").chain_update(id.to_bytes()).finalize();
    u32::from_be_bytes([digest[0], digest[1], digest[2], digest[3]])
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}{:08x}", u128::from_be_bytes(self.0.to_bytes()), seal(self.0))
    }
}

impl FromStr for Cursor {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let refusal = "not a cursor of this list: take it from the Link header as it is";
        if text.len() != 40 || !text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')) {
            return Err(refusal);
        }
        let (id, sealed) = text.split_at(32);
        let id = u128::from_str_radix(id, 16).map_err(|_| refusal)?;
        let id = TaskId::from_bytes(id.to_be_bytes());
        if u32::from_str_radix(sealed, 16) == Ok(seal(id)) { Ok(Self(id)) } else { Err(refusal) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_comes_back_and_a_forged_one_does_not() {
        let cursor = Cursor(TaskId::new());
        let text = cursor.to_string();
        assert_eq!(text.parse(), Ok(cursor));
        for at in 0..text.len() {
            let mut forged = text.clone().into_bytes();
            forged[at] = if forged[at] == b'0' { b'1' } else { b'0' };
            assert!(String::from_utf8(forged).unwrap().parse::<Cursor>().is_err());
        }
        for bad in ["", "é", "%00", &text[1..], &text.to_uppercase(), "+0000000000000000000000000000000000000000"] {
            assert!(bad.parse::<Cursor>().is_err(), "{bad}");
        }
    }
}
