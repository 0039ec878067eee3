//! What a person signs: one short text that names the question, the operation, the answer and the gateway. The text is
//! made from these values and read back here, and nowhere else; docs/approver-keys.md tells others how it is made.
//! Signs nothing and checks no signature.

use std::fmt;

use jiff::Timestamp;

use super::ApprovalView;
use crate::{model::Vote, store::ApprovalRow};

/// The namespace of the signature (SSHSIG), which keeps a signature made for something else from counting here.
pub const NAMESPACE: &str = "tailops-approval";

/// The first line, with the version of the form.
const HEAD: &str = "tailops approval v1";
/// The longest text that is read back, in bytes.
const LONGEST: usize = 2048;

/// One answer to one question, as it is signed. Its values hold neither line breaks nor control characters, so that
/// one text has one meaning. [`fmt::Display`] writes the exact text: UTF-8, each line ended by LF.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statement {
    id: String,
    operation_hash: String,
    vote: Vote,
    nonce: String,
    gateway: String,
    expires: Timestamp,
}

/// A value that cannot stand in a statement, or a text that is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{field}` of the statement {wanted}")]
pub struct Unfit {
    /// Which value.
    pub field: &'static str,
    /// What would be right.
    pub wanted: &'static str,
}

impl Statement {
    /// The statement of `vote` on the question `id` about the operation with the hash `operation_hash` (64 hex digits),
    /// asked by `gateway` with `nonce` until `expires`. Errors if a value holds what its line cannot carry.
    pub fn new(
        id: &str,
        operation_hash: &str,
        vote: Vote,
        nonce: &str,
        gateway: &str,
        expires: Timestamp,
    ) -> Result<Self, Unfit> {
        let hex = |text: &str| text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        let named = |text: &str| text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        let visible = |text: &str| text.bytes().all(|byte| byte.is_ascii_graphic());
        let fits = |fits: bool, field, wanted| if fits { Ok(()) } else { Err(Unfit { field, wanted }) };
        fits((1..=64).contains(&id.len()) && named(id), "id", "must be 1 to 64 letters, digits and hyphens")?;
        fits(operation_hash.len() == 64 && hex(operation_hash), "operation", "must be 64 lower-case hex digits")?;
        fits((16..=128).contains(&nonce.len()) && hex(nonce), "nonce", "must be 16 to 128 lower-case hex digits")?;
        fits(
            (1..=512).contains(&gateway.len()) && visible(gateway),
            "gateway",
            "must be 1 to 512 visible ASCII characters",
        )?;
        Ok(Self {
            id: id.to_owned(),
            operation_hash: operation_hash.to_owned(),
            vote,
            nonce: nonce.to_owned(),
            gateway: gateway.to_owned(),
            expires,
        })
    }

    /// The statement of `vote` on the question that `view` shows.
    pub fn of_view(view: &ApprovalView, vote: Vote) -> Result<Self, Unfit> {
        Self::new(&view.id, &view.operation_hash, vote, &view.nonce, &view.gateway, view.expires_at)
    }

    /// The statement of `vote` on a kept question.
    pub(super) fn of_row(row: &ApprovalRow, vote: Vote) -> Result<Self, Unfit> {
        Self::new(&row.id, &row.operation_hash, vote, &row.nonce, &row.gateway, row.expires_at)
    }

    /// Reads a statement back. Errors unless `text` is, byte for byte, what [`fmt::Display`] writes.
    pub fn parse(text: &str) -> Result<Self, Unfit> {
        let whole = Unfit { field: "text", wanted: "must be the seven lines that docs/approver-keys.md describes" };
        if text.len() > LONGEST {
            return Err(whole);
        }
        let mut lines = text.strip_suffix('\n').ok_or(whole)?.split('\n');
        if lines.next() != Some(HEAD) {
            return Err(whole);
        }
        let mut value = |name: &str| lines.next().and_then(|line| line.strip_prefix(name)).ok_or(whole);
        let (id, hash, decision) = (value("id: ")?, value("operation: sha256:")?, value("decision: ")?);
        let (nonce, gateway, expires) = (value("nonce: ")?, value("gateway: ")?, value("expires: ")?);
        let vote = [Vote::Approve, Vote::Deny].into_iter().find(|vote| vote.as_str() == decision);
        let vote = vote.ok_or(Unfit { field: "decision", wanted: "must be approve or deny" })?;
        let expires = expires.parse().map_err(|_| Unfit { field: "expires", wanted: "must be a time in UTC" })?;
        let statement = Self::new(id, hash, vote, nonce, gateway, expires)?;
        if statement.to_string() == text { Ok(statement) } else { Err(whole) }
    }

    /// The same with the opposite answer.
    pub(super) fn turned_around(&self) -> Self {
        let vote = match self.vote {
            Vote::Approve => Vote::Deny,
            Vote::Deny => Vote::Approve,
        };
        Self { vote, ..self.clone() }
    }

    /// The question.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The hash of the operation: 64 hex digits.
    pub fn operation_hash(&self) -> &str {
        &self.operation_hash
    }

