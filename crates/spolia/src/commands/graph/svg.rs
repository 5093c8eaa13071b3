//! `Sketch → svg`: needed steps at the left, in layers, drawn by ourselves. Light and dark by the viewer.
//!
//! 1. A step's layer is the longest way to it from a step that needs nothing.
//! 2. An edge over several layers gets a waypoint in each, so that it goes between boxes.
//! 3. Each layer is ordered by the mean place of its neighbours, back and forth a few times
//!    (the barycentre method of Sugiyama, Tagawa and Toda, 1981).
//! 4. Each item is moved towards the mean height of its neighbours, as far as its layer lets it.

use super::{Kind, Sketch, platform_list};

/// How often layers are ordered and moved.
const SWEEPS: usize = 12;
/// Above so many items only the first order is used: it is readable by zooming or not at all.
const ITEMS_MAX: usize = 20_000;
/// The longest text in a box, characters.
const CHARS_MAX: usize = 34;

const BOX_PAD: f64 = 12.0;
const CHAR_WIDTH: f64 = 7.2;
const SMALL_CHAR_WIDTH: f64 = 6.0;
const LINE_HEIGHT: f64 = 15.0;
const GAP_X: f64 = 64.0;
const GAP_Y: f64 = 18.0;
const WAYPOINT_HEIGHT: f64 = 6.0;
const MARGIN: f64 = 24.0;
const LEGEND_HEIGHT: f64 = 34.0;

/// A box, or a place that a long edge goes through.
struct Item {
    /// In the sketch; `None` for a waypoint.
    step: Option<usize>,
    layer: usize,
    lines: Vec<String>,
    width: f64,
    height: f64,
    /// Its top.
    y: f64,
    left: Vec<usize>,
    right: Vec<usize>,
}

impl Item {
    fn middle(&self) -> f64 {
        self.y + self.height / 2.0
    }
}

struct Layout {
    items: Vec<Item>,
    layers: Vec<Vec<usize>>,
    /// Left edge and width of each layer.
    columns: Vec<(f64, f64)>,
    /// For each edge the items it goes through, from needed to needing, and whether it is for all platforms.
    edges: Vec<(Vec<usize>, bool)>,
}

/// The drawing.
pub(super) fn draw(sketch: &Sketch) -> String {
    let mut layout = Layout::new(sketch);
    if layout.items.len() <= ITEMS_MAX {
        layout.order();
    }
    layout.place();
    layout.paint(sketch)
}

impl Layout {
    fn new(sketch: &Sketch) -> Self {
        let layers = layers(sketch);
        let count = layers.iter().max().map_or(0, |last| last + 1);
        let mut layout = Self {
            items: Vec::new(),
            layers: vec![Vec::new(); count],
            columns: Vec::new(),
            edges: Vec::new(),
        };
        for (at, step) in sketch.steps.iter().enumerate() {
            let lines = lines(step);
            let small = lines[1..].iter().map(|line| line.chars().count()).max().unwrap_or(0);
            let wide = (lines[0].chars().count() as f64 * CHAR_WIDTH).max(small as f64 * SMALL_CHAR_WIDTH);
            let height = lines.len() as f64 * LINE_HEIGHT + BOX_PAD;
            layout.push(Some(at), layers[at], lines, wide + 2.0 * BOX_PAD, height);
        }
        for (at, step) in sketch.steps.iter().enumerate() {
            for (need, only) in &step.needs {
                let mut way = vec![*need];
                for layer in layers[*need] + 1..layers[at] {
                    way.push(layout.push(None, layer, Vec::new(), 0.0, WAYPOINT_HEIGHT));
                }
                way.push(at);
                for pair in way.windows(2) {
                    layout.items[pair[0]].right.push(pair[1]);
                    layout.items[pair[1]].left.push(pair[0]);
                }
                layout.edges.push((way, only.is_none()));
            }
        }
        layout
    }

    fn push(
        &mut self,
        step: Option<usize>,
        layer: usize,
        lines: Vec<String>,
        width: f64,
        height: f64,
    ) -> usize {
        let at = self.items.len();
        self.layers[layer].push(at);
        let item = Item { step, layer, lines, width, height, y: 0.0, left: Vec::new(), right: Vec::new() };
        self.items.push(item);
        at
    }

