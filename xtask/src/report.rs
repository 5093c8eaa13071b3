//! `cargo xtask test report`: the page of `spolia perf report` in a real browser: what an assistive program is told, what
//! is drawn and where, light, dark, narrow and printed, what the keyboard does, and that nothing is complained of or
//! asked of the network. Pictures are left in `target/report`.

use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::browser::{self, Browser};
use crate::run::{self, Done};

/// Measurements in the page that is looked at.
const RUNS: &str = "240";
/// What the page is for a program that reads it aloud, numbers left out.
const OUTLINE: &str = "xtask/data/report-outline.txt";
/// Roles that are in the outline.
const ROLES: &[&str] = &[
    "banner",
    "navigation",
    "main",
    "region",
    "contentinfo",
    "heading",
    "link",
    "figure",
    "img",
    "image",
    "graphics-document",
    "table",
    "columnheader",
    "DisclosureTriangle",
    "button",
];
const WIDE: u32 = 1180;
const NARROW: u32 = 360;
const TAB: u32 = 9;
const RIGHT: u32 = 39;
const END: u32 = 35;

/// Boxes of what must be drawn, by the name of what it is.
const BOXES: &str = r#"
(() => {
  const box = (name, element) => {
    const at = element.getBoundingClientRect();
    return { name, x: at.x + scrollX, y: at.y + scrollY, width: at.width, height: at.height };
  };
  const all = (name, choice) => [...document.querySelectorAll(choice)].map((one, at) => box(`${name} ${at + 1}`, one));
  return [...all("heading", "h1, h2, h3"), ...all("drawing", "main svg"), ...all("table", "main section > div > table, main .pair table"),
          ...all("tile", ".tiles li"), ...all("bar", ".timeline .bar rect")];
})()
"#;

/// Reads a picture: its mean brightness, and of each box the share of what is not its commonest colour.
const READ: &str = r#"
(async () => {
  const image = new Image();
  image.src = "data:image/png;base64," + PICTURE;
  await image.decode();
  const canvas = document.createElement("canvas");
  canvas.width = image.width; canvas.height = image.height;
  const context = canvas.getContext("2d");
  context.drawImage(image, 0, 0);
  const brightness = (data) => {
    let sum = 0;
    for (let at = 0; at < data.length; at += 4) sum += data[at] * 0.299 + data[at + 1] * 0.587 + data[at + 2] * 0.114;
    return sum / (data.length / 4) / 255;
  };
  const ink = ({ x, y, width, height }) => {
    const data = context.getImageData(Math.floor(x), Math.floor(y), Math.max(1, Math.ceil(width)), Math.max(1, Math.ceil(height))).data;
    const counts = new Map();
    for (let at = 0; at < data.length; at += 4) {
      const colour = (data[at] << 16) | (data[at + 1] << 8) | data[at + 2];
      counts.set(colour, (counts.get(colour) || 0) + 1);
    }
    return { share: 1 - Math.max(...counts.values()) / (data.length / 4), colours: counts.size };
  };
  const whole = context.getImageData(0, 0, canvas.width, canvas.height).data;
  return { width: canvas.width, height: canvas.height, brightness: brightness(whole), boxes: BOXES.map((one) => ({ name: one.name, ...ink(one) })) };
})()
"#;

