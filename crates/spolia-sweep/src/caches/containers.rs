//! How much container tools say they hold: `what they print → bytes`. Knows no process.

use std::collections::{HashMap, HashSet};

/// `1.5GB`, `512kB`, `0B`, as Docker, Podman and BuildKit write it.
fn container_size(text: &str) -> Option<u64> {
    let text = text.trim();
    let at = text.find(|letter: char| !letter.is_ascii_digit() && letter != '.').unwrap_or(text.len());
    let number: f64 = text[..at].parse().ok()?;
    let unit: f64 = match text[at..].trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1.0,
        "kb" => 1e3,
        "mb" => 1e6,
        "gb" => 1e9,
        "tb" => 1e12,
        "kib" => 1024.0,
        "mib" => 1_048_576.0,
        "gib" => 1_073_741_824.0,
        "tib" => 1_099_511_627_776.0,
        _ => return None,
    };
    let bytes = number * unit;
    (bytes.is_finite() && (0.0..9e18).contains(&bytes)).then_some(bytes as u64)
}

fn row_bytes(said: &str, kind: &str) -> Option<u64> {
    for line in said.lines().filter(|line| !line.trim().is_empty()) {
        let row: serde_json::Value = serde_json::from_str(line).ok()?;
        if row["Type"].as_str() == Some(kind) {
            return container_size(row["Size"].as_str()?);
        }
    }
    None
}

/// Of `docker system df --format '{{json .}}'`.
pub(super) fn build_cache_bytes(said: &str) -> Option<u64> {
    row_bytes(said, "Build Cache")
}

/// Of `podman images --all --format json`: what `podman image prune` removes, which is every layer that no image with a
/// name and no container stands on. A size there is that of an image with all that it stands on, so that a sum of
/// them, as `podman system df` has it before Podman 5, counts the lowest layer once for every step.
pub(super) fn unnamed_bytes(said: &str) -> Option<u64> {
    #[derive(serde::Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Image {
        id: String,
        #[serde(default)]
        parent_id: String,
        size: u64,
        #[serde(default)]
        names: Option<Vec<String>>,
        #[serde(default)]
        containers: i64,
        #[serde(default)]
        read_only: bool,
    }
    let images: Vec<Image> = serde_json::from_str(said).ok()?;
    let by_id: HashMap<&str, &Image> = images.iter().map(|image| (image.id.as_str(), image)).collect();
    let mut kept: HashSet<&str> = HashSet::new();
    for image in &images {
        if image.names.as_ref().is_none_or(Vec::is_empty) && image.containers <= 0 && !image.read_only {
            continue;
        }
        let mut next = Some(image);
        while let Some(image) = next.filter(|image| kept.insert(&image.id)) {
            next = by_id.get(image.parent_id.as_str()).copied();
        }
    }
    let own = |image: &Image| {
        let below = by_id.get(image.parent_id.as_str()).map_or(0, |parent| parent.size);
        image.size.saturating_sub(below)
    };
    let gone = images.iter().filter(|image| !kept.contains(image.id.as_str())).map(own);
    Some(gone.fold(0, u64::saturating_add))
}

/// Of `buildctl du`.
pub(super) fn total_bytes(said: &str) -> Option<u64> {
    let line = said.lines().rfind(|line| line.starts_with("Total:"))?;
    container_size(line.trim_start_matches("Total:"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_of_containers_are_read() {
        let check = |text: &str, expect: Option<u64>| assert_eq!(container_size(text), expect, "{text}");
        check("0B", Some(0));
        check("1.5GB", Some(1_500_000_000));
        check("512kB", Some(512_000));
        check("2 MiB", Some(2_097_152));
        check("", None);
        check("x", None);
        check("1e999GB", None);
        check("12 parsecs", None);
        let said = "{\"Type\":\"Images\",\"Size\":\"1GB\"}\n{\"Type\":\"Build Cache\",\"Size\":\"3MB\"}\n";
        assert_eq!(build_cache_bytes(said), Some(3_000_000));
        assert_eq!(build_cache_bytes("no"), None);
        assert_eq!(total_bytes("ID x\nReclaimable:\t1GB\nTotal:\t2GB\n"), Some(2_000_000_000));
    }

    #[test]
    fn podman_holds_what_no_image_with_a_name_stands_on() {
        // As Podman 4.3 and 5.4 print it after a build of two stages, cut to what is read and more.
        let image = |id: &str, parent: &str, size: u64, more: &str| {
            format!(
                "{{\"Id\":\"{id}\",\"ParentId\":\"{parent}\",\"RepoTags\":null,\"Size\":{size},\"SharedSize\":0{more}}}"
            )
        };
        let check = |images: &[String], expect: u64| {
            let said = format!("[{}]\n", images.join(","));
            assert_eq!(unnamed_bytes(&said), Some(expect), "{said}");
        };
        let stage = [
            image("d5", "e4", 10_994_874, ",\"Containers\":0,\"Dangling\":true"),
            image("e4", "f5", 4_988_578, ",\"Containers\":0"),
            image("f5", "", 1_986_007, ",\"Containers\":0"),
        ];
        let named = image("4f", "", 6_003_156, ",\"Names\":[\"localhost/a:latest\"],\"Containers\":0");
        check(&stage, 10_994_874);
        check(&[stage.to_vec(), vec![named]].concat(), 10_994_874);
        // What an image with a name or a container stands on stays with it.
        check(
            &[stage.to_vec(), vec![image("aa", "e4", 5_000_000, ",\"Names\":[\"b\"]")]].concat(),
            6_006_296,
        );
        check(&[stage.to_vec(), vec![image("aa", "d5", 11_000_000, ",\"Containers\":1")]].concat(), 0);
        check(&[], 0);
        // A ring cannot be, and ends all the same.
        check(&[image("a", "b", 5, ",\"Names\":[\"x\"]"), image("b", "a", 5, "")], 0);
        for said in ["", "{}", "[{\"Id\":1}]", "Error: no"] {
            assert_eq!(unnamed_bytes(said), None, "{said}");
        }
    }
}