    /// The answer.
    pub fn vote(&self) -> Vote {
        self.vote
    }

    /// What makes the question one of its kind.
    pub fn nonce(&self) -> &str {
        &self.nonce
    }

    /// The origin of the gateway that asks.
    pub fn gateway(&self) -> &str {
        &self.gateway
    }

    /// When the question ends.
    pub fn expires(&self) -> Timestamp {
        self.expires
    }
}

impl fmt::Display for Statement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { id, operation_hash, vote, nonce, gateway, expires } = self;
        writeln!(f, "{HEAD}\nid: {id}\noperation: sha256:{operation_hash}\ndecision: {vote}")?;
        writeln!(f, "nonce: {nonce}\ngateway: {gateway}\nexpires: {expires}")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Statement, Unfit};
    use crate::model::Vote;

    const HASH: &str = "7d0c1f0a9a2f3b4c5d6e7f8091a2b3c4d5e6f708192a3b4c5d6e7f8091a2b3c4";
    const NONCE: &str = "00112233445566778899aabbccddeeff";
    const GATEWAY: &str = "https://tailops.example.ts.net";

    fn made(id: &str, hash: &str, nonce: &str, gateway: &str) -> Result<Statement, Unfit> {
        Statement::new(id, hash, Vote::Approve, nonce, gateway, "2026-11-21T18:41:45.5Z".parse().unwrap())
    }

    /// Another line in a value would say something that nobody meant.
    #[test]
    fn no_value_carries_a_line_break_or_another_control_character() {
        for bad in ["", "a\nb", "a\r", "a\0", "a b", "é", "a\u{2028}b", "a\u{202e}b", "a\u{7f}"] {
            assert_eq!(made(bad, HASH, NONCE, GATEWAY).unwrap_err().field, "id", "{bad:?}");
            assert_eq!(made("k3vd", bad, NONCE, GATEWAY).unwrap_err().field, "operation", "{bad:?}");
            assert_eq!(made("k3vd", HASH, bad, GATEWAY).unwrap_err().field, "nonce", "{bad:?}");
            assert_eq!(made("k3vd", HASH, NONCE, bad).unwrap_err().field, "gateway", "{bad:?}");
        }
        assert_eq!(made("k3vd", &HASH.to_uppercase(), NONCE, GATEWAY).unwrap_err().field, "operation");
        assert_eq!(made("k3vd", &HASH[1..], NONCE, GATEWAY).unwrap_err().field, "operation");
        assert_eq!(made(&"a".repeat(65), HASH, NONCE, GATEWAY).unwrap_err().field, "id");
        assert_eq!(made("k3vd", HASH, NONCE, &"a".repeat(513)).unwrap_err().field, "gateway");
    }

    /// Who checks a signature without tailops has to make the same bytes.
    #[test]
    fn the_text_is_the_documented_one() {
        let text = made("k3vd-9w2m-7qtp", HASH, NONCE, GATEWAY).unwrap().to_string();
        let wanted = format!(
            "tailops approval v1\nid: k3vd-9w2m-7qtp\noperation: sha256:{HASH}\ndecision: approve\nnonce: {NONCE}\n\
             gateway: {GATEWAY}\nexpires: 2026-11-21T18:41:45.5Z\n"
        );
        assert_eq!(text, wanted);
        assert!(Statement::parse(&text).is_ok());
    }

    #[test]
    fn only_the_exact_text_reads_back() {
        let text = made("k3vd-9w2m-7qtp", HASH, NONCE, GATEWAY).unwrap().to_string();
        let swapped = |from: &str, to: &str| text.replacen(from, to, 1);
        for bad in [
            String::new(),
            text.trim_end().to_owned(),
            format!("{text}\n"),
            format!("{text}more: x\n"),
            text.replace('\n', "\r\n"),
            swapped("v1", "v2"),
            swapped("id: ", "id:"),
            swapped("id: ", "Id: "),
            swapped("sha256:", "sha512:"),
            swapped("approve", "Approve"),
            swapped("approve\n", "maybe\n"),
            swapped("45.5Z", "45.50Z"),
            swapped("18:41:45.5Z", "19:41:45.5+01:00"),
            swapped("expires: ", "expires:  "),
            swapped("decision: approve\n", ""),
            format!("{text}{}", " ".repeat(3000)),
        ] {
            assert!(Statement::parse(&bad).is_err(), "{bad:?}");
        }
    }

    proptest! {
        /// What reads back is what was written.
        #[test]
        fn a_text_has_one_meaning(id in "[a-z0-9-]{1,64}", hash in "[0-9a-f]{64}", nonce in "[0-9a-f]{16,128}",
            gateway in "[!-~]{1,512}", deny: bool, second in 0i64..4_000_000_000, nano in 0i32..1_000_000_000) {
            let vote = if deny { Vote::Deny } else { Vote::Approve };
            let expires = jiff::Timestamp::new(second, nano).unwrap();
            let statement = Statement::new(&id, &hash, vote, &nonce, &gateway, expires).unwrap();
            prop_assert_eq!(Statement::parse(&statement.to_string()), Ok(statement));
        }
    }
}
