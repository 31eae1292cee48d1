//! Configuration: one struct per concern, each setting a flag with an environment twin. The doc comment is the manual.

mod parse;

use std::{net::SocketAddr, path::PathBuf, str::FromStr, time::Duration};

use clap::{Args, builder::BoolishValueParser};
use ipnet::IpNet;

pub use parse::{SettingError, duration};
use parse::{address, network, number};

/// A body is read whole into memory.
const LARGEST_BODY: usize = 1024 * 1024 * 1024;
/// Each slot may hold a thread and some memory.
const MOST_SLOTS: u32 = 10_000;

/// Where `serve` listens and what it accepts.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "HTTP")]
pub struct Http {
    /// Address and port of the API. As long as there is no key, only a loopback address is accepted
    #[arg(long, env = "APP_BIND", default_value = "127.0.0.1:8001", value_name = "ADDRESS", value_parser = address)]
    pub bind: SocketAddr,
    /// As long as there is no key, serve all the same on an address that others can reach: every caller is an
    /// administrator. With the first key, keys are asked for
    #[arg(long, env = "APP_ALLOW_ANONYMOUS", value_parser = BoolishValueParser::new())]
    pub allow_anonymous: bool,
    /// Certificate for TLS, as a PEM file with those that lead to its authority; goes with APP_TLS_KEY
    #[arg(long, env = "APP_TLS_CERT", value_name = "FILE", requires = "tls_key")]
    pub tls_cert: Option<PathBuf>,
    /// Private key of the certificate, as a PEM file
    #[arg(long, env = "APP_TLS_KEY", value_name = "FILE", requires = "tls_cert")]
    pub tls_key: Option<PathBuf>,
    /// Largest request body in bytes
    #[arg(long, env = "APP_MAX_BODY", default_value_t = 1024 * 1024, value_name = "BYTES", value_parser = number::<usize>(1..=LARGEST_BODY))]
    pub max_body: usize,
    /// Tasks that may wait in one queue. Beyond it a submit is answered 503 queue_full. Counted once a second, so it may
    /// be passed by two seconds of traffic
    #[arg(long, env = "APP_MAX_QUEUE_DEPTH", default_value_t = 100_000, value_name = "N", value_parser = number::<u64>(1..))]
    pub max_queue_depth: u64,
    /// Tasks that one caller may submit, as 100/s, 600/m or 5000/h; by default there is no limit. Beyond it a submit is
    /// answered 429. Kept in Redis for all replicas together, and open while Redis is away
    #[arg(long, env = "APP_RATE_LIMIT", value_name = "RATE")]
    pub rate_limit: Option<RateLimit>,
    /// Streams of one process at a time. Beyond it a client is told to come back
    #[arg(long, env = "APP_MAX_STREAMS", default_value_t = 20_000, value_name = "N", value_parser = number::<usize>(0..))]
    pub max_streams: usize,
    /// Streams of one caller at a time: the others' share stays free
    #[arg(long, env = "APP_MAX_STREAMS_PER_CALLER", default_value_t = 10_000, value_name = "N", value_parser = number::<usize>(0..))]
    pub max_streams_per_caller: usize,
    /// Dashboards (GET /events) of one caller at a time. Each is one of its streams too, and reads a few rows a second for
    /// itself alone
    #[arg(long, env = "APP_MAX_DASHBOARDS_PER_CALLER", default_value_t = 50, value_name = "N", value_parser = number::<usize>(0..))]
    pub max_dashboards_per_caller: usize,
    /// Connections of one process at a time, streams included. Further ones wait to be accepted
    #[arg(long, env = "APP_MAX_CONNECTIONS", default_value_t = 25_000, value_name = "N", value_parser = number::<usize>(1..))]
    pub max_connections: usize,
    /// Whose tokens are taken beside API keys.
    #[command(flatten)]
    pub tokens: Tokens,
}

/// Whose tokens (JWTs) are taken beside API keys. All of the first three, or none.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Tokens")]
pub struct Tokens {
    /// Issuer of the tokens that are taken: their iss claim
    #[arg(long, env = "APP_JWT_ISSUER", value_name = "ISSUER")]
    pub jwt_issuer: Option<String>,
    /// What this server is called in a token's aud claim
    #[arg(long, env = "APP_JWT_AUDIENCE", value_name = "AUDIENCE")]
    pub jwt_audience: Option<String>,
    /// The issuer's keys: the URL or the file of a JWKS. Read again every five minutes, and when a new key id comes
    #[arg(long, env = "APP_JWT_JWKS", hide_env_values = true, value_name = "URL|FILE")]
    pub jwt_jwks: Option<Secret>,
    /// The claim that names the role: a word, or an array of words of which the most powerful counts. Without it: user
    #[arg(long, env = "APP_JWT_ROLE_CLAIM", default_value = "role", value_name = "CLAIM")]
    pub jwt_role_claim: String,
}

