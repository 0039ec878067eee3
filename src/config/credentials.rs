//! `[credentials]`: how old the gateway's own long-lived secrets may grow. A profile bounds it; nothing here makes a
//! secret older than its profile allows. Reads no secret.

use std::{ops::RangeInclusive, time::Duration};

use super::{Profile, section::Section};
use crate::model::format_duration;

const DAY: Duration = Duration::from_hours(24);
/// What can be asked for. Less than an hour nobody can keep up with.
const AGES: RangeInclusive<Duration> = Duration::from_hours(1)..=Duration::from_hours(24 * 3650);

/// How old secrets may grow. None is without a limit, which profile development alone has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CredentialAges {
    /// SSH keys: those of logins and that of `[ssh.ca]`.
    pub ssh_key: Option<Duration>,
    /// Every other one: signing keys, secrets shared with others, keys of certificates.
    pub other: Option<Duration>,
}

impl CredentialAges {
    /// The most that `profile` allows: none in development, 90 and 30 days when recommended, 30 days and 24 hours at
    /// maximum.
    pub fn most(profile: Profile) -> Self {
        let (ssh_key, other) = match profile {
            Profile::Development => (None, None),
            Profile::Recommended => (Some(90 * DAY), Some(30 * DAY)),
            Profile::Maximum => (Some(30 * DAY), Some(DAY)),
        };
        Self { ssh_key, other }
    }
}

/// The section.
pub(super) fn credentials(root: &mut Section<'_>, profile: Profile) -> CredentialAges {
    let mut section = root.section("credentials");
    let most = CredentialAges::most(profile);
    let mut age = |key: &'static str, most: Option<Duration>| {
        let given = if section.value(key).is_some() { Some(section.duration(key, DAY, AGES)) } else { most };
        if let (Some(given), Some(most)) = (given, most)
            && given > most
        {
            let (most, given) = (format_duration(most), format_duration(given));
            section.refuse(key, format_args!("profile {profile} allows at most {most}, not {given}"));
        }
        given
    };
    let ages = CredentialAges { ssh_key: age("ssh_key_max_age", most.ssh_key), other: age("max_age", most.other) };
    section.finish();
    ages
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::load;

    fn ages(text: &str) -> Result<CredentialAges, String> {
        load(Path::new("t"), text, &[]).map(|config| config.credentials).map_err(|problems| problems.to_string())
    }

    #[test]
    fn p104_a_profile_bounds_how_old_a_secret_may_grow() {
        let of = |ssh_key: u32, other: u32| CredentialAges { ssh_key: Some(ssh_key * DAY), other: Some(other * DAY) };
        assert_eq!(ages("").unwrap(), of(90, 30));
        assert_eq!(ages("profile = \"maximum\"").unwrap(), of(30, 1));
        assert_eq!(ages("profile = \"development\"").unwrap(), CredentialAges::default());
        let text = "[credentials]\nssh_key_max_age = \"45d\"\nmax_age = \"7d\"\n";
        assert_eq!(ages(text).unwrap(), of(45, 7));
        assert_eq!(ages(&format!("profile = \"development\"\n{text}")).unwrap(), of(45, 7));
        let refused = ages(&format!("profile = \"maximum\"\n{text}")).unwrap_err();
        for wanted in [
            "credentials.ssh_key_max_age: profile maximum allows at most 30d, not 45d",
            "credentials.max_age: profile maximum allows at most 1d, not 7d",
        ] {
            assert!(refused.contains(wanted), "{refused}");
        }
        assert!(ages("credentials.ssh_key_max_age = \"91d\"").unwrap_err().contains("at most 90d"));
        for bad in ["\"1min\"", "\"never\"", "0", "\"4000d\""] {
            let refused = ages(&format!("profile = \"development\"\ncredentials.max_age = {bad}")).unwrap_err();
            assert!(refused.contains("credentials.max_age: "), "{bad}: {refused}");
        }
    }
}
