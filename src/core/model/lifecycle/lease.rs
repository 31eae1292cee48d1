//! Lease: what every statement of the store does to a worker's own row. Death is absorbing.

/// How a worker stands in its own row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Lease {
    /// Alive or draining, and its lease runs.
    Live,
    /// Its lease is over, and nobody has declared it dead.
    Overdue,
    /// Declared dead, or it has left.
    Dead,
    /// It has no row.
    NoRow,
}

impl Lease {
    /// What it held may be taken: overdue is not enough, since such a worker can still renew.
    pub fn is_gone(self) -> bool {
        matches!(self, Lease::Dead | Lease::NoRow)
    }
}

/// Whether PostgreSQL has been up for as long as a lease lasts. Before that nobody can have been expected to renew.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Server {
    /// For a lease at least.
    Settled,
    /// For less.
    JustStarted,
}

/// What happens to a worker's own row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LeaseEvent {
    /// `renew`: it says that it lives.
    Renew,
    /// `leave`: it goes in good order.
    Leave,
    /// `declare_dead`: somebody looks whose lease is over.
    DeclareDead {
        /// How the one who looks stands itself.
        declarer: Lease,
        /// Whether it could have renewed.
        server: Server,
        /// When the one who looks saw that the lease is over.
        sight: Sight,
    },
}

/// How old an observation is. A judgement that was on its way while PostgreSQL stood still would find every lease over;
/// a report that was, might have been written by a second try.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Sight {
    /// Of a lease: a third of it old at most. Of a row: nothing has changed since.
    Fresh,
    /// Older.
    Stale,
}

/// What `event` makes of a worker's row; `None` where it changes nothing. Death is absorbing.
pub fn apply_to_lease(lease: Lease, event: &LeaseEvent) -> Option<Lease> {
    match (lease, *event) {
        (Lease::Live | Lease::Overdue, LeaseEvent::Renew) => Some(Lease::Live),
        (Lease::Live | Lease::Overdue, LeaseEvent::Leave) => Some(Lease::Dead),
        (
            Lease::Overdue,
            LeaseEvent::DeclareDead { declarer: Lease::Live, server: Server::Settled, sight: Sight::Fresh },
        ) => Some(Lease::Dead),
        _ => None,
    }
}
