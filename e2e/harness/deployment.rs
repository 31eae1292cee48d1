//! Deployment: a database, a Redis database and settings, in which a test starts processes of `app`.

use std::sync::{
    LazyLock,
    atomic::{AtomicUsize, Ordering},
};

use super::{App, Dns, Proxy, Services, Sql, app::Finished, dns::RESOLVING_BY};

/// The database that the others are copied from: migrated once, by the real `app migrate`.
static TEMPLATE: LazyLock<&'static str> = LazyLock::new(|| {
    let postgres = &Services::shared().postgres;
    let admin = Sql::connect(&postgres.url("postgres")).expect("PostgreSQL answers");
    admin.run("CREATE DATABASE longrun_template").unwrap();
    let migrated = App::run(&["migrate"], &[("DATABASE_URL".to_owned(), postgres.url("longrun_template"))]);
    assert_eq!(migrated.code, Some(0), "app migrate failed:\n{}", migrated.output());
    admin.run("ALTER DATABASE longrun_template ALLOW_CONNECTIONS false").unwrap();
    "longrun_template"
});

/// One deployment. Start processes after it, so that they end before it.
pub struct Deployment<'a> {
    services: &'a Services,
    database: String,
    redis_database: u16,
    settings: Vec<(String, String)>,
    program: String,
}

impl Deployment<'static> {
    /// A migrated deployment on the shared servers.
    pub fn new() -> Self {
        Self::make(Services::shared(), Some(*TEMPLATE))
    }

    /// A deployment on the shared servers whose database has no tables yet.
    pub fn empty() -> Self {
        Self::make(Services::shared(), None)
    }
}

impl<'a> Deployment<'a> {
    /// A migrated deployment on servers of the test's own.
    pub fn on(services: &'a Services) -> Self {
        let deployment = Self::make(services, None);
        let migrated = deployment.run(&["migrate"]);
        assert_eq!(migrated.code, Some(0), "app migrate failed:\n{}", migrated.output());
        deployment
    }

    fn make(services: &'a Services, template: Option<&str>) -> Self {
        static NUMBER: AtomicUsize = AtomicUsize::new(1);
        let database = format!("test_{}", NUMBER.fetch_add(1, Ordering::Relaxed));
        let admin = Sql::connect(&services.postgres.url("postgres")).expect("PostgreSQL answers");
        admin.run(&format!("CREATE DATABASE {database} TEMPLATE {}", template.unwrap_or("template1"))).unwrap();
        let redis_database = services.take_redis_database();
        let settings = vec![
            ("DATABASE_URL".to_owned(), services.postgres.url(&database)),
            ("REDIS_URL".to_owned(), services.redis.url(redis_database)),
            ("APP_BIND".to_owned(), "127.0.0.1:0".to_owned()),
            ("RUST_LOG".to_owned(), "info,longrun=debug".to_owned()),
        ];
        // Measurements are taken with an optimised program, which its tests need not be.
        let program = std::env::var("APP_UNDER_TEST").unwrap_or_else(|_| env!("CARGO_BIN_EXE_app").to_owned());
        Self { services, database, redis_database, settings, program }
    }

    /// Sets an environment variable for the processes started from here on.
    pub fn set(mut self, name: &str, value: impl ToString) -> Self {
        self.settings.retain(|(other, _)| other != name);
        self.settings.push((name.to_owned(), value.to_string()));
        self
    }

    /// The URL of the Redis database.
    pub fn redis_url(&self) -> String {
        self.services.redis.url(self.redis_database)
    }

    /// From here on processes reach Redis through this proxy.
    pub fn redis_through(self, proxy: &Proxy) -> Self {
        let url = self.redis_url_by(proxy);
        self.set("REDIS_URL", url)
    }

    /// From here on processes are of the program that has, beside the built-in task types, those of `e2e/app.rs`.
    #[cfg(feature = "faults")]
    pub fn with_test_types(mut self) -> Self {
        let optimised = std::env::var("TYPES_UNDER_TEST");
        self.program = optimised.unwrap_or_else(|_| env!("CARGO_BIN_EXE_app-with-test-types").to_owned());
        self
    }

