//! Proxy: stands between a process and its server, and fails as networks fail.
//!
//! Each direction of each connection has a [`Flow`], which can be changed at any moment; new connections get the
//! present default. Swallowing only the answers leaves a half-open connection: the server has done what was asked, and
//! the client never hears of it.

use std::{
    io::{Read, Write},
    net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use socket2::SockRef;

/// What becomes of the bytes of one direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flow {
    /// They go through.
    Pass,
    /// They wait here until the flow changes; then they go through, or are swallowed.
    Hold,
    /// They are read and thrown away, for good.
    Swallow,
}

/// A direction, as seen from the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// Requests.
    ToServer,
    /// Answers.
    ToClient,
}

#[derive(Default)]
struct State {
    refusing: bool,
    defaults: Flows,
    connections: Vec<Connection>,
    accepted: usize,
    stopped: bool,
}

#[derive(Clone, Copy)]
struct Flows {
    to_server: Flow,
    to_client: Flow,
}

impl Default for Flows {
    fn default() -> Self {
        Self { to_server: Flow::Pass, to_client: Flow::Pass }
    }
}

impl Flows {
    fn of(&mut self, direction: Direction) -> &mut Flow {
        match direction {
            Direction::ToServer => &mut self.to_server,
            Direction::ToClient => &mut self.to_client,
        }
    }
}

struct Connection {
    number: usize,
    client: TcpStream,
    server: TcpStream,
    flows: Flows,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A running proxy.
pub struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
}

impl Proxy {
    /// Starts one in front of a port of 127.0.0.1.
    pub fn before(port: u16) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared::default());
        let proxy = Self { address, shared: shared.clone() };
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                if shared.lock().stopped {
                    return;
                }
                accept(client, port, &shared);
            }
        });
        proxy
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How many connections are open.
    pub fn open(&self) -> usize {
        self.shared.lock().connections.len()
    }

    /// How many connections there have been, refused ones not counted.
    pub fn accepted(&self) -> usize {
        self.shared.lock().accepted
    }

    /// From here on new connections are closed at once, or served again.
    pub fn refuse(&self, refusing: bool) {
        self.shared.lock().refusing = refusing;
    }

    /// Sets a direction of all connections, those to come included.
    pub fn set(&self, direction: Direction, flow: Flow) {
        let mut state = self.shared.lock();
        *state.defaults.of(direction) = flow;
        state.connections.iter_mut().for_each(|connection| *connection.flows.of(direction) = flow);
        self.shared.changed.notify_all();
    }

    /// Sets a direction of one connection, counted from 0 in the order in which they were accepted.
    pub fn set_one(&self, number: usize, direction: Direction, flow: Flow) {
        let mut state = self.shared.lock();
        let connection = state.connections.iter_mut().find(|connection| connection.number == number);
        *connection.expect("the connection is open").flows.of(direction) = flow;
        self.shared.changed.notify_all();
    }

    /// Closes all connections in order (FIN).
    pub fn cut(&self) {
        self.close(|stream| {
            let _ = stream.shutdown(Shutdown::Both);
        });
    }

    /// Breaks all connections off (RST).
    pub fn reset(&self) {
        self.close(|stream| {
            let _ = SockRef::from(stream).set_linger(Some(Duration::ZERO));
        });
    }

    fn close(&self, how: impl Fn(&TcpStream)) {
        let mut state = self.shared.lock();
        for connection in state.connections.drain(..) {
            how(&connection.client);
            how(&connection.server);
            // The threads hold clones: only a shutdown makes them let go, and with no linger it sends the RST.
            let _ = connection.client.shutdown(Shutdown::Read);
            let _ = connection.server.shutdown(Shutdown::Read);
        }
        self.shared.changed.notify_all();
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.lock().stopped = true;
        self.cut();
        let _ = TcpStream::connect(self.address);
    }
}

fn accept(client: TcpStream, port: u16, shared: &Arc<Shared>) {
    let mut state = shared.lock();
    if state.refusing {
        return;
    }
    let Ok(server) = TcpStream::connect((Ipv4Addr::LOCALHOST, port)) else { return };
    let number = state.accepted;
    state.accepted += 1;
    for (from, to, direction) in [(&client, &server, Direction::ToServer), (&server, &client, Direction::ToClient)] {
        let (from, to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
        let shared = shared.clone();
        std::thread::spawn(move || pump(number, direction, from, to, &shared));
    }
    let flows = state.defaults;
    state.connections.push(Connection { number, client, server, flows });
}

/// Carries one direction of one connection until either end closes.
fn pump(number: usize, direction: Direction, mut from: TcpStream, mut to: TcpStream, shared: &Shared) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(length @ 1..) = from.read(&mut buffer) {
        let mut state = shared.lock();
        let flow = loop {
            let connection = state.connections.iter_mut().find(|connection| connection.number == number);
            match connection.map(|connection| *connection.flows.of(direction)) {
                Some(Flow::Hold) => state = shared.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
                Some(flow) => break flow,
                None => return,
            }
        };
        drop(state);
        if flow == Flow::Pass && to.write_all(&buffer[..length]).is_err() {
            break;
        }
    }
    // One end has closed: so does the other. A connection that is held or swallowed keeps its silence.
    let mut state = shared.lock();
    let connection = state.connections.iter_mut().find(|connection| connection.number == number);
    // Cut or reset already, where a shutdown from here would turn the RST into a FIN; or silent.
    if connection.is_none_or(|connection| *connection.flows.of(direction) != Flow::Pass) {
        return;
    }
    let _ = to.shutdown(Shutdown::Both);
    let _ = from.shutdown(Shutdown::Both);
    state.connections.retain(|connection| connection.number != number);
}
