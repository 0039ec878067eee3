//! `tailops token`. The token itself is printed once, alone on standard output; everything else goes beside it.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{self, Write},
    path::Path,
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, anyhow};
use clap::{Args, Subcommand};
use jiff::Timestamp;
use secrecy::ExposeSecret;
use serde_json::{Map, Value, json};

use super::{Exit, block_on, data_directory, local_user, say, table};
use crate::{
    audit::{Audit, token_usage},
    auth::{Binding, MintRequest, mint, rotate_key, state},
    config::Profile,
    model::{Clock, ScopeSet, Subtree, SystemClock, parse_duration},
    store::{Store, TokenRow, prepare_directory},
    tools,
};

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Make a token for an agent and print it, once
    Mint(Mint),
    /// List tokens
    List {
        /// As an array of objects
        #[arg(long)]
        json: bool,
    },
    /// Show one token: everything but its secret
    Show {
        /// Its id
        jti: String,
        /// As an object
        #[arg(long)]
        json: bool,
    },
    /// Revoke a token: its next call is refused within a second
    Revoke {
        /// Its id
        #[arg(required_unless_present = "all")]
        jti: Option<String>,
        /// Revoke every token there is
        #[arg(long, conflicts_with = "jti")]
        all: bool,
    },
    /// What tokens were used for: calls, tools, nodes and last use, counted from the audit log
    Usage {
        /// Only this one
        #[arg(conflicts_with = "subject")]
        jti: Option<String>,
        /// Only those of this agent
        #[arg(long, value_name = "NAME")]
        subject: Option<String>,
        /// As an array of objects
        #[arg(long)]
        json: bool,
    },
    /// Make a new signing key; tokens signed before stop working
    RotateKey {
        /// Let them work this long, e.g. 24h [default: not at all]
        #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
        grace: Option<Duration>,
    },
}

#[derive(Args, Debug)]
pub(super) struct Mint {
    /// Who it is for, e.g. ops-automation
    #[arg(long, value_name = "NAME")]
    agent: String,
    /// What it may do, e.g. readonly or system:read,log:read
    #[arg(long, value_name = "SCOPES", value_parser = ScopeSet::parse)]
    scopes: ScopeSet,
    /// How long it lives, e.g. 30d, 8h
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    ttl: Duration,
    /// The tenant it belongs to
    #[arg(long, value_name = "NAME", default_value = "default")]
    engagement: String,
    /// Only this target (may be repeated)
    #[arg(long = "target", value_name = "ID")]
    targets: Vec<String>,
    /// Only this tool (may be repeated)
    #[arg(long = "tool", value_name = "NAME")]
    tools: Vec<String>,
    /// Only files below this directory, e.g. '/var/log/**' (may be repeated)
    #[arg(long = "path", value_name = "DIR/**")]
    paths: Vec<Subtree>,
    /// The peer it works from: node:STABLE_ID, user:LOGIN or tag:NAME on a tailnet; uid:NUMBER on loopback [default
    /// there: you]
    #[arg(long, value_name = "PEER")]
    bind: Option<Binding>,
    /// Who answers for the agent, by the login they have on the tailnet, e.g. maria@example.org: they cannot approve what
    /// it asks for [default: you, by your name on this machine]
    #[arg(long, value_name = "LOGIN", value_parser = login)]
    owner: Option<String>,
    /// Print an object with the token and what it says
    #[arg(long)]
    json: bool,
}

pub(super) fn run(directory: Option<&Path>, command: Command) -> Result<(), Exit> {
    let directory = data_directory(directory)?;
    prepare_directory(&directory)?;
    block_on(async {
        let store = Store::open(&directory).await?;
        let desk = Desk { directory: &directory, store: &store, clock: Arc::new(SystemClock) };
        match command {
            Command::Mint(arguments) => desk.mint(arguments).await?,
            Command::List { json } => desk.list(json).await?,
            Command::Show { jti, json } => desk.show(&jti, json).await?,
            Command::Revoke { jti, .. } => desk.revoke(jti.as_deref()).await?,
            Command::Usage { jti, subject, json } => desk.usage(jti.as_deref(), subject.as_deref(), json).await?,
            Command::RotateKey { grace } => desk.rotate(grace.unwrap_or_default()).await?,
        }
        store.close().await;
        Ok(())
    })
}

/// What a network may call somebody.
fn login(text: &str) -> Result<String, &'static str> {
    let fits = (1..=254).contains(&text.len()) && !text.chars().any(|c| c.is_whitespace() || c.is_control());
    if fits { Ok(text.to_owned()) } else { Err("must be a login such as maria@example.org") }
}

