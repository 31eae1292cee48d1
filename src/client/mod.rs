//! The client commands: a server from a terminal or a script. They speak its public HTTP API and nothing else.
//!
//! stdout is data, stderr is talk. On a terminal both are for a person; in a pipe data is one record per line, uncut,
//! with times in UTC, and with `--json` it is the API's own. What a task says is made safe before a terminal sees it.

mod api;
mod exit;
mod failure;
mod fields;
mod filter;
mod follow;
mod get;
mod ids;
mod list;
mod logs;
mod look;
mod many;
mod screen;
mod shell;
mod signals;
mod silence;
mod submit;
mod table;
mod text;
mod time;
mod wait;
mod wire;

use std::{process::ExitCode, sync::Arc, time::Duration};

use clap::{Args, Subcommand};
use url::Url;

use self::{
    api::{Api, SharedApi},
    exit::Exit,
    failure::Failure,
    screen::{ColorChoice, Format, Screen, Talk},
    time::Zone,
};
use crate::config::{self, Secret};

pub use self::exit::table_text as exit_codes;

/// Where a server is that nobody has moved.
const USUAL_URL: &str = "http://127.0.0.1:8001";
const USUAL_PATIENCE: Duration = Duration::from_secs(10);

/// The commands of a client.
#[derive(Subcommand)]
pub enum Command {
    /// Submit a task
    #[command(after_help = exit_codes())]
    Submit(Box<Of<submit::Submit>>),
    /// Show a task
    #[command(after_help = exit_codes())]
    Get(Of<get::Get>),
    /// List tasks, newest first
    #[command(after_help = exit_codes())]
    List(Box<Of<list::List>>),
    /// Show the log of a task
    #[command(after_help = exit_codes())]
    Logs(Of<logs::Logs>),
    /// Follow tasks to their end: log lines, progress, result
    #[command(after_help = exit_codes())]
    Follow(Of<follow::Follow>),
    /// Cancel tasks
    #[command(after_help = exit_codes())]
    Cancel(Box<Of<many::Cancel>>),
    /// Run tasks again that failed or were cancelled
    #[command(after_help = exit_codes())]
    Retry(Box<Of<many::Retry>>),
    /// Show the queues: what waits, what runs
    #[command(after_help = exit_codes())]
    Queues(Of<look::Queues>),
    /// Show the workers
    #[command(after_help = exit_codes())]
    Workers(Of<look::Workers>),
    /// Show the task types, and what input they take
    #[command(after_help = exit_codes())]
    Types(Of<look::Types>),
    /// Print a completion script for a shell
    Completions(shell::Completions),
    /// Write the manual pages into a folder
    #[command(hide = true)]
    Man(shell::Man),
}

/// A command and the options that all client commands have.
#[derive(Args)]
pub struct Of<C: Args> {
    #[command(flatten)]
    command: C,
    #[command(flatten)]
    common: Common,
}

/// Options of every client command; they may stand before the command's name too.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Client options")]
pub struct Common {
    /// Where the server is [default: http://127.0.0.1:8001]
    #[arg(long, env = "APP_URL", hide_env_values = true, value_name = "URL", value_parser = api::base_url)]
    url: Option<Url>,
    /// An API key or token. Better in the environment, where other users of the machine do not see it
    #[arg(long, env = "APP_TOKEN", hide_env_values = true, value_name = "TOKEN")]
    token: Option<Secret>,
    /// How long to try again when the server is busy or away [default: 10s]
    #[arg(long, env = "APP_RETRY_FOR", hide_env_values = true, value_name = "TIME", value_parser = config::duration)]
    retry_for: Option<Duration>,
    /// Print the API's own JSON; failures as a problem object on stderr
    #[arg(long)]
    json: bool,
    /// When to use colours: auto, always or never [default: auto]
    #[arg(long, value_name = "WHEN", value_enum, hide_possible_values = true)]
    color: Option<ColorChoice>,
    /// Show times in UTC
    #[arg(long)]
    utc: bool,
    /// Say nothing on stderr but errors
    #[arg(short, long, conflicts_with = "verbose")]
    quiet: bool,
    /// Say on stderr what is asked of the server
    #[arg(short, long)]
    verbose: bool,
}