    /// Orders each layer by the mean place of its neighbours in the one before, then in the one after.
    fn order(&mut self) {
        let mut place = vec![0.0; self.items.len()];
        let number = |layers: &[Vec<usize>], place: &mut [f64]| {
            for (at, item) in layers.iter().flat_map(|layer| layer.iter().enumerate()) {
                place[*item] = at as f64;
            }
        };
        number(&self.layers, &mut place);
        for sweep in 0..SWEEPS {
            let forward = sweep % 2 == 0;
            let count = self.layers.len();
            for step in 0..count {
                let at = if forward { step } else { count - 1 - step };
                let items = &self.items;
                let mean = |item: &usize| {
                    let near = if forward { &items[*item].left } else { &items[*item].right };
                    mean(near.iter().map(|near| place[*near])).unwrap_or(place[*item])
                };
                let mut keyed: Vec<(f64, usize)> =
                    self.layers[at].iter().map(|item| (mean(item), *item)).collect();
                keyed.sort_by(|a, b| a.0.total_cmp(&b.0));
                self.layers[at] = keyed.into_iter().map(|(_, item)| item).collect();
                for (order, item) in self.layers[at].iter().enumerate() {
                    place[*item] = order as f64;
                }
            }
        }
    }

    /// Gives every item its place.
    fn place(&mut self) {
        let mut x = MARGIN;
        for layer in &self.layers {
            let width = layer.iter().map(|item| self.items[*item].width).fold(0.0, f64::max);
            self.columns.push((x, width));
            x += width + GAP_X;
        }
        for layer in &self.layers {
            let mut y = MARGIN;
            for item in layer {
                self.items[*item].y = y;
                y += self.items[*item].height + GAP_Y;
            }
        }
        for sweep in 0..SWEEPS {
            let count = self.layers.len();
            for step in 0..count {
                let at = if sweep % 2 == 0 { step } else { count - 1 - step };
                self.settle(at, sweep % 2 == 0);
            }
        }
        let top = self.items.iter().map(|item| item.y).fold(f64::INFINITY, f64::min);
        for item in &mut self.items {
            item.y += MARGIN - top;
        }
    }

    /// Moves a layer's items to the mean height of their neighbours; then pushes apart what overlaps,
    /// by half downwards and by half upwards.
    fn settle(&mut self, layer: usize, forward: bool) {
        let order = &self.layers[layer];
        let mut wanted: Vec<f64> = Vec::with_capacity(order.len());
        for item in order {
            let item = &self.items[*item];
            let near = if forward { &item.left } else { &item.right };
            let middle = mean(near.iter().map(|near| self.items[*near].middle()));
            wanted.push(middle.map_or(item.y, |middle| middle - item.height / 2.0));
        }
        let height = |at: usize| self.items[order[at]].height + GAP_Y;
        let mut down = wanted.clone();
        for at in 1..down.len() {
            down[at] = down[at].max(down[at - 1] + height(at - 1));
        }
        let mut up = wanted;
        for at in (0..up.len().saturating_sub(1)).rev() {
            up[at] = up[at].min(up[at + 1] - height(at));
        }
        for (at, item) in self.layers[layer].clone().into_iter().enumerate() {
            // Both keep the gaps, so their mean does.
            self.items[item].y = f64::midpoint(down[at], up[at]);
        }
    }

