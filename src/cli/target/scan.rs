//! `tailops target scan`: the host keys that a machine shows now, beside those that are enrolled. The running service
//! looks; nothing is trusted and nothing is kept.

use std::path::Path;

use anyhow::{anyhow, bail};
use clap::Args;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::Desk;
use crate::{
    cli::{
        Exit,
        people::{Gateway, Reach},
        say, table, visible,
    },
    model::{Connection, HostKeyPin, Target},
};

#[derive(Args, Debug)]
pub(in crate::cli) struct Arguments {
    /// A target's id, or a name or an address, with :PORT where it is not 22
    #[arg(value_name = "ID|HOST[:PORT]")]
    what: String,
    /// The target to look from, for a machine that is reached through it and is no target yet
    #[arg(long, value_name = "ID")]
    jump: Option<String>,
    /// As an object
    #[arg(long)]
    json: bool,
}

/// A key that a host showed.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(super) struct Shown {
    pub(super) algorithm: String,
    pub(super) fingerprint: String,
    certificate: Option<Value>,
}

/// What the running service saw.
#[derive(Deserialize)]
pub(super) struct Answer {
    pub(super) keys: Vec<Shown>,
    pub(super) identification: Option<String>,
}

/// What the running service sees of a host, by itself or from the target `jump`.
pub(super) async fn shown(
    directory: &Path,
    host: &str,
    port: Option<u16>,
    jump: Option<&str>,
) -> anyhow::Result<Answer> {
    let gateway = Gateway::reach(Some(directory), &Reach { url: None }).await.map_err(|exit| exit.error)?;
    let body = json!({"host": host, "port": port.unwrap_or(22), "jump": jump});
    gateway.post(&["targets", "scan"], &body).await
}

/// Whether a host that shows `keys` has the one that `pin` stands for.
pub(super) fn shows(keys: &[Shown], pin: &HostKeyPin) -> bool {
    keys.iter().any(|key| {
        key.fingerprint == pin.fingerprint && pin.algorithm.as_ref().is_none_or(|name| *name == key.algorithm)
    })
}

/// `pin` with the algorithm of the key that was shown, where one was.
pub(super) fn completed(pin: &HostKeyPin, keys: &[Shown]) -> HostKeyPin {
    let key = keys.iter().find(|key| key.fingerprint == pin.fingerprint && pin.algorithm.is_none());
    key.and_then(|key| format!("{} {}", key.fingerprint, key.algorithm).parse().ok()).unwrap_or_else(|| pin.clone())
}

/// How a key that is shown stands to those that are enrolled.
fn state(key: &Shown, enrolled: &[HostKeyPin]) -> &'static str {
    if enrolled.iter().any(|pin| shows(std::slice::from_ref(key), pin)) {
        return "enrolled";
    }
    match enrolled.iter().any(|pin| pin.algorithm.as_ref() == Some(&key.algorithm)) {
        true => "changed",
        false => "not enrolled",
    }
}

impl Desk<'_> {
    pub(super) async fn scan(&self, arguments: Arguments) -> Result<(), Exit> {
        let Arguments { what, jump, json } = arguments;
        let target = self.one(&what).await?;
        if let (Some(target), Some(_)) = (&target, &jump) {
            let text = format!("--jump: {} is a target, and its entry says how it is reached", target.id);
            return Err(Exit::with(2, anyhow!(text)));
        }
        let (host, port, jump) = match target.as_ref() {
            Some(target) => place(target).map(|connection| {
                let jump = connection.jump.as_ref().map(ToString::to_string);
                (connection.host.clone(), connection.port, jump)
            })?,
            None => host_and_port(&what).map(|(host, port)| (host, port, jump)).ok_or_else(|| {
                let text = "must be a target, or a name or an address such as web-1, 10.0.0.5:2222 or [2001:db8::1]:22";
                Exit::with(2, anyhow!("ID|HOST[:PORT]: {what:?} {text}"))
            })?,
        };
        let enrolled = target.as_ref().and_then(Target::connection).map(|connection| connection.host_keys.as_slice());
        let enrolled = enrolled.unwrap_or_default();
        let Answer { keys, identification } = shown(self.directory, &host, port, jump.as_deref()).await?;
        let states: Vec<&str> = keys.iter().map(|key| state(key, enrolled)).collect();
        if json {
            let described = keys.iter().zip(&states).map(|(key, state)| {
                let state = target.as_ref().map(|_| state);
                json!({"algorithm": key.algorithm, "fingerprint": key.fingerprint, "certificate": key.certificate,
                    "state": state})
            });
            let keys: Vec<Value> = described.collect();
            let target = target.as_ref().map(|target| target.id.as_str());
            let all = json!({"host": host, "port": port.unwrap_or(22), "jump": jump, "target": target,
                "identification": identification, "keys": keys});
            say(visible::json(&all)?)?;
        } else if keys.is_empty() {
            say(format_args!("{host} shows no host key that tailops accepts"))?;
        } else {
            let rows = keys.iter().zip(&states).map(|(key, state)| {
                let state = if target.is_some() { state } else { "-" };
                let certificate = if key.certificate.is_some() { "yes" } else { "-" };
                vec![key.algorithm.clone(), key.fingerprint.clone(), certificate.to_owned(), state.to_owned()]
            });
            table(&["TYPE", "FINGERPRINT", "CERTIFICATE", "STATE"], rows)?;
            if let Some(identification) = identification {
                say(format_args!("{host} says it is {}", visible::cut(&identification, 300)))?;
            }
        }
        let known = enrolled.is_empty() || states.contains(&"enrolled");
        if states.contains(&"changed") || !known {
            return Err(anyhow!(
                "{what} shows other keys than it was enrolled with: either it was built anew, or somebody stands between; \
                 it is not talked to"
            )
            .into());
        }
        Ok(())
    }
}

