//! What a client writes, one JSON-RPC message a line, read just enough to carry it: what kind of message, of which era,
//! and which headers its HTTP request needs. The text itself goes on unchanged; the gateway judges it.

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use serde_json::{Map, Value, json};

/// The revision that a self-contained request says in its `_meta`.
const VERSION_KEY: &str = "io.modelcontextprotocol/protocolVersion";

/// JSON-RPC 2.0, section 5.1.
const PARSE_ERROR: i64 = -32700;
const INVALID_REQUEST: i64 = -32600;

/// One message of the client.
#[derive(Debug)]
pub(super) enum Message {
    /// Wants an answer.
    Request(Request),
    /// Wants none: a notification, or the client's own answer.
    Notice(Notice),
}

/// A request.
#[derive(Debug)]
pub(super) struct Request {
    /// Unique among those in flight.
    pub(super) id: Value,
    pub(super) method: String,
    pub(super) era: Era,
    /// As the client wrote it.
    pub(super) body: Bytes,
}

/// How a request comes over HTTP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Era {
    /// In a session that `initialize` opened.
    Legacy,
    /// By itself (2026-07-28): with these headers.
    Modern {
        /// `MCP-Protocol-Version`.
        version: String,
        /// `Mcp-Name`, for methods that act on something with a name.
        name: Option<String>,
    },
}

/// A notification or an answer.
#[derive(Debug)]
pub(super) struct Notice {
    /// None for an answer.
    pub(super) method: Option<String>,
    /// The request that it cancels.
    pub(super) cancels: Option<Value>,
    /// As the client wrote it.
    pub(super) body: Bytes,
}

impl Message {
    /// Reads one line. Errors with the answer to give.
    pub(super) fn read(line: Bytes) -> Result<Self, String> {
        let value: Value = serde_json::from_slice(&line)
            .map_err(|error| failure(&Value::Null, PARSE_ERROR, &format!("not JSON: {error}"), None))?;
        let Value::Object(message) = value else {
            return Err(failure(&Value::Null, INVALID_REQUEST, "one message a line, each a JSON object", None));
        };
        let id = message.get("id").filter(|id| id.is_string() || id.is_number()).cloned();
        let method = match message.get("method") {
            Some(Value::String(method)) => Some(method.clone()),
            Some(_) => return Err(invalid(id, "`method` is not a text")),
            None => None,
        };
        match (method, id) {
            (Some(method), Some(id)) => {
                let era = Era::of(&method, message.get("params"));
                Ok(Self::Request(Request { id, method, era, body: line }))
            }
            (Some(_), None) if message.contains_key("id") => Err(invalid(None, "`id` is neither a text nor a number")),
            (Some(method), None) => {
                let cancels = (method == "notifications/cancelled")
                    .then(|| message.get("params").and_then(|params| params.get("requestId")).cloned())
                    .flatten();
                Ok(Self::Notice(Notice { method: Some(method), cancels, body: line }))
            }
            (None, id) if message.contains_key("result") || message.contains_key("error") => {
                if id.is_none() {
                    return Err(invalid(None, "an answer needs the `id` of its request"));
                }
                Ok(Self::Notice(Notice { method: None, cancels: None, body: line }))
            }
            (None, id) => Err(invalid(id, "a message has a `method`, a `result` or an `error`")),
        }
    }
}

fn invalid(id: Option<Value>, message: &str) -> String {
    failure(&id.unwrap_or(Value::Null), INVALID_REQUEST, message, None)
}

impl Era {
    fn of(method: &str, params: Option<&Value>) -> Self {
        let text = |value: Option<&Value>| value.and_then(Value::as_str).map(str::to_owned);
        let version = params.and_then(|params| text(params.get("_meta")?.get(VERSION_KEY)));
        let Some(version) = version else { return Self::Legacy };
        let named = match method {
            "tools/call" | "prompts/get" => "name",
            "resources/read" => "uri",
            _ => return Self::Modern { version, name: None },
        };
        Self::Modern { version, name: params.and_then(|params| text(params.get(named))) }
    }
}

/// `text` as the value of an HTTP header, wrapped as the protocol says where it could not travel as it is.
pub(super) fn header_value(text: &str) -> String {
    let visible = text.bytes().all(|byte| (0x20..=0x7e).contains(&byte));
    let padded = text.starts_with(' ') || text.ends_with(' ');
    let wrapped = text.starts_with("=?base64?") && text.ends_with("?=");
    if visible && !padded && !wrapped { text.to_owned() } else { format!("=?base64?{}?=", STANDARD.encode(text)) }
}

