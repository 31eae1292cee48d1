//! The command line: the roles of the one binary, how each is put together from the rooms, and beside them the
//! commands of a client.
//!
//! A role ends in one of four ways, and the exit code says which: 0 told to stop and done, 1 an error (one line on
//! stderr), 2 a command line that cannot be read, 128 + n made to leave at once by a second signal of number n. A
//! panic is a log line and 101. The exit codes of the client commands are in [`client`].

mod keys;

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    process::ExitCode,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand, error::ErrorKind};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::sync::Semaphore;

use crate::{
    admin::Admin,
    client, config,
    core::{Core, store::migrate},
    dev::{self, keeper},
    doctor,
    serve::Application,
    shutdown::Shutdown,
    size,
    tasks::{
        Registry, command,
        context::Tools,
        outbound::Outbound,
        process::{
            AttemptChild,
            isolated::{Household, isolated},
        },
    },
    telemetry,
    work::{self, Vitals},
};

/// Threads for blocking calls beside those of the tasks: name lookups, files.
const SPARE_BLOCKING_THREADS: usize = 64;
/// How long a closure that ignores every request to stop may hold up the end of the process.
const LAST_THREADS: Duration = Duration::from_secs(1);
/// Between two looks of `migrate --check --wait`.
const BETWEEN_CHECKS: Duration = Duration::from_secs(1);
/// A server that takes longer over /livez is not well.
const HEALTH_TIMEOUT: Duration = Duration::from_secs(2);

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
    Serve(ServeRole),
    /// Run tasks
    Work(Box<WorkRole>),
    /// Bring the database's tables up to date
    ///
    /// Safe to run from many replicas at once: the others wait for the first and find nothing left to do.
    Migrate(MigrateRole),
    /// Look whether PostgreSQL, Redis and the settings are as they should be, and say what to do
    ///
    /// Reads and changes nothing. Exits with 1 when it finds a failure, and with 0 when there are only warnings.
    Doctor(Box<DoctorRole>),
    /// Tell how many servers, workers, connections and bytes a load needs
    ///
    /// Arithmetic alone: nothing is contacted. docs/sizing.md explains the formulas and what they are worth.
    Size(Box<SizeRole>),
    /// Make, list and revoke the keys that callers come in with
    Keys(keys::KeysRole),
    /// All roles in one process, with a private PostgreSQL and Redis where DATABASE_URL and REDIS_URL name none
    ///
    /// The private servers listen on 127.0.0.1, on free ports, with a password of their own. Their data stays in .dev
    /// when dev ends, so that its tasks are there again at the next start; delete the folder to begin anew.
    Dev(Box<DevRole>),
    /// Exit with 0 when the process answers on APP_ADMIN_BIND or APP_BIND: a health check for containers without curl
    Health(HealthRole),
    #[command(hide = true)]
    Keep(keeper::Keep),
    #[command(flatten)]
    Client(client::Command),
    #[command(hide = true)]
    AttemptChild(AttemptChild),
}

#[derive(Args)]
struct ServeRole {
    #[command(flatten)]
    http: config::Http,
    #[command(flatten)]
    admin: config::Admin,
    #[command(flatten)]
    tasks: config::Tasks,
    #[command(flatten)]
    postgres: config::Postgres,
    #[command(flatten)]
    redis: config::Redis,
    #[command(flatten)]
    telemetry: config::Telemetry,
}

#[derive(Args)]
struct WorkRole {
    #[command(flatten)]
    work: config::Work,
    #[command(flatten)]
    admin: config::Admin,
    #[command(flatten)]
    tasks: config::Tasks,
    #[command(flatten)]
    outbound: config::Outbound,
    #[command(flatten)]
    postgres: config::Postgres,
    #[command(flatten)]
    redis: config::Redis,
    #[command(flatten)]
    telemetry: config::Telemetry,
}

#[derive(Args)]
struct MigrateRole {
    /// Change nothing; exit with 1 when the database is behind this binary
    #[arg(long)]
    check: bool,
    /// With --check: look again and again for this long, until the database is up to date
    #[arg(long, requires = "check", value_parser = config::duration, value_name = "TIME")]
    wait: Option<Duration>,
    #[command(flatten)]
    postgres: config::Postgres,
    #[command(flatten)]
    telemetry: config::Telemetry,
}

#[derive(Args)]
struct DoctorRole {
    /// Print the findings as JSON
    #[arg(long)]
    json: bool,
    /// Processes that share PostgreSQL's connections. The default is the live workers and one server
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    processes: Option<u32>,
    #[command(flatten)]
    work: config::Work,
    #[command(flatten)]
    postgres: config::Postgres,
    #[command(flatten)]
    redis: config::Redis,
}

