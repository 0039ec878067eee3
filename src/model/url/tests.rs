//! URLs that deceive, and what an entry of the list covers.

use proptest::prelude::*;

use super::*;

fn url(text: &str) -> HttpUrl {
    text.parse().unwrap_or_else(|fault| panic!("{text}: {fault}"))
}

#[test]
fn what_can_be_read_in_two_ways_is_refused() {
    for text in [
        "",
        "example.org",
        "//example.org/",
        "ftp://example.org/",
        "file:///etc/passwd",
        "gopher://example.org/",
        "http:/example.org/",
        "http:///example.org/",
        "http:\\\\example.org\\",
        "https://",
        "https:///",
        "https://:443/",
        "https://@example.org/",
        "https://user@example.org/",
        "https://user:password@example.org/",
        "https://example.org@127.0.0.1/",
        "https://example.org:80@127.0.0.1/",
        "https://example.org\\@127.0.0.1/",
        "https://example.org#@127.0.0.1/",
        "https://example.org/#fragment",
        "https://example.org:0/",
        "https://example.org:/",
        "https://example.org:65536/",
        "https://example.org:+80/",
        "https://example.org:0443/",
        "https://example.org:80:80/",
        "https://example.org:80-90/",
        "https://::1/",
        "https://[::1/",
        "https://[::1]x/",
        "https://[::1]:/",
        "https://[fe80::1%25eth0]/",
        "https://example.org./",
        "https://ex%61mple.org/",
        "https://exämple.org/",
        "https://ｅxample.org/",
        "https://2130706433/",
        "https://0x7f.1/",
        "https://localhost/",
        "https://example.org/a b",
        "https://example.org/a\tb",
        "https://example.org/a\r\nHost: x",
        "https://example.org/\0",
        "https://example.org/./a",
        "https://example.org/a/..",
        "https://example.org/a/../b",
        "https://example.org//a",
        "https://example.org/a//",
        "https://example.org/%2e%2e/b",
        "https://example.org/a%2Fb",
        "https://example.org/a%5cb",
        "https://example.org/a%252fb",
        "https://example.org/a%00",
        "https://example.org/a%0d%0ab",
        "https://example.org/a%",
        "https://example.org/a%zz",
        "https://example.org/..;/b",
        "https://example.org/{a,b}",
        "https://example.org/\"",
        " https://example.org/",
        "https://example.org/ ",
    ] {
        assert!(text.parse::<HttpUrl>().is_err(), "{text:?}");
    }
    assert!(format!("https://example.org/{}", "a".repeat(LONGEST)).parse::<HttpUrl>().is_err());
}

#[test]
fn one_url_has_one_form() {
    for (text, shown) in [
        ("http://example.org", "http://example.org/"),
        ("HTTP://EXAMPLE.org:80/A", "http://example.org/A"),
        ("https://example.org:443/", "https://example.org/"),
        ("https://example.org:80/", "https://example.org:80/"),
        ("http://[2001:4860:4860:0::8888]:8080/a?b=c", "http://[2001:4860:4860::8888]:8080/a?b=c"),
        ("http://8.8.8.8?x", "http://8.8.8.8/?x"),
        ("https://example.org/a%20b/", "https://example.org/a%20b/"),
    ] {
        assert_eq!(url(text).to_string(), shown);
    }
}

#[test]
fn an_entry_covers_its_own_host_and_what_is_below_its_path() {
    let covers =
        |entry: &str, other: &str| UrlRule { url: url(entry), waived: false, engagements: None }.covers(&url(other));
    for (entry, other) in [
        ("https://a.example", "https://A.example/"),
        ("https://a.example", "https://a.example/any/thing"),
        ("https://a.example/health", "https://a.example/health"),
        ("https://a.example/health", "https://a.example/health/deep"),
        ("https://a.example/health/", "https://a.example/health/deep"),
        ("https://a.example:443/", "https://a.example/x"),
        ("https://a.example/x?ready=1", "https://a.example/x?ready=1"),
    ] {
        assert!(covers(entry, other), "{entry} {other}");
    }
    for (entry, other) in [
        ("https://a.example/", "http://a.example/"),
        ("https://a.example/", "https://a.example:8443/"),
        ("https://a.example/", "https://b.a.example/"),
        ("https://a.example/", "https://a.example.evil/"),
        ("https://a.example/", "https://8.8.8.8/"),
        ("https://a.example/health", "https://a.example/healthy"),
        ("https://a.example/health/", "https://a.example/health"),
        ("https://a.example/health", "https://a.example/"),
        ("https://a.example/health", "https://a.example/Health"),
        ("https://a.example/", "https://a.example/?q"),
        ("https://a.example/x?ready=1", "https://a.example/x"),
        ("https://a.example/x?ready=1", "https://a.example/x?ready=2"),
        ("https://a.example/x?ready=1", "https://a.example/x/y?ready=1"),
    ] {
        assert!(!covers(entry, other), "{entry} {other}");
    }
}

proptest! {
    #[test]
    fn what_is_taken_is_taken_again_as_the_same(text in "(http|https)://([a-z0-9.:\\[\\]@-]{0,20})(/[ -~]{0,20})?") {
        if let Ok(url) = text.parse::<HttpUrl>() {
            prop_assert_eq!(url.to_string().parse::<HttpUrl>(), Ok(url));
        }
    }
}
