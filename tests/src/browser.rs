//! Debian's Chromium without a window, on a host of the lab, driven by the Chrome DevTools Protocol over a
//! pair of named pipes.

use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::lab::{Host, Process};

/// How long the browser may take to answer, on a busy machine, when it starts too.
const PATIENCE: Duration = Duration::from_secs(30);
/// From one look at the page to the next.
const LOOK: Duration = Duration::from_millis(20);

const OPTIONS: &str = "--headless --no-sandbox --no-first-run --disable-gpu --disable-dev-shm-usage \
     --disable-background-networking --disable-component-update --disable-sync --no-proxy-server --hide-scrollbars --log-level=3 \
     --remote-debugging-pipe";

/// What the page is seen on.
#[derive(Clone, Copy, Debug)]
pub struct Screen {
    /// In CSS pixels.
    pub width: u32,
    /// In CSS pixels.
    pub height: u32,
    /// Its user prefers dark colours.
    pub dark: bool,
    /// It is a phone's.
    pub phone: bool,
}

impl Screen {
    /// A desk's.
    pub const DESKTOP: Self = Self {
        width: 1280,
        height: 900,
        dark: false,
        phone: false,
    };
    /// A desk's, in dark colours.
    pub const DARK: Self = Self {
        dark: true,
        ..Self::DESKTOP
    };
    /// A phone's.
    pub const PHONE: Self = Self {
        width: 390,
        height: 844,
        dark: false,
        phone: true,
    };
}

/// A browser with one tab, ended when this is dropped.
#[derive(Debug)]
pub struct Browser {
    requests: File,
    messages: Receiver<Value>,
    reader: Option<JoinHandle<()>>,
    /// Our end of what the browser writes, which ends the reader.
    answers: File,
    session: Option<String>,
    number: u64,
    complaints: Vec<String>,
    asked: BTreeSet<String>,
    process: Option<Process>,
    _folder: TempDir,
}

