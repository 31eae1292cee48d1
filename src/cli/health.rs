//! `app health`: whether a process of this program answers.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use anyhow::Context as _;
use clap::Args;

use crate::config;

/// A server that takes longer over /livez is not well.
const HEALTH_TIMEOUT: Duration = Duration::from_secs(2);

#[derive(Args)]
pub(super) struct HealthRole {
    #[command(flatten)]
    http: config::Http,
    #[command(flatten)]
    admin: config::Admin,
}

impl HealthRole {
    /// GET /livez at the admin address or, without one, where the API is; by the loopback address where the server
    /// listens on all of them.
    pub(super) fn check(&self) -> anyhow::Result<()> {
        let bind = self.admin.admin_bind.unwrap_or(self.http.bind);
        let host = match bind.ip() {
            IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
            ip => ip,
        };
        let url = format!("http://{}/livez", SocketAddr::new(host, bind.port()));
        let agent = ureq::Agent::config_builder().timeout_global(Some(HEALTH_TIMEOUT)).proxy(None).build().new_agent();
        agent.get(&url).call().with_context(|| format!("{url} does not answer"))?;
        Ok(())
    }
}