/// Where those who watch the process find it.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Admin")]
pub struct Admin {
    /// Address and port for /livez, /readyz and /metrics alone, without authentication: for the orchestrator and
    /// Prometheus. By default work listens nowhere, and serve has them on APP_BIND
    #[arg(long, env = "APP_ADMIN_BIND", value_name = "ADDRESS", value_parser = address)]
    pub admin_bind: Option<SocketAddr>,
}

/// How PostgreSQL is reached.
#[derive(Clone, Args)]
#[command(next_help_heading = "PostgreSQL")]
pub struct Postgres {
    /// Connection URL, postgresql://user:password@host:port/database. TLS by ?sslmode= (disable, prefer, require,
    /// verify-ca, verify-full) and &sslrootcert= (a PEM file), as for psql
    #[arg(long, env = "DATABASE_URL", hide_env_values = true, value_name = "URL")]
    pub database_url: Secret,
    /// Connections in the pool of one process
    #[arg(long, env = "APP_POSTGRES_POOL", default_value_t = 10, value_name = "N", value_parser = number::<u16>(2..=10_000))]
    pub postgres_pool: u16,
}

/// How Redis (or Valkey) is reached.
#[derive(Clone, Args)]
#[command(next_help_heading = "Redis")]
pub struct Redis {
    /// Connection URL, redis://user:password@host:port/database; rediss:// with TLS
    #[arg(
        long,
        env = "REDIS_URL",
        hide_env_values = true,
        value_name = "URL",
        default_value = "redis://127.0.0.1:6379/0"
    )]
    pub redis_url: Secret,
    /// The authority that has signed the certificate of Redis, as a PEM file; by default those of the system
    #[arg(long, env = "APP_REDIS_CA", value_name = "FILE")]
    pub redis_ca: Option<PathBuf>,
}

/// What `dev` starts of its own, and where it keeps it.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Private servers")]
pub struct Dev {
    /// PostgreSQL to use instead of a private one
    #[arg(long, env = "DATABASE_URL", hide_env_values = true, value_name = "URL")]
    pub database_url: Option<Secret>,
    /// Redis (or Valkey) to use instead of a private one
    #[arg(long, env = "REDIS_URL", hide_env_values = true, value_name = "URL")]
    pub redis_url: Option<Secret>,
    /// Folder for the data, the logs and the connection URLs of the private servers
    #[arg(long, env = "APP_DEV_DIR", default_value = ".dev", value_name = "FOLDER")]
    pub dev_dir: PathBuf,
}

/// How much `work` does at a time and how it leaves.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Work")]
pub struct Work {
    /// Slots of each queue that names none: tasks run at a time. The default, 16 per core, suits tasks that mostly wait
    #[arg(long, env = "APP_CONCURRENCY", value_name = "N", value_parser = number::<u32>(1..=MOST_SLOTS))]
    pub concurrency: Option<u32>,
    /// A queue to serve, with slots of its own after '='. May be given several times; the default is one queue, default
    #[arg(long = "queue", env = "APP_QUEUES", value_delimiter = ',', value_name = "NAME[=N]")]
    pub queues: Vec<QueueSlots>,
    /// Threads that may compute at a time, apart from the slots. The default is one per core
    #[arg(long, env = "APP_CPU_THREADS", value_name = "N", value_parser = number::<u32>(1..=MOST_SLOTS))]
    pub cpu_threads: Option<u32>,
    /// Variables that the processes of tasks get although they are the worker's own: DATABASE_URL, REDIS_URL, APP_* or
    /// OTEL_*. Whatever runs there can read them. One that is not set is told in a warning at the start
    #[arg(long, env = "APP_CHILD_ENV", value_delimiter = ',', value_name = "NAME")]
    pub child_env: Vec<String>,
    /// Leave when the queues are drained: nothing is ready, running or due within 30 s, but for what waits in a paused
    /// queue. For jobs and tests
    #[arg(long, env = "APP_ONCE", value_parser = BoolishValueParser::new())]
    pub once: bool,
    /// How long running tasks may go on after SIGTERM before they are asked to stop and handed back
    #[arg(long, env = "APP_GRACE", default_value = "60s", value_parser = duration, value_name = "TIME")]
    pub grace: Duration,
    /// How long a task that was asked to stop may take to save a checkpoint
    #[arg(long, env = "APP_STOP_TIMEOUT", default_value = "5s", value_parser = duration, value_name = "TIME")]
    pub stop_timeout: Duration,
    /// A worker that does not renew for this long is dead, and its tasks start elsewhere. Renewed every third of it
    #[arg(long, env = "APP_LEASE", default_value = "30s", value_parser = duration, value_name = "TIME")]
    pub lease: Duration,
    /// How long a worker that cannot reach PostgreSQL goes on computing before it stops its tasks
    #[arg(long, env = "APP_LEASE_GRACE", default_value = "5m", value_parser = duration, value_name = "TIME")]
    pub lease_grace: Duration,
    /// How long finished tasks are kept. One worker cleans for all of them, now this one and now that one, and by its own
    /// setting: give all the same
    #[arg(long, env = "APP_RETENTION", default_value = "30days", value_parser = duration, value_name = "TIME")]
    pub retention: Duration,
    /// Abort the process when its main runtime has not moved for this long
    #[arg(long, env = "APP_HUNG_AFTER", default_value = "60s", value_parser = duration, value_name = "TIME")]
    pub hung_after: Duration,
}

