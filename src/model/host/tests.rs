//! Spellings of the machine's own address and of the metadata service, as attackers write them.

use proptest::prelude::*;

use super::*;
use crate::model::AddressRules;

/// Each leads to 127.0.0.1, ::1 or 169.254.169.254 by some parser, resolver or proxy.
const SPELLINGS: &[&str] = &[
    "127.0.0.1",
    "127.1",
    "127.0.1",
    "127.000.000.001",
    "0127.0.0.1",
    "0177.0.0.1",
    "0177.0.0.01",
    "017700000001",
    "2130706433",
    "02130706433",
    "0x7f000001",
    "0x7f.1",
    "0x7f.0.0.1",
    "0X7F000001",
    "0x7f.0x0.0x0.0x1",
    "127.0x1",
    "0",
    "0x0",
    "0.0.0.0",
    "127.0.0.1.",
    "127.0.0.1 ",
    " 127.0.0.1",
    "127.0.0.1\0.example.org",
    "127.0.0.1\t",
    "127.0.0.1\n",
    "127。0。0。1",
    "１２７.0.0.1",
    "①②⑦.⓪.⓪.①",
    "१२७.०.०.१",
    "%31%32%37.0.0.1",
    "127%2e0%2e0%2e1",
    "::1",
    "[::1]",
    "[0:0:0:0:0:0:0:1]",
    "0000:0000:0000:0000:0000:0000:0000:0001",
    "::1%lo",
    "[::1%25lo]",
    "fe80::1%eth0",
    "[::ffff:127.0.0.1]",
    "::ffff:7f00:1",
    "[::127.0.0.1]",
    "64:ff9b::7f00:1",
    "2002:7f00:1::",
    "[::]",
    "localhost",
    "LOCALHOST",
    "LocalHost",
    "localhost.",
    "a.localhost",
    "b.a.LOCALHOST",
    "ｌocalhost",
    "ⓛⓞⓒⓐⓛⓗⓞⓢⓣ",
    "user@127.0.0.1",
    "example.org@127.0.0.1",
    "127.0.0.1:80",
    "[::1]:80",
    "169.254.169.254",
    "169.254.43518",
    "2852039166",
    "0xa9fea9fe",
    "0251.0376.0251.0376",
    "[::ffff:a9fe:a9fe]",
    "fd00:ec2::254",
    "127.0.0.1/",
    "127.0.0.1#",
    "127.0.0.1\\",
    "exa\u{ad}mple.org",
    "example.org,127.0.0.1",
    "*.example.org",
    "",
    ".",
    "..",
    "[",
    "[]",
    "[127.0.0.1]",
];

#[test]
fn no_spelling_of_a_refused_address_gets_through() {
    assert!(SPELLINGS.len() >= 40);
    for text in SPELLINGS {
        match text.parse::<Host>() {
            Err(fault) => assert!(fault.to_string().starts_with("must "), "{text:?}: {fault}"),
            Ok(Host::Address(ip)) => assert!(AddressRules::default().check(ip).is_err(), "{text:?} passes as {ip}"),
            Ok(Host::Name(name)) => panic!("{text:?} passes as the name {name:?}"),
        }
    }
}

#[test]
fn names_and_addresses_are_taken_in_one_spelling() {
    for (text, shown) in [
        ("example.org", "example.org"),
        ("Example.ORG", "example.org"),
        ("web", "web"),
        ("xn--bcher-kva.example", "xn--bcher-kva.example"),
        ("1.2.3.4.example", "1.2.3.4.example"),
        ("8.8.8.8", "8.8.8.8"),
        ("2001:4860:4860:0:0:0:0:8888", "[2001:4860:4860::8888]"),
        ("[2001:4860:4860::8888]", "[2001:4860:4860::8888]"),
        ("localhost.example", "localhost.example"),
        ("0xcafe.example", "0xcafe.example"),
    ] {
        assert_eq!(text.parse::<Host>().unwrap().to_string(), shown, "{text}");
    }
    for bad in ["-a.example", "a-.example", "a..example", "a_b.example", "a b.example", &"a".repeat(64), "a.example."] {
        assert!(bad.parse::<Host>().is_err(), "{bad:?}");
    }
}

proptest! {
    #[test]
    fn what_is_taken_is_taken_again_as_the_same(text in "\\PC{0,40}|[0-9a-fx.:\\[\\]]{0,40}|([0-9a-z-]{1,5}\\.){0,4}[0-9a-z]{1,5}") {
        if let Ok(host) = text.parse::<Host>() {
            prop_assert_eq!(host.to_string().parse::<Host>(), Ok(host));
        }
    }
}
