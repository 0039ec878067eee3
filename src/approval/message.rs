//! What is said to whom: the body of each message and the headers of its form. Holds no arguments of any operation and no
//! secret, and lets no text of an agent out of the field it stands in.

use bytes::Bytes;
use hyper::{
    HeaderMap,
    header::{self, HeaderName, HeaderValue},
};
use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::{
    notify::{Alarm, News},
    seal::{SIGNATURE, Seal, TIMESTAMP},
};
use crate::{model::Vote, store::ApprovalRow};

/// The longest reason, in characters.
const LONGEST: usize = 500;
/// The longest name of anything, in characters.
const LONGEST_NAME: usize = 200;

/// Something to say to one destination.
#[derive(Clone, Debug)]
pub(super) enum Message {
    /// News.
    News(std::sync::Arc<News>),
    /// So many messages did not arrive since then.
    Missed {
        /// How many.
        count: u64,
        /// When the first one failed.
        since: Timestamp,
    },
}

/// How a destination is spoken to.
pub(super) enum Form {
    /// The webhook of this name: sealed JSON that names where to answer.
    Webhook {
        /// Its name.
        name: String,
        /// Seals.
        seal: std::sync::Arc<Seal>,
    },
    /// JSON.
    Json(Option<HeaderValue>),
    /// Text with the headers of ntfy.
    Ntfy(Option<HeaderValue>),
}

impl Form {
    /// The headers and the body of `message` at `now`.
    pub(super) fn written(&self, message: &Message, now: Timestamp) -> (HeaderMap, Bytes) {
        let mut headers = HeaderMap::new();
        let bearer = |headers: &mut HeaderMap, token: &Option<HeaderValue>| {
            headers.extend(token.clone().map(|token| (header::AUTHORIZATION, token)));
        };
        match self {
            Self::Webhook { name, seal } => {
                let body = json_of(message, Some(name));
                let timestamp = now.as_second().to_string();
                let signature = seal.sign(&timestamp, &body);
                put(&mut headers, header::CONTENT_TYPE, "application/json");
                put(&mut headers, HeaderName::from_static(TIMESTAMP), &timestamp);
                put(&mut headers, HeaderName::from_static(SIGNATURE), &signature);
                (headers, body)
            }
            Self::Json(token) => {
                put(&mut headers, header::CONTENT_TYPE, "application/json");
                bearer(&mut headers, token);
                (headers, json_of(message, None))
            }
            Self::Ntfy(token) => {
                bearer(&mut headers, token);
                let Text { title, lines, priority, tags, click } = Text::of(message);
                put(&mut headers, header::CONTENT_TYPE, "text/plain; charset=utf-8");
                put(&mut headers, HeaderName::from_static("title"), &title);
                put(&mut headers, HeaderName::from_static("priority"), priority);
                put(&mut headers, HeaderName::from_static("tags"), tags);
                if let Some(click) = click {
                    put(&mut headers, HeaderName::from_static("click"), &click);
                }
                (headers, Bytes::from(lines.join("\n")))
            }
        }
    }
}

/// Sets one header. What a header cannot carry was taken out before; should something be left, the header is too.
fn put(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(name, value);
    }
}

/// The JSON of `message`; `callback` is the webhook that may answer.
fn json_of(message: &Message, callback: Option<&str>) -> Bytes {
    let body = match message {
        Message::News(news) => json_of_news(news, callback),
        Message::Missed { count, since } => json!({"event": "missed", "count": count, "since": since}),
    };
    let mut versioned = Map::from_iter([("v".to_owned(), Value::from(1))]);
    if let Value::Object(body) = body {
        versioned.extend(body);
    }
    Bytes::from(Value::Object(versioned).to_string())
}

fn json_of_news(news: &News, callback: Option<&str>) -> Value {
    match news {
        News::Asked(question) => {
            let mut body = about(question, "asked");
            body.insert("nonce".into(), Value::from(question.nonce.as_str()));
            body.insert("expires_at".into(), Value::from(question.expires_at.to_string()));
            body.insert("quorum".into(), Value::from(question.quorum));
            body.insert("strength".into(), Value::from(question.strength.as_str()));
            body.insert("reason".into(), reason_of(question).map_or(Value::Null, |text| plain(&text, LONGEST).into()));
            body.insert("why".into(), Value::from(plain(&question.why, LONGEST)));
            if let Some(name) = callback {
                let gateway = question.gateway.trim_end_matches('/');
                body.insert("callback".into(), Value::from(format!("{gateway}/api/v1/webhooks/{name}")));
            }
            Value::Object(body)
        }
        News::Decided { question, vote, by, settled } => {
            let mut body = about(question, "decided");
            body.insert("decision".into(), Value::from(vote.as_str()));
            body.insert("by".into(), Value::from(plain(by, LONGEST_NAME)));
            body.insert("settled".into(), Value::from(*settled));
            Value::Object(body)
        }
        News::Expired(question) => Value::Object(about(question, "expired")),
        News::BreakGlass(alarm) => of_alarm(alarm, "break_glass"),
        News::Review(alarm) => of_alarm(alarm, "review"),
    }
}

