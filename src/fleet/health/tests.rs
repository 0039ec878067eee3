//! What is found in facts, how bad it is and since when; and what a failed attempt leaves of it.

use super::*;
use crate::fleet::{
    Known,
    facts::{Disk, FailedUnit, Reboot, Updates},
};

fn at(minute: i64) -> Timestamp {
    Timestamp::from_second(1_795_262_400 + 60 * minute).unwrap()
}

fn well() -> Facts {
    Facts { kernel: Some("Linux".into()), synced: Some(true), ahead_s: Some(0), ..Facts::default() }
}

fn disk(used_pct: u8, inodes_pct: u8) -> Option<Vec<Disk>> {
    let disk = |mount: &str, used_pct, inodes_pct| Disk { mount: mount.into(), size: 1 << 30, used_pct, inodes_pct };
    Some(vec![disk("/", used_pct, Some(inodes_pct)), disk("/boot", 10, None)])
}

#[test]
fn each_fact_has_its_finding_and_they_come_worst_first() {
    assert_eq!(findings(&well(), at(0), &[]), []);
    let unit = FailedUnit { unit: "nginx.service".into(), result: None, since: Some(at(-5)) };
    let facts = Facts {
        failed: Some(vec![unit]),
        disks: disk(91, 3),
        updates: Some(Updates { pending: 9, security: 2, lists_age_s: None }),
        reboot: Some(Reboot { required: true, since: Some(at(-9)) }),
        synced: Some(false),
        ..well()
    };
    let found = findings(&facts, at(0), &[]);
    let told: Vec<_> =
        found.iter().map(|finding| (finding.problem.as_str(), finding.health, finding.number, finding.since)).collect();
    let expected = [
        ("failed_units", Health::Critical, 1, at(-5)),
        ("disk_full", Health::Warning, 91, at(0)),
        ("security_updates", Health::Warning, 2, at(0)),
        ("reboot_needed", Health::Warning, 1, at(-9)),
        ("clock_off", Health::Warning, 0, at(0)),
    ];
    assert_eq!(told, expected);
    assert_eq!(
        (found[0].what.as_slice(), found[1].what.as_slice()),
        (&["nginx.service".to_owned()][..], &["/ 91 %".to_owned()][..])
    );
}

#[test]
fn the_limits_of_disks_and_clocks() {
    let health_of = |facts: Facts| health(&findings(&facts, at(0), &[]));
    for (used, inodes, health) in [
        (89, 0, Health::Ok),
        (90, 0, Health::Warning),
        (94, 0, Health::Warning),
        (95, 0, Health::Critical),
        (1, 95, Health::Critical),
        (1, 90, Health::Warning),
    ] {
        assert_eq!(health_of(Facts { disks: disk(used, inodes), ..well() }), health, "{used} {inodes}");
    }
    for (ahead, health) in
        [(5, Health::Ok), (-5, Health::Ok), (6, Health::Warning), (-6, Health::Warning), (i64::MIN, Health::Warning)]
    {
        assert_eq!(health_of(Facts { ahead_s: Some(ahead), ..well() }), health, "{ahead}");
    }
    // What is not known is no finding.
    assert_eq!(health_of(Facts { synced: None, ahead_s: None, ..well() }), Health::Ok);
}

#[test]
fn a_finding_goes_on_since_it_was_first_seen_and_starts_anew_after_it_was_gone() {
    let full = Facts { disks: disk(97, 0), ..well() };
    let first = Known::after(Ok(full.clone()), at(0), None);
    let second = Known::after(Ok(full.clone()), at(5), Some(&first));
    assert_eq!((second.findings[0].since, second.tried_at), (at(0), at(5)));
    let mended = Known::after(Ok(well()), at(6), Some(&second));
    assert_eq!(mended.health(at(6)), Health::Ok);
    assert_eq!(Known::after(Ok(full), at(7), Some(&mended)).findings[0].since, at(7));
}

#[test]
fn a_failed_attempt_keeps_what_was_known() {
    let full = Facts { disks: disk(97, 0), ..well() };
    let known = Known::after(Ok(full), at(0), None);
    let down = Known::after(Err("unreachable".into()), at(1), Some(&known));
    let still = Known::after(Err("host_key_mismatch".into()), at(2), Some(&down));
    let wrong = still.wrong(at(3));
    assert_eq!((wrong.len(), wrong[0].problem, wrong[0].since), (2, Problem::Unreachable, at(1)));
    assert_eq!(wrong[0].what, ["host_key_mismatch"]);
    assert_eq!(still.facts, known.facts);
    assert_eq!(Known::after(Ok(well()), at(4), Some(&still)).failure, None);

    let never = Known::after(Err("unreachable".into()), at(0), None);
    assert_eq!((never.health(at(1)), never.wrong(at(1)).len()), (Health::Critical, 1));
}

#[test]
fn old_facts_are_no_knowledge() {
    let known = Known::after(Ok(well()), at(0), None);
    assert_eq!(known.health(at(24 * 60)), Health::Ok);
    assert_eq!(known.health(at(24 * 60 + 1)), Health::Unknown);
    assert_eq!(known.wrong(at(24 * 60 + 1))[0].since, at(0));
}

#[tokio::test]
async fn what_is_kept_is_what_was_known_and_only_its_tenants() {
    use crate::{fleet::known_of, store::Store};
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).await.unwrap();
    let (lab, other) = ("lab".into(), "other".into());
    let known = Known::after(Ok(Facts { disks: disk(97, 0), load: Some([0.5, 0.25, 1.0]), ..well() }), at(1), None);
    let down = Known::after(Err("unreachable".into()), at(1), Some(&known));
    let rows = [known.row(&lab, &"a".into()).unwrap(), down.row(&lab, &"b".into()).unwrap()];
    store.keep_facts("lab", &rows, &["a", "b"]).await.unwrap();
    let read = known_of(&store, &lab).await.unwrap();
    assert_eq!((read.len(), &read["a"], &read["b"]), (2, &known, &down));
    assert!(known_of(&store, &other).await.unwrap().is_empty());

    // Another reading that ended before does not overwrite; a target that is gone is forgotten.
    let older = Known::after(Ok(well()), at(0), None).row(&lab, &"a".into()).unwrap();
    store.keep_facts("other", &[], &[]).await.unwrap();
    store.keep_facts("lab", &[older], &["a"]).await.unwrap();
    let read = known_of(&store, &lab).await.unwrap();
    assert_eq!((read.len(), &read["a"]), (1, &known));
}
