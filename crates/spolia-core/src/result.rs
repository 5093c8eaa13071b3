//! What an action gave: outputs by digest, exit code, captured output, and what it cost.

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::path::RelPath;
use crate::tree::Tree;

/// What a run cost. `None` means that it was not observed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cost {
    /// From start to exit, µs.
    pub wall_us: Option<u64>,
    /// User CPU time of the process and every descendant that was waited for, µs.
    pub user_us: Option<u64>,
    /// System CPU time of the same, µs.
    pub sys_us: Option<u64>,
    /// Peak resident memory of the largest single process, bytes.
    pub max_rss_bytes: Option<u64>,
}

/// The result of a command that succeeded. A failed one is never stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ActionResult {
    /// Everything below `${out}` that was declared.
    pub outputs: Tree,
    /// The captured output, as a [`Log`] blob; `None` where the command was silent.
    pub log: Option<LogRef>,
    /// What the run cost when it ran.
    pub cost: Cost,
    /// Project files it looked for that were not there: one that appears later makes this a miss.
    pub missing: Vec<RelPath>,
    /// When it finished, µs since 1970 by the clock of the machine that ran it.
    pub finished_at_us: u64,
}

/// Where the captured output lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogRef {
    /// BLAKE3 of the encoded log.
    pub digest: Digest,
    /// Its length in bytes.
    pub size: u64,
}

/// Which of a command's two streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// Captured output in the order it arrived.
///
/// ```text
/// log   = chunk*
/// chunk = u8(1 stdout, 2 stderr) u32le(length) bytes
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Log {
    encoded: Vec<u8>,
    /// Where the last chunk's length stands, so that a chunk of the same stream extends it.
    last: Option<(Stream, usize)>,
}

impl Log {
    /// Appends what arrived on `stream`.
    pub fn push(&mut self, stream: Stream, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        if let Some((last, at)) = self.last
            && last == stream
            && let Some(length) = self.length_at(at).checked_add(bytes.len() as u32)
        {
            self.encoded[at..at + 4].copy_from_slice(&length.to_le_bytes());
            self.encoded.extend_from_slice(bytes);
            return;
        }
        self.encoded.push(if stream == Stream::Stdout { 1 } else { 2 });
        self.last = Some((stream, self.encoded.len()));
        self.encoded.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
        self.encoded.extend_from_slice(bytes);
    }

    fn length_at(&self, at: usize) -> u32 {
        let mut raw = [0; 4];
        raw.copy_from_slice(&self.encoded[at..at + 4]);
        u32::from_le_bytes(raw)
    }

    /// Whether nothing was captured.
    pub fn is_empty(&self) -> bool {
        self.encoded.is_empty()
    }

    /// The encoding.
    pub fn as_bytes(&self) -> &[u8] {
        &self.encoded
    }

    /// What was captured of one stream.
    pub fn of(&self, from: Stream) -> Vec<u8> {
        let chunks = Self::chunks(&self.encoded).filter(|(stream, _)| *stream == from);
        chunks.flat_map(|(_, bytes)| bytes.iter().copied()).collect()
    }

    /// The chunks of an encoded log, in order; stops at the first byte that is no chunk.
    pub fn chunks(encoded: &[u8]) -> impl Iterator<Item = (Stream, &[u8])> {
        let mut rest = encoded;
        std::iter::from_fn(move || {
            let stream = match rest.first()? {
                1 => Stream::Stdout,
                2 => Stream::Stderr,
                _ => return None,
            };
            let length = u32::from_le_bytes(rest.get(1..5)?.try_into().ok()?) as usize;
            let bytes = rest.get(5..5usize.checked_add(length)?)?;
            rest = &rest[5 + length..];
            Some((stream, bytes))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_keeps_order_and_joins_neighbours() {
        let mut log = Log::default();
        log.push(Stream::Stdout, b"a");
        log.push(Stream::Stdout, b"b");
        log.push(Stream::Stderr, b"c");
        log.push(Stream::Stdout, b"");
        log.push(Stream::Stdout, b"d");
        let chunks: Vec<_> = Log::chunks(log.as_bytes()).collect();
        assert_eq!(
            chunks,
            [(Stream::Stdout, &b"ab"[..]), (Stream::Stderr, &b"c"[..]), (Stream::Stdout, &b"d"[..])]
        );
        let cut = &log.as_bytes()[..log.as_bytes().len() - 1];
        assert_eq!(Log::chunks(cut).count(), 2);
    }
}
