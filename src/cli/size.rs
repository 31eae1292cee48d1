//! `app size`: the arithmetic of a load.

use clap::Args;

use crate::size;

#[derive(Args)]
pub(super) struct SizeRole {
    #[command(flatten)]
    load: size::Load,
    /// Print a kustomize patch for the objects of deploy/kubernetes
    #[arg(long)]
    yaml: bool,
}

impl SizeRole {
    pub(super) fn print(&self) -> anyhow::Result<()> {
        let plan = self.load.plan().map_err(anyhow::Error::msg)?;
        print!("{}", if self.yaml { plan.patch(&self.load) } else { plan.report(&self.load) });
        Ok(())
    }
}
