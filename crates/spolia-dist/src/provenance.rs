//! `record + sources → in-toto Statement v1 with an SLSA v1 predicate`: which files there are, and from what, by which
//! program, they were made. What varies from run to run is not in it.
//!
//! Sources: in-toto attestation framework, `spec/v1/statement.md`; slsa.dev, `provenance/v1`.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::record::Record;
use crate::sources::Item;

/// What is built how: this module and the guide are its description.
pub const BUILD_TYPE: &str = "urn:spolia:dist:v1";
/// The type of the statement.
pub const STATEMENT: &str = "https://in-toto.io/Statement/v1";
/// The type of its predicate.
pub const PREDICATE: &str = "https://slsa.dev/provenance/v1";

/// The part of a statement that is checked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Statement {
    /// [`STATEMENT`].
    #[serde(rename = "_type")]
    pub kind: String,
    /// The files it is about.
    pub subject: Vec<Subject>,
    /// [`PREDICATE`].
    #[serde(rename = "predicateType")]
    pub predicate_type: String,
}

/// One file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subject {
    /// Its name.
    pub name: String,
    /// Its digests by function.
    pub digest: std::collections::BTreeMap<String, String>,
}

/// The statement. `subjects` are names and SHA-256 of every file it is about.
pub fn statement(record: &Record, sources: &[Item], subjects: &[(String, String)]) -> Value {
    let mut materials = Vec::new();
    if let Some(commit) = &record.commit_id {
        materials.push(json!({ "name": "tree", "digest": { "gitCommit": commit } }));
    }
    for item in sources {
        let name = format!("{} {}", item.name, item.version.as_deref().unwrap_or_default());
        materials.push(json!({
            "name": name.trim(),
            "digest": { "sha256": item.sha256 },
        }));
    }
    let steps: Vec<Value> = record
        .steps
        .iter()
        .map(|step| json!({ "step": step.step, "platform": step.platform, "action": step.action, "tools": step.tools }))
        .collect();
    let platforms: Vec<_> = record.platforms.iter().map(|platform| &platform.platform).collect();
    let subjects: Vec<Value> = subjects
        .iter()
        .map(|(name, sha256)| json!({ "name": name, "digest": { "sha256": sha256 } }))
        .collect();
    json!({
        "_type": STATEMENT,
        "subject": subjects,
        "predicateType": PREDICATE,
        "predicate": {
            "buildDefinition": {
                "buildType": BUILD_TYPE,
                "externalParameters": { "dist": record.name, "platforms": platforms, "version": record.version },
                "internalParameters": { "steps": steps, "dirty": record.dirty, "source_date_epoch": record.source_date_epoch },
                "resolvedDependencies": materials,
            },
            "runDetails": {
                "builder": { "id": "urn:spolia:builder", "version": { "spolia": record.spolia } },
            },
        },
    })
}
