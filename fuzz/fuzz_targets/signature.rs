//! Signatures, keys and statements of approvers: whatever is read has one way to be written, and no signature that was
//! not made counts.
#![no_main]

use std::sync::LazyLock;

use base64::{Engine, engine::general_purpose::STANDARD};
use libfuzzer_sys::fuzz_target;
use tailops::{
    approval::{ApproverKey, Signature, Statement},
    model::Vote,
};

/// Of a key whose private half was thrown away.
const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAILM+rvN+ot98qgEN796jTiQfZfG1KaT0PtFDJ/XFSqti";

static TRUSTED: LazyLock<ApproverKey> = LazyLock::new(|| ApproverKey::parse(KEY).expect("a key"));
static STATEMENT: LazyLock<Statement> = LazyLock::new(|| {
    let expires = jiff::Timestamp::UNIX_EPOCH;
    let (hash, nonce) = ("a".repeat(64), "0".repeat(32));
    Statement::new("k3vd", &hash, Vote::Approve, &nonce, "https://tailops", expires).expect("a statement")
});

fuzz_target!(|data: &[u8]| {
    if let Ok(text) = std::str::from_utf8(data) {
        signature(text);
        if let Ok(key) = ApproverKey::parse(text) {
            let again = ApproverKey::parse(&key.line()).expect("what is written can be read");
            assert_eq!((again.id(), again.line()), (key.id(), key.line()));
        }
        if let Ok(statement) = Statement::parse(text) {
            assert_eq!(statement.to_string(), text, "two texts have one meaning");
        }
    }
    // What lies behind the armor is reached only in it.
    let base64 = STANDARD.encode(data);
    let lines: Vec<&str> = base64.as_bytes().chunks(70).filter_map(|line| std::str::from_utf8(line).ok()).collect();
    signature(&format!("-----BEGIN SSH SIGNATURE-----\n{}\n-----END SSH SIGNATURE-----\n", lines.join("\n")));
    let _ = ApproverKey::parse(&format!("ssh-ed25519 {base64}"));
    let _ = ApproverKey::parse(&format!("sk-ecdsa-sha2-nistp256@openssh.com {base64}"));
});

fn signature(text: &str) {
    let Ok(signature) = Signature::parse(text) else { return };
    let again = Signature::parse(signature.text()).expect("what is written can be read");
    assert_eq!(again.text(), signature.text());
    assert!(signature.check(&STATEMENT, &TRUSTED).is_err(), "a signature was forged");
    assert!(signature.check(&STATEMENT, signature.key()).is_err(), "a signature over nothing we said");
}
