//! Process: what the system says of a running process.

use std::fs;

/// CPU seconds of a process, of its living children, and of its children that have ended.
pub fn cpu(pid: u32) -> f64 {
    const TICKS_A_SECOND: f64 = 100.0;
    let fields = |pid: u32| -> Vec<u64> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let rest = stat.rsplit(')').next().unwrap_or_default().to_owned();
        rest.split_whitespace().map(|field| field.parse().unwrap_or(0)).collect()
    };
    // The fields after the name begin with the third one: see proc(5).
    let own: u64 = fields(pid)[11..15].iter().sum();
    let mut children = 0;
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let Some(child) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        let stat = fields(child);
        if stat.get(1) == Some(&u64::from(pid)) {
            children += stat[11] + stat[12];
        }
    }
    (own + children) as f64 / TICKS_A_SECOND
}

/// Resident memory of a process in bytes.
pub fn memory(pid: u32) -> f64 {
    status(pid, "VmRSS:")
}

/// What of it is the process's own: its heap and stacks, and not the pages of its program.
pub fn private_memory(pid: u32) -> f64 {
    status(pid, "RssAnon:")
}

fn status(pid: u32, field: &str) -> f64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("the process is there");
    let line = status.lines().find_map(|line| line.strip_prefix(field)).expect("proc(5)");
    line.trim().trim_end_matches(" kB").parse::<f64>().expect("a number of kB") * 1024.0
}
