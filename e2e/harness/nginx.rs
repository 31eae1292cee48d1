//! Nginx: the proxy that most people put in front, with its default settings for proxies.

use std::{
    fs::File,
    net::{Ipv4Addr, SocketAddr, TcpStream},
    os::unix::process::CommandExt,
    path::Path,
    process::{Child, Command, Stdio},
};

use nix::sys::signal::Signal;

use super::{LONG, free_port, until, watchdog};

/// A running nginx. Dropped, it is killed.
pub struct Nginx {
    child: Child,
    address: SocketAddr,
}

impl Nginx {
    /// Starts one that passes everything on to this server.
    pub fn before(server: SocketAddr) -> Self {
        let folder = watchdog::new_folder("nginx");
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port(Ipv4Addr::LOCALHOST)));
        // Where its files lie is set, and nothing that concerns proxying but the address.
        let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
        let paths: String = temporary.iter().map(|kind| format!("{kind}_temp_path {kind};\n")).collect();
        let settings = format!(
            "worker_processes 1;\ndaemon off;\nmaster_process off;\npid nginx.pid;\nerror_log stderr;\n
             events {{ worker_connections 256; }}\n
             http {{ access_log off;\n{paths}
                server {{ listen {address}; location / {{ proxy_pass http://{server}; }} }} }}\n"
        );
        std::fs::write(folder.join("nginx.conf"), settings).unwrap();
        let log = File::create(folder.join("log")).unwrap();
        let program = ["/usr/sbin/nginx", "/usr/local/sbin/nginx"].into_iter().find(|path| Path::new(path).exists());
        let mut child = Command::new(program.unwrap_or("nginx"))
            .arg("-p")
            .arg(&folder)
            .args(["-e", "stderr", "-c", "nginx.conf"])
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .process_group(0)
            .spawn()
            .expect("this test needs nginx: apt install nginx-light");
        watchdog::watch(child.id(), Signal::SIGKILL);
        until("nginx listens", LONG, || {
            if let Some(status) = child.try_wait().unwrap() {
                let log = std::fs::read_to_string(folder.join("log")).unwrap_or_default();
                panic!("nginx has ended ({status}):\n{log}");
            }
            TcpStream::connect(address).ok().map(drop)
        });
        Self { child, address }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        watchdog::forget(self.child.id());
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
