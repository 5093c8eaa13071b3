//! A step as text: TOML and shell, quoted.

use std::fmt::Write as _;

/// A step to be written. Empty lists are left out, but for the outputs.
#[derive(Clone, Debug, Default)]
pub(super) struct StepText {
    /// Lines above it.
    pub(super) comments: Vec<String>,
    pub(super) name: String,
    pub(super) needs: Vec<String>,
    /// Lines of shell.
    pub(super) run: Vec<String>,
    pub(super) inputs: Vec<String>,
    /// Variables of the caller.
    pub(super) pass_env: Vec<&'static str>,
    pub(super) env: Vec<(&'static str, String)>,
    pub(super) tools: Vec<String>,
    pub(super) outputs: Vec<String>,
    /// Whether the outputs may hold programs for other processors.
    pub(super) any_machine: bool,
    /// Names of cache folders, seen as `${cache}/NAME`.
    pub(super) mounts: Vec<&'static str>,
    pub(super) network: bool,
    pub(super) host: bool,
    pub(super) any_platform: bool,
}

impl StepText {
    /// The table, ending with a newline.
    pub(super) fn render(&self) -> String {
        let mut text = String::new();
        for line in &self.comments {
            push(&mut text, format_args!("# {}", line.replace(|symbol: char| symbol.is_control(), " ")));
        }
        push(&mut text, format_args!("[steps.{}]", toml_key(&self.name)));
        if !self.needs.is_empty() {
            push(&mut text, format_args!("needs = {}", toml_list(&self.needs)));
        }
        push(&mut text, format_args!("run = {}", toml_text(&self.run)));
        if !self.inputs.is_empty() {
            push(&mut text, format_args!("inputs = {}", toml_list(&self.inputs)));
        }
        if !self.pass_env.is_empty() {
            let names: Vec<String> = self.pass_env.iter().map(|name| (*name).to_owned()).collect();
            push(&mut text, format_args!("pass-env = {}", toml_list(&names)));
        }
        if !self.env.is_empty() {
            let pairs: Vec<String> =
                self.env.iter().map(|(name, value)| format!("{name} = {}", toml_string(value))).collect();
            push(&mut text, format_args!("env = {{ {} }}", pairs.join(", ")));
        }
        if !self.tools.is_empty() {
            push(&mut text, format_args!("tools = {}", toml_list(&self.tools)));
        }
        push(&mut text, format_args!("outputs = {}", self.outputs_text()));
        self.options(&mut text);
        text
    }

    fn outputs_text(&self) -> String {
        if !self.any_machine {
            return toml_list(&self.outputs);
        }
        let item = |path: &String| format!("{{ path = {}, any-machine = true }}", toml_string(path));
        format!("[{}]", self.outputs.iter().map(item).collect::<Vec<_>>().join(", "))
    }

    fn options(&self, text: &mut String) {
        if !self.mounts.is_empty() {
            // A tool's own cache is for one writer at a time unless the tool says otherwise.
            let mount =
                |id: &&str| format!("{{ id = \"{id}\", path = \"/cache/{id}\", sharing = \"locked\" }}");
            let mounts: Vec<String> = self.mounts.iter().map(mount).collect();
            push(text, format_args!("mounts = [{}]", mounts.join(", ")));
        }
        if self.network {
            text.push_str("network = true\n");
        }
        if self.host {
            text.push_str("engine = \"host\"\n");
        }
        if self.any_platform {
            text.push_str("platforms = \"any\"\n");
        }
    }
}

fn push(text: &mut String, content: std::fmt::Arguments<'_>) {
    // Writing to a `String` cannot fail.
    let _ = text.write_fmt(content);
    text.push('\n');
}

/// A step's name, which needs quotes if it has a dot.
fn toml_key(name: &str) -> String {
    if name.contains('.') { toml_string(name) } else { name.to_owned() }
}

/// A TOML string on one line: literal where it has `"` or `\`, so that shell stays readable.
pub(super) fn toml_string(text: &str) -> String {
    let plain = !text.contains(char::is_control);
    if plain && !text.contains(['"', '\\']) {
        return format!("\"{text}\"");
    }
    if plain && !text.contains('\'') {
        return format!("'{text}'");
    }
    let mut quoted = String::from("\"");
    for symbol in text.chars() {
        match symbol {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            '\t' => quoted.push_str("\\t"),
            control if control.is_control() => quoted.push_str(&format!("\\u{:04X}", u32::from(control))),
            other => quoted.push(other),
        }
    }
    quoted.push('"');
    quoted
}

/// Lines as one TOML string.
fn toml_text(lines: &[String]) -> String {
    let [line] = lines else {
        let literal = lines.iter().all(|line| !line.contains("'''") && !line.contains(char::is_control));
        let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
        return if literal { format!("'''\n{text}'''") } else { toml_string(&text) };
    };
    toml_string(line)
}

/// Items are put below each other where they would make a long line.
const LINE_MAX: usize = 100;

fn toml_list(items: &[String]) -> String {
    let quoted: Vec<String> = items.iter().map(|item| toml_string(item)).collect();
    let line = format!("[{}]", quoted.join(", "));
    if line.len() <= LINE_MAX {
        return line;
    }
    let rows: String = quoted.iter().map(|item| format!("    {item},\n")).collect();
    format!("[\n{rows}]")
}

/// `text` as one word of the shell. What Spolia would expand is not kept from it by quotes, so a
/// `${` is split.
pub(super) fn shell_word(text: &str) -> String {
    let safe = |byte: u8| byte.is_ascii_alphanumeric() || b"_-./+=:,@%".contains(&byte);
    if !text.is_empty() && text.bytes().all(safe) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', "'\\''").replace("${", "$''{"))
}