/// Makes the page and looks at it; `--write` renews the outline that it is compared with.
pub(crate) fn proofs(write: bool) -> Done {
    let root = run::root()?;
    let folder = root.join("target/report");
    std::fs::create_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let page = folder.join("report.html");
    let file = page.to_string_lossy();
    let sample =
        ["run", "--quiet", "--package", "spolia-perf", "--example", "sample_report", "--", RUNS, &file];
    run::cargo(&sample)?;
    let mut browser = Browser::start()?;
    let url = format!("file://{file}");
    browser.look("screen", "light", WIDE)?;
    browser.go(&url)?;
    outline(&mut browser, &root.join(OUTLINE), write)?;
    structure(&mut browser)?;
    keyboard(&mut browser)?;
    let light = looked_at(&mut browser, &folder, "light", ("screen", "light", WIDE))?;
    let dark = looked_at(&mut browser, &folder, "dark", ("screen", "dark", WIDE))?;
    let narrow = looked_at(&mut browser, &folder, "narrow", ("screen", "light", NARROW))?;
    let print = looked_at(&mut browser, &folder, "print", ("print", "light", 760))?;
    paper(&mut browser, &folder)?;
    complaints(&browser, &url)?;
    // The pictures are read in a page of their own.
    browser.open()?;
    let light = read(&mut browser, &light)?;
    let dark = read(&mut browser, &dark)?;
    same_structure(&light, &dark)?;
    let (light, dark) = (number(&light["brightness"]), number(&dark["brightness"]));
    if light < 0.75 || dark > 0.3 {
        return Err(format!("the light page has brightness {light:.2}, the dark one {dark:.2}"));
    }
    for picture in [narrow, print] {
        read(&mut browser, &picture)?;
    }
    println!(
        "the report is what it should be in {}; pictures are in {}",
        version(&mut browser)?,
        folder.display()
    );
    Ok(())
}

fn version(browser: &mut Browser) -> Done<String> {
    let version = browser.ask("Browser.getVersion", &json!({}))?;
    Ok(version["product"].as_str().unwrap_or("a browser").to_owned())
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or(f64::NAN)
}

/// What an assistive program is told, compared with what is committed.
fn outline(browser: &mut Browser, path: &Path, write: bool) -> Done {
    let tree = browser.ask("Accessibility.getFullAXTree", &json!({}))?;
    let mut text = String::new();
    for node in tree["nodes"].as_array().into_iter().flatten() {
        let role = node["role"]["value"].as_str().unwrap_or_default();
        if node["ignored"] == true || !ROLES.contains(&role) {
            continue;
        }
        let name = node["name"]["value"].as_str().unwrap_or_default();
        text.push_str(format!("{role}: {}", without_numbers(name)).trim_end());
        text.push('\n');
    }
    if write {
        return std::fs::write(path, text).map_err(|error| format!("{}: {error}", path.display()));
    }
    let known = std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
    let differs = known.lines().zip(text.lines()).position(|(known, now)| known != now);
    let at = differs.unwrap_or_else(|| known.lines().count().min(text.lines().count()));
    if known == text {
        return Ok(());
    }
    let line = |text: &str| text.lines().nth(at).unwrap_or("(the end)").to_owned();
    Err(format!(
        "the page says otherwise than `{OUTLINE}` in line {}: `{}`, not `{}`; `cargo xtask report-outline` renews it",
        at + 1,
        line(&text),
        line(&known)
    ))
}

/// Digits and what stands for them, as one `#`: figures differ with the statistics, the structure does not.
fn without_numbers(text: &str) -> String {
    let mut kept = String::new();
    for letter in text.trim().chars() {
        match letter {
            '0'..='9' if kept.ends_with('#') => {}
            '0'..='9' => kept.push('#'),
            '\n' => kept.push(' '),
            letter => kept.push(letter),
        }
    }
    kept
}

