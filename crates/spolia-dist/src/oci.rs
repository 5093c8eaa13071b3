//! `archives → OCI image layout`: one image for each platform with one layer of the same files, in one tar that
//! `skopeo copy oci-archive:…` reads.
//!
//! ```text
//! oci-layout                    { imageLayoutVersion: "1.0.0" }
//! index.json                    one descriptor, of an index with one manifest for each platform
//! blobs/sha256/<hex>            that index, manifests, configs, layers
//! ```
//!
//! Source: OCI image specification 1.0, image-layout.md, manifest.md, config.md.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use spolia_core::{Digest, Platform, RelPath};

use crate::archive::{Format, Written};
use crate::error::DistError;
use crate::facts::Facts;
use crate::manifest::{Checksum, Dist, OciConf};
use crate::pack::{Packing, pack};
use crate::plan::{Kind, Member, Origin, PLAIN, PlatformPlan, with_parents};

const MANIFEST_TYPE: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG_TYPE: &str = "application/vnd.oci.image.config.v1+json";
const LAYER_TYPE: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
const INDEX_TYPE: &str = "application/vnd.oci.image.index.v1+json";

/// What becomes of images.
pub struct Layout<'l> {
    /// The table.
    pub dist: &'l Dist,
    /// Its part on images.
    pub conf: &'l OciConf,
    /// Commit and time.
    pub facts: &'l Facts,
    /// The folder where archives have been put together.
    pub stage: &'l Path,
}

