//! Bars: the last lines of a terminal, one for each followed task, written over as they change.

use std::{
    io::{self, Write},
    time::{Duration, Instant},
};

use chrono::{DateTime, Utc};

use super::view::View;
use crate::client::{
    screen::{Look, Style},
    text, time,
    wire::Status,
};

/// Nobody reads faster.
const PACE: Duration = Duration::from_millis(100);
/// Times move on without news.
const TICK: Duration = Duration::from_secs(1);
const NARROWEST_BAR: usize = 8;
const WIDEST_BAR: usize = 30;
/// Columns that a message of a task may take at least.
const MESSAGE: usize = 10;

/// The bars on stderr.
pub struct Bars {
    look: Look,
    lines: usize,
    drawn_at: Option<Instant>,
    /// There is something that they do not show yet.
    stale: bool,
}

impl Bars {
    /// None is drawn yet.
    pub fn new(look: Look) -> Self {
        Self { look, lines: 0, drawn_at: None, stale: false }
    }

    /// Takes them away, so that a line can be written in their place.
    pub fn clear(&mut self) {
        if self.lines == 0 {
            return;
        }
        let up = if self.lines > 1 { format!("\x1b[{}A", self.lines - 1) } else { String::new() };
        write(&format!("\r{up}\x1b[J"));
        self.lines = 0;
        self.drawn_at = None;
    }

    /// Something has changed.
    pub fn touch(&mut self) {
        self.stale = true;
    }

    /// Draws them when it is time.
    pub fn draw(&mut self, views: &[View], now: DateTime<Utc>) {
        let age = self.drawn_at.map(|at| at.elapsed());
        if age.is_some_and(|age| age < PACE || !self.stale && age < TICK) {
            return;
        }
        self.paint(views, now);
    }

    /// Draws them a last time and leaves them there.
    pub fn finish(&mut self, views: &[View], now: DateTime<Utc>) {
        self.paint(views, now);
        if self.lines > 0 {
            write("\n");
        }
        self.lines = 0;
    }

    fn paint(&mut self, views: &[View], now: DateTime<Utc>) {
        let (columns, rows) = self.look.size();
        // The last column stays free: some terminals go to the next line there.
        let room = columns.saturating_sub(1);
        let ending = |view: &View| format!("{}{} ", self.look.ellipsis(), &view.id[view.id.len().saturating_sub(4)..]);
        let label = |view: &View| if views.len() > 1 { ending(view) } else { String::new() };
        let fits = if views.len() < rows { views.len() } else { rows.saturating_sub(2).max(1) };
        let mut lines: Vec<String> =
            views.iter().take(fits).map(|view| self.line(view, &label(view), room, now)).collect();
        if fits < views.len() {
            lines.push(text::cut(&format!("and {} more", views.len() - fits), room, self.look.ellipsis()));
        }
        let count = lines.len();
        let mut drawing = String::new();
        if self.lines > 1 {
            drawing.push_str(&format!("\x1b[{}A", self.lines - 1));
        }
        drawing.push_str("\r\x1b[J");
        drawing.push_str(&lines.join("\n"));
        write(&drawing);
        self.lines = count;
        self.drawn_at = Some(Instant::now());
        self.stale = false;
    }

    /// `◐ RUNNING  ███████▋░░░  63%  630/1000  Parsing HTML  25m34s  ~40m left  try 2/4  host-3`
    fn line(&self, view: &View, label: &str, room: usize, now: DateTime<Utc>) -> String {
        let look = &self.look;
        let status = view.status.unwrap_or(Status::Pending);
        let word = format!("{} {}", status.sign(look), text::pad(status.word(), "CANCELLED".len()));
        let tail = tail(view, status, now);
        let message = look.safe(&message(view, status, now));
        let numbers = view.progress.as_ref().map(|progress| {
            let percent = progress.percent.map(|percent| format!("{percent:3.0}%  ")).unwrap_or_default();
            format!("{percent}{}", progress.count())
        });
        let numbers = numbers.unwrap_or_default();
        let fixed = text::width(label) + text::width(&word) + text::width(&numbers) + text::width(&tail) + 8;
        let wanted = text::width(&message).min(MESSAGE);
        let bar_room = room.saturating_sub(fixed + wanted).min(WIDEST_BAR);
        let bar = match view.percent() {
            Some(percent) if bar_room >= NARROWEST_BAR && status != Status::Pending => bar(look, percent, bar_room),
            _ => String::new(),
        };
        let message_room = room.saturating_sub(fixed + text::width(&bar));
        let message = text::cut(&message, message_room, look.ellipsis());
        let rest: Vec<String> = [bar, numbers, message, tail].into_iter().filter(|part| !part.is_empty()).collect();
        let rest = text::cut(
            &rest.join("  "),
            room.saturating_sub(text::width(label) + text::width(&word) + 2),
            look.ellipsis(),
        );
        format!("{label}{}  {rest}", look.paint(status.style(), &word))
    }
}

