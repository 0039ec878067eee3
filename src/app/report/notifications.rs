//! What the report says of those who are told of questions. Names destinations by their names only: an address may be a
//! secret.

use crate::{
    approval::Health,
    model::{Line, Subject},
};

/// One line for each destination; one in all where there is none.
pub(super) fn lines(health: &[Health]) -> Vec<Line> {
    if health.is_empty() {
        return vec![Line::ok(Subject::Notifications, "nobody is told of questions, as none is configured")];
    }
    health.iter().map(line).collect()
}

fn line(health: &Health) -> Line {
    let Health { name, last_success, last_failure, failing_since, pending, missed } = health;
    let waiting = if *pending > 0 { format!(", {pending} messages wait") } else { String::new() };
    let missed = if *missed > 0 { format!(", {missed} never arrived since the start") } else { String::new() };
    let taken = last_success.map_or_else(
        || "took no message since the start".to_owned(),
        |last| format!("took a message at {}", last.strftime("%Y-%m-%dT%H:%M:%SZ")),
    );
    match (failing_since, last_failure) {
        (Some(since), Some((_, why))) => Line::fail(
            Subject::Notifications,
            format!("{name} takes no messages since {}: {why}{waiting}{missed}", since.strftime("%Y-%m-%dT%H:%M:%SZ")),
            "look at the other end, its address and its secret; messages are sent again by themselves; meanwhile \
             `tailops approvals` shows what is open",
        ),
        _ => Line::ok(Subject::Notifications, format!("{name} {taken}{waiting}{missed}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Level;

    #[test]
    fn a_destination_that_takes_nothing_is_a_failure_that_says_since_when() {
        let at = |text: &str| text.parse().unwrap();
        assert_eq!(lines(&[])[0].level, Level::Ok);
        let fine = Health {
            name: "webhook duty".into(),
            last_success: Some(at("2026-11-21T10:00:00Z")),
            last_failure: Some((at("2026-11-21T09:00:00Z"), "it did not answer in time".into())),
            missed: 2,
            ..Health::default()
        };
        let failing = Health {
            name: "notify phones".into(),
            failing_since: Some(at("2026-11-21T09:30:00Z")),
            last_failure: Some((at("2026-11-21T10:00:00Z"), "it answered with status 500".into())),
            pending: 3,
            ..Health::default()
        };
        let found = lines(&[fine, failing]);
        let levels: Vec<_> = found.iter().map(|line| line.level).collect();
        assert_eq!(levels, [Level::Ok, Level::Fail]);
        assert_eq!(
            found[0].finding,
            "webhook duty took a message at 2026-11-21T10:00:00Z, 2 never arrived since the start"
        );
        let wanted =
            "notify phones takes no messages since 2026-11-21T09:30:00Z: it answered with status 500, 3 messages wait";
        assert_eq!(found[1].finding, wanted);
    }
}
