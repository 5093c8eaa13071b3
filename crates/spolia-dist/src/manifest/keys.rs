//! The keys of `[dist.NAME]`, once: the reader takes its lists from here and the JSON Schema is made of it.

use serde_json::{Map, Value, json};

/// A key, what it takes (as JSON Schema), and a sentence for editors.
pub(super) struct Key {
    pub(super) name: &'static str,
    schema: fn() -> Value,
    doc: &'static str,
}

const fn key(name: &'static str, schema: fn() -> Value, doc: &'static str) -> Key {
    Key { name, schema, doc }
}

fn text() -> Value {
    json!({ "type": "string", "minLength": 1 })
}

fn any_text() -> Value {
    json!({ "type": "string" })
}

fn flag() -> Value {
    json!({ "type": "boolean" })
}

fn texts() -> Value {
    json!({ "type": "array", "items": text() })
}

fn platforms() -> Value {
    let platform = "^([a-z0-9_]+/[a-z0-9_]+(/[a-z0-9_]+)?|any)$";
    json!({ "type": "array", "items": { "type": "string", "pattern": platform }, "minItems": 1 })
}

fn checksums() -> Value {
    let names: Vec<&str> = super::Checksum::ALL.iter().map(|sum| sum.name()).collect();
    json!({ "type": "array", "items": { "enum": names } })
}

fn level() -> Value {
    json!({ "type": "integer", "minimum": 0, "maximum": 22 })
}

fn files() -> Value {
    json!({ "type": "object", "additionalProperties": { "oneOf": [text(), table(FILE)] } })
}

fn overrides() -> Value {
    json!({ "type": "object", "additionalProperties": table(OVERRIDE) })
}

fn legacy() -> Value {
    table(LEGACY)
}

fn sources() -> Value {
    let mut schema = table(SOURCES);
    schema["required"] = json!(["archive"]);
    schema
}

fn rust() -> Value {
    json!({ "type": "object", "additionalProperties": { "oneOf": [text(), table(RUST)] } })
}

fn sboms() -> Value {
    let names: Vec<&str> = super::Sbom::ALL.iter().map(|sbom| sbom.name()).collect();
    json!({ "type": "array", "items": { "enum": names } })
}

fn oci() -> Value {
    let mut schema = table(OCI);
    schema["required"] = json!(["archive"]);
    json!({ "oneOf": [text(), schema] })
}

/// `[dist.NAME]`.
pub(super) const DIST: &[Key] = &[
    ARCHIVE,
    ROOT,
    FILES,
    FOLDERS,
    key("licences", texts, "Licence files of the tree, put beside the other files under their own names."),
    key("licenses", texts, "Another spelling of `licences`."),
    key("platforms", platforms, "What it is packed for: all the project's platforms if absent."),
    key("platform", overrides, "Keys to replace on one platform; `files` is merged."),
    key("to", text, "The folder the release is written to; `dist` if absent."),
    key("version", text, "The version, for names and manifests, as `${version}`."),
    key("version-file", text, "A file of the tree whose first line is the version."),
    key("level", level, "How hard it is compressed; each format has its own default."),
    key(
        "checksums",
        checksums,
        "Sums written to a file of their own beside each file, besides `SHA256SUMS`.",
    ),
    key("legacy", legacy, "Forms that older consumers expect."),
    key("sources", sources, "One archive with the third-party sources of all that ships, and an index."),
    key(
        "sbom",
        sboms,
        "Bills of material: `cyclonedx` writes `NAME.cdx.json`, `spdx` writes `NAME.spdx.json`.",
    ),
    key("provenance", flag, "Whether `NAME.intoto.json` says what the files were made from."),
    key("oci", oci, "An OCI image layout of the same files, as one tar."),
    key("any-machine", flag, "Whether programs in it may be for another processor."),
];

/// `[dist.NAME.platform."…"]`.
pub(super) const OVERRIDE: &[Key] = &[ARCHIVE, ROOT, FILES, FOLDERS];

const ARCHIVE: Key = key(
    "archive",
    text,
    "The archive's name, with `${platform.suffix}`, `${version}`, `${commit}`; its ending is the format: `.tar.gz`, \
     `.tgz`, `.tar.zst`, `.tar.xz`, `.zip`, `.tar`.",
);
const ROOT: Key = key("root", any_text, "The folder in the archive that all is in.");
const FILES: Key = key(
    "files",
    files,
    "Path in the archive = what goes there: `step:NAME/PATH`, or a pattern over the tree. A path with a final `/` is a \
     folder to put it in.",
);
const FOLDERS: Key = key("folders", texts, "Folders that are there even where nothing is in them.");

/// A value of `files`.
pub(super) const FILE: &[Key] =
    &[key("from", text, "What goes there."), key("mode", mode, "The mode of files: four octal digits.")];

fn mode() -> Value {
    json!({ "type": "string", "pattern": "^0[0-7]{3}$" })
}

/// `legacy`.
pub(super) const LEGACY: &[Key] = &[
    key(
        "manifest",
        flag,
        "`manifest.json` has the four fields version, date, time, commit; the full one is `manifest.v1.json`.",
    ),
    key("md5", text, "Ending of a file beside each archive with a line of `md5sum`, such as `.md5.txt`."),
];

/// `sources`.
pub(super) const SOURCES: &[Key] = &[
    key("archive", text, "The archive's name, with `${version}` and `${commit}`; its ending is the format."),
    key("md5", text, "Ending of a file beside it with a line of `md5sum`, such as `.md5`."),
    key("fetched", texts, "Steps whose outputs are sources as they were fetched: from pip, npm, apt."),
    key("rust", rust, "Steps that build a Rust package = its Cargo.toml: the crates it links are bundled."),
    key("go", texts, "Steps that build Go programs: the modules they were linked from are bundled."),
];

/// `oci`.
pub(super) const OCI: &[Key] = &[
    key("archive", text, "The layout's name, with `${version}` and `${commit}`; it ends in `.tar`."),
    key("entrypoint", texts, "The program an image runs, and its arguments."),
];

/// A value of `rust`.
pub(super) const RUST: &[Key] = &[
    key("manifest", text, "The Cargo.toml, relative to this file."),
    key("package", text, "The package's name, in a workspace."),
    key("features", texts, "Features besides the default ones."),
];

/// The names in a table.
pub(super) fn names(keys: &[Key]) -> Vec<&'static str> {
    keys.iter().map(|key| key.name).collect()
}

fn table(keys: &[Key]) -> Value {
    let properties: Map<String, Value> = keys
        .iter()
        .map(|key| {
            let mut schema = (key.schema)();
            schema["description"] = json!(key.doc);
            (key.name.to_owned(), schema)
        })
        .collect();
    json!({ "type": "object", "properties": properties, "additionalProperties": false })
}

/// The schema of `[dist]`.
pub fn schema() -> Value {
    let mut one = table(DIST);
    one["required"] = json!(["archive"]);
    json!({
        "type": "object",
        "description": "Archives to pack: see `spolia dist`.",
        "additionalProperties": one,
    })
}
