//! The least that can add up a tree: every folder listed once, every file looked at once, in one thread.
//!
//! `floor FOLDER` says how many entries there are and how many bytes they have. Calls the C library directly, so that
//! nothing is allocated for a name.

use std::ffi::{CStr, CString, c_char, c_int, c_long, c_void};

#[repr(C)]
struct Stat {
    words: [u64; 18],
}

unsafe extern "C" {
    fn openat(folder: c_int, name: *const c_char, flags: c_int, ...) -> c_int;
    fn fstatat(folder: c_int, name: *const c_char, stat: *mut Stat, flags: c_int) -> c_int;
    fn close(fd: c_int) -> c_int;
    fn syscall(number: c_long, ...) -> c_long;
}

const AT_FDCWD: c_int = -100;
const AT_SYMLINK_NOFOLLOW: c_int = 0x100;
/// `O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC` and `getdents64` on x86-64.
const FOLDER: c_int = 0o200_000 | 0o400_000 | 0o2_000_000;
const GETDENTS64: c_long = 217;
const IS_FOLDER: u8 = 4;

/// Entries and blocks below a folder.
fn add(above: c_int, name: &CStr, buffer: &mut [u64], names: &mut Vec<u8>, sum: &mut (u64, u64)) {
    // SAFETY: `name` ends in a NUL; the buffer is as long as is said.
    let fd = unsafe { openat(above, name.as_ptr(), FOLDER) };
    if fd < 0 {
        return;
    }
    let first = names.len();
    loop {
        let to = buffer.as_mut_ptr().cast::<c_void>();
        // SAFETY: as above.
        let read = unsafe { syscall(GETDENTS64, fd, to, std::mem::size_of_val(buffer)) };
        let Ok(length @ 1..) = usize::try_from(read) else { break };
        // SAFETY: the kernel has filled so much of it.
        let bytes = unsafe { std::slice::from_raw_parts(buffer.as_ptr().cast::<u8>(), length) };
        let mut at = 0;
        while at < length {
            let size = usize::from(u16::from_le_bytes([bytes[at + 16], bytes[at + 17]]));
            let name = CStr::from_bytes_until_nul(&bytes[at + 19..at + size]).unwrap_or_default();
            if !matches!(name.to_bytes(), b"." | b"..") {
                names.push(bytes[at + 18]);
                names.extend_from_slice(name.to_bytes_with_nul());
            }
            at += size;
        }
    }
    let (mut at, end) = (first, names.len());
    while at < end {
        let name = CStr::from_bytes_until_nul(&names[at + 1..]).unwrap_or_default().to_owned();
        let mut stat = Stat { words: [0; 18] };
        // SAFETY: `stat` is as large as the kernel's.
        unsafe { fstatat(fd, name.as_ptr(), &raw mut stat, AT_SYMLINK_NOFOLLOW) };
        *sum = (sum.0 + 1, sum.1 + stat.words[8]);
        if names[at] == IS_FOLDER {
            add(fd, &name, buffer, names, sum);
        }
        at += name.to_bytes_with_nul().len() + 1;
    }
    names.truncate(first);
    // SAFETY: it was opened here.
    unsafe { close(fd) };
}

fn main() {
    let folder = std::env::args_os().nth(1).expect("usage: floor FOLDER");
    let folder = CString::new(folder.into_encoded_bytes()).expect("a path");
    let mut sum = (0, 0);
    add(AT_FDCWD, &folder, &mut vec![0; 8192], &mut Vec::new(), &mut sum);
    println!("{} entries, {} bytes", sum.0, sum.1 * 512);
}
