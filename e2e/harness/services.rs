//! Services: a PostgreSQL and a Redis that belong to this run alone.
//!
//! The shared pair trades durability for speed (nothing in it outlives the run). A private pair keeps `fsync` on and
//! can be stopped, killed, emptied and started again on the same port.

use std::{
    fs::File,
    io::Write,
    net::Ipv4Addr,
    os::unix::fs::chown,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        LazyLock, Mutex, PoisonError,
        atomic::{AtomicU16, Ordering},
    },
    time::Duration,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use super::{Certificates, Host, Sql, free_port, programs, until, watchdog};

/// The superuser of every cluster here; connections from this machine are trusted.
const USER: &str = "longrun";
/// How many Redis databases there are to be given to tests.
const REDIS_DATABASES: u16 = 512;
/// A server that takes longer to come up, or to go, will not.
const PATIENCE: Duration = Duration::from_secs(120);

/// A cluster as `initdb` makes it, to be copied: making one takes longer than copying it.
static PRISTINE: LazyLock<PathBuf> = LazyLock::new(|| {
    let folder = watchdog::new_folder("pristine");
    give_to_postgres(&folder);
    let made = programs::unprivileged(&programs::POSTGRES.join("initdb"))
        .arg(format!("--pgdata={}", folder.display()))
        .args(["--username", USER, "--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync"])
        .output()
        .expect("initdb runs");
    assert!(made.status.success(), "initdb failed: {}", String::from_utf8_lossy(&made.stderr));
    folder
});

static SHARED: LazyLock<Services> = LazyLock::new(|| {
    let fast = ["fsync=off", "synchronous_commit=off", "full_page_writes=off", "max_connections=500"];
    Services {
        postgres: Postgres::start_new("postgres", Ipv4Addr::LOCALHOST, &fast),
        redis: Redis::start_new("redis", Ipv4Addr::LOCALHOST),
        redis_databases: 0.into(),
    }
});

/// One PostgreSQL and one Redis.
pub struct Services {
    /// The first.
    pub postgres: Postgres,
    /// The second.
    pub redis: Redis,
    redis_databases: AtomicU16,
}

impl Services {
    /// The pair that all tests share. Do not stop, empty or fill it.
    pub fn shared() -> &'static Services {
        &SHARED
    }

    /// A pair for one test, with durable settings. It goes with the value.
    pub fn private() -> Services {
        let postgres = Postgres::start_new("private-postgres", Ipv4Addr::LOCALHOST, &["max_connections=100"]);
        let redis = Redis::start_new("private-redis", Ipv4Addr::LOCALHOST);
        Services { postgres, redis, redis_databases: 0.into() }
    }

    /// The same, each on a host of its own.
    pub fn on_hosts(postgres: &Host, redis: &Host) -> Services {
        let (at, settings) = (postgres.address(), ["max_connections=100"]);
        let postgres = postgres.run(|| Postgres::start_new("host-postgres", at, &settings));
        let at = redis.address();
        let redis = redis.run(|| Redis::start_new("host-redis", at));
        Services { postgres, redis, redis_databases: 0.into() }
    }

    /// A pair for one test that speaks TLS too, with this certificate.
    pub fn private_with_tls(certificates: &Certificates) -> Services {
        let tls = ["ssl=on", "ssl_cert_file=server.pem", "ssl_key_file=server.key"];
        let postgres = Postgres::start_with("tls-postgres", Ipv4Addr::LOCALHOST, &tls, Some(certificates));
        let redis = Redis::start_with_tls("tls-redis", certificates);
        Services { postgres, redis, redis_databases: 0.into() }
    }

    /// The number of a Redis database that nobody else has.
    pub fn take_redis_database(&self) -> u16 {
        let number = self.redis_databases.fetch_add(1, Ordering::Relaxed);
        assert!(number < REDIS_DATABASES, "more deployments than Redis databases: raise REDIS_DATABASES");
        number
    }
}

/// A PostgreSQL server with a cluster of its own.
pub struct Postgres {
    folder: PathBuf,
    settings: Vec<String>,
    server: Server,
}

impl Postgres {
    fn start_new(name: &str, at: Ipv4Addr, settings: &[&str]) -> Self {
        Self::start_with(name, at, settings, None)
    }

