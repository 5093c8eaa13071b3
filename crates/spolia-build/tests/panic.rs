//! A bug of ours ends the build; it does not leave it waiting.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use spolia_build::build::{Build, Forced, Options, Session};
use spolia_build::manifest::{self, EngineKind};
use spolia_core::event::EventKind;
use spolia_core::{Platform, RelPath};
use spolia_engine::Cancel;
use spolia_engine::tools::Surroundings;
use spolia_store::{DigestCache, LocalOptions, LocalStore, RunId};

struct Text(String);

impl manifest::Files for Text {
    fn read(&mut self, _: &RelPath) -> std::io::Result<String> {
        Ok(self.0.clone())
    }
}

#[test]
fn a_panic_in_one_thread_ends_them_all() {
    for jobs in [1, 3] {
        let folder = tempfile::tempdir().unwrap();
        let steps = (0..6).map(|number| {
            format!("[steps.s{number}]\nplatforms = \"any\"\nrun = \"echo {number} > ${{out}}/o\"\noutputs = [\"o\"]\n")
        });
        let after = "[steps.after]\nplatforms = \"any\"\nneeds = [\"s0\", \"s1\", \"s2\", \"s3\", \"s4\", \"s5\"]\nrun = \"true\"\noutputs = []\n";
        let text = format!("{}{after}", steps.collect::<String>());
        let request = manifest::Request { variant: None, host: Platform::host() };
        let (manifest, _) = manifest::parse(&mut Text(text), "spolia.toml", &request).unwrap();
        let now_us = AtomicU64::new(1_700_000_000_000_000);
        let cancel = Cancel::new().unwrap();
        let root = folder.path().join("project");
        std::fs::create_dir(&root).unwrap();
        let session = Session {
            root: root.clone(),
            store: Arc::new(LocalStore::open(&folder.path().join("store"), LocalOptions::default()).unwrap()),
            cancel: &cancel,
            sink: &|kind| {
                if let EventKind::StepStarted { id, .. } = kind {
                    assert!(id.step != "s2", "a bug of ours");
                }
            },
            caller_env: &|_| None,
            network_env: BTreeMap::new(),
            surroundings: Surroundings {
                search: "/usr/bin:/bin".into(),
                home: folder.path().to_owned(),
                root,
                env: BTreeMap::new(),
            },
            run: RunId::new(1_700_000_000_000_000),
            command: Vec::new(),
            now_us: &|| now_us.fetch_add(1000, Ordering::Relaxed),
            version: "0".to_owned(),
            uid: 0,
        };
        let options = Options {
            steps: Vec::new(),
            platforms: Vec::new(),
            jobs,
            engine: EngineKind::Host,
            engine_asked: true,
            forced: Forced::Nothing,
            store_results: true,
            keep_going: true,
            replay: false,
        };
        let digests = DigestCache::load(&folder.path().join("digests"));
        let build = Build::new(&session, &manifest, &options, &digests).unwrap();
        assert!(catch_unwind(AssertUnwindSafe(|| build.run(None))).is_err(), "{jobs} jobs: it ended well");
    }
}
