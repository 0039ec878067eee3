//! One operation as a Cedar request, and its digest. The two hold the same facts: what a policy can see is part of the
//! key under which its answer is remembered. Nothing finer than a minute is visible to policies.

use std::collections::{HashMap, HashSet};

use cedar_policy::{Context, Entities, Entity, EntityId, EntityTypeName, EntityUid, RestrictedExpression as Term};
use jiff::Timestamp;
use ring::digest;
use serde_json::Value;

use super::{
    Failed, Loaded,
    schema::{Fields, Type},
};
use crate::{
    auth::Claims,
    model::{Operation, Risk, Scope},
    tailnet::Peer,
};

/// Everything an answer depends on, beside the rules.
pub(super) struct Facts<'a> {
    pub(super) peer: &'a Peer,
    pub(super) token: &'a Claims,
    pub(super) operation: &'a Operation,
    pub(super) now: Timestamp,
}

/// The operation as Cedar sees it.
pub(super) struct Request<'a> {
    loaded: &'a Loaded,
    principal: EntityUid,
    action: EntityUid,
    resource: EntityUid,
    context: Vec<(String, Term)>,
    pub(super) entities: Entities,
}

impl Facts<'_> {
    /// The minute that policies see.
    fn minute(&self) -> i64 {
        self.now.as_second().div_euclid(60)
    }

    /// Names these facts and the exceptions that apply. Each text goes in with its length, so that no two lists of
    /// texts give one digest.
    pub(super) fn digest(&self, excepted: &[usize]) -> [u8; 32] {
        let Self { peer, token, operation, .. } = self;
        let mut hash = Hash(digest::Context::new(&digest::SHA256));
        hash.text(&token.subject).text(&token.owner).text(token.engagement.as_str()).text(&token.scopes.to_string());
        hash.text(peer.user.as_deref().unwrap_or_default()).text(&peer.node).texts(&peer.tags);
        hash.text(operation.tool).text(operation.engagement.as_str());
        hash.text(operation.effect.as_str()).text(operation.risk.as_str());
        hash.number(i64::from(operation.dry_run)).number(i64::from(operation.reason.is_some()));
        match &operation.target {
            None => hash.number(0),
            Some(target) => {
                hash.number(1).text(target.id.as_str()).text(target.engagement.as_str()).text(target.kind.as_str());
                hash.text(target.segment.as_deref().unwrap_or_default()).texts(&target.tags)
            }
        };
        // Written by one serialiser from one map: the same arguments are the same bytes.
        hash.text(&serde_json::to_string(&operation.arguments).unwrap_or_default());
        hash.number(self.minute());
        for index in excepted {
            hash.number(i64::try_from(*index).unwrap_or(i64::MAX));
        }
        let mut key = [0; 32];
        key.copy_from_slice(hash.0.finish().as_ref());
        key
    }
}

struct Hash(digest::Context);

impl Hash {
    fn text(&mut self, text: &str) -> &mut Self {
        self.number(i64::try_from(text.len()).unwrap_or(i64::MAX));
        self.0.update(text.as_bytes());
        self
    }

    fn texts(&mut self, texts: &[String]) -> &mut Self {
        self.number(i64::try_from(texts.len()).unwrap_or(i64::MAX));
        texts.iter().fold(self, |hash, text| hash.text(text))
    }

    fn number(&mut self, number: i64) -> &mut Self {
        self.0.update(&number.to_le_bytes());
        self
    }
}

impl<'a> Request<'a> {
    /// Errors where the facts do not fit the schema, which denies.
    pub(super) fn of(loaded: &'a Loaded, facts: &Facts<'_>) -> Result<Self, Failed> {
        let Facts { peer, token, operation, .. } = facts;
        let principal = uid("Agent", &token.subject)?;
        let scopes = Scope::ALL.iter().filter(|scope| token.scopes.allows(**scope)).map(|scope| scope.as_str());
        let agent = entity(
            &principal,
            [
                ("subject", text(&token.subject)),
                ("owner", text(&token.owner)),
                ("engagement", text(token.engagement.as_str())),
                ("scopes", texts(scopes)),
                ("user", text(peer.user.as_deref().unwrap_or_default())),
                ("node", text(&peer.node)),
                ("tags", texts(peer.tags.iter().map(String::as_str))),
            ],
        )?;
        let (resource, attributes) = match &operation.target {
            Some(target) => (
                uid("Target", target.id.as_str())?,
                [
                    ("engagement", text(target.engagement.as_str())),
                    ("segment", text(target.segment.as_deref().unwrap_or_default())),
                    ("tags", texts(target.tags.iter().map(String::as_str))),
                    ("kind", text(target.kind.as_str())),
                ],
            ),
            // The gateway is everybody's: seen from each tenant it is that tenant's.
            None => (
                uid("Gateway", "gateway")?,
                [
                    ("engagement", text(operation.engagement.as_str())),
                    ("segment", text("")),
                    ("tags", texts([])),
                    ("kind", text("gateway")),
                ],
            ),
        };
        let thing = entity(&resource, attributes)?;
        let entities = loaded.actions.clone().add_entities([agent, thing], Some(&loaded.schema)).map_err(failed)?;
        let action = uid("Action", operation.tool)?;
        let context = context(loaded, facts)?;
        Ok(Self { loaded, principal, action, resource, context, entities })
    }

