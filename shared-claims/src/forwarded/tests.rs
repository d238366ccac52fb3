use super::*;
use crate::address::parse_networks;

const PROXY: &str = "10.0.0.1";

fn read(header: ForwardedHeader, peer: &str, values: &[&str]) -> (String, bool) {
    let trusted = parse_networks(&["10.0.0.0/8", "2001:db8:ffff::/48"]).expect("networks");
    let peer = peer.parse().expect("an address");
    let values = values.iter().map(|value| value.as_bytes());
    let client = client_of(peer, header, values, &trusted);
    (client.address.to_string(), client.is_malformed)
}

/// Reads values that `PROXY` sent.
fn x(values: &[&str]) -> (String, bool) {
    read(ForwardedHeader::XForwardedFor, PROXY, values)
}

fn forwarded(values: &[&str]) -> (String, bool) {
    read(ForwardedHeader::Forwarded, PROXY, values)
}

fn client(peer: &str, forwarded_for: &[&str]) -> String {
    let trusted = parse_networks(&["10.0.0.0/8", "2001:db8::/64"]).expect("networks");
    let peer = peer.parse().expect("an address");
    let values = forwarded_for.iter().map(|value| value.as_bytes());
    let client = client_of(peer, ForwardedHeader::XForwardedFor, values, &trusted);
    client.address.to_string()
}

fn fine(address: &str) -> (String, bool) {
    (address.to_owned(), false)
}

fn malformed(address: &str) -> (String, bool) {
    (address.to_owned(), true)
}

/// Every form of an address, in the header of either kind.
const ADDRESSES: [(&str, &str); 10] = [
    ("203.0.113.7", "203.0.113.7"),
    ("203.0.113.7:54321", "203.0.113.7"),
    ("2001:db8::1", "2001:db8::1"),
    ("[2001:db8::1]", "2001:db8::1"),
    ("[2001:db8::1]:443", "2001:db8::1"),
    ("::ffff:203.0.113.7", "203.0.113.7"),
    ("[::ffff:203.0.113.7]:443", "203.0.113.7"),
    ("[2001:db8::1]:_port", "2001:db8::1"),
    ("203.0.113.7:_port", "203.0.113.7"),
    ("203.0.113.7:0", "203.0.113.7"),
];

#[test]
fn an_address_is_read_with_and_without_a_port_and_with_and_without_quotes() {
    for (written, address) in ADDRESSES {
        assert_eq!(x(&[written]), fine(address), "{written}");
        assert_eq!(x(&[&format!("\"{written}\"")]), fine(address), "{written}");
        assert_eq!(x(&[&format!("  {written}\t")]), fine(address), "{written}");
        let element = format!("for=\"{written}\"");
        assert_eq!(forwarded(&[&element]), fine(address), "{element}");
        // Strictly, what holds a colon is quoted; some proxies write it without.
        let element = format!("for={written}");
        assert_eq!(forwarded(&[&element]), fine(address), "{element}");
    }
}

#[test]
fn what_is_no_address_stops_at_the_proxy_that_wrote_it_and_is_reported() {
    for bad in [
        "rubbish",
        "203.0.113.7:65536",
        "203.0.113.7:",
        "203.0.113.7:x",
        "203.0.113",
        "203.0.113.7 203.0.113.8",
        "[203.0.113.7]",
        "[2001:db8::1",
        "2001:db8::1]",
        "[2001:db8::1]443",
        "\"203.0.113.7",
        "203.0.113.7\"",
        "\u{e9}",
        "203.0.113.7/32",
    ] {
        assert_eq!(x(&[bad]), malformed(PROXY), "{bad}");
        let list = format!("{bad}, 10.1.1.1");
        assert_eq!(x(&[&list]), malformed("10.1.1.1"), "{bad}");
        let element = format!("for={bad}");
        assert_eq!(forwarded(&[&element]), malformed(PROXY), "{element}");
    }
}

#[test]
fn bytes_that_are_no_text_are_malformed_and_not_skipped() {
    let trusted = parse_networks(&["10.0.0.0/8"]).expect("networks");
    let peer = PROXY.parse().expect("an address");
    let values: [&[u8]; 2] = [b"192.0.2.66", b"\xff"];
    for header in [ForwardedHeader::XForwardedFor, ForwardedHeader::Forwarded] {
        let client = client_of(peer, header, values.into_iter(), &trusted);
        assert_eq!((client.address, client.is_malformed), (peer, true));
    }
}

#[test]
fn a_stranger_is_not_believed_and_a_trusted_proxy_is() {
    for header in [ForwardedHeader::XForwardedFor, ForwardedHeader::Forwarded] {
        let value = match header {
            ForwardedHeader::XForwardedFor => "192.0.2.1",
            ForwardedHeader::Forwarded => "for=192.0.2.1",
        };
        for (peer, address) in [
            ("198.51.100.1", "198.51.100.1"),
            (PROXY, "192.0.2.1"),
            ("::ffff:10.0.0.1", "192.0.2.1"),
            ("2001:db8:ffff::1", "192.0.2.1"),
        ] {
            assert_eq!(read(header, peer, &[value]), fine(address), "{peer}");
        }
        assert_eq!(read(header, PROXY, &[]), fine(PROXY));
        // A stranger's rubbish is not even read.
        let rubbish = read(header, "198.51.100.1", &["rubbish"]);
        assert_eq!(rubbish, fine("198.51.100.1"));
    }
}

