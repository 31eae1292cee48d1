//! Body: the bytes of an answer, decoded and bounded.
//!
//! The limit counts decoded bytes, so that a kilobyte of gzip cannot become a gigabyte of memory; the ratio between
//! decoded and received bytes is bounded too, so that a bomb is given up early.

use std::io::{self, Read};

use flate2::read::MultiGzDecoder;

use super::message::OutboundError;

/// Below this many decoded bytes any ratio is harmless.
const RATIO_COUNTS_FROM: usize = 1024 * 1024;
/// Real pages shrink to a tenth, a very repetitive one to a hundredth; deflate itself reaches 1,032 to one.
const MAX_RATIO: usize = 200;
const PIECE_BYTES: usize = 16 * 1024;

/// How an answer is packed (RFC 9110, section 8.4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Encoding {
    Identity,
    Gzip,
}

impl Encoding {
    /// Reads `Content-Encoding`. What was not asked for is an error: its bytes would be taken for text.
    pub(super) fn of(header: Option<&str>) -> Result<Self, OutboundError> {
        match header.map(|value| value.trim().to_ascii_lowercase()).as_deref() {
            None | Some("" | "identity") => Ok(Encoding::Identity),
            Some("gzip" | "x-gzip") => Ok(Encoding::Gzip),
            Some(_) => Err(OutboundError::UnknownEncoding),
        }
    }
}

/// Reads to the end, or to `max_bytes`.
pub(super) fn read(received: impl Read, encoding: Encoding, max_bytes: usize) -> Result<Vec<u8>, OutboundError> {
    let counted = Counted { inner: received, bytes: 0 };
    match encoding {
        Encoding::Identity => read_bounded(counted, max_bytes, |counted| counted.bytes),
        Encoding::Gzip => read_bounded(MultiGzDecoder::new(counted), max_bytes, |decoder| decoder.get_ref().bytes),
    }
}

fn read_bounded<R: Read>(
    mut reader: R,
    max_bytes: usize,
    received: impl Fn(&R) -> usize,
) -> Result<Vec<u8>, OutboundError> {
    let mut decoded = Vec::new();
    let mut piece = vec![0; PIECE_BYTES];
    loop {
        match reader.read(&mut piece) {
            Ok(0) => return Ok(decoded),
            Ok(length) => decoded.extend_from_slice(&piece[..length]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(OutboundError::from(ureq::Error::from(error))),
        }
        let bomb = decoded.len() > RATIO_COUNTS_FROM && decoded.len() / MAX_RATIO > received(&reader);
        if decoded.len() > max_bytes || bomb {
            return Err(OutboundError::TooLarge { max_bytes });
        }
    }
}

struct Counted<R> {
    inner: R,
    bytes: usize,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.inner.read(buffer)?;
        self.bytes += length;
        Ok(length)
    }
}
