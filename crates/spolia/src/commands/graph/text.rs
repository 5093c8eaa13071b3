//! `Sketch → tree of lines`: what nothing needs at the left, what it needs below it.

use super::{Kind, Sketch, platform_list};

/// The tree. A step that several need is drawn in full the first time.
pub(super) fn draw(sketch: &Sketch) -> String {
    let mut is_needed = vec![false; sketch.steps.len()];
    for (need, _) in sketch.steps.iter().flat_map(|step| &step.needs) {
        is_needed[*need] = true;
    }
    let mut text = String::new();
    let mut seen = vec![false; sketch.steps.len()];
    for root in (0..sketch.steps.len()).filter(|at| !is_needed[*at]) {
        tree(sketch, root, &mut seen, &mut text);
    }
    // Steps that need each other on different platforms have no root.
    for at in (0..sketch.steps.len()).rev() {
        if !seen[at] {
            tree(sketch, at, &mut seen, &mut text);
        }
    }
    text
}

/// One line to draw.
struct Pending {
    step: usize,
    /// What stands before the branch.
    prefix: String,
    /// Whether something follows on its level; `None` for a root.
    last: Option<bool>,
    only: String,
}

/// Draws from an own stack: a chain may be long.
fn tree(sketch: &Sketch, root: usize, seen: &mut [bool], text: &mut String) {
    let mut stack = vec![Pending { step: root, prefix: String::new(), last: None, only: String::new() }];
    while let Some(Pending { step, prefix, last, only }) = stack.pop() {
        let branch = match last {
            None => "",
            Some(false) => "├── ",
            Some(true) => "└── ",
        };
        text.push_str(&format!("{prefix}{branch}{}{only}\n", line(sketch, step, seen[step])));
        if std::mem::replace(&mut seen[step], true) {
            continue;
        }
        let below = match last {
            None => String::new(),
            Some(false) => format!("{prefix}│   "),
            Some(true) => format!("{prefix}    "),
        };
        let needs = &sketch.steps[step].needs;
        for (at, (need, only)) in needs.iter().enumerate().rev() {
            let only = only.as_ref().map(|platforms| format!("   only for {}", platform_list(platforms)));
            let last = Some(at + 1 == needs.len());
            stack.push(Pending { step: *need, prefix: below.clone(), last, only: only.unwrap_or_default() });
        }
    }
}

fn line(sketch: &Sketch, at: usize, above: bool) -> String {
    let step = &sketch.steps[at];
    if above {
        return format!("{} (above)", step.name);
    }
    let platforms = match step.platforms.as_slice() {
        [spolia_core::Platform::Any] => String::new(),
        platforms => format!(" ({})", platform_list(platforms)),
    };
    let kind = match step.kind {
        Kind::Build => "",
        Kind::Fetch => " [fetch]",
        Kind::Check => " [check]",
    };
    let arrow =
        if step.places.is_empty() { String::new() } else { format!(" → {}", step.places.join(", ")) };
    format!("{}{kind}{platforms}{arrow}", step.name)
}
