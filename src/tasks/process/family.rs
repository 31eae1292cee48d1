//! Family: the processes below this one, as /proc (proc(5)) shows them.

use std::{collections::HashMap, fs};

use nix::{
    sys::signal::{Signal, kill},
    unistd::{Pid, SysconfVar, sysconf},
};

/// Every living process below this one, whatever its session or group.
pub(super) fn descendants() -> Vec<Pid> {
    let own = std::process::id().cast_signed();
    let mut found = Vec::new();
    let mut parents = vec![own];
    // Asked thread by thread the kernel tells children at once; where it cannot, every process tells its parent.
    match children_of(own) {
        Some(_) => {
            while let Some(parent) = parents.pop() {
                for child in children_of(parent).unwrap_or_default() {
                    found.push(Pid::from_raw(child));
                    parents.push(child);
                }
            }
        }
        None => {
            let table = table();
            while let Some(parent) = parents.pop() {
                for child in table.get(&parent).into_iter().flatten() {
                    found.push(Pid::from_raw(*child));
                    parents.push(*child);
                }
            }
        }
    }
    found.retain(|pid| !is_dead(*pid));
    found
}

/// Resident bytes of these processes together. Pages that several share count several times.
pub(super) fn resident(family: &[Pid]) -> u64 {
    let page = sysconf(SysconfVar::PAGE_SIZE).ok().flatten().unwrap_or(4096).cast_unsigned();
    let pages = |pid: &Pid| {
        let statm = fs::read_to_string(format!("/proc/{pid}/statm")).ok()?;
        statm.split_whitespace().nth(1)?.parse::<u64>().ok()
    };
    family.iter().filter_map(pages).sum::<u64>() * page
}

/// Sends a signal to each of them. One that has just ended is no error.
pub(super) fn signal_all(family: &[Pid], signal: Signal) {
    for pid in family {
        let _ = kill(*pid, signal);
    }
}

fn children_of(pid: i32) -> Option<Vec<i32>> {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).ok()?;
    let mut children = Vec::new();
    for thread in threads.flatten() {
        let told = fs::read_to_string(thread.path().join("children")).ok()?;
        children.extend(told.split_whitespace().filter_map(|child| child.parse::<i32>().ok()));
    }
    Some(children)
}

/// All processes by their parent.
fn table() -> HashMap<i32, Vec<i32>> {
    let mut table: HashMap<i32, Vec<i32>> = HashMap::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else { continue };
        if let Some((_, parent)) = stat(pid) {
            table.entry(parent).or_default().push(pid);
        }
    }
    table
}

/// State and parent. The name before them is in brackets and may hold anything.
fn stat(pid: i32) -> Option<(char, i32)> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut words = stat.rsplit_once(')')?.1.split_whitespace();
    Some((words.next()?.chars().next()?, words.next()?.parse().ok()?))
}

fn is_dead(pid: Pid) -> bool {
    stat(pid.as_raw()).is_none_or(|(state, _)| matches!(state, 'Z' | 'X'))
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn grandchildren_are_found_and_the_dead_are_not() {
        let mut shell = Command::new("sh")
            .args(["-c", "sleep 60 & sleep 60"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let below = |family: &[Pid]| family.iter().filter(|pid| stat(pid.as_raw()).is_some()).count();
        let began = std::time::Instant::now();
        let family = loop {
            let family = descendants();
            if below(&family) >= 3 || began.elapsed().as_secs() > 20 {
                break family;
            }
            std::thread::yield_now();
        };
        assert!(family.contains(&Pid::from_raw(shell.id().cast_signed())) && family.len() >= 3, "{family:?}");
        assert!(resident(&family) > 100_000);
        signal_all(&family, Signal::SIGKILL);
        shell.wait().unwrap();
        assert!(!descendants().contains(&Pid::from_raw(shell.id().cast_signed())));
    }
}
