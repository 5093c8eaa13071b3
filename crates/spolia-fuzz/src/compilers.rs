//! What the compiler cache reads: what compilers and people wrote, and its own manifests and memos.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::Path;

use spolia_cc::c::{args, deps, preprocess};
use spolia_cc::detect::Memo;
use spolia_cc::direct::{Fact, Manifest, Seen};
use spolia_cc::rustc::{self, folders::Folders};
use spolia_cc::sets::{Kept, Raw};
use spolia_cc::{Room, Site, setup, site, summary, tally};
use spolia_core::Digest;
use spolia_store::refs;

use crate::Target;

/// Rules for make: unpacked where they were packed they are as they were, and elsewhere they do not name this place.
pub(crate) const DEPFILE: Target = Target {
    name: "depfile",
    seeds: || {
        vec![
            b"a.o: /a/p/a.c /usr/include/stdio.h \\\n b\\ c.h x$$y.h\n\n/a/p/b.h:\n".to_vec(),
            b"a.o b.o: \\\n  /a/p \\#.h /a/p-deps/h.h /x/a/p/c.h\n".to_vec(),
        ]
    },
    run: |raw| {
        // A path holds no zero, and such a file is not kept.
        if raw.contains(&0) {
            return;
        }
        let (here, there) = (Some(Path::new("/a/p")), Some(Path::new("/b/q")));
        let packed = deps::pack(raw, b"a.o", here);
        assert_eq!(deps::unpack(&packed, b"a.o", here), raw);
        let elsewhere = deps::unpack(&packed, b"a.o", there);
        assert_eq!(site::find(&elsewhere, b" /a/p/"), None);
    },
    tries: 4000,
};

/// What a compiler printed: shown where it was hidden it is as it was.
pub(crate) const PRINTED: Target = Target {
    name: "printed",
    seeds: || {
        vec![
            b"\x1b[01m\x1b[K/a/p/x.c:1:5:\x1b[m\x1b[K warning: in `/a/p' -I/a/p\n".to_vec(),
            b"In file included from /a/pp/h.h:1,\n                 from /a/p/x.c:2:\n".to_vec(),
        ]
    },
    run: |raw| {
        const MARK: &[u8] = b"\0mark";
        if site::find(raw, MARK).is_some() {
            return;
        }
        let hidden = site::hide(raw, b"/a/p", MARK);
        let shown = site::replace(&hidden.text, MARK, b"/a/p").unwrap_or_else(|| hidden.text.clone());
        assert_eq!(shown, raw);
    },
    tries: 4000,
};

/// The lines of the preprocessor that name files.
pub(crate) const LINE_MARKERS: Target = Target {
    name: "line-markers",
    seeds: || {
        vec![
            b"# 0 \"x.c\"\n# 0 \"<built-in>\"\n# 1 \"/usr/include/stdio.h\" 1 3 4\n# 1 \"/tmp//\"\n".to_vec(),
        ]
    },
    run: |raw| {
        for file in preprocess::files_of(raw) {
            assert!(!file.as_os_str().is_empty(), "a file without a name");
        }
    },
    tries: 4000,
};

/// rustc's argument files, and what a command line with their lines asks for.
pub(crate) const RUSTC_ARGUMENTS: Target = Target {
    name: "rustc-arguments",
    seeds: || {
        vec![
            b"--crate-name\nfoo\n--edition=2021\nsrc/lib.rs\n--crate-type\nlib\n--emit=dep-info,metadata,link\n-C\nmetadata=ab\n\
              -Cextra-filename=-ab\n--out-dir\n/t/debug/deps\n-L\ndependency=/t/debug/deps\n--extern\nnoprelude:b=/t/libb.rmeta\n"
                .to_vec(),
            b"--print=cfg\n--crate-type=bin\n-\n".to_vec(),
            b"--test\n--target\nx86_64-unknown-linux-gnu\n--emit=dep-info=x,link=y\n-o\nz\nmain.rs\n--cap-lints=warn\n".to_vec(),
        ]
    },
    run: |raw| {
        let file = |_: &Path| Some(raw.to_vec());
        let Ok(args) = rustc::args::parse(&[OsString::from("@args")], &file) else { return };
        let _which = (args.kinds(), args.links(), args.is_build_script());
        for (name, path) in args.outputs().unwrap_or_default() {
            assert!(!name.is_empty() && path.file_name().is_some(), "an output without a name");
        }
    },
    tries: 4000,
};

/// Dep-info, diagnostics and what build scripts print: shown where they were hidden they are as they were.
pub(crate) const RUSTC_TEXTS: Target = Target {
    name: "rustc-texts",
    seeds: || {
        vec![
            b"/w/target/debug/deps/libfoo.rmeta: src/lib.rs /home/u/.cargo/registry/src/x/y.rs\n\n# env-dep:OUT_DIR=/w/target/out\n".to_vec(),
            b"cargo:rerun-if-changed=/w/build.rs\ncargo::rustc-link-search=native=/w/target/debug/build/a/out\ncargo:rustc-cfg=x\n".to_vec(),
            b"{\"message\":\"unused\",\"spans\":[{\"file_name\":\"/w/src/lib.rs\"}]}\n-L/w/target".to_vec(),
        ]
    },
    run: |raw| {
        let mut folders = Folders::default();
        for (mark, folder) in [(b'T', "/w/target"), (b'C', "/home/u/.cargo"), (b'W', "/w")] {
            folders.add(mark, Path::new(folder));
        }
        let hidden = folders.hide(raw);
        // No text of a compiler holds a zero; one that does may come back as nothing.
        if !raw.contains(&0) {
            assert_eq!(folders.show(&hidden).as_deref(), Some(raw));
        }
        let path = folders.write(raw);
        let read = folders.read(&path).map(|path| path.into_os_string().into_vec());
        assert_eq!(read.as_deref(), Some(raw));
    },
    tries: 4000,
};

