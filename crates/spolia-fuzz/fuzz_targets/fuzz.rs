//! libFuzzer's entry: feeds the one target that was named when this was compiled.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|raw: &[u8]| {
    let target = spolia_fuzz::target(env!("SPOLIA_FUZZ_TARGET")).expect("a target of this name");
    (target.run)(raw);
});
