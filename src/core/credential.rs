//! Credential: what a caller shows to be let in: a public id to find it by, and a secret of which only the hash is kept.
//!
//! Secrets are 32 random bytes, so a plain SHA-256 is enough: there is nothing to guess that a slow hash would protect.

use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::config::Secret;

/// What kind of thing it is, told by its first letters: so a leaked one can be searched for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CredentialKind {
    /// An API key, for programs.
    Key,
    /// A session, in a browser's cookie.
    Session,
}

/// An id and its secret. It has no `Debug`, so that it cannot be printed by accident.
#[derive(Clone)]
pub struct Credential {
    kind: CredentialKind,
    id: u64,
    secret: [u8; 32],
}

impl CredentialKind {
    fn prefix(self) -> &'static str {
        match self {
            CredentialKind::Key => "lrk_",
            CredentialKind::Session => "lrs_",
        }
    }
}

impl Credential {
    /// A new one, from the system's secure source.
    pub fn new(kind: CredentialKind) -> Self {
        Self { kind, id: rand::random(), secret: rand::random() }
    }

    /// Reads `lrk_<16 hexadecimal digits>_<64 hexadecimal digits>`, all in lower case.
    pub fn parse(kind: CredentialKind, text: &str) -> Option<Self> {
        let (id, secret) = text.strip_prefix(kind.prefix())?.split_once('_')?;
        let id: [u8; 8] = from_hex(id)?;
        Some(Self { kind, id: u64::from_be_bytes(id), secret: from_hex(secret)? })
    }

    /// The whole text, to be shown once.
    pub fn spell(&self) -> Secret {
        let secret: String = self.secret.iter().map(|byte| format!("{byte:02x}")).collect();
        Secret::from(format!("{}{}_{secret}", self.kind.prefix(), self.id()))
    }

    /// The public part.
    pub fn id(&self) -> String {
        format!("{:016x}", self.id)
    }

    /// What the database keeps of the secret.
    pub fn hash(&self) -> Vec<u8> {
        Sha256::digest(self.secret).to_vec()
    }

    /// Whether this is the secret that `hash` was made of. Takes the same time for every answer.
    pub fn matches(&self, hash: &[u8]) -> bool {
        self.hash().ct_eq(hash).into()
    }
}

fn from_hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digits = text.as_bytes();
    if digits.len() != 2 * N || !digits.iter().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f')) {
        return None;
    }
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_spelled_is_read_again() {
        let credential = Credential::new(CredentialKind::Key);
        let text = credential.spell();
        let read = Credential::parse(CredentialKind::Key, text.expose()).unwrap();
        assert_eq!(read.id(), credential.id());
        assert!(read.matches(&credential.hash()));
        assert!(!Credential::new(CredentialKind::Key).matches(&credential.hash()));
        assert!(!read.matches(b""), "a hash of another length is no match");
        assert_eq!(format!("{text:?}"), "[secret]");
    }

    #[test]
    fn what_is_no_key_is_not_read() {
        let good = Credential::new(CredentialKind::Key).spell();
        let good = good.expose();
        assert!(Credential::parse(CredentialKind::Session, good).is_none());
        let upper = good.to_uppercase();
        for bad in ["", "lrk_", "lrk__", "lrk_0_0", &good[1..], &good[..good.len() - 1], &upper, &format!("{good}0")] {
            assert!(Credential::parse(CredentialKind::Key, bad).is_none(), "{bad}");
        }
        let accented = format!("{}é", &good[..good.len() - 2]);
        assert!(Credential::parse(CredentialKind::Key, &accented).is_none());
    }
}
