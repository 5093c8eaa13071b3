//! Runs actions: looks them up, performs them on the host or in a sandbox, records what was seen.

#[expect(unsafe_code, reason = "system calls that no crate of ours wraps; each block says why it is sound")]
mod sys;

pub mod sandbox;
