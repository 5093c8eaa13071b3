//! `bytes → blocks of one size → compressed in any number of threads → written in order`. The bytes that come out
//! depend on the size of a block and never on the number of threads. Memory: two blocks and their output for each
//! thread, and what a compressor keeps.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::sync::{Mutex, PoisonError};

use super::codec::Worker;

/// A block to compress.
pub(super) struct Job {
    /// Its bytes.
    pub(super) bytes: Vec<u8>,
    /// The end of the bytes before it, for compressors that can use them.
    pub(super) before: Vec<u8>,
    /// Whether it is the last.
    pub(super) last: bool,
}

/// A block that was compressed.
pub(super) struct Done {
    /// What to write.
    pub(super) out: Vec<u8>,
    /// CRC-32 of its bytes, where the format has one.
    pub(super) crc: Option<crc32fast::Hasher>,
    /// How many bytes there were.
    pub(super) length: u64,
    /// The emptied buffer, to be used again.
    buffer: Vec<u8>,
}

impl Done {
    /// `out` of a block of which `job` was the bytes.
    pub(super) fn new(job: Job, out: Vec<u8>, crc: Option<crc32fast::Hasher>) -> Self {
        let Job { mut bytes, .. } = job;
        let length = bytes.len() as u64;
        bytes.clear();
        Self { out, crc, length, buffer: bytes }
    }
}

/// What becomes of a block.
pub(super) type Answer = io::Result<Done>;
type Task = (Job, SyncSender<Answer>);
/// Makes a compressor; each worker has its own.
pub(super) type MakeWorker<'m> = &'m (dyn Fn() -> io::Result<Box<dyn Worker>> + Sync);

/// Workers that wait for blocks.
pub(super) struct Pool {
    tasks: Sender<Task>,
}

impl Pool {
    /// Hands `job` to whoever is free next.
    pub(super) fn compress(&self, job: Job) -> io::Result<Receiver<Answer>> {
        let (answer, receiver) = sync_channel(1);
        self.tasks.send((job, answer)).map_err(|_| gone())?;
        Ok(receiver)
    }
}

/// Runs `body` with `threads` workers.
pub(super) fn pooled<R>(
    threads: usize,
    worker: MakeWorker<'_>,
    body: impl FnOnce(&Pool) -> io::Result<R>,
) -> io::Result<R> {
    let (tasks, waiting) = channel::<Task>();
    let waiting = Mutex::new(waiting);
    std::thread::scope(|scope| {
        for _ in 0..threads.max(1) {
            scope.spawn(|| work(&waiting, worker));
        }
        // The workers end when the pool does.
        let pool = Pool { tasks };
        body(&pool)
    })
}

/// The sizes of a compressor's blocks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shape {
    /// Bytes of a block.
    pub(super) block: usize,
    /// How much of what came before a block is told.
    pub(super) before: usize,
}

/// Takes bytes, hands out blocks, and writes what comes back in order.
pub(super) struct Blocks<'w> {
    shape: Shape,
    pool: &'w Pool,
    pending: VecDeque<Receiver<Answer>>,
    pending_max: usize,
    buffer: Vec<u8>,
    before: Vec<u8>,
    spare: Vec<Vec<u8>>,
    into: &'w mut dyn Write,
    crc: crc32fast::Hasher,
    length: u64,
}

impl<'w> Blocks<'w> {
    /// Runs `body` with a writer whose bytes are compressed by `threads` workers, and gives what it gave, the
    /// CRC-32 of all bytes and how many there were.
    pub(super) fn run<R>(
        shape: Shape,
        threads: usize,
        into: &'w mut dyn Write,
        worker: MakeWorker<'_>,
        body: impl FnOnce(&mut dyn Write) -> io::Result<R>,
    ) -> io::Result<(R, u32, u64)> {
        pooled(threads, worker, |pool| {
            let mut blocks = Blocks {
                shape,
                pool,
                pending: VecDeque::new(),
                pending_max: threads.max(1) * 2,
                buffer: Vec::with_capacity(shape.block),
                before: Vec::new(),
                spare: Vec::new(),
                into,
                crc: crc32fast::Hasher::new(),
                length: 0,
            };
            let given = body(&mut blocks)?;
            blocks.send(true)?;
            while !blocks.pending.is_empty() {
                blocks.receive()?;
            }
            let Blocks { crc, length, .. } = blocks;
            Ok((given, crc.finalize(), length))
        })
    }

    fn send(&mut self, last: bool) -> io::Result<()> {
        while self.pending.len() >= self.pending_max {
            self.receive()?;
        }
        let fresh = self.spare.pop().unwrap_or_else(|| Vec::with_capacity(self.shape.block));
        let bytes = std::mem::replace(&mut self.buffer, fresh);
        let tail = bytes.len().saturating_sub(self.shape.before);
        let next = bytes[tail..].to_vec();
        let before = std::mem::replace(&mut self.before, next);
        self.pending.push_back(self.pool.compress(Job { bytes, before, last })?);
        Ok(())
    }

    fn receive(&mut self) -> io::Result<()> {
        let Some(receiver) = self.pending.pop_front() else { return Ok(()) };
        let done = receiver.recv().map_err(|_| gone())??;
        self.into.write_all(&done.out)?;
        if let Some(crc) = &done.crc {
            self.crc.combine(crc);
        }
        self.length += done.length;
        self.spare.push(done.buffer);
        Ok(())
    }
}

impl Write for Blocks<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // A full block is kept until more comes: it may be the last.
        if self.buffer.len() >= self.shape.block {
            self.send(false)?;
        }
        let length = bytes.len().min(self.shape.block - self.buffer.len());
        self.buffer.extend_from_slice(&bytes[..length]);
        Ok(length)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A worker has ended early: it panicked, and the scope will say so.
fn gone() -> io::Error {
    io::Error::other("a compressor ended early")
}

fn work(waiting: &Mutex<Receiver<Task>>, make: MakeWorker<'_>) {
    let mut worker = None;
    loop {
        let task = waiting.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok((job, answer)) = task else { return };
        let made = match &mut worker {
            Some(worker) => Ok(worker),
            None => make().map(|made| worker.insert(made)),
        };
        // Where nobody listens any more, the writer has failed and says why itself.
        let _unheard = answer.send(made.and_then(|worker| worker.compress(job)));
    }
}