impl Layout<'_> {
    /// The plan of the layout's own archive. Its blobs are put into a folder of the stage.
    ///
    /// # Errors
    /// The disk's.
    pub fn plan(
        &self,
        archive: &str,
        archives: &[(&PlatformPlan, &Written)],
        how: &Packing<'_>,
    ) -> Result<PlatformPlan, DistError> {
        let folder = self.stage.join(".oci");
        std::fs::create_dir_all(&folder).map_err(|source| DistError::io("create", &folder, source))?;
        let mut blobs: BTreeMap<String, (PathBuf, u64)> = BTreeMap::new();
        let mut images = Vec::new();
        for (plan, written) in archives {
            let Platform::Named { os, arch } = &plan.platform else { continue };
            let (layer, diff_id) = self.layer(plan, written, &folder, &mut blobs, how)?;
            let (arch, variant) = match arch.split_once('/') {
                Some((arch, variant)) => (arch, Some(variant)),
                None => (arch.as_str(), None),
            };
            let mut platform = json!({ "architecture": arch, "os": os });
            if let Some(variant) = variant {
                platform["variant"] = json!(variant);
            }
            let mut config = platform.clone();
            config["created"] = json!(self.facts.rfc3339());
            config["config"] = match self.conf.entrypoint.is_empty() {
                true => json!({}),
                false => json!({ "Entrypoint": self.conf.entrypoint }),
            };
            config["rootfs"] = json!({ "type": "layers", "diff_ids": [format!("sha256:{diff_id}")] });
            let config = self.blob(CONFIG_TYPE, &config, &folder, &mut blobs)?;
            let manifest = json!({
                "schemaVersion": 2, "mediaType": MANIFEST_TYPE, "config": config, "layers": [layer],
            });
            let mut image = self.blob(MANIFEST_TYPE, &manifest, &folder, &mut blobs)?;
            image["platform"] = platform;
            images.push(image);
        }
        let index = json!({ "schemaVersion": 2, "mediaType": INDEX_TYPE, "manifests": images });
        // One image as engines see it, which is several: they choose by their platform.
        let mut entry = self.blob(INDEX_TYPE, &index, &folder, &mut blobs)?;
        let tag = self.facts.version.clone().unwrap_or_else(|| self.dist.name.clone());
        entry["annotations"] = json!({ "org.opencontainers.image.ref.name": tag });
        let index = json!({ "schemaVersion": 2, "mediaType": INDEX_TYPE, "manifests": [entry] });
        let mut members: BTreeMap<RelPath, Member> = BTreeMap::new();
        for (name, value) in [("index.json", index), ("oci-layout", json!({ "imageLayoutVersion": "1.0.0" }))]
        {
            let bytes = serde_json::to_vec(&value).unwrap_or_default();
            let at = folder.join(name);
            std::fs::write(&at, &bytes).map_err(|source| DistError::io("write", &at, source))?;
            add(&mut members, name, Digest::blake3(&bytes), bytes.len() as u64, at);
        }
        for (hex, (at, size)) in blobs {
            let (_, blake3, _) = sums(&at)?;
            add(&mut members, &format!("blobs/sha256/{hex}"), blake3, size, at);
        }
        let members = with_parents(members).into_values().collect();
        Ok(PlatformPlan {
            platform: Platform::Any,
            archive: archive.to_owned(),
            format: Format::Tar,
            members,
        })
    }

    /// The layer's descriptor, and the digest of the tar in it.
    fn layer(
        &self,
        plan: &PlatformPlan,
        written: &Written,
        folder: &Path,
        blobs: &mut BTreeMap<String, (PathBuf, u64)>,
        how: &Packing<'_>,
    ) -> Result<(Value, String), DistError> {
        let own;
        let (written, at) = if plan.format == Format::TarGz {
            (written, self.stage.join(&plan.archive))
        } else {
            let name = format!("{}.layer.tar.gz", plan.platform.to_string().replace('/', "-"));
            let layer = PlatformPlan { archive: name.clone(), format: Format::TarGz, ..plan.clone() };
            let dist = Dist { level: None, ..self.dist.clone() };
            own = pack(&dist, &layer, self.facts.epoch, &[Checksum::Sha256], folder, how)?;
            (&own, folder.join(name))
        };
        let hex = written.sums.sha256.to_hex();
        blobs.insert(hex.clone(), (at, written.sums.size));
        let diff_id = written.tar_sha256.map(|digest| digest.to_hex()).unwrap_or_default();
        let layer =
            json!({ "mediaType": LAYER_TYPE, "digest": format!("sha256:{hex}"), "size": written.sums.size });
        Ok((layer, diff_id))
    }

    fn blob(
        &self,
        kind: &str,
        value: &Value,
        folder: &Path,
        blobs: &mut BTreeMap<String, (PathBuf, u64)>,
    ) -> Result<Value, DistError> {
        let bytes = serde_json::to_vec(value).unwrap_or_default();
        let hex = Digest::sha256(&bytes).to_hex();
        let at = folder.join(&hex);
        std::fs::write(&at, &bytes).map_err(|source| DistError::io("write", &at, source))?;
        blobs.insert(hex.clone(), (at, bytes.len() as u64));
        Ok(json!({ "mediaType": kind, "digest": format!("sha256:{hex}"), "size": bytes.len() }))
    }
}

fn add(members: &mut BTreeMap<RelPath, Member>, path: &str, digest: Digest, size: u64, at: PathBuf) {
    let Ok(path) = RelPath::new(path) else { return };
    let kind = Kind::File { digest, size, at };
    members.insert(path.clone(), Member { path, mode: PLAIN, kind, origin: Origin::Made });
}

fn sums(at: &Path) -> Result<((), Digest, u64), DistError> {
    let failed = |source: std::io::Error| DistError::io("read", at, source);
    let mut file = std::fs::File::open(at).map_err(failed)?;
    let sums = crate::checksums::of(&mut file, &[Checksum::Blake3]).map_err(failed)?;
    let hex = sums.hex.get(&Checksum::Blake3).cloned().unwrap_or_default();
    let digest = Digest::from_hex(spolia_core::DigestFunction::Blake3, &hex)
        .map_err(|error| failed(std::io::Error::other(error)))?;
    Ok(((), digest, sums.size))
}
