//! `[probe]`: what probes may reach besides public addresses, and which URLs `http_probe` may call. Refuses whatever
//! would open more than it says.

use std::sync::Arc;

use super::{
    Engagement,
    fleet::{ID, is_id, owner},
    section::{Section, Value},
    settings::add_new,
};
use crate::model::{AddressRules, EngagementId, Host, HttpUrl, Network, ProbeRules, UrlRule};

/// The section.
pub(super) fn probe(root: &mut Section<'_>, engagements: &[Engagement]) -> ProbeRules {
    let mut section = root.section("probe");
    let mut networks = Vec::new();
    for item in section.value("networks").and_then(|value| value.items("networks")).unwrap_or_default() {
        if let Some(network) = network(&item) {
            add_new(&mut networks, network, &item);
        }
    }
    let addresses = Arc::new(AddressRules::new(networks));
    let mut urls: Vec<UrlRule> = Vec::new();
    for (name, entry) in section.named("urls") {
        if let Some((rule, value)) = url(name, entry, &addresses, engagements) {
            if urls.iter().any(|other| other.url == rule.url) {
                value.refuse("is there already");
            } else {
                urls.push(rule);
            }
        }
    }
    section.finish();
    ProbeRules { addresses, urls }
}

fn network(value: &Value<'_>) -> Option<Network> {
    let text = value.text("a network such as 10.1.0.0/16")?;
    match text.parse::<Network>().map(|network| (network, AddressRules::unfit(&network))) {
        Ok((network, None)) => return Some(network),
        Ok((_, Some(what))) => value.refuse(format_args!(
            "{text:?} is {what}; the list takes networks within 10.0.0.0/8, 172.16.0.0/12, 192.168.0.0/16, 100.64.0.0/10, 127.0.0.0/8, ::1/128 and fc00::/7"
        )),
        Err(error) => value.refuse(format_args!("{text:?} {error}")),
    }
    None
}

fn url<'a>(
    name: &str,
    mut section: Section<'a>,
    addresses: &AddressRules,
    engagements: &[Engagement],
) -> Option<(UrlRule, Value<'a>)> {
    if !is_id(name) {
        section.refuse_name(format_args!("{name:?} is no name for a URL: {ID}"));
    }
    let value = section.required("url", "\"https://www.example.org/health\"");
    let choices = [("required", false), ("waived", true)];
    let waived = section.value("approval").and_then(|value| value.choice(&choices)).unwrap_or(false);
    let engagements = section.value("engagements").map(|value| owners(&value, engagements));
    section.finish();
    let value = value?;
    let text = value.text("a URL such as https://www.example.org/health")?;
    let url: HttpUrl = match text.parse() {
        Ok(url) => url,
        Err(fault) => {
            value.refuse(format_args!("{text:?} is not acceptable: it {}", strip_subject(&format!("{fault}"))));
            return None;
        }
    };
    if let Host::Address(ip) = url.host
        && let Err(refused) = addresses.check(ip)
    {
        let how = if refused.configurable { "; add its network to probe.networks" } else { ", which nothing allows" };
        value.refuse(format_args!("{ip} is {}{how}", refused.what));
        return None;
    }
    Some((UrlRule { url, waived, engagements }, value))
}

fn owners(value: &Value<'_>, engagements: &[Engagement]) -> Vec<EngagementId> {
    let ids: Vec<_> = engagements.iter().map(|engagement| engagement.id.clone()).collect();
    let mut owners = Vec::new();
    for item in value.items("names of engagements").unwrap_or_default() {
        if let Some(engagement) = owner(&item, &ids) {
            add_new(&mut owners, engagement, &item);
        }
    }
    owners
}

/// `the host must …` reads on as `it has a host that must …`.
fn strip_subject(fault: &str) -> String {
    fault.strip_prefix("the host ").map_or_else(|| fault.to_owned(), |rest| format!("has a host that {rest}"))
}

