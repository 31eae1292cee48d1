//! `app keys`: makes, lists and revokes the keys that callers come in with. It needs PostgreSQL and no running server.

use std::time::Duration;

use clap::{Args, Subcommand};

use super::process::unless_told;
use crate::{
    config,
    core::{
        credential::{Credential, CredentialKind},
        model::Role,
        store::{KeyState, NewKey, Store},
    },
    shutdown::Shutdown,
};

#[derive(Args)]
pub(super) struct KeysRole {
    #[command(subcommand)]
    action: Action,
    #[command(flatten)]
    postgres: config::Postgres,
    #[command(flatten)]
    pub(super) telemetry: config::Telemetry,
}

#[derive(Subcommand)]
enum Action {
    /// Make a key and print it, this once: it is the last word of the line
    ///
    /// It works within seconds on all servers. With the first key, servers stop letting everybody in.
    Create {
        /// The owner of the tasks that come with it: letters, digits and _ . @ -. Several keys may have one name
        #[arg(value_parser = name)]
        name: String,
        /// What it may do: user, admin, monitor or worker
        #[arg(long, value_name = "ROLE")]
        role: Role,
        /// How long it is good for; by default until it is revoked
        #[arg(long, value_parser = config::duration, value_name = "TIME")]
        expires_in: Option<Duration>,
    },
    /// List the keys, oldest first. The keys themselves are not kept and cannot be shown
    List,
    /// Revoke a key by its id, or all keys of a name. Servers refuse it within 5 seconds
    Revoke {
        /// An id or a name, as the list shows them
        id_or_name: String,
    },
}

impl KeysRole {
    pub(super) async fn run(self, stop: Shutdown) -> anyhow::Result<()> {
        let Some(store) = unless_told(&stop, Store::connect(&self.postgres, &crate::metrics::Metrics::new())).await?
        else {
            return Ok(());
        };
        match self.action {
            Action::Create { name, role, expires_in } => {
                let credential = Credential::new(CredentialKind::Key);
                store.create_key(NewKey { credential: &credential, name: &name, role, expires_in }).await?;
                println!("{} {name} {role} {}", credential.id(), credential.spell().expose());
            }
            Action::List => {
                println!("{:16}  {:24}  {:7}  {:20}  state", "id", "name", "role", "made");
                store.keys().await?.iter().for_each(|key| println!("{}", line(key)));
            }
            Action::Revoke { id_or_name } => {
                let revoked = store.revoke_keys(&id_or_name).await?;
                anyhow::ensure!(
                    !revoked.is_empty(),
                    "no good key has the id or the name {id_or_name:?}: see app keys list"
                );
                revoked.iter().for_each(|key| println!("{}", line(key)));
            }
        }
        Ok(())
    }
}

fn line(key: &KeyState) -> String {
    let time = |at: chrono::DateTime<chrono::Utc>| at.format("%Y-%m-%dT%H:%M:%SZ").to_string();
    let state = match (key.revoked_at, key.expires_at) {
        (Some(at), _) => format!("revoked {}", time(at)),
        (None, Some(at)) if at <= chrono::Utc::now() => format!("expired {}", time(at)),
        (None, Some(at)) => format!("good until {}", time(at)),
        (None, None) => "good".to_owned(),
    };
    format!("{:16}  {:24}  {:7}  {:20}  {state}", key.id, key.name, key.role.as_str(), time(key.created_at))
}

/// As the database checks it too.
fn name(text: &str) -> Result<String, String> {
    let good =
        (1..=64).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.@-".contains(&b));
    if good { Ok(text.to_owned()) } else { Err("a name is 1 to 64 letters, digits and _ . @ -".to_owned()) }
}
