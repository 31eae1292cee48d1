//! Lease token: what an HTTP worker shows to say that a delivery is its own.
//!
//! It names the delivery and carries 256 random bits. The database has a digest of it only, so that whoever reads a
//! row, a dump or a log of statements cannot write in the name of a worker.

use std::{fmt, str::FromStr};

use sha2::{Digest, Sha256};

/// Random bytes of a token.
const SECRET_BYTES: usize = 32;

/// The text is not a token that this program gave out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a lease token")]
pub struct InvalidToken;

/// The token of one delivery. Written as `delivery.hex`; never printed for debugging.
#[derive(Clone, PartialEq, Eq)]
pub struct LeaseToken {
    /// The delivery.
    pub delivery: i32,
    secret: [u8; SECRET_BYTES],
}

impl LeaseToken {
    /// A new one, from the operating system's seeded generator. The delivery is known when its claim is.
    pub fn new(delivery: i32) -> Self {
        Self { delivery, secret: rand::random() }
    }

    /// The same secret for this delivery.
    pub fn of(self, delivery: i32) -> Self {
        Self { delivery, ..self }
    }

    /// What the database keeps: SHA-256 of the secret.
    pub fn digest(&self) -> Vec<u8> {
        Sha256::digest(self.secret).to_vec()
    }
}

impl fmt::Display for LeaseToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.", self.delivery)?;
        self.secret.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for LeaseToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.[secret]", self.delivery)
    }
}

impl FromStr for LeaseToken {
    type Err = InvalidToken;

    fn from_str(text: &str) -> Result<Self, InvalidToken> {
        let (delivery, hex) = text.split_once('.').ok_or(InvalidToken)?;
        if hex.len() != 2 * SECRET_BYTES || !hex.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(InvalidToken);
        }
        let mut secret = [0; SECRET_BYTES];
        for (at, byte) in secret.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).map_err(|_| InvalidToken)?;
        }
        Ok(Self { delivery: delivery.parse().map_err(|_| InvalidToken)?, secret })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_round_trip_and_hide() {
        let token = LeaseToken::new(3);
        assert_eq!(token.to_string().parse(), Ok(token.clone()));
        assert_eq!(token.digest(), token.clone().of(4).digest());
        assert_ne!(token.digest(), LeaseToken::new(3).digest());
        assert_eq!(format!("{token:?}"), "3.[secret]");
    }

    #[test]
    fn garbage_is_refused() {
        let good = LeaseToken::new(1).to_string();
        for bad in ["", "1", "1.", ".ab", &good[..good.len() - 1], &format!("{good}0"), &good.replace("1.", "x.")] {
            assert_eq!(bad.parse::<LeaseToken>(), Err(InvalidToken), "{bad}");
        }
        assert!(format!("1.{}", "é".repeat(32)).parse::<LeaseToken>().is_err());
    }
}
