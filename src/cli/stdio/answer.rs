//! What the gateway sends back, as lines for the client: one JSON object or a stream of events, and every refusal as a
//! JSON-RPC error that says what the refusal said. Changes nothing in a message.

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream::BoxStream};
use hyper::{StatusCode, header};
use reqwest::Response;
use serde::{Deserialize, de::IgnoredAny};
use serde_json::{Map, Value};
use sse_stream::SseStream;

use super::{link::Failure, message::failure};

/// A longer answer is no answer of a gateway.
const MOST: usize = 256 << 20;
/// How much of a text that is no JSON is shown.
const SHOWN: usize = 200;

/// The code of an error whose request was certainly not sent. JSON-RPC keeps the codes below -32000 for itself.
const UNREACHABLE: i64 = 1;
/// The code of an error whose request may have taken effect.
const UNKNOWN_OUTCOME: i64 = 2;

/// One message of the gateway.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Incoming {
    /// On one line.
    pub(super) text: String,
    /// Whether it is an answer, and not a notification or a request.
    pub(super) answers: bool,
}

/// The answer came to no end.
#[derive(Debug)]
pub(super) struct Cut;

#[derive(Deserialize)]
struct Shape {
    method: Option<IgnoredAny>,
    result: Option<IgnoredAny>,
    error: Option<IgnoredAny>,
}

impl Incoming {
    /// Reads what may be a message.
    fn read(text: &str) -> Result<Self, Cut> {
        let shape: Shape = serde_json::from_str(text).map_err(|_| Cut)?;
        let answers = shape.method.is_none() && (shape.result.is_some() || shape.error.is_some());
        let text = if text.contains(['\n', '\r']) {
            serde_json::from_str::<Value>(text).map_err(|_| Cut)?.to_string()
        } else {
            text.to_owned()
        };
        Ok(Self { text, answers })
    }
}

/// The messages in `response`, which was a success.
pub(super) fn messages(response: Response) -> BoxStream<'static, Result<Incoming, Cut>> {
    if is_event_stream(&response) {
        let events = SseStream::from_bytes_stream(response.bytes_stream());
        // Events without data keep the connection alive, or say where a stream could be taken up again.
        let data = events.map_err(|_| Cut).try_filter_map(async |event| Ok(event.data.filter(|data| !data.is_empty())));
        return data.map(|text| Incoming::read(&text?)).boxed();
    }
    let one = async move {
        let body = body_of(response).await?;
        Incoming::read(std::str::from_utf8(&body).map_err(|_| Cut)?)
    };
    futures_util::stream::once(one).boxed()
}

/// Whether `response` is a stream of events.
pub(super) fn is_event_stream(response: &Response) -> bool {
    let kind = response.headers().get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    kind.is_some_and(|kind| kind.starts_with("text/event-stream"))
}

