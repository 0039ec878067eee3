//! Reads the secret that logs the node in. Answers for a file that only its owner can read, and for a secret of the
//! right kind. Never shows what is in the file.

use std::{
    fs::OpenOptions,
    io::{self, Read},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use rustix::fs::OFlags;
use secrecy::SecretString;

use crate::config::{EmbeddedNode, NodeCredential};

/// Far more than any key has, in bytes.
const MOST: u64 = 4096;
/// What the secret of an OAuth client begins with.
const OAUTH: &str = "tskey-client-";

/// Why the node's credential cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CredentialError {
    /// Not an absolute path.
    #[error("{}: name the file by its absolute path", .0.display())]
    Path(PathBuf),
    /// It cannot be opened or read.
    #[error("{}: {error}", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// A link, a directory, a pipe.
    #[error("{} is not a regular file", .0.display())]
    Kind(PathBuf),
    /// Others can read it.
    #[error("{} is open to others (mode {mode:04o}): run `chmod 0600 {}`", path.display(), path.display())]
    Mode {
        /// Which.
        path: PathBuf,
        /// Its mode bits.
        mode: u32,
    },
    /// Somebody else's.
    #[error("{} belongs to uid {owner}, neither to root nor to the gateway's own user", path.display())]
    Owner {
        /// Which.
        path: PathBuf,
        /// Whose.
        owner: u32,
    },
    /// What is in it is no key.
    #[error("{}: {why}", path.display())]
    Content {
        /// Which.
        path: PathBuf,
        /// What is wrong, without the content.
        why: &'static str,
    },
}

/// What logs the node in as `settings` say: the auth key, or the secret of an OAuth client with what it asks for; none
/// where they name neither. `credentials` is where systemd put its own.
pub(super) fn read(
    settings: &EmbeddedNode,
    credentials: Option<&Path>,
) -> Result<Option<SecretString>, CredentialError> {
    let Some(credential) = &settings.credential else { return Ok(None) };
    let (NodeCredential::AuthKey(path) | NodeCredential::OauthSecret(path)) = credential;
    if !path.is_absolute() {
        return Err(CredentialError::Path(path.clone()));
    }
    let text = read_private(path, credentials.is_some_and(|directory| path.parent() == Some(directory)))?;
    let content = |why| CredentialError::Content { path: path.clone(), why };
    let key = text.trim();
    if key.is_empty() || !key.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(content("must hold the key on one line, and nothing else"));
    }
    match credential {
        NodeCredential::AuthKey(_) if key.starts_with(OAUTH) => {
            Err(content("holds the secret of an OAuth client: name the file in node.oauth_secret_file"))
        }
        NodeCredential::AuthKey(_) => Ok(Some(key.into())),
        NodeCredential::OauthSecret(_) if !key.starts_with(OAUTH) => {
            Err(content("must hold the secret of an OAuth client, which begins with tskey-client-"))
        }
        NodeCredential::OauthSecret(_) if key.contains('?') => {
            Err(content("must hold the secret alone: what follows the ? is for node.ephemeral to say"))
        }
        NodeCredential::OauthSecret(_) if settings.tags.is_empty() || !settings.advertise_tags => {
            Err(content("an OAuth client makes keys for tags only: set node.tags, with node.advertise_tags = true"))
        }
        NodeCredential::OauthSecret(_) => {
            // Unasked, it makes keys for nodes that are forgotten when offline and wait for an admin's approval.
            let key = format!("{key}?ephemeral={}&preauthorized=true", settings.ephemeral);
            Ok(Some(key.into()))
        }
    }
}

