//! Leases of HTTP workers: what `serve` does in their name, with the same writes and the same fence as an attempt's.

use chrono::{DateTime, Utc};
use tokio::sync::oneshot;

use super::{
    Core, StoreError,
    model::{LeaseToken, Status, TaskId, WorkerId},
    queue::{Bell, Side},
    store::{Ask, Finish, LeaseStanding, Leased, Report},
    unhurried,
};

/// What became of a call with a token.
#[derive(Debug)]
pub enum Held<T> {
    /// It was the delivery's to do, and is done.
    Yes(T),
    /// An earlier call with the same token did it, and its answer was lost.
    Already(Status),
    /// The token is not that of the running delivery: taken by others, ended otherwise, or no token of the task at all.
    No,
    /// The task was cancelled. The delivery has confirmed by this call that it stops.
    Cancelled,
}

impl Core {
    /// Leases tasks to an HTTP worker and takes their doorbells away. Whoever has gone before the answer is there
    /// has not got anything: it goes back uncharged.
    pub async fn lease(&self, ask: Ask) -> Result<Vec<Leased>, StoreError> {
        let (answer, answered) = oneshot::channel();
        let this = self.clone();
        tokio::spawn(async move {
            let worker = WorkerId::new();
            let leased = this.store.lease(worker, &ask).await;
            if let Ok(leased) = &leased {
                let bell = |leased: &Leased| Bell {
                    id: leased.task.id,
                    queue: leased.task.queue.clone(),
                    priority: leased.task.priority,
                };
                this.queue.outlet().unring(leased.iter().map(bell).collect());
                this.queue.outlet().changed(leased.iter().map(|l| (l.task.id, l.task.version)).collect());
            }
            if let Err(Ok(unwanted)) = answer.send(leased)
                && !unwanted.is_empty()
            {
                let deliveries: Vec<_> = unwanted.iter().map(|l| (l.task.id, l.task.delivery)).collect();
                match this.store.hand_back(worker, &deliveries, "handed back: whoever asked has gone").await {
                    Ok((bells, changed)) => {
                        this.queue.outlet().ring(bells, Side::Front);
                        this.queue.outlet().changed(changed);
                    }
                    Err(error) => tracing::debug!("could not hand back, the leases run out: {error}"),
                }
            }
        });
        answered.await.unwrap_or_else(|_| Err(StoreError::Unavailable("the server is stopping".to_owned())))
    }

    /// How a token stands. Of a cancelled task it confirms that the delivery stops.
    pub async fn lease_standing(&self, id: TaskId, token: &LeaseToken) -> Result<Held<LeaseStanding>, StoreError> {
        let Some(standing) = self.store.lease_standing(id, token).await? else { return Ok(Held::No) };
        match standing.status {
            Status::Running => Ok(Held::Yes(standing)),
            Status::Cancelled => {
                if let Some(worker) = standing.worker {
                    self.store.confirm_stopped(worker, &[(id, token.delivery)]).await?;
                }
                Ok(Held::Cancelled)
            }
            status => Ok(Held::Already(status)),
        }
    }

    /// Renews a lease and says until when it holds. The caller has asked how its token stands.
    pub async fn renew_lease(&self, id: TaskId, token: &LeaseToken) -> Result<Held<DateTime<Utc>>, StoreError> {
        Ok(self.store.renew_lease(id, token).await?.map_or(Held::No, Held::Yes))
    }

    /// Writes what a delivery reports. The caller has asked how its token stands; the fence decides.
    pub async fn report(&self, report: Report) -> Result<Held<()>, StoreError> {
        let this = self.clone();
        unhurried(async move {
            // Its calls may overlap, so none of them knows the version; one that is sent twice is written twice.
            let written = this.store.record(&[(&report, None)]).await?;
            this.queue.outlet().changed(written.iter().map(|written| (written.id, written.version)).collect());
            Ok(if written.is_empty() { Held::No } else { Held::Yes(()) })
        })
        .await
    }

    /// Ends a delivery in the name under which it was leased. The caller has asked how its token stands; the fence
    /// decides.
    pub async fn end_lease(&self, standing: &LeaseStanding, finish: Finish) -> Result<Held<()>, StoreError> {
        let Some(worker) = standing.worker else { return Ok(Held::No) };
        let this = self.clone();
        unhurried(async move {
            let written = this.store.finish(worker, &[&finish]).await?;
            this.queue.outlet().changed(written.iter().map(|written| (written.id, written.version)).collect());
            Ok(if written.is_empty() { Held::No } else { Held::Yes(()) })
        })
        .await
    }
}
