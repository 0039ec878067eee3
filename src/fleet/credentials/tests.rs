//! How the age of a secret is judged, whatever its file says.

use std::os::unix::fs::PermissionsExt;

use tempfile::TempDir;

use super::*;
use crate::model::{Clock, SystemClock};

const DAY: Duration = Duration::from_hours(24);

fn judged(age: Duration, most: Option<Duration>) -> CredentialState {
    let now: Timestamp = "2026-06-01T00:00:00Z".parse().unwrap();
    let made = now.checked_sub(age).unwrap();
    aged(Credential::new(CredentialKind::TlsKey, "tls"), made, KnownBy::File, most, now).state
}

#[test]
fn p104_the_last_fifth_is_due_and_what_is_past_its_time_overdue() {
    for (days, state) in [
        (0, CredentialState::Ok),
        (71, CredentialState::Ok),
        (72, CredentialState::Due),
        (90, CredentialState::Due),
        (91, CredentialState::Overdue),
        (4000, CredentialState::Overdue),
    ] {
        assert_eq!(judged(days * DAY, Some(90 * DAY)), state, "{days} days");
    }
    assert_eq!(judged(4000 * DAY, None), CredentialState::Ok);
}

#[test]
fn a_secret_of_the_future_has_no_age() {
    let now: Timestamp = "2026-06-01T00:00:00Z".parse().unwrap();
    let made = now.checked_add(DAY).unwrap();
    let row = aged(Credential::new(CredentialKind::TlsKey, "tls"), made, KnownBy::File, Some(DAY), now);
    assert_eq!((row.state, row.age_s), (CredentialState::Unreadable, None));
}

fn place(kind: CredentialKind, folder: &TempDir, text: &str, mode: u32) -> Place {
    let file = folder.path().join("secret");
    let _ = fs::remove_file(&file);
    fs::write(&file, text).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
    Place { kind, name: "x".to_owned(), file, used_by: BTreeSet::new() }
}

#[test]
fn what_is_open_to_others_or_no_key_is_unreadable_and_says_no_path() {
    let folder = tempfile::tempdir().unwrap();
    let ages = CredentialAges { ssh_key: Some(DAY), other: Some(DAY) };
    let look = |place| seen(place, &BTreeMap::new(), ages, SystemClock.now());
    for (kind, text, mode) in [
        (CredentialKind::LoginKey, "no key", 0o600),
        (CredentialKind::LoginKey, "no key", 0o644),
        (CredentialKind::SshCa, "", 0o600),
        (CredentialKind::WebhookSecret, "secret", 0o640),
        (CredentialKind::TlsKey, "secret", 0o604),
    ] {
        let row = look(place(kind, &folder, text, mode));
        let why = row.why.unwrap();
        assert_eq!((row.state, row.age_s), (CredentialState::Unreadable, None), "{kind:?}");
        assert!(!why.contains(folder.path().to_str().unwrap()) && !why.contains("no key\n"), "{why}");
    }
    let missing = Place { file: folder.path().join("gone"), ..place(CredentialKind::TlsKey, &folder, "", 0o600) };
    assert_eq!(look(missing).state, CredentialState::Unreadable);
    let good = look(place(CredentialKind::WebhookSecret, &folder, "secret", 0o600));
    assert_eq!((good.state, good.known_by), (CredentialState::Ok, Some(KnownBy::File)));
}

#[test]
fn a_record_of_the_gateway_counts_more_than_the_time_of_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("key");
    let key = LoginKey::make(&file).unwrap();
    let now = SystemClock.now();
    let ages = CredentialAges { ssh_key: Some(90 * DAY), other: None };
    let made = BTreeMap::from([(key.fingerprint.clone(), now.checked_sub(91 * DAY).unwrap())]);
    let place =
        Place { kind: CredentialKind::LoginKey, name: String::new(), file: file.clone(), used_by: BTreeSet::new() };
    let row = seen(place.clone(), &made, ages, now);
    assert_eq!((row.state, row.known_by), (CredentialState::Overdue, Some(KnownBy::Record)));
    assert_eq!(row.fingerprint.as_deref(), Some(key.fingerprint.as_str()));
    let row = seen(place, &BTreeMap::new(), ages, now);
    assert_eq!((row.state, row.known_by), (CredentialState::Ok, Some(KnownBy::File)));
}
