//! Screen: where a command writes, and how. stdout is data, stderr is talk; each may be a terminal or a pipe.

use std::io::{self, IsTerminal, Write};

use clap::ValueEnum;

use super::{
    failure::Failure,
    text::{self, Charset, Lines},
    time::Zone,
};

/// Columns of a terminal that does not tell.
const USUAL_WIDTH: usize = 80;
/// Rows of a terminal that does not tell.
const USUAL_HEIGHT: usize = 24;

/// When to use colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ColorChoice {
    /// On a terminal, unless NO_COLOR is set or TERM is dumb
    Auto,
    /// Always
    Always,
    /// Never
    Never,
}

/// How much a command says on stderr.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Talk {
    /// Errors only.
    Quiet,
    /// What a person needs.
    Normal,
    /// Every request too.
    Verbose,
}

/// Whether data is for people or for programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Tables and lines.
    Text,
    /// The API's own JSON.
    Json,
}

/// Both streams.
#[derive(Debug, Clone, Copy)]
pub struct Screen {
    /// stdout.
    pub out: Look,
    /// stderr.
    pub err: Look,
    /// Of the data on stdout and the errors on stderr.
    pub format: Format,
    /// On stderr.
    pub talk: Talk,
    /// Of times on a terminal.
    pub zone: Zone,
}

/// What one stream can show.
#[derive(Debug, Clone, Copy)]
pub struct Look {
    /// A person looks at it.
    pub terminal: bool,
    /// Lines can be written over: a terminal that is not dumb.
    pub bars: bool,
    colour: bool,
    /// What can be shown.
    pub charset: Charset,
}

/// How a word stands out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// As it is.
    Plain,
    /// Headings.
    Bold,
    /// What matters less.
    Faint,
    /// An error.
    Red,
    /// A success.
    Green,
    /// A warning, a cancel.
    Yellow,
    /// What runs.
    Blue,
}

impl Screen {
    /// What the two streams of this process are.
    pub fn detect(color: ColorChoice, format: Format, talk: Talk, zone: Zone) -> Self {
        Self {
            out: Look::of(io::stdout().is_terminal(), color),
            err: Look::of(io::stderr().is_terminal(), color),
            format,
            talk,
            zone,
        }
    }

    /// A line of data.
    pub fn line(&self, line: &str) -> Result<(), Failure> {
        let mut out = io::stdout().lock();
        out.write_all(line.as_bytes())?;
        out.write_all(b"\n")?;
        Ok(out.flush()?)
    }

    /// JSON as data: as it came, and safe where a terminal reads it.
    pub fn json(&self, json: &str) -> Result<(), Failure> {
        let json = json.trim_end();
        if self.out.terminal { self.line(&text::safe_json(json)) } else { self.line(json) }
    }

    /// A hint, which `--quiet` leaves out. Nobody has to listen.
    pub fn hint(&self, hint: &str) {
        if self.talk >= Talk::Normal {
            self.say(hint);
        }
    }

    /// A line of talk.
    pub fn say(&self, line: &str) {
        let _ = writeln!(io::stderr().lock(), "{line}");
    }

    /// How the program says that it failed.
    pub fn report(&self, failure: &Failure) {
        if failure.message.is_empty() && failure.problem.is_none() {
            return;
        }
        match self.format {
            Format::Json if self.err.terminal => self.say(&text::safe_json(&failure.json())),
            Format::Json => self.say(&failure.json()),
            Format::Text => {
                let message = text::safe(&failure.message, Lines::Many, self.err.charset);
                self.say(&format!("{} {message}", self.err.paint(Style::Red, "error:")));
            }
        }
    }

    /// Whether somebody is there to be asked.
    pub fn can_ask(&self) -> bool {
        io::stdin().is_terminal() && self.err.terminal
    }

    /// A question that is answered by y or n; no answer is a no.
    pub fn ask(&self, question: &str) -> bool {
        let _ = write!(io::stderr().lock(), "{question} [y/N] ");
        let mut answer = String::new();
        let read = io::stdin().read_line(&mut answer);
        read.is_ok() && ["y", "yes"].contains(&answer.trim().to_ascii_lowercase().as_str())
    }
}

impl Look {
    fn of(terminal: bool, color: ColorChoice) -> Self {
        let set = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let dumb = set("TERM").is_none_or(|term| term == "dumb");
        let colour = match color {
            ColorChoice::Always => true,
            ColorChoice::Never => false,
            ColorChoice::Auto => terminal && !dumb && set("NO_COLOR").is_none(),
        };
        // POSIX: the first of these that is set decides.
        let locale = ["LC_ALL", "LC_CTYPE", "LANG"].iter().find_map(|name| set(name)).unwrap_or_default();
        let unicode = ["utf-8", "utf8"].iter().any(|name| locale.to_ascii_lowercase().contains(name));
        let charset = if terminal && !unicode { Charset::Ascii } else { Charset::Unicode };
        Self { terminal, bars: terminal && !dumb, colour, charset }
    }

    /// A stream that no person reads.
    #[cfg(test)]
    pub fn pipe() -> Self {
        Self { terminal: false, bars: false, colour: false, charset: Charset::Unicode }
    }

    /// A terminal without colours.
    #[cfg(test)]
    pub fn plain_terminal(charset: Charset) -> Self {
        Self { terminal: true, bars: true, colour: false, charset }
    }

    /// A word in a style.
    pub fn paint(&self, style: Style, word: &str) -> String {
        let code = match style {
            Style::Plain => return word.to_owned(),
            Style::Bold => "1",
            Style::Faint => "2",
            Style::Red => "31",
            Style::Green => "32",
            Style::Yellow => "33",
            Style::Blue => "34",
        };
        if self.colour { format!("\x1b[{code}m{word}\x1b[0m") } else { word.to_owned() }
    }

    /// A text of a task on one line.
    pub fn safe(&self, words: &str) -> String {
        text::safe(words, Lines::One, self.charset)
    }

    /// One of two signs, by what can be shown.
    pub fn sign<'a>(&self, unicode: &'a str, ascii: &'a str) -> &'a str {
        match self.charset {
            Charset::Unicode => unicode,
            Charset::Ascii => ascii,
        }
    }

    /// The mark of what was cut.
    pub fn ellipsis(&self) -> &'static str {
        self.sign("…", "...")
    }

    /// Columns and rows of the terminal now: its user may resize it.
    pub fn size(&self) -> (usize, usize) {
        let known =
            terminal_size::terminal_size_of(io::stderr()).or_else(|| terminal_size::terminal_size_of(io::stdout()));
        let (width, height) = known.map_or((0, 0), |(width, height)| (width.0.into(), height.0.into()));
        // A size of 0 is that of a terminal which does not know it.
        (if width == 0 { USUAL_WIDTH } else { width }, if height == 0 { USUAL_HEIGHT } else { height })
    }
}