struct Desk<'a> {
    directory: &'a Path,
    store: &'a Store,
    clock: Arc<dyn Clock>,
}

impl Desk<'_> {
    async fn mint(&self, arguments: Mint) -> anyhow::Result<()> {
        for name in &arguments.tools {
            anyhow::ensure!(tools::find(name).is_some(), "--tool: there is no tool {name:?}");
        }
        let binding = binding(self.store.meta("node_mode").await?.as_deref(), arguments.bind)?;
        let nobody = matches!(binding, Binding::Node(_) | Binding::Tag(_));
        if arguments.owner.is_none() && nobody {
            let said = "no login of the tailnet stands for this agent, so whoever runs it elsewhere could approve what it asks";
            writeln!(io::stderr(), "warning: {said}: name them with --owner LOGIN")?;
        }
        let profile: Profile = match self.store.meta("profile").await? {
            Some(name) => name.parse().map_err(|error| anyhow!("the profile in the database: {error}"))?,
            None => Profile::Recommended,
        };
        let request = MintRequest {
            subject: arguments.agent,
            owner: arguments.owner.unwrap_or_else(local_user),
            scopes: arguments.scopes,
            engagement: arguments.engagement.into(),
            targets: only(arguments.targets.into_iter().map(Into::into)),
            tools: only(arguments.tools),
            paths: only(arguments.paths),
            ttl: arguments.ttl,
            binding,
        };
        let caps = (profile.as_str(), profile.max_token_ttl());
        let minted = mint(self.store, self.directory, request, caps, self.clock.now()).await?;
        let claims = serde_json::to_value(&minted.claims)?;
        let recorded = self.record("token.mint", claims.as_object().cloned().unwrap_or_default()).await;
        if let Err(error) = recorded {
            // What is not on record was not made: nobody has seen the token yet.
            self.store.revoke_tokens(Some(minted.claims.jti.as_str()), self.clock.now(), "tailops").await?;
            return Err(error.context("the token was not made, as that could not be recorded"));
        }
        if minted.duplicate_subject {
            writeln!(io::stderr(), "warning: {} has another token that is still valid", minted.claims.subject)?;
        }
        if arguments.json {
            let mut object = claims;
            if let Some(object) = object.as_object_mut() {
                object.insert("token".to_owned(), Value::from(minted.token.expose_secret()));
            }
            return Ok(say(object)?);
        }
        Ok(say(minted.token.expose_secret())?)
    }

    async fn list(&self, as_json: bool) -> anyhow::Result<()> {
        let (rows, now) = (self.store.tokens().await?, self.clock.now());
        if as_json {
            return Ok(say(Value::from_iter(rows.iter().map(|row| described(row, now))))?);
        }
        let lines = rows.into_iter().map(|row| {
            let state = state(&row, now).as_str().to_owned();
            vec![row.jti, row.subject, state, row.engagement, format!("{:.0}", row.expires_at), row.scopes]
        });
        Ok(table(&["JTI", "SUBJECT", "STATE", "ENGAGEMENT", "EXPIRES", "SCOPES"], lines)?)
    }

    async fn usage(&self, jti: Option<&str>, subject: Option<&str>, as_json: bool) -> anyhow::Result<()> {
        let mut used = token_usage(&self.store.leaf_reader()).await?;
        // A token that was never used is an answer too.
        for row in self.store.tokens().await? {
            used.entry(row.jti).or_default().subject.get_or_insert(row.subject);
        }
        if let Some(jti) = jti {
            anyhow::ensure!(used.contains_key(jti), "there is no token {jti:?}");
        }
        used.retain(|known, usage| {
            jti.is_none_or(|jti| jti == known) && subject.is_none_or(|name| usage.subject.as_deref() == Some(name))
        });
        if as_json {
            return Ok(say(Value::from_iter(used.iter().map(|(jti, usage)| usage.described(jti))))?);
        }
        let counted = |counts: &BTreeMap<String, u64>| {
            counts.iter().map(|(name, count)| format!("{name}:{count}")).collect::<Vec<_>>().join(" ")
        };
        let lines = used.into_iter().map(|(jti, usage)| {
            let last = usage.counts.last.map_or_else(|| "never".to_owned(), |last| format!("{last:.0}"));
            let (calls, refusals) = (usage.counts.calls.to_string(), usage.refusals.to_string());
            let (tools, nodes) = (counted(&usage.tools), counted(&usage.nodes));
            vec![jti, usage.subject.unwrap_or_default(), calls, refusals, last, nodes, tools]
        });
        Ok(table(&["JTI", "SUBJECT", "CALLS", "REFUSALS", "LAST", "NODES", "TOOLS"], lines)?)
    }

    async fn show(&self, jti: &str, as_json: bool) -> anyhow::Result<()> {
        let row = self.store.token(jti).await?.with_context(|| format!("there is no token {jti:?}"))?;
        let described = described(&row, self.clock.now());
        if as_json {
            return Ok(say(described)?);
        }
        for (key, value) in described.as_object().into_iter().flatten() {
            let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            say(format_args!("{key:14} {text}"))?;
        }
        Ok(())
    }

    async fn revoke(&self, jti: Option<&str>) -> anyhow::Result<()> {
        let revoked = self.store.revoke_tokens(jti, self.clock.now(), &local_user()).await?;
        if let (Some(jti), true) = (jti, revoked.is_empty()) {
            self.store.token(jti).await?.with_context(|| format!("there is no token {jti:?}"))?;
            writeln!(io::stderr(), "token {jti} was already revoked")?;
            return Ok(());
        }
        self.record("token.revoke", Map::from_iter([("jti".to_owned(), Value::from(revoked.clone()))])).await?;
        writeln!(io::stderr(), "revoked {} token(s)", revoked.len())?;
        Ok(())
    }

    async fn rotate(&self, grace: Duration) -> anyhow::Result<()> {
        let key_id = rotate_key(self.store, self.directory, self.clock.now(), grace).await?;
        let details = json!({"key_id": key_id, "grace_s": grace.as_secs()});
        self.record("token.rotate-key", details.as_object().cloned().unwrap_or_default()).await?;
        if grace.is_zero() {
            writeln!(io::stderr(), "new key {key_id}; every token made before is refused from now on")?;
        } else {
            writeln!(io::stderr(), "new key {key_id}; tokens made before work for {} s more", grace.as_secs())?;
        }
        Ok(())
    }

    async fn record(&self, act: &str, details: Map<String, Value>) -> anyhow::Result<()> {
        Ok(Audit::administered(self.store, self.clock.clone(), act, &local_user(), details).await?)
    }
}

