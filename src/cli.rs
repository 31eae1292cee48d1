//! The command line: the roles of the one binary, each put together from the rooms in a file of its own, and beside
//! them the commands of a client.
//!
//! A role ends in one of four ways, and the exit code says which: 0 told to stop and done, 1 an error (one line on
//! stderr), 2 a command line or a setting that cannot be, 128 + n made to leave at once by a second signal of number n. A
//! panic is a log line and 101. The exit codes of the client commands are in [`client`].

mod dev;
mod doctor;
mod health;
mod keys;
mod migrate;
mod mistakes;
mod process;
mod serve;
mod size;
mod types;
mod work;

use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand, error::ErrorKind};

use self::process::{keep_memory_private, report, run};
use crate::{
    client, config,
    dev::keeper,
    tasks::{TaskTypes, process::AttemptChild},
};

/// A server for long-running operations: submit over HTTP, run in workers, state in PostgreSQL, doorbells in Redis
#[derive(Parser)]
#[command(name = "app", version, max_term_width = 110, after_help = FIRST_STEPS)]
struct Cli {
    #[command(flatten)]
    client: client::Common,
    #[command(subcommand)]
    role: Role,
}

const FIRST_STEPS: &str = "\
Every setting is a flag and an environment variable; 'app ROLE --help' lists them.
To try it on this machine: app dev
In production, once per release: app migrate. Then any number of: app serve, app work.";

#[derive(Subcommand)]
enum Role {
    /// Answer HTTP requests
    Serve(serve::ServeRole),
    /// Run tasks
    Work(Box<work::WorkRole>),
    /// Bring the database's tables up to date
    ///
    /// Safe to run from many replicas at once: the others wait for the first and find nothing left to do.
    Migrate(migrate::MigrateRole),
    /// Look whether PostgreSQL, Redis and the settings are as they should be, and say what to do
    ///
    /// Reads and changes nothing. Exits with 1 when it finds a failure, and with 0 when there are only warnings.
    Doctor(Box<doctor::DoctorRole>),
    /// Tell how many servers, workers, connections and bytes a load needs
    ///
    /// Arithmetic alone: nothing is contacted. docs/sizing.md explains the formulas and what they are worth.
    Size(Box<size::SizeRole>),
    /// Make, list and revoke the keys that callers come in with
    Keys(keys::KeysRole),
    /// All roles in one process, with a private PostgreSQL and Redis where DATABASE_URL and REDIS_URL name none
    ///
    /// The private servers listen on 127.0.0.1, on free ports, with a password of their own. Their data stays in .dev
    /// when dev ends, so that its tasks are there again at the next start; delete the folder to begin anew.
    Dev(Box<dev::DevRole>),
    /// Exit with 0 when the process answers on APP_ADMIN_BIND or APP_BIND: a health check for containers without curl
    Health(health::HealthRole),
    #[command(hide = true)]
    Keep(keeper::Keep),
    #[command(flatten)]
    Client(client::Command),
    #[command(hide = true)]
    AttemptChild(AttemptChild),
}

/// The whole program: reads the command line, runs the role with these task types, and returns the exit code.
///
/// The types are a [`Registry`](crate::tasks::Registry), or a function that makes one and may fail: what takes time or
/// needs something of the environment belongs there, since the commands of clients and the processes around a command
/// task need no types and have not the whole environment.
pub fn main(types: impl TaskTypes) -> ExitCode {
    #[cfg(feature = "faults")]
    let types = || types.make().map(crate::tasks::test_types::registered_in);
    let cli = parse();
    // An attempt's own processes have no secrets in their environment.
    if !matches!(cli.role, Role::AttemptChild(_)) {
        keep_memory_private();
    }
    match cli.role {
        Role::Serve(role) => run("serve", &role.telemetry.clone(), 0, |stop| role.run(types, stop)),
        Role::Work(role) => run("work", &role.telemetry.clone(), all_slots(&role.work), |stop| role.run(types, stop)),
        Role::Migrate(role) => run("migrate", &role.telemetry.clone(), 0, |stop| role.run(stop)),
        Role::Keys(role) => run("keys", &role.telemetry.clone(), 0, |stop| role.run(stop)),
        Role::Dev(role) => run("dev", &role.telemetry.clone(), all_slots(&role.work), |stop| role.run(types, stop)),
        Role::Doctor(role) => role.run(types),
        // These log nothing; the keeper and the supervisor of an attempt must not even have a runtime.
        Role::Size(role) => report(role.print(), config::LogFormat::Text),
        Role::Health(role) => report(role.check(), config::LogFormat::Text),
        Role::Keep(keep) => keeper::keep(&keep),
        Role::Client(command) => command.run(cli.client, command_line()),
        Role::AttemptChild(child) => child.run(types),
    }
}

