//! Every way a job can be found, with the state it is in then.

use super::*;
use crate::model::UnitSight;

const OLD: &str = "3f0a3b0e-8c5a-4d8e-9f5e-0123456789ab";
const NEW: &str = "4f0a3b0e-8c5a-4d8e-9f5e-0123456789ab";

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_795_219_200 + seconds).unwrap()
}

fn row(state: JobState, waits_for: WaitsFor) -> JobRow {
    JobRow {
        id: "0".repeat(32),
        tool: "package_refresh".into(),
        target: "web".into(),
        engagement: "lab".into(),
        subject: "agent".into(),
        owner: "ops".into(),
        jti: String::new(),
        correlation_id: String::new(),
        operation: "{}".into(),
        script_s: 60,
        state,
        waits_for,
        boot_id: (state == JobState::Running || waits_for != WaitsFor::Unit).then(|| OLD.into()),
        new_boot_id: None,
        due_at: (state == JobState::Running && waits_for != WaitsFor::Unit).then(|| at(60)),
        down_s: None,
        result: None,
        exit_status: None,
        cancelled_by: None,
        started_at: at(0),
        seen_at: (state == JobState::Running).then(|| at(0)),
        ended_at: None,
        recorded: false,
        cleaned: false,
    }
}

fn shows(boot: &str, state: Option<(JobState, &str, i32)>) -> JobSight {
    let unit = |(state, result, status): (JobState, &str, i32)| UnitSight {
        state: Some(state),
        result: result.into(),
        exit_status: state.has_ended().then_some(status),
    };
    let id = Some("0".repeat(32).as_str().into());
    JobSight { id, boot_id: Some(boot.into()), uptime_s: Some(7200), unit: state.map(unit), ..JobSight::default() }
}

#[track_caller]
fn becomes(after: &JobRow, state: JobState, result: Option<&str>) {
    assert_eq!((after.state, after.result.as_deref()), (state, result));
    assert_eq!(after.ended_at.is_some(), state.has_ended());
}

#[test]
fn a_unit_is_what_it_shows() {
    use JobState::{Failed, Running, Starting, Succeeded};
    for state in [Starting, Running] {
        let row = row(state, WaitsFor::Unit);
        becomes(&seen(&row, &shows(OLD, Some((Running, "success", 0))), at(5)), Running, None);
        let after = seen(&row, &shows(OLD, Some((Succeeded, "success", 0))), at(5));
        becomes(&after, Succeeded, Some("success"));
        assert_eq!((after.exit_status, after.boot_id.as_deref()), (Some(0), Some(OLD)));
        let after = seen(&row, &shows(OLD, Some((Failed, "exit-code", 100))), at(5));
        becomes(&after, Failed, Some("exit-code"));
        assert_eq!(after.exit_status, Some(100));
        becomes(&seen(&row, &shows(OLD, Some((Failed, "timeout", 15))), at(5)), Failed, Some("timeout"));
    }
}

#[test]
fn one_that_was_announced_did_not_start_only_once_its_script_can_no_longer_run() {
    let row = row(JobState::Starting, WaitsFor::Unit);
    becomes(&seen(&row, &shows(OLD, None), at(5)), JobState::Starting, None);
    becomes(&seen(&row, &shows(OLD, None), at(69)), JobState::Starting, None);
    becomes(&seen(&row, &shows(OLD, None), at(70)), JobState::NotStarted, Some("not_found"));
    // A host that was started since may have begun it before.
    let after = seen(&row, &JobSight { uptime_s: Some(69), ..shows(NEW, None) }, at(70));
    becomes(&after, JobState::Lost, Some("rebooted"));
    assert_eq!(after.new_boot_id.as_deref(), Some(NEW));
    becomes(
        &seen(&row, &JobSight { uptime_s: Some(70), ..shows(NEW, None) }, at(70)),
        JobState::NotStarted,
        Some("not_found"),
    );
    becomes(&seen(&row, &JobSight { uptime_s: None, ..shows(NEW, None) }, at(70)), JobState::Lost, Some("rebooted"));
    becomes(&seen(&row, &JobSight { uptime_s: Some(1), ..shows(NEW, None) }, at(69)), JobState::Starting, None);
    // A systemd that does not answer says nothing, and neither does a target that is away.
    let silent = JobSight { id: None, ..shows(OLD, None) };
    becomes(&seen(&row, &silent, at(3600)), JobState::Starting, None);
    let away = Look::Unasked("unreachable");
    becomes(&looked(&row, &away, at(3600)), JobState::Starting, None);
    becomes(&looked(&row, &away, at(86_400)), JobState::Lost, Some("unreachable"));
}