/// Where a target is, if it can be asked for its keys.
fn place(target: &Target) -> anyhow::Result<&Connection> {
    match target.connection() {
        Some(connection) if target.kind == crate::model::TargetKind::Ssh => Ok(connection),
        _ => bail!("{} is not reached by SSH and has no host keys", target.id),
    }
}

/// `web-1`, `10.0.0.5:2222`, `2001:db8::1` or `[2001:db8::1]:22`.
fn host_and_port(text: &str) -> Option<(String, Option<u16>)> {
    let port = |text: &str| text.parse::<u16>().ok().filter(|port| *port > 0);
    if let Some(rest) = text.strip_prefix('[') {
        let (host, rest) = rest.split_once(']')?;
        return match rest.strip_prefix(':') {
            Some(rest) => Some((host.to_owned(), Some(port(rest)?))),
            None => rest.is_empty().then(|| (host.to_owned(), None)),
        };
    }
    match text.split_once(':') {
        Some((host, rest)) if !rest.contains(':') && !host.is_empty() => Some((host.to_owned(), Some(port(rest)?))),
        Some((host, rest)) if !rest.contains(':') && host.is_empty() => None,
        _ => (!text.is_empty()).then(|| (text.to_owned(), None)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_and_a_port_are_told_apart() {
        for (text, host, port) in [
            ("web-1", "web-1", None),
            ("10.0.0.5:2222", "10.0.0.5", Some(2222)),
            ("2001:db8::1", "2001:db8::1", None),
            ("[2001:db8::1]", "2001:db8::1", None),
            ("[2001:db8::1]:22", "2001:db8::1", Some(22)),
        ] {
            assert_eq!(host_and_port(text), Some((host.to_owned(), port)), "{text}");
        }
        for text in ["", "web:", "web:0", "web:70000", "web:x", ":22", "[::1", "[::1]22", "[::1]:"] {
            assert_eq!(host_and_port(text), None, "{text}");
        }
    }

    #[test]
    fn a_key_that_took_the_place_of_an_enrolled_one_is_told_from_one_more() {
        let one = "SHA256:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU";
        let other = "SHA256:57DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU";
        let key = |fingerprint: &str, algorithm: &str| Shown {
            algorithm: algorithm.to_owned(),
            fingerprint: fingerprint.to_owned(),
            certificate: None,
        };
        let pins = [format!("{one} ssh-ed25519").parse().unwrap()];
        assert_eq!(state(&key(one, "ssh-ed25519"), &pins), "enrolled");
        assert_eq!(state(&key(other, "ssh-ed25519"), &pins), "changed");
        assert_eq!(state(&key(one, "ssh-rsa"), &pins), "not enrolled");
        let bare: HostKeyPin = one.parse().unwrap();
        let keys = [key(other, "ssh-rsa"), key(one, "ssh-ed25519")];
        assert_eq!(completed(&bare, &keys).to_string(), format!("{one} ssh-ed25519"));
        assert!(shows(&keys, &bare) && !shows(&keys[..1], &bare));
    }
}
