//! The round trip in which a client waits for people: instead of a refusal, a call that people are asked about gets a form
//! to show, and comes back once somebody filled it in. The form tells its reader where things stand and lets the call be
//! made again; what is written into it approves nothing. Only for clients of 2026-07-28 that say that they show forms.

use ring::{
    digest,
    rand::{SecureRandom, SystemRandom},
};
use rmcp::{
    RoleServer,
    model::{
        BooleanSchema, CallToolRequestParams, CallToolResponse, ElicitRequest, ElicitRequestParams, ElicitationSchema,
        InputRequest, InputRequests, InputRequiredResult, InputResponses, ProtocolVersion, RequestStateCodec,
        SealOptions,
    },
    service::RequestContext,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{
    auth::Caller,
    model::canonical_json,
    pipeline::{Reference, Reply},
    tools::APPROVAL_ID,
};

/// The form's name, and its one field.
const FORM: &str = "approval";
const AGAIN: &str = "again";

/// Seals what clients carry between the rounds.
pub(super) struct Waiting {
    /// None where the system gave no random key: then there are no round trips.
    codec: Option<RequestStateCodec>,
}

/// What a client carries: which approval its call waits for, as `approval_required` told it.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Carried {
    approval_id: String,
    operation_hash: String,
    expires_at: String,
    decide_at: String,
}

/// One call that may wait.
pub(super) struct Round {
    /// What a seal is good for: this call of this caller, byte for byte; none where the client shows no forms.
    bound: Option<Vec<u8>>,
    /// What it came back with.
    carried: Option<Carried>,
    /// What it refers to by that.
    pub(super) reference: Option<Reference>,
}

impl Waiting {
    /// With a key of this run: what an earlier run sealed is not opened.
    pub(super) fn new() -> Self {
        let mut key = [0; 32];
        let codec = SystemRandom::new().fill(&mut key).ok().and_then(|()| RequestStateCodec::try_new(key).ok());
        Self { codec }
    }

    /// The round that `request` begins or goes on with.
    pub(super) fn round(
        &self,
        request: &CallToolRequestParams,
        caller: &Caller,
        context: &RequestContext<RoleServer>,
    ) -> Round {
        let state = request.request_state.as_deref();
        let shows = shows_forms(context);
        let refers = request.arguments.as_ref().is_some_and(|arguments| arguments.contains_key(APPROVAL_ID));
        // An approval_id is the plain way, which has no rounds.
        if refers || (state.is_none() && !shows) {
            return Round { bound: None, carried: None, reference: None };
        }
        let bound = bound(request, caller);
        let carried = state.map(|state| self.opened(state, bound.as_deref()));
        let reference = carried.as_ref().map(|carried| match carried {
            None => Reference::Malformed,
            Some(Carried { approval_id, .. }) if wants_again(request.input_responses.as_ref()) => {
                Reference::Approval(approval_id.as_str().into())
            }
            Some(Carried { approval_id, .. }) => Reference::NotNow(approval_id.as_str().into()),
        });
        Round { bound: bound.filter(|_| shows), carried: carried.flatten(), reference }
    }

    /// What was sealed for this very call of this very caller. Its time needs no check here: an approval that has
    /// expired is refused as every other is.
    fn opened(&self, state: &str, bound: Option<&[u8]>) -> Option<Carried> {
        self.codec.as_ref()?.open_json_with(state, bound?).ok()
    }

    /// The form to show in place of `reply`, where that says that people have to decide first and the client can wait.
    pub(super) fn form(&self, round: Round, reply: &Reply) -> Option<CallToolResponse> {
        let told = |key: &str| reply.body.get(key).and_then(Value::as_str).map(str::to_owned);
        let code = told("code").filter(|_| reply.is_error)?;
        let (codec, bound) = (self.codec.as_ref()?, round.bound?);
        let carried = match (code.as_str(), round.reference) {
            ("approval_required", _) => Carried {
                approval_id: told(APPROVAL_ID)?,
                operation_hash: told("operation_hash")?,
                expires_at: told("expires_at")?,
                decide_at: told("decide_at")?,
            },
            // Whoever would rather not wait gets the refusal.
            ("approval_pending", Some(Reference::Approval(_))) => round.carried?,
            _ => return None,
        };
        let message = text(&told("message")?, &carried);
        let again = |field: BooleanSchema| field.title("A person has decided; try again now");
        let schema = ElicitationSchema::builder().required_bool_property(AGAIN, again).build().ok()?;
        let form = ElicitRequestParams::FormElicitationParams { meta: None, message, requested_schema: schema };
        let forms = InputRequests::from([(FORM.to_owned(), InputRequest::Elicitation(ElicitRequest::new(form)))]);
        let state = codec.seal_json_with(&carried, &SealOptions::new().associated_data(&bound)).ok()?;
        Some(InputRequiredResult::new(Some(forms), Some(state)).into())
    }
}