#[test]
fn one_that_ran_and_is_gone_is_lost_unless_somebody_asked_for_it() {
    let ran = row(JobState::Running, WaitsFor::Unit);
    becomes(&seen(&ran, &shows(OLD, None), at(5)), JobState::Lost, Some("gone"));
    becomes(&seen(&ran, &shows(NEW, None), at(5)), JobState::Lost, Some("rebooted"));
    becomes(&seen(&ran, &JobSight { id: None, ..shows(OLD, None) }, at(5)), JobState::Running, None);
    let asked = JobRow { cancelled_by: Some("agent".into()), ..ran };
    becomes(&seen(&asked, &shows(OLD, None), at(5)), JobState::Cancelled, Some("stopped"));
    let killed = shows(OLD, Some((JobState::Failed, "signal", 9)));
    becomes(&seen(&asked, &killed, at(5)), JobState::Cancelled, Some("signal"));
    // It was quicker.
    let done = shows(OLD, Some((JobState::Succeeded, "success", 0)));
    becomes(&seen(&asked, &done, at(5)), JobState::Succeeded, Some("success"));
}

#[test]
fn a_reboot_is_proven_by_another_boot() {
    let planned = |boot: &str| JobSight { planned: Some(("reboot".into(), Some(at(60)))), ..shows(boot, None) };
    let started = seen(&row(JobState::Starting, WaitsFor::Boot), &planned(OLD), at(1));
    becomes(&started, JobState::Running, None);
    assert_eq!((started.due_at, started.cleaned), (Some(at(60)), true));
    // It goes down, is away, and comes back.
    let going = seen(&started, &shows(OLD, None), at(61));
    becomes(&going, JobState::Running, None);
    becomes(&looked(&going, &Look::Unasked("unreachable"), at(70)), JobState::Running, None);
    let back = seen(&going, &JobSight { uptime_s: Some(10), ..shows(NEW, None) }, at(100));
    becomes(&back, JobState::Succeeded, Some("rebooted"));
    // Up for ten seconds at 100, last seen at 61.
    assert_eq!((back.new_boot_id.as_deref(), back.down_s), (Some(NEW), Some(29)));
    // It did not go, did not come back, or was called off.
    becomes(&seen(&started, &shows(OLD, None), at(60 + 1800)), JobState::Failed, Some("still_up"));
    let away = Look::Unasked("unreachable");
    becomes(&looked(&started, &away, at(60 + 1800)), JobState::Lost, Some("not_back"));
    becomes(&seen(&started, &shows(OLD, None), at(30)), JobState::Cancelled, Some("called_off"));
}

#[test]
fn a_host_counts_as_off_only_where_it_was_to_be_and_is_not_reached() {
    let off = row(JobState::Running, WaitsFor::Down);
    let away = |code| Look::Unasked(code);
    becomes(&looked(&off, &away("unreachable"), at(100)), JobState::Running, None);
    becomes(&looked(&off, &away("host_key_mismatch"), at(200)), JobState::Running, None);
    becomes(&looked(&off, &away("unreachable"), at(200)), JobState::Succeeded, Some("unreachable"));
    becomes(&seen(&off, &shows(NEW, None), at(200)), JobState::Succeeded, Some("rebooted"));
}
