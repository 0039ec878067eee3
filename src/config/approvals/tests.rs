//! `[approvals]` as people write it: what is refused first, and that what is read is what is shown.

use std::path::Path;

use super::*;
use crate::config::{Config, Problems, load};

fn read_text(text: &str) -> Result<Config, Problems> {
    load(Path::new("tailops.toml"), text, &[])
}

/// The only problem of `text`.
fn problem(text: &str) -> String {
    let problems = read_text(text).expect_err(text);
    assert_eq!(problems.count(), 1, "{problems}");
    problems.to_string()
}

#[test]
fn approvals_of_one_person_alone_need_signatures() {
    for setting in ["", ", strength = \"identity\""] {
        let refused = problem(&format!("approvals = {{second_person = false{setting}}}"));
        let wanted =
            "approvals.second_person: may be false only together with approvals.strength = \"signature\": an agent";
        assert!(refused.contains(wanted), "{refused}");
    }
    assert!(
        !read_text("approvals = {second_person = false, strength = \"signature\"}").unwrap().approvals.second_person
    );
    for (setting, wanted) in [
        ("approvers = [\"jan\", \"Jan\"]", "approvals.approvers[1]: is there already"),
        ("approvers = [\"\"]", "approvals.approvers[0]: \"\" must be a login such as"),
        ("approvers = [\"a b\"]", "must be a login such as"),
        ("approvers = [\"tag:ops\"]", "\"tag:ops\" must be a login such as"),
        ("approvers = [\"uid:0\"]", "\"uid:0\" must be a login such as"),
        ("approvers = [7]", "approvals.approvers[0]: must be a login such as"),
        ("approvers = \"jan\"", "approvals.approvers: must be an array of logins, not a string"),
        ("ttl = \"59s\"", "approvals.ttl: must be from 1min to 1d, not \"59s\""),
        ("ttl = \"25h\"", "approvals.ttl: must be from 1min to 1d, not \"25h\""),
        ("strength = \"signatur\"", "did you mean signature?"),
        ("second_person = \"no\"", "approvals.second_person: must be true or false, not a string"),
        ("max_pending = 0", "approvals.max_pending: must be from 1 to 10000, not 0"),
        ("max_pending_per_token = 201", "approvals.max_pending_per_token: must be from 1 to 200, not 201"),
        ("url = \"https://ops.example.org/decide\"", "must be scheme, host in lower case and optional port alone"),
        ("url = \"ops.example.org\"", "\"ops.example.org\" must be scheme, host"),
        ("url = \"https://ops.example.org?x\"", "must be scheme, host in lower case"),
        ("approver = [\"jan\"]", "approvals.approver: unknown key, did you mean approvers?"),
    ] {
        let refused = problem(&format!("[approvals]\n{setting}"));
        assert!(refused.starts_with("tailops.toml:2:") && refused.contains(wanted), "{setting}: {refused}");
    }
}

#[test]
fn who_may_approve_reads_as_written() {
    let text = "[approvals]\napprovers = [\"Maria@Example.org\", \"jan\"]\nttl = \"1h\"\nsecond_person = false\nstrength = \"signature\"\nmax_pending = 20\nmax_pending_per_token = 20\nurl = \"https://ops.example.org:8443\"\n";
    let config = read_text(text).unwrap();
    let Approvals { approvers, ttl, second_person, strength, max_pending_per_token, max_pending, url, .. } =
        &config.approvals;
    assert_eq!(approvers, &BTreeSet::from(["Maria@Example.org".to_owned(), "jan".to_owned()]));
    assert_eq!((ttl.as_secs(), *second_person, *strength), (3600, false, Strength::Signature));
    assert_eq!((max_pending_per_token.get(), max_pending.get()), (20, 20));
    assert_eq!(url.as_deref(), Some("https://ops.example.org:8443"));
    assert_eq!(read_text(&config.effective()).unwrap().approvals, config.approvals);
    assert_eq!(read_text("").unwrap().approvals, Approvals::default());
    assert_eq!(read_text("approvals.max_pending = 3").unwrap().approvals.max_pending_per_token.get(), 3);
    let changed = read_text("approvals.approvers = [\"jan\"]").unwrap();
    assert_eq!(changed.needs_restart(&config), Vec::<&str>::new(), "who may approve changes at once");
}