impl Common {
    /// The ids of those that have an environment variable.
    pub const WITH_VARIABLE: [&'static str; 3] = ["url", "token", "retry_for"];

    /// These before the command's name, and those `after` it, which may come from the environment and so give way.
    fn and(self, after: Self) -> Self {
        Self {
            url: self.url.or(after.url),
            token: self.token.or(after.token),
            retry_for: self.retry_for.or(after.retry_for),
            json: self.json || after.json,
            color: self.color.or(after.color),
            utc: self.utc || after.utc,
            quiet: self.quiet || after.quiet,
            verbose: self.verbose || after.verbose,
        }
    }

    /// Whether any was given.
    pub fn is_empty(&self) -> bool {
        let options = [self.url.is_some(), self.token.is_some(), self.retry_for.is_some(), self.color.is_some()];
        ![self.json, self.utc, self.quiet, self.verbose].iter().chain(&options).any(|given| *given)
    }

    fn screen(&self) -> Screen {
        let talk = match (self.quiet, self.verbose) {
            (true, _) => Talk::Quiet,
            (_, true) => Talk::Verbose,
            _ => Talk::Normal,
        };
        let format = if self.json { Format::Json } else { Format::Text };
        let zone = if self.utc { Zone::Utc } else { Zone::Local };
        Screen::detect(self.color.unwrap_or(ColorChoice::Auto), format, talk, zone)
    }
}

/// What a command works with.
#[derive(Clone)]
pub struct Session {
    api: SharedApi,
    screen: Screen,
    /// What a command that is hinted at must have to reach the same server.
    again: String,
}

impl Session {
    fn open(common: &Common) -> Result<Self, Failure> {
        let usual = || api::base_url(USUAL_URL).map_err(Failure::unexpected);
        let url = match &common.url {
            Some(url) => url.clone(),
            None => usual()?,
        };
        let found_again = match std::env::var("APP_URL") {
            Ok(text) => api::base_url(&text).ok(),
            Err(_) => Some(usual()?),
        };
        let again = match found_again.as_ref() == Some(&url) {
            true => String::new(),
            false => format!(" --url {}", filter::quoted(url.as_str())),
        };
        let screen = common.screen();
        let patience = common.retry_for.unwrap_or(USUAL_PATIENCE);
        let token = common.token.as_ref().map(usable).transpose()?;
        Ok(Self { api: Arc::new(Api::new(url, token, patience, screen)), screen, again })
    }
}

/// The token without the line break that a file ends with. What no header can carry is refused here, by its name.
fn usable(token: &Secret) -> Result<Secret, Failure> {
    let token = token.expose().trim();
    match token.bytes().all(|byte| byte.is_ascii_graphic()) {
        true => Ok(token.to_owned().into()),
        false => Err(Failure::usage(
            "--token (APP_TOKEN) is no key and no token: it has a blank, a line break or a letter outside of ASCII",
        )),
    }
}

impl Command {
    /// Runs it and returns the exit code. `whole` is the whole command line of the program, for completions.
    pub fn run(self, before: Common, whole: clap::Command) -> ExitCode {
        let screen = before.screen();
        match self {
            Command::Submit(of) => of.run(before, submit::Submit::run),
            Command::Get(of) => of.run(before, get::Get::run),
            Command::List(of) => of.run(before, list::List::run),
            Command::Logs(of) => of.run(before, logs::Logs::run),
            Command::Follow(of) => of.run(before, follow::Follow::run),
            Command::Cancel(of) => of.run(before, many::Cancel::run),
            Command::Retry(of) => of.run(before, many::Retry::run),
            Command::Queues(of) => of.run(before, look::Queues::run),
            Command::Workers(of) => of.run(before, look::Workers::run),
            Command::Types(of) => of.run(before, look::Types::run),
            Command::Completions(completions) => ended(&screen, completions.run(whole)),
            Command::Man(man) => ended(&screen, man.run(whole)),
        }
    }
}

impl<C: Args> Of<C> {
    fn run(self, before: Common, command: impl FnOnce(C, Session) -> Result<Exit, Failure>) -> ExitCode {
        let common = before.and(self.common);
        let screen = common.screen();
        let done = Session::open(&common).and_then(|session| {
            let again = session.again.clone();
            command(self.command, session).map_err(|failure| failure.with_hint(&again))
        });
        ended(&screen, done)
    }
}

fn ended(screen: &Screen, outcome: Result<Exit, Failure>) -> ExitCode {
    match outcome {
        Ok(exit) => exit.into(),
        Err(failure) => {
            screen.report(&failure);
            failure.exit.into()
        }
    }
}
