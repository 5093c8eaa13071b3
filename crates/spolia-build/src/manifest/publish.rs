//! Where outputs are published: inside the project, not in its own folders, and each file by one step on
//! one platform. Pure.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashSet};

use spolia_core::conf::{Problem, Problems};
use spolia_core::{Platform, RelPath};

use super::check::Vars;
use super::layers::{Plan, PlannedStep};
use super::step::Name;
use spolia_core::template::{Placeholder, placeholders};

/// One file or folder that is published.
struct Published<'p> {
    path: RelPath,
    step: usize,
    platform: &'p Platform,
    to: &'p Name,
}

/// Says what `to` gets wrong.
pub(crate) fn check_publishing(plan: &Plan<'_>, vars: &Vars, problems: &mut Problems) {
    let mut all = Vec::new();
    for (at, step) in plan.steps.iter().enumerate() {
        collect(at, step, vars, &mut all, problems);
    }
    check_collisions(plan, all, problems);
}

fn collect<'p>(
    at: usize,
    step: &'p PlannedStep<'_>,
    vars: &Vars,
    all: &mut Vec<Published<'p>>,
    problems: &mut Problems,
) {
    for (platform, group) in &step.platforms {
        let group = &step.groups[*group];
        let (Some(to), Some(outputs)) = (group.to(), group.outputs()) else { continue };
        // A placeholder without a value was reported.
        let Some(folder) = expand(&to.value, platform, vars.of(platform)) else { continue };
        let Ok(folder) = RelPath::new(&folder) else {
            problems
                .push(Problem::error(to.span, "`to` leaves the project").hint("it is relative to this file"));
            continue;
        };
        if let Some(own) = own_folder(&folder) {
            problems.push(Problem::error(to.span, format!("`to` is inside `{own}`")));
            continue;
        }
        for output in &outputs.value {
            let path = folder.join(&output.value.path);
            if let Some(own) = own_folder(&path) {
                let message = format!("output `{}` would be published inside `{own}`", output.value.path);
                problems.push(Problem::error(output.span, message));
                continue;
            }
            all.push(Published { path, step: at, platform, to });
        }
    }
}

/// `.git` or `.spolia`, if `path` is in it.
fn own_folder(path: &RelPath) -> Option<&'static str> {
    let first = path.as_bytes().split(|byte| *byte == b'/').next().unwrap_or_default();
    [".git", ".spolia"].into_iter().find(|own| own.as_bytes() == first)
}

fn expand(text: &str, platform: &Platform, vars: Option<&BTreeMap<String, String>>) -> Option<Vec<u8>> {
    let template = placeholders(text).ok()?;
    let expanded = template.expand(|placeholder| match placeholder {
        Placeholder::Platform => Some(Cow::Owned(platform.to_string().into_bytes())),
        Placeholder::PlatformVar(key) => {
            let value = vars?.get(key)?;
            Some(Cow::Borrowed(value.as_bytes()))
        }
        _ => None,
    });
    expanded.ok()
}

fn check_collisions(plan: &Plan<'_>, mut all: Vec<Published<'_>>, problems: &mut Problems) {
    // A folder sorts directly before what is in it.
    all.sort_by(|one, two| (&one.path, one.step, one.platform).cmp(&(&two.path, two.step, two.platform)));
    let mut told: HashSet<(usize, usize)> = HashSet::new();
    let mut outer: Option<&Published<'_>> = None;
    for one in &all {
        let Some(folder) = outer.filter(|outer| one.path.is_within(&outer.path)) else {
            outer = Some(one);
            continue;
        };
        if told.insert((folder.step.min(one.step), folder.step.max(one.step))) {
            problems.push(collision(plan, folder, one));
        }
    }
}

fn collision(plan: &Plan<'_>, one: &Published<'_>, two: &Published<'_>) -> Problem {
    let (one, two) = if (one.to.span, one.step) <= (two.to.span, two.step) { (one, two) } else { (two, one) };
    let name = |published: &Published<'_>| plan.steps[published.step].raw.name.value.clone();
    let who = |published: &Published<'_>| format!("`{}` ({})", name(published), published.platform);
    let what = if one.path == two.path {
        format!("`{}`", one.path)
    } else {
        let (outer, inner) = if two.path.is_within(&one.path) { (one, two) } else { (two, one) };
        format!("`{}` and `{}` in it", outer.path, inner.path)
    };
    let message = format!("{} and {} both publish {what}", who(one), who(two));
    let problem = Problem::error(two.to.span, message);
    if one.step == two.step {
        problem.hint("put `${platform}` into `to`")
    } else {
        problem.also(one.to.span, "the other")
    }
}