/// Task types beside those of the program, and what holds for all types.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Task types")]
pub struct Tasks {
    /// TOML file that declares command tasks: programs in any language. serve and work need the same one
    #[arg(long, env = "APP_TASKS", value_name = "FILE")]
    pub tasks: Option<PathBuf>,
    /// Largest result of a task in bytes. A larger one fails the task as result_too_large, for good. work judges what its
    /// own attempts return, serve what HTTP workers send
    #[arg(long, env = "APP_MAX_RESULT", default_value_t = 4 * 1024 * 1024, value_name = "BYTES", value_parser = number::<usize>(1..=LARGEST_BODY / 4))]
    pub max_result: usize,
}

/// What tasks may reach over the network.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Outbound")]
pub struct Outbound {
    /// Private networks that tasks may reach, as CIDRs; by default none
    #[arg(long, env = "APP_OUTBOUND_ALLOW", value_delimiter = ',', value_name = "CIDR", value_parser = network)]
    pub outbound_allow: Vec<IpNet>,
    /// Ports that tasks may reach besides 80 and 443
    #[arg(long, env = "APP_OUTBOUND_PORTS", value_delimiter = ',', value_name = "PORT", value_parser = number::<u16>(1..=65_535))]
    pub outbound_ports: Vec<u16>,
    /// Where vector_processing POSTs its chunks; by default nowhere
    #[arg(long, env = "APP_VECTOR_SINK_URL", hide_env_values = true, value_name = "URL")]
    pub vector_sink_url: Option<Secret>,
}

/// What the process tells of itself.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Telemetry")]
pub struct Telemetry {
    /// Form of the log lines on stderr
    #[arg(long, env = "APP_LOG_FORMAT", value_enum, default_value_t = LogFormat::Text)]
    pub log_format: LogFormat,
    /// What is logged, as tracing-subscriber's EnvFilter reads it
    #[arg(long, env = "RUST_LOG", default_value = "info,actix_server=warn", value_name = "FILTER")]
    pub log: String,
    /// Base URL of an OpenTelemetry collector that takes OTLP over HTTP; without it nothing is exported
    #[arg(long, env = "OTEL_EXPORTER_OTLP_ENDPOINT", hide_env_values = true, value_name = "URL")]
    pub otlp_endpoint: Option<Secret>,
}

/// For people or for programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// Readable lines.
    Text,
    /// One JSON object per line.
    Json,
}

/// A queue that a worker serves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueSlots {
    /// Its name.
    pub name: String,
    /// Slots of its own.
    pub slots: Option<u32>,
}

impl FromStr for QueueSlots {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, slots) = match text.split_once('=') {
            None => (text, None),
            Some((name, slots)) => {
                let number = slots.parse().ok().filter(|number| (1..=MOST_SLOTS).contains(number));
                let wrong = || format!("{slots:?} is not a number of slots from 1 to {MOST_SLOTS}: write NAME=8");
                (name, Some(number.ok_or_else(wrong)?))
            }
        };
        if !crate::core::model::is_queue_name(name) {
            return Err(format!("{name:?} is not a queue name: 1 to 64 of a-z 0-9 _ . -"));
        }
        Ok(Self { name: name.to_owned(), slots })
    }
}

/// So many tasks in so much time; as many may come at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RateLimit {
    /// How many.
    pub tasks: u64,
    /// In how much time.
    pub period: Duration,
}

impl FromStr for RateLimit {
    type Err = String;

