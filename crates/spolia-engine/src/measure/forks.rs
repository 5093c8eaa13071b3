//! Processes started in a tree, counted from the kernel's own events (the process events connector, which
//! `linux/cn_proc.h` describes). Only the privileged may listen, and not in a pid namespace of their own.

use std::collections::HashSet;
use std::os::fd::OwnedFd;

use rustix::net::netlink::{CONNECTOR, SocketAddrNetlink};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, sockopt};

/// `CN_IDX_PROC` and `CN_VAL_PROC`.
const PROC: u32 = 1;
/// `PROC_CN_MCAST_LISTEN`.
const LISTEN: u32 = 1;
/// `PROC_EVENT_FORK` and `PROC_EVENT_EXIT`.
const FORK: u32 = 1;
const EXIT: u32 = 0x8000_0000;
/// `nlmsghdr` and `cn_msg`.
const HEADERS: usize = 16 + 20;
/// How much the kernel may keep for us between two looks.
const BUFFER_BYTES: usize = 32 << 20;

/// Listens.
pub(super) struct Forks {
    socket: OwnedFd,
    tree: HashSet<u32>,
    started: u64,
    lost: bool,
    confirmed: bool,
}

impl Forks {
    /// Counts what this process and its descendants start from now on.
    pub(super) fn listen() -> Result<Self, String> {
        let refused = |error: rustix::io::Errno| {
            format!("the kernel's process events are not to be had: {}", std::io::Error::from(error))
        };
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let kind = SocketType::DGRAM;
        let socket = rustix::net::socket_with(AddressFamily::NETLINK, kind, flags, Some(CONNECTOR))
            .map_err(refused)?;
        let _smaller = sockopt::set_socket_recv_buffer_size_force(&socket, BUFFER_BYTES);
        // Port 0: the kernel chooses.
        rustix::net::bind(&socket, &SocketAddrNetlink::new(0, PROC)).map_err(refused)?;
        rustix::net::send(&socket, &request(), SendFlags::empty()).map_err(refused)?;
        let own = std::process::id();
        let mut forks =
            Self { socket, tree: HashSet::from([own]), started: 0, lost: false, confirmed: false };
        forks.drain();
        if !forks.confirmed {
            return Err("the kernel does not confirm that it sends process events".to_owned());
        }
        Ok(forks)
    }

    /// Takes what has come since the last time.
    pub(super) fn drain(&mut self) {
        let mut buffer = [0u8; 1024];
        loop {
            match rustix::net::recv(&self.socket, &mut buffer, RecvFlags::empty()) {
                Ok((length, _)) => self.event(&buffer[..length.min(1024)]),
                Err(rustix::io::Errno::NOBUFS) => self.lost = true,
                Err(rustix::io::Errno::INTR) => {}
                Err(_) => return,
            }
        }
    }

    /// One message: `nlmsghdr`, `cn_msg`, then `proc_event` (what, cpu, u64 time, and its own fields).
    fn event(&mut self, message: &[u8]) {
        let word = |at: usize| {
            let bytes = message.get(HEADERS + at..HEADERS + at + 4)?;
            Some(u32::from_ne_bytes(bytes.try_into().ok()?))
        };
        match word(0) {
            // The answer to our request: no event, with its error number.
            Some(0) => self.confirmed |= word(16) == Some(0),
            Some(FORK) => {
                let (Some(parent), Some(thread), Some(process)) = (word(20), word(24), word(28)) else {
                    return;
                };
                // A thread has a process that is not itself.
                if thread == process && self.tree.contains(&parent) {
                    self.tree.insert(process);
                    self.started += 1;
                }
            }
            Some(EXIT) => {
                let (Some(thread), Some(process)) = (word(16), word(20)) else { return };
                if thread == process && process != std::process::id() {
                    self.tree.remove(&process);
                }
            }
            _ => {}
        }
    }

    /// How many were started.
    pub(super) fn count(&self) -> Result<u64, String> {
        if self.lost {
            return Err("processes started faster than the kernel could tell".to_owned());
        }
        Ok(self.started)
    }
}

fn request() -> Vec<u8> {
    let mut message = Vec::new();
    let mut word = |value: u32| message.extend_from_slice(&value.to_ne_bytes());
    // nlmsghdr: length, type NLMSG_DONE and flags, sequence, port.
    word((HEADERS + 4) as u32);
    word(u32::from_ne_bytes({
        let kind = 3u16.to_ne_bytes();
        [kind[0], kind[1], 0, 0]
    }));
    word(0);
    word(0);
    // cn_msg: idx, val, seq, ack, length and flags; then the operation.
    word(PROC);
    word(PROC);
    word(0);
    word(0);
    word(u32::from_ne_bytes({
        let length = 4u16.to_ne_bytes();
        [length[0], length[1], 0, 0]
    }));
    word(LISTEN);
    message
}
