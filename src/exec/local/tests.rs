//! Real processes: what reaches them, how they end, and that nothing of them is left.

use super::*;
use crate::model::Template;

static ECHO: Template = Template { id: "test.echo", body: r#"printf '%s\0' "$@""#, stdin: false };

#[tokio::test]
async fn smoke() {
    let local = Local::new(ExecSettings::default());
    let out = local.perform(&Script::new(&ECHO, ["a", "b"]), Duration::from_secs(5), &CancellationToken::new()).await;
    assert_eq!(out.outcome, StepOutcome::Exited(0), "{}", out.stderr.text());
    assert_eq!(out.stdout.head, b"a\0b\0");
}
