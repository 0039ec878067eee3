//! Reads crontabs and the lists of `run-parts` folders. Parses text only; decides nothing about when a job runs.

use schemars::JsonSchema;
use serde::Serialize;

use crate::model::Section;

/// One cron job. Lines that set variables are left out.
#[derive(Serialize, JsonSchema)]
pub(super) struct CronJob {
    /// The file it stands in
    pub(super) source: String,
    line: usize,
    user: Option<String>,
    /// The five time fields, or a word such as @daily
    schedule: String,
    pub(super) command: String,
}

impl CronJob {
    /// Orders jobs by file and line.
    pub(super) fn key(&self) -> String {
        format!("{} {:08}", self.source, self.line)
    }
}

/// The jobs in the sections `system PATH` (with a user column), `user:NAME PATH` (without one) and `parts PERIOD`
/// (one executable a line).
pub(super) fn read(sections: &[Section]) -> Vec<CronJob> {
    let mut jobs = Vec::new();
    for section in sections.iter().filter(|section| section.content.is_ok()) {
        let Some((owner, source)) = section.name.split_once(' ') else { continue };
        let text = section.text();
        let lines = text.lines().enumerate().map(|(number, line)| (number + 1, line.trim()));
        for (line, text) in lines.filter(|(_, text)| !text.is_empty() && !text.starts_with('#')) {
            let job = match owner.strip_prefix("user:") {
                Some(user) => entry(text).map(|(schedule, command)| (Some(user), schedule, command)),
                None if owner == "parts" => Some((Some("root"), format!("@{source}"), text)),
                None => entry(text).and_then(|(schedule, rest)| {
                    let (user, command) = rest.split_once(char::is_whitespace)?;
                    Some((Some(user), schedule, command.trim_start()))
                }),
            };
            if let Some((user, schedule, command)) = job {
                let source = if owner == "parts" { format!("/etc/cron.{source}") } else { source.to_owned() };
                let (user, command) = (user.map(str::to_owned), command.to_owned());
                jobs.push(CronJob { source, line, user, schedule, command });
            }
        }
    }
    jobs
}

/// Schedule and rest of a crontab line; none for a line that sets a variable.
fn entry(line: &str) -> Option<(String, &str)> {
    if line.starts_with('@') {
        let (word, rest) = line.split_once(char::is_whitespace)?;
        return Some((word.to_owned(), rest.trim_start()));
    }
    let mut fields = Vec::new();
    let mut rest = line;
    for _ in 0..5 {
        let (field, behind) = rest.split_once(char::is_whitespace)?;
        if !field.chars().all(|c| c.is_ascii_alphanumeric() || "*/,-~".contains(c)) {
            return None;
        }
        fields.push(field);
        rest = behind.trim_start();
    }
    let is_time =
        fields.first().is_some_and(|minute| minute.starts_with(|c: char| c.is_ascii_digit() || "*~".contains(c)));
    is_time.then(|| (fields.join(" "), rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crontabs_are_read_and_variables_left_out() {
        let section = |name: &str, text: &str| Section { name: name.into(), content: Ok(text.into()) };
        let jobs = read(&[
            section(
                "system /etc/crontab",
                "# c\nSHELL=/bin/sh\nPASS = a b c d e f\n17 *\t* * * root  cd / && run-parts\n@reboot www /x y\n",
            ),
            section("user:eve /var/spool/cron/crontabs/eve", "*/5 0 1-3 jan,feb mon echo  hi\nbroken line\n"),
            section("parts daily", "/etc/cron.daily/logrotate\n"),
            Section { name: "user_crontabs".into(), content: Err("permission_denied".into()) },
        ]);
        let short: Vec<_> =
            jobs.iter().map(|job| (job.line, job.user.as_deref().unwrap(), &*job.schedule, &*job.command)).collect();
        assert_eq!(
            short,
            [
                (4, "root", "17 * * * *", "cd / && run-parts"),
                (5, "www", "@reboot", "/x y"),
                (1, "eve", "*/5 0 1-3 jan,feb mon", "echo  hi"),
                (1, "root", "@daily", "/etc/cron.daily/logrotate"),
            ]
        );
        assert_eq!(jobs[3].source, "/etc/cron.daily");
    }
}
