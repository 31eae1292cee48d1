//! Place: a database with the audit in it, a Redis database, and the settings of the processes that work there.

use std::{fs, io::ErrorKind, net::Ipv4Addr, path::Path};

use super::{audit, plan::LEASE};
use crate::harness::{App, Services, Sql};

/// Which soak a process belongs to.
const MARK: &str = "SOAK_PLACE";

/// A place for one soak or one scenario.
pub struct Place<'a> {
    /// Its servers.
    pub services: &'a Services,
    database: String,
    redis_database: u16,
}

impl<'a> Place<'a> {
    /// Makes one: a migrated database under a name that nobody else has, with the audit installed.
    pub fn new(services: &'a Services) -> Self {
        let redis_database = services.take_redis_database();
        let database = format!("soak_{redis_database}");
        let admin = Sql::connect(&services.postgres.url("postgres")).expect("PostgreSQL answers");
        admin.run(&format!("CREATE DATABASE {database}")).unwrap();
        let place = Self { services, database, redis_database };
        let settings = place.settings("migrate", services.postgres.port(), services.redis.port(), &[]);
        let migrated = App::run(&["migrate"], &settings);
        assert_eq!(migrated.code, Some(0), "app migrate failed:\n{}", migrated.output());
        audit::install(&place.sql());
        place
    }

    /// A connection to the database. It tells who it is, as every process does.
    pub fn sql(&self) -> Sql {
        let url = format!("{}?application_name=checker", self.services.postgres.url(&self.database));
        Sql::connect(&url).expect("PostgreSQL answers")
    }

    /// Runs a Redis command.
    pub fn redis<T: redis::FromRedisValue>(&self, words: &[&str]) -> T {
        self.services.redis.command(self.redis_database, words)
    }

    /// Settings for types beside those of the program: commands. And a variable by which the processes of attempts are
    /// known, which have what their worker has.
    pub fn types(&self) -> Vec<(&'static str, String)> {
        let commands = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/commands/tasks.toml");
        vec![("APP_TASKS", commands.to_owned()), (MARK, self.database.clone())]
    }

    /// The processes of attempts that still live: of types of the program by their mark, of commands by their task.
    ///
    /// The environment of a process of the program is closed to all but root. Where it cannot be read, those count that
    /// outlived their worker, whosesoever: a parallel test that kills a worker has such ones for a moment.
    pub fn processes_of_attempts(&self, is_one_of_ours: impl Fn(&str) -> bool) -> Vec<String> {
        let mark = format!("{MARK}={}", self.database);
        let mut found = Vec::new();
        for entry in fs::read_dir("/proc").unwrap().flatten() {
            let is_ours = match fs::read(entry.path().join("environ")) {
                Ok(environment) => String::from_utf8_lossy(&environment).split('\0').any(|variable| {
                    variable == mark || variable.strip_prefix("LONGRUN_TASK_ID=").is_some_and(&is_one_of_ours)
                }),
                Err(error) => error.kind() == ErrorKind::PermissionDenied && is_orphan_of_a_worker(&entry.path()),
            };
            if is_ours {
                let command = command_line(&entry.path()).join(" ");
                found.push(format!("process {:?}: {command}", entry.file_name()));
            }
        }
        found
    }

    /// The settings of a process of this name that reaches its servers at these ports.
    pub fn settings(&self, name: &str, postgres: u16, redis: u16, more: &[(&str, String)]) -> Vec<(String, String)> {
        let direct = self.services.postgres.url(&self.database);
        let database = direct.replace(&format!(":{}/", self.services.postgres.port()), &format!(":{postgres}/"));
        let fixed = [
            ("DATABASE_URL", format!("{database}?application_name={name}")),
            ("REDIS_URL", format!("redis://127.0.0.1:{redis}/{}", self.redis_database)),
            ("APP_POSTGRES_POOL", "4".to_owned()),
            ("APP_CONCURRENCY", "8".to_owned()),
            ("APP_LEASE", format!("{}s", LEASE.as_secs())),
            ("APP_GRACE", "1s".to_owned()),
            ("APP_STOP_TIMEOUT", "1s".to_owned()),
            ("APP_TEST_TYPES", "1".to_owned()),
            ("APP_LOG_FORMAT", "json".to_owned()),
            ("RUST_LOG", "info,longrun::work::attempt=debug".to_owned()),
        ];
        let more = more.iter().map(|(name, value)| (*name, value.clone()));
        fixed.into_iter().chain(more).map(|(name, value)| (name.to_owned(), value)).collect()
    }
}

/// Whether this is a process that the program starts for an attempt, and its parent is no longer of the program.
fn is_orphan_of_a_worker(process: &Path) -> bool {
    if command_line(process).get(1).is_none_or(|argument| argument != "attempt-child") {
        return false;
    }
    // After the name, which may hold anything: the state, then the parent (proc(5)).
    let stat = fs::read_to_string(process.join("stat")).unwrap_or_default();
    let parent = stat.rsplit(')').next().and_then(|rest| rest.split_whitespace().nth(1)).unwrap_or_default();
    let parent = command_line(&Path::new("/proc").join(parent));
    parent.get(1).is_none_or(|argument| !["work", "dev", "attempt-child"].contains(&argument.as_str()))
}

/// The words of its command; none when it has ended.
fn command_line(process: &Path) -> Vec<String> {
    let words = fs::read(process.join("cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&words).split_terminator('\0').map(str::to_owned).collect()
}

/// A port for a server that is to come back where it was.
pub fn free_port() -> u16 {
    crate::harness::free_port(Ipv4Addr::LOCALHOST)
}