async fn body_of(response: Response) -> Result<Bytes, Cut> {
    let mut body = Vec::new();
    let mut stream = response.bytes_stream();
    while let Some(chunk) = stream.next().await {
        let chunk = chunk.map_err(|_| Cut)?;
        if chunk.len() > MOST - body.len() {
            return Err(Cut);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body.into())
}

/// The error for the request `id` that `response`, no success, stands for.
pub(super) async fn refusal(id: &Value, response: Response) -> String {
    let status = response.status();
    let retry_after = response.headers().get(header::RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
    let body = body_of(response).await.unwrap_or_default();
    translated(id, status, retry_after, &body)
}

fn translated(id: &Value, status: StatusCode, retry_after: Option<u64>, body: &[u8]) -> String {
    let mut data = match serde_json::from_slice(body) {
        // The protocol's own error: the gateway could not always tell whose it is.
        Ok(Value::Object(mut message)) if message.get("error").is_some_and(Value::is_object) => {
            message.insert("id".into(), id.clone());
            return Value::Object(message).to_string();
        }
        Ok(Value::Object(refusal)) if refusal.get("code").is_some_and(Value::is_string) => refusal,
        _ => described(status, body),
    };
    data.insert("http_status".into(), status.as_u16().into());
    if let Some(seconds) = retry_after {
        data.insert("retry_after_s".into(), seconds.into());
    }
    if let (false, Some(hint)) = (data.contains_key("hint"), hint(status)) {
        data.insert("hint".into(), hint.into());
    }
    let message = data.get("message").and_then(Value::as_str).unwrap_or_default().to_owned();
    failure(id, status.as_u16().into(), &message, Some(data))
}

/// For a body that is no refusal of the gateway: something else answered.
fn described(status: StatusCode, body: &[u8]) -> Map<String, Value> {
    let shown: String = String::from_utf8_lossy(body).chars().filter(|c| !c.is_control()).take(SHOWN).collect();
    let message = format!("HTTP {status}{}{shown}", if shown.is_empty() { "" } else { ": " });
    Map::from_iter([("code".into(), format!("http_{}", status.as_u16()).into()), ("message".into(), message.into())])
}

fn hint(status: StatusCode) -> Option<&'static str> {
    Some(match status.as_u16() {
        401 => "put a valid token into the token file: it is read again on the next refusal",
        403 => "the gateway does not take this connection, name or token; its audit log says why",
        404 => "the address should end in /mcp",
        413 => "send less in one message",
        429 => "wait before the next request",
        502 | 504 => "something between here and the gateway answered; whether the request took effect is unknown",
        _ => return None,
    })
}

/// The error for the request `id` that got no response.
pub(super) fn failed(id: &Value, why: &Failure) -> String {
    let (code, name, hint) = match why {
        Failure::Unreachable(_) => (UNREACHABLE, "unreachable", "is the gateway running, and is the address right?"),
        Failure::Token(_) => (UNREACHABLE, "token_unreadable", "the token file must be private and hold a token alone"),
        Failure::Unknown => {
            (UNKNOWN_OUTCOME, "unknown_outcome", "find out whether it took effect before you try again")
        }
    };
    let message = why.to_string();
    let data = Map::from_iter([
        ("code".into(), name.into()),
        ("message".into(), message.as_str().into()),
        ("hint".into(), hint.into()),
    ]);
    failure(id, code, &message, Some(data))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn refused(status: u16, retry_after: Option<u64>, body: &str) -> Value {
        let text = translated(&json!("a"), StatusCode::from_u16(status).unwrap(), retry_after, body.as_bytes());
        assert!(!text.contains('\n'));
        let error: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(error["id"], "a");
        error["error"].clone()
    }

    #[test]
    fn a_refusal_keeps_its_code_message_and_correlation_id() {
        let error = refused(429, Some(7), r#"{"code":"rate_limited","message":"too often","correlation_id":"x"}"#);
        assert_eq!((&error["code"], &error["message"]), (&json!(429), &json!("too often")));
        let data = &error["data"];
        assert_eq!((&data["code"], &data["correlation_id"]), (&json!("rate_limited"), &json!("x")));
        assert_eq!((&data["retry_after_s"], &data["http_status"]), (&json!(7), &json!(429)));
        assert!(data["hint"].is_string());
        let kept = refused(403, None, r#"{"code":"a","message":"b","hint":"c"}"#);
        assert_eq!(kept["data"]["hint"], "c");
    }

    #[test]
    fn the_protocols_own_error_gets_the_id_of_its_request() {
        let error = refused(404, None, r#"{"jsonrpc":"2.0","id":null,"error":{"code":-32601,"message":"no"}}"#);
        assert_eq!(error, json!({"code": -32601, "message": "no"}));
    }

    #[test]
    fn what_somebody_else_answers_is_shown_short_and_without_control_characters() {
        let error = refused(502, None, &format!("<h1>\u{1b}[31mBad\n</h1>{}", "x".repeat(1000)));
        let message = error["message"].as_str().unwrap();
        assert!(message.starts_with("HTTP 502 Bad Gateway: <h1>[31mBad</h1>xx") && message.len() < 250, "{message}");
        assert_eq!(error["data"]["code"], "http_502");
        assert_eq!(refused(500, None, "")["message"], "HTTP 500 Internal Server Error");
    }

    #[test]
    fn answers_and_notifications_are_told_apart() {
        let read = |text: &str| Incoming::read(text).map(|incoming| incoming.answers).ok();
        assert_eq!(read(r#"{"id":1,"result":{}}"#), Some(true));
        assert_eq!(read(r#"{"id":1,"error":{"code":1,"message":"a"}}"#), Some(true));
        assert_eq!(read(r#"{"method":"notifications/progress","params":{}}"#), Some(false));
        assert_eq!(read(r#"{"id":5,"method":"ping"}"#), Some(false));
        assert_eq!(read("<html>"), None);
        let lines = Incoming::read("{\n \"id\": 1,\r\n \"result\": {\"a\": \"b\\nc\"}\n}").unwrap();
        assert_eq!(lines.text, r#"{"id":1,"result":{"a":"b\nc"}}"#);
    }
}
