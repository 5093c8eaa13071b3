//! Every key a manifest may have, once: the parser takes its lists of keys from here, and the JSON
//! Schema is made from it. Pure data.

use std::fmt;

use spolia_core::conf::{Problems, Table};

/// A table with fixed keys.
pub(crate) struct Object {
    /// Its keys.
    pub(crate) fields: &'static [Field],
    /// The keys it must have.
    pub(crate) required: &'static [&'static str],
}

impl Object {
    /// Says of what is left in `table` that it is unknown.
    pub(crate) fn finish(&self, place: impl fmt::Display, table: Table<'_>, problems: &mut Problems) {
        if !table.is_empty() {
            table.finish(place, &self.keys(), problems);
        }
    }

    /// The keys, for messages.
    pub(crate) fn keys(&self) -> Vec<&'static str> {
        self.fields.iter().map(|field| field.key).collect()
    }
}

/// One key.
pub(crate) struct Field {
    /// Its name.
    pub(crate) key: &'static str,
    /// What it holds.
    pub(crate) kind: Kind,
    /// One sentence for editors.
    pub(crate) doc: &'static str,
}

/// What a key holds.
#[derive(Clone, Copy)]
pub(crate) enum Kind {
    /// A string.
    Text,
    /// `true` or `false`.
    Flag,
    /// A whole number from … to ….
    Number(u32, u32),
    /// `30m`.
    Duration,
    /// `20GB`.
    Size,
    /// One of these words.
    Choice(&'static [&'static str]),
    /// A list of strings.
    Texts,
    /// A string or a list of strings.
    TextOrTexts,
    /// A list of platforms.
    PlatformList,
    /// A list of platforms, or `any`.
    PlatformsOrAny,
    /// A table of strings with free keys.
    TextMap,
    /// A table of whole numbers from 1 with free keys.
    CountMap,
    /// A table with these keys.
    Table(&'static Object),
    /// A table with free keys; every value is such a table.
    TableMap(&'static Object),
    /// The same with platforms for keys.
    PlatformMap(&'static Object),
    /// Platforms for keys, tables of strings for values.
    PlatformTextMap,
    /// A list of strings or such tables.
    TextOrTableList(&'static Object),
    /// A list of such tables.
    TableList(&'static Object),
    /// A table that another part of Spolia reads.
    Elsewhere,
}

const fn field(key: &'static str, kind: Kind, doc: &'static str) -> Field {
    Field { key, kind, doc }
}

/// The words of `engine`.
pub(crate) const ENGINES: &[&str] = &["sandbox", "host"];
/// The words of `base`.
pub(crate) const BASES: &[&str] = &["default", "strict"];
/// The words of `sharing`.
pub(crate) const SHARINGS: &[&str] = &["shared", "private", "locked"];
/// The words of `scope`.
pub(crate) const SCOPES: &[&str] = &["project", "platform", "step"];
/// How often a step may be tried again.
pub(crate) const RETRIES_MAX: u32 = 10;
/// How many steps of a pool may run at once.
pub(crate) const POOL_MAX: u32 = 10_000;

/// The root file.
pub(crate) const ROOT: Object = Object {
    fields: &[
        field("project", Kind::Table(&PROJECT), "The whole project."),
        INCLUDE,
        PLATFORM,
        POOLS,
        STEPS,
        field("variant", Kind::TableMap(&VARIANT), "Other ways to build, chosen with `--variant NAME`."),
        field("cache", Kind::Table(&CACHE), "Where results are kept and how many."),
        field("dist", Kind::Elsewhere, "Archives to pack: see `spolia dist`."),
        field("perf", Kind::Elsewhere, "Thresholds of measurements: see `spolia perf`."),
        field("ci", Kind::Elsewhere, "Workflows to generate: see `spolia ci`."),
        field("sweep", Kind::Elsewhere, "What may be swept: see `spolia sweep`."),
        field("cc", Kind::Elsewhere, "The compiler cache: see `spolia cc`."),
    ],
    required: &[],
};

/// A file that is included.
pub(crate) const INCLUDED: Object = Object { fields: &[INCLUDE, PLATFORM, POOLS, STEPS], required: &[] };

const INCLUDE: Field = field(
    "include",
    Kind::Texts,
    "Other manifests, relative to this one. Each has steps, pools and platform variables.",
);
const PLATFORM: Field = field(
    "platform",
    Kind::PlatformTextMap,
    "Variables of a platform, used as `${platform.KEY}`; they add to and override the built-in ones.",
);
const POOLS: Field =
    field("pools", Kind::CountMap, "How many steps with `pool = \"NAME\"` run at the same time.");
const STEPS: Field = field("steps", Kind::TableMap(&STEP), "What to build, by name.");

/// `[project]`.
pub(crate) const PROJECT: Object = Object {
    fields: &[
        field("name", Kind::Text, "The project's name, for people."),
        field(
            "platforms",
            Kind::PlatformList,
            "What steps are built for where they do not say; this machine's platform if absent.",
        ),
    ],
    required: &[],
};

/// `[cache]`.
pub(crate) const CACHE: Object = Object {
    fields: &[
        field("remote", Kind::Text, "The address of a shared cache."),
        field("max-size", Kind::Size, "The least used results are removed above this size."),
        field("max-age", Kind::Duration, "Results that were not used for so long are removed."),
        field("min-free", Kind::Size, "More is removed where the store's disk has less room than this."),
        field("budget", Kind::Size, "Disk space for Spolia's store and the caches it looks after together."),
    ],
    required: &[],
};

/// `[variant.NAME]`.
pub(crate) const VARIANT: Object = Object {
    fields: &[
        field("env", Kind::TextMap, "Variables set for every step; they override the step's own."),
        field("platforms", Kind::PlatformList, "Only these of the project's platforms."),
        field("steps", Kind::TableMap(&OVERRIDE), "Fields of steps to replace; `env` is merged."),
    ],
    required: &[],
};

/// `[steps.NAME]`.
pub(crate) const STEP: Object = Object {
    fields: &[
        RUN,
        NEEDS,
        INPUTS,
        ENV,
        PASS_ENV,
        TOOLS,
        OUTPUTS,
        TO,
        SOURCE_FIELD,
        NETWORK,
        MOUNTS,
        TIMEOUT,
        RETRIES,
        POOL,
        ENGINE,
        BASE,
        SALT,
        field(
            "platforms",
            Kind::PlatformsOrAny,
            "What it is built for: all the project's platforms if absent; `any` is once for all.",
        ),
        field(
            "platform",
            Kind::PlatformMap(&OVERRIDE),
            "Fields to replace on one platform; `env` is merged.",
        ),
    ],
    required: &["outputs"],
};

/// `[steps.NAME.platform."…"]`, `[variant.NAME.steps.NAME]`.
pub(crate) const OVERRIDE: Object = Object {
    fields: &[
        RUN,
        NEEDS,
        INPUTS,
        ENV,
        PASS_ENV,
        TOOLS,
        OUTPUTS,
        TO,
        SOURCE_FIELD,
        NETWORK,
        MOUNTS,
        TIMEOUT,
        RETRIES,
        POOL,
        ENGINE,
        BASE,
        SALT,
    ],
    required: &[],
};

/// Keys of steps that a container builds: known, and refused in words of their own.
pub(crate) const CONTAINER_KEYS: &[&str] = &["dockerfile", "contexts", "export"];

const RUN: Field = field(
    "run",
    Kind::TextOrTexts,
    "What to do: a string for `/bin/sh -euc`, a list to run without a shell.",
);
const NEEDS: Field =
    field("needs", Kind::Texts, "Steps whose outputs it uses, as `${step.NAME}`; they run before it.");
const INPUTS: Field = field(
    "inputs",
    Kind::Texts,
    "The project's files it sees: gitignore-style patterns relative to this file; `!` takes out.",
);
const ENV: Field = field("env", Kind::TextMap, "Variables set for it.");
const PASS_ENV: Field =
    field("pass-env", Kind::Texts, "Variables of the caller that it sees; their values are part of its key.");
const TOOLS: Field = field("tools", Kind::Texts, "Programs it calls; what they are is part of its key.");
const OUTPUTS: Field = field(
    "outputs",
    Kind::TextOrTableList(&OUTPUT),
    "What it makes, relative to `${out}`; an empty list for a check.",
);
const TO: Field = field(
    "to",
    Kind::Text,
    "Where its outputs are put, relative to this file; `.spolia/out/STEP/PLATFORM` if absent.",
);
const SOURCE_FIELD: Field =
    field("source", Kind::Table(&SOURCE), "What it fetches: its one output must have this digest.");
const NETWORK: Field = field("network", Kind::Flag, "Whether it reaches the network.");
const MOUNTS: Field =
    field("mounts", Kind::TableList(&MOUNT), "Folders that outlive it: the caches of the tools it calls.");
const TIMEOUT: Field = field("timeout", Kind::Duration, "When it is stopped.");
const RETRIES: Field = field("retries", Kind::Number(0, RETRIES_MAX), "How often it is tried again.");
const POOL: Field = field("pool", Kind::Text, "The pool of `[pools]` it runs in.");
const ENGINE: Field = field(
    "engine",
    Kind::Choice(ENGINES),
    "`sandbox` shows it the declared inputs only; `host` runs it in your tree.",
);
const BASE: Field = field(
    "base",
    Kind::Choice(BASES),
    "What of the system is in its key: with `strict`, all installed packages.",
);
const SALT: Field = field("salt", Kind::Text, "A word that is part of its key: change it to run it again.");

/// An item of `outputs`.
pub(crate) const OUTPUT: Object = Object {
    fields: &[
        field("path", Kind::Text, "A file or a folder, relative to `${out}`."),
        field("allow-empty", Kind::Flag, "Whether it may be empty."),
        field("any-machine", Kind::Flag, "Whether programs in it may be for another processor."),
    ],
    required: &["path"],
};

/// An item of `mounts`.
pub(crate) const MOUNT: Object = Object {
    fields: &[
        field("id", Kind::Text, "Its name."),
        field("path", Kind::Text, "Where the step sees it: absolute."),
        field("sharing", Kind::Choice(SHARINGS), "Who may use it at once; `shared` if absent."),
        field("scope", Kind::Choice(SCOPES), "What it belongs to; `platform` if absent."),
    ],
    required: &["id", "path"],
};

/// `source`.
pub(crate) const SOURCE: Object = Object {
    fields: &[
        field("name", Kind::Text, "The project's own name."),
        field("version", Kind::Text, "Its version."),
        field("sha256", Kind::Text, "The SHA-256 of the one output: 64 hexadecimal digits."),
        field("licence", Kind::Text, "Its licence as an SPDX expression."),
        field("license", Kind::Text, "Another spelling of `licence`."),
    ],
    required: &["name", "version", "sha256"],
};
