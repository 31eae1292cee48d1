//! Fleet: the processes of a soak. It keeps them up: whoever has ended, for whatever reason, is started again.

use std::{
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use nix::sys::signal::Signal;

use super::{
    clock::{Moment, SECOND, now},
    logs::{self, Execution, Seen},
    place::{Place, free_port},
    random::Random,
};
use crate::harness::{App, Proxy};

/// Who is younger has not begun to work: to kill it proves little.
const GROWN_UP: Moment = SECOND;
/// How many `serve` processes there are.
const SERVES: usize = 2;

/// A place in the fleet, and the process that has it now.
struct Slot {
    process: Option<Process>,
    incarnation: usize,
}

struct Process {
    name: String,
    app: App,
    began: Moment,
    /// A signal is on its way, or it is paused: leave it alone.
    busy: bool,
    /// It was told to leave in order.
    told_to_leave: bool,
}

/// What the processes left behind.
#[derive(Default)]
pub struct Left {
    /// When which handler ran.
    pub executions: Vec<Execution>,
    /// What was seen at work.
    pub seen: Seen,
    /// Worker processes started.
    pub workers: usize,
    /// Workers that were told to leave and left with another code than 0.
    pub out_of_order: Vec<String>,
}

/// The processes.
pub struct Fleet<'a> {
    place: &'a Place<'a>,
    workers: Vec<Mutex<Slot>>,
    serves: Vec<Mutex<Slot>>,
    serve_ports: Vec<u16>,
    /// Between the worker of slot 0 and PostgreSQL.
    pub to_postgres: Proxy,
    /// Between the worker of slot 0 and Redis.
    pub to_redis: Proxy,
    left: Mutex<Left>,
    stopping: AtomicBool,
}

impl<'a> Fleet<'a> {
    /// A fleet of so many workers; [`keep_up`](Self::keep_up) starts them.
    pub fn new(place: &'a Place<'a>, workers: usize) -> Self {
        let slots = |count: usize| (0..count).map(|_| Mutex::new(Slot { process: None, incarnation: 0 })).collect();
        Self {
            place,
            workers: slots(workers),
            serves: slots(SERVES),
            serve_ports: (0..SERVES).map(|_| free_port()).collect(),
            to_postgres: Proxy::before(place.services.postgres.port()),
            to_redis: Proxy::before(place.services.redis.port()),
            left: Mutex::default(),
            stopping: AtomicBool::new(false),
        }
    }

    /// Where the servers listen.
    pub fn ports(&self) -> &[u16] {
        &self.serve_ports
    }

    /// Starts who is not there, again and again, until [`stop`](Self::stop).
    pub fn keep_up(&self) {
        while !self.stopping.load(Ordering::Relaxed) {
            for number in 0..self.workers.len() {
                self.keep_up_worker(number);
            }
            for number in 0..self.serves.len() {
                self.keep_up_serve(number);
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn keep_up_worker(&self, number: usize) {
        let mut slot = lock(&self.workers[number]);
        self.bury(&mut slot, number);
        if slot.process.is_some() {
            return;
        }
        let name = format!("worker-{number}.{}", slot.incarnation);
        let servers = &self.place.services;
        let (postgres, redis) = match number {
            0 => (self.to_postgres.address().port(), self.to_redis.address().port()),
            _ => (servers.postgres.port(), servers.redis.port()),
        };
        let app = App::start(&["work"], &self.place.settings(&name, postgres, redis, &self.place.types()));
        slot.incarnation += 1;
        slot.process = Some(Process { name, app, began: now(), busy: false, told_to_leave: false });
        lock(&self.left).workers += 1;
    }

    fn keep_up_serve(&self, number: usize) {
        let mut slot = lock(&self.serves[number]);
        if slot.process.as_mut().is_some_and(|process| process.app.has_ended()) {
            slot.process = None;
        }
        if slot.process.is_some() {
            return;
        }
        let name = format!("serve-{number}.{}", slot.incarnation);
        let servers = &self.place.services;
        let mut more = self.place.types();
        more.push(("APP_BIND", format!("127.0.0.1:{}", self.serve_ports[number])));
        let settings = self.place.settings(&name, servers.postgres.port(), servers.redis.port(), &more);
        slot.incarnation += 1;
        slot.process = Some(Process {
            name,
            app: App::start(&["serve"], &settings),
            began: now(),
            busy: false,
            told_to_leave: false,
        });
    }

    /// Takes a process that has ended out of its slot and reads its log.
    fn bury(&self, slot: &mut Slot, number: usize) {
        if let Some(process) = slot.process.take_if(|process| process.app.has_ended()) {
            let mut process = process;
            let log = process.app.stderr();
            let status = process.app.wait_exit(Duration::ZERO);
            let mut left = lock(&self.left);
            let Left { executions, seen, .. } = &mut *left;
            logs::read(&log, &process.name, number, now(), executions, seen);
            // One that its own poison has killed has no code.
            if process.told_to_leave && status.code().is_some_and(|code| code != 0) {
                left.out_of_order.push(format!("{} was told to leave and ended with {status}", process.name));
            }
        }
    }

    /// Sends a signal to some grown-up worker that nothing else befalls just now, and returns its slot.
    pub fn signal_some_worker(&self, random: &mut Random, signal: Signal) -> usize {
        loop {
            let number = random.below(self.workers.len());
            let mut slot = lock(&self.workers[number]);
            if let Some(process) = &mut slot.process
                && !process.busy
                && now() - process.began > GROWN_UP
                && !process.app.has_ended()
            {
                process.app.signal(signal);
                process.busy = true;
                process.told_to_leave = signal == Signal::SIGTERM;
                return number;
            }
            drop(slot);
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Lets a worker go on that was paused. It stays as it is for another `rest`, so that it can be seen what it does
    /// with what it held.
    pub fn continue_worker(&self, number: usize, rest: Duration) {
        if let Some(process) = &lock(&self.workers[number]).process {
            process.app.signal(Signal::SIGCONT);
        }
        std::thread::sleep(rest);
        if let Some(process) = &mut lock(&self.workers[number]).process {
            process.busy = false;
        }
    }

    /// Sends a signal to one of the servers. They come back.
    pub fn signal_some_serve(&self, random: &mut Random, signal: Signal) {
        let slot = lock(&self.serves[random.below(SERVES)]);
        if let Some(process) = &slot.process {
            process.app.signal(signal);
        }
    }

    /// Ends all workers in order, then the servers; fails when one of them does not leave with 0.
    pub fn stop(&self) -> Left {
        self.stopping.store(true, Ordering::Relaxed);
        let mut workers: Vec<_> = self.workers.iter().map(lock).collect();
        for slot in &mut workers {
            if let Some(process) = &mut slot.process
                && !process.app.has_ended()
            {
                process.app.signal(Signal::SIGTERM);
                process.told_to_leave = true;
            }
        }
        for (number, slot) in workers.iter_mut().enumerate() {
            if let Some(process) = &mut slot.process {
                process.app.wait_exit(Duration::from_secs(120));
            }
            self.bury(slot, number);
        }
        for slot in &self.serves {
            if let Some(mut process) = lock(slot).process.take() {
                process.app.stop();
            }
        }
        std::mem::take(&mut *lock(&self.left))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