fn message(view: &View, status: Status, now: DateTime<Utc>) -> String {
    let task = view.task.as_ref();
    match (view.lost, status) {
        (true, _) if view.exit.is_none() => "reconnecting".to_owned(),
        (_, Status::Pending) => task.map(|task| task.why_pending(now)).unwrap_or_default(),
        (_, Status::Running) => {
            view.progress.as_ref().and_then(|progress| progress.message.clone()).unwrap_or_default()
        }
        _ => task.and_then(|task| task.error.as_ref()).map(|error| error.shown()).unwrap_or_default(),
    }
}

fn tail(view: &View, status: Status, now: DateTime<Utc>) -> String {
    let mut parts = Vec::new();
    parts.extend(view.lasted(now).map(time::span));
    parts.extend(view.left().map(|left| format!("~{} left", time::rough(left))));
    if let (Some(attempt), Some(task)) = (view.attempt, &view.task)
        && (attempt > 1 || status == Status::Running)
    {
        parts.push(format!("try {attempt}/{}", task.max_attempts));
    }
    parts.extend(view.host.as_deref().map(|host| text::safe(host, text::Lines::One, text::Charset::Ascii)));
    parts.join("  ")
}

/// Eighths of a column where they can be shown.
fn bar(look: &Look, percent: f64, columns: usize) -> String {
    let part = (percent / 100.0).clamp(0.0, 1.0);
    if look.charset == text::Charset::Ascii {
        let inside = columns.saturating_sub(2);
        let full = (part * inside as f64) as usize;
        return format!("[{}{}]", "#".repeat(full), "-".repeat(inside - full));
    }
    let eighths = (part * columns as f64 * 8.0) as usize;
    let full = eighths / 8;
    let mut bar = "█".repeat(full);
    if full < columns {
        bar.push(['░', '▏', '▎', '▍', '▌', '▋', '▊', '▉'][eighths % 8]);
        bar.push_str(&"░".repeat(columns - full - 1));
    }
    look.paint(Style::Plain, &bar)
}

fn write(text: &str) {
    let mut err = io::stderr().lock();
    let _ = err.write_all(text.as_bytes());
    let _ = err.flush();
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::client::{text::Charset, wire::Progress};

    fn view(percent: Option<f64>, message: &str) -> View {
        let mut view = View::new("01M855Z9FNVC7F7BJMWV67JG2H".into());
        view.status = Some(Status::Running);
        view.progress =
            Some(Progress { current: 630, total: percent.map(|_| 1000), percent, message: Some(message.into()) });
        view
    }

    #[test]
    fn a_bar_has_eighths_where_they_can_be_shown() {
        assert_eq!(bar(&Look::plain_terminal(Charset::Unicode), 63.0, 10), "██████▎░░░");
        assert_eq!(bar(&Look::plain_terminal(Charset::Unicode), 100.0, 3), "███");
        assert_eq!(bar(&Look::plain_terminal(Charset::Ascii), 50.0, 10), "[####----]");
    }

    #[test]
    fn without_a_total_there_is_a_count_and_no_bar() {
        let bars = Bars::new(Look::plain_terminal(Charset::Unicode));
        assert_eq!(bars.line(&view(None, "Reading"), "", 79, Utc::now()), "◐ RUNNING    630  Reading");
        let line = bars.line(&view(Some(63.0), "Parsing HTML"), "", 79, Utc::now());
        assert_eq!(line, "◐ RUNNING    ██████████████████▉░░░░░░░░░░░   63%  630/1000  Parsing HTML");
    }

    proptest! {
        #[test]
        fn a_line_never_wraps(message in "\\PC{0,80}", columns in 1usize..120, percent in 0.0f64..100.0) {
            for charset in [Charset::Unicode, Charset::Ascii] {
                let bars = Bars::new(Look::plain_terminal(charset));
                let line = bars.line(&view(Some(percent), &message), "…JG2H ", columns, Utc::now());
                // Status and id are never cut.
                prop_assert!(text::width(&line) <= columns.max(24), "{line:?} in {columns}");
            }
        }
    }
}
