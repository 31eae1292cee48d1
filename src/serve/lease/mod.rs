//! Leases: how a worker in any language takes tasks over HTTP, says how far it is, and ends them.
//!
//! `POST /queues/{queue}/lease` gives tasks, each with a token; every further call names the task in its path and shows
//! the token in its body. What a call writes goes through the statements of every other attempt, fenced by the
//! delivery; a token that is not the running delivery's is answered 409 `lease_lost`, and the worker drops the task.

pub mod bench;
pub mod body;
mod call;
mod end;
mod report;
mod take;
pub mod turns;

pub use end::{EndedView, complete, fail};
pub use report::{RenewedView, checkpoint, heartbeat, log, progress};
pub use take::{LeasedView, lease};
