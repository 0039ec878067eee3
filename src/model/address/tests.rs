//! Every kind of special address, at both ends of its range, and what lies just outside.

use proptest::prelude::*;

use super::*;

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn everything() -> AddressRules {
    AddressRules::new(LOCAL.iter().map(|(network, _)| *network))
}

#[test]
fn what_nothing_allows_is_refused_even_where_every_local_network_is_allowed() {
    for text in [
        "0.0.0.0",
        "0.1.2.3",
        "100.100.100.100",
        "100.100.100.200",
        "168.63.129.16",
        "169.254.0.0",
        "169.254.169.254",
        "169.254.255.255",
        "192.0.0.1",
        "192.0.0.192",
        "192.0.2.1",
        "192.88.99.1",
        "198.18.0.1",
        "198.19.255.255",
        "198.51.100.7",
        "203.0.113.255",
        "224.0.0.1",
        "239.255.255.255",
        "240.0.0.1",
        "255.255.255.255",
        "::",
        "::2",
        "::127.0.0.1",
        "::8.8.8.8",
        "::ffff:127.0.0.1",
        "::ffff:8.8.8.8",
        "64:ff9b::127.0.0.1",
        "64:ff9b::10.0.0.1",
        "64:ff9b::169.254.169.254",
        "64:ff9b:1::8.8.8.8",
        "100::1",
        "2001::1",
        "2001:0:4136:e378:8000:63bf:3fff:fdd2",
        "2001:2::1",
        "2001:1ff:ffff::1",
        "2001:db8::1",
        "2002:7f00:1::1",
        "2002:808:808::1",
        "3fff::1",
        "5f00::1",
        "fd00:ec2::254",
        "fd00:ec2::23",
        "fd20:ce::254",
        "fd7a:115c:a1e0::53",
        "fe80::1",
        "fe80::a9fe:a9fe",
        "febf::1",
        "fec0::1",
        "ff02::1",
        "1::1",
        "4000::1",
        "8000::1",
        "e000::1",
    ] {
        let refused = everything().check(ip(text)).expect_err(text);
        assert!(!refused.configurable, "{text}");
    }
}

#[test]
fn local_addresses_are_refused_until_their_network_is_allowed() {
    for (text, network) in [
        ("127.0.0.1", "127.0.0.0/8"),
        ("127.255.255.254", "127.0.0.0/8"),
        ("::1", "::1/128"),
        ("10.0.0.0", "10.0.0.0/8"),
        ("10.255.255.255", "10.0.0.0/8"),
        ("172.16.0.1", "172.16.0.0/16"),
        ("172.31.255.255", "172.16.0.0/12"),
        ("192.168.255.1", "192.168.0.0/16"),
        ("100.64.0.1", "100.64.0.0/10"),
        ("100.127.255.255", "100.64.0.0/10"),
        ("fc00::1", "fc00::/7"),
        ("fd7a:115c:a1e0::1", "fd7a:115c:a1e0::/48"),
    ] {
        assert!(AddressRules::default().check(ip(text)).unwrap_err().configurable, "{text}");
        let network: Network = network.parse().unwrap();
        assert_eq!(AddressRules::unfit(&network), None, "{network}");
        AddressRules::new([network]).check(ip(text)).unwrap_or_else(|_| panic!("{text}"));
        let other: Network = if network.contains(ip("10.0.0.1")) { "::1/128" } else { "10.0.0.0/8" }.parse().unwrap();
        assert!(AddressRules::new([other]).check(ip(text)).is_err(), "{text}");
    }
}

#[test]
fn public_addresses_pass_right_up_to_the_special_ones() {
    for text in [
        "1.0.0.0",
        "8.8.8.8",
        "9.255.255.255",
        "11.0.0.0",
        "100.63.255.255",
        "100.128.0.0",
        "126.255.255.255",
        "128.0.0.0",
        "168.63.129.15",
        "169.253.255.255",
        "169.255.0.0",
        "172.15.255.255",
        "172.32.0.0",
        "192.0.1.0",
        "192.167.255.255",
        "192.169.0.0",
        "198.17.255.255",
        "198.20.0.0",
        "223.255.255.255",
        "2001:200::1",
        "2001:4860:4860::8888",
        "2001:db7::1",
        "2001:db9::1",
        "2003::1",
        "2606:4700::1111",
        "3ffe::1",
        "64:ff9b::8.8.8.8",
    ] {
        assert_eq!(AddressRules::default().check(ip(text)), Ok(()), "{text}");
    }
}

#[test]
fn a_list_takes_only_networks_that_are_local_as_a_whole() {
    for (text, what) in [
        ("0.0.0.0/0", "not within"),
        ("::/0", "not within"),
        ("8.8.8.0/24", "not within"),
        ("10.0.0.0/7", "not within"),
        ("172.0.0.0/11", "not within"),
        ("100.0.0.0/9", "not within"),
        ("126.0.0.0/7", "not within"),
        ("169.254.169.254/32", "link-local"),
        ("169.254.0.0/16", "link-local"),
        ("100.100.100.200/32", "metadata"),
        ("fd00:ec2::254/128", "metadata"),
        ("fe80::/10", "link-local"),
        ("::ffff:127.0.0.1/128", "clothing"),
        ("224.0.0.0/4", "multicast"),
    ] {
        let network: Network = text.parse().unwrap();
        assert!(AddressRules::unfit(&network).is_some_and(|found| found.contains(what)), "{text}");
    }
    for text in
        ["10.0.0.1", "10.0.0.1/8", "10/8", "10.0.0.0/33", "10.0.0.0/-1", "10.0.0.0/+8", "::1/129", "fe80::%1/64"]
    {
        assert_eq!(text.parse::<Network>(), Err(NotANetwork), "{text}");
    }
    for text in ["10.0.0.0/8", "0.0.0.0/0", "::/0", "::1/128", "127.0.0.1/32"] {
        assert_eq!(text.parse::<Network>().unwrap().to_string(), text);
    }
}

proptest! {
    #[test]
    fn no_form_that_carries_an_ipv4_address_gets_further_than_the_address_itself(bits: u32) {
        let (inner, wide) = (Ipv4Addr::from_bits(bits), u128::from(bits));
        let public = AddressRules::default().check(inner.into()).is_ok();
        let forms = [
            inner.to_ipv6_compatible(),
            inner.to_ipv6_mapped(),
            Ipv6Addr::from_bits((0x0064_ff9b << 96) | wide),
            Ipv6Addr::from_bits((0x2002 << 112) | (wide << 80)),
            Ipv6Addr::from_bits((0x2001_0000 << 96) | (!wide & 0xffff_ffff)),
        ];
        for form in forms {
            let passes = everything().check(form.into()).is_ok();
            prop_assert!(!passes || public || form == Ipv6Addr::LOCALHOST, "{form}");
        }
    }

    #[test]
    fn the_standard_library_finds_nothing_special_in_what_passes(bits: u128) {
        let (four, six) = (Ipv4Addr::from_bits(bits as u32), Ipv6Addr::from_bits(bits));
        if AddressRules::default().check(four.into()).is_ok() {
            prop_assert!(!(four.is_private() || four.is_loopback() || four.is_link_local() || four.is_broadcast()));
            prop_assert!(!(four.is_documentation() || four.is_multicast() || four.is_unspecified()));
        }
        if AddressRules::default().check(six.into()).is_ok() {
            prop_assert!(!(six.is_loopback() || six.is_unspecified() || six.is_multicast()));
            prop_assert!(!(six.is_unique_local() || six.is_unicast_link_local()));
        }
    }
}
