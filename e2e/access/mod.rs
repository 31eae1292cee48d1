//! Access: who comes in, what each may do, and that nobody sees what belongs to somebody else.

mod away;
mod keys;
mod matrix;
mod owners;
mod sessions;
mod tokens;