    fn start_with(name: &str, at: Ipv4Addr, settings: &[&str], certificates: Option<&Certificates>) -> Self {
        let folder = watchdog::new_folder(name);
        let copied = Command::new("cp").arg("-a").arg(PRISTINE.join(".")).arg(&folder).status().expect("cp runs");
        assert!(copied.success(), "the pristine cluster could not be copied");
        if !at.is_loopback() {
            // A network of the test's own, which nobody else reaches.
            let mut access = File::options().append(true).open(folder.join("pg_hba.conf")).unwrap();
            writeln!(access, "host all all {at}/8 trust").unwrap();
        }
        give_to_postgres(&folder);
        if let Some(certificates) = certificates {
            for file in certificates.copy_to(&folder) {
                give_file_to_postgres(&file);
            }
        }
        let settings = settings.iter().map(|setting| (*setting).to_owned()).collect();
        let postgres = Self { server: Server::new(name, at), folder, settings };
        postgres.start();
        postgres
    }

    /// Starts it, on the port of the last time, and waits until it answers.
    pub fn start(&self) {
        self.server.start(
            |port| {
                let mut command = programs::unprivileged(&programs::POSTGRES.join("postgres"));
                command.arg("-D").arg(&self.folder);
                let port = format!("port={port}");
                let listen = format!("listen_addresses={}", self.server.at);
                let own = [&*listen, &port, "unix_socket_directories=", "max_wal_size=256MB"];
                for setting in own.into_iter().chain(self.settings.iter().map(String::as_str)) {
                    command.args(["-c", setting]);
                }
                command
            },
            // Immediate shutdown: nothing is kept, but shared memory is given back.
            Signal::SIGQUIT,
            |port| Sql::connect(&url(self.server.at, port, "postgres")).is_ok_and(|sql| sql.run("SELECT 1").is_ok()),
        );
    }

    /// Ends it: SIGINT is a fast shutdown, SIGQUIT an immediate one with recovery at the next start.
    pub fn stop(&self, signal: Signal) {
        self.server.stop(signal);
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.server.pid()
    }

    /// The URL of one of its databases.
    pub fn url(&self, database: &str) -> String {
        url(self.server.at, self.server.port(), database)
    }

    /// Where it listens on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.server.port()
    }
}

/// A Redis server that keeps nothing on disk: stopped and started, it is empty.
pub struct Redis {
    folder: PathBuf,
    server: Server,
    /// Where it speaks TLS, if it does.
    tls_port: Option<u16>,
}

impl Redis {
    fn start_new(name: &str, at: Ipv4Addr) -> Self {
        let redis = Self { folder: watchdog::new_folder(name), server: Server::new(name, at), tls_port: None };
        redis.start();
        redis
    }

    fn start_with_tls(name: &str, certificates: &Certificates) -> Self {
        let folder = watchdog::new_folder(name);
        certificates.copy_to(&folder);
        let redis = Self {
            folder,
            server: Server::new(name, Ipv4Addr::LOCALHOST),
            tls_port: Some(free_port(Ipv4Addr::LOCALHOST)),
        };
        redis.start();
        redis
    }

    /// Starts it, on the port of the last time, and waits until it answers.
    pub fn start(&self) {
        self.server.start(
            |port| {
                let mut command = Command::new(&*programs::REDIS);
                command.current_dir(&self.folder).stdin(Stdio::null());
                let (port, databases) = (port.to_string(), REDIS_DATABASES.to_string());
                command.args(["--port", &port, "--bind", &self.server.at.to_string(), "--databases", &databases]);
                command.args(["--protected-mode", "no"]);
                command.args(["--save", "", "--appendonly", "no", "--dir"]).arg(&self.folder);
                if let Some(port) = self.tls_port {
                    command.args(["--tls-port", &port.to_string(), "--tls-auth-clients", "no"]);
                    command.args(["--tls-cert-file", "server.pem", "--tls-key-file", "server.key"]);
                    command.args(["--tls-ca-cert-file", "server.pem"]);
                }
                std::os::unix::process::CommandExt::process_group(&mut command, 0);
                command
            },
            Signal::SIGKILL,
            |port| {
                connect_redis(self.server.at, port, 0)
                    .is_ok_and(|mut connection| redis::cmd("PING").exec(&mut connection).is_ok())
            },
        );
    }

    /// Ends it; what it held is lost.
    pub fn stop(&self) {
        self.server.stop(Signal::SIGKILL);
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.server.pid()
    }

