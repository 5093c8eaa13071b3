//! Dockerfiles: the container tool is called, on the host, since it talks to a service of its own.

use super::Found;
use super::text::StepText;
use super::tree::Tree;

/// A step for every Dockerfile at the root or in a folder of its own.
pub(super) fn find(tree: &mut Tree<'_>) -> Found {
    let mut found = Found::default();
    for site in tree.sites(&["Dockerfile", "Containerfile"]) {
        let file = if site.has("Dockerfile") { "Dockerfile" } else { "Containerfile" };
        found.notes.push(format!(
            "Docker{}: pin base images by digest; what the build fetches is not seen by Spolia",
            site.place()
        ));
        let ignored = tree.read(&site, ".dockerignore").unwrap_or_default();
        if !ignored.lines().any(|line| line.trim().trim_end_matches('/') == ".spolia") {
            found.notes.push(format!("Docker{}: put `.spolia` into .dockerignore", site.place()));
        }
        found.steps.push(StepText {
            comments: vec![
                "The container tool works outside the sandbox. Its result is the image's id; the image"
                    .to_owned(),
                "itself is where the tool keeps it. Narrow `inputs` to what the Dockerfile copies."
                    .to_owned(),
            ],
            name: site.step_name("image"),
            run: site.script([format!("docker build --file {file} --iidfile \"${{out}}/image.id\" .")]),
            inputs: site.everything(),
            // Which daemon, and how to log in.
            pass_env: vec!["DOCKER_HOST", "DOCKER_CONTEXT", "DOCKER_CONFIG", "DOCKER_BUILDKIT"],
            tools: vec!["docker".to_owned()],
            outputs: vec!["image.id".to_owned()],
            network: true,
            host: true,
            ..StepText::default()
        });
    }
    found
}
