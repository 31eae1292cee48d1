//! Watchdog: a shell that outlives this binary by a moment, and takes with it what the binary would have left behind.
//!
//! Tests clean up in `Drop`, but statics are not dropped, and nothing is when the binary is killed. So every process
//! that the harness starts is told to a shell, over a pipe. When this binary ends, however it ends, the system closes
//! the pipe; the shell then stops what is still on its list and removes the run's folder. A process is taken off the
//! list before it is waited for, so its id cannot belong to another one by then.

use std::{
    io::Write,
    os::unix::{fs::PermissionsExt, process::CommandExt},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, Stdio},
    sync::{LazyLock, Mutex, PoisonError},
};

use nix::sys::signal::Signal;

/// In a process group of its own, so that Ctrl-C does not reach it before its work begins. Five seconds for the
/// processes to go after their signal, then SIGKILL.
const SCRIPT: &str = r#"
has_ended() {
    kill -s 0 "$1" 2>/dev/null || return 0
    # Where process 1 is slow to wait for orphans, or never does.
    case $(cat "/proc/$1/stat" 2>/dev/null) in *') Z '*) return 0 ;; *) return 1 ;; esac
}
folder=$1
alive=' '
while read -r verb pid signal; do
    case $verb in
    run) alive="$alive$pid:$signal " ;;
    ended)
        rest=' '
        for one in $alive; do
            [ "${one%%:*}" = "$pid" ] || rest="$rest$one "
        done
        alive=$rest
        ;;
    esac
done
for one in $alive; do
    kill -s "${one#*:}" "${one%%:*}" 2>/dev/null
done
tries=0
for one in $alive; do
    while ! has_ended "${one%%:*}" && [ "$tries" -lt 100 ]; do
        sleep 0.05
        tries=$((tries + 1))
    done
    kill -s KILL "${one%%:*}" 2>/dev/null
done
rm -rf -- "$folder"
"#;

struct Watchdog {
    list: Mutex<ChildStdin>,
    folder: PathBuf,
    /// Outlives us: nobody waits for it.
    _shell: Child,
}

static WATCHDOG: LazyLock<Watchdog> = LazyLock::new(|| {
    let folder = tempfile::Builder::new().prefix("longrun-e2e-").tempdir().expect("a temporary folder").keep();
    // PostgreSQL runs as another user when we are root, and must be able to pass through.
    std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o711)).unwrap();
    let mut shell = Command::new("sh")
        .args(["-c", SCRIPT, "longrun-e2e-watchdog"])
        .arg(&folder)
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()
        .expect("sh runs");
    Watchdog { list: Mutex::new(shell.stdin.take().unwrap()), folder, _shell: shell }
});

/// The folder of this run. It is removed when the run has ended.
pub fn folder() -> &'static Path {
    &WATCHDOG.folder
}

/// A new folder inside [`folder`], with a name that tells what it is for.
pub fn new_folder(name: &str) -> PathBuf {
    static NUMBER: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(1);
    let number = NUMBER.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let path = folder().join(format!("{number}-{name}"));
    std::fs::create_dir(&path).unwrap();
    path
}

/// This process is to be stopped with `signal` when this binary ends.
pub fn watch(pid: u32, signal: Signal) {
    tell(&format!("run {pid} {}", signal.as_str().trim_start_matches("SIG")));
}

/// This process needs no watching any more. Call it before the process is waited for.
pub fn forget(pid: u32) {
    tell(&format!("ended {pid}"));
}

fn tell(line: &str) {
    let mut list = WATCHDOG.list.lock().unwrap_or_else(PoisonError::into_inner);
    // A watchdog that is gone can do no harm but to leave something behind.
    let _ = writeln!(list, "{line}");
}
