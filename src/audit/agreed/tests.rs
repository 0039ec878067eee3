//! Exports that were tampered with, each in one place, and the ones that fit.

use serde_json::{Value, json};
use ssh_key::{Algorithm, HashAlg, LineEnding, PrivateKey, rand_core::OsRng};

use super::{ApprovalCheck, Checked};
use crate::{
    approval::{ApproverKey, NAMESPACE, Statement},
    model::Vote,
};

const ID: &str = "k3vd-9w2m-7qtp";

struct Export(Vec<Value>);

impl Export {
    /// Asked, agreed to by `maria` with a signature and by `bob` without one, and run.
    fn new() -> (Self, PrivateKey) {
        let key = PrivateKey::random(&mut OsRng, Algorithm::Ed25519).unwrap();
        let signed = signed(&key, ID, 'a', Vote::Approve);
        let id = key.fingerprint(HashAlg::Sha256).to_string();
        let maria = json!({"key_id": id, "login": "maria@example.org", "strength": "signature"});
        let bob = json!({"login": "bob@example.org", "strength": "identity"});
        let facts = |approvers: Value| json!({"id": ID, "operation_hash": "a".repeat(64), "approvers": approvers});
        let mut signed_facts = facts(json!([maria]));
        signed_facts["signed"] = signed;
        let record = |seq: u64, kind: &str, tool: &str, status: &str, approval: Value| {
            json!({"seq": seq, "kind": kind, "tool": tool, "status": status, "approval": approval, "args": {},
                "timestamp": format!("2026-11-21T18:0{seq}:00Z"), "approved": matches!(kind, "intent" | "outcome"),
                "subject": "ops", "error": null})
        };
        let export = vec![
            record(1, "call", "file_delete", "asked", facts(json!([]))),
            record(2, "approval", "approval.approve", "ok", signed_facts),
            record(3, "approval", "approval.approve", "ok", facts(json!([bob]))),
            record(5, "outcome", "file_delete", "ok", facts(json!([maria, bob]))),
        ];
        (Self(export), key)
    }

    fn changed(mut self, at: usize, pointer: &str, value: Value) -> Self {
        *self.0[at].pointer_mut(pointer).unwrap() = value;
        self
    }

    fn checked(&self) -> Checked {
        let mut check = ApprovalCheck::new(ID);
        for record in &self.0 {
            check.take(&record.to_string());
        }
        check.finish()
    }
}

fn signed(key: &PrivateKey, id: &str, hash: char, vote: Vote) -> Value {
    let (hash, expires) = (hash.to_string().repeat(64), "2026-11-21T18:15:00Z".parse().unwrap());
    let statement =
        Statement::new(id, &hash, vote, "00112233445566778899aabbccddeeff", "https://t", expires).unwrap().to_string();
    let signature = key.sign(NAMESPACE, HashAlg::Sha512, statement.as_bytes()).unwrap();
    let public = ApproverKey::parse(&key.public_key().to_openssh().unwrap()).unwrap();
    json!({"statement": statement, "signature": signature.to_pem(LineEnding::LF).unwrap(), "public_key": public.line()})
}

fn only_fault(export: &Export, wanted: &str) {
    let checked = export.checked();
    assert!(checked.faults.iter().any(|fault| fault.contains(wanted)), "{wanted}: {checked:?}");
}

#[test]
fn a_signature_over_anything_else_is_found() {
    let with = |signed: &dyn Fn(&PrivateKey) -> Value| {
        let (export, key) = Export::new();
        export.changed(1, "/approval/signed", signed(&key))
    };
    only_fault(&with(&|key| signed(key, "k3vd-9w2m-7qtq", 'a', Vote::Approve)), "another approval");
    only_fault(&with(&|key| signed(key, ID, 'b', Vote::Approve)), "another operation");
    only_fault(&with(&|key| signed(key, ID, 'a', Vote::Deny)), "the opposite decision");
    let stranger = PrivateKey::random(&mut OsRng, Algorithm::Ed25519).unwrap();
    only_fault(&with(&|_| signed(&stranger, ID, 'a', Vote::Approve)), "another key");
    let (export, key) = Export::new();
    let mut swapped = signed(&key, ID, 'a', Vote::Approve);
    swapped["statement"] = json!(swapped["statement"].as_str().unwrap().replace("18:15", "19:15"));
    only_fault(&export.changed(1, "/approval/signed", swapped), "does not fit");
    for (field, wanted) in [("statement", "no statement"), ("signature", "no signature"), ("public_key", "no key")] {
        let (export, _) = Export::new();
        only_fault(&export.changed(1, &format!("/approval/signed/{field}"), json!("x")), wanted);
    }
}

#[test]
fn a_run_that_nobody_agreed_to_is_found() {
    let changed = |at: usize, pointer: &str, value: Value| Export::new().0.changed(at, pointer, value);
    only_fault(&changed(3, "/approval/operation_hash", json!("b".repeat(64))), "another operation");
    only_fault(&changed(3, "/approval/approvers", json!([])), "names nobody");
    only_fault(&changed(3, "/approval/approvers/1/login", json!("eve@example.org")), "eve@example.org");
    only_fault(&changed(3, "/approval/approvers/1/strength", json!("signature")), "bob@example.org");
    only_fault(&changed(2, "/tool", json!("approval.deny")), "somebody had said no");
    only_fault(&changed(2, "/status", json!("denied")), "bob@example.org");
    only_fault(&changed(3, "/seq", json!(0)), "not before it");
    only_fault(&changed(1, "/timestamp", json!("2026-11-21T18:16:00Z")), "after the approval had expired");
    only_fault(&changed(1, "/approval/approvers", json!([])), "one person");
    let (mut export, _) = Export::new();
    export.0[1]["approval"].as_object_mut().unwrap().remove("signed");
    only_fault(&export, "holds no signature");
    let (mut export, _) = Export::new();
    let mut second = export.0[3].clone();
    second["seq"] = json!(7);
    export.0.push(second);
    only_fault(&export, "2 times");
    let (mut export, key) = Export::new();
    export.0.push(json!({"seq": 1, "kind": "outcome", "tool": "approver_key.remove", "status": "ok",
        "timestamp": "2026-11-21T18:01:00Z", "args": {"key_id": key.fingerprint(HashAlg::Sha256).to_string()}}));
    only_fault(&export, "taken out");
    only_fault(&Export(vec![]), "no record of the approval");
    let mut check = ApprovalCheck::new(ID);
    check.take("not json");
    assert!(check.finish().faults[0].contains("1 lines"));
}

#[test]
fn what_fits_is_told_in_order() {
    let (mut export, _) = Export::new();
    let checked = export.checked();
    assert_eq!(checked.faults, Vec::<String>::new());
    assert_eq!(checked.found.len(), 5);
    assert!(checked.found[1].contains("signed, and the signature is good"), "{checked:?}");
    assert!(checked.found[2].contains("by their connection"), "{checked:?}");
    // With every leaf, an intent stands beside its outcome.
    let mut intent = export.0[3].clone();
    (intent["kind"], intent["seq"], intent["status"]) = (json!("intent"), json!(4), json!("pending"));
    export.0.insert(3, intent);
    assert_eq!(export.checked().faults, Vec::<String>::new());
    export.0.pop();
    assert_eq!(export.checked().faults, Vec::<String>::new(), "interrupted");
    let other = ApprovalCheck::new("another");
    assert_eq!(other.finish().found, Vec::<String>::new());
}