/// What `serve --dev` uses: this machine, which its user can reach anyway, and the service's own health.
pub(super) fn development() -> ProbeRules {
    let networks = ["127.0.0.0/8", "::1/128"].into_iter().filter_map(|text| text.parse().ok());
    let url = "http://127.0.0.1:8080/healthz".parse().ok();
    ProbeRules {
        addresses: Arc::new(AddressRules::new(networks)),
        urls: url.into_iter().map(|url| UrlRule { url, waived: false, engagements: None }).collect(),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::load;

    fn problem(text: &str) -> String {
        let problems = load(Path::new("t"), text, &[]).expect_err(text);
        assert_eq!(problems.count(), 1, "{problems}");
        problems.to_string()
    }

    #[test]
    fn nothing_can_allow_metadata_services_or_the_whole_internet() {
        for (network, what) in [
            ("169.254.169.254/32", "link-local"),
            ("169.254.0.0/16", "link-local"),
            ("fe80::/10", "link-local"),
            ("fd00:ec2::254/128", "metadata"),
            ("0.0.0.0/0", "not within"),
            ("::/0", "not within"),
            ("8.8.8.8/32", "not within"),
            ("10.0.0.1/8", "zeros behind the prefix"),
            ("10.0.0.0", "length of its prefix"),
            ("::ffff:10.0.0.0/104", "clothing"),
        ] {
            let refused = problem(&format!("probe.networks = [\"127.0.0.1/32\", \"{network}\"]"));
            assert!(refused.contains("probe.networks[1]: ") && refused.contains(what), "{refused}");
        }
        assert!(problem("probe.networks = \"10.0.0.0/8\"").contains("must be an array of networks"));
        assert!(problem("probe.networks = [\"::1/128\", \"::1/128\"]").contains("is there already"));
    }

    #[test]
    fn an_entry_that_covers_other_than_it_seems_is_refused() {
        for (url, what) in [
            ("https://*.example.org/", "letters, digits"),
            ("https://example.org/*/../x", "dot segments"),
            ("https://user@example.org/", "user"),
            ("https://localhost/", "has a host that must not be localhost"),
            ("https://example.org./", "dot at its end"),
            ("example.org", "begin with http"),
            ("ftp://example.org/", "begin with http"),
            ("http://127.0.0.1/", "add its network to probe.networks"),
            ("http://169.254.169.254/latest/", "which nothing allows"),
            ("http://0x7f.1/", "number"),
        ] {
            let refused = problem(&format!("[probe.urls.x]\nurl = \"{url}\""));
            assert!(refused.contains("probe.urls.x.url: ") && refused.contains(what), "{refused}");
        }
        assert!(problem("[probe.urls.x]").contains("probe.urls.x.url: missing"));
        assert!(problem("[probe.urls.x]\nurl = \"http://a.example/\"\napproval = \"no\"").contains("waived"));
        assert!(problem("[probe.urls.\"X Y\"]\nurl = \"http://a.example/\"").contains("no name for a URL"));
        let twice = "[probe.urls.x]\nurl = \"http://a.example\"\n[probe.urls.y]\nurl = \"HTTP://A.example:80/\"";
        assert!(problem(twice).contains("probe.urls.y.url: is there already"));
    }

    #[test]
    fn approval_is_required_unless_an_entry_waives_it() {
        let text = "probe.networks = [\"10.1.0.0/16\"]\n[probe.urls.a]\nurl = \"https://a.example/\"\n[probe.urls.b]\nurl = \"https://a.example/up\"\napproval = \"waived\"\n[probe.urls.c]\nurl = \"http://10.1.2.3:9090/-/healthy\"\napproval = \"required\"\n[probe.urls.d]\nurl = \"https://b.example/\"\nengagements = [\"theirs\"]\n[engagements.theirs]";
        let rules = load(Path::new("t"), text, &[]).unwrap().probe;
        for (url, waived) in [
            ("https://a.example/up", Some(true)),
            ("https://a.example/up/x", Some(true)),
            ("https://a.example/down", Some(false)),
            ("http://10.1.2.3:9090/-/healthy", Some(false)),
            ("http://10.1.2.3/-/healthy", None),
            ("http://a.example/up", None),
            ("https://b.example/", None),
        ] {
            assert_eq!(rules.rule_for(&"ours".into(), &url.parse().unwrap()).map(|rule| rule.waived), waived, "{url}");
        }
        assert!(rules.rule_for(&"theirs".into(), &"https://b.example/".parse().unwrap()).is_some());
        let nobody = problem("[probe.urls.x]\nurl = \"http://a.example/\"\nengagements = [\"nobody\"]");
        assert!(nobody.contains("probe.urls.x.engagements[0]: there is no engagement"), "{nobody}");
        assert_eq!(load(Path::new("t"), "", &[]).unwrap().probe, Default::default());
    }

    #[test]
    fn the_example_of_the_page_loads() {
        let page = include_str!("../../docs/probes.md");
        let (_, block) = page.split_once("```toml\n").unwrap();
        let (example, _) = block.split_once("```").unwrap();
        let rules = load(Path::new("t"), example, &[]).unwrap().probe;
        let rule = |url: &str| rules.rule_for(&"default".into(), &url.parse().unwrap()).map(|rule| rule.waived);
        assert_eq!(rule("https://shop.example.org/health/db"), Some(true));
        assert_eq!(rule("http://10.1.2.3:9090/-/healthy"), Some(false));
        assert_eq!(rule("https://shop.example.org/healthy"), None);
    }
}
