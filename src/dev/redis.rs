//! A private Redis (or Valkey): its append-only file in `data/redis`, reachable on 127.0.0.1 with a password.

use std::{
    net::{Ipv4Addr, SocketAddr, TcpStream},
    time::Duration,
};

use nix::sys::signal::Signal;

use super::{
    place::Place,
    postgres::path_text,
    process::{Launch, Server, free_port, recover},
    programs,
};

const NAME: &str = "Redis";
const CONNECT_TIMEOUT: Duration = Duration::from_millis(200);

/// Starts it. Returns the connection URL too.
pub(super) async fn start(place: &Place) -> anyhow::Result<(Server, String)> {
    let program = programs::redis()?;
    let folder = place.data("redis");
    place.make_for_servers(&folder)?;
    let pid_file = folder.join("redis.pid");
    recover(NAME, &pid_file, &folder, Signal::SIGTERM).await?;

    let port = free_port()?;
    let password = &place.password;
    // In a file, because arguments are there for every user of the machine to read.
    let settings = folder.join("redis.conf");
    let text = format!(
        "bind 127.0.0.1\nport {port}\nrequirepass {password}\ndaemonize no\ndir {}\npidfile {}\n\
         save \"\"\nappendonly yes\nappendfsync everysec\n",
        quoted(&path_text(&folder)?),
        quoted(&path_text(&pid_file)?),
    );
    place.write_for_servers(&settings, &text)?;
    let arguments = vec![path_text(&settings)?];
    let launch = Launch { name: NAME, program, arguments, signal: Signal::SIGTERM, passing: None };
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let server = Server::start(place, launch, || TcpStream::connect_timeout(&address, CONNECT_TIMEOUT).is_ok()).await?;
    Ok((server, format!("redis://default:{password}@127.0.0.1:{port}/0")))
}

/// As Redis reads strings in its settings.
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', r"\\").replace('"', "\\\""))
}