/// What a seal is good for: the digest of the call and its caller.
fn bound(request: &CallToolRequestParams, caller: &Caller) -> Option<Vec<u8>> {
    let form = json!({
        "tool": request.name,
        "arguments": request.arguments,
        "jti": caller.token().jti,
        "peer": caller.peer().id,
    });
    let bytes = canonical_json(&form).ok()?;
    Some(digest::digest(&digest::SHA256, &bytes).as_ref().to_vec())
}

/// Whether the client of this very request speaks of forms. `elicitation: {}` means forms.
fn shows_forms(context: &RequestContext<RoleServer>) -> bool {
    if context.meta.protocol_version().is_none_or(|version| version < ProtocolVersion::V_2026_07_28) {
        return false;
    }
    let elicitation = context.meta.client_capabilities().and_then(|capabilities| capabilities.elicitation);
    elicitation.is_some_and(|elicitation| elicitation.form.is_some() || elicitation.url.is_none())
}

/// Whether the form came back with a yes to trying again. Everything else, also none at all, is a no.
fn wants_again(answers: Option<&InputResponses>) -> bool {
    let form = answers.and_then(|answers| answers.get(FORM));
    form.is_some_and(|form| {
        form.get("action").and_then(Value::as_str) == Some("accept")
            && form.pointer("/content/again").and_then(Value::as_bool) == Some(true)
    })
}

/// What the form says.
fn text(why: &str, carried: &Carried) -> String {
    let Carried { approval_id, operation_hash, expires_at, decide_at } = carried;
    let hash = operation_hash.get(..12).unwrap_or(operation_hash);
    format!(
        "{why}. Approval {approval_id} for operation {hash}… is open until {expires_at}; people decide on it at {decide_at}, \
         or by: tailops approve {approval_id}. What is answered here decides nothing: it only lets the call be made again."
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn carried() -> Carried {
        Carried {
            approval_id: "ab12".into(),
            operation_hash: "0123456789abcdef".repeat(4),
            expires_at: "2026-11-21T12:15:00Z".into(),
            decide_at: "http://gateway:8080".into(),
        }
    }

    #[test]
    fn a_seal_is_good_for_nothing_else() {
        let (waiting, other_run) = (Waiting::new(), Waiting::new());
        let seal = |waiting: &Waiting, bound: &[u8]| {
            let options = SealOptions::new().associated_data(bound);
            waiting.codec.as_ref().unwrap().seal_json_with(&carried(), &options).unwrap()
        };
        let sealed = seal(&waiting, b"this call");
        assert_eq!(waiting.opened(&sealed, Some(b"this call")).unwrap().approval_id, "ab12");
        assert!(waiting.opened(&sealed, Some(b"another call")).is_none());
        assert!(waiting.opened(&sealed, None).is_none());
        assert!(other_run.opened(&sealed, Some(b"this call")).is_none());
        for (at, _) in sealed.char_indices() {
            let mut forged = sealed.clone();
            let byte = if sealed.as_bytes()[at] == b'A' { "B" } else { "A" };
            forged.replace_range(at..=at, byte);
            assert!(waiting.opened(&forged, Some(b"this call")).is_none(), "{forged}");
        }
        for garbage in ["", "rs1", "rs1..", "{}", "rs1.e30.e30"] {
            assert!(waiting.opened(garbage, Some(b"this call")).is_none(), "{garbage}");
        }
    }

    #[test]
    fn only_a_clear_yes_tries_again() {
        let answer = |form: Value| InputResponses::from([(FORM.to_owned(), form)]);
        assert!(wants_again(Some(&answer(json!({"action": "accept", "content": {"again": true}})))));
        for form in [
            json!({"action": "accept", "content": {"again": false}}),
            json!({"action": "accept", "content": {"again": "true"}}),
            json!({"action": "accept"}),
            json!({"action": "decline", "content": {"again": true}}),
            json!({"action": "cancel"}),
            json!({"again": true}),
            json!(true),
            Value::Null,
        ] {
            assert!(!wants_again(Some(&answer(form.clone()))), "{form}");
        }
        let other =
            InputResponses::from([("other".to_owned(), json!({"action": "accept", "content": {"again": true}}))]);
        assert!(!wants_again(Some(&other)) && !wants_again(None));
    }

    #[test]
    fn the_form_says_what_waits_and_that_it_decides_nothing() {
        let text = text("file_delete is critical", &carried());
        for part in ["ab12", "0123456789ab…", "2026-11-21T12:15:00Z", "http://gateway:8080", "decides nothing"] {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert!(!text.contains("0123456789abcdef"));
    }
}