    fn paint(&self, sketch: &Sketch) -> String {
        let right = self.columns.last().map_or(0.0, |(x, width)| x + width);
        let bottom = self.items.iter().map(|item| item.y + item.height).fold(0.0, f64::max);
        let (width, height) = ((right + MARGIN).max(420.0), bottom + MARGIN + LEGEND_HEIGHT);
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width:.0} {height:.0}\" \
             width=\"{width:.0}\" height=\"{height:.0}\" role=\"img\">\n<title>Steps and what they need</title>\n\
             {STYLE}<rect class=\"page\" width=\"100%\" height=\"100%\"/>\n"
        );
        for (way, whole) in &self.edges {
            svg.push_str(&self.edge(way, *whole));
        }
        for item in &self.items {
            if let Some(step) = item.step {
                svg.push_str(&self.card(item, &sketch.steps[step]));
            }
        }
        svg.push_str(&legend(sketch, bottom + MARGIN));
        svg.push_str("</svg>\n");
        svg
    }

    /// A smooth line through the middle of every item on the way.
    fn edge(&self, way: &[usize], whole: bool) -> String {
        let mut path = String::new();
        for pair in way.windows(2) {
            let (from, to) = (&self.items[pair[0]], &self.items[pair[1]]);
            let (from_x, from_width) = self.columns[from.layer];
            let start = if from.step.is_some() { from_x + from.width } else { from_x + from_width };
            let end = self.columns[to.layer].0;
            let (y1, y2, bend) = (from.middle(), to.middle(), f64::midpoint(start, end));
            if path.is_empty() {
                path = format!("M{start:.1} {y1:.1}");
            } else {
                path.push_str(&format!(" L{start:.1} {y1:.1}"));
            }
            path.push_str(&format!(" C{bend:.1} {y1:.1} {bend:.1} {y2:.1} {end:.1} {y2:.1}"));
        }
        let class = if whole { "edge" } else { "edge part" };
        format!("<path class=\"{class}\" d=\"{path}\" marker-end=\"url(#tip)\"/>\n")
    }

    fn card(&self, item: &Item, step: &super::Drawn) -> String {
        let (x, y) = (self.columns[item.layer].0, item.y);
        let hover = format!("{}\n{}\n{}", step.name, platform_list(&step.platforms), step.places.join("\n"));
        let mut svg = format!(
            "<g class=\"{}\"><title>{}</title><rect class=\"card\" x=\"{x:.1}\" y=\"{y:.1}\" width=\"{:.1}\" \
             height=\"{:.1}\" rx=\"6\"/><rect class=\"bar\" x=\"{x:.1}\" y=\"{y:.1}\" width=\"4\" \
             height=\"{:.1}\" rx=\"2\"/>",
            step.kind.word(),
            escaped(hover.trim_end()),
            item.width,
            item.height,
            item.height,
        );
        for (at, line) in item.lines.iter().enumerate() {
            let class = if at == 0 { "name" } else { "more" };
            let base = y + BOX_PAD / 2.0 + LINE_HEIGHT * (at as f64 + 0.78);
            svg.push_str(&format!(
                "<text class=\"{class}\" x=\"{:.1}\" y=\"{base:.1}\">{}</text>",
                x + BOX_PAD,
                escaped(line)
            ));
        }
        svg.push_str("</g>\n");
        svg
    }
}

/// The longest way to each step from one that needs nothing.
fn layers(sketch: &Sketch) -> Vec<usize> {
    // Needed steps come first in a sketch, unless platforms differ in what they need: hence the repeats.
    let mut layers = vec![0; sketch.steps.len()];
    for _ in 0..=sketch.steps.len() {
        let mut changed = false;
        for (at, step) in sketch.steps.iter().enumerate() {
            let layer = step.needs.iter().map(|(need, _)| layers[*need] + 1).max().unwrap_or(0);
            changed |= std::mem::replace(&mut layers[at], layer) != layer;
        }
        if !changed {
            break;
        }
    }
    layers
}

/// Name, platforms, place.
fn lines(step: &super::Drawn) -> Vec<String> {
    let mut lines = vec![cut(&step.name)];
    match step.platforms.as_slice() {
        [spolia_core::Platform::Any] => {}
        platforms if platforms.len() <= 3 => lines.extend(platforms.iter().map(ToString::to_string)),
        platforms => lines.push(format!("{} platforms", platforms.len())),
    }
    let own = |place: &String| place.starts_with(".spolia/");
    match step.places.as_slice() {
        [place, ..] if !own(place) => {
            let more = if step.places.len() > 1 { ", …" } else { "" };
            lines.push(cut(&format!("→ {place}{more}")));
        }
        _ => {}
    }
    lines
}

fn cut(text: &str) -> String {
    if text.chars().count() <= CHARS_MAX {
        return text.to_owned();
    }
    let kept: String = text.chars().take(CHARS_MAX - 1).collect();
    format!("{kept}…")
}

fn mean(values: impl Iterator<Item = f64>) -> Option<f64> {
    let (sum, count) = values.fold((0.0, 0u32), |(sum, count), value| (sum + value, count + 1));
    (count > 0).then(|| sum / f64::from(count))
}

