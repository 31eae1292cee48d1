//! Process: what the operating system knows of it, read when somebody looks. The names are those that Prometheus'
//! own libraries use. Where /proc is missing, memory and files are left out.

use std::time::{SystemTime, UNIX_EPOCH};

use nix::sys::{
    resource::{UsageWho, getrusage},
    time::TimeValLike,
};
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{counter::ConstCounter, gauge::ConstGauge},
};

#[derive(Debug)]
pub(super) struct Process {
    started: f64,
}

impl Process {
    /// This process, which begins now.
    pub(super) fn begin() -> Self {
        Self { started: SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64() }
    }
}

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), std::fmt::Error> {
        let mut gauge = |name, help, value: f64| {
            let gauge = ConstGauge::new(value);
            gauge.encode(encoder.encode_descriptor(name, help, None, gauge.metric_type())?)
        };
        gauge("process_start_time_seconds", "When the process began, in seconds since 1970", self.started)?;
        if let Some(bytes) = resident_bytes() {
            gauge("process_resident_memory_bytes", "Memory that it has in use", bytes)?;
        }
        if let Ok(files) = std::fs::read_dir("/proc/self/fd") {
            gauge("process_open_fds", "Files and connections that it has open", files.count() as f64)?;
        }
        if let Ok(usage) = getrusage(UsageWho::RUSAGE_SELF) {
            let micros = usage.user_time().num_microseconds() + usage.system_time().num_microseconds();
            let seconds = ConstCounter::new(micros as f64 / 1e6);
            let help = "Processor time that it has used";
            seconds.encode(encoder.encode_descriptor("process_cpu_seconds", help, None, seconds.metric_type())?)?;
        }
        Ok(())
    }
}

fn resident_bytes() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: f64 = line.trim().trim_end_matches(" kB").parse().ok()?;
    Some(kibibytes * 1024.0)
}
