//! The approver of development: the local user, by a key that lies in the data directory, so that a newcomer sees the
//! whole round trip. Whatever runs as that user, an agent too, can reach the key: this is for trying things out alone.

use std::{fs, io, path::Path, path::PathBuf};

use anyhow::{Context, anyhow, ensure};
use ssh_key::{Algorithm, LineEnding, PrivateKey, rand_core::OsRng};

use super::local_user;
use crate::{
    app::App,
    approval::{ApproverKey, Enrolment, Person},
    config::{Approvals, Config},
    model::{CorrelationId, Strength},
};

/// The private key's name in the data directory; the public one's has `.pub` behind it.
const FILE: &str = "approver_ed25519";

/// Lets the local user, and nobody else, agree to what agents ask for, by a signature.
pub(super) fn configure(config: &mut Config) {
    config.approvals = Approvals {
        approvers: [local_user()].into(),
        second_person: false,
        strength: Strength::Signature,
        ..config.approvals.clone()
    };
}

/// The file of the private key, made if it is not there, and enrolled for the local user if no key ever was.
pub(super) async fn enrol(config: &Config, app: &App) -> anyhow::Result<PathBuf> {
    let path = config.data_dir.join(FILE);
    let key = match fs::read_to_string(&path) {
        Ok(text) => {
            let text = secrecy::SecretString::from(text);
            read(&text).with_context(|| path.display().to_string())?
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => make(&path)?,
        Err(error) => return Err(error).with_context(|| path.display().to_string()),
    };
    let counting = app.store().approver_key(&key.id()).await?;
    if counting.is_none() {
        let wanted = Enrolment {
            login: local_user(),
            public_key: key.line(),
            label: "development, in the data directory".into(),
        };
        let person = Person::on_host(rustix::process::geteuid().as_raw(), &local_user());
        let done = app.approvals().enrol_key(&config.approvals, &person, &wanted, CorrelationId::random()).await;
        // Where other keys were enrolled before, one of them has to agree.
        done.map_err(|why| anyhow!("{} cannot be enrolled: {why}", path.display()))?;
    }
    Ok(path)
}

fn read(text: &secrecy::SecretString) -> anyhow::Result<ApproverKey> {
    use secrecy::ExposeSecret as _;
    let private =
        PrivateKey::from_openssh(text.expose_secret()).map_err(|_| anyhow!("is no private key of OpenSSH"))?;
    Ok(ApproverKey::parse(&private.public_key().to_openssh()?)?)
}

fn make(path: &Path) -> anyhow::Result<ApproverKey> {
    let mut private = PrivateKey::random(&mut OsRng, Algorithm::Ed25519)?;
    private.set_comment("tailops development");
    let line = private.public_key().to_openssh()?;
    let key = ApproverKey::parse(&line)?;
    let public = path.with_extension("pub");
    ensure!(!public.exists(), "{} is there without its private key: remove it", public.display());
    let text = private.to_openssh(LineEnding::LF)?;
    super::serve::write_private(path, &text).with_context(|| path.display().to_string())?;
    fs::write(&public, format!("{line}\n")).with_context(|| public.display().to_string())?;
    Ok(key)
}
