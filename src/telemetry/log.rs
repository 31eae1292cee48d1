//! Log lines: readable text for people, JSON for programs. One event is one line, whatever its values contain.

use std::fmt::{self, Debug, Write};

use tracing::field::{Field, Visit};
use tracing_subscriber::{
    Layer, Registry,
    field::RecordFields,
    fmt::{FormatFields, MakeWriter, format::Writer},
};

use crate::config::LogFormat;

/// The layer that writes lines.
pub(super) fn layer<W>(format: LogFormat, colour: bool, writer: W) -> Box<dyn Layer<Registry> + Send + Sync>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let layer = tracing_subscriber::fmt::layer().with_writer(writer);
    match format {
        LogFormat::Text => layer.with_ansi(colour).fmt_fields(TextFields).boxed(),
        // serde escapes control characters; the fields of the innermost span (task.id, attempt …) come with each line.
        LogFormat::Json => layer.json().flatten_event(true).with_span_list(false).boxed(),
    }
}

/// Fields that a readable line leaves out: what only a trace needs, and where a record of the `log` crate comes from,
/// which the line shows as its target.
const UNSAID: [&str; 3] = ["otel.", "messaging.", "log."];

/// `message name=value`, with everything escaped that could end the line or command the terminal.
struct TextFields;

impl<'writer> FormatFields<'writer> for TextFields {
    fn format_fields<R: RecordFields>(&self, writer: Writer<'writer>, fields: R) -> fmt::Result {
        let mut line = TextLine { writer, started: false, outcome: Ok(()) };
        fields.record(&mut line);
        line.outcome
    }
}

struct TextLine<'writer> {
    writer: Writer<'writer>,
    started: bool,
    outcome: fmt::Result,
}

impl TextLine<'_> {
    fn write(&mut self, name: &str, value: &dyn Debug) -> fmt::Result {
        if std::mem::replace(&mut self.started, true) {
            self.writer.write_char(' ')?;
        }
        if name != "message" {
            write!(self.writer, "{}=", name.trim_start_matches("r#"))?;
        }
        write!(Escaping(&mut self.writer), "{value:?}")
    }
}

impl Visit for TextLine<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        if self.outcome.is_ok() && !UNSAID.iter().any(|prefix| field.name().starts_with(prefix)) {
            self.outcome = self.write(field.name(), value);
        }
    }
}

/// Writes text with its control characters and the invisible characters that reorder a line spelled out.
struct Escaping<W>(W);

impl<W: Write> Write for Escaping<W> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let mut rest = text;
        while let Some((at, bad)) = rest.char_indices().find(|(_, c)| is_unprintable(*c)) {
            self.0.write_str(&rest[..at])?;
            write!(self.0, "{}", bad.escape_default())?;
            rest = &rest[at + bad.len_utf8()..];
        }
        self.0.write_str(rest)
    }
}

/// Control characters (C0, DEL, C1), line and paragraph separators, and the bidirectional controls of Unicode UAX #9.
fn is_unprintable(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{061C}' | '\u{200E}' | '\u{200F}' | '\u{2028}'..='\u{202E}' | '\u{2066}'..='\u{2069}')
}
