//! `Graph → dot`: one node for each step and platform, an arrow from what is needed to who needs it.

use spolia_build::{Graph, NodeId};

use super::Kind;

/// The text.
pub(super) fn draw(graph: &Graph<'_>, selected: &[NodeId]) -> String {
    let mut text =
        String::from("digraph spolia {\n  rankdir=LR;\n  node [shape=box, fontname=\"sans-serif\"];\n");
    for id in selected {
        let node = graph.node(*id);
        let style = match Kind::of(node.body) {
            Kind::Build => "",
            Kind::Fetch => ", style=rounded",
            Kind::Check => ", style=dashed",
        };
        let label = match node.id.platform {
            spolia_core::Platform::Any => quoted(&node.id.step),
            _ => quoted(&format!("{}\n{}", node.id.step, node.id.platform)),
        };
        text.push_str(&format!("  {} [label={label}{style}];\n", quoted(&node.id.to_string())));
    }
    for id in selected {
        let node = graph.node(*id);
        for need in &node.needs {
            let need = quoted(&graph.node(*need).id.to_string());
            text.push_str(&format!("  {need} -> {};\n", quoted(&node.id.to_string())));
        }
    }
    text.push_str("}\n");
    text
}

fn quoted(text: &str) -> String {
    let escaped = text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
    format!("\"{escaped}\"")
}
