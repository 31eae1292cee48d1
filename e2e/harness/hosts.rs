//! Hosts: machines of a test's own on one network: a network namespace each, and a router between them that can be
//! told to drop what goes from one to another.
//!
//! The namespaces have no names: the system removes each with its last process, also when the test is killed. Only
//! root may make them.

use std::{fs::File, net::Ipv4Addr, process::Command, thread};

use nix::sched::{CloneFlags, setns, unshare};

/// A router and the hosts around it. Every host has a network of its own, 10.77.N.0/24.
pub struct Network {
    router: File,
    hosts: u8,
}

/// One host.
pub struct Host {
    namespace: File,
    number: u8,
}

impl Network {
    /// A network without hosts. Fails, and says what to do, where namespaces cannot be made.
    pub fn new() -> Self {
        let router = new_namespace();
        inside(&router, || std::fs::write("/proc/sys/net/ipv4/ip_forward", "1").expect("a router forwards"));
        Self { router, hosts: 0 }
    }

    /// Another host, which reaches all others.
    pub fn host(&mut self) -> Host {
        self.hosts += 1;
        let host = Host { namespace: new_namespace(), number: self.hosts };
        let (number, namespace) = (host.number, path(&host.namespace));
        inside(&self.router, || {
            ip(&format!("link add to-{number} type veth peer name eth0 netns {namespace}"));
            ip(&format!("address add 10.77.{number}.1/24 dev to-{number}"));
            ip(&format!("link set to-{number} up"));
        });
        host.run(|| {
            ip("link set lo up");
            ip(&format!("address add {}/24 dev eth0", host.address()));
            ip("link set eth0 up");
            ip(&format!("route add default via 10.77.{number}.1"));
        });
        host
    }

    /// From here on, what goes between the two is lost without a word, in both directions.
    pub fn cut(&self, one: &Host, other: &Host) {
        self.rules("add", one, other);
    }

    /// The end of a cut.
    pub fn heal(&self, one: &Host, other: &Host) {
        self.rules("del", one, other);
    }

    fn rules(&self, verb: &str, one: &Host, other: &Host) {
        inside(&self.router, || {
            for (from, to) in [(one, other), (other, one)] {
                ip(&format!("rule {verb} from {} to {} blackhole", from.address(), to.address()));
            }
        });
    }
}

impl Host {
    /// Its address.
    pub fn address(&self) -> Ipv4Addr {
        Ipv4Addr::new(10, 77, self.number, 2)
    }

    /// Does something on this host: what connects, listens or starts a process in it does so there.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        inside(&self.namespace, work)
    }
}

/// A namespace belongs to a thread, and a process to the namespace of the thread that starts it.
fn inside<T: Send>(namespace: &File, work: impl FnOnce() -> T + Send) -> T {
    thread::scope(|scope| {
        let thread = scope.spawn(|| {
            setns(namespace, CloneFlags::CLONE_NEWNET).expect("the namespace is there");
            work()
        });
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

fn new_namespace() -> File {
    let made = thread::spawn(|| {
        unshare(CloneFlags::CLONE_NEWNET).map(|()| File::open("/proc/thread-self/ns/net").expect("proc(5)"))
    });
    made.join().unwrap().unwrap_or_else(|error| {
        panic!(
            "this test makes network namespaces, which only root may ({error}): run it as root, or leave it out with \
             `make test SKIP=multi_host`"
        )
    })
}

/// How `ip` finds a namespace that has no name.
fn path(namespace: &File) -> String {
    format!("/proc/{}/fd/{}", std::process::id(), std::os::fd::AsRawFd::as_raw_fd(namespace))
}

fn ip(arguments: &str) {
    let done = Command::new("ip").args(arguments.split(' ')).output();
    let done = done.expect("these tests need ip: apt install iproute2");
    assert!(done.status.success(), "ip {arguments}: {}", String::from_utf8_lossy(&done.stderr));
}
