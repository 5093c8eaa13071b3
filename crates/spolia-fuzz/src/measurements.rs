//! Measurements that other tools wrote, and the table of thresholds.

use spolia_core::RelPath;
use spolia_perf::analyze::analyze;
use spolia_perf::compare::compare;
use spolia_perf::manifest::{Context, parse as thresholds};
use spolia_perf::{Rule, check, foreign};

use crate::Target;

/// Files of measurements: ours, hyperfine's, cargo's page, ninja's log. What is read can be looked at and compared.
pub(crate) const FOREIGN: Target = Target {
    name: "measurements",
    seeds: || {
        let seeds: [&[u8]; 6] = [
            br#"{"build_target":"x","duration_ms":5,"cache_hits":1,"cache_misses":2,"os":"linux","num_cpu":2}"#,
            br#"{"spolia_perf":1,"run":"20261121T000000-1","facts":{"version":1,"subject":"x","state":"cold"},"samples":
                [{"wall_us":5,"user_us":3,"sys_us":1,"ending":"ok"}],"steps":[{"name":"a (linux/amd64)","start_us":0,
                "wall_us":7,"outcome":"ran","needs":["b"]},{"name":"b","start_us":1,"wall_us":2,"outcome":"hit",
                "needs":["a (linux/amd64)"]}],"jobs":2}"#,
            br#"{"results":[{"command":"true","mean":0.1,"median":0.1,"times":[0.1,0.2],"exit_codes":[0,1],
                "user":0.01,"system":0.02}]}"#,
            b"# ninja log v5\n0\t100\t1\ta\t1\n100\t300\t1\tb\t2\n5\t7\t1\tc\t3\n",
            b"<html><script>const UNIT_DATA = [\n  {\"i\": 0, \"name\": \"a\", \"version\": \"1\", \"mode\": \"\", \
              \"target\": \"\", \"start\": 0.1, \"duration\": 2.5, \"unlocked_units\": [1], \"unlocked_rmeta_units\": []},\n\
              {\"i\": 1, \"name\": \"b\", \"version\": \"1\", \"mode\": \"\", \"target\": \"\", \"start\": 2.6, \
              \"duration\": 1.0, \"unlocked_units\": [], \"unlocked_rmeta_units\": []}];\n</script></html>",
            br#"{"records":[{"build_target":"x","duration_ms":5}]}"#,
        ];
        seeds.map(<[u8]>::to_vec).into()
    },
    run: |raw| {
        let Ok(records) = foreign::parse(raw, "name") else { return };
        assert!(!records.is_empty(), "measurements without one");
        for record in &records {
            let analysis = analyze(record);
            let share = analysis.critical_share.unwrap_or(0.0);
            assert!((0.0..=1.0).contains(&share), "a critical path longer than the build: {share}");
        }
        // Many would be slow, and are no other case.
        let few = &records[..records.len().min(3)];
        if few.iter().all(|record| record.samples.len() <= 20 && record.steps.len() <= 20) {
            let rule = Rule { draws: 20, ..Rule::default() };
            for one in compare(few, few, &rule).unwrap_or_default() {
                assert!(!one.is_worse(), "slower than itself: {one:?}");
            }
        }
    },
    tries: 3000,
};

/// `[perf.thresholds]`.
pub(crate) const THRESHOLDS: Target = Target {
    name: "thresholds",
    seeds: || {
        let seeds: [&[u8]; 2] = [
            b"[perf.thresholds]\nbuild = { time = \"5m\", cpu = \"8m\", hit-rate = \"80%\", memory = \"2GB\", regression = \"5%\" }\n",
            b"[perf.thresholds.fio]\ndisk = \"1.5GB\"\ncold = { time = \"1h30m\" }\n\
              platform.\"linux/arm64\" = { store-size = \"20GB\", warm = { output-size = \"1B\" } }\n",
        ];
        seeds.map(<[u8]>::to_vec).into()
    },
    run: |raw| {
        let Ok(text) = std::str::from_utf8(raw) else { return };
        let file = RelPath::new("spolia.toml").expect("a name");
        let context = Context { steps: Some(vec!["fio"]), platforms: None };
        match thresholds(file, text, &context) {
            Ok(conf) => {
                for limit in conf.thresholds.iter().flat_map(|one| one.of(Some("linux/arm64"), None)) {
                    assert!(limit.value.is_finite() && limit.value > 0.0, "{limit:?}");
                }
                assert_eq!(check::limits(&[], &conf.thresholds).len(), conf.thresholds.len());
            }
            Err(mistakes) => assert!(!mistakes.is_empty(), "wrong without a mistake"),
        }
    },
    tries: 3000,
};
