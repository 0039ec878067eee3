//! `tailops serve --config` as a child process, its log, and the command line beside it.

use std::{
    path::{Path, PathBuf},
    process::{Output, Stdio},
    sync::{Arc, Mutex},
    time::Duration,
};

use rustix::process::Pid;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
    time::timeout,
};

use crate::{
    child::BINARY,
    harness::{Answer, eventually, http_client, modern},
};

const PATIENCE: Duration = Duration::from_secs(30);

/// A directory with a configuration; gone with the test.
pub struct Place {
    _directory: TempDir,
    /// The configuration file.
    pub file: PathBuf,
    /// The data directory.
    pub data: PathBuf,
}

impl Place {
    /// One whose configuration is `text`, with `DATA` replaced by the data directory.
    pub fn with(text: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().canonicalize().unwrap();
        let place = Self { _directory: directory, file: path.join("tailops.toml"), data: path.join("data") };
        place.write(text);
        place
    }

    pub fn write(&self, text: &str) {
        std::fs::write(&self.file, text.replace("DATA", self.data.to_str().unwrap())).unwrap();
    }

    pub fn beside(&self, name: &str, text: &str) -> PathBuf {
        let path = self.file.with_file_name(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    /// The command line on this data.
    pub async fn tailops(&self, arguments: &[&str]) -> Output {
        let command =
            Command::new(BINARY).args(arguments).arg("--data-dir").arg(&self.data).kill_on_drop(true).output();
        timeout(PATIENCE, command).await.expect("it ends in time").unwrap()
    }

    /// What the command prints; it must succeed.
    pub async fn said(&self, arguments: &[&str]) -> String {
        let output = self.tailops(arguments).await;
        assert!(output.status.success(), "{arguments:?}: {}", stderr(&output));
        String::from_utf8(output.stdout).unwrap()
    }

    /// What the command complains of; it must fail with `code`.
    pub async fn refused(&self, code: i32, arguments: &[&str]) -> String {
        let output = self.tailops(arguments).await;
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {}", stderr(&output));
        stderr(&output)
    }

    /// A token of this engagement with every scope.
    pub async fn token(&self, engagement: &str) -> String {
        let mint =
            ["token", "mint", "--agent", "tester", "--scopes", "admin", "--ttl", "1h", "--engagement", engagement];
        self.said(&mint).await.trim().to_owned()
    }

    /// Every record, oldest first.
    pub async fn records(&self) -> Vec<Value> {
        let lines = self.said(&["audit", "export"]).await;
        lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

pub fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A service that runs a configuration file; killed when dropped.
pub struct Served {
    child: Child,
    /// Its log so far.
    pub log: Arc<Mutex<String>>,
    pub url: String,
    http: reqwest::Client,
}

impl Served {
    pub async fn start(place: &Place) -> Self {
        Self::run(Command::new(BINARY).arg("serve").arg("--config").arg(&place.file)).await
    }

    /// Runs `command`, which must come to serve.
    pub async fn run(command: &mut Command) -> Self {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let log = Arc::new(Mutex::new(String::new()));
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        tokio::spawn({
            let log = log.clone();
            async move {
                while let Ok(Some(line)) = lines.next_line().await {
                    let mut log = log.lock().unwrap();
                    log.push_str(&line);
                    log.push('\n');
                }
                log.lock().unwrap().push_str("\n(end of log)\n");
            }
        });
        let addresses = async || {
            let log = log.lock().unwrap().clone();
            let line = log.lines().find(|line| line.contains("\"addresses\"")).map(str::to_owned);
            assert!(line.is_some() || !log.contains("(end of log)"), "{log}");
            line
        };
        eventually("it serves", async || addresses().await.is_some()).await;
        let line: Value = serde_json::from_str(&addresses().await.unwrap()).unwrap();
        let address = line["addresses"].as_str().unwrap().split(' ').next().unwrap().to_owned();
        let http = http_client().timeout(PATIENCE).build().unwrap();
        Self { child, log, url: format!("http://{address}/mcp"), http }
    }

    pub fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id().expect("it runs").try_into().unwrap()).unwrap()
    }

    pub fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    pub async fn call(&self, token: &str, tool: &str, arguments: Value) -> Answer {
        let response = modern(&self.http, &self.url, Some(token), tool, arguments).send().await.unwrap();
        let status = response.status().as_u16();
        let text = response.text().await.unwrap();
        Answer { status, body: serde_json::from_str(&text).unwrap_or(Value::String(text)) }
    }

    /// The digest of the configuration in force, as `gateway_inspect` shows it.
    pub async fn digest(&self, token: &str) -> String {
        let answer = self.call(token, "gateway_inspect", json!({"sections": ["config"]})).await;
        answer.data()["config"]["sha256"].as_str().unwrap().to_owned()
    }

    /// SIGTERM, and a clean end.
    pub async fn stop(mut self) {
        rustix::process::kill_process(self.pid(), rustix::process::Signal::TERM).unwrap();
        let status = timeout(PATIENCE, self.child.wait()).await.expect("it ends in time").unwrap();
        assert_eq!(status.code(), Some(0), "{}", self.log());
    }
}

/// How `serve` refuses to start: its exit code and its words.
pub async fn refuses(command: &mut Command) -> (i32, String) {
    let output = timeout(PATIENCE, command.kill_on_drop(true).output()).await.expect("it ends").unwrap();
    (output.status.code().unwrap(), stderr(&output))
}

pub fn serve(file: &Path) -> Command {
    let mut command = Command::new(BINARY);
    command.arg("serve").arg("--config").arg(file);
    command
}