/// The peer of a new token, of a gateway that last ran in this node mode. Refuses what could never be let in there.
fn binding(mode: Option<&str>, given: Option<Binding>) -> anyhow::Result<Binding> {
    const ON_TAILNET: &str = "write the peer it works from: --bind node:STABLE_ID, --bind user:LOGIN or --bind tag:NAME, \
        e.g. --bind tag:mcp-client";
    let again = "or start the gateway once in its new mode if that has changed";
    match (mode, given) {
        (Some(mode @ ("host" | "embedded")), None) => {
            anyhow::bail!(
                "--bind: the gateway is on a tailnet (node mode {mode}), where nobody is a local user: {ON_TAILNET}; {again}"
            )
        }
        (Some(mode @ ("host" | "embedded")), Some(given)) if given.is_local() => {
            anyhow::bail!(
                "--bind: {given} works from nowhere, as the gateway is on a tailnet (node mode {mode}): {ON_TAILNET}; {again}"
            )
        }
        (Some("loopback"), Some(given)) if !given.is_local() => {
            anyhow::bail!(
                "--bind: {given} works from nowhere, as the gateway is on loopback, where peers are local users: write --bind uid:NUMBER; {again}"
            )
        }
        (_, Some(given)) => Ok(given),
        (_, None) => Ok(Binding::LocalUser(rustix::process::getuid().as_raw())),
    }
}

fn only<T: Ord>(items: impl IntoIterator<Item = T>) -> Option<BTreeSet<T>> {
    let items: BTreeSet<T> = items.into_iter().collect();
    (!items.is_empty()).then_some(items)
}

fn described(row: &TokenRow, now: Timestamp) -> Value {
    let scopes: Vec<&str> = row.scopes.split(',').collect();
    json!({
        "jti": row.jti,
        "subject": row.subject,
        "owner": row.owner,
        "scopes": scopes,
        "engagement": row.engagement,
        "targets": row.targets,
        "tools": row.tools,
        "paths": row.paths,
        "binding": row.binding,
        "key_id": row.key_id,
        "issued": row.issued_at,
        "expires": row.expires_at,
        "first_used": row.first_used_at,
        "revoked": row.revoked_at,
        "revoked_by": row.revoked_by,
        "state": state(row, now).as_str(),
    })
}
