//! The lists that come in pages, and the selection of targets by what the registry says of them. A cursor names the
//! tool it is of: no tool goes on from another's. What stands behind the name is each tool's own.

use super::{Spec, ToolError, answer};
use crate::model::{Content, FleetFilter, RawOutput};

impl Spec {
    /// The place that `cursor` stands for, as `read` understands it; none where the first page is wanted.
    pub(in crate::tools) fn place<P>(
        &self,
        cursor: Option<&String>,
        read: impl FnOnce(&str) -> Option<P>,
    ) -> Result<Option<P>, ToolError> {
        let Some(cursor) = cursor else { return Ok(None) };
        let place = cursor.strip_prefix(self.name).and_then(|rest| rest.strip_prefix(':'));
        let wanted =
            || ToolError::invalid("cursor", format_args!("must be next_cursor of the page of {} before", self.name));
        place.and_then(read).map(Some).ok_or_else(wanted)
    }

    /// The gateway's answer to the only question, as a page whose `next_cursor` [`Self::place`] reads.
    pub(in crate::tools) fn page(&self, raw: &RawOutput) -> Result<Content, ToolError> {
        let page = Content::page(answer(raw)?.clone()).ok_or_else(|| ToolError::unreadable("not a page"))?;
        Ok(Content { next_cursor: page.next_cursor.map(|place| format!("{}:{place}", self.name)), ..page })
    }
}

/// The targets of the caller's engagement for which everything holds that is given.
pub(in crate::tools) fn targets(tag: Option<&String>, segment: Option<&String>, kind: Option<&String>) -> FleetFilter {
    FleetFilter { tag: tag.cloned(), segment: segment.cloned(), kind: kind.cloned(), ..FleetFilter::default() }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;
    use serde_json::{Value, json};

    use crate::{
        model::{Content, RawOutput, StepOutput},
        tools::{Tool, rig},
    };

    const ID: &str = "0193f3a0000070008000000000000001";

    /// The tools whose lists come in pages, each with a place in its list.
    const PAGED: [(&str, &str); 7] = [
        ("approval_list", "ab12"),
        ("audit_query", "17"),
        ("fleet_discover", "web.example.ts.net n1"),
        ("fleet_list", "web-01"),
        ("fleet_summarize", "20"),
        ("job_inspect", ID),
        ("snapshot_list", ID),
    ];

    fn paged() -> impl Iterator<Item = (&'static dyn Tool, &'static str)> {
        PAGED.into_iter().map(|(name, place)| (rig::tool(name), place))
    }

    fn with(cursor: &str) -> Value {
        json!({"cursor": cursor})
    }

    fn next_of(tool: &dyn Tool, place: &str) -> Option<String> {
        let operation = rig::plan_exactly(tool, &json!({})).unwrap();
        let answer = StepOutput::Answer(json!({"next_cursor": place}));
        let content: Content = tool.render(&RawOutput { operation, outputs: vec![answer] }).unwrap();
        content.next_cursor
    }

    #[test]
    fn no_tool_goes_on_from_another_ones_page() {
        let mut messages = BTreeSet::new();
        for (tool, place) in paged() {
            let name = tool.spec().name;
            for (other, its) in paged() {
                let cursor = next_of(other, its).unwrap();
                match rig::plan_exactly(tool, &with(&cursor)) {
                    Ok(_) => assert_eq!(name, other.spec().name, "{cursor}"),
                    Err(error) => {
                        assert_ne!(name, other.spec().name, "{error}");
                        assert_eq!(error.code, "invalid_arguments");
                        messages.insert(error.message.replace(name, "TOOL"));
                    }
                }
            }
            for cursor in [place, "", ":", name, &format!("{name}:"), &format!("{name}: "), &format!("{name}:\n")] {
                let error = rig::plan_exactly(tool, &with(cursor)).unwrap_err();
                assert_eq!(error.code, "invalid_arguments", "{name} {cursor:?}");
                messages.insert(error.message.replace(name, "TOOL"));
            }
        }
        assert_eq!(Vec::from_iter(messages), ["`cursor`: must be next_cursor of the page of TOOL before"]);
    }

    proptest! {
        #[test]
        fn cursors_never_panic(place in "\\PC{0,20}") {
            for (tool, _) in paged() {
                for cursor in [place.clone(), format!("{}:{place}", tool.spec().name)] {
                    let planned = rig::plan_exactly(tool, &with(&cursor));
                    prop_assert!(planned.is_ok() || planned.unwrap_err().message.contains("`cursor`"));
                }
            }
        }
    }
}
