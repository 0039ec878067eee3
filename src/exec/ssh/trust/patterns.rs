//! Which hosts an authority speaks for: the patterns of OpenSSH's known_hosts. Compares names; resolves none.

/// The port that a pattern without one means.
pub(super) const PORT: u16 = 22;

/// Whether `patterns` cover the host: at least one that fits, and none that fits behind a `!`.
///
/// `*` stands for any characters and `?` for one; case makes no difference. A pattern names a host alone, whatever its
/// port, or `[host]:port`. The host is compared as the registry writes it.
pub fn host_matches(patterns: &[String], host: &str, port: u16) -> bool {
    let names = names(host, port);
    let fits = |pattern: &str| {
        let pattern = pattern.to_ascii_lowercase();
        names.iter().any(|name| is_like(pattern.as_bytes(), name.as_bytes()))
    };
    let mut covered = false;
    for pattern in patterns {
        match pattern.strip_prefix('!') {
            Some(excluded) if fits(excluded) => return false,
            Some(_) => {}
            None => covered |= fits(pattern),
        }
    }
    covered
}

/// What the host may be called: its name in lower case, and that with its port.
pub(super) fn names(host: &str, port: u16) -> Vec<String> {
    let host = host.to_ascii_lowercase();
    let host = host.strip_suffix('.').unwrap_or(&host);
    let with_port = format!("[{host}]:{port}");
    vec![host.to_owned(), with_port]
}

/// Whether `text` is as `pattern` says. The time it takes grows with the product of the lengths, whatever they hold.
fn is_like(pattern: &[u8], text: &[u8]) -> bool {
    let (mut at, mut seen) = (0, 0);
    // Where the last `*` stood, and how much of the text it stands for.
    let mut star: Option<(usize, usize)> = None;
    while let Some(byte) = text.get(seen) {
        match pattern.get(at) {
            Some(b'*') => {
                star = Some((at, seen));
                at += 1;
            }
            Some(wanted) if *wanted == b'?' || wanted == byte => {
                at += 1;
                seen += 1;
            }
            _ => match star {
                Some((stood, until)) => {
                    star = Some((stood, until + 1));
                    at = stood + 1;
                    seen = until + 1;
                }
                None => return false,
            },
        }
    }
    pattern.get(at..).is_some_and(|rest| rest.iter().all(|byte| *byte == b'*'))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn matches(patterns: &[&str], host: &str, port: u16) -> bool {
        let patterns: Vec<String> = patterns.iter().map(|pattern| (*pattern).to_owned()).collect();
        host_matches(&patterns, host, port)
    }

    #[test]
    fn nothing_is_covered_unless_a_pattern_says_so() {
        for patterns in [&[][..], &[""], &["!web-1"], &["!*"], &["web-2"], &["web"], &["web-1.example"], &["web-1 "]] {
            assert!(!matches(patterns, "web-1", 22), "{patterns:?}");
        }
    }

    #[test]
    fn patterns_are_those_of_openssh() {
        for (patterns, host, port) in [
            (&["web-1"][..], "web-1", 22),
            (&["web-1"], "web-1", 2222),
            (&["WEB-1"], "web-1.", 22),
            (&["web-?"], "Web-1", 22),
            (&["*.example.com"], "a.b.example.com", 22),
            (&["*"], "anything", 22),
            (&["[web-1]:2222"], "web-1", 2222),
            (&["!web-2", "web-*"], "web-1", 22),
            (&["10.0.*"], "10.0.3.4", 22),
        ] {
            assert!(matches(patterns, host, port), "{patterns:?} {host}:{port}");
        }
        for (patterns, host, port) in [
            (&["*.example.com"][..], "example.com", 22),
            (&["*.example.com"], "example.com.evil.org", 22),
            (&["web-?"], "web-", 22),
            (&["[web-1]:2222"], "web-1", 22),
            (&["[web-1]:2222"], "web-1", 2223),
            (&["web-*", "!web-1"], "web-1", 22),
            (&["!web-1", "web-*"], "WEB-1", 2222),
            (&["*", "![web-1]:2222"], "web-1", 2222),
        ] {
            assert!(!matches(patterns, host, port), "{patterns:?} {host}:{port}");
        }
    }

    #[test]
    fn a_pattern_made_to_take_long_does_not() {
        let pattern = "*a".repeat(200);
        let host = "a".repeat(2000) + "b";
        let started = std::time::Instant::now();
        assert!(!matches(&[&pattern], &host, 22));
        assert!(started.elapsed() < std::time::Duration::from_secs(5));
    }

    proptest! {
        #[test]
        fn a_name_fits_itself_and_what_is_excluded_never_fits(host in "[a-z0-9][a-z0-9.-]{0,20}[a-z0-9]", more in "[a-z*?.!-]{0,12}") {
            prop_assert!(matches(&[&host], &host, 22));
            let excluded = format!("!{host}");
            prop_assert!(!matches(&["*", &more, &excluded], &host, 22));
        }

        #[test]
        fn without_wildcards_only_equals_fit(pattern in "[a-c.]{1,4}", host in "[a-c]{1,4}") {
            prop_assert_eq!(matches(&[&pattern], &host, 22), pattern == host);
        }
    }
}
