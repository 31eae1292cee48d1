//! Place: where the private servers keep their data, and which user they run as.

use std::{
    fs::{self, DirBuilder, File, Permissions},
    io::{ErrorKind, Write as _},
    os::unix::{
        fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _, chown, symlink},
        process::CommandExt as _,
    },
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::Context as _;
use nix::unistd::{User, geteuid};

/// Where data goes that an unprivileged user could not reach in the folder itself.
const ELSEWHERE: &str = "/var/lib/longrun-dev";

/// The folder of one `dev`, and in it the folder of the data.
pub(super) struct Place {
    folder: PathBuf,
    data: PathBuf,
    /// Whom the servers run as, where this process is root.
    pub user: Option<(u32, u32)>,
    /// Known to this folder only.
    pub password: String,
}

impl Place {
    /// Makes what is not there yet.
    pub fn open(folder: &Path) -> anyhow::Result<Self> {
        let user = unprivileged_user()?;
        let absolute = folder.canonicalize()?;
        let data = data_folder(&absolute, user)?;
        fs::create_dir_all(absolute.join("logs"))?;
        let password = password(&data)?;
        Ok(Self { folder: folder.to_owned(), data, user, password })
    }

    /// An absolute path inside the data folder.
    pub fn data(&self, name: &str) -> PathBuf {
        self.data.join(name)
    }

    /// The log of a server, emptied: it tells of this run.
    pub fn log(&self, name: &str) -> anyhow::Result<(File, PathBuf)> {
        let path = self.folder.join("logs").join(format!("{name}.log"));
        let file = File::create(&path).with_context(|| format!("cannot write {}", path.display()))?;
        Ok((file, path))
    }

    /// Writes a URL that holds the password where only its owner can read it.
    pub fn write_url(&self, name: &str, url: &str) -> anyhow::Result<PathBuf> {
        let path = self.folder.join(name);
        write_private(&path, url, None)?;
        Ok(path)
    }

    /// Takes it away again, if it is there.
    pub fn forget_url(&self, name: &str) {
        if let Err(error) = fs::remove_file(self.folder.join(name))
            && error.kind() != ErrorKind::NotFound
        {
            tracing::warn!(%error, name, "the file stays, and leads nowhere");
        }
    }

    /// Writes a file for the servers' user alone.
    pub fn write_for_servers(&self, path: &Path, text: &str) -> anyhow::Result<()> {
        write_private(path, text, self.user)
    }

    /// Makes a folder for the servers' user alone.
    pub fn make_for_servers(&self, path: &Path) -> anyhow::Result<()> {
        make_private(path, self.user)
    }

    /// A command that runs as the servers' user, in the data folder, apart from the terminal's Ctrl-C.
    pub fn command(&self, program: &Path) -> tokio::process::Command {
        let mut command = Command::new(program);
        command.current_dir(&self.data).stdin(Stdio::null()).process_group(0);
        as_user(&mut command, self.user);
        let mut command = tokio::process::Command::from(command);
        command.kill_on_drop(true);
        command
    }
}

fn unprivileged_user() -> anyhow::Result<Option<(u32, u32)>> {
    if !geteuid().is_root() {
        return Ok(None);
    }
    for name in ["postgres", "nobody"] {
        if let Some(user) = User::from_name(name)? {
            return Ok(Some((user.uid.as_raw(), user.gid.as_raw())));
        }
    }
    anyhow::bail!(
        "PostgreSQL does not run as root, and there is no user postgres or nobody: run app dev as another user"
    )
}

fn data_folder(folder: &Path, user: Option<(u32, u32)>) -> anyhow::Result<PathBuf> {
    let data = folder.join("data");
    // `exists` follows the link: one that leads nowhere is replaced.
    if !data.exists() {
        if data.is_symlink() {
            fs::remove_file(&data)?;
        }
        if can_enter(folder, user) {
            make_private(&data, user)?;
        } else {
            // Named by chance, not by the folder: who deletes the folder to begin anew must not find the old data.
            let elsewhere = Path::new(ELSEWHERE).join(format!("{:016x}", rand::random::<u64>()));
            fs::create_dir_all(ELSEWHERE).with_context(|| format!("cannot make {ELSEWHERE}"))?;
            make_private(&elsewhere, user)?;
            symlink(&elsewhere, &data)?;
        }
    }
    Ok(data.canonicalize()?)
}

/// Tried, not computed from permission bits: access lists count too.
fn can_enter(folder: &Path, user: Option<(u32, u32)>) -> bool {
    let mut attempt = Command::new("/bin/sh");
    attempt.args(["-c", r#"cd -- "$0""#]).arg(folder).current_dir("/").stdin(Stdio::null()).stderr(Stdio::null());
    as_user(&mut attempt, user);
    user.is_none() || attempt.status().is_ok_and(|status| status.success())
}

fn as_user(command: &mut Command, user: Option<(u32, u32)>) {
    if let Some((user, group)) = user {
        command.uid(user).gid(group);
    }
}

fn password(data: &Path) -> anyhow::Result<String> {
    let path = data.join("password");
    match fs::read_to_string(&path) {
        Ok(text) if !text.trim().is_empty() => return Ok(text.trim().to_owned()),
        Ok(_) => {}
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => {
            return Err(error).with_context(|| {
                format!(
                    "cannot read {}: run app dev as the user who ran it first, or delete the folder",
                    path.display()
                )
            });
        }
    }
    let password = format!("{:032x}", rand::random::<u128>());
    write_private(&path, &password, None)?;
    Ok(password)
}

fn make_private(path: &Path, user: Option<(u32, u32)>) -> anyhow::Result<()> {
    match DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => {
            return Err(error).with_context(|| format!("cannot make {}", path.display()));
        }
        _ => {}
    }
    give_to(path, user)
}

fn write_private(path: &Path, text: &str, user: Option<(u32, u32)>) -> anyhow::Result<()> {
    let mut file = File::options()
        .create(true)
        .write(true)
        .truncate(true)
        .mode(0o600)
        .open(path)
        .with_context(|| format!("cannot write {}", path.display()))?;
    file.set_permissions(Permissions::from_mode(0o600))?;
    file.write_all(text.as_bytes())?;
    give_to(path, user)
}

fn give_to(path: &Path, user: Option<(u32, u32)>) -> anyhow::Result<()> {
    if let Some((user, group)) = user {
        chown(path, Some(user), Some(group)).with_context(|| format!("cannot give away {}", path.display()))?;
    }
    Ok(())
}
