//! DNS: a name server of the test's own, and a way to make a process ask it.
//!
//! It answers A and AAAA questions (RFC 1035, RFC 3596) over UDP. A process asks it when it runs in a mount namespace of
//! its own, in which another `/etc/resolv.conf` lies over the system's; that needs root.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv4Addr, UdpSocket},
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use super::watchdog;

/// What runs a command with another `resolv.conf`: the file, and the command.
pub const RESOLVING_BY: [&str; 4] = ["--mount", "sh", "-c", "mount --bind \"$0\" /etc/resolv.conf && exec \"$@\""];

const A: u16 = 1;
const AAAA: u16 = 28;

/// The addresses of a name, given how often it was asked for before.
type Zone = dyn Fn(&str, usize) -> Vec<IpAddr> + Send;

/// A running name server. It answers until it is dropped.
pub struct Dns {
    stopped: Arc<AtomicBool>,
    resolv_conf: PathBuf,
}

impl Dns {
    /// Starts one on port 53 of this loopback address. `None` where that is not allowed.
    pub fn start(address: Ipv4Addr, zone: impl Fn(&str, usize) -> Vec<IpAddr> + Send + 'static) -> Option<Self> {
        let socket = UdpSocket::bind((address, 53)).ok()?;
        socket.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        let stopped = Arc::new(AtomicBool::new(false));
        let resolv_conf = watchdog::new_folder("dns").join("resolv.conf");
        std::fs::write(&resolv_conf, format!("nameserver {address}\noptions timeout:10 attempts:3\n")).unwrap();
        let ends = stopped.clone();
        std::thread::spawn(move || serve(&socket, &zone, &ends));
        Some(Self { stopped, resolv_conf })
    }

    /// The file that names it.
    pub fn resolv_conf(&self) -> &str {
        self.resolv_conf.to_str().expect("a path of our own making")
    }
}

impl Drop for Dns {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::Relaxed);
    }
}

fn serve(socket: &UdpSocket, zone: &Zone, stopped: &AtomicBool) {
    let mut asked: HashMap<(String, u16), usize> = HashMap::new();
    let mut packet = [0; 512];
    while !stopped.load(Ordering::Relaxed) {
        let Ok((length, client)) = socket.recv_from(&mut packet) else { continue };
        if let Some(answer) = answer(&packet[..length], zone, &mut asked) {
            let _ = socket.send_to(&answer, client);
        }
    }
}

fn answer(question: &[u8], zone: &Zone, asked: &mut HashMap<(String, u16), usize>) -> Option<Vec<u8>> {
    let (mut labels, mut at) = (Vec::new(), 12);
    while *question.get(at)? > 0 {
        let length = usize::from(question[at]);
        labels.push(String::from_utf8_lossy(question.get(at + 1..at + 1 + length)?).to_ascii_lowercase());
        at += 1 + length;
    }
    let end = at + 5;
    let kind = u16::from_be_bytes([*question.get(at + 1)?, *question.get(at + 2)?]);
    let name = labels.join(".");
    let earlier = asked.entry((name.clone(), kind)).or_default();
    let addresses = zone(&name, *earlier);
    *earlier += 1;
    let fitting: Vec<Vec<u8>> = addresses
        .iter()
        .filter_map(|address| match (address, kind) {
            (IpAddr::V4(address), A) => Some(address.octets().to_vec()),
            (IpAddr::V6(address), AAAA) => Some(address.octets().to_vec()),
            _ => None,
        })
        .collect();
    // An answer, authoritative; no such name where there is no address of either kind.
    let code = if addresses.is_empty() { 3 } else { 0 };
    let mut answer = vec![question[0], question[1], 0x85, 0x80 | code, 0, 1, 0, u8::try_from(fitting.len()).ok()?];
    answer.extend([0; 4]);
    answer.extend(question.get(12..end)?);
    for address in fitting {
        // The name is the one at byte 12; class IN; good for no time at all.
        answer.extend([0xc0, 12]);
        answer.extend(kind.to_be_bytes());
        answer.extend([0, 1, 0, 0, 0, 0, 0, u8::try_from(address.len()).ok()?]);
        answer.extend(address);
    }
    Some(answer)
}
