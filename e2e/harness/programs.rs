//! Programs: where PostgreSQL and Redis are on this machine, and whom PostgreSQL runs as.

use std::{
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::LazyLock,
};

use nix::unistd::{User, geteuid};

/// The folder with `postgres` and `initdb`.
pub static POSTGRES: LazyLock<PathBuf> = LazyLock::new(|| {
    let mut folders = search_path();
    let mut versions: Vec<PathBuf> = std::fs::read_dir("/usr/lib/postgresql")
        .map(|entries| entries.flatten().map(|entry| entry.path().join("bin")).collect())
        .unwrap_or_default();
    versions.sort();
    folders.extend(versions.into_iter().rev());
    folders
        .into_iter()
        .find(|folder| folder.join("postgres").is_file() && folder.join("initdb").is_file())
        .expect("these tests need PostgreSQL: apt install postgresql")
});

/// `redis-server`, or `valkey-server`, which speaks the same protocol.
pub static REDIS: LazyLock<PathBuf> = LazyLock::new(|| {
    let names = ["redis-server", "valkey-server"];
    names
        .iter()
        .flat_map(|name| search_path().into_iter().map(move |folder| folder.join(name)))
        .find(|program| program.is_file())
        .expect("these tests need Redis: apt install redis-server")
});

/// User and group for PostgreSQL, which refuses to run as root; `None` when we are somebody else anyway.
pub static UNPRIVILEGED: LazyLock<Option<(u32, u32)>> = LazyLock::new(|| {
    if !geteuid().is_root() {
        return None;
    }
    let user = ["postgres", "nobody"].iter().find_map(|name| User::from_name(name).ok().flatten());
    let user = user.expect("PostgreSQL refuses to run as root, and there is no user postgres or nobody");
    Some((user.uid.as_raw(), user.gid.as_raw()))
});

/// A command that runs as [`UNPRIVILEGED`], apart from the terminal's Ctrl-C.
pub fn unprivileged(program: &Path) -> Command {
    let mut command = Command::new(program);
    command.current_dir("/").stdin(Stdio::null()).process_group(0);
    if let Some((user, group)) = *UNPRIVILEGED {
        command.uid(user).gid(group);
    }
    command
}

fn search_path() -> Vec<PathBuf> {
    std::env::var_os("PATH").map(|path| std::env::split_paths(&path).collect()).unwrap_or_default()
}
