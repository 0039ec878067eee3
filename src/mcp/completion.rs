//! Completions of target ids and unit names. Both come through the pipeline, by a call of the caller's own, and are
//! kept for a few seconds for that token alone: a person types faster than a fleet answers.

use std::{sync::Arc, time::Duration};

use moka::sync::Cache;
use rmcp::{
    ErrorData,
    model::{CompleteRequestParams, CompletionInfo, Reference},
};
use serde_json::{Map, Value};

use super::{
    asking::{Asking, refused, status_of},
    prompts::{INVESTIGATE_HOST, WHY_DENIED},
    resources::{TARGET, page},
};
use crate::{
    model::Jti,
    pipeline::{Pipeline, Rules},
    tailnet::Peer,
    tools,
};

/// How long words are kept.
const KEPT: Duration = Duration::from_secs(10);
const MOST_KEPT: u64 = 256;
/// The most units that `service_list` gives at once.
const MOST_UNITS: u32 = 500;

/// Where words come from: in the answer of `tool`, the field `word` of each entry of the list `list`.
struct Source {
    tool: &'static str,
    list: &'static str,
    word: &'static str,
}

const TARGETS: Source = Source { tool: "fleet_list", list: "targets", word: "id" };
const UNITS: Source = Source { tool: "service_list", list: "units", word: "unit" };

/// Whose words of what: target ids, or the units of a target.
type Key = (Jti, Option<String>);

/// Words of one kind, and what they were had under: the rules, and the peer with its rights.
#[derive(Clone)]
struct Words {
    rules: Arc<Rules>,
    peer: Peer,
    words: Arc<[String]>,
}

/// Completes arguments. Cheap to clone.
#[derive(Clone)]
pub(super) struct Completions {
    kept: Cache<Key, Words>,
}

impl Completions {
    pub(super) fn new() -> Self {
        Self { kept: Cache::builder().max_capacity(MOST_KEPT).time_to_live(KEPT).build() }
    }

    /// What the argument could become. Nothing, where the caller may not know.
    pub(super) async fn complete(
        &self,
        pipeline: &Pipeline,
        asking: &Asking,
        params: &CompleteRequestParams,
    ) -> Result<CompletionInfo, ErrorData> {
        let argument = params.argument.name.as_str();
        let words = match (&params.r#ref, argument) {
            (Reference::Prompt(prompt), "target") if prompt.name == INVESTIGATE_HOST => {
                self.words(pipeline, asking, None).await?
            }
            (Reference::Prompt(prompt), "unit") if prompt.name == INVESTIGATE_HOST => {
                let target = params.context.as_ref().and_then(|context| context.get_argument("target"));
                match target {
                    Some(target) => self.words(pipeline, asking, Some(target.clone())).await?,
                    None => Arc::default(),
                }
            }
            (Reference::Prompt(prompt), "tool") if prompt.name == WHY_DENIED => {
                tools::ALL.iter().map(|tool| tool.spec().name.to_owned()).collect()
            }
            (Reference::Prompt(prompt), _) if [INVESTIGATE_HOST, WHY_DENIED].contains(&prompt.name.as_str()) => {
                Arc::default()
            }
            (Reference::Resource(resource), "id") if resource.uri == TARGET => {
                self.words(pipeline, asking, None).await?
            }
            (Reference::Resource(resource), _) if resource.uri == TARGET => Arc::default(),
            _ => return Err(ErrorData::invalid_params("there is no such prompt or resource template", None)),
        };
        Ok(matching(&words, &params.argument.value))
    }

    /// The target ids, or the units of `target`.
    async fn words(
        &self,
        pipeline: &Pipeline,
        asking: &Asking,
        target: Option<String>,
    ) -> Result<Arc<[String]>, ErrorData> {
        let rules = pipeline.rules();
        let key = (asking.caller().token().jti.clone(), target);
        let peer = asking.caller().peer();
        // What was had under other rules, or by another peer with this token, may be forbidden here.
        let same = |kept: &Words| Arc::ptr_eq(&kept.rules, &rules) && is_same(&kept.peer, peer);
        if let Some(kept) = self.kept.get(&key).filter(same) {
            return Ok(kept.words);
        }
        let (Source { tool, list, word }, arguments) = match &key.1 {
            None => (TARGETS, page(None)),
            Some(target) => (UNITS, units_of(target)),
        };
        if !asking.sees(tool) {
            return Ok(Arc::default());
        }
        match asking.call(tool, arguments).await {
            Ok(envelope) => {
                let entries = envelope.get("data").and_then(|data| data.get(list)?.as_array()).into_iter().flatten();
                let words: Arc<[String]> =
                    entries.filter_map(|entry| Some(entry.get(word)?.as_str()?.to_owned())).collect();
                self.kept.insert(key, Words { rules, peer: peer.clone(), words: words.clone() });
                Ok(words)
            }
            Err(refusal) if [429, 503, 500].contains(&status_of(&refusal)) => Err(refused(refusal)),
            Err(_) => Ok(Arc::default()),
        }
    }
}

/// Whether two peers are one and the same with the same rights, over whichever connection.
fn is_same(one: &Peer, other: &Peer) -> bool {
    Peer { address: other.address, ..one.clone() } == *other
}

fn units_of(target: &str) -> Map<String, Value> {
    Map::from_iter([("target".into(), target.into()), ("limit".into(), MOST_UNITS.into())])
}

/// The words that begin with `typed`, at most as many as one answer may hold.
fn matching(words: &[String], typed: &str) -> CompletionInfo {
    let mut values: Vec<String> = words.iter().filter(|word| word.starts_with(typed)).cloned().collect();
    let total = u32::try_from(values.len()).ok();
    let more = values.len() > CompletionInfo::MAX_VALUES;
    values.truncate(CompletionInfo::MAX_VALUES);
    CompletionInfo::with_pagination(values, total, more).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tools_answer_with_the_words_that_are_looked_for() {
        for Source { tool, list, word } in [TARGETS, UNITS] {
            let schema = (tools::find(tool).unwrap().spec().output)();
            let entry = &schema["properties"][list]["items"]["properties"];
            assert_eq!(entry[word]["type"], "string", "{tool}: {list}[].{word} is not in {schema}");
        }
    }

    #[test]
    fn at_most_a_hundred_words_and_how_many_there_are() {
        let words: Vec<String> = (0..250).map(|n| format!("web-{n:03}")).chain(["db".to_owned()]).collect();
        let info = matching(&words, "web-");
        assert_eq!((info.values.len(), info.total, info.has_more), (100, Some(250), Some(true)));
        assert_eq!(matching(&words, "web-24").values.len(), 10);
        let none = matching(&words, "WEB");
        assert_eq!((none.values.len(), none.total, none.has_more), (0, Some(0), Some(false)));
    }
}
