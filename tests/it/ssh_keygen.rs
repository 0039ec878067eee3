//! OpenSSH's own `ssh-keygen` and tailops agree on signatures: each checks what the other made. Where OpenSSH is missing
//! this is said, and in CI it is a failure.

use std::{
    fs,
    io::Write,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use serde_json::{Value, json};
use ssh_key::{Algorithm, EcdsaCurve, HashAlg, LineEnding, PrivateKey, rand_core::OsRng};
use tailops::{
    approval::{ApproverKey, BadSignature, NAMESPACE, Signature, Statement, UnfitKey, armored},
    model::Vote,
};

use crate::child::{BINARY, Service, directory, export};

/// What `ssh-keygen` did; none where there is none.
fn ssh_keygen(arguments: &[&str], directory: &Path, input: &str) -> Option<Output> {
    let mut command = Command::new("ssh-keygen");
    command.args(arguments).current_dir(directory);
    let spawned = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut child = match spawned {
        Ok(child) => child,
        Err(error) => {
            assert!(std::env::var_os("CI").is_none(), "CI has to have ssh-keygen: {error}");
            eprintln!("no ssh-keygen here ({error}): that it agrees with tailops was not shown");
            return None;
        }
    };
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    Some(child.wait_with_output().unwrap())
}

fn text_of(output: &Output) -> String {
    String::from_utf8_lossy(&[&output.stdout[..], &output.stderr[..]].concat()).into_owned()
}

fn statement(vote: Vote) -> Statement {
    let (hash, expires) = ("a".repeat(64), "2026-11-21T18:41:45.123456789Z".parse().unwrap());
    let (nonce, gateway) = ("00112233445566778899aabbccddeeff", "https://tailops.example.ts.net");
    Statement::new("k3vd-9w2m-7qtp", &hash, vote, nonce, gateway, expires).unwrap()
}

/// `ssh-keygen -Y verify` of `signature` over `text`, with a list of signers that holds `key` alone.
fn verified(directory: &Path, key: &ApproverKey, signature: &str, text: &str) -> Option<bool> {
    fs::write(directory.join("signers"), format!("maria@example.org namespaces=\"{NAMESPACE}\" {}\n", key.line()))
        .unwrap();
    fs::write(directory.join("signature"), signature).unwrap();
    let arguments = ["-Y", "verify", "-f", "signers", "-I", "maria@example.org", "-n", NAMESPACE, "-s", "signature"];
    ssh_keygen(&arguments, directory, text).map(|output| output.status.success())
}

#[test]
fn openssh_accepts_what_tailops_signs() {
    for kind in [
        Algorithm::Ed25519,
        Algorithm::Ecdsa { curve: EcdsaCurve::NistP256 },
        Algorithm::Ecdsa { curve: EcdsaCurve::NistP384 },
    ] {
        let directory = tempfile::tempdir().unwrap();
        let private = PrivateKey::random(&mut OsRng, kind.clone()).unwrap();
        let key = ApproverKey::parse(&private.public_key().to_openssh().unwrap()).unwrap();
        let text = statement(Vote::Approve).to_string();
        let signed = private.sign(NAMESPACE, HashAlg::Sha512, text.as_bytes()).unwrap();
        let signature = armored(&key, signed.signature()).unwrap();
        let altered = statement(Vote::Deny).to_string();
        let Some(accepted) = verified(directory.path(), &key, &signature, &altered) else { return };
        assert!(!accepted, "{kind}: another text");
        assert_eq!(verified(directory.path(), &key, &signature, &text), Some(true), "{kind}");
    }
}

/// Makes a key with ssh-keygen: its public half.
fn made(directory: &Path, kind: &str, bits: &str) -> Option<String> {
    let arguments = ["-q", "-t", kind, "-b", bits, "-N", "", "-C", "maria@laptop", "-f", "key"];
    let output = ssh_keygen(&arguments, directory, "")?;
    assert!(output.status.success(), "{}", text_of(&output));
    Some(fs::read_to_string(directory.join("key.pub")).unwrap())
}

/// Signs `text` with ssh-keygen.
fn signed(directory: &Path, namespace: &str, hash: &str, text: &str) -> String {
    let option = format!("hashalg={hash}");
    let output = ssh_keygen(&["-Y", "sign", "-n", namespace, "-O", &option, "-f", "key"], directory, text).unwrap();
    assert!(output.status.success(), "{}", text_of(&output));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn tailops_accepts_what_openssh_signs() {
    for (kind, bits) in [("ed25519", "256"), ("ecdsa", "256"), ("ecdsa", "384")] {
        let directory = tempfile::tempdir().unwrap();
        let Some(public) = made(directory.path(), kind, bits) else { return };
        let key = ApproverKey::parse(&public).unwrap();
        let text = statement(Vote::Approve).to_string();
        let check = |signature: &str, vote| Signature::parse(signature)?.check(&statement(vote), &key);
        for hash in ["sha512", "sha256"] {
            let signature = signed(directory.path(), NAMESPACE, hash, &text);
            assert_eq!(check(&signature, Vote::Deny), Err(BadSignature::TurnedAround), "{kind}-{bits}");
            assert_eq!(check(&signature, Vote::Approve), Ok(()), "{kind}-{bits} {hash}");
            assert_eq!(Signature::parse(&signature).unwrap().text(), signature, "there is one way to write it");
        }
        let elsewhere = signed(directory.path(), "file", "sha512", &text);
        assert_eq!(check(&elsewhere, Vote::Approve), Err(BadSignature::Namespace));
        let listed = ssh_keygen(&["-l", "-f", "key.pub"], directory.path(), "").unwrap();
        assert!(text_of(&listed).contains(&key.id()), "the id is the fingerprint that everybody knows");
    }
    for (kind, bits, name) in [("rsa", "2048", "ssh-rsa"), ("ecdsa", "521", "ecdsa-sha2-nistp521")] {
        let directory = tempfile::tempdir().unwrap();
        let Some(public) = made(directory.path(), kind, bits) else { return };
        assert_eq!(ApproverKey::parse(&public), Err(UnfitKey::Kind(name.to_owned())));
        let signature = signed(directory.path(), NAMESPACE, "sha512", &statement(Vote::Approve).to_string());
        let refused = Signature::parse(&signature);
        assert_eq!(refused, Err(BadSignature::Key(UnfitKey::Kind(name.to_owned()))));
    }
}

/// A certificate names a key and is none.
#[test]
fn a_certificate_is_no_key_of_an_approver() {
    let directory = tempfile::tempdir().unwrap();
    if made(directory.path(), "ed25519", "256").is_none() {
        return;
    }
    let output =
        ssh_keygen(&["-q", "-s", "key", "-I", "maria", "-n", "maria", "key.pub"], directory.path(), "").unwrap();
    assert!(output.status.success(), "{}", text_of(&output));
    let certificate = fs::read_to_string(directory.path().join("key-cert.pub")).unwrap();
    assert_eq!(ApproverKey::parse(&certificate), Err(UnfitKey::Certificate));
    // ssh-keygen signs with the certificate where it lies beside the key.
    let output = ssh_keygen(
        &["-Y", "sign", "-n", NAMESPACE, "-f", "key-cert.pub"],
        directory.path(),
        &statement(Vote::Approve).to_string(),
    );
    let signature = String::from_utf8(output.unwrap().stdout).unwrap();
    assert!(Signature::parse(&signature).is_err(), "{signature}");
}

fn tailops(data: &Path, arguments: &[&str]) -> (bool, String, String) {
    let output =
        Command::new(BINARY).args(arguments).arg("--data-dir").arg(data).stdin(Stdio::null()).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (output.status.success(), text(&output.stdout), text(&output.stderr))
}

/// Asks for a file to be deleted: the approval.
async fn asked(service: &Service, file: &Path) -> String {
    fs::write(file, "x").unwrap();
    let answer = service.call("file_delete", wish(file, None)).await.unwrap();
    assert_eq!(answer.code(), "approval_required", "{answer:?}");
    answer.content()["approval_id"].as_str().unwrap().to_owned()
}

fn wish(file: &Path, approval: Option<&str>) -> Value {
    let mut wish = json!({"target": "local", "path": file, "dry_run": false, "reason": "a test"});
    if let Some(id) = approval {
        wish["approval_id"] = json!(id);
    }
    wish
}

/// By hand, step by step, as docs/approver-keys.md tells it; and what is on record afterwards can be checked by
/// ssh-keygen alone.
#[tokio::test]
async fn an_approval_is_signed_by_hand_and_its_record_checked_without_tailops() {
    let (directory, data) = directory();
    let service = Service::start(&data).await;
    let file = data.join("files/old.log");
    let id = asked(&service, &file).await;

    let key = data.join("approver_ed25519");
    let mode = |path: &PathBuf| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&key), 0o600);
    let (done, text, why) = tailops(&data, &["approve", &id, "--print"]);
    assert!(done, "{why}");
    let statement = Statement::parse(&text).unwrap();
    assert_eq!((statement.id(), statement.vote()), (id.as_str(), Vote::Approve));
    let public = fs::read_to_string(data.join("approver_ed25519.pub")).unwrap();
    let public = ApproverKey::parse(&public).unwrap();
    let path = directory.path().join("made");
    let made = ["-Y", "sign", "-n", NAMESPACE, "-f", key.to_str().unwrap()];
    let signature = match ssh_keygen(&made, directory.path(), &text) {
        Some(output) => String::from_utf8(output.stdout).unwrap(),
        None => {
            let private = PrivateKey::read_openssh_file(&key).unwrap();
            let signed = private.sign(NAMESPACE, HashAlg::Sha512, text.as_bytes()).unwrap();
            signed.to_pem(LineEnding::LF).unwrap()
        }
    };
    fs::write(&path, &signature).unwrap();

    let unsigned = service.call("file_delete", wish(&file, Some(&id))).await.unwrap();
    assert_eq!(unsigned.code(), "approval_pending");
    let (done, said, why) = tailops(&data, &["approve", &id, "--signature", path.to_str().unwrap(), "--yes"]);
    assert!(done, "{said}{why}");
    let run = service.call("file_delete", wish(&file, Some(&id))).await.unwrap();
    assert!(!run.is_error(), "{run:?}");
    assert!(!file.exists());

    let lines = export(tokio::process::Command::new(BINARY), &data, &[]).await;
    let log = directory.path().join("export.jsonl");
    fs::write(&log, lines.join("\n")).unwrap();
    let elsewhere = directory.path().join("nothing-here");
    let check =
        |file: &Path| tailops(&elsewhere, &["audit", "check-approval", &id, "--export", file.to_str().unwrap()]);
    let (fits, found, why) = check(&log);
    assert!(fits && found.contains("the signature is good"), "{found}{why}");
    let records: Vec<Value> = lines.iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    let decision = records.iter().find(|record| record["tool"] == "approval.approve").unwrap();
    let signed = &decision["approval"]["signed"];
    assert_eq!(signed["public_key"], json!(public.line()));
    let text = |name: &str| signed[name].as_str().unwrap();
    if let Some(accepted) = verified(directory.path(), &public, text("signature"), text("statement")) {
        assert!(accepted, "ssh-keygen checks the record alone");
    }
    // One letter of the record, and it fits no more.
    let altered = fs::read_to_string(&log).unwrap().replace("decision: approve", "decision: deny");
    let tampered = directory.path().join("tampered.jsonl");
    fs::write(&tampered, altered).unwrap();
    let (fits, _, why) = check(&tampered);
    assert!(!fits && why.contains("do not fit together"), "{why}");
    let (fits, _, why) = tailops(&data, &["audit", "check-approval", "none"]);
    assert!(!fits && why.contains("none"), "{why}");
    let (fits, found, why) = tailops(&data, &["audit", "check-approval", &id]);
    assert!(fits && found.contains("everything fits"), "{found}{why}");
    service.kill().await;
}