#[derive(Args)]
struct SizeRole {
    #[command(flatten)]
    load: size::Load,
    /// Print a kustomize patch for the objects of deploy/kubernetes
    #[arg(long)]
    yaml: bool,
}

#[derive(Args)]
struct DevRole {
    #[command(flatten)]
    http: config::Http,
    #[command(flatten)]
    admin: config::Admin,
    #[command(flatten)]
    work: config::Work,
    #[command(flatten)]
    tasks: config::Tasks,
    #[command(flatten)]
    outbound: config::Outbound,
    #[command(flatten)]
    servers: config::Dev,
    #[command(flatten)]
    telemetry: config::Telemetry,
}

#[derive(Args)]
struct HealthRole {
    #[command(flatten)]
    http: config::Http,
    #[command(flatten)]
    admin: config::Admin,
}

/// The whole program: reads the command line, runs the role with these task types, and returns the exit code.
pub fn main(registry: Registry) -> ExitCode {
    #[cfg(feature = "faults")]
    let registry = crate::tasks::test_types::registered_in(registry);
    let cli = parse();
    match cli.role {
        Role::Serve(role) => run("serve", &role.telemetry.clone(), 0, |stop| role.run(registry, stop)),
        Role::Work(role) => {
            run("work", &role.telemetry.clone(), all_slots(&role.work), |stop| role.run(registry, stop))
        }
        Role::Migrate(role) => run("migrate", &role.telemetry.clone(), 0, |stop| role.run(stop)),
        Role::Keys(role) => run("keys", &role.telemetry.clone(), 0, |stop| role.run(stop)),
        Role::Dev(role) => run("dev", &role.telemetry.clone(), all_slots(&role.work), |stop| role.run(registry, stop)),
        Role::Doctor(role) => role.run(),
        // These log nothing; the keeper and the supervisor of an attempt must not even have a runtime.
        Role::Size(role) => report(role.print(), config::LogFormat::Text),
        Role::Health(role) => report(role.check(), config::LogFormat::Text),
        Role::Keep(keep) => keeper::keep(&keep),
        Role::Client(command) => command.run(cli.client, command_line()),
        Role::AttemptChild(child) => child.run(registry),
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
    whole.help_template(template)
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
    let matches = whole.clone().try_get_matches().unwrap_or_else(|error| {
        // The library's own words, of several lines, name the flag and not the variable.
        if error.kind() == ErrorKind::MissingRequiredArgument && error.to_string().contains("--database-url") {
            eprintln!("error: DATABASE_URL is not set: write postgresql://user:password@host:port/database");
            std::process::exit(error.exit_code());
        }
        error.exit()
    });
    let cli = Cli::from_arg_matches(&matches).unwrap_or_else(|error| error.format(&mut whole).exit());
    if !cli.client.is_empty() && !matches!(cli.role, Role::Client(_)) {
        whole.error(ErrorKind::ArgumentConflict, "this command takes no client options before its name").exit();
    }
    cli
}

/// Runs one role on a runtime of its own. Each task may hold one blocking thread, so there are as many as `slots`.
fn run<F>(name: &str, telemetry: &config::Telemetry, slots: usize, role: impl FnOnce(Shutdown) -> F) -> ExitCode
where
    F: Future<Output = anyhow::Result<()>>,
{
    let _flushed_at_the_end = match telemetry::init(telemetry, name) {
        Ok(guard) => guard,
        Err(error) => return report(Err(error), config::LogFormat::Text),
    };
    raise_file_limit();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_name("app")
        .max_blocking_threads(slots + SPARE_BLOCKING_THREADS)
        .build();
    let runtime = match runtime.context("cannot start the runtime") {
        Ok(runtime) => runtime,
        Err(error) => return report(Err(error), telemetry.log_format),
    };
    let outcome = runtime.block_on(async {
        let stop = Shutdown::install().context("cannot listen for signals")?;
        role(stop.clone()).await?;
        Ok(stop.exit_code())
    });
    runtime.shutdown_timeout(LAST_THREADS);
    match outcome {
        Ok(Some(code)) => ExitCode::from(code),
        Ok(None) => ExitCode::SUCCESS,
        Err(error) => report(Err(error), telemetry.log_format),
    }
}

impl ServeRole {
    async fn run(self, registry: Registry, stop: Shutdown) -> anyhow::Result<()> {
        let registry = all_types(registry, &self.tasks)?;
        let Some(core) = unless_told(&stop, Core::connect(&self.postgres, &self.redis)).await else { return Ok(()) };
        let core = core?;
        let application = Application::build(core.clone(), Arc::new(registry), self.http, &self.admin).await?;
        tracing::info!(address = %application.address(), "serving");
        let admin = Admin::open(&self.admin, &core, application.probes())?;
        let outcome = application.run_until_stopped(stop).await;
        close(admin).await;
        outcome
    }
}

impl WorkRole {
    async fn run(self: Box<Self>, registry: Registry, stop: Shutdown) -> anyhow::Result<()> {
        self.work.check().map_err(anyhow::Error::msg)?;
        let registry = runnable(&all_types(registry, &self.tasks)?, &self.work, &self.outbound)?;
        let tools = tools(&self.work, &self.outbound)?;
        let Some(core) = unless_told(&stop, Core::connect(&self.postgres, &self.redis)).await else { return Ok(()) };
        let (core, vitals) = (core?, Vitals::default());
        let admin = Admin::open(&self.admin, &core, vitals.probes())?;
        let outcome = work::run(core, registry, &self.work, tools, vitals, stop).await;
        close(admin).await;
        outcome
    }
}

impl MigrateRole {
    async fn run(self, stop: Shutdown) -> anyhow::Result<()> {
        if self.check {
            let Some(pending) = unless_told(&stop, self.pending()).await else { return Ok(()) };
            let pending = pending?;
            anyhow::ensure!(pending.is_empty(), "the database is behind by {}: run app migrate", pending.join(", "));
            println!("the database is up to date");
            return Ok(());
        }
        // Not interrupted by a signal: a migration that has begun is ended by PostgreSQL or by its lock_timeout.
        let Some(migrator) = unless_told(&stop, migrate::connect(&self.postgres)).await else { return Ok(()) };
        let done = migrator?.run().await?;
        match done.as_slice() {
            [] => println!("nothing to do: the database is up to date"),
            names => println!("migrated: {}", names.join(", ")),
        }
        Ok(())
    }
}

impl DoctorRole {
    /// Prints what it finds. It logs nothing, and needs no signals: it is over in a moment.
    fn run(&self) -> ExitCode {
        let patient = doctor::Patient {
            postgres: &self.postgres,
            redis: &self.redis,
            work: &self.work,
            processes: self.processes,
        };
        let examined = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let examined = examined.map(|runtime| runtime.block_on(doctor::examine(&patient)));
        let printed = examined.context("cannot start the runtime").and_then(|report| {
            match self.json {
                true => println!("{}", report.json()?),
                false => print!("{report}"),
            }
            Ok(report.worst())
        });
        match printed {
            Ok(doctor::Level::Fail) => ExitCode::FAILURE,
            Ok(doctor::Level::Ok | doctor::Level::Warn) => ExitCode::SUCCESS,
            Err(error) => report(Err(error), config::LogFormat::Text),
        }
    }
}

impl MigrateRole {
    /// The migrations that the database lacks: now, or when the wait for them to be made is over.
    async fn pending(&self) -> anyhow::Result<Vec<String>> {
        let began = Instant::now();
        loop {
            let pending = migrate::check(&self.postgres).await?;
            if pending.is_empty() || self.wait.is_none_or(|wait| began.elapsed() >= wait) {
                return Ok(pending);
            }
            tokio::time::sleep(BETWEEN_CHECKS).await;
        }
    }
}

impl SizeRole {
    fn print(&self) -> anyhow::Result<()> {
        let plan = self.load.plan().map_err(anyhow::Error::msg)?;
        print!("{}", if self.yaml { plan.patch(&self.load) } else { plan.report(&self.load) });
        Ok(())
    }
}

impl DevRole {
    async fn run(self: Box<Self>, registry: Registry, stop: Shutdown) -> anyhow::Result<()> {
        self.work.check().map_err(anyhow::Error::msg)?;
        let registry = all_types(registry, &self.tasks)?;
        let runnable = runnable(&registry, &self.work, &self.outbound)?;
        let mut servers = dev::Servers::open(&self.servers)?;
        let outcome = self.run_on(&mut servers, registry, runnable, &stop).await;
        servers.stop().await;
        outcome
    }

    async fn run_on(
        &self,
        servers: &mut dev::Servers,
        registry: Registry,
        runnable: Registry,
        stop: &Shutdown,
    ) -> anyhow::Result<()> {
        let connected = unless_told(stop, async {
            let (postgres, redis) = servers.start().await?;
            migrate::connect(&postgres).await?.run().await?;
            Core::connect(&postgres, &redis).await
        });
        let Some(core) = connected.await else { return Ok(()) };
        let core = core?;
        let tools = tools(&self.work, &self.outbound)?;
        let application = Application::build(core.clone(), Arc::new(registry), self.http.clone(), &self.admin).await?;
        let vitals = Vitals::default();
        let admin = Admin::open(&self.admin, &core, application.probes().and(vitals.probes()))?;
        print!("{}", first_steps(application.address(), servers));
        let serve = then_stop(application.run_until_stopped(stop.clone()), stop);
        let work = then_stop(work::run(core, runnable, &self.work, tools, vitals, stop.clone()), stop);
        let outcome = tokio::select! {
            (served, worked) = async { tokio::join!(serve, work) } => served.and(worked),
            lost = servers.lost() => Err(lost),
        };
        close(admin).await;
        outcome
    }
}

impl HealthRole {
    /// GET /livez at the admin address or, without one, where the API is; by the loopback address where the server
    /// listens on all of them.
    fn check(&self) -> anyhow::Result<()> {
        let bind = self.admin.admin_bind.unwrap_or(self.http.bind);
        let host = match bind.ip() {
            IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
            ip => ip,
        };
        let url = format!("http://{}/livez", SocketAddr::new(host, bind.port()));
        let agent = ureq::Agent::config_builder().timeout_global(Some(HEALTH_TIMEOUT)).proxy(None).build().new_agent();
        agent.get(&url).call().with_context(|| format!("{url} does not answer"))?;
        Ok(())
    }
}

/// What `dev` prints once it answers. On stdout, so that it can be told from the log.
fn first_steps(address: SocketAddr, servers: &dev::Servers) -> String {
    let private: String = servers.describe().iter().map(|line| format!("  {line}\n")).collect();
    format!(
        "\nlongrun is ready
  API          http://{address}
{private}
Submit a task, then look at it by the task_id of the answer:
  curl -i http://{address}/tasks -H 'content-type: application/json' -d '{{\"vector_data\":[0.1,0.2,0.3],\"duration\":5}}'
  curl http://{address}/tasks

Ctrl-C stops when running tasks have ended; a second Ctrl-C stops at once.\n\n"
    )
}

fn tools(work: &config::Work, outbound: &config::Outbound) -> anyhow::Result<Tools> {
    // `tasks` knows nothing of telemetry; this is where the trace gets into outbound calls.
    let http = Outbound::new(outbound)?.with_trace_headers(telemetry::trace_headers);
    Ok(Tools { cpu: Arc::new(Semaphore::new(cpu_threads(work))), http })
}

fn cpu_threads(work: &config::Work) -> usize {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    work.cpu_threads.map_or(cores, |number| number as usize)
}

/// The types of the program, and those of `APP_TASKS`.
fn all_types(mut registry: Registry, tasks: &config::Tasks) -> anyhow::Result<Registry> {
    if let Some(file) = &tasks.tasks {
        for command in command::read(file)? {
            registry.add(Arc::new(command)).with_context(|| format!("APP_TASKS: {}", file.display()))?;
        }
    }
    Ok(registry)
}

/// The same types as a worker runs them: commands whose programs are there, and others in processes of their own where
/// they ask for it.
fn runnable(registry: &Registry, work: &config::Work, outbound: &config::Outbound) -> anyhow::Result<Registry> {
    for kind in registry.iter() {
        kind.check_runnable()
            .map_err(|why| anyhow::anyhow!("the task type {:?} cannot run here: {why}", kind.name()))?;
    }
    let household = Household { outbound: outbound.into(), cpu_threads: cpu_threads(work) };
    Ok(isolated(registry, &household))
}

fn all_slots(work: &config::Work) -> usize {
    work.slots().iter().map(|(_, slots)| slots).sum()
}

/// A stream is an open file, and the usual limit of 1,024 is meant for programs that use select(2).
fn raise_file_limit() {
    let raised = getrlimit(Resource::RLIMIT_NOFILE)
        .and_then(|(soft, hard)| if soft < hard { setrlimit(Resource::RLIMIT_NOFILE, hard, hard) } else { Ok(()) });
    if let Err(error) = raised {
        tracing::warn!(%error, "the limit of open files stays as it is");
    }
}

async fn close(admin: Option<Admin>) {
    if let Some(admin) = admin {
        admin.close().await;
    }
}

/// `None` when a signal came first: nothing has begun, so there is nothing to drain.
async fn unless_told<T>(stop: &Shutdown, work: impl Future<Output = T>) -> Option<T> {
    tokio::select! {
        done = work => Some(done),
        () = stop.drain.cancelled() => None,
    }
}

/// When one of two roles in a process ends, the other has to end too.
async fn then_stop(role: impl Future<Output = anyhow::Result<()>>, stop: &Shutdown) -> anyhow::Result<()> {
    let outcome = role.await;
    stop.begin();
    outcome
}

/// The error as one line: in a log of JSON lines it is one of them, otherwise it stands alone.
fn report(outcome: anyhow::Result<()>, format: config::LogFormat) -> ExitCode {
    let Err(error) = outcome else { return ExitCode::SUCCESS };
    let line = format!("{error:#}").lines().collect::<Vec<_>>().join(" ");
    match format {
        config::LogFormat::Json => tracing::error!("{line}"),
        config::LogFormat::Text => eprintln!("error: {line}"),
    }
    ExitCode::FAILURE
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