#[test]
fn the_last_address_that_no_trusted_proxy_has_counts() {
    for (values, expected) in [
        (&["203.0.113.9, 192.0.2.1"][..], "192.0.2.1"),
        (&["203.0.113.9, 192.0.2.1, 10.1.1.1"], "192.0.2.1"),
        (&["203.0.113.9,192.0.2.1:80,10.1.1.1:443"], "192.0.2.1"),
        (&["203.0.113.9", "192.0.2.1"], "192.0.2.1"),
        (&["rubbish, 192.0.2.1"], "192.0.2.1"),
        (&["\"rubbish, 192.0.2.1"], "192.0.2.1"),
        (&["192.0.2.1, , 10.1.1.1,"], "192.0.2.1"),
        (&["10.2.2.2, 10.1.1.1"], "10.2.2.2"),
        (&["", " , "], PROXY),
    ] {
        assert_eq!(x(values), fine(expected), "{values:?}");
    }
}

#[test]
fn an_element_of_forwarded_has_parameters_in_any_order_and_case() {
    for (values, expected) in [
        (
            &["for=192.0.2.43;proto=http;by=203.0.113.43"][..],
            "192.0.2.43",
        ),
        (
            &["proto=https; By=\"[2001:db8::2]\" ; FOR = 192.0.2.43"],
            "192.0.2.43",
        ),
        (&["for=192.0.2.9, for=192.0.2.43"], "192.0.2.43"),
        (
            &["for=192.0.2.9", "For=\"[2001:db8:cafe::17]:4711\""],
            "2001:db8:cafe::17",
        ),
        (
            &["for=192.0.2.43;ext=\"a, b; for=192.0.2.9\""],
            "192.0.2.43",
        ),
        (
            &["for=192.0.2.43;ext=\"a\\\", for=192.0.2.9\""],
            "192.0.2.43",
        ),
        (&["for=\"192\\.0.2.43\""], "192.0.2.43"),
        (&["for=192.0.2.43, for=10.1.1.1;proto=https"], "192.0.2.43"),
    ] {
        assert_eq!(forwarded(values), fine(expected), "{values:?}");
    }
    for bad in [
        "192.0.2.43",
        "for",
        "for=192.0.2.1;for=192.0.2.2",
        "for=192.0.2.1;x",
    ] {
        assert_eq!(forwarded(&[bad]), malformed(PROXY), "{bad}");
    }
}

/// A client opens a quoted string, so that the proxy's element would end up inside of it.
#[test]
fn what_a_client_wrote_before_a_proxys_element_does_not_change_it() {
    for attack in [
        "for=\"192.0.2.66",
        "for=192.0.2.66;x=\"",
        "x=\"\\",
        "\"",
        "for=\"\\\"",
    ] {
        let value = format!("{attack}, for=192.0.2.1;proto=https");
        assert_eq!(forwarded(&[&value]), fine("192.0.2.1"), "{value}");
        let value = format!("{attack}, for=\"192.0.2.1:443\"");
        assert_eq!(forwarded(&[&value]), fine("192.0.2.1"), "{value}");
    }
}

#[test]
fn a_proxy_that_hides_its_client_is_the_client_and_no_error() {
    for name in ["unknown", "Unknown", "_hidden", "_SEVKISEK"] {
        assert_eq!(x(&[&format!("192.0.2.66, {name}")]), fine(PROXY));
        let value = format!("for=192.0.2.66, for={name}");
        assert_eq!(forwarded(&[&value]), fine(PROXY));
    }
    assert_eq!(forwarded(&["for=192.0.2.66, proto=https"]), fine(PROXY));
}

#[test]
fn a_header_is_named_as_it_is_written_and_parsed() {
    for header in [ForwardedHeader::XForwardedFor, ForwardedHeader::Forwarded] {
        assert_eq!(header.name().parse(), Ok(header));
        let text = serde_json::to_value(header).expect("JSON");
        assert_eq!(text, header.name());
    }
    assert_eq!("x-real-ip".parse::<ForwardedHeader>(), Err(()));
}

#[test]
fn one_report_a_minute_is_due() {
    let interval = ReportInterval::default();
    assert!(interval.is_due(5));
    assert!(!interval.is_due(5));
    assert!(!interval.is_due(64));
    assert!(interval.is_due(65));
    assert!(!interval.is_due(66));
}

#[test]
fn a_trusted_proxy_is_believed_and_no_stranger() {
    let says = ["192.0.2.1"];
    assert_eq!(client("198.51.100.1", &says), "198.51.100.1");
    assert_eq!(client("10.0.0.1", &says), "192.0.2.1");
    assert_eq!(client("::ffff:10.0.0.1", &says), "192.0.2.1");
    assert_eq!(client("2001:db8::1", &says), "192.0.2.1");
    assert_eq!(client("10.0.0.1", &[]), "10.0.0.1");
}

#[test]
fn the_client_is_the_last_one_that_no_trusted_proxy_has() {
    for (values, expected) in [
        (&["203.0.113.9, 192.0.2.1"][..], "192.0.2.1"),
        (&["203.0.113.9, 192.0.2.1, 10.1.1.1"], "192.0.2.1"),
        (&["203.0.113.9", "192.0.2.1"], "192.0.2.1"),
        (&["192.0.2.1, rubbish"], "10.0.0.1"),
        (&["rubbish, 10.1.1.1"], "10.1.1.1"),
        (&[""], "10.0.0.1"),
    ] {
        assert_eq!(client("10.0.0.1", values), expected, "{values:?}");
    }
}
