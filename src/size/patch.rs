//! Patch: the plan as a kustomize patch for the objects of deploy/kubernetes.

use super::{Bytes, Load, MEMORY_MARGIN, Plan};

/// What scales the workers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Autoscaler {
    /// KEDA's ScaledObject.
    Keda,
    /// A HorizontalPodAutoscaler by CPU.
    Cpu,
    /// Nothing: the number of replicas is fixed.
    None,
}

const MEBIBYTE: f64 = 1_048_576.0;

impl Plan {
    /// A file for `patches:` of a kustomization.
    pub fn patch(&self, load: &Load) -> String {
        let queue = &load.queue;
        let work = format!("work-{queue}");
        // What its slots keep busy, and not what the pod may have: the scheduler keeps requests free for it.
        let work_cpu = (self.slots as f64 * load.task_cpu() / super::MOST_CPU).clamp(0.1, load.worker_cpu);
        let milli = |cores: f64| format!("{}m", (cores * 1_000.0).ceil());
        let mebi = |bytes: Bytes| format!("{}Mi", (bytes.0 / MEBIBYTE).ceil());
        let with_margin = |bytes: Bytes| Bytes(bytes.0 * MEMORY_MARGIN);
        let deployment = |name: &str, replicas: Option<u64>, env: &str, cpu: f64, memory: Bytes| {
            let replicas = replicas.map_or(String::new(), |replicas| format!("\n  replicas: {replicas}"));
            format!(
                "apiVersion: apps/v1
kind: Deployment
metadata:
  name: {name}
spec:{replicas}
  template:
    spec:
      containers:
        - name: app
          env:
{env}          resources:
            requests: {{cpu: {}, memory: {}}}
            limits: {{memory: {}}}
",
                milli(cpu),
                mebi(memory),
                mebi(with_margin(memory)),
            )
        };
        let set = |name: &str, value: u64| format!("            - {{name: {name}, value: \"{value}\"}}\n");
        let worker_env = set("APP_CONCURRENCY", self.slots)
            + &set("APP_CPU_THREADS", load.worker_cpu.ceil() as u64)
            + &set("APP_POSTGRES_POOL", self.work_pool);
        let fixed = (load.autoscaler == Autoscaler::None).then_some(self.work.planned);
        let mut documents = vec![
            deployment("serve", None, &set("APP_POSTGRES_POOL", super::SERVE_POOL), load.serve_cpu, self.serve_memory),
            deployment(&work, fixed, &worker_env, work_cpu, self.work_memory),
            hpa("serve", self.serve.least, self.serve.most),
        ];
        match load.autoscaler {
            Autoscaler::Keda => documents.push(format!(
                "apiVersion: keda.sh/v1alpha1
kind: ScaledObject
metadata:
  name: {work}
spec:
  minReplicaCount: {}
  maxReplicaCount: {}
",
                self.work.least, self.work.most
            )),
            Autoscaler::Cpu => documents.push(hpa(&work, self.work.least, self.work.most)),
            Autoscaler::None => {}
        }
        let head = format!(
            "# Made by app size for {} tasks of {} s in the queue {queue}. PostgreSQL needs max_connections = {}.\n",
            load.rate,
            load.duration.as_secs_f64(),
            self.postgres_connections
        );
        head + &documents.join("---\n")
    }
}

fn hpa(name: &str, least: u64, most: u64) -> String {
    format!(
        "apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata:
  name: {name}
spec:
  minReplicas: {least}
  maxReplicas: {most}
"
    )
}