/// The kinds that occur, and the dashed edge where there is one.
fn legend(sketch: &Sketch, y: f64) -> String {
    let mut kinds: Vec<Kind> = sketch.steps.iter().map(|step| step.kind).collect();
    kinds.sort_unstable();
    kinds.dedup();
    let mut svg = String::new();
    let mut x = MARGIN;
    for kind in kinds {
        let text = match kind {
            Kind::Fetch => "fetch: its key is a digest",
            Kind::Build => "build",
            Kind::Check => "check: no outputs",
        };
        svg.push_str(&format!(
            "<g class=\"{}\"><rect class=\"bar\" x=\"{x:.1}\" y=\"{y:.1}\" width=\"4\" height=\"12\" rx=\"2\"/>\
             <text class=\"more\" x=\"{:.1}\" y=\"{:.1}\">{text}</text></g>\n",
            kind.word(),
            x + 10.0,
            y + 10.0,
        ));
        x += text.len() as f64 * SMALL_CHAR_WIDTH + 34.0;
    }
    if sketch.steps.iter().flat_map(|step| &step.needs).any(|(_, only)| only.is_some()) {
        svg.push_str(&format!(
            "<path class=\"edge part\" d=\"M{x:.1} {0:.1} h24\"/><text class=\"more\" x=\"{1:.1}\" y=\"{2:.1}\">\
             not on every platform</text>\n",
            y + 6.0,
            x + 32.0,
            y + 10.0,
        ));
    }
    svg
}

fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for symbol in text.chars() {
        match symbol {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\n' => safe.push('\n'),
            // XML has no other control characters, not even escaped.
            symbol if symbol.is_control() => safe.push('\u{fffd}'),
            symbol => safe.push(symbol),
        }
    }
    safe
}

const STYLE: &str = "<style>
  svg { color-scheme: light dark }
  text { font-family: ui-monospace, \"DejaVu Sans Mono\", Menlo, Consolas, monospace; fill: #1f2328 }
  .name { font-size: 12px; font-weight: 600 }
  .more { font-size: 10px; fill: #59636e }
  .page { fill: #ffffff }
  .card { fill: #f6f8fa; stroke: #d1d9e0 }
  .bar { fill: #0969da }
  .fetch .bar { fill: #9a6700 }
  .check .bar { fill: #1a7f37 }
  .edge { fill: none; stroke: #818b98; stroke-width: 1.2 }
  .part { stroke-dasharray: 4 3 }
  .tip { fill: #818b98 }
  @media (prefers-color-scheme: dark) {
    text { fill: #f0f6fc }
    .more { fill: #9198a1 }
    .page { fill: #0d1117 }
    .card { fill: #151b23; stroke: #3d444d }
    .bar { fill: #4493f8 }
    .fetch .bar { fill: #d29922 }
    .check .bar { fill: #3fb950 }
    .edge { stroke: #656c76 }
    .tip { fill: #656c76 }
  }
</style>
<defs><marker id=\"tip\" viewBox=\"0 0 8 8\" refX=\"7\" refY=\"4\" markerWidth=\"7\" markerHeight=\"7\" orient=\"auto\"><path class=\"tip\" d=\"M0 0 L8 4 L0 8 z\"/></marker></defs>
";

#[cfg(test)]
mod tests {
    use super::super::tests::sketch;
    use super::*;

    #[test]
    fn layers_follow_the_longest_way_and_boxes_do_not_overlap() {
        let sketch = sketch(&[&[], &[0], &[1], &[0, 2], &[0], &[]]);
        assert_eq!(layers(&sketch), [0, 1, 2, 3, 1, 0]);
        let mut layout = Layout::new(&sketch);
        layout.order();
        layout.place();
        // The edge from 0 to 3 passes two layers.
        assert_eq!(layout.edges.iter().map(|(way, _)| way.len()).max(), Some(4));
        for layer in &layout.layers {
            for pair in layer.windows(2) {
                let (upper, lower) = (&layout.items[pair[0]], &layout.items[pair[1]]);
                assert!(upper.y + upper.height <= lower.y, "{} {} {}", upper.y, upper.height, lower.y);
            }
        }
    }

    #[test]
    fn names_cannot_break_the_drawing() {
        let mut sketch = sketch(&[&[]]);
        sketch.steps[0].name = "a<b>&\"\u{1}".to_owned();
        let svg = draw(&sketch);
        assert!(svg.contains("a&lt;b&gt;&amp;&quot;\u{fffd}") && !svg.contains('\u{1}'));
    }
}
