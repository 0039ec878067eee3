//! The tool definitions as the protocol shows them, made once from [`tools::ALL`].

use std::{collections::HashMap, sync::Arc};

use rmcp::model::{JsonObject, Tool, ToolAnnotations};
use serde_json::Value;

use crate::{
    model::Effect,
    pipeline::Envelope,
    tools::{self, Spec},
};

/// Every tool's definition.
pub(super) struct Catalogue {
    by_name: HashMap<&'static str, Tool>,
}

impl Catalogue {
    pub(super) fn new() -> Self {
        let spec_of = |tool: &&dyn tools::Tool| tool.spec();
        Self { by_name: tools::ALL.iter().map(spec_of).map(|spec| (spec.name, definition(spec))).collect() }
    }

    pub(super) fn get(&self, name: &str) -> Option<&Tool> {
        self.by_name.get(name)
    }
}

fn definition(spec: &Spec) -> Tool {
    let annotations = ToolAnnotations::from_raw(
        None,
        Some(spec.effect == Effect::Read),
        Some(spec.effect == Effect::Destructive),
        Some(spec.idempotent),
        Some(spec.open_world),
    );
    let mut tool = Tool::new(spec.name, spec.help, object(spec.input_schema()));
    tool.title = Some(spec.title.to_owned());
    tool.output_schema = Some(object(Envelope::schema((spec.output)())));
    tool.annotations = Some(annotations);
    tool
}

fn object(schema: Value) -> Arc<JsonObject> {
    match schema {
        Value::Object(object) => Arc::new(object),
        _ => Arc::default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Scope;

    /// Clients show every definition to their model on every turn: each costs.
    #[test]
    fn no_definition_is_longer_than_900_bytes() {
        for spec in tools::ALL.iter().map(|tool| tool.spec()) {
            let mut tool = definition(spec);
            tool.output_schema = None;
            let text = serde_json::to_string(&tool).unwrap();
            assert!(text.len() <= 900, "{} has {} bytes: {text}", spec.name, text.len());
        }
    }

    #[test]
    fn every_tool_but_a_decision_takes_the_approval_that_allows_it() {
        for spec in tools::ALL.iter().map(|tool| tool.spec()) {
            let schema = Value::Object((*definition(spec).input_schema).clone());
            let decides = spec.scopes.contains(&Scope::ApprovalDecide);
            assert_eq!(schema["properties"].get(tools::APPROVAL_ID).is_none(), decides, "{}", spec.name);
            let required = schema["required"].as_array();
            assert!(required.is_none_or(|names| !names.contains(&tools::APPROVAL_ID.into())), "{}", spec.name);
            assert!(schema["properties"].get("idempotency_key").is_none(), "{}", spec.name);
        }
    }

    #[test]
    fn every_schema_is_a_valid_object_schema_that_refuses_unknown_arguments() {
        for spec in tools::ALL.iter().map(|tool| tool.spec()) {
            let tool = definition(spec);
            assert_eq!(tool.input_schema.get("additionalProperties"), Some(&Value::Bool(false)), "{}", spec.name);
            for schema in [tool.input_schema, tool.output_schema.unwrap()] {
                let schema = Value::Object((*schema).clone());
                assert_eq!(schema["type"], "object", "{}", spec.name);
                jsonschema::validator_for(&schema).unwrap();
            }
        }
    }
}
