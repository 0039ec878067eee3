//! Reads `systemctl cat`: the unit file and its drop-ins, each under its path in a comment. Answers for hiding what
//! unit files set as environment or credentials.

use schemars::JsonSchema;
use serde::Serialize;

/// One file that makes up a unit.
#[derive(Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub(super) struct UnitFile {
    path: String,
    text: String,
}

/// Settings whose values are secrets as often as not. Every other line is left to the detection of known secrets.
const HIDDEN: &[&str] = &["Environment", "SetCredential", "SetCredentialEncrypted"];

/// The files in `text`; what stands before the first path belongs to none.
pub(super) fn read(text: &str) -> Vec<UnitFile> {
    let mut files: Vec<UnitFile> = Vec::new();
    let mut goes_on = false;
    let mut blank = true;
    for line in text.lines() {
        // `systemctl` writes `# /path` at the start and after an empty line, before each file. A comment like this inside
        // a file cuts it in two, which loses nothing.
        if let Some(path) = line.strip_prefix("# /").filter(|_| blank) {
            files.push(UnitFile { path: format!("/{path}"), text: String::new() });
            goes_on = false;
        } else if let Some(file) = files.last_mut() {
            // The rest of a hidden value that goes on over lines. Comments in between do not end it.
            let is_comment = line.trim_start().starts_with(['#', ';']);
            if goes_on {
                goes_on = is_comment || line.ends_with('\\');
            } else if let Some(name) = hidden(line) {
                goes_on = line.ends_with('\\');
                file.text.push_str(name);
                file.text.push_str("=‹hidden›\n");
            } else {
                file.text.push_str(line);
                file.text.push('\n');
            }
        }
        blank = line.is_empty();
    }
    for file in &mut files {
        file.text.truncate(file.text.trim_end().len());
    }
    files
}

/// What stands before `=` in a line that sets something hidden, also where it is commented out.
fn hidden(line: &str) -> Option<&str> {
    let (name, value) = line.split_once('=')?;
    let bare = name.trim_start_matches(['#', ';', ' ', '\t']).trim_end();
    (HIDDEN.contains(&bare) && !value.trim().is_empty()).then_some(name)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn files_are_told_apart_and_environments_hidden() {
        let text = "# /lib/systemd/system/web.service\n[Service]\nEnvironment=\"A=hunter2\" \\\n# a word\n  B=hunter2 \\\n  \
                    C=hunter2\nExecStart=/bin/web\n#Environment=D=hunter2\n Environment = E=hunter2\nEnvironment=\n\
                    \n# /etc/systemd/system/web.service.d/a.conf\n[Service]\nSetCredential=k:hunter2\nEnvironmentFile=/etc/web\n";
        let files = read(text);
        assert_eq!(files.len(), 2);
        assert_eq!(files[0].path, "/lib/systemd/system/web.service");
        assert_eq!(
            files[0].text,
            "[Service]\nEnvironment=‹hidden›\nExecStart=/bin/web\n#Environment=‹hidden›\n Environment =‹hidden›\nEnvironment="
        );
        assert_eq!(files[1].text, "[Service]\nSetCredential=‹hidden›\nEnvironmentFile=/etc/web");
        assert!(!format!("{files:?}").contains("hunter2"));
    }

    proptest! {
        #[test]
        fn an_environment_never_shows(before in "[a-zA-Z =#\\\\\n]{0,60}", tail in "[ -~]{0,20}") {
            let text = format!("# /x\n{before}\nEnvironment=SEEN{tail}\n");
            let shown = format!("{:?}", read(&text));
            prop_assert!(!shown.contains("=SEEN"), "{}", shown);
        }

        #[test]
        fn nothing_panics(text in "\\PC{0,200}") {
            let _ = read(&text);
        }
    }
}
