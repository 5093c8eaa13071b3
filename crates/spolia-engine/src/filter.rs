//! Builds the seccomp filters of both watchers: tables of calls → BPF program. Pure; knows no system call.

use crate::sys::BpfInstruction;

/// A call that is stopped.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stopped {
    /// Its number in the table's ABI.
    pub(crate) number: u32,
    /// Which argument holds flags, and those with any of which the call goes on unseen.
    pub(crate) pass: Option<(u8, u32)>,
}

/// The filter that stops the calls of each architecture and lets all others by. It decides by architecture, number
/// and flags alone; a path is beyond its reach.
pub(crate) fn program(abis: impl Iterator<Item = (u32, Vec<Stopped>)>) -> Vec<BpfInstruction> {
    const NUMBER: u32 = 0;
    const ARCH: u32 = 4;
    let argument = |index: u8| 16 + 8 * u32::from(index) + if cfg!(target_endian = "big") { 4 } else { 0 };
    let mut program = vec![load(ARCH)];
    for (arch, calls) in abis {
        let mut block = vec![load(NUMBER)];
        for call in calls {
            match call.pass {
                Some((flags, pass)) => block.extend([
                    jump(libc::BPF_JEQ, call.number, 0, 4),
                    load(argument(flags)),
                    jump(libc::BPF_JSET, pass, 0, 1),
                    answer(libc::SECCOMP_RET_ALLOW),
                    answer(libc::SECCOMP_RET_USER_NOTIF),
                ]),
                None => block
                    .extend([jump(libc::BPF_JEQ, call.number, 0, 1), answer(libc::SECCOMP_RET_USER_NOTIF)]),
            }
        }
        block.push(answer(libc::SECCOMP_RET_ALLOW));
        // The offset is one byte; the tables are far from it, and their tests run the program.
        program.push(jump(libc::BPF_JEQ, arch, 0, u8::try_from(block.len()).unwrap_or(u8::MAX)));
        program.extend(block);
    }
    program.push(answer(libc::SECCOMP_RET_ALLOW));
    program
}

fn load(offset: u32) -> BpfInstruction {
    BpfInstruction { code: (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16, jt: 0, jf: 0, k: offset }
}

fn jump(test: u32, value: u32, if_true: u8, if_false: u8) -> BpfInstruction {
    BpfInstruction { code: (libc::BPF_JMP | test | libc::BPF_K) as u16, jt: if_true, jf: if_false, k: value }
}

fn answer(action: u32) -> BpfInstruction {
    BpfInstruction { code: (libc::BPF_RET | libc::BPF_K) as u16, jt: 0, jf: 0, k: action }
}