fn about(question: &ApprovalRow, event: &str) -> Map<String, Value> {
    let named = |text: &str| Value::from(plain(text, LONGEST_NAME));
    Map::from_iter([
        ("event".to_owned(), Value::from(event)),
        ("id".to_owned(), Value::from(question.id.as_str())),
        ("operation_hash".to_owned(), Value::from(question.operation_hash.as_str())),
        ("gateway".to_owned(), Value::from(question.gateway.as_str())),
        ("tool".to_owned(), Value::from(question.tool.as_str())),
        ("target".to_owned(), question.target.as_deref().map_or(Value::Null, named)),
        ("engagement".to_owned(), named(&question.engagement)),
        ("risk".to_owned(), Value::from(question.risk.as_str())),
        ("subject".to_owned(), named(&question.subject)),
    ])
}

fn of_alarm(alarm: &Alarm, event: &str) -> Value {
    let Alarm { id, by, reason, expires, tool, target } = alarm;
    json!({
        "event": event,
        "id": id,
        "by": plain(by, LONGEST_NAME),
        "reason": plain(reason, LONGEST),
        "expires_at": expires,
        "tool": tool,
        "target": target.as_deref().map(|target| plain(target, LONGEST_NAME)),
    })
}

/// The reason that was given, as people see it: secrets are taken out of `shown`.
fn reason_of(question: &ApprovalRow) -> Option<String> {
    let shown: Value = serde_json::from_str(&question.shown).ok()?;
    shown.get("reason").and_then(Value::as_str).map(str::to_owned)
}

/// A message for people, in the form of ntfy.
struct Text {
    title: String,
    lines: Vec<String>,
    /// 1 to 5; 5 wakes people up.
    priority: &'static str,
    tags: &'static str,
    click: Option<String>,
}

impl Text {
    fn of(message: &Message) -> Self {
        let news = match message {
            Message::News(news) => news,
            Message::Missed { count, since } => {
                let title = format!("tailops: {count} messages were missed");
                let lines = vec![format!("Since {since} they did not arrive here. Look at `tailops approvals`.")];
                return Self { title, lines, priority: "4", tags: "warning", click: None };
            }
        };
        let what = news.question().map(|question| {
            let tool = &question.tool;
            question.target.as_ref().map_or_else(|| tool.clone(), |target| format!("{tool} on {target}"))
        });
        let what = what.unwrap_or_default();
        let click = news.question().map(|question| ascii(&question.gateway));
        let (title, lines, priority, tags) = match &**news {
            News::Asked(question) => {
                let mut lines = vec![format!("{} asks, in engagement {}.", question.subject, question.engagement)];
                lines.extend(reason_of(question).map(|reason| format!("Reason: {reason}")));
                lines.push(format!("Why you: {}", question.why));
                lines.push(format!("Until {}: tailops approve {}", question.expires_at, question.id));
                let critical = question.risk == "critical";
                let priority = if critical { "5" } else { "4" };
                (format!("approval wanted: {what} ({})", question.risk), lines, priority, "question")
            }
            News::Decided { question, vote, by, settled } => {
                let (word, tags) = match vote {
                    Vote::Approve => ("approved", "white_check_mark"),
                    Vote::Deny => ("denied", "no_entry"),
                };
                let more = if *settled { "" } else { " More people have to agree." };
                (format!("{word}: {what}"), vec![format!("{} by {by}.{more}", question.id)], "3", tags)
            }
            News::Expired(question) => {
                (format!("expired: {what}"), vec![format!("{} has ended.", question.id)], "3", "hourglass")
            }
            News::BreakGlass(alarm) => {
                let lines = vec![format!("Made by {}.", alarm.by), format!("Reason: {}", alarm.reason)];
                ("a pass for emergencies was made".to_owned(), lines, "5", "rotating_light")
            }
            News::Review(alarm) => {
                let what = alarm.tool.as_deref().unwrap_or("something");
                let target = alarm.target.as_deref().map(|target| format!(" on {target}")).unwrap_or_default();
                let lines = vec![
                    format!("Made by {}: {}", alarm.by, alarm.reason),
                    format!("Somebody else has to look at it: review {}.", alarm.id),
                ];
                (format!("a pass let {what}{target} through"), lines, "5", "rotating_light")
            }
        };
        let lines = lines.iter().map(|line| plain(line, LONGEST)).collect();
        Self { title: ascii(&plain(&title, LONGEST_NAME)), lines, priority, tags, click }
    }
}

/// `text` in one line of at most `most` characters, all of which are seen.
fn plain(text: &str, most: usize) -> String {
    let seen = |c: char| if c.is_control() || is_unseen(c) || c.is_whitespace() { ' ' } else { c };
    let mut line: String = text.chars().take(most).map(seen).collect();
    if text.chars().nth(most).is_some() {
        line.push('…');
    }
    line
}

/// Marks of direction, joiners and the like: they make a text look like another.
fn is_unseen(c: char) -> bool {
    matches!(c, '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// `text` as a header carries it: visible ASCII and spaces, anything else as `?`.
fn ascii(text: &str) -> String {
    text.chars().map(|c| if c == ' ' || c.is_ascii_graphic() { c } else { '?' }).collect()
}

#[cfg(test)]
mod tests;
