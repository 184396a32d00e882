//! A Chromium of a test's own, driven over the `DevTools` protocol. Its pipe is JSON between zero bytes, over two named pipes: there
//! is no client library to choose, and no port that somebody else could reach.

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};

/// How long an answer is waited for; half as long a condition, whose answer is that it has not come true.
const PATIENCE: Duration = Duration::from_mins(2);
/// How often a condition is looked at.
const LOOK: Duration = Duration::from_millis(50);

/// No traffic but the test's own, no first-run pages, no sandbox (a container's root has none).
const FLAGS: [&str; 14] = [
    "--headless=new",
    "--remote-debugging-pipe",
    "--no-sandbox",
    "--no-first-run",
    "--no-default-browser-check",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-domain-reliability",
    "--disable-extensions",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--hide-scrollbars",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
];

pub struct Browser {
    child: Child,
    commands: File,
    messages: Receiver<Value>,
    /// What was said while an answer was waited for.
    events: VecDeque<Value>,
    session: Value,
    id: u64,
    _folder: tempfile::TempDir,
}

impl Browser {
    /// Starts a browser with one empty page.
    pub fn start() -> Self {
        let program = std::env::var("FIDES_TEST_CHROMIUM").expect(
            "FIDES_TEST_CHROMIUM is not set: run the test as `tests/parts/chromium cargo test -p fides --test page`",
        );
        let folder = tempfile::tempdir().unwrap();
        let (asked, said) = (folder.path().join("asked"), folder.path().join("said"));
        for pipe in [&asked, &said] {
            assert!(Command::new("mkfifo").arg(pipe).status().unwrap().success());
        }
        let child = Command::new("sh")
            .args(["-c", r#"exec "$0" "$@" 3<"$ASKED" 4>"$SAID""#, &program])
            .args(FLAGS)
            .arg(format!("--user-data-dir={}", folder.path().join("profile").display()))
            .envs([("ASKED", &asked), ("SAID", &said)])
            .env("HOME", folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        // Opened for both, a pipe waits for nobody: a browser that does not start is a test that fails, not one that hangs.
        let open = |pipe: &Path| OpenOptions::new().read(true).write(true).open(pipe).unwrap();
        let (commands, said) = (open(&asked), open(&said));
        let (sender, messages) = channel();
        std::thread::spawn(move || {
            for message in BufReader::new(said).split(0) {
                let message = serde_json::from_slice(&message.unwrap()).unwrap();
                if sender.send(message).is_err() {
                    return;
                }
            }
        });
        let (events, session) = (VecDeque::new(), Value::Null);
        let mut browser = Self { child, commands, messages, events, session, id: 0, _folder: folder };
        let target = browser.call("Target.createTarget", &json!({ "url": "about:blank" }))["targetId"].take();
        let attached = browser.call("Target.attachToTarget", &json!({ "targetId": target, "flatten": true }));
        browser.session = attached["sessionId"].clone();
        for domain in ["Page", "Runtime", "Log", "Network"] {
            browser.call(&format!("{domain}.enable"), &json!({}));
        }
        browser
    }

    /// One command, and what it returns.
    pub fn call(&mut self, method: &str, parameters: &Value) -> Value {
        self.id += 1;
        let mut command = json!({ "id": self.id, "method": method, "params": parameters });
        if !self.session.is_null() {
            command["sessionId"] = self.session.clone();
        }
        self.commands.write_all(format!("{command}\0").as_bytes()).unwrap();
        let deadline = Instant::now() + PATIENCE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let mut message =
                self.messages.recv_timeout(left).unwrap_or_else(|_| panic!("no answer to {method} from the browser"));
            if message["id"] == self.id {
                assert!(message["error"].is_null(), "{method}: {}", message["error"]);
                return message["result"].take();
            }
            if message["method"].is_string() {
                self.events.push_back(message);
            }
        }
    }

    pub fn open(&mut self, url: &str) {
        self.call("Page.navigate", &json!({ "url": url }));
        self.until("the page", "document.readyState === 'complete'");
    }

    /// What an expression of JavaScript comes to.
    pub fn value(&mut self, expression: &str) -> Value {
        let parameters = json!({ "expression": expression, "returnByValue": true, "awaitPromise": true });
        let mut said = self.call("Runtime.evaluate", &parameters);
        assert!(said["exceptionDetails"].is_null(), "{expression}: {}", said["exceptionDetails"]);
        said["result"]["value"].take()
    }

    /// The text of the first element that a selector finds.
    pub fn text(&mut self, selector: &str) -> String {
        let text = self.value(&format!("document.querySelector({})?.textContent ?? ''", json!(selector)));
        text.as_str().unwrap().to_owned()
    }

    /// Waits for a condition, where it is: on the page.
    pub fn until(&mut self, what: &str, condition: &str) {
        let (patience, look) = (PATIENCE.as_millis() / 2, LOOK.as_millis());
        let came_true = self.value(&format!(
            "new Promise((resolve) => {{ const began = performance.now(); const look = () => {{
               if ({condition}) resolve(true);
               else if (performance.now() - began > {patience}) resolve(false);
               else setTimeout(look, {look});
             }}; look(); }})"
        ));
        if came_true != true {
            let shown = self.value("document.body.innerText");
            panic!("waited too long: {what}\n{}", shown.as_str().unwrap_or_default());
        }
    }

    /// Clicks as a mouse does: on whatever is in the middle of the element.
    pub fn click(&mut self, selector: &str) {
        let place = self.value(&format!(
            "(() => {{ const it = document.querySelector({}); it.scrollIntoView({{ block: 'center', behavior: 'instant' }});
             const box = it.getBoundingClientRect(); return [box.x + box.width / 2, box.y + box.height / 2]; }})()",
            json!(selector)
        ));
        for kind in ["mousePressed", "mouseReleased"] {
            let mouse = json!({ "type": kind, "x": place[0], "y": place[1], "button": "left", "clickCount": 1 });
            self.call("Input.dispatchMouseEvent", &mouse);
        }
    }

    /// Types into whatever has the focus.
    pub fn type_text(&mut self, text: &str) {
        self.call("Input.insertText", &json!({ "text": text }));
    }

    /// Presses a key, as `Tab` or `Enter`.
    pub fn press(&mut self, key: &str) {
        let (code, text) = match key {
            "Enter" => (13, "\r"),
            "Tab" => (9, ""),
            "Escape" => (27, ""),
            other => panic!("no such key is known here: {other}"),
        };
        for kind in ["keyDown", "keyUp"] {
            let mut event = json!({ "type": kind, "key": key, "code": key, "windowsVirtualKeyCode": code });
            if kind == "keyDown" && !text.is_empty() {
                event["text"] = text.into();
            }
            self.call("Input.dispatchKeyEvent", &event);
        }
    }

    /// A screen of that size, and what its owner prefers: `light` or `dark`.
    pub fn screen(&mut self, width: u32, height: u32, scheme: &str) {
        let metrics = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": false });
        self.call("Emulation.setDeviceMetricsOverride", &metrics);
        let preferred = json!({ "features": [{ "name": "prefers-color-scheme", "value": scheme }] });
        self.call("Emulation.setEmulatedMedia", &preferred);
    }

    /// What the screen shows, as PNG.
    pub fn picture(&mut self) -> Vec<u8> {
        let shot = self.call("Page.captureScreenshot", &json!({ "format": "png" }));
        BASE64_STANDARD.decode(shot["data"].as_str().unwrap()).unwrap()
    }

    /// Addresses that were asked for.
    pub fn asked_for(&mut self) -> Vec<String> {
        self.value("0");
        let of = |event: &Value| Some(event["params"]["request"]["url"].as_str()?.to_owned());
        self.events.iter().filter(|event| event["method"] == "Network.requestWillBeSent").filter_map(of).collect()
    }

    /// What went wrong on the page: exceptions nobody caught, what the policy refused, what could not be loaded.
    pub fn complaints(&mut self) -> Vec<String> {
        self.value("0");
        let is_complaint = |event: &&Value| {
            event["method"] == "Runtime.exceptionThrown"
                || (event["method"] == "Log.entryAdded" && event["params"]["entry"]["level"] == "error")
                || (event["method"] == "Runtime.consoleAPICalled" && event["params"]["type"] == "error")
        };
        self.events.iter().filter(is_complaint).map(Value::to_string).collect()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // Its helpers end with it. It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
