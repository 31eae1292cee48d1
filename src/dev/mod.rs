//! Dev: a private PostgreSQL and Redis for the `dev` role, from the programs that are on the machine.
//!
//! - One `dev` per folder: a lock on the file `lock`, which the system releases however `dev` ends.
//! - The servers live as long as `dev`: each has a [`keeper`] that stops it when `dev` is gone. Should a keeper be
//!   killed too, the next start finds the server by its pid file, proves that it runs in our data folder, stops it and
//!   goes on. No other process is ever signalled.
//! - Data stays in `data/` and is there again at the next start. The ports change from start to start.
//! - PostgreSQL refuses to run as root, so both servers then run as `postgres` or `nobody`. Where that user cannot
//!   reach the folder (it is under /root, say), `data` is a symbolic link into /var/lib/longrun-dev.

pub mod keeper;
mod place;
mod postgres;
mod process;
mod programs;
mod redis;

use std::{fs::File, io::Write as _};

use anyhow::{Context, bail};

use crate::config::{self, Secret};
use place::Place;
use process::Server;

/// The files that say how to reach the private servers.
const DATABASE_URL: &str = "database-url";
const REDIS_URL: &str = "redis-url";
/// Connections of the pool in `dev`: serve and work share it.
const POSTGRES_POOL: u16 = 10;

/// The private servers of one `dev` process.
pub struct Servers {
    place: Place,
    database_url: Option<Secret>,
    redis_url: Option<Secret>,
    running: Vec<Server>,
    described: Vec<String>,
    /// Held, not read: the lock ends with the file.
    _lock: File,
}

impl Servers {
    /// Makes the folder and takes its lock. Starts nothing.
    pub fn open(dev: &config::Dev) -> anyhow::Result<Self> {
        let given = |url: &Option<Secret>| url.clone().filter(|url| !url.is_empty());
        let folder = &dev.dev_dir;
        std::fs::create_dir_all(folder).with_context(|| format!("cannot make the folder {}", folder.display()))?;
        let lock = lock(folder)?;
        let place = Place::open(folder)?;
        Ok(Self {
            place,
            database_url: given(&dev.database_url),
            redis_url: given(&dev.redis_url),
            running: Vec::new(),
            described: Vec::new(),
            _lock: lock,
        })
    }

    /// The PostgreSQL that is used instead of a private one.
    pub fn given_postgres(&self) -> Option<config::Postgres> {
        self.database_url.clone().map(postgres_at)
    }

    /// The Redis that is used instead of a private one.
    pub fn given_redis(&self) -> Option<config::Redis> {
        self.redis_url.clone().map(redis_at)
    }

    /// Starts what is not given by URL, and returns how to reach both. After an error, call [`stop`](Self::stop):
    /// one of the two may run.
    pub async fn start(&mut self) -> anyhow::Result<(config::Postgres, config::Redis)> {
        let database_url = match &self.database_url {
            Some(url) => url.clone(),
            None => {
                let (server, url) = postgres::start(&self.place).await?;
                self.running.push(server);
                let file = self.place.write_url(DATABASE_URL, &url)?;
                self.described.push(format!("PostgreSQL   psql \"$(cat {})\"", file.display()));
                Secret::from(url)
            }
        };
        let redis_url = match &self.redis_url {
            Some(url) => url.clone(),
            None => {
                let (server, url) = redis::start(&self.place).await?;
                self.running.push(server);
                let file = self.place.write_url(REDIS_URL, &url)?;
                self.described.push(format!("Redis        redis-cli -u \"$(cat {})\"", file.display()));
                Secret::from(url)
            }
        };
        Ok((postgres_at(database_url), redis_at(redis_url)))
    }

    /// Lines that tell a person how to reach the private servers. They name files instead of passwords.
    pub fn describe(&self) -> &[String] {
        &self.described
    }

    /// Returns when a private server has ended by itself, with what to read.
    pub async fn lost(&mut self) -> anyhow::Error {
        let ends = self.running.iter_mut().map(|server| Box::pin(server.ended()));
        let ends: Vec<_> = ends.collect();
        if ends.is_empty() {
            return std::future::pending().await;
        }
        futures_util::future::select_all(ends).await.0
    }

    /// Stops what runs, the last started first, and waits for it. What leads to them goes with them.
    pub async fn stop(&mut self) {
        while let Some(server) = self.running.pop() {
            server.stop().await;
        }
        for name in [DATABASE_URL, REDIS_URL] {
            self.place.forget_url(name);
        }
    }
}

fn postgres_at(database_url: Secret) -> config::Postgres {
    config::Postgres { database_url, postgres_pool: POSTGRES_POOL }
}

fn redis_at(redis_url: Secret) -> config::Redis {
    config::Redis { redis_url, redis_ca: None }
}

fn lock(folder: &std::path::Path) -> anyhow::Result<File> {
    let path = folder.join("lock");
    let mut file = File::options()
        .create(true)
        .truncate(false)
        .read(true)
        .write(true)
        .open(&path)
        .with_context(|| format!("cannot open {}", path.display()))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(std::fs::TryLockError::WouldBlock) => {
            let pid = std::fs::read_to_string(&path).unwrap_or_default();
            bail!(
                "another app dev (process {}) uses the folder {}: stop it, or choose another folder with APP_DEV_DIR",
                pid.trim(),
                folder.display()
            );
        }
        Err(std::fs::TryLockError::Error(error)) => {
            return Err(error).with_context(|| format!("cannot lock {}", path.display()));
        }
    }
    file.set_len(0)?;
    writeln!(file, "{}", std::process::id())?;
    Ok(file)
}