/// The manifest of a unit's facts: what is read is written as it was read.
pub(crate) const RUSTC_SETS: Target = Target {
    name: "rustc-input-sets",
    seeds: || vec![rustc::facts::Manifest::default().payload()],
    run: |raw| {
        if let Some(manifest) = rustc::facts::Manifest::parse(raw) {
            assert_eq!(rustc::facts::Manifest::parse(&manifest.payload()), Some(manifest));
        }
    },
    tries: 4000,
};

/// What is remembered of a compiler. The sum in front is made right, or nothing would get past it.
pub(crate) const IDENTITY: Target = Target {
    name: "identity",
    seeds: || vec![[&[0; 33][..], &[1, 7, 1, 0, 0]].concat(), vec![0; 80]],
    run: |raw| {
        let file = [Digest::blake3(raw).as_bytes(), raw].concat();
        if let Some(memo) = Memo::parse(&file) {
            assert_eq!(memo.file().and_then(|file| Memo::parse(&file)), Some(memo));
        }
    },
    tries: 4000,
};

/// The lines of the statistics, counted.
pub(crate) const TALLY: Target = Target {
    name: "tally",
    seeds: || {
        vec![
            br#"{"at_us":5,"outcome":"hit","compiler":"gcc","folder":"/p","session":"","own_cpu_us":2,"compile_cpu_us":9,"compile_wall_us":9,"bytes":3}
{"at_us":70000005,"outcome":"miss","reason":"input-changed","detail":"h.h","not_stored":"cannot write","language":"c","compiler":"gcc","source":"x.c","folder":"/p","session":"s","own_cpu_us":null,"compile_cpu_us":18446744073709551615,"compile_wall_us":1,"bytes":18446744073709551615,"verified":true,"key":"ab"}"#
                .to_vec(),
        ]
    },
    run: |raw| {
        let (records, unreadable) = tally::parse(raw);
        let lines = raw.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).count();
        assert_eq!(records.len() as u64 + unreadable, lines as u64);
        let counted = summary::summarise(&records);
        let all = &counted.all;
        assert_eq!(
            all.hits + all.misses + all.not_cacheable + all.pass_through + all.internal,
            records.len() as u64
        );
        assert!(summary::last_session(&records).len() <= records.len());
        let _calls = tally::by_key(&records);
    },
    tries: 4000,
};

/// A configuration of cargo's: with our line it says what it said and that.
pub(crate) const CARGO_CONFIG: Target = Target {
    name: "cargo-config",
    seeds: || {
        let seeds: [&[u8]; 4] = [
            b"[net]\noffline = true\n[build] # here\njobs = 2\n",
            b"build.jobs = 2\n",
            b"x = \"\"\"\n[build]\n\"\"\"\n[build]\r\n",
            b"[build]\nrustc-wrapper = \"sccache\"\n[build.x]\n",
        ];
        seeds.map(<[u8]>::to_vec).into()
    },
    run: |raw| {
        let Ok(text) = std::str::from_utf8(raw) else { return };
        if let Ok(with) = setup::cargo_config(text, "spolia") {
            assert_eq!(setup::cargo_config(&with, "spolia").as_deref(), Ok(with.as_str()));
            assert!(with.len() >= text.len());
        }
    },
    tries: 4000,
};

/// Response files, and what a command line with their words asks for.
pub(crate) const RESPONSE: Target = Target {
    name: "response",
    seeds: || vec![b"-c x.c -o 'a b.o' \"-DX=\\\"1\\\"\" -MD -MF d -I inc -x c++ @none -Wa,-a\n".to_vec()],
    run: |raw| {
        let words: Vec<OsString> = args::words(raw).into_iter().map(OsString::from_vec).collect();
        if let Ok(parsed) = args::parse(&words, false) {
            let _paths = (parsed.output_path(), parsed.depfile());
        }
    },
    tries: 4000,
};

/// The manifest of input sets: what is read is written as it was read, also where an earlier version wrote it.
pub(crate) const INPUT_SETS: Target = Target {
    name: "input-sets",
    seeds: || {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let site = Site { cwd: folder.path().to_owned(), root: None };
        let room = Room::open(&folder.path().join("store"), site).expect("a new store");
        let mut manifest = Manifest::default();
        let raw = |text: &str| Raw(text.as_bytes().to_vec());
        for bound in [false, true] {
            let facts = vec![
                Fact::File(raw("~/a.h"), [u8::from(bound); 32]),
                Fact::Absent(raw("~/b/c.h")),
                Fact::Present(raw("=/usr/d")),
                Fact::Listing(raw("=/usr"), [2; 32]),
                Fact::Variable(raw("A"), Some(raw("x"))),
                Fact::Variable(raw("B"), None),
            ];
            manifest.add(Seen { facts, bound }, Kept { log: raw("said"), ..Kept::default() }, &room);
        }
        // The first version: two facts, and one set of them.
        let earlier: [&[u8]; 5] =
            [b"spolia cc 1\n\x02\x00\x03~/a", &[7; 32], b"\x01\x03~/b", &[1, 0, 2, 0, 1], &[0; 12]];
        vec![Manifest::default().payload(), manifest.payload(), refs::seal(&[], &earlier.concat())]
    },
    run: |raw| {
        if let Some(manifest) = Manifest::parse(raw) {
            assert_eq!(Manifest::parse(&manifest.payload()), Some(manifest));
        }
    },
    tries: 4000,
};
