//! A few bytes and some descriptors over a `SEQPACKET` socket, whole or not at all. Knows neither side.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType,
};

/// The most descriptors in one message.
const FDS_MAX: usize = 3;

/// Both ends of a new socket, closed on exec.
pub(crate) fn pair() -> Result<(OwnedFd, OwnedFd), Errno> {
    rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
}

/// Sends one message. Takes no memory and no lock.
pub(crate) fn send(to: &OwnedFd, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FDS_MAX))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() && !control.push(SendAncillaryMessage::ScmRights(fds)) {
        return Err(Errno::TOOBIG.into());
    }
    rustix::net::sendmsg(to, &[IoSlice::new(bytes)], &mut control, SendFlags::NOSIGNAL)?;
    Ok(())
}

/// Waits for one message: how many bytes are in `buffer` now, and the descriptors. No bytes: the other side is gone.
pub(crate) fn receive(from: &OwnedFd, buffer: &mut [u8]) -> io::Result<(usize, Vec<OwnedFd>)> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FDS_MAX))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let count = loop {
        let mut parts = [IoSliceMut::new(buffer)];
        match rustix::net::recvmsg(from, &mut parts, &mut control, RecvFlags::CMSG_CLOEXEC) {
            Err(Errno::INTR) => {}
            other => break other?.bytes,
        }
    };
    let mut fds = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(received) = message {
            fds.extend(received);
        }
    }
    Ok((count, fds))
}

/// Sends a descriptor, or why there is none: one `i32`, 0 or the error's number. Takes no memory and no lock.
pub(crate) fn send_fd(to: &OwnedFd, fd: Result<BorrowedFd<'_>, &io::Error>) -> io::Result<()> {
    match fd {
        Ok(fd) => send(to, &0_i32.to_ne_bytes(), &[fd]),
        Err(error) => send(to, &error.raw_os_error().unwrap_or(libc::EIO).to_ne_bytes(), &[]),
    }
}

/// The other side of [`send_fd`].
///
/// # Errors
/// Why there is no descriptor; `UnexpectedEof` where the other side is gone.
pub(crate) fn receive_fd(from: &OwnedFd) -> io::Result<OwnedFd> {
    let mut bytes = [0; 4];
    let (count, mut fds) = receive(from, &mut bytes)?;
    if count < bytes.len() {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    fds.pop().ok_or_else(|| io::Error::from_raw_os_error(i32::from_ne_bytes(bytes)))
}

/// The same, unless something happens to `stop` before the other side says anything.
///
/// # Errors
/// Those of [`receive_fd`]; `UnexpectedEof` also where it was stopped.
pub(crate) fn receive_fd_before(from: &OwnedFd, stop: &OwnedFd) -> io::Result<OwnedFd> {
    loop {
        let mut fds = [PollFd::new(from, PollFlags::IN), PollFd::new(stop, PollFlags::IN)];
        match poll(&mut fds, None) {
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
            Ok(_) if !fds[0].revents().is_empty() => return receive_fd(from),
            Ok(_) => return Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }
}

/// Whether nobody holds the other end any more.
pub(crate) fn is_hung_up(fd: impl AsFd) -> bool {
    events(fd).is_none_or(|events| events.contains(PollFlags::HUP))
}

/// What there is to be learnt from a descriptor now; nothing where it cannot be asked.
pub(crate) fn events(fd: impl AsFd) -> Option<PollFlags> {
    let mut fds = [PollFd::new(&fd, PollFlags::IN)];
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    poll(&mut fds, Some(&now)).ok()?;
    Some(fds[0].revents())
}