    /// The request as if somebody had approved, or nobody.
    pub(super) fn approved(&self, approved: bool) -> Result<cedar_policy::Request, Failed> {
        let pairs = self.context.iter().cloned().chain([("approved".to_owned(), Term::new_bool(approved))]);
        let context = Context::from_pairs(pairs).map_err(failed)?;
        let [principal, action, resource] =
            [&self.principal, &self.action, &self.resource].map(|uid: &EntityUid| uid.clone());
        cedar_policy::Request::new(principal, action, resource, context, Some(&self.loaded.schema)).map_err(failed)
    }
}

fn context(loaded: &Loaded, facts: &Facts<'_>) -> Result<Vec<(String, Term)>, Failed> {
    let operation = facts.operation;
    let fields = loaded.arguments.get(operation.tool).ok_or_else(|| failed("there is no such tool"))?;
    let minute = Timestamp::from_second(facts.minute() * 60).map_err(failed)?;
    let local = minute.to_zoned(loaded.zone.clone());
    let (hour, past) = (i64::from(local.hour()), i64::from(local.minute()));
    let time = record([
        ("date", text(&local.date().to_string())),
        ("year", Term::new_long(local.year().into())),
        ("month", Term::new_long(local.month().into())),
        ("day", Term::new_long(local.day().into())),
        ("weekday", Term::new_long(local.weekday().to_monday_one_offset().into())),
        ("hour", Term::new_long(hour)),
        ("minute", Term::new_long(past)),
        ("minute_of_day", Term::new_long(hour * 60 + past)),
    ])?;
    let level = match operation.risk {
        Risk::Low => 1,
        Risk::Moderate => 2,
        Risk::High => 3,
        Risk::Critical => 4,
    };
    let pairs = [
        ("dry_run", Term::new_bool(operation.dry_run)),
        ("effect", text(operation.effect.as_str())),
        ("risk", text(operation.risk.as_str())),
        ("risk_level", Term::new_long(level)),
        ("reason_given", Term::new_bool(operation.reason.is_some())),
        ("now", Term::new_datetime(minute.strftime("%Y-%m-%dT%H:%M:%SZ").to_string())),
        ("time", time),
        ("args", arguments(fields, |name| operation.arguments.get(name))?),
    ];
    Ok(pairs.into_iter().map(|(name, term)| (name.to_owned(), term)).collect())
}

/// The arguments the schema knows; null is as good as absent.
fn arguments<'v>(fields: &Fields, given: impl Fn(&str) -> Option<&'v Value>) -> Result<Term, Failed> {
    let mut pairs = Vec::new();
    for (name, field) in &fields.0 {
        match given(name) {
            None | Some(Value::Null) => {}
            Some(value) => pairs.push((name.clone(), term(&field.kind, value, name)?)),
        }
    }
    Term::new_record(pairs).map_err(failed)
}

fn term(kind: &Type, value: &Value, name: &str) -> Result<Term, Failed> {
    let fitting = match kind {
        Type::Text | Type::Word(_) => value.as_str().map(text),
        Type::Number => value.as_i64().map(Term::new_long),
        Type::Bool => value.as_bool().map(Term::new_bool),
        Type::Set(item) => match value.as_array() {
            Some(items) => {
                let items = items.iter().map(|value| term(item, value, name)).collect::<Result<Vec<_>, _>>()?;
                Some(Term::new_set(items))
            }
            None => None,
        },
        Type::Record(fields) => match value.as_object() {
            Some(object) => Some(arguments(fields, |name| object.get(name))?),
            None => None,
        },
    };
    fitting.ok_or_else(|| failed(format_args!("argument {name:?} is beyond what a policy can see")))
}

fn text(text: &str) -> Term {
    Term::new_string(text.to_owned())
}

fn texts<'t>(items: impl IntoIterator<Item = &'t str>) -> Term {
    Term::new_set(items.into_iter().map(text))
}

fn record<const N: usize>(pairs: [(&str, Term); N]) -> Result<Term, Failed> {
    Term::new_record(pairs.map(|(name, term)| (name.to_owned(), term))).map_err(failed)
}

fn entity<const N: usize>(uid: &EntityUid, attributes: [(&str, Term); N]) -> Result<Entity, Failed> {
    let attributes: HashMap<String, Term> =
        attributes.into_iter().map(|(name, term)| (name.to_owned(), term)).collect();
    Entity::new(uid.clone(), attributes, HashSet::new()).map_err(failed)
}

fn uid(kind: &str, id: &str) -> Result<EntityUid, Failed> {
    let kind: EntityTypeName = kind.parse().map_err(failed)?;
    Ok(EntityUid::from_type_name_and_id(kind, EntityId::new(id)))
}

fn failed(why: impl std::fmt::Display) -> Failed {
    Failed { policies: Vec::new(), why: why.to_string() }
}
