//! `[[approvals.webhooks]]` and `[[approvals.notify]]`: who is told of questions over HTTP, and which of them may answer.
//! Reads no secret and resolves no name: what a name of the tailnet stands for is looked at where it is called.

use std::path::{Path, PathBuf};

use super::{Notify, NotifyForm, Webhook};
use crate::{
    config::{
        clear::may_be_private,
        fleet::{ID, is_id},
        section::{Section, Value},
        settings::plain_file,
    },
    model::{Host, HttpUrl},
};

/// The most of each kind.
const MOST: usize = 16;
/// The longest login, in bytes.
const LONGEST: usize = 320;

/// `[[approvals.webhooks]]`. One that is not whole is reported and left out.
pub(super) fn webhooks(section: &mut Section<'_>) -> Vec<Webhook> {
    let mut webhooks: Vec<Webhook> = Vec::new();
    for item in items(section, "webhooks") {
        let mut section = item.section();
        let known = |name: &str| webhooks.iter().any(|known| known.name == name);
        let name = section.required("name", "\"duty\"").and_then(|value| name(&value, known));
        let url = section.required("url", "\"https://duty.example.org/tailops\"").and_then(|value| url(&value));
        let shared = |file: &Path| webhooks.iter().any(|known| known.secret_file == file);
        let secret_file = section.required("secret_file", "\"/etc/tailops/duty.secret\"").and_then(|value| {
            let file = file(&value, "\"/etc/tailops/duty.secret\"")?;
            if shared(&file) {
                value.refuse("must be a file of its own: whoever knows the secret speaks as this webhook");
                return None;
            }
            Some(file)
        });
        let identity = section.required("identity", "\"maria@example.org\"").and_then(|value| login(&value));
        section.finish();
        if let (Some(name), Some(url), Some(secret_file), Some(identity)) = (name, url, secret_file, identity) {
            webhooks.push(Webhook { name, url, secret_file, identity });
        }
    }
    webhooks
}

/// `[[approvals.notify]]`. One that is not whole is reported and left out.
pub(super) fn notify(section: &mut Section<'_>) -> Vec<Notify> {
    let mut told: Vec<Notify> = Vec::new();
    for item in items(section, "notify") {
        let mut section = item.section();
        let known = |name: &str| told.iter().any(|known| known.name == name);
        let name = section.required("name", "\"phones\"").and_then(|value| name(&value, known));
        let url = section.required("url", "\"https://ntfy.example.org/tailops\"").and_then(|value| url(&value));
        let forms = [("json", NotifyForm::Json), ("ntfy", NotifyForm::Ntfy)];
        let form = section.required("form", "\"ntfy\"").and_then(|value| value.choice(&forms));
        let token_file = section.value("token_file").map(|value| file(&value, "\"/etc/tailops/ntfy.token\""));
        section.finish();
        // A token that cannot be named must not become none.
        if let (Some(name), Some(url), Some(form), None | Some(Some(_))) = (name, url, form, &token_file) {
            told.push(Notify { name, url, form, token_file: token_file.flatten() });
        }
    }
    told
}

fn items<'a>(section: &mut Section<'a>, key: &'static str) -> Vec<Value<'a>> {
    let Some(value) = section.value(key) else { return Vec::new() };
    let items = value.items("tables").unwrap_or_default();
    if items.len() > MOST {
        value.refuse(format_args!("must be at most {MOST}, not {}", items.len()));
    }
    items
}

fn name(value: &Value<'_>, known: impl Fn(&str) -> bool) -> Option<String> {
    let name = value.text("a name")?;
    if !is_id(name) {
        value.refuse(format_args!("{name:?} is no name here: {ID}"));
        return None;
    }
    if known(name) {
        value.refuse(format_args!("{name:?} is there already"));
        return None;
    }
    Some(name.to_owned())
}

/// A URL that is called: with TLS, or where nobody reads along.
fn url(value: &Value<'_>) -> Option<String> {
    let text = value.text("a URL such as https://duty.example.org/tailops")?;
    let url: HttpUrl = match text.parse() {
        Ok(url) => url,
        Err(fault) => {
            // What stands there may be a secret address: it is not repeated.
            value.refuse(format_args!("is no acceptable URL: {fault}"));
            return None;
        }
    };
    if !url.https && !is_private_way(&url.host) {
        value.refuse(
            "must be https: plain http is only for loopback (127.0.0.1, [::1]) and for addresses and names of the tailnet \
             (100.64.0.0/10, fd7a:115c:a1e0::/48, *.ts.net, names without a dot)",
        );
        return None;
    }
    Some(url.to_string())
}

/// Whether plain HTTP to `host` can stay on this machine or inside WireGuard. A name promises only that it looks so.
fn is_private_way(host: &Host) -> bool {
    match host {
        Host::Address(ip) => may_be_private(*ip),
        Host::Name(name) => name.ends_with(".ts.net") || !name.contains('.'),
    }
}

fn file(value: &Value<'_>, example: &str) -> Option<PathBuf> {
    let text = value.text("an absolute path")?;
    let path = plain_file(text);
    if path.is_none() {
        value.refuse(format_args!("{text:?} must be an absolute path in plain form, such as {example}"));
    }
    path
}

