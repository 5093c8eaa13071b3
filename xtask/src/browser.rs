//! A headless Chromium, told what to do over two pipes (the DevTools protocol, one JSON text and a zero byte a
//! message). Knows no page.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::packages;
use crate::run::{self, Done};

/// How long an answer may take: the machine may be busy.
const PATIENCE: Duration = Duration::from_secs(120);

/// A browser with one page open. Ended when dropped.
pub(crate) struct Browser {
    child: Child,
    to: File,
    from: Receiver<Value>,
    number: u64,
    session: Option<String>,
    /// What it told without being asked.
    pub(crate) events: Vec<Value>,
    _folder: TempDir,
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _asked = self.send("Browser.close", &json!({}));
        let _killed = self.child.kill();
        let _ended = self.child.wait();
    }
}

impl Browser {
    /// Installs Chromium where it is missing, and starts it with an empty page.
    pub(crate) fn start() -> Done<Self> {
        if !packages::ensure(&["chromium"], &["chromium"])? {
            return Err("chromium must be installed to look at the report".to_owned());
        }
        let io = |error: std::io::Error| format!("cannot start chromium: {error}");
        let folder = TempDir::new().map_err(io)?;
        let (to, from) = (folder.path().join("to"), folder.path().join("from"));
        run::output(Command::new("mkfifo").args([&to, &from]))?;
        let mut command = Command::new("/bin/sh");
        command.args(["-c", "exec \"$@\" 3<\"$TO\" 4>\"$FROM\"", "sh", "chromium"]);
        command.args([
            "--headless=new",
            "--remote-debugging-pipe",
            "--no-first-run",
            "--no-default-browser-check",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--disable-default-apps",
            "--disable-extensions",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--force-color-profile=srgb",
            "--hide-scrollbars",
        ]);
        if run::is_root() {
            // Its own sandbox does not work for root.
            command.arg("--no-sandbox");
        }
        command.arg(format!("--user-data-dir={}", folder.path().join("profile").display()));
        command.arg("about:blank").env("TO", &to).env("FROM", &from).env("HOME", folder.path());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().map_err(io)?;
        // Both ends wait for each other, in this order.
        let to = File::options().write(true).open(&to).map_err(io)?;
        let mut reader = BufReader::new(File::open(&from).map_err(io)?);
        let (sender, from) = channel();
        std::thread::spawn(move || {
            let mut raw = Vec::new();
            while reader.read_until(0, &mut raw).is_ok_and(|length| length > 0) {
                raw.pop();
                let Ok(message) = serde_json::from_slice::<Value>(&raw) else { break };
                raw.clear();
                if sender.send(message).is_err() {
                    break;
                }
            }
        });
        let mut browser =
            Self { child, to, from, number: 0, session: None, events: Vec::new(), _folder: folder };
        browser.open()?;
        Ok(browser)
    }

    /// Opens another empty page and speaks to that from now on.
    pub(crate) fn open(&mut self) -> Done {
        self.session = None;
        let target = self.ask("Target.createTarget", &json!({ "url": "about:blank" }))?;
        let to = json!({ "targetId": target["targetId"], "flatten": true });
        let session = self.ask("Target.attachToTarget", &to)?;
        self.session = session["sessionId"].as_str().map(str::to_owned);
        for domain in ["Page", "Runtime", "Log", "Network", "Accessibility"] {
            self.ask(&format!("{domain}.enable"), &json!({}))?;
        }
        Ok(())
    }

    fn send(&mut self, method: &str, params: &Value) -> Done<u64> {
        self.number += 1;
        let mut message = json!({ "id": self.number, "method": method, "params": params });
        if let Some(session) = &self.session {
            message["sessionId"] = json!(session);
        }
        let mut raw = message.to_string().into_bytes();
        raw.push(0);
        self.to.write_all(&raw).map_err(|error| format!("chromium does not listen: {error}"))?;
        Ok(self.number)
    }

    fn hear(&mut self, until: &str) -> Done<Value> {
        let heard = self.from.recv_timeout(PATIENCE);
        heard.map_err(|_| format!("chromium said nothing more; it was waited for {until}"))
    }

    /// Asks, and gives the answer.
    pub(crate) fn ask(&mut self, method: &str, params: &Value) -> Done<Value> {
        let number = self.send(method, params)?;
        loop {
            let message = self.hear(method)?;
            if message["id"] == number {
                return match message.get("error") {
                    Some(error) => Err(format!("{method}: {error}")),
                    None => Ok(message["result"].clone()),
                };
            }
            self.events.push(message);
        }
    }

    /// Goes to a page and waits until it is there.
    pub(crate) fn go(&mut self, url: &str) -> Done {
        let is_loaded = |event: &Value| event["method"] == "Page.loadEventFired";
        self.events.retain(|event| !is_loaded(event));
        let gone = self.ask("Page.navigate", &json!({ "url": url }))?;
        if let Some(error) = gone["errorText"].as_str() {
            return Err(format!("{url}: {error}"));
        }
        while !self.events.iter().any(is_loaded) {
            let event = self.hear("the page")?;
            self.events.push(event);
        }
        Ok(())
    }

    /// What a script in the page gives.
    pub(crate) fn script(&mut self, text: &str) -> Done<Value> {
        let params = json!({ "expression": text, "returnByValue": true, "awaitPromise": true });
        let made = self.ask("Runtime.evaluate", &params)?;
        match made.get("exceptionDetails") {
            Some(error) => Err(format!("a script failed: {error}")),
            None => Ok(made["result"]["value"].clone()),
        }
    }

    /// Presses and releases a key.
    pub(crate) fn press(&mut self, key: &str, code: u32) -> Done {
        for kind in ["rawKeyDown", "keyUp"] {
            let key = json!({ "type": kind, "key": key, "code": key, "windowsVirtualKeyCode": code });
            self.ask("Input.dispatchKeyEvent", &key)?;
        }
        Ok(())
    }

    /// How the page is looked at: `screen` or `print`, `light` or `dark`, and how wide.
    pub(crate) fn look(&mut self, media: &str, scheme: &str, width: u32) -> Done {
        let features = json!([{ "name": "prefers-color-scheme", "value": scheme }]);
        self.ask("Emulation.setEmulatedMedia", &json!({ "media": media, "features": features }))?;
        let size = json!({ "width": width, "height": 1000, "deviceScaleFactor": 1, "mobile": false });
        self.ask("Emulation.setDeviceMetricsOverride", &size)?;
        Ok(())
    }

    /// A picture of the whole page, as PNG in base64.
    pub(crate) fn picture(&mut self) -> Done<String> {
        let size = self.ask("Page.getLayoutMetrics", &json!({}))?["cssContentSize"].clone();
        let clip = json!({ "x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1 });
        let params = json!({ "format": "png", "captureBeyondViewport": true, "clip": clip });
        let made = self.ask("Page.captureScreenshot", &params)?;
        made["data"].as_str().map(str::to_owned).ok_or_else(|| "no picture was made".to_owned())
    }
}

/// Writes what a browser gave in base64.
pub(crate) fn write(path: &Path, base64: &str) -> Done {
    let io = |error: std::io::Error| format!("{}: {error}", path.display());
    let mut decode = Command::new("base64");
    decode.arg("-d").stdin(Stdio::piped()).stdout(File::create(path).map_err(io)?);
    let mut child = decode.spawn().map_err(io)?;
    child.stdin.take().ok_or("no pipe")?.write_all(base64.as_bytes()).map_err(io)?;
    let status = child.wait().map_err(io)?;
    if status.success() { Ok(()) } else { Err(format!("{}: not base64", path.display())) }
}