/// A JSON-RPC error as one line.
pub(super) fn failure(id: &Value, code: i64, message: &str, data: Option<Map<String, Value>>) -> String {
    let mut error = json!({"code": code, "message": message});
    if let (Some(error), Some(data)) = (error.as_object_mut(), data) {
        error.insert("data".into(), data.into());
    }
    json!({"jsonrpc": "2.0", "id": id, "error": error}).to_string()
}

/// The code of the answer to a second request under an id that is in use.
pub(super) fn repeated_id(id: &Value) -> String {
    failure(id, INVALID_REQUEST, "a request with this id is in flight: every request needs an id of its own", None)
}

/// The answer to a line that is longer than `most` bytes.
pub(super) fn too_long(most: usize) -> String {
    failure(&Value::Null, INVALID_REQUEST, &format!("the line is longer than {most} bytes"), None)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Message, Value> {
        Message::read(Bytes::copy_from_slice(text.as_bytes())).map_err(|line| {
            assert!(!line.contains('\n'));
            serde_json::from_str(&line).unwrap()
        })
    }

    #[track_caller]
    fn request(text: &str) -> Request {
        match read(text).unwrap() {
            Message::Request(request) => request,
            Message::Notice(notice) => panic!("{notice:?}"),
        }
    }

    #[test]
    fn what_is_no_message_is_answered_with_its_fault() {
        for (text, code, id) in [
            ("{", PARSE_ERROR, Value::Null),
            ("\u{1}", PARSE_ERROR, Value::Null),
            ("[]", INVALID_REQUEST, Value::Null),
            (r#"[{"jsonrpc":"2.0","id":1,"method":"ping"}]"#, INVALID_REQUEST, Value::Null),
            (r#"{"id":7}"#, INVALID_REQUEST, json!(7)),
            (r#"{"id":7,"method":3}"#, INVALID_REQUEST, json!(7)),
            (r#"{"id":null,"method":"ping"}"#, INVALID_REQUEST, Value::Null),
            (r#"{"id":{},"method":"ping"}"#, INVALID_REQUEST, Value::Null),
            (r#"{"result":{}}"#, INVALID_REQUEST, Value::Null),
        ] {
            let answer = read(text).unwrap_err();
            assert_eq!((&answer["error"]["code"], &answer["id"]), (&json!(code), &id), "{text}");
        }
        assert!(Message::read(Bytes::from_static(b"\xff\xfe")).unwrap_err().contains("-32700"));
    }

    #[test]
    fn the_era_is_what_the_request_itself_says() {
        assert_eq!(request(r#"{"id":1,"method":"tools/list"}"#).era, Era::Legacy);
        assert_eq!(
            request(r#"{"id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25"}}"#).era,
            Era::Legacy
        );
        let meta = json!({VERSION_KEY: "2026-07-28"});
        for (method, params, name) in [
            ("tools/call", json!({"name": "fleet_list", "_meta": meta}), Some("fleet_list")),
            ("prompts/get", json!({"name": "why_denied", "_meta": meta}), Some("why_denied")),
            (
                "resources/read",
                json!({"uri": "tailops://targets/a", "name": "no", "_meta": meta}),
                Some("tailops://targets/a"),
            ),
            ("tools/list", json!({"name": "no", "_meta": meta}), None),
            ("server/discover", json!({"_meta": meta}), None),
        ] {
            let text = json!({"jsonrpc": "2.0", "id": "a", "method": method, "params": params}).to_string();
            let wanted = Era::Modern { version: "2026-07-28".into(), name: name.map(str::to_owned) };
            assert_eq!(request(&text).era, wanted, "{method}");
            assert_eq!(request(&text).body, text, "the text goes on as it came");
        }
    }

    #[test]
    fn names_that_no_header_can_carry_are_wrapped() {
        for plain in ["fleet_list", "tailops://targets/web-01", "a b", ""] {
            assert_eq!(header_value(plain), plain);
        }
        for (text, wanted) in [
            ("Zoë", "=?base64?Wm/Dqw==?="),
            (" a", "=?base64?IGE=?="),
            ("a\r\nX: y", "=?base64?YQ0KWDogeQ==?="),
            ("=?base64?YQ==?=", "=?base64?PT9iYXNlNjQ/WVE9PT89?="),
        ] {
            assert_eq!(header_value(text), wanted);
        }
    }

    #[test]
    fn a_cancellation_names_its_request() {
        let text = r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":9}}"#;
        let Message::Notice(notice) = read(text).unwrap() else { panic!("a notice") };
        assert_eq!(notice.cancels, Some(json!(9)));
        let Message::Notice(answer) = read(r#"{"id":1,"result":{"cancels":2}}"#).unwrap() else { panic!("a notice") };
        assert_eq!((answer.method, answer.cancels), (None, None));
    }
}
