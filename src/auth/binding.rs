//! The peer a token works from. Answers for its text forms and for whether a peer is the one. A token without a
//! binding does not exist, and no binding stands for more than one kind of peer.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::tailnet::Peer;

/// The longest text after the colon.
const LONGEST: usize = 256;

/// The peer a token works from.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Binding {
    /// A user of this machine, on loopback. Text form `uid:1000`.
    LocalUser(u32),
    /// One node of the tailnet, by its stable id. Text form `node:nABCDEF11CNTRL`.
    Node(String),
    /// A person, from any node of theirs that has no tag. Text form `user:alice@example.com`; compared letter by
    /// letter, as the tailnet writes the login.
    User(String),
    /// Every node with this tag. Text form `tag:mcp-client`, which is how the tag itself is written.
    Tag(String),
}

impl Binding {
    /// Whether `peer` is who the token works from.
    pub fn is(&self, peer: &Peer) -> bool {
        let on_tailnet = peer.uid.is_none();
        match self {
            Self::LocalUser(uid) => peer.uid == Some(*uid),
            Self::Node(id) => on_tailnet && peer.id == *id,
            // A tagged node belongs to nobody, whatever its daemon calls its user.
            Self::User(login) => on_tailnet && peer.tags.is_empty() && peer.user.as_ref() == Some(login),
            Self::Tag(tag) => on_tailnet && peer.tags.contains(tag),
        }
    }

    /// Whether it is a local user: what peers are on loopback, and never are on a tailnet.
    pub fn is_local(&self) -> bool {
        matches!(self, Self::LocalUser(_))
    }
}

impl fmt::Display for Binding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::LocalUser(uid) => write!(f, "uid:{uid}"),
            Self::Node(id) => write!(f, "node:{id}"),
            Self::User(login) => write!(f, "user:{login}"),
            Self::Tag(tag) => f.write_str(tag),
        }
    }
}

/// Why a text is no binding.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BindingError {
    /// None of the forms.
    #[error("{0:?} is no binding; write node:STABLE_ID, user:LOGIN or tag:NAME on a tailnet, uid:NUMBER on loopback")]
    Form(String),
    /// Not a number of a user.
    #[error("{0:?} is no local user; write uid:NUMBER, e.g. uid:1000")]
    Uid(String),
    /// Not a stable id.
    #[error(
        "{0:?} is no node; write node: and the stable id of the node, letters and digits, e.g. node:nABCDEF11CNTRL"
    )]
    Node(String),
    /// Not a login.
    #[error("{0:?} is no login; write user: and the login as the tailnet shows it, e.g. user:alice@example.com")]
    User(String),
    /// The login that stands for all tagged nodes, which are nobody's.
    #[error("\"tagged-devices\" is nobody; bind to the node's tag instead, e.g. tag:mcp-client")]
    TaggedDevices,
    /// Not a tag.
    #[error("{0:?} is no tag; write tag: and a letter, then letters, digits and `-`, e.g. tag:mcp-client")]
    Tag(String),
    /// `tag:tag:…`.
    #[error("write tag: once: {0}")]
    TagTwice(String),
}

impl FromStr for Binding {
    type Err = BindingError;

    fn from_str(text: &str) -> Result<Self, BindingError> {
        let given = || text.chars().take(80).collect::<String>();
        let Some((form, name)) = text.split_once(':') else { return Err(BindingError::Form(given())) };
        let fits = !name.is_empty() && name.len() <= LONGEST;
        match form {
            "uid" => {
                let digits = fits && name.bytes().all(|byte| byte.is_ascii_digit());
                let uid = digits.then(|| name.parse().ok()).flatten();
                uid.map(Self::LocalUser).ok_or_else(|| BindingError::Uid(given()))
            }
            "node" => {
                let plain = fits && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
                if plain { Ok(Self::Node(name.to_owned())) } else { Err(BindingError::Node(given())) }
            }
            "user" if name == "tagged-devices" => Err(BindingError::TaggedDevices),
            "user" => {
                let plain = fits && !name.chars().any(|c| c.is_control() || c.is_whitespace() || c == ',');
                if plain && !name.starts_with("tag:") {
                    Ok(Self::User(name.to_owned()))
                } else {
                    Err(BindingError::User(given()))
                }
            }
            "tag" if name.starts_with("tag:") => Err(BindingError::TagTwice(name.chars().take(80).collect())),
            "tag" => {
                let letter = name.bytes().next().is_some_and(|byte| byte.is_ascii_alphabetic());
                let plain = fits && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
                if letter && plain { Ok(Self::Tag(text.to_owned())) } else { Err(BindingError::Tag(given())) }
            }
            _ => Err(BindingError::Form(given())),
        }
    }
}

impl Serialize for Binding {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Binding {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::tailnet::Grants;

