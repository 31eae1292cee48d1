//! Outsider: an HTTP worker of a soak. It takes tasks from whichever server, reports and ends them; like all workers
//! it sometimes dies, or comes back when its lease has long run out.

use std::{
    io::Read,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use serde_json::{Value, json};
use ureq::http;

use super::{
    history::{History, id_of_ulid},
    random::Random,
};

/// How many there are. Each takes the time that its tasks say, however fast the machine is that submits them.
pub const OUTSIDERS: u64 = 6;
/// The type that they declare. It shares its queue with the types of the workers.
pub const LEASED_TYPE: &str = "soak_leased";
/// How long they hold a task without a heartbeat.
const LEASE: Duration = Duration::from_secs(3);
/// No answer takes longer. A call with `wait` is held for two seconds.
const PATIENCE: Duration = Duration::from_secs(20);

/// What a call came to.
enum Told {
    /// It was taken.
    Yes,
    /// 409: the task is somebody else's, or nobody's. Or nobody is there any more who could tell.
    Lost,
}

/// What becomes of a task that was taken.
enum Fate {
    Done,
    /// Dies after so many steps: it says no more.
    Dies(u64),
    /// Stands still before its end, for two leases.
    Stalls,
}

/// One of them.
pub struct Outsider<'a> {
    name: String,
    agent: ureq::Agent,
    ports: &'a [u16],
    history: &'a History,
    closing: &'a AtomicBool,
    random: Random,
}

impl<'a> Outsider<'a> {
    /// The outsider of this number, which leaves when it is `closing`.
    pub fn new(number: u64, random: Random, ports: &'a [u16], history: &'a History, closing: &'a AtomicBool) -> Self {
        let agent = ureq::Agent::config_builder()
            .timeout_global(Some(PATIENCE))
            .http_status_as_error(false)
            .max_idle_connections(0)
            .proxy(None)
            .build()
            .new_agent();
        Self { name: format!("outsider-{number}"), agent, ports, history, closing, random }
    }

    /// Declares the type: from then on it can be submitted to every server.
    pub fn declare(&mut self) {
        let body = json!({
            "description": "Counts, elsewhere", "queue": "default", "max_attempts": 4,
            "input_schema": {
                "type": "object", "required": ["ms", "steps", "times"], "additionalProperties": false,
                "properties": {
                    "ms": {"type": "integer"}, "steps": {"type": "integer"}, "times": {"type": "integer"},
                },
            },
        });
        while self.send("PUT", &format!("/task-types/{LEASED_TYPE}"), &body).is_none_or(|(status, _)| status != 200) {
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// Works until there is nothing more to do.
    pub fn work(mut self) {
        let ask = json!({
            "worker": self.name, "task_types": [LEASED_TYPE], "max_tasks": 2, "wait": 2,
            "lease": format!("{}s", LEASE.as_secs()),
        });
        while !self.closing.load(Ordering::Relaxed) {
            match self.send("POST", "/queues/default/lease", &ask) {
                Some((200, Value::Array(tasks))) => {
                    self.count("leases taken", tasks.len());
                    tasks.iter().for_each(|task| self.run(task));
                }
                Some((204, _)) => {}
                Some((status @ 400..500, body)) => panic!("a lease was answered {status}: {body}"),
                Some(_) | None => std::thread::sleep(Duration::from_millis(200)),
            }
        }
    }

    /// One delivery. The second of two that came together waits, unrenewed, for the end of the first.
    fn run(&mut self, task: &Value) {
        let number = |value: &Value| value.as_u64().unwrap_or(0);
        let (steps, times) = (number(&task["input"]["steps"]), number(&task["input"]["times"]));
        let delivery = number(&task["delivery"]);
        let fate = match self.random.below(100) {
            0..8 => Fate::Dies(self.random.below(steps as usize) as u64),
            8..12 => Fate::Stalls,
            _ => Fate::Done,
        };
        let (mut done, mut sum) = (number(&task["checkpoint"]["steps"]), number(&task["checkpoint"]["sum"]));
        while done < steps {
            if matches!(fate, Fate::Dies(after) if done >= after) {
                return self.count("leases left without a word", 1);
            }
            std::thread::sleep(Duration::from_millis(number(&task["input"]["ms"])) / steps as u32);
            done += 1;
            sum += done;
            let line = format!("step {done} in delivery {delivery}");
            for (verb, more) in [
                ("heartbeat", json!({})),
                ("log", json!({"lines": [{"message": line}]})),
                ("checkpoint", json!({"checkpoint": {"steps": done, "sum": sum}})),
                ("progress", json!({"current": done, "total": steps})),
            ] {
                if matches!(self.tell(task, verb, more), Told::Lost) {
                    return;
                }
            }
        }
        if matches!(fate, Fate::Stalls) {
            std::thread::sleep(2 * LEASE);
        }
        if number(&task["attempt"]) <= times {
            let failure = json!({"code": "asked_to_fail", "message": "as it was told", "retry_after": "200ms"});
            self.tell(task, "fail", failure);
            return;
        }
        let result = json!({"result": {"steps": done, "sum": sum, "delivery": delivery}});
        if matches!(self.tell(task, "complete", result), Told::Yes) {
            let id = id_of_ulid(task["task_id"].as_str().unwrap());
            self.history.lock().completed.push((id, delivery as i32));
        }
    }

    /// Says something of a task, again and again until it is known what came of it, or nobody is there any more.
    fn tell(&mut self, task: &Value, verb: &str, mut body: Value) -> Told {
        body["lease_token"] = task["lease_token"].clone();
        let path = format!("/tasks/{}/lease/{verb}", task["task_id"].as_str().unwrap());
        loop {
            match self.send("POST", &path, &body) {
                Some((200..300, _)) => return Told::Yes,
                Some((409, _)) => {
                    self.count("calls of outsiders answered lease_lost", 1);
                    return Told::Lost;
                }
                Some((status @ 400..500, answer)) => panic!("{verb} was answered {status}: {answer}"),
                Some(_) | None if self.closing.load(Ordering::Relaxed) => return Told::Lost,
                Some(_) | None => std::thread::sleep(Duration::from_millis(200)),
            }
        }
    }

    /// The status and the body; `None`: no answer.
    fn send(&mut self, method: &str, path: &str, body: &Value) -> Option<(u16, Value)> {
        let url = format!("http://127.0.0.1:{}{path}", self.random.pick(self.ports));
        let request = http::Request::builder().method(method).uri(url).header("content-type", "application/json");
        let (parts, mut body) = self.agent.run(request.body(body.to_string()).unwrap()).ok()?.into_parts();
        let mut bytes = Vec::new();
        body.as_reader().read_to_end(&mut bytes).ok()?;
        Some((parts.status.as_u16(), serde_json::from_slice(&bytes).unwrap_or(Value::Null)))
    }

    fn count(&self, name: &'static str, more: usize) {
        *self.history.lock().outside.entry(name).or_default() += more as u64;
    }
}