impl Browser {
    /// Starts it on `host`, with an empty tab and an empty profile.
    ///
    /// # Errors
    /// When it doesn't start.
    pub fn start(host: &Host) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let path = |name: &str| folder.path().join(name).display().to_string();
        let (requests, answers) = (path("requests"), path("answers"));
        let mut open = OpenOptions::new();
        // Both ways, so that nobody waits for the other to open his end.
        let open = open.read(true).write(true);
        let pipe = |path: &str| -> Result<File> {
            nix::unistd::mkfifo(path, nix::sys::stat::Mode::S_IRWXU)?;
            Ok(open.open(path)?)
        };
        let (to, from) = (pipe(&requests)?, pipe(&answers)?);
        let profile = path("profile");
        let command = format!(
            "HOME={profile} exec chromium {OPTIONS} --user-data-dir={profile} 3<{requests} 4>{answers}"
        );
        let process = host.spawn("sh", ["-c", &command])?;
        let (told, messages) = channel();
        let mut heard = BufReader::new(from.try_clone()?);
        let reader = std::thread::spawn(move || {
            let mut message = Vec::new();
            while heard.read_until(0, &mut message).is_ok_and(|read| read > 1) {
                message.pop();
                let message = serde_json::from_slice(&std::mem::take(&mut message));
                if told.send(message.unwrap_or_default()).is_err() {
                    return;
                }
            }
        });
        let mut browser = Self {
            requests: to,
            messages,
            reader: Some(reader),
            answers: from,
            session: None,
            number: 0,
            complaints: Vec::new(),
            asked: BTreeSet::new(),
            process: Some(process),
            _folder: folder,
        };
        browser.open_tab()?;
        Ok(browser)
    }

    /// Shows the page on such a screen from now on.
    pub fn set_screen(&mut self, screen: Screen) -> Result<()> {
        let Screen {
            width,
            height,
            dark,
            phone,
        } = screen;
        let scale = if phone { 2 } else { 1 };
        let metrics = json!({
            "width": width, "height": height, "mobile": phone, "deviceScaleFactor": scale,
        });
        self.call("Emulation.setDeviceMetricsOverride", metrics)?;
        let scheme = if dark { "dark" } else { "light" };
        let media = json!({ "features": [{ "name": "prefers-color-scheme", "value": scheme }] });
        self.call("Emulation.setEmulatedMedia", media)?;
        Ok(())
    }

    /// Goes to an address.
    ///
    /// # Errors
    /// When nobody answers there.
    pub fn open(&mut self, url: &str) -> Result<()> {
        self.evaluate("window.left = true")?;
        let answer = self.call("Page.navigate", json!({ "url": url }))?;
        let error = answer.get("errorText");
        ensure!(error.is_none(), "{url}: {answer}");
        // Until then it is the page before that answers.
        self.wait_until("window.left === undefined", PATIENCE)?;
        Ok(())
    }

    /// Runs a script before those of each page that is opened from now on.
    pub fn prepare(&mut self, script: &str) -> Result<()> {
        let source = json!({ "source": script });
        self.call("Page.addScriptToEvaluateOnNewDocument", source)?;
        Ok(())
    }

    /// The value of an expression in the page, or of what it promises.
    ///
    /// # Errors
    /// When it throws.
    pub fn evaluate(&mut self, expression: &str) -> Result<Value> {
        let arguments = json!({
            "expression": expression, "returnByValue": true, "awaitPromise": true,
        });
        let answer = self.call("Runtime.evaluate", arguments)?;
        let thrown = answer.get("exceptionDetails");
        ensure!(thrown.is_none(), "{expression}: {answer}");
        Ok(answer.pointer("/result/value").cloned().unwrap_or_default())
    }

    /// Waits until an expression is true in the page.
    ///
    /// # Errors
    /// When `limit` has passed, with the page's text.
    pub fn wait_until(&mut self, expression: &str, limit: Duration) -> Result<Duration> {
        let began = Instant::now();
        loop {
            // What it looks for may not be there yet.
            let value = self.evaluate(expression);
            if matches!(&value, Ok(value) if *value == json!(true)) {
                return Ok(began.elapsed());
            }
            if began.elapsed() > limit {
                let text = self.evaluate("document.body.innerText")?;
                bail!("waited {limit:?} in vain for {expression}: {value:?}; the page: {text}");
            }
            std::thread::sleep(LOOK);
        }
    }

    /// Presses and lets go of a key, such as `Tab` or `Enter`.
    pub fn press(&mut self, key: &str) -> Result<()> {
        let text = if key == "Enter" { "\r" } else { "" };
        for kind in ["keyDown", "keyUp"] {
            let event = json!({ "type": kind, "key": key, "code": key, "text": text,
                "windowsVirtualKeyCode": if key == "Tab" { 9 } else { 13 } });
            self.call("Input.dispatchKeyEvent", event)?;
        }
        Ok(())
    }

    /// Writes what the page looks like, all of it, to a PNG file.
    pub fn screenshot(&mut self, file: &Path) -> Result<()> {
        let arguments = json!({ "format": "png", "captureBeyondViewport": true });
        let answer = self.call("Page.captureScreenshot", arguments)?;
        let data = answer.get("data").and_then(Value::as_str);
        let image = decode(data.context("no picture")?)?;
        std::fs::write(file, image).with_context(|| format!("cannot write {}", file.display()))
    }

    /// Errors and warnings on the console, uncaught exceptions, and what the page's policy refused.
    pub fn complaints(&mut self) -> Result<&[String]> {
        // What was said before this answer has come before it.
        self.evaluate("0")?;
        Ok(&self.complaints)
    }

    /// Every address that was asked for, with its query cut off.
    pub fn asked(&mut self) -> Result<&BTreeSet<String>> {
        self.evaluate("0")?;
        Ok(&self.asked)
    }

    /// Forgets the complaints that came so far.
    pub fn forget_complaints(&mut self) -> Result<()> {
        self.evaluate("0")?;
        self.complaints.clear();
        Ok(())
    }

    fn open_tab(&mut self) -> Result<()> {
        let tab = self.call("Target.createTarget", json!({ "url": "about:blank" }))?;
        let target = tab.get("targetId").context("no tab")?;
        let arguments = json!({ "targetId": target, "flatten": true });
        let attached = self.call("Target.attachToTarget", arguments)?;
        let session = attached.get("sessionId").and_then(Value::as_str);
        self.session = Some(session.context("not attached")?.to_owned());
        for domain in ["Page", "Runtime", "Log", "Network"] {
            self.call(&format!("{domain}.enable"), json!({}))?;
        }
        Ok(())
    }

    fn call(&mut self, method: &str, parameters: Value) -> Result<Value> {
        self.number += 1;
        let mut request = json!({ "id": self.number, "method": method, "params": parameters });
        if let Some(session) = &self.session {
            request["sessionId"] = json!(session);
        }
        let mut bytes = serde_json::to_vec(&request)?;
        bytes.push(0);
        self.requests.write_all(&bytes)?;
        let deadline = Instant::now() + PATIENCE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let message = match self.messages.recv_timeout(left) {
                Ok(message) => message,
                Err(RecvTimeoutError::Timeout) => bail!("chromium does not answer {method}"),
                Err(RecvTimeoutError::Disconnected) => bail!("chromium is gone"),
            };
            if message.get("id") == Some(&json!(self.number)) {
                let error = message.get("error");
                ensure!(error.is_none(), "{method}: {message}");
                return Ok(message.get("result").cloned().unwrap_or_default());
            }
            self.hear(&message);
        }
    }

    fn hear(&mut self, message: &Value) {
        let text = |pointer: &str| message.pointer(pointer).and_then(Value::as_str);
        match text("/method").unwrap_or_default() {
            "Network.requestWillBeSent" => {
                let url = text("/params/request/url").unwrap_or_default();
                let url = url.split('?').next().unwrap_or_default();
                self.asked.insert(url.to_owned());
            }
            "Runtime.exceptionThrown" => self.complaints.push(message.to_string()),
            "Runtime.consoleAPICalled" if text("/params/type") != Some("log") => {
                self.complaints.push(message.to_string());
            }
            "Log.entryAdded" if text("/params/entry/level") != Some("verbose") => {
                self.complaints.push(message.to_string());
            }
            _ => {}
        }
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // With its helpers, which are children of its own.
        self.process = None;
        // An empty message is the reader's end.
        let _ = self.answers.write_all(&[0, 0]);
        if let Some(reader) = self.reader.take() {
            // It has nothing to tell.
            let _ = reader.join();
        }
    }
}

/// Base64 (RFC 4648, section 4).
fn decode(text: &str) -> Result<Vec<u8>> {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3);
    let (mut bits, mut count) = (0_u32, 0);
    for letter in text.bytes().filter(|letter| *letter != b'=') {
        let value = LETTERS.iter().position(|known| *known == letter);
        bits = bits << 6 | u32::try_from(value.context("no Base64")?)?;
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push(u8::try_from(bits >> count & 0xff)?);
        }
    }
    Ok(bytes)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_read() {
        // RFC 4648, section 10.
        for (text, bytes) in [
            ("", ""),
            ("Zg==", "f"),
            ("Zm8=", "fo"),
            ("Zm9vYmFy", "foobar"),
        ] {
            assert_eq!(decode(text).unwrap(), bytes.as_bytes());
        }
        assert!(decode("Zg*=").is_err());
    }
}