    /// The URL of one of its databases.
    pub fn url(&self, database: u16) -> String {
        format!("redis://{}:{}/{database}", self.server.at, self.server.port())
    }

    /// The same under TLS, by the one name that its certificate is for.
    pub fn tls_url(&self, database: u16) -> String {
        format!("rediss://localhost:{}/{database}", self.tls_port.expect("started with TLS"))
    }

    /// Where it listens on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.server.port()
    }

    /// Runs a command in one of its databases: `["LLEN", "v1:ready:{default}:normal"]`.
    pub fn command<T: redis::FromRedisValue>(&self, database: u16, words: &[&str]) -> T {
        let mut connection = connect_redis(self.server.at, self.server.port(), database).expect("Redis answers");
        let mut command = redis::Cmd::new();
        for word in words {
            command.arg(word);
        }
        command.query(&mut connection).unwrap_or_else(|error| panic!("{words:?}: {error}"))
    }
}

/// A process that listens on one port and can be started again there.
struct Server {
    name: String,
    /// Where it listens.
    at: Ipv4Addr,
    state: Mutex<State>,
}

struct State {
    port: u16,
    child: Option<Child>,
    starts: usize,
}

impl Server {
    fn new(name: &str, at: Ipv4Addr) -> Self {
        Self { name: name.to_owned(), at, state: Mutex::new(State { port: 0, child: None, starts: 0 }) }
    }

    fn start(&self, command: impl Fn(u16) -> Command, at_the_end: Signal, answers: impl Fn(u16) -> bool) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        assert!(state.child.is_none(), "{} runs already", self.name);
        // Between our look and its start somebody else may take the port; the first start then chooses another.
        for _ in 0..5 {
            if state.starts == 0 {
                state.port = free_port(self.at);
            }
            let log = watchdog::folder().join(format!("{}-{}.log", self.name, state.port));
            let file = File::options().create(true).append(true).open(&log).unwrap();
            let mut child =
                command(state.port).stdout(file.try_clone().unwrap()).stderr(file).spawn().expect("it starts");
            watchdog::watch(child.id(), at_the_end);
            let came_up =
                until(&format!("{} answers or ends", self.name), PATIENCE, || match child.try_wait().unwrap() {
                    Some(_) => Some(false),
                    None => answers(state.port).then_some(true),
                });
            if came_up {
                state.child = Some(child);
                state.starts += 1;
                return;
            }
            watchdog::forget(child.id());
            let text = std::fs::read_to_string(&log).unwrap_or_default();
            assert!(text.contains("ddress already in use"), "{} did not start:\n{text}", self.name);
        }
        panic!("{} found no free port", self.name);
    }

    fn stop(&self, signal: Signal) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(mut child) = state.child.take() else { return };
        kill(Pid::from_raw(child.id().cast_signed()), signal).unwrap();
        watchdog::forget(child.id());
        until(&format!("{} ends", self.name), PATIENCE, || child.try_wait().unwrap());
    }

    fn pid(&self) -> u32 {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).child.as_ref().expect("it runs").id()
    }

    fn port(&self) -> u16 {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).port
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let state = self.state.get_mut().unwrap_or_else(PoisonError::into_inner);
        let Some(mut child) = state.child.take() else { return };
        // A test may have left it paused.
        let pid = Pid::from_raw(child.id().cast_signed());
        let _ = kill(pid, Signal::SIGQUIT);
        let _ = kill(pid, Signal::SIGCONT);
        watchdog::forget(child.id());
        for _ in 0..200 {
            if child.try_wait().is_ok_and(|ended| ended.is_some()) {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let _ = child.kill();
        let _ = child.wait();
    }
}

fn url(at: Ipv4Addr, port: u16, database: &str) -> String {
    format!("postgresql://{USER}@{at}:{port}/{database}")
}

fn connect_redis(at: Ipv4Addr, port: u16, database: u16) -> redis::RedisResult<redis::Connection> {
    redis::Client::open(format!("redis://{at}:{port}/{database}"))?.get_connection()
}

fn give_file_to_postgres(file: &Path) {
    if let Some((user, group)) = *programs::UNPRIVILEGED {
        chown(file, Some(user), Some(group)).unwrap();
    }
    std::fs::set_permissions(file, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
}

fn give_to_postgres(folder: &Path) {
    if let Some((user, group)) = *programs::UNPRIVILEGED {
        chown(folder, Some(user), Some(group)).unwrap();
    }
    std::fs::set_permissions(folder, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
}