/// The command line of the program as it is parsed.
fn command_line() -> clap::Command {
    // Before the name of a command, options of clients are what was written there and nothing else: what the
    // environment says is read once, after the name, and must not keep a role from starting.
    let whole = client::Common::WITH_VARIABLE
        .iter()
        .fold(Cli::command(), |whole, id| whole.mut_arg(id, |argument| argument.env(None::<&str>)));
    let template = help_template(&whole);
    without_values(whole.help_template(template))
}

/// Help names the variables and never tells what is in them: any of them may hold what nobody else is to see, and help is
/// copied into tickets and logs.
fn without_values(command: clap::Command) -> clap::Command {
    command.mut_args(|argument| argument.hide_env_values(true)).mut_subcommands(without_values)
}

/// The roles and the client commands, each under a heading of its own, which clap has for options only.
fn help_template(whole: &clap::Command) -> String {
    let (clients, roles): (Vec<_>, Vec<_>) = whole
        .get_subcommands()
        .filter(|command| !command.is_hide_set())
        .partition(|command| client::Command::has_subcommand(command.get_name()));
    let list = |commands: Vec<&clap::Command>| -> String {
        let line = |command: &clap::Command| {
            let about = command.get_about().map(ToString::to_string).unwrap_or_default();
            format!("  {:<13}{about}\n", command.get_name())
        };
        commands.into_iter().map(line).collect()
    };
    format!(
        "{{about}}\n\n{{usage-heading}} {{usage}}\n\nServer:\n{}\nClient:\n{}\nOptions of the client commands, before or after their name:\n{{options}}{{after-help}}",
        list(roles),
        list(clients)
    )
}

fn parse() -> Cli {
    let mut whole = command_line();
    let matches = whole.clone().try_get_matches().unwrap_or_else(|error| mistakes::exit(error, &whole));
    let cli = Cli::from_arg_matches(&matches).unwrap_or_else(|error| error.format(&mut whole).exit());
    if !cli.client.is_empty() && !matches!(cli.role, Role::Client(_)) {
        whole.error(ErrorKind::ArgumentConflict, "this command takes no client options before its name").exit();
    }
    cli
}

fn all_slots(work: &config::Work) -> usize {
    work.slots().iter().map(|(_, slots)| slots).sum()
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent_and_every_setting_has_an_environment_twin() {
        Cli::command().debug_assert();
        for role in ["serve", "work", "dev"] {
            let mut cli = Cli::command();
            let role = cli.find_subcommand_mut(role).unwrap();
            for argument in role.get_arguments().filter(|argument| argument.get_long() != Some("help")) {
                assert!(argument.get_env().is_some(), "{} {} has no environment variable", role.get_name(), argument);
                assert!(argument.get_help().is_some(), "{} {} has no help", role.get_name(), argument);
            }
        }
    }

    #[test]
    fn the_help_of_the_clients_is_what_was_agreed() {
        let mut whole = command_line().term_width(100);
        whole.build();
        let mut texts = vec![("app".to_owned(), whole.clone().render_help().to_string())];
        for command in whole.get_subcommands_mut() {
            if client::Command::has_subcommand(command.get_name()) {
                texts.push((format!("app {}", command.get_name()), command.render_help().to_string()));
            }
        }
        let texts: Vec<_> = texts.into_iter().map(|(name, text)| format!("$ {name} -h\n{text}")).collect();
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/src/client/help.snapshot");
        let shown = texts.join("\n").lines().map(str::trim_end).collect::<Vec<_>>().join("\n") + "\n";
        if std::env::var_os("UPDATE_SNAPSHOTS").is_some() {
            std::fs::write(file, &shown).unwrap();
        }
        let agreed = std::fs::read_to_string(file).unwrap_or_default();
        assert_eq!(shown, agreed, "if the change is meant, run the test with UPDATE_SNAPSHOTS=1");
    }

    #[test]
    fn options_of_clients_may_stand_before_the_name_of_a_client_command_only() {
        let whole = command_line();
        let parsed = |words: &[&str]| {
            let matches = whole.clone().try_get_matches_from(words).unwrap();
            Cli::from_arg_matches(&matches).unwrap()
        };
        assert!(!parsed(&["app", "--json", "list"]).client.is_empty());
        assert!(parsed(&["app", "list", "--json"]).client.is_empty());
        assert!(whole.clone().try_get_matches_from(["app", "serve", "--json"]).is_err());
    }
}
