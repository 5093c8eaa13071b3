//! The compressors, each over blocks of one size.
//!
//! | format | a block is | with |
//! |---|---|---|
//! | gzip, and each file of a zip | 256 KiB of one deflate stream, told the 32 KiB before it, ended by a sync flush | flate2 over zlib-rs |
//! | zstd | 2 MiB, a frame of its own with its length and checksum | zstd |
//! | xz | 2 MiB, a stream of its own with CRC-64 | liblzma |
//!
//! Readers of zstd and xz go on with the next frame or stream (RFC 8878 §3.1, xz-file-format §2). There are at most
//! as many compressors at once as fit into [`MEMORY`].

use std::io::{self, Write};

use flate2::{Compress, Compression, FlushCompress, Status};

use super::blocks::{Blocks, Done, Job, Shape};

/// A compressor and its level.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Codec {
    /// As it is.
    Plain,
    /// RFC 1952, one member.
    Gzip {
        /// 0 to 9.
        level: u32,
    },
    /// RFC 8878.
    Zstd {
        /// 1 to 22.
        level: u32,
    },
    /// The format of xz.
    Xz {
        /// 0 to 9.
        level: u32,
    },
}

/// Compresses one block after another.
pub(super) trait Worker {
    /// What `job` becomes.
    fn compress(&mut self, job: Job) -> io::Result<Done>;
}

/// Bytes of a block of deflate.
const DEFLATE_BLOCK: usize = 256 << 10;
/// Bytes of a zstd or xz block.
const LARGE_BLOCK: usize = 2 << 20;
/// What compressors and their blocks may take together, bytes.
const MEMORY: usize = 44 << 20;
/// Blocks of deflate, and how far it looks back.
pub(super) const DEFLATE: Shape = Shape { block: DEFLATE_BLOCK, before: 32 << 10 };
/// Two blocks, what becomes of them, and a compressor's window and tables.
const DEFLATE_EACH: usize = 1536 << 10;
/// The level where none is asked for.
pub(super) const DEFLATE_LEVEL: u32 = 6;
/// No flags, no time, no hint of the level, no system.
const GZIP_HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];

/// Runs `body` with a writer whose bytes are compressed into `into`.
pub(super) fn run<R>(
    codec: &Codec,
    threads: usize,
    into: &mut dyn Write,
    body: impl FnOnce(&mut dyn Write) -> io::Result<R>,
) -> io::Result<R> {
    match *codec {
        Codec::Plain => body(into),
        Codec::Gzip { level } => {
            into.write_all(&GZIP_HEADER)?;
            let make = deflate(level);
            let (given, crc, length) = Blocks::run(DEFLATE, deflate_threads(threads), into, &make, body)?;
            into.write_all(&crc.to_le_bytes())?;
            // RFC 1952: the length modulo 2^32.
            into.write_all(&(length as u32).to_le_bytes())?;
            Ok(given)
        }
        Codec::Zstd { level } => {
            let make = || {
                let mut compressor = zstd::bulk::Compressor::new(i32::try_from(level).unwrap_or(0))?;
                compressor.include_checksum(true)?;
                Ok(Box::new(Zstd(compressor)) as Box<dyn Worker>)
            };
            // An estimate, not measured: a level's hash and chain tables for a window of one block, and the block's own buffers.
            let each = match level {
                0..=6 => 6 << 20,
                7..=12 => 20 << 20,
                _ => 40 << 20,
            };
            Blocks::run(LARGE, fitting(threads, each), into, &make, body).map(|(given, ..)| given)
        }
        Codec::Xz { level } => {
            let make = || Ok(Box::new(Xz(level)) as Box<dyn Worker>);
            // liblzma: up to 11.5 times the dictionary.
            Blocks::run(LARGE, fitting(threads, 22 << 20), into, &make, body).map(|(given, ..)| given)
        }
    }
}

