//! Looker: concurrent looks at single tasks share one SELECT.
//!
//! Most requests are polls, and most of what a poll costs is the way to PostgreSQL and back. So looks go into a mailbox,
//! a few readers take whatever waits and read it in one statement. The next batch forms while the last one is on its
//! way: there is no timer, and a look at an idle server goes alone and at once.

use std::sync::Arc;

use tokio::sync::{Mutex, mpsc};

use super::{
    courier::{Reply, hand_out},
    model::{Scope, Task, TaskId},
    store::{Lookup, Store, StoreError},
};

/// Looks per statement. Each brings a row with its whole result, so it is no more than what is worth sharing.
const BATCH: usize = 64;
/// Looks that may wait. Beyond it a caller hears at once that the store is busy.
const MAILBOX: usize = 16_384;
/// Two, so that one batch is on its way while the next one forms.
const READERS: usize = 2;

type Answer = Result<Option<Task>, StoreError>;

struct Look {
    id: TaskId,
    scope: Scope,
    reply: Reply<Answer>,
}

/// The mailbox. Cheap to clone.
#[derive(Clone)]
pub struct Looker {
    mailbox: mpsc::Sender<Look>,
    store: Store,
}

impl Looker {
    /// Starts the readers on this runtime.
    pub fn start(store: &Store) -> Self {
        let (mailbox, waiting) = mpsc::channel(MAILBOX);
        let waiting = Arc::new(Mutex::new(waiting));
        for _ in 0..READERS {
            tokio::spawn(read(store.clone(), waiting.clone()));
        }
        Self { mailbox, store: store.clone() }
    }

    /// One task, as its row is after this call began.
    pub async fn look(&self, id: TaskId, scope: &Scope) -> Result<Lookup<Task>, StoreError> {
        let (reply, answered) = Reply::expected();
        let busy = |_| StoreError::Unavailable("too many reads are waiting".to_owned());
        self.mailbox.try_send(Look { id, scope: scope.clone(), reply }).map_err(busy)?;
        let stopping = |_| StoreError::Unavailable("the server is stopping".to_owned());
        match answered.await.map_err(stopping)?? {
            Some(task) => Ok(Lookup::Found(task)),
            None => self.store.missing(id, scope).await,
        }
    }
}

async fn read(store: Store, waiting: Arc<Mutex<mpsc::Receiver<Look>>>) {
    loop {
        let mut batch = Vec::with_capacity(BATCH);
        if waiting.lock().await.recv_many(&mut batch, BATCH).await == 0 {
            return;
        }
        // Whoever has hung up meanwhile costs no read.
        batch.retain(|look| !look.reply.is_closed());
        let asked: Vec<(TaskId, &Scope)> = batch.iter().map(|look| (look.id, &look.scope)).collect();
        let answers: Vec<Answer> = match store.looks(&asked).await {
            Ok(answers) => answers.into_iter().map(Option::transpose).collect(),
            Err(error) => vec![Err(error); batch.len()],
        };
        hand_out(batch.into_iter().map(|look| look.reply).zip(answers));
    }
}