    /// `100/s`, `600/m`, `5000/h`.
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is not a rate: write 100/s, 600/m or 5000/h");
        let (tasks, unit) = text.split_once('/').ok_or_else(wrong)?;
        let period = match unit.trim() {
            "s" => 1,
            "m" => 60,
            "h" => 3_600,
            _ => return Err(wrong()),
        };
        let tasks = tasks.trim().parse().ok().filter(|tasks| (1..=1_000_000).contains(tasks)).ok_or_else(wrong)?;
        Ok(Self { tasks, period: Duration::from_secs(period) })
    }
}

impl std::fmt::Display for RateLimit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} tasks in {} s", self.tasks, self.period.as_secs())
    }
}

/// A value that is never printed: a password, or a URL that may hold one.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// The value itself. For the library call that needs it, never for a message.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Whether there is nothing in it: a variable that is set to nothing counts as not set.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl From<String> for Secret {
    fn from(value: String) -> Self {
        Self(value)
    }
}

impl FromStr for Secret {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self(text.to_owned()))
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("[secret]")
    }
}

impl Tokens {
    /// All of the first three, when tokens are taken at all.
    pub fn required(&self) -> Result<Option<(&str, &str, &Secret)>, SettingError> {
        match (&self.jwt_issuer, &self.jwt_audience, &self.jwt_jwks) {
            (None, None, None) => Ok(None),
            (Some(issuer), Some(audience), Some(jwks)) => Ok(Some((issuer, audience, jwks))),
            _ => Err(SettingError::new(
                "APP_JWT_ISSUER, APP_JWT_AUDIENCE and APP_JWT_JWKS go together: set all three, or none",
            )),
        }
    }
}

impl Work {
    /// The queues and their slots, with the defaults filled in.
    pub fn slots(&self) -> Vec<(String, usize)> {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let each = self.concurrency.map_or(16 * cores, |number| number as usize);
        if self.queues.is_empty() {
            return vec![("default".to_owned(), each)];
        }
        self.queues.iter().map(|queue| (queue.name.clone(), queue.slots.map_or(each, |n| n as usize))).collect()
    }

    /// Refuses settings that are unsafe together, with what to change.
    pub fn check(&self) -> Result<(), SettingError> {
        if self.lease < Duration::from_secs(1) {
            return Err(SettingError::new(
                "APP_LEASE must be at least 1s: it is renewed every third of it over the network",
            ));
        }
        if self.hung_after < self.lease {
            return Err(SettingError::new(
                "APP_HUNG_AFTER must not be shorter than APP_LEASE: a busy moment would abort the worker",
            ));
        }
        let mut names: Vec<_> = self.queues.iter().map(|queue| &queue.name).collect();
        names.sort();
        match names.windows(2).find(|pair| pair[0] == pair[1]) {
            Some(pair) => Err(SettingError::new(format!("APP_QUEUES: the queue {:?} is given twice", pair[0]))),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(clap::Parser)]
    struct All {
        #[command(flatten)]
        http: Http,
        #[command(flatten)]
        work: Work,
    }

    #[test]
    fn what_no_process_could_bear_is_refused() {
        use clap::Parser;
        let read = |arguments: &[&str]| All::try_parse_from([&["app"][..], arguments].concat());
        for bad in [
            "--concurrency=100000000",
            "--queue=default=100000000",
            "--cpu-threads=100000000",
            "--max-body=0",
            "--max-body=999999999999999",
            "--max-queue-depth=0",
            "--bind=localhost:8001",
        ] {
            assert!(read(&[bad]).is_err(), "{bad}");
        }
        let why = read(&["--bind=localhost:8001"]).err().unwrap().to_string();
        assert!(why.contains("write 127.0.0.1:8001"), "{why}");
        let right = read(&["--concurrency=64", "--queue=gpu=2", "--max-body=1", "--bind=[::1]:0"]).unwrap();
        assert_eq!((right.work.slots(), right.http.max_body), (vec![("gpu".to_owned(), 2)], 1));
    }

    #[test]
    fn rates_are_read() {
        let rate = |tasks, seconds| Ok(RateLimit { tasks, period: Duration::from_secs(seconds) });
        assert_eq!("100/s".parse(), rate(100, 1));
        assert_eq!(" 600 / m".parse(), rate(600, 60));
        assert_eq!("5000/h".parse(), rate(5_000, 3_600));
        for bad in ["", "100", "0/s", "-1/s", "100/d", "x/s", "99999999999/s"] {
            assert!(bad.parse::<RateLimit>().is_err(), "{bad}");
        }
    }
}
