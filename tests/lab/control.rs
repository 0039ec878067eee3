//! The control server: headscale, with a policy file that tests exchange while it runs.

use std::{
    path::PathBuf,
    process::{Command, Output, Stdio},
    sync::Mutex,
};

use rustix::process::Signal;
use serde_json::Value;

use crate::{
    daemon::Daemon,
    machine::Machine,
    parts::Parts,
    wait::{until, until_some},
};

/// The domain of the tailnet's names.
pub const DOMAIN: &str = "lab.test";
const PORT: u16 = 8080;

/// Whose a node is.
#[derive(Clone, Copy)]
pub enum Owner {
    /// `alice`, whose login is `alice@example.com`.
    User(&'static str),
    /// Nobody's: tagged.
    Tag(&'static str),
}

/// headscale, running.
pub struct Control {
    pub machine: Machine,
    program: PathBuf,
    config: PathBuf,
    daemon: Daemon,
    /// What is in force.
    policy: Mutex<String>,
}

impl Control {
    /// Starts it on `machine` with `policy` and waits until it answers.
    pub fn start(parts: &Parts, machine: Machine, policy: &str) -> Self {
        machine.write("policy.hujson", policy);
        let config = machine.write("config.yaml", &configuration(&machine));
        let mut command = machine.command(&parts.headscale);
        command.arg("-c").arg(&config).arg("serve");
        let daemon = Daemon::start(command, machine.directory.join("log"));
        let mut control =
            Self { machine, program: parts.headscale.clone(), config, daemon, policy: Mutex::new(policy.to_owned()) };
        until("headscale answers", || {
            control.daemon.must_run();
            control.run(&["users", "list", "-o", "json"]).status.success()
        });
        control
    }

    /// Where nodes log in.
    pub fn url(&self) -> String {
        format!("http://{}:{PORT}", self.machine.address)
    }

    /// headscale's own command line, over its socket.
    fn run(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(&self.program);
        command.arg("-c").arg(&self.config).args(arguments).stdin(Stdio::null());
        command.output().unwrap()
    }

    #[track_caller]
    fn ask(&self, arguments: &[&str]) -> Value {
        let output = self.run(&[arguments, &["-o", "json"]].concat());
        assert!(output.status.success(), "headscale {arguments:?}: {}", text_of(&output));
        serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|_| panic!("headscale {arguments:?}: {}", text_of(&output)))
    }

    /// Makes the user `name` with the login `name@example.com`.
    pub fn add_user(&self, name: &str) {
        self.ask(&["users", "create", name, "--email", &format!("{name}@example.com")]);
    }

    /// A key that lets one node after another join as `owner`'s.
    pub fn key(&self, owner: Owner) -> String {
        let created = match owner {
            Owner::User(name) => {
                let users = self.ask(&["users", "list"]);
                let user = users.as_array().unwrap().iter().find(|user| user["name"] == name).unwrap();
                let id = user["id"].to_string();
                self.ask(&["preauthkeys", "create", "--reusable", "--user", id.trim_matches('"')])
            }
            Owner::Tag(tag) => self.ask(&["preauthkeys", "create", "--reusable", "--tags", tag]),
        };
        created["key"].as_str().unwrap().to_owned()
    }

    /// A key that lets one node join with this tag, once.
    #[cfg(feature = "embedded")]
    pub fn single_key(&self, tag: &str) -> String {
        self.ask(&["preauthkeys", "create", "--tags", tag])["key"].as_str().unwrap().to_owned()
    }

    /// Puts `policy` in force, as the file it is, and waits until headscale says so. Nodes learn of it a moment later:
    /// wait for what it changes.
    #[track_caller]
    pub fn set_policy(&self, policy: &str) {
        let mut current = self.policy.lock().unwrap();
        if *current == policy {
            return;
        }
        self.machine.write("policy.hujson", policy);
        let before = self.daemon.log().len();
        self.daemon.signal(Signal::HUP);
        until_some("headscale has read the policy", || {
            let log = self.daemon.log();
            let new = &log[before..];
            // What is wrong with it, its own tests too.
            assert!(!new.contains("error=") || !new.contains("reloading policy"), "{new}");
            new.contains("Policy reload completed with changes").then_some(())
        });
        policy.clone_into(&mut current);
    }

    /// What `headscale policy check` says: an error with its text.
    pub fn check_policy(&self, policy: &str) -> Result<(), String> {
        let file = self.machine.write("candidate.hujson", policy);
        let output = self.run(&["policy", "check", "-f", file.to_str().unwrap()]);
        if output.status.success() { Ok(()) } else { Err(text_of(&output)) }
    }

    /// Removes the node with this stable id.
    pub fn delete(&self, id: &str) {
        self.ask(&["nodes", "delete", "--identifier", id, "--force"]);
    }

    /// Gives the node other tags.
    pub fn tag(&self, id: &str, tag: &str) {
        self.ask(&["nodes", "tag", "--identifier", id, "--tags", tag]);
    }

    /// Lets the node's key expire now.
    pub fn expire(&self, id: &str) {
        self.ask(&["nodes", "expire", "--identifier", id]);
    }
}

fn text_of(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

fn configuration(machine: &Machine) -> String {
    let (address, directory) = (machine.address, machine.directory.display());
    format!(
        r#"
server_url: http://{address}:{PORT}
listen_addr: {address}:{PORT}
metrics_listen_addr: ""
grpc_listen_addr: 127.0.0.1:50443
unix_socket: {directory}/headscale.sock
unix_socket_permission: "0700"
disable_check_updates: true
noise: {{private_key_path: {directory}/noise.key}}
prefixes: {{v4: 100.64.0.0/10, v6: "fd7a:115c:a1e0::/48"}}
database: {{type: sqlite, sqlite: {{path: {directory}/db.sqlite}}}}
derp:
  server:
    enabled: true
    region_id: 999
    region_code: lab
    region_name: lab
    verify_clients: true
    stun_listen_addr: "{address}:3478"
    private_key_path: {directory}/derp.key
    automatically_add_embedded_derp_region: true
    ipv4: {address}
  urls: []
  paths: []
  auto_update_enabled: false
dns: {{magic_dns: true, base_domain: {DOMAIN}, override_local_dns: false}}
policy: {{mode: file, path: {directory}/policy.hujson}}
log: {{level: info}}
"#
    )
}