fn read_private(path: &Path, systemd: bool) -> Result<String, CredentialError> {
    let failed = |error: io::Error| match error.raw_os_error() {
        Some(code) if code == rustix::io::Errno::LOOP.raw_os_error() => CredentialError::Kind(path.to_owned()),
        _ => CredentialError::Io { path: path.to_owned(), error },
    };
    // A pipe would be waited for; a link leads to where somebody else may say what is there.
    let flags = i32::try_from((OFlags::NOFOLLOW | OFlags::NONBLOCK).bits()).unwrap_or_default();
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path).map_err(failed)?;
    // The open file is looked at, not its name.
    let found = file.metadata().map_err(failed)?;
    if !found.is_file() {
        return Err(CredentialError::Kind(path.to_owned()));
    }
    let own = rustix::process::geteuid().as_raw();
    if found.uid() != own && found.uid() != 0 {
        return Err(CredentialError::Owner { path: path.to_owned(), owner: found.uid() });
    }
    let mode = found.mode() & 0o7777;
    // systemd lets the unit's user in by an access list, whose mask shows as the group's bits.
    let right = mode == 0o600 || mode == 0o400 || (systemd && mode == 0o440);
    if !right {
        return Err(CredentialError::Mode { path: path.to_owned(), mode });
    }
    let mut text = String::new();
    let read = file.take(MOST + 1).read_to_string(&mut text).map_err(failed)?;
    if u64::try_from(read).unwrap_or(u64::MAX) > MOST {
        return Err(CredentialError::Content { path: path.to_owned(), why: "is longer than any key" });
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use std::{
        fs::{self, Permissions},
        os::unix::fs::{PermissionsExt, symlink},
    };

    use secrecy::ExposeSecret;
    use tempfile::TempDir;

    use super::*;

    fn settings(credential: NodeCredential) -> EmbeddedNode {
        EmbeddedNode {
            hostname: "tailops".to_owned(),
            port: 8080,
            control_url: None,
            credential: Some(credential),
            tags: vec!["tag:tailops".to_owned()],
            advertise_tags: true,
            ephemeral: false,
            log_upload: false,
        }
    }

    fn file(directory: &TempDir, name: &str, text: &str, mode: u32) -> PathBuf {
        let path = directory.path().join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        path
    }

    fn auth_key(path: PathBuf) -> Result<Option<SecretString>, CredentialError> {
        read(&settings(NodeCredential::AuthKey(path)), None)
    }

    #[test]
    fn a_private_file_gives_its_key_and_an_open_one_does_not() {
        let directory = tempfile::tempdir().unwrap();
        for mode in [0o600, 0o400] {
            let login = auth_key(file(&directory, "key", "tskey-auth-x1\n", mode)).unwrap().unwrap();
            assert_eq!(login.expose_secret(), "tskey-auth-x1");
            fs::remove_file(directory.path().join("key")).unwrap();
        }
        for mode in [0o644, 0o640, 0o440, 0o604, 0o602, 0o700, 0o4600] {
            let refused = auth_key(file(&directory, "key", "tskey-auth-x1\n", mode)).unwrap_err();
            assert!(
                matches!(refused, CredentialError::Mode { mode: found, .. } if found == mode),
                "{mode:o} {refused}"
            );
            assert!(refused.to_string().contains("chmod 0600"), "{refused}");
            assert!(!refused.to_string().contains("tskey-auth"), "{refused}");
            fs::remove_file(directory.path().join("key")).unwrap();
        }
        let other = file(&directory, "key", "tskey-auth-x1\n", 0o600);
        if std::os::unix::fs::chown(&other, Some(54_321), None).is_ok() {
            assert!(matches!(auth_key(other).unwrap_err(), CredentialError::Owner { owner: 54_321, .. }));
        }
    }

    #[test]
    fn what_is_no_regular_file_by_an_absolute_path_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let key = file(&directory, "key", "tskey-auth-x1", 0o600);
        let link = directory.path().join("link");
        symlink(&key, &link).unwrap();
        assert!(matches!(auth_key(link).unwrap_err(), CredentialError::Kind(_)));
        assert!(matches!(auth_key(directory.path().to_owned()).unwrap_err(), CredentialError::Kind(_)));
        let pipe = directory.path().join("pipe");
        rustix::fs::mknodat(
            rustix::fs::CWD,
            &pipe,
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::from_raw_mode(0o600),
            0,
        )
        .unwrap();
        assert!(matches!(auth_key(pipe).unwrap_err(), CredentialError::Kind(_)));
        assert!(matches!(auth_key(directory.path().join("none")).unwrap_err(), CredentialError::Io { .. }));
        assert!(matches!(auth_key("key".into()).unwrap_err(), CredentialError::Path(_)));
    }

    #[test]
    fn a_systemd_credential_may_be_readable_by_its_access_list() {
        let directory = tempfile::tempdir().unwrap();
        let path = file(&directory, "key", "tskey-auth-x1", 0o440);
        let by_systemd =
            |path: &PathBuf| read(&settings(NodeCredential::AuthKey(path.clone())), Some(directory.path()));
        assert_eq!(by_systemd(&path).unwrap().unwrap().expose_secret(), "tskey-auth-x1");
        assert!(
            matches!(auth_key(path).unwrap_err(), CredentialError::Mode { mode: 0o440, .. }),
            "elsewhere it is open"
        );
        let open = file(&directory, "open", "tskey-auth-x1", 0o444);
        assert!(matches!(by_systemd(&open).unwrap_err(), CredentialError::Mode { mode: 0o444, .. }));
    }

    #[test]
    fn the_content_is_one_key_of_the_right_kind() {
        let directory = tempfile::tempdir().unwrap();
        for bad in ["", "\n", "two words", "a\nb", "sch\u{fc}ssel", "x\u{0}y", &"k".repeat(5000)] {
            let path = file(&directory, "key", bad, 0o600);
            assert!(matches!(auth_key(path).unwrap_err(), CredentialError::Content { .. }), "{bad:?}");
        }
        let client = file(&directory, "client", "tskey-client-k-s\n", 0o600);
        assert!(auth_key(client.clone()).unwrap_err().to_string().contains("node.oauth_secret_file"));
        let mut of_client = settings(NodeCredential::OauthSecret(client));
        let login = read(&of_client, None).unwrap().unwrap();
        assert_eq!(login.expose_secret(), "tskey-client-k-s?ephemeral=false&preauthorized=true");
        of_client.ephemeral = true;
        let login = read(&of_client, None).unwrap().unwrap();
        assert_eq!(login.expose_secret(), "tskey-client-k-s?ephemeral=true&preauthorized=true");
        of_client.advertise_tags = false;
        assert!(read(&of_client, None).unwrap_err().to_string().contains("node.advertise_tags"));
        of_client.advertise_tags = true;
        of_client.tags.clear();
        assert!(read(&of_client, None).unwrap_err().to_string().contains("node.tags"));
        for (text, why) in [("tskey-auth-x", "begins with"), ("tskey-client-k-s?baseURL=http://x", "alone")] {
            let path = file(&directory, "client", text, 0o600);
            let refused = read(&settings(NodeCredential::OauthSecret(path)), None).unwrap_err().to_string();
            assert!(refused.contains(why) && !refused.contains("http"), "{refused}");
        }
        let mut none = settings(NodeCredential::AuthKey("unused".into()));
        none.credential = None;
        assert!(read(&none, None).unwrap().is_none());
    }
}
