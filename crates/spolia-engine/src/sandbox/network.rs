//! Networks of a sandbox's own: a network namespace with a loopback interface. Knows no command.
//!
//! Making and removing one costs about a millisecond of the kernel's time, a fifth of a sandbox. So a launcher keeps each
//! and uses it again when whoever was in it has ended, all its processes with it. Nobody in a sandbox may change a
//! network's interfaces, addresses or rules; all that can be left in one are connections that the kernel still closes
//! (their ports could not be listened on for a minute), and then it is not used.

use std::os::fd::{AsFd, OwnedFd};

use rustix::event::PollFlags;
use rustix::thread::LinkNameSpaceType;

use super::root::Context as _;
use super::spec::{Stage, StartError};
use crate::{sys, words};

/// The most networks that are kept.
const KEPT_MAX: usize = 256;

/// Which network a sandbox gets.
#[derive(Clone, Copy)]
pub(super) enum Network {
    /// The host's.
    Host,
    /// One that is made with its processes.
    New,
    /// The kept one of this number.
    Kept(usize),
}

/// What a launcher keeps.
#[derive(Default)]
pub(super) struct Networks(Vec<Kept>);

struct Kept {
    namespace: OwnedFd,
    /// Pid 1 of the sandbox that was the last to get it.
    user: OwnedFd,
}

impl Networks {
    /// A network that nobody is in, or a new one.
    pub(super) fn choose(&self) -> Network {
        self.0.iter().position(Kept::is_free).map_or(Network::New, Network::Kept)
    }

    /// `network` was given to the sandbox whose pid 1 is `pid`, by the descriptor `user`.
    pub(super) fn note(&mut self, network: Network, pid: i32, user: &OwnedFd) {
        let Ok(user) = user.try_clone() else { return };
        match network {
            Network::Host => {}
            Network::Kept(number) => self.0[number].user = user,
            Network::New if self.0.len() < KEPT_MAX => {
                // Where it is not to be had, the next sandbox gets a new one, too.
                if let Ok(namespace) = std::fs::File::open(format!("/proc/{pid}/ns/net")) {
                    self.0.push(Kept { namespace: namespace.into(), user });
                }
            }
            Network::New => {}
        }
    }

    /// For pid 1 of the sandbox, which has a copy of what its launcher keeps.
    pub(super) fn enter(&self, network: Network) -> Result<(), StartError> {
        match network {
            Network::Host => return Ok(()),
            Network::New => {}
            Network::Kept(number) => {
                let only = Some(LinkNameSpaceType::Network);
                rustix::thread::move_into_link_name_space(self.0[number].namespace.as_fd(), only)
                    .at(Stage::Namespaces, "")?;
                if is_unused() {
                    return Ok(());
                }
                sys::unshare_namespaces(libc::CLONE_NEWNET).at(Stage::Namespaces, "")?;
            }
        }
        sys::loopback_up().at(Stage::Loopback, "lo")
    }
}

impl Kept {
    fn is_free(&self) -> bool {
        words::events(&self.user).is_some_and(|events| events.contains(PollFlags::IN))
    }
}

/// Whether there is no socket in this process's network, and no connection that waits for its time to pass.
fn is_unused() -> bool {
    std::fs::read_to_string("/proc/self/net/sockstat").is_ok_and(|text| counts_nothing(&text))
}

/// See `proc_pid_net(5)`: a line a protocol, `NAME: WHAT COUNT WHAT COUNT …`. Only these two count this network alone.
fn counts_nothing(sockstat: &str) -> bool {
    let count = |protocol: &str, what: &str| {
        let line = sockstat.lines().find_map(|line| line.strip_prefix(protocol))?;
        let mut words = line.split_ascii_whitespace().skip_while(|word| *word != what);
        words.nth(1)?.parse::<u64>().ok()
    };
    count("sockets:", "used") == Some(0) && count("TCP:", "tw") == Some(0)
}

#[cfg(test)]
mod tests {
    use super::counts_nothing;

    #[test]
    fn a_network_with_something_in_it_is_told() {
        let text = |used: u32, waiting: u32| {
            format!(
                "sockets: used {used}\nTCP: inuse 0 orphan 3 tw {waiting} alloc 12 mem 7\nUDP: inuse 0 mem 1\n"
            )
        };
        assert!(counts_nothing(&text(0, 0)));
        assert!(!counts_nothing(&text(1, 0)));
        assert!(!counts_nothing(&text(0, 1)));
        for unknown in ["", "sockets: used 0\n", "TCP: tw 0\n", "sockets: used x\nTCP: tw 0\n"] {
            assert!(!counts_nothing(unknown), "{unknown}");
        }
    }
}
