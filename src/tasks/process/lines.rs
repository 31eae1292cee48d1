//! Lines: a pipe, line by line, with bounded memory however long a line is.

use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};

/// A reader of lines.
pub(super) struct Lines<R> {
    pipe: BufReader<R>,
    line: Vec<u8>,
    longest: usize,
}

/// A line without its end.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Line {
    Whole(String),
    /// The beginning of a line that is too long; the rest was thrown away.
    Cut(String),
}

impl<R: AsyncRead + Unpin> Lines<R> {
    /// A line beyond `longest` bytes is cut: an end to what a broken program can make us hold.
    pub(super) fn new(pipe: R, longest: usize) -> Self {
        Self { pipe: BufReader::with_capacity(64 * 1024, pipe), line: Vec::new(), longest }
    }

    /// The next line; `None` at the end of the pipe. Bytes that are no UTF-8 are replaced.
    pub(super) async fn next(&mut self) -> std::io::Result<Option<Line>> {
        let mut cut = false;
        loop {
            let bytes = self.pipe.fill_buf().await?;
            if bytes.is_empty() {
                let rest = std::mem::take(&mut self.line);
                return Ok((!rest.is_empty()).then(|| line(&rest, cut)));
            }
            let end = bytes.iter().position(|byte| *byte == b'\n');
            let part = &bytes[..end.unwrap_or(bytes.len())];
            let room = self.longest - self.line.len();
            cut |= part.len() > room;
            self.line.extend_from_slice(&part[..part.len().min(room)]);
            let taken = end.map_or(bytes.len(), |end| end + 1);
            self.pipe.consume(taken);
            if end.is_some() {
                // Not kept: one long line must not make every later one as large.
                return Ok(Some(line(&std::mem::take(&mut self.line), cut)));
            }
        }
    }
}

fn line(bytes: &[u8], cut: bool) -> Line {
    let bytes = bytes.strip_suffix(b"\r").unwrap_or(bytes);
    let text = String::from_utf8_lossy(bytes).into_owned();
    if cut { Line::Cut(text) } else { Line::Whole(text) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn lines_are_told_apart_and_bounded() {
        const LONGEST: usize = 1_000_000;
        let long = "x".repeat(LONGEST + 10);
        let text = format!("one\r\n\n{long}\nlast");
        let mut lines = Lines::new(text.as_bytes(), LONGEST);
        assert_eq!(lines.next().await.unwrap(), Some(Line::Whole("one".to_owned())));
        assert_eq!(lines.next().await.unwrap(), Some(Line::Whole(String::new())));
        assert!(matches!(lines.next().await.unwrap(), Some(Line::Cut(text)) if text.len() == LONGEST));
        assert_eq!(lines.next().await.unwrap(), Some(Line::Whole("last".to_owned())));
        assert_eq!(lines.next().await.unwrap(), None);
    }
}