    fn peer(id: &str, user: Option<&str>, tags: &[&str]) -> Peer {
        Peer {
            id: id.to_owned(),
            node: "laptop.example.ts.net".to_owned(),
            user: user.map(str::to_owned),
            tags: tags.iter().map(|tag| (*tag).to_owned()).collect(),
            tailnet: Some("example.ts.net".to_owned()),
            address: "100.64.0.7:40000".parse().unwrap(),
            uid: None,
            grants: Grants::Rules(Vec::new()),
        }
    }

    fn local(uid: u32) -> Peer {
        Peer { uid: Some(uid), tailnet: None, ..peer(&format!("uid:{uid}"), Some("alice@example.com"), &[]) }
    }

    fn binding(text: &str) -> Binding {
        text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    #[test]
    fn each_form_stands_for_its_own_peers_and_no_others() {
        let alice = peer("nALICE", Some("alice@example.com"), &[]);
        let agent = peer("nAGENT", None, &["tag:build", "tag:mcp-client"]);
        // A daemon that names a user of a tagged node: its tags decide.
        let odd = peer("nODD", Some("alice@example.com"), &["tag:mcp-client"]);
        let all = [("alice", alice), ("agent", agent), ("odd", odd), ("uid", local(1000))];
        for (text, wanted) in [
            ("uid:1000", &["uid"][..]),
            ("uid:1001", &[]),
            ("node:nALICE", &["alice"]),
            ("node:nalice", &[]),
            ("node:nODD", &["odd"]),
            ("node:1000", &[]),
            ("user:alice@example.com", &["alice"]),
            ("user:Alice@example.com", &[]),
            ("user:alice@example.co", &[]),
            ("user:tag", &[]),
            ("tag:mcp-client", &["agent", "odd"]),
            ("tag:build", &["agent"]),
            ("tag:mcp", &[]),
            ("tag:Build", &[]),
        ] {
            let matching: Vec<&str> =
                all.iter().filter(|(_, peer)| binding(text).is(peer)).map(|(name, _)| *name).collect();
            assert_eq!(matching, wanted, "{text}");
            assert_eq!(binding(text).to_string(), text);
        }
    }

    #[test]
    fn what_is_no_binding_is_told_what_would_be() {
        for (text, wanted) in [
            ("", "node:STABLE_ID"),
            ("alice", "node:STABLE_ID"),
            ("login:alice", "user:LOGIN"),
            ("Tag:x", "tag:NAME"),
            ("uid:", "uid:1000"),
            ("uid:-1", "uid:1000"),
            ("uid:+1", "uid:1000"),
            ("uid:4294967296", "uid:1000"),
            ("uid:alice", "uid:1000"),
            ("node:", "stable id"),
            ("node:uid:1000", "stable id"),
            ("node:100.64.0.7", "stable id"),
            ("user:", "user:alice@example.com"),
            ("user:a b", "user:alice@example.com"),
            ("user:a\nb", "user:alice@example.com"),
            ("user:a,b", "user:alice@example.com"),
            ("user:tag:x", "user:alice@example.com"),
            ("user:tagged-devices", "bind to the node's tag"),
            ("tag:", "tag:mcp-client"),
            ("tag:1x", "tag:mcp-client"),
            ("tag:a_b", "tag:mcp-client"),
            ("tag:*", "tag:mcp-client"),
            ("tag:tag:mcp-client", "once: tag:mcp-client"),
        ] {
            let error = text.parse::<Binding>().unwrap_err().to_string();
            assert!(error.contains(wanted), "{text:?}: {error}");
        }
        let long = format!("user:{}", "x".repeat(5000)).parse::<Binding>().unwrap_err().to_string();
        assert!(long.len() < 300, "{long}");
    }

    proptest! {
        #[test]
        fn what_is_read_is_written_the_same_and_nothing_panics(text in "(uid|node|user|tag|x):\\PC{0,20}") {
            if let Ok(binding) = text.parse::<Binding>() {
                // A number may be written with zeros before it.
                let again = binding.to_string();
                prop_assert_eq!(again.parse::<Binding>().unwrap(), binding);
            }
        }

        #[test]
        fn no_binding_of_one_sort_matches_a_peer_of_another(uid in 0..3_u32, name in "[a-z0-9]{1,3}") {
            let id = format!("uid:{uid}");
            prop_assert!(!Binding::Node(id.clone()).is(&local(uid)));
            prop_assert!(!Binding::User("alice@example.com".into()).is(&local(uid)));
            prop_assert!(!Binding::LocalUser(uid).is(&peer(&id, Some(&name), &[])));
            prop_assert!(!Binding::User(name.clone()).is(&peer("n1", Some(&name), &["tag:x"])));
        }
    }
}
