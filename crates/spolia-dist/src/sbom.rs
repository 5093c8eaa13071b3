//! `record + sources → bills of material`: CycloneDX 1.5 and SPDX 2.3 as JSON. Both say the same: which archives there are,
//! which files are in them, and from which third-party sources they were made.
//!
//! Sources: ECMA-424 (CycloneDX), ISO/IEC 5962 (SPDX 2.2.1) and the SPDX 2.3 specification.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};
use spolia_core::Digest;

use crate::facts::Facts;
use crate::record::{MemberRecord, Record};
use crate::sources::{Item, SourceKind};

/// What both are made of.
pub struct Bill<'b> {
    /// The manifest.
    pub record: &'b Record,
    /// The sources.
    pub sources: &'b [Item],
    /// Commit and time.
    pub facts: &'b Facts,
    /// Names the release: two different ones never have one.
    pub key: Digest,
}

/// A licence as SPDX writes it; `None` where it is no SPDX expression.
pub fn expression(licence: &str) -> Option<String> {
    // Cargo's old form.
    let text = licence.replace('/', " OR ");
    spdx::Expression::parse(&text).ok().map(|_| text)
}

/// Package URL (purl-spec) of a source.
fn purl(item: &Item) -> String {
    let version = item.version.as_deref().map(|version| format!("@{}", percent(version))).unwrap_or_default();
    match item.kind {
        SourceKind::Crate => format!("pkg:cargo/{}{version}", percent(&item.name)),
        SourceKind::GoModule => {
            let path: Vec<String> = item.name.split('/').map(percent).collect();
            format!("pkg:golang/{}{version}", path.join("/"))
        }
        SourceKind::Declared | SourceKind::Fetched => {
            format!("pkg:generic/{}{version}?checksum=sha256:{}", percent(&item.name), item.sha256)
        }
    }
}

