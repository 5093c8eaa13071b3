//! A thread, and the processes it starts, kept on one processor.

use rustix::thread::{CpuSet, sched_getaffinity, sched_getcpu, sched_setaffinity};

/// While it lives, the thread that made it and the processes that this thread starts run on one processor only.
#[derive(Debug)]
pub struct OneCpu {
    before: CpuSet,
}

impl OneCpu {
    /// The processor that the thread is on now, by the kernel's count.
    pub fn here() -> usize {
        sched_getcpu()
    }

    /// On this processor.
    ///
    /// # Errors
    /// The kernel refuses, or the processor may not be used.
    pub fn on(cpu: usize) -> std::io::Result<Self> {
        if cpu >= CpuSet::MAX_CPU {
            return Err(std::io::Error::other(format!("processor {cpu} is beyond what can be asked for")));
        }
        let before = sched_getaffinity(None)?;
        let mut one = CpuSet::new();
        one.set(cpu);
        sched_setaffinity(None, &one)?;
        Ok(Self { before })
    }
}

impl Drop for OneCpu {
    fn drop(&mut self) {
        // Where the processors were taken away meanwhile, it stays where it is.
        let _refused = sched_setaffinity(None, &self.before);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cancel::Cancel;
    use crate::executor::End;
    use crate::measure::{Closely, Output, Subject, Watch};

    #[test]
    fn a_thread_and_what_it_starts_stay_on_one_processor_until_it_is_let_go() {
        let allowed = || {
            let subject = Subject {
                program: "sh".into(),
                args: vec!["-c".into(), "unset OMP_NUM_THREADS OMP_THREAD_LIMIT; exit $(nproc)".into()],
                folder: ".".into(),
                env: Vec::new(),
                output: Output::Null,
            };
            let cancel = Cancel::new().unwrap();
            let mut watch =
                Watch { cancel: &cancel, timeout: None, closely: Closely::default(), on_sample: &mut |_| {} };
            super::super::run(&subject, &mut watch).unwrap().end
        };
        let before = (allowed(), sched_getaffinity(None).unwrap().count());
        let cpu = OneCpu::here();
        let kept = OneCpu::on(cpu).unwrap();
        assert_eq!((allowed(), OneCpu::here()), (End::Exited(1), cpu));
        drop(kept);
        assert_eq!((allowed(), sched_getaffinity(None).unwrap().count()), before);
        assert!(OneCpu::on(CpuSet::MAX_CPU).is_err() && OneCpu::on(CpuSet::MAX_CPU - 1).is_err());
        assert_eq!((allowed(), sched_getaffinity(None).unwrap().count()), before);
    }
}