/// Makes compressors of one deflate stream.
pub(super) fn deflate(level: u32) -> impl Fn() -> io::Result<Box<dyn Worker>> + Sync {
    move || Ok(Box::new(Deflate { level }) as Box<dyn Worker>)
}

/// As many as may compress with deflate at once.
pub(super) fn deflate_threads(threads: usize) -> usize {
    fitting(threads, DEFLATE_EACH)
}

const LARGE: Shape = Shape { block: LARGE_BLOCK, before: 0 };

fn fitting(threads: usize, each_bytes: usize) -> usize {
    threads.min(MEMORY / each_bytes).max(1)
}

struct Zstd(zstd::bulk::Compressor<'static>);

impl Worker for Zstd {
    fn compress(&mut self, job: Job) -> io::Result<Done> {
        let out = self.0.compress(&job.bytes)?;
        Ok(Done::new(job, out, None))
    }
}

struct Xz(u32);

impl Worker for Xz {
    fn compress(&mut self, job: Job) -> io::Result<Done> {
        use liblzma::stream::{Action, Check, Filters, LzmaOptions, Status, Stream};
        let mut options = LzmaOptions::new_preset(self.0)?;
        options.dict_size(LARGE_BLOCK as u32);
        let mut filters = Filters::new();
        filters.lzma2(&options);
        let mut stream = Stream::new_stream_encoder(&filters, Check::Crc64)?;
        let mut out = Vec::with_capacity(job.bytes.len() / 2 + 1024);
        loop {
            let read = usize::try_from(stream.total_in()).unwrap_or(usize::MAX).min(job.bytes.len());
            if stream.process_vec(&job.bytes[read..], &mut out, Action::Finish)? == Status::StreamEnd {
                return Ok(Done::new(job, out, None));
            }
            out.reserve(job.bytes.len() / 4 + 1024);
        }
    }
}

struct Deflate {
    level: u32,
}

impl Worker for Deflate {
    fn compress(&mut self, job: Job) -> io::Result<Done> {
        // A new one for each block: what a reset leaves in zlib-rs (its chains, its window) finds its way into the next
        // block, and which block that is depends on the threads.
        let compress = &mut Compress::new(Compression::new(self.level), false);
        if !job.before.is_empty() {
            compress.set_dictionary(&job.before)?;
        }
        let flush = if job.last { FlushCompress::Finish } else { FlushCompress::Sync };
        let mut out = Vec::with_capacity(job.bytes.len() / 2 + 64);
        let start = compress.total_in();
        loop {
            let read = usize::try_from(compress.total_in() - start).unwrap_or(usize::MAX);
            let before = out.len();
            let status = compress.compress_vec(&job.bytes[read.min(job.bytes.len())..], &mut out, flush)?;
            let read = compress.total_in() - start;
            // Room that is left says that everything there was to say was said.
            let all = read == job.bytes.len() as u64 && out.len() < out.capacity();
            match status {
                Status::StreamEnd => break,
                Status::Ok | Status::BufError if all && !job.last => break,
                Status::BufError if out.len() == before && out.len() < out.capacity() => {
                    return Err(io::Error::other("the compressor stands still"));
                }
                Status::Ok | Status::BufError => out.reserve(job.bytes.len() / 4 + 64),
            }
        }
        let mut crc = crc32fast::Hasher::new();
        crc.update(&job.bytes);
        Ok(Done::new(job, out, Some(crc)))
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    /// Bytes that neither repeat nor are random.
    fn text(length: usize) -> Vec<u8> {
        let mut state = 1u32;
        let word = |state: &mut u32| {
            *state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (*state >> 16) % 1000
        };
        let mut bytes = Vec::with_capacity(length + 8);
        while bytes.len() < length {
            bytes.extend_from_slice(format!("{} ", word(&mut state)).as_bytes());
        }
        bytes.truncate(length);
        bytes
    }

    fn pack(codec: Codec, threads: usize, bytes: &[u8], step: usize) -> Vec<u8> {
        let mut out = Vec::new();
        run(&codec, threads, &mut out, |into| {
            bytes.chunks(step.max(1)).try_for_each(|chunk| into.write_all(chunk))
        })
        .unwrap();
        out
    }

    #[test]
    fn gzip_is_one_member_that_others_read_and_threads_do_not_change_it() {
        let lengths =
            [0, 1, DEFLATE_BLOCK - 1, DEFLATE_BLOCK, DEFLATE_BLOCK + 1, 3 * DEFLATE_BLOCK, 1_500_001];
        for (length, level) in lengths.into_iter().zip([6, 6, 9, 1, 6, 0, 6]) {
            let bytes = text(length);
            let one = pack(Codec::Gzip { level }, 1, &bytes, 100_000);
            for (threads, step) in [(2, 77_777), (7, 4096), (3, usize::MAX >> 1)] {
                assert!(pack(Codec::Gzip { level }, threads, &bytes, step) == one, "{length} {threads}");
            }
            let mut back = Vec::new();
            // Not the reader that goes on with a next member.
            flate2::read::GzDecoder::new(&one[..]).read_to_end(&mut back).unwrap();
            assert!(back == bytes, "{length} at {level}");
        }
    }

    /// Real programs showed what made-up text did not: a compressor that was used before gave other bytes.
    #[test]
    fn a_block_does_not_know_which_blocks_were_compressed_before() {
        let program = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        let bytes = &program[..program.len().min(8 << 20)];
        for codec in [
            Codec::Gzip { level: 6 },
            Codec::Gzip { level: 1 },
            Codec::Gzip { level: 9 },
            Codec::Zstd { level: 3 },
        ] {
            let one = pack(codec, 1, bytes, 1 << 20);
            for threads in 2..6 {
                assert!(pack(codec, threads, bytes, 1 << 20) == one, "{codec:?} {threads}");
            }
        }
    }

    #[test]
    fn zstd_and_xz_are_read_by_others_and_threads_do_not_change_them() {
        for length in [0, 1, LARGE_BLOCK, 2 * LARGE_BLOCK + 5] {
            let bytes = text(length);
            for codec in [Codec::Zstd { level: 3 }, Codec::Xz { level: 1 }] {
                let one = pack(codec, 1, &bytes, 100_000);
                assert!(pack(codec, 4, &bytes, 77_777) == one, "{codec:?} {length}");
                let mut back = Vec::new();
                match codec {
                    Codec::Zstd { .. } => {
                        zstd::stream::read::Decoder::new(&one[..]).unwrap().read_to_end(&mut back).unwrap()
                    }
                    _ => {
                        liblzma::read::XzDecoder::new_multi_decoder(&one[..]).read_to_end(&mut back).unwrap()
                    }
                };
                assert!(back == bytes, "{codec:?} {length}");
            }
        }
    }

    #[test]
    fn what_cannot_be_compressed_grows_a_little_only() {
        let mut noise = vec![0; 600_000];
        let mut state = 7u64;
        for byte in &mut noise {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            *byte = state as u8;
        }
        let packed = pack(Codec::Gzip { level: 6 }, 2, &noise, 1 << 16);
        assert!(packed.len() < noise.len() + noise.len() / 500, "{}", packed.len());
        let mut back = Vec::new();
        flate2::read::GzDecoder::new(&packed[..]).read_to_end(&mut back).unwrap();
        assert!(back == noise);
    }

    #[test]
    fn a_writer_that_fails_ends_it() {
        struct Full(usize);
        impl Write for Full {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                self.0 = self.0.checked_sub(bytes.len()).ok_or(io::ErrorKind::StorageFull)?;
                Ok(bytes.len())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let bytes = text(5_000_000);
        let error = run(&Codec::Gzip { level: 1 }, 3, &mut Full(200_000), |into| into.write_all(&bytes));
        assert_eq!(error.unwrap_err().kind(), io::ErrorKind::StorageFull);
    }
}
