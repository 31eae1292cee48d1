//! Programs: where the machine keeps its PostgreSQL and Redis, and what to type when it has none.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::bail;

/// Where packages put PostgreSQL without putting it on the PATH; each holds one folder per major version.
const POSTGRES_PARENTS: [(&str, &str); 4] = [
    ("/usr/lib/postgresql", ""),         // Debian and Ubuntu: 17/bin
    ("/usr", "pgsql-"),                  // PostgreSQL's own RPMs: pgsql-17/bin
    ("/opt/homebrew/opt", "postgresql"), // Homebrew: postgresql@17/bin
    ("/usr/local/opt", "postgresql"),    // Homebrew on Intel
];
/// Where a PATH may lack Redis.
const REDIS_FOLDERS: [&str; 4] = ["/usr/bin", "/usr/sbin", "/usr/local/bin", "/opt/homebrew/bin"];

/// The folder with `postgres` and `initdb`: of this major version where data of it is there already, otherwise the
/// first on the PATH, then the newest of those that packages hide.
pub(super) fn postgres(major: Option<&str>) -> anyhow::Result<PathBuf> {
    let mut folders: Vec<PathBuf> = search_path();
    folders.extend(POSTGRES_PARENTS.iter().flat_map(|(parent, prefix)| versions(Path::new(parent), prefix)));
    folders.retain(|folder| folder.join("postgres").is_file() && folder.join("initdb").is_file());
    let found = match major {
        None => folders.into_iter().next(),
        Some(major) => folders.into_iter().find(|folder| version(folder).as_deref() == Some(major)),
    };
    match (found, major) {
        (Some(folder), _) => Ok(folder),
        (None, Some(major)) => bail!(
            "the data of app dev was made by PostgreSQL {major}, which is not installed: install it, or delete the \
             folder .dev to begin anew"
        ),
        (None, None) => {
            bail!(
                "PostgreSQL is not installed: apt install postgresql, or brew install postgresql, or set DATABASE_URL"
            )
        }
    }
}

/// Redis, or Valkey, which speaks the same protocol.
pub(super) fn redis() -> anyhow::Result<PathBuf> {
    let folders: Vec<PathBuf> = search_path().into_iter().chain(REDIS_FOLDERS.map(PathBuf::from)).collect();
    let found = ["redis-server", "valkey-server"]
        .iter()
        .flat_map(|name| folders.iter().map(move |folder| folder.join(name)))
        .find(|program| program.is_file());
    match found {
        Some(program) => Ok(program),
        None => bail!("Redis is not installed: apt install redis-server, or brew install redis, or set REDIS_URL"),
    }
}

fn search_path() -> Vec<PathBuf> {
    env::var_os("PATH").map(|path| env::split_paths(&path).collect()).unwrap_or_default()
}

/// The `bin` folders below `parent` whose name begins with `prefix`, the highest version first.
fn versions(parent: &Path, prefix: &str) -> Vec<PathBuf> {
    let mut found: Vec<(u32, PathBuf)> = fs::read_dir(parent)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            let number = name.strip_prefix(prefix)?.trim_start_matches('@');
            Some((number.parse().unwrap_or(0), entry.path().join("bin")))
        })
        .collect();
    found.sort_by(|a, b| b.cmp(a));
    found.into_iter().map(|(_, folder)| folder).collect()
}

/// The major version: 15 of "postgres (PostgreSQL) 15.13 (Debian 15.13-0+deb12u1)".
fn version(folder: &Path) -> Option<String> {
    let output = Command::new(folder.join("postgres")).arg("--version").output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let number = text.split_whitespace().nth(2)?;
    Some(number.split('.').next()?.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_version_comes_first() {
        let parent = tempfile::tempdir().unwrap();
        for name in ["9", "15", "17", "other"] {
            fs::create_dir_all(parent.path().join(format!("postgresql@{name}/bin"))).unwrap();
        }
        let found = versions(parent.path(), "postgresql");
        let names: Vec<_> = found.iter().map(|path| path.parent().unwrap().file_name().unwrap()).collect();
        assert_eq!(names, ["postgresql@17", "postgresql@15", "postgresql@9", "postgresql@other"]);
    }
}