/// Headings in order, ids once, drawings with names, tables with headers.
fn structure(browser: &mut Browser) -> Done {
    let wrong = browser.script(
        r##"
(() => {
  const wrong = [];
  const levels = [...document.querySelectorAll("h1, h2, h3, h4")].map((one) => Number(one.tagName[1]));
  if (levels.filter((level) => level === 1).length !== 1 || levels[0] !== 1) wrong.push(`headings ${levels}`);
  levels.forEach((level, at) => { if (at && level > levels[at - 1] + 1) wrong.push(`h${level} after h${levels[at - 1]}`); });
  const ids = [...document.querySelectorAll("[id]")].map((one) => one.id);
  ids.forEach((id, at) => { if (ids.indexOf(id) !== at) wrong.push(`id ${id} twice`); });
  document.querySelectorAll("[aria-labelledby]").forEach((one) => { if (!document.getElementById(one.getAttribute("aria-labelledby"))) wrong.push("a label is not there"); });
  document.querySelectorAll('a[href^="#"]').forEach((one) => { if (!document.getElementById(one.hash.slice(1))) wrong.push(`${one.hash} leads nowhere`); });
  document.querySelectorAll("main svg").forEach((one) => {
    const named = one.getAttribute("aria-label") || one.getAttribute("aria-labelledby") || one.querySelector("title");
    if (!one.getAttribute("role") || !named) wrong.push(`a drawing without role or name: ${one.outerHTML.slice(0, 80)}`);
    if (!one.querySelector("rect, path, line, circle, polyline")) wrong.push("an empty drawing");
  });
  document.querySelectorAll("table").forEach((one) => { if (!one.caption || !one.querySelector("th[scope=col]")) wrong.push("a table without caption or headers"); });
  if (!document.documentElement.lang) wrong.push("no language");
  if (document.querySelectorAll("main svg").length < 10) wrong.push(`only ${document.querySelectorAll("main svg").length} drawings`);
  return wrong;
})()
"##,
    )?;
    match wrong.as_array().map(Vec::as_slice) {
        Some([]) => Ok(()),
        _ => Err(format!("the page's structure: {wrong}")),
    }
}

/// The tabulator goes to everything in order and is seen; arrows go from bar to bar.
fn keyboard(browser: &mut Browser) -> Done {
    let mut stops = Vec::new();
    for _ in 0..60 {
        browser.press("Tab", TAB)?;
        let at = browser.script(
            r##"
(() => {
  const one = document.activeElement;
  if (one === document.body) return null;
  const bar = one.matches(".bar") ? getComputedStyle(one.querySelector("rect")).strokeWidth : null;
  const seen = bar ? parseFloat(bar) >= 3 : one.matches(".change") || getComputedStyle(one).outlineStyle !== "none";
  return { what: `${one.tagName.toLowerCase()}.${one.getAttribute("class") || one.id}`, seen };
})()
"##,
        )?;
        if at.is_null() {
            break;
        }
        if at["seen"] != true {
            return Err(format!("the focus is not seen on {}", at["what"]));
        }
        stops.push(at["what"].as_str().unwrap_or_default().to_owned());
    }
    let first = stops.first().map(String::as_str);
    let bars = stops.iter().filter(|stop| stop.starts_with("g.bar")).count();
    if first != Some("a.skip") || bars != 1 || !stops.iter().any(|stop| stop.starts_with("summary")) {
        return Err(format!("the tabulator stops at {stops:?}"));
    }
    browser.script("document.querySelector('.timeline .bar').focus()")?;
    let said = "document.getElementById('detail').textContent";
    let before = browser.script(said)?;
    browser.press("ArrowRight", RIGHT)?;
    let after = browser.script(said)?;
    if before == after || after.as_str().is_none_or(str::is_empty) {
        return Err(format!("the arrow key went from {before} to {after}"));
    }
    browser.press("End", END)?;
    let is_last = "document.activeElement === [...document.querySelectorAll('.timeline .bar')].pop()";
    if browser.script(is_last)? != true {
        return Err("`End` does not go to the last bar".to_owned());
    }
    browser.script("document.activeElement.blur()")?;
    Ok(())
}

/// A picture, and what should be in it.
struct Picture {
    name: &'static str,
    base64: String,
    boxes: Value,
}

