//! A person's signature on what they were shown: by a private key in a file, by ssh-agent, or made elsewhere and read.
//! Composes nothing: the statement comes from whoever showed it. Sends nothing, keeps no key, and asks for no passphrase:
//! that is what ssh-agent is for.

use std::{
    fs::File,
    io::Read,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
};

use anyhow::{Context, anyhow, bail, ensure};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use ssh_agent_client_rs::{Client, Error as AgentError};
use ssh_key::{HashAlg, PrivateKey, PublicKey};

use super::people::Gateway;
use crate::approval::{ApproverKey, NAMESPACE, Signature, Statement, armored, folded, to_be_signed};

/// The longest file that is read, in bytes.
const LONGEST: u64 = 16 << 10;

/// `statement`, signed with the OpenSSH private key in `file`: armored SSHSIG. Errors for a file that others can read,
/// one with a passphrase and one whose key lies in hardware: ssh-agent handles those.
pub(super) fn sign_with_file(statement: &Statement, file: &Path) -> anyhow::Result<String> {
    let shown = file.display();
    let text = read(file, true).with_context(|| format!("--key {shown}"))?;
    let text = text.expose_secret();
    let agent = format!("add it to ssh-agent (`ssh-add {shown}`), and leave --key out");
    if ApproverKey::parse(text).is_ok() {
        bail!("--key {shown} is the public key: name the private one, or, if ssh-agent holds it, leave --key out");
    }
    let private = PrivateKey::from_openssh(text)
        .map_err(|_| anyhow!("--key {shown} is no private key of OpenSSH: `ssh-keygen -t ed25519` makes one"))?;
    let key = public(private.public_key()).map_err(|why| anyhow!("--key {shown} {why}"))?;
    ensure!(!private.is_encrypted(), "--key {shown} has a passphrase: {agent}");
    ensure!(!key.is_hardware(), "--key {shown} lies in hardware: {agent}");
    let signed = private.sign(NAMESPACE, HashAlg::Sha512, statement.to_string().as_bytes());
    let signed = signed.map_err(|error| anyhow!("--key {shown} cannot sign: {error}"))?;
    checked(statement, &key, armored(&key, signed.signature()))
}

/// `statement`, signed by the first of `keys` that the ssh-agent at `socket` holds and lets sign; none where it does so
/// with none of them. A key in hardware waits here for its touch.
pub(super) fn sign_with_agent(
    statement: &Statement,
    socket: &Path,
    keys: &[ApproverKey],
) -> anyhow::Result<Option<String>> {
    let lost = || format!("ssh-agent at {} (SSH_AUTH_SOCK)", socket.display());
    let message = to_be_signed(statement).context("the statement cannot be signed")?;
    for key in keys {
        // A new connection each: what one request leaves behind confuses no other.
        let mut agent = Client::connect(socket).with_context(lost)?;
        match agent.sign(PublicKey::new(key.data().clone(), ""), &message) {
            Ok(signature) => return checked(statement, key, armored(key, &signature)).with_context(lost).map(Some),
            // It does not hold this key, or its owner said no.
            Err(AgentError::RemoteFailure) => {}
            Err(error) => return Err(error).with_context(lost),
        }
    }
    Ok(None)
}

/// A signature over `statement` that `ssh-keygen -Y sign` wrote to `file`.
pub(super) fn read_signature(statement: &Statement, file: &Path) -> anyhow::Result<String> {
    let shown = file.display();
    let text = read(file, false).with_context(|| format!("--signature {shown}"))?;
    let signature = Signature::parse(text.expose_secret()).map_err(|why| anyhow!("--signature {shown}: {why}"))?;
    signature.check(statement, signature.key()).map_err(|why| {
        anyhow!("--signature {shown}: {why}; sign the very bytes that --print writes, and the same decision")
    })?;
    Ok(signature.text().to_owned())
}

/// The keys that may sign for whoever speaks to `gateway`: their own; on the gateway's own host, where only the signature
/// says who it is, all that count.
pub(super) async fn keys_at(gateway: &Gateway) -> anyhow::Result<Vec<ApproverKey>> {
    #[derive(Deserialize)]
    struct Whoami {
        login: String,
    }
    #[derive(Deserialize)]
    struct Listed {
        keys: Vec<Key>,
    }
    #[derive(Deserialize)]
    struct Key {
        login: String,
        public_key: String,
    }
    let listed: Listed = gateway.get(&["approver-keys"], &[]).await?;
    let own = match gateway.directory() {
        Some(_) => None,
        None => Some(gateway.get::<Whoami>(&["whoami"], &[]).await?.login),
    };
    let mine = |key: &Key| own.as_ref().is_none_or(|own| folded(own) == folded(&key.login));
    // One of a kind that this version does not know is of no use to it.
    Ok(listed.keys.iter().filter(|key| mine(key)).filter_map(|key| ApproverKey::parse(&key.public_key).ok()).collect())
}

/// Where ssh-agent listens, if there is one.
#[expect(clippy::disallowed_methods, reason = "the command line reads the environment")]
pub(super) fn agent() -> Option<PathBuf> {
    std::env::var_os("SSH_AUTH_SOCK").filter(|path| !path.is_empty()).map(PathBuf::from)
}

/// The public half in the form that can be enrolled, or why it cannot.
fn public(key: &PublicKey) -> Result<ApproverKey, String> {
    let line = key.to_openssh().map_err(|error| error.to_string())?;
    ApproverKey::parse(&line).map_err(|why| why.to_string())
}

/// A signature that counts, or none is sent.
fn checked(statement: &Statement, key: &ApproverKey, text: Option<String>) -> anyhow::Result<String> {
    let text = text.context("the signature is of another kind than its key")?;
    Signature::parse(&text)?.check(statement, key)?;
    Ok(text)
}

fn read(path: &Path, private: bool) -> anyhow::Result<SecretString> {
    let file = File::open(path)?;
    let facts = file.metadata()?;
    ensure!(facts.is_file(), "must be a file");
    ensure!(facts.size() <= LONGEST, "must not be longer than {LONGEST} bytes");
    let mode = facts.permissions().mode() & 0o777;
    if private && mode & 0o077 != 0 {
        bail!("others can read it (its mode is {mode:03o}): `chmod 600 {}`", path.display());
    }
    let mut text = String::new();
    file.take(LONGEST).read_to_string(&mut text).context("must be text")?;
    Ok(text.into())
}

#[cfg(test)]
mod tests;
