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
/// and flags alone, and lets by whoever has `pass` as the sixth argument, which none of the calls has; a path is beyond its reach.
pub(crate) fn program(
    abis: impl Iterator<Item = (u32, Vec<Stopped>)>,
    pass: Option<u64>,
) -> Vec<BpfInstruction> {
    const NUMBER: u32 = 0;
    const ARCH: u32 = 4;
    const SIXTH: u32 = 16 + 8 * 5;
    let argument = |index: u8| 16 + 8 * u32::from(index) + if cfg!(target_endian = "big") { 4 } else { 0 };
    let halves = |pass: u64| {
        pass.to_ne_bytes().as_chunks::<4>().0.iter().map(|half| u32::from_ne_bytes(*half)).collect::<Vec<_>>()
    };
    // What every stopped call comes to.
    let stop = match pass.map(halves) {
        Some(halves) => vec![
            load(SIXTH),
            jump(libc::BPF_JEQ, halves[0], 0, 3),
            load(SIXTH + 4),
            jump(libc::BPF_JEQ, halves[1], 0, 1),
            answer(libc::SECCOMP_RET_ALLOW),
            answer(libc::SECCOMP_RET_USER_NOTIF),
        ],
        None => vec![answer(libc::SECCOMP_RET_USER_NOTIF)],
    };
    let mut program = vec![load(ARCH)];
    for (arch, calls) in abis {
        let mut block = vec![load(NUMBER)];
        let length = |call: &Stopped| if call.pass.is_some() { 4 } else { 1 };
        // Instructions from the next call's first to `stop`, one more than are left of calls: what comes between lets by.
        let mut left: usize = calls.iter().map(length).sum::<usize>() + 1;
        for call in calls {
            left -= length(&call);
            let to_stop = u8::try_from(left).unwrap_or(u8::MAX);
            match call.pass {
                Some((flags, pass)) => block.extend([
                    jump(libc::BPF_JEQ, call.number, 0, 3),
                    load(argument(flags)),
                    jump(libc::BPF_JSET, pass, 0, to_stop + 1),
                    answer(libc::SECCOMP_RET_ALLOW),
                ]),
                None => block.push(jump(libc::BPF_JEQ, call.number, to_stop, 0)),
            }
        }
        block.push(answer(libc::SECCOMP_RET_ALLOW));
        block.extend(&stop);
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