fn percent(text: &str) -> String {
    let mut encoded = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b".-_~".contains(&byte) {
            encoded.push(byte as char);
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

impl Bill<'_> {
    /// Version 8 of RFC 9562: the first bytes of the release's key.
    fn uuid(&self) -> String {
        let mut raw = [0u8; 16];
        raw.copy_from_slice(&self.key.as_bytes()[..16]);
        raw[6] = raw[6] & 0x0f | 0x80;
        raw[8] = raw[8] & 0x3f | 0x80;
        let hex: String = raw.iter().map(|byte| format!("{byte:02x}")).collect();
        format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
    }

    /// For each step of the release, every step that it was made from, itself among them.
    fn made_from(&self) -> BTreeMap<String, BTreeSet<String>> {
        let shown = |step: &str, platform: &str| match platform {
            "any" => step.to_owned(),
            platform => format!("{step} ({platform})"),
        };
        let needs: BTreeMap<String, &Vec<String>> = self
            .record
            .steps
            .iter()
            .map(|step| (shown(&step.step, &step.platform.to_string()), &step.needs))
            .collect();
        let mut all = BTreeMap::new();
        for name in needs.keys() {
            let mut seen = BTreeSet::new();
            let mut open = vec![name.clone()];
            while let Some(one) = open.pop() {
                if seen.insert(one.clone()) {
                    open.extend(needs.get(&one).into_iter().flat_map(|needs| needs.iter().cloned()));
                }
            }
            let plain = |name: &String| name.split(" (").next().unwrap_or(name).to_owned();
            all.insert(name.clone(), seen.iter().map(plain).collect());
        }
        all
    }

    /// The sources of a file, by place in the list.
    fn sources_of(&self, file: &MemberRecord, made_from: &BTreeMap<String, BTreeSet<String>>) -> Vec<usize> {
        let (Some(step), Some(platform)) = (&file.step, &file.platform) else { return Vec::new() };
        let name = match platform {
            spolia_core::Platform::Any => step.clone(),
            platform => format!("{step} ({platform})"),
        };
        let Some(steps) = made_from.get(&name) else { return Vec::new() };
        let uses = |item: &Item| item.steps.iter().any(|step| steps.contains(step));
        self.sources.iter().enumerate().filter(|(_, item)| uses(item)).map(|(at, _)| at).collect()
    }

    /// CycloneDX 1.5.
    pub fn cyclonedx(&self) -> Value {
        let Record { name, version, spolia, platforms, .. } = self.record;
        let made_from = self.made_from();
        let mut components = Vec::new();
        let mut dependencies = Vec::new();
        let mut roots = Vec::new();
        let source_ref = |at: usize| format!("source:{}", self.sources[at].path);
        for platform in platforms {
            let archive = format!("archive:{}", platform.archive.name);
            let mut inside = Vec::new();
            components.push(json!({
                "type": "file",
                "bom-ref": archive,
                "name": platform.archive.name,
                "hashes": [{ "alg": "SHA-256", "content": platform.archive.sums.get("sha256") }],
            }));
            for file in platform.files.iter().filter(|file| file.sha256.is_some()) {
                let reference = format!("file:{}:{}", platform.archive.name, file.path);
                components.push(json!({
                    "type": "file",
                    "bom-ref": reference,
                    "name": file.path.to_string(),
                    "hashes": [{ "alg": "SHA-256", "content": file.sha256 }],
                }));
                let from: Vec<String> =
                    self.sources_of(file, &made_from).into_iter().map(source_ref).collect();
                dependencies.push(json!({ "ref": reference, "dependsOn": from }));
                inside.push(reference);
            }
            dependencies.push(json!({ "ref": archive, "dependsOn": inside }));
            roots.push(archive);
        }
        for (at, item) in self.sources.iter().enumerate() {
            let mut component = json!({
                "type": "library",
                "bom-ref": source_ref(at),
                "name": item.name,
                "hashes": [{ "alg": "SHA-256", "content": item.sha256 }],
                "purl": purl(item),
            });
            if let Some(version) = &item.version {
                component["version"] = json!(version);
            }
            if let Some(licence) = &item.licence {
                component["licenses"] = match expression(licence) {
                    Some(expression) => json!([{ "expression": expression }]),
                    None => json!([{ "license": { "name": licence } }]),
                };
            }
            components.push(component);
            dependencies.push(json!({ "ref": source_ref(at) }));
        }
        dependencies.push(json!({ "ref": "release", "dependsOn": roots }));
        let mut release = json!({ "type": "application", "bom-ref": "release", "name": name });
        if let Some(version) = version {
            release["version"] = json!(version);
        }
        json!({
            "$schema": "http://cyclonedx.org/schema/bom-1.5.schema.json",
            "bomFormat": "CycloneDX",
            "specVersion": "1.5",
            "serialNumber": format!("urn:uuid:{}", self.uuid()),
            "version": 1,
            "metadata": {
                "timestamp": self.facts.rfc3339(),
                "tools": { "components": [{ "type": "application", "name": "spolia", "version": spolia }] },
                "component": release,
            },
            "components": components,
            "dependencies": dependencies,
        })
    }

    /// SPDX 2.3. Files of an archive are not listed: SPDX asks for their SHA-1, which nobody should go by any more.
    pub fn spdx(&self) -> Value {
        let Record { name, version, spolia, platforms, .. } = self.record;
        let made_from = self.made_from();
        let mut packages = Vec::new();
        let mut relationships = Vec::new();
        let mut relate = |from: &str, kind: &str, to: &str| {
            relationships.push(json!({
                "spdxElementId": from, "relationshipType": kind, "relatedSpdxElement": to,
            }));
        };
        for (at, platform) in platforms.iter().enumerate() {
            let id = format!("SPDXRef-Archive-{at}");
            packages.push(json!({
                "SPDXID": id,
                "name": platform.archive.name,
                "versionInfo": version.clone().unwrap_or_else(|| "NOASSERTION".to_owned()),
                "packageFileName": platform.archive.name,
                "downloadLocation": "NOASSERTION",
                "filesAnalyzed": false,
                "checksums": [{ "algorithm": "SHA256", "checksumValue": platform.archive.sums.get("sha256") }],
                "licenseConcluded": "NOASSERTION",
                "licenseDeclared": "NOASSERTION",
                "copyrightText": "NOASSERTION",
                "primaryPackagePurpose": "ARCHIVE",
            }));
            relate("SPDXRef-DOCUMENT", "DESCRIBES", &id);
            let from: BTreeSet<usize> =
                platform.files.iter().flat_map(|file| self.sources_of(file, &made_from)).collect();
            for source in from {
                relate(&id, "GENERATED_FROM", &format!("SPDXRef-Source-{source}"));
            }
        }
        for (at, item) in self.sources.iter().enumerate() {
            let declared = item.licence.as_deref().and_then(expression);
            let mut package = json!({
                "SPDXID": format!("SPDXRef-Source-{at}"),
                "name": item.name,
                "downloadLocation": "NOASSERTION",
                "filesAnalyzed": false,
                "checksums": [{ "algorithm": "SHA256", "checksumValue": item.sha256 }],
                "licenseConcluded": "NOASSERTION",
                "licenseDeclared": declared.unwrap_or_else(|| "NOASSERTION".to_owned()),
                "copyrightText": "NOASSERTION",
                "externalRefs": [{
                    "referenceCategory": "PACKAGE-MANAGER",
                    "referenceType": "purl",
                    "referenceLocator": purl(item),
                }],
            });
            if let Some(version) = &item.version {
                package["versionInfo"] = json!(version);
            }
            packages.push(package);
        }
        json!({
            "spdxVersion": "SPDX-2.3",
            "dataLicense": "CC0-1.0",
            "SPDXID": "SPDXRef-DOCUMENT",
            "name": name,
            "documentNamespace": format!("https://spdx.org/spdxdocs/{}-{}", percent(name), self.uuid()),
            "creationInfo": {
                "created": self.facts.rfc3339(),
                "creators": [format!("Tool: spolia-{spolia}")],
            },
            "packages": packages,
            "relationships": relationships,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn licences_are_expressions_or_said_to_be_none() {
        assert_eq!(expression("MIT/Apache-2.0").unwrap(), "MIT OR Apache-2.0");
        assert_eq!(expression("BSD-3-Clause OR GPL-2.0-only").unwrap(), "BSD-3-Clause OR GPL-2.0-only");
        assert_eq!(expression("as you like"), None);
        assert_eq!(expression(""), None);
    }
}