    /// Starts a process in the role `serve`.
    pub fn serve(&self) -> App {
        self.start(&["serve"])
    }

    /// Starts a process in the role `work`.
    pub fn work(&self) -> App {
        self.start(&["work"])
    }

    /// Starts a process in the role `work` with more settings: `("APP_LEASE", "1s")`.
    pub fn work_with(&self, settings: &[(&str, &str)]) -> App {
        self.start_with(&["work"], settings)
    }

    /// Starts a process in the role `serve` with more settings.
    pub fn serve_with(&self, settings: &[(&str, &str)]) -> App {
        self.start_with(&["serve"], settings)
    }

    /// Starts a command of `app` with more settings.
    pub fn start_with(&self, arguments: &[&str], more: &[(&str, &str)]) -> App {
        let mut settings = self.settings.clone();
        for (name, value) in more {
            settings.retain(|(other, _)| other != name);
            settings.push(((*name).to_owned(), (*value).to_owned()));
        }
        let folder = super::new_folder("empty");
        App::start_program(&self.program, &folder, arguments, &settings)
    }

    /// Starts a process in the role `work` that asks this name server.
    pub fn work_resolving_by(&self, dns: &Dns) -> App {
        let mut arguments: Vec<&str> = RESOLVING_BY.to_vec();
        arguments.extend([dns.resolv_conf(), &self.program, "work"]);
        App::start_program("unshare", &super::new_folder("empty"), &arguments, &self.settings)
    }

    /// Starts a process in the role `work` that may do no more than any other of its user, also where the tests run as
    /// root: as in a container without capabilities.
    pub fn work_unprivileged(&self) -> App {
        if !nix::unistd::geteuid().is_root() {
            return self.work();
        }
        let arguments = ["--bounding-set=-all", "--inh-caps=-all", &self.program, "work"];
        App::start_program("setpriv", &super::new_folder("empty"), &arguments, &self.settings)
    }

    /// Runs a command of `app` to its end.
    pub fn run(&self, arguments: &[&str]) -> Finished {
        self.start(arguments).finish()
    }

    /// Starts a command of `app`.
    pub fn start(&self, arguments: &[&str]) -> App {
        self.start_with(arguments, &[])
    }

    /// Makes a key, with the real `app keys create`.
    pub fn key(&self, name: &str, role: &str) -> String {
        let made = self.run(&["keys", "create", name, "--role", role]);
        assert_eq!(made.code, Some(0), "{}", made.output());
        made.stdout.trim().rsplit(' ').next().expect("a word").to_owned()
    }

    /// `DATABASE_URL`, for a test that uses the library itself.
    pub fn database_url(&self) -> String {
        self.services.postgres.url(&self.database)
    }

    /// `DATABASE_URL` by way of a proxy in front of PostgreSQL.
    pub fn database_url_by(&self, proxy: &Proxy) -> String {
        format!("postgresql://longrun@{}/{}", proxy.address(), self.database)
    }

    /// `REDIS_URL` by way of a proxy in front of Redis.
    pub fn redis_url_by(&self, proxy: &Proxy) -> String {
        format!("redis://{}/{}", proxy.address(), self.redis_database)
    }

    /// A connection to the database.
    pub fn sql(&self) -> Sql {
        Sql::connect(&self.services.postgres.url(&self.database)).expect("PostgreSQL answers")
    }

    /// Runs a Redis command.
    pub fn redis<T: redis::FromRedisValue>(&self, words: &[&str]) -> T {
        self.services.redis.command(self.redis_database, words)
    }
}

impl Drop for Deployment<'_> {
    fn drop(&mut self) {
        // Space, not correctness: the server and its folder go with the run. A test may have stopped it.
        if let Ok(admin) = Sql::connect(&self.services.postgres.url("postgres")) {
            let _ = admin.run(&format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", self.database));
        }
    }
}
