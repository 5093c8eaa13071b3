//! `spolia graph`: `Manifest → Graph → Sketch → text, dot, svg or JSON`. Reads no project file but the
//! manifest, and no store.

mod dot;
mod svg;
mod text;

use std::collections::BTreeMap;

use serde_json::json;
use spolia_build::manifest::{EngineKind, Manifest};
use spolia_build::{Graph, NodeId};
use spolia_core::Platform;

use super::build::failure;
use crate::cli::GraphArgs;
use crate::exit::{Exit, Failure};
use crate::project::Project;
use crate::settings::Settings;
use crate::shell::Shell;

/// Runs it.
pub(crate) fn run(args: &GraphArgs, settings: &Settings, shell: &Shell) -> Result<Exit, Failure> {
    let project = Project::load(settings, shell, args.variant.as_deref())?;
    let graph = Graph::new(&project.manifest).map_err(|error| failure(&error.into()))?;
    let selected = graph.select(&args.steps, &args.platform).map_err(|error| failure(&error.into()))?;
    if shell.is_json() {
        shell.json_line(&document(&project.manifest, &graph, &selected));
    } else if args.dot {
        shell.out(&dot::draw(&graph, &selected));
    } else if args.svg {
        shell.out(&svg::draw(&Sketch::new(&graph, &selected)));
    } else {
        shell.out(&text::draw(&Sketch::new(&graph, &selected)));
    }
    Ok(Exit::Success)
}

fn document(manifest: &Manifest, graph: &Graph<'_>, selected: &[NodeId]) -> serde_json::Value {
    let nodes = selected.iter().map(|id| {
        let node = graph.node(*id);
        let needs: Vec<_> = node.needs.iter().map(|need| &graph.node(*need).id).collect();
        let outputs = node.body.outputs.iter().map(|output| node.place.at.join(&output.path).to_string());
        json!({
            "step": node.id.step,
            "platform": node.id.platform,
            "kind": Kind::of(node.body).word(),
            "needs": needs,
            "published": node.place.at.to_string(),
            "outputs": outputs.collect::<Vec<_>>(),
            "engine": node.body.engine.map(|engine| match engine {
                EngineKind::Sandbox => "sandbox",
                EngineKind::Host => "host",
            }),
            "network": node.body.network,
            "pool": node.body.pool,
            "defined": { "file": node.step.defined.file.to_string(), "line": node.step.defined.line },
        })
    });
    json!({ "kind": "graph", "project": manifest.name, "nodes": nodes.collect::<Vec<_>>() })
}

/// What kind of step it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    /// Its key is a source's digest.
    Fetch,
    /// It has outputs.
    Build,
    /// It has none: its success is the result.
    Check,
}

impl Kind {
    fn of(body: &spolia_build::manifest::StepBody) -> Self {
        if body.source.is_some() {
            Self::Fetch
        } else if body.outputs.is_empty() {
            Self::Check
        } else {
            Self::Build
        }
    }

    fn word(self) -> &'static str {
        match self {
            Self::Fetch => "fetch",
            Self::Build => "build",
            Self::Check => "check",
        }
    }
}

/// The graph with the platforms of a step drawn together. Needed steps come first.
struct Sketch {
    steps: Vec<Drawn>,
}

/// One step.
struct Drawn {
    name: String,
    kind: Kind,
    platforms: Vec<Platform>,
    /// Where its outputs are published, with `${platform}` for a platform's name; none for a check.
    places: Vec<String>,
    /// What it needs, by place in the sketch, and for which platforms where not for all.
    needs: Vec<(usize, Option<Vec<Platform>>)>,
}

impl Sketch {
    fn new(graph: &Graph<'_>, selected: &[NodeId]) -> Self {
        let mut steps: Vec<Drawn> = Vec::new();
        let mut by_name: BTreeMap<&str, usize> = BTreeMap::new();
        // A step comes after all that any of its platforms needs: steps need steps, not platforms.
        for id in selected {
            let node = graph.node(*id);
            let at = *by_name.entry(&node.id.step).or_insert_with(|| {
                steps.push(Drawn {
                    name: node.id.step.clone(),
                    kind: Kind::of(node.body),
                    platforms: Vec::new(),
                    places: Vec::new(),
                    needs: Vec::new(),
                });
                steps.len() - 1
            });
            steps[at].platforms.push(node.id.platform.clone());
            if !node.body.outputs.is_empty() {
                // Places that differ by the platform's name only are one to look at.
                let place = node.place.at.to_string();
                let place = match node.id.platform {
                    Platform::Any => place,
                    _ => place.replace(&node.id.platform.to_string(), "${platform}"),
                };
                let place = if place.is_empty() { ".".to_owned() } else { place };
                if !steps[at].places.contains(&place) {
                    steps[at].places.push(place);
                }
            }
        }
        for (name, at) in &by_name {
            let mut needs: BTreeMap<usize, Vec<Platform>> = BTreeMap::new();
            for id in selected.iter().filter(|id| graph.node(**id).id.step == **name) {
                let node = graph.node(*id);
                for need in &node.needs {
                    let need = by_name[graph.node(*need).id.step.as_str()];
                    needs.entry(need).or_default().push(node.id.platform.clone());
                }
            }
            let all = steps[*at].platforms.len();
            steps[*at].needs = needs
                .into_iter()
                .map(|(need, platforms)| (need, (platforms.len() < all).then_some(platforms)))
                .collect();
        }
        Self { steps }
    }
}

/// `linux/amd64, linux/arm64`.
fn platform_list(platforms: &[Platform]) -> String {
    let names: Vec<String> = platforms.iter().map(ToString::to_string).collect();
    names.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A sketch of steps that need earlier ones by number.
    pub(super) fn sketch(needs: &[&[usize]]) -> Sketch {
        let steps = needs.iter().enumerate().map(|(at, needs)| Drawn {
            name: format!("step-{at}"),
            kind: Kind::Build,
            platforms: vec![Platform::Any],
            places: vec![format!("out/{at}")],
            needs: needs.iter().map(|need| (*need, None)).collect(),
        });
        Sketch { steps: steps.collect() }
    }

    #[test]
    fn the_tree_shows_each_step_once_in_full() {
        let expect = "\
step-3 → out/3
├── step-1 → out/1
│   └── step-0 → out/0
└── step-2 → out/2
    └── step-0 (above)
";
        assert_eq!(text::draw(&sketch(&[&[], &[0], &[0], &[1, 2]])), expect);
    }

    #[test]
    fn a_deep_chain_is_drawn_without_recursion() {
        let needs: Vec<Vec<usize>> =
            (0..20_000).map(|at| if at == 0 { vec![] } else { vec![at - 1] }).collect();
        let needs: Vec<&[usize]> = needs.iter().map(Vec::as_slice).collect();
        assert_eq!(text::draw(&sketch(&needs[..500])).lines().count(), 500);
        assert!(svg::draw(&sketch(&needs[..2000])).len() > 100_000);
    }
}
