//! Where the runs of a measured command are: on one processor, or wherever the kernel puts them.

use spolia_engine::measure::{Closely, OneCpu};
use spolia_perf::benchmark::fits_one_cpu;
use spolia_perf::record::Sample;

use crate::cli::perf::OneCpuArg;
use crate::exit::Failure;

/// Warm-ups in, a processor out.
pub(super) struct Place {
    asked: OneCpuArg,
    /// What the warm-ups so far say; `None` where there was none.
    fits: Option<bool>,
    /// Chosen once.
    cpu: Option<usize>,
}

impl Place {
    pub(super) fn new(asked: OneCpuArg) -> Self {
        Self { asked, fits: None, cpu: None }
    }

    /// Does one run, which counts or is a warm-up. `run` gets how closely to look: at the processor's speed where it is kept
    /// on one.
    ///
    /// # Errors
    /// Those of `run`; one processor was asked for and may not be had.
    pub(super) fn run(
        &mut self,
        counts: bool,
        run: impl FnOnce(Closely) -> Result<Sample, Failure>,
    ) -> Result<Sample, Failure> {
        let kept = if self.is_kept(counts) { self.keep()? } else { None };
        let closely = Closely { probe_speed: kept.is_some(), ..Closely::default() };
        let sample =
            Sample { kept_on_cpu: kept.as_ref().and(self.cpu).map(|cpu| cpu as u32), ..run(closely)? };
        if !counts {
            self.fits = Some(self.fits != Some(false) && fits_one_cpu(&sample));
        }
        Ok(sample)
    }

    fn is_kept(&self, counts: bool) -> bool {
        match self.asked {
            OneCpuArg::Never => false,
            OneCpuArg::Always => true,
            OneCpuArg::Auto => counts && self.fits == Some(true),
        }
    }

    fn keep(&mut self) -> Result<Option<OneCpu>, Failure> {
        match OneCpu::on(*self.cpu.get_or_insert_with(OneCpu::here)) {
            Ok(kept) => Ok(Some(kept)),
            // Nobody asked for it.
            Err(_) if self.asked == OneCpuArg::Auto => Ok(None),
            Err(error) => {
                Err(Failure::environment(format!("the runs cannot be kept on one processor: {error}"))
                    .hint("`--one-cpu never` lets the kernel choose"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(cpu_us: u64) -> Sample {
        Sample { wall_us: Some(1000), user_us: Some(cpu_us), sys_us: Some(0), ..Sample::default() }
    }

    fn kept(asked: OneCpuArg, warm_ups: &[u64]) -> (bool, bool) {
        let mut place = Place::new(asked);
        let mut warm = false;
        for cpu_us in warm_ups {
            warm |= place.run(false, |_| Ok(sample(*cpu_us))).unwrap().kept_on_cpu.is_some();
        }
        (warm, place.run(true, |_| Ok(sample(900))).unwrap().kept_on_cpu.is_some())
    }

    #[test]
    fn all_warm_ups_must_fit_and_be_there() {
        assert_eq!(kept(OneCpuArg::Auto, &[900, 950]), (false, true));
        assert_eq!(kept(OneCpuArg::Auto, &[900, 1900]), (false, false));
        assert_eq!(kept(OneCpuArg::Auto, &[1900, 900]), (false, false));
        assert_eq!(kept(OneCpuArg::Auto, &[]), (false, false));
        assert_eq!(kept(OneCpuArg::Always, &[1900]), (true, true));
        assert_eq!(kept(OneCpuArg::Never, &[900]), (false, false));
    }
}
