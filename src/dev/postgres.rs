//! A private PostgreSQL: its cluster in `data/postgres`, reachable on 127.0.0.1 with a password and in no other way.

use std::{fs, path::Path};

use anyhow::{Context, bail};
use nix::sys::signal::Signal;

use super::{
    place::Place,
    process::{Launch, Server, free_port, recover},
    programs,
};

const NAME: &str = "PostgreSQL";
/// The superuser of the private cluster.
const USER: &str = "longrun";
/// Processes of a PostgreSQL that was killed still hold its shared memory. They notice that it is gone, and end.
const LEFT_BEHIND: &str = "pre-existing shared memory block";

/// Starts it, making the cluster first where there is none. Returns the connection URL too.
pub(super) async fn start(place: &Place) -> anyhow::Result<(Server, String)> {
    let cluster = place.data("postgres");
    let major = fs::read_to_string(cluster.join("PG_VERSION")).ok();
    let programs = programs::postgres(major.as_deref().map(str::trim))?;
    if major.is_none() {
        init(place, &programs, &cluster).await?;
    }
    let pid_file = cluster.join("postmaster.pid");
    recover(NAME, &pid_file, &cluster, Signal::SIGINT).await?;

    let port = free_port()?;
    let mut arguments = vec!["-D".to_owned(), path_text(&cluster)?];
    let settings = [
        "listen_addresses=127.0.0.1".to_owned(),
        format!("port={port}"),
        // No socket in /tmp for others to find, and no limit on the length of the folder's path.
        "unix_socket_directories=".to_owned(),
        "logging_collector=off".to_owned(),
        "log_destination=stderr".to_owned(),
    ];
    arguments.extend(settings.into_iter().flat_map(|setting| ["-c".to_owned(), setting]));
    // SIGINT is PostgreSQL's fast shutdown: sessions are ended, data is written out.
    let program = programs.join("postgres");
    let launch = Launch { name: NAME, program, arguments, signal: Signal::SIGINT, passing: Some(LEFT_BEHIND) };
    let server = Server::start(place, launch, || accepts_connections(&pid_file)).await?;
    Ok((server, format!("postgresql://{USER}:{}@127.0.0.1:{port}/postgres", place.password)))
}

/// The eighth line of PostgreSQL's pid file says `ready` once it accepts connections.
fn accepts_connections(pid_file: &Path) -> bool {
    fs::read_to_string(pid_file).is_ok_and(|text| text.lines().nth(7).is_some_and(|state| state.trim() == "ready"))
}

/// Makes the cluster beside its place and moves it there when it is whole, so that half a cluster is never taken for
/// one.
async fn init(place: &Place, programs: &Path, cluster: &Path) -> anyhow::Result<()> {
    tracing::info!("making a PostgreSQL cluster in {}", cluster.display());
    let unfinished = place.data("postgres.new");
    if unfinished.exists() {
        fs::remove_dir_all(&unfinished)?;
    }
    place.make_for_servers(&unfinished)?;
    let password_file = place.data("initdb-password");
    place.write_for_servers(&password_file, &place.password)?;
    let made = place
        .command(&programs.join("initdb"))
        .arg(format!("--pgdata={}", path_text(&unfinished)?))
        .arg(format!("--pwfile={}", path_text(&password_file)?))
        .arg(format!("--username={USER}"))
        .args(["--auth=scram-sha-256", "--encoding=UTF8", "--locale=C"])
        .output()
        .await;
    fs::remove_file(&password_file)?;
    let made = made.context("cannot run initdb")?;
    if !made.status.success() {
        let words = String::from_utf8_lossy(&made.stderr).into_owned();
        bail!("initdb failed: {}", words.lines().map(str::trim).collect::<Vec<_>>().join(" "));
    }
    // A folder without PG_VERSION holds no cluster.
    if cluster.exists() {
        fs::remove_dir_all(cluster)?;
    }
    fs::rename(&unfinished, cluster)?;
    Ok(())
}

pub(super) fn path_text(path: &Path) -> anyhow::Result<String> {
    let text = path.to_str().with_context(|| format!("the path {} is not UTF-8", path.display()))?;
    Ok(text.to_owned())
}