/// The command line lists the key of development, asks for another one, and takes no private key for a public one.
#[tokio::test]
async fn keys_are_listed_and_asked_for_on_the_gateways_own_host() {
    let (directory, data) = directory();
    let service = Service::start(&data).await;
    let (done, listed, why) = tailops(&data, &["approver", "list", "--json"]);
    assert!(done, "{why}");
    let listed: Value = serde_json::from_str(&listed).unwrap();
    assert_eq!(listed.as_array().unwrap().len(), 1, "{listed}");
    let of_dev = listed[0]["key_id"].as_str().unwrap().to_owned();
    let key = PrivateKey::random(&mut OsRng, Algorithm::Ed25519).unwrap();
    let (private, public) = (directory.path().join("key"), directory.path().join("key.pub"));
    fs::write(&private, key.to_openssh(LineEnding::LF).unwrap().as_bytes()).unwrap();
    fs::write(&public, key.public_key().to_openssh().unwrap()).unwrap();
    let add = |file: &Path| tailops(&data, &["approver", "add", "--login", "maria", "--key", file.to_str().unwrap()]);
    let (done, _, why) = add(&private);
    assert!(!done && why.contains("public key"), "{why}");
    let (done, said, why) = add(&public);
    assert!(done && said.contains("people were asked") && why.contains("warning"), "{said}{why}");
    let id = said.split('`').nth(1).unwrap().rsplit(' ').next().unwrap();
    let of_dev_file = data.join("approver_ed25519");
    let (done, said, why) = tailops(&data, &["approve", id, "--key", of_dev_file.to_str().unwrap(), "--yes"]);
    assert!(done, "{said}{why}");
    let (_, table, _) = tailops(&data, &["approver", "list"]);
    assert!(table.contains("maria") && table.contains(&of_dev), "{table}");
    let (done, _, why) = tailops(&data, &["approver", "remove", "SHA256:none"]);
    assert!(!done && why.contains("key_unknown"), "{why}");
    let (done, said, why) = tailops(&data, &["approver", "remove", &of_dev]);
    assert!(done && said.contains("people were asked"), "{said}{why}");
    // A key that is there is used again.
    service.kill().await;
    let service = Service::start(&data).await;
    let (_, listed, _) = tailops(&data, &["approver", "list", "--json"]);
    assert_eq!(serde_json::from_str::<Value>(&listed).unwrap().as_array().unwrap().len(), 2);
    service.kill().await;
}

/// Who follows the page makes the very bytes.
#[test]
fn the_page_shows_a_statement_as_it_is_signed() {
    let page = include_str!("../../docs/approver-keys.md");
    let (_, lines) = page.split_once("printf '%s\\n' ").expect("the recipe");
    let (lines, _) = lines.split_once(" > statement").expect("its end");
    let text: String = lines.split('\'').skip(1).step_by(2).map(|line| format!("{line}\n")).collect();
    assert_eq!(Statement::parse(&text).map(|statement| statement.to_string()), Ok(text));
}