fn looked_at(
    browser: &mut Browser,
    folder: &Path,
    name: &'static str,
    (media, scheme, width): (&str, &str, u32),
) -> Done<Picture> {
    browser.look(media, scheme, width)?;
    let boxes = browser.script(BOXES)?;
    let wide = browser.script("document.documentElement.scrollWidth")?;
    if number(&wide) > f64::from(width) {
        return Err(format!("the {name} page is {wide} wide, and the window {width}"));
    }
    let base64 = browser.picture()?;
    browser::write(&folder.join(format!("{name}.png")), &base64)?;
    Ok(Picture { name, base64, boxes })
}

/// Every box of the page has something drawn in it.
fn read(browser: &mut Browser, picture: &Picture) -> Done<Value> {
    let boxes: Vec<&Value> = picture.boxes.as_array().into_iter().flatten().collect();
    // What is not shown has no place; a bar's rectangle is all of one colour.
    let shown: Vec<&Value> = boxes
        .into_iter()
        .filter(|one| number(&one["width"]) >= 2.0 && number(&one["height"]) >= 2.0)
        .collect();
    let script = READ.replace("PICTURE", &json!(picture.base64).to_string());
    let found = browser.script(&script.replace("BOXES", &json!(shown).to_string()))?;
    for one in found["boxes"].as_array().into_iter().flatten() {
        let name = one["name"].as_str().unwrap_or_default();
        if !name.starts_with("bar") && (number(&one["share"]) < 0.002 || number(&one["colours"]) < 2.0) {
            return Err(format!("in the {} picture nothing is drawn at {name}", picture.name));
        }
    }
    Ok(found)
}

/// The same things at the same places, whatever the colours.
fn same_structure(light: &Value, dark: &Value) -> Done {
    let of = |picture: &Value| {
        let names = picture["boxes"].as_array().into_iter().flatten().map(|one| one["name"].clone());
        (picture["width"].clone(), picture["height"].clone(), names.collect::<Vec<_>>())
    };
    if of(light) == of(dark) {
        Ok(())
    } else {
        Err("the light and the dark page differ in structure".to_owned())
    }
}

/// On paper: everything unfolded, no navigation, some pages.
fn paper(browser: &mut Browser, folder: &Path) -> Done {
    let hidden = "getComputedStyle(document.querySelector('nav')).display === 'none'";
    if browser.script(hidden)? != true {
        return Err("the navigation is printed".to_owned());
    }
    let made =
        browser.ask("Page.printToPDF", &json!({ "printBackground": false, "preferCSSPageSize": true }))?;
    let data = made["data"].as_str().unwrap_or_default();
    // `%PDF-`
    if !data.starts_with("JVBERi0") || data.len() < 20_000 {
        return Err(format!("{} characters of PDF were printed", data.len()));
    }
    let unfolded = "[...document.querySelectorAll('details')].every((one) => one.open)";
    if browser.script(unfolded)? != true {
        return Err("what is folded is not printed".to_owned());
    }
    browser::write(&folder.join("print.pdf"), data)
}

/// Nothing was complained of, and nothing but the page was asked for.
fn complaints(browser: &Browser, url: &str) -> Done {
    for event in &browser.events {
        let params = &event["params"];
        let bad = match event["method"].as_str().unwrap_or_default() {
            "Runtime.exceptionThrown" => true,
            "Runtime.consoleAPICalled" => {
                matches!(params["type"].as_str(), Some("error" | "warning" | "assert"))
            }
            "Log.entryAdded" => matches!(params["entry"]["level"].as_str(), Some("error" | "warning")),
            "Network.requestWillBeSent" => {
                let asked = params["request"]["url"].as_str().unwrap_or_default();
                asked != url && !asked.starts_with("data:")
            }
            _ => false,
        };
        if bad {
            return Err(format!("the browser complains: {event}"));
        }
    }
    Ok(())
}

/// `cargo xtask report-outline`.
pub(crate) fn write_outline() -> Done {
    let mut made = Command::new("mkdir");
    run::checked(made.arg("-p").arg(run::root()?.join("xtask/data")))?;
    proofs(true)
}