fn login(value: &Value<'_>) -> Option<String> {
    let text = value.text("the login of a person such as maria@example.org")?;
    let odd = |c: char| c.is_whitespace() || c.is_control();
    if text.is_empty() || text.len() > LONGEST || text.chars().any(odd) || text.starts_with("tag:") {
        value.refuse(format_args!(
            "must be the login of a person, such as maria@example.org: at most {LONGEST} bytes without spaces, and no tag"
        ));
        return None;
    }
    Some(text.to_owned())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use crate::config::{NotifyForm, load};

    const WEBHOOK: &str = "[[approvals.webhooks]]\nname = \"duty\"\nurl = \"https://duty.example.org/tailops\"\nsecret_file = \"/etc/tailops/duty.secret\"\nidentity = \"maria@example.org\"\n";
    const NOTIFY: &str =
        "[[approvals.notify]]\nname = \"phones\"\nurl = \"https://ntfy.example.org/t\"\nform = \"ntfy\"\n";

    fn problem(text: &str) -> String {
        let problems = load(Path::new("t"), text, &[]).expect_err(text);
        assert_eq!(problems.count(), 1, "{problems}");
        problems.to_string()
    }

    #[test]
    fn what_is_whole_is_read() {
        let config = load(Path::new("t"), &format!("{WEBHOOK}{NOTIFY}token_file = \"/etc/t/k\"\n"), &[]).unwrap();
        let ([webhook], [notify]) = (&config.approvals.webhooks[..], &config.approvals.notify[..]) else {
            panic!("{:?}", config.approvals)
        };
        assert_eq!((webhook.name.as_str(), webhook.identity.as_str()), ("duty", "maria@example.org"));
        assert_eq!((webhook.url.as_str(), notify.form), ("https://duty.example.org/tailops", NotifyForm::Ntfy));
        assert_eq!(notify.token_file.as_deref(), Some(Path::new("/etc/t/k")));
    }

    #[test]
    fn every_key_is_checked_and_named() {
        for key in ["name", "url", "secret_file", "identity"] {
            let text: String = WEBHOOK
                .lines()
                .filter(|line| !line.starts_with(key))
                .fold(String::new(), |text, line| text + line + "\n");
            let refused = problem(&text);
            assert!(refused.contains(&format!("approvals.webhooks[0].{key}: missing, such as {key} = ")), "{refused}");
        }
        for (from, to, wanted) in [
            ("\"duty\"", "\"du ty\"", "name: \"du ty\" is no name here"),
            ("/etc/tailops/duty.secret", "duty.secret", "secret_file: \"duty.secret\" must be an absolute path"),
            ("/etc/tailops/duty.secret", "/etc/../x", "secret_file: \"/etc/../x\" must be an absolute path"),
            ("maria@example.org", "", "identity: must be the login"),
            ("maria@example.org", "tag:agents", "identity: must be the login"),
            ("maria@example.org", "ma ria", "identity: must be the login"),
            ("identity =", "timeout = 1\nidentity =", "timeout: unknown key; the keys here are"),
        ] {
            let refused = problem(&WEBHOOK.replace(from, to));
            assert!(refused.contains(&format!("approvals.webhooks[0].{wanted}")), "{refused}");
        }
        for (from, to, wanted) in [
            ("form = \"ntfy\"\n", "", "form: missing, such as form = \"ntfy\""),
            ("\"ntfy\"", "\"mail\"", "form: must be one of \"json\", \"ntfy\", not \"mail\""),
            ("form", "token_file = \"k\"\nform", "token_file: \"k\" must be an absolute path"),
        ] {
            let refused = problem(&NOTIFY.replacen(from, to, 1));
            assert!(refused.contains(&format!("approvals.notify[0].{wanted}")), "{refused}");
        }
        assert!(problem("approvals.webhooks = \"x\"\n").contains("approvals.webhooks: must be an array of tables"));
    }

    #[test]
    fn a_name_and_a_secret_belong_to_one() {
        let twice = problem(&format!("{NOTIFY}{NOTIFY}"));
        assert!(twice.contains("approvals.notify[1].name: \"phones\" is there already"), "{twice}");
        let shared = problem(&format!("{WEBHOOK}{}", WEBHOOK.replace("\"duty\"", "\"night\"")));
        assert!(shared.contains("approvals.webhooks[1].secret_file: must be a file of its own"), "{shared}");
        let many: String = (0..17).map(|n| NOTIFY.replace("phones", &format!("n{n}"))).collect();
        assert!(problem(&many).contains("approvals.notify: must be at most 16, not 17"));
    }

    #[test]
    fn plain_http_goes_only_where_nobody_reads_along() {
        for url in [
            "http://127.0.0.1:8123/x",
            "http://[::1]/x",
            "http://100.101.102.103/x",
            "http://[fd7a:115c:a1e0::53]/x",
            "http://duty.tail1234.ts.net/x",
            "http://duty/x",
            "https://10.0.0.1/x",
        ] {
            let text = WEBHOOK.replace("https://duty.example.org/tailops", url);
            load(Path::new("t"), &text, &[]).unwrap_or_else(|problems| panic!("{url}: {problems}"));
        }
        for url in [
            "http://duty.example.org/x",
            "http://10.0.0.1/x",
            "http://192.168.1.1/x",
            "http://100.63.0.1/x",
            "http://100.128.0.1/x",
            "http://[fd7a:115c:a1e1::1]/x",
            "http://evil-ts.net/x",
            "http://duty.ts.net.evil.example/x",
        ] {
            let refused = problem(&WEBHOOK.replace("https://duty.example.org/tailops", url));
            assert!(refused.contains("approvals.webhooks[0].url: must be https: plain http is only for"), "{refused}");
        }
        for url in ["ftp://x/", "https://u:hunter2@x/", "x", "https://x/#hunter2"] {
            let refused = problem(&WEBHOOK.replace("https://duty.example.org/tailops", url));
            assert!(refused.contains("url: is no acceptable URL: ") && !refused.contains("hunter2"), "{refused}");
        }
    }
}
