//! What the compiler cache reads: depfiles and response files of others, and its own manifests of input sets.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

use spolia_cc::c::{args, deps};
use spolia_cc::direct::Manifest;
use spolia_store::refs;

use crate::Target;

/// Rules for make; a path that was read and written again is read as the same.
pub(crate) const DEPFILE: Target = Target {
    name: "depfile",
    seeds: || {
        vec![
            b"a.o: a.c /usr/include/stdio.h \\\n b\\ c.h x$$y.h\n\nb.h:\n".to_vec(),
            b"a.o b.o: \\\n  a.c \\#.h\n".to_vec(),
        ]
    },
    run: |raw| {
        let Some(paths) = deps::parse(raw) else { return };
        for path in paths.iter().filter(|path| !path.contains(&b'\\') && !path.contains(&b'\t')) {
            let rule = [b"t: ".as_slice(), &deps::quote(path), b"\n"].concat();
            assert_eq!(deps::parse(&rule), Some(vec![path.clone()]));
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

/// The manifest of input sets: what is read is written as it was read.
pub(crate) const INPUT_SETS: Target = Target {
    name: "input-sets",
    seeds: || {
        let empty = Manifest::default().payload();
        let body = refs::open(&empty).map(|(_, body)| body.to_vec()).unwrap_or_default();
        vec![empty, refs::seal(&[], &[body.as_slice(), &[1, 0, 2, b'=', b'x', 0]].concat())]
    },
    run: |raw| {
        if let Some(manifest) = Manifest::parse(raw) {
            assert_eq!(Manifest::parse(&manifest.payload()), Some(manifest));
        }
    },
    tries: 4000,
};
