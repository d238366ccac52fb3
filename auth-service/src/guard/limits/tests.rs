use super::*;

const RATE: Rate = Rate {
    attempts: 10,
    window_ms: 900_000,
};

#[test]
fn ten_are_taken_and_the_eleventh_waits_for_its_share_of_the_window() {
    let mut table = Table::default();
    for _ in 0..10 {
        assert_eq!(table.take(1, RATE, 0, 100), Ok(()));
    }
    assert_eq!(table.take(1, RATE, 0, 100), Err(90_000));
    assert_eq!(table.take(1, RATE, 89_999, 100), Err(1));
    assert_eq!(table.take(2, RATE, 0, 100), Ok(()));
    assert_eq!(table.take(1, RATE, 90_000, 100), Ok(()));
    assert_eq!(table.take(1, RATE, 90_000, 100), Err(90_000));
}

#[test]
fn what_is_given_back_is_one_attempt_and_no_more() {
    let mut table = Table::default();
    for _ in 0..10 {
        assert_eq!(table.take(1, RATE, 0, 100), Ok(()));
    }
    table.give_back(1, RATE, 0);
    assert_eq!(table.take(1, RATE, 0, 100), Ok(()));
    assert_eq!(table.take(1, RATE, 0, 100), Err(90_000));
    table.give_back(7, RATE, 0);
    assert_eq!(table.empty_at.len(), 1);
}

#[test]
fn memory_is_bounded_and_filling_it_resets_nobody() {
    let mut table = Table::default();
    for _ in 0..10 {
        assert_eq!(table.take(1, RATE, 0, 1_000), Ok(()));
    }
    for stranger in 2..100_000 {
        // Late ones find the shared counters used up, which is a refusal like any other.
        let _ = table.take(stranger, RATE, 0, 1_000);
    }
    assert_eq!(table.empty_at.len(), 1_000);
    assert!(table.shared_empty_at.len() <= 4096);
    assert!(table.take(1, RATE, 0, 1_000).is_err());
    // Once the window has passed, there is room again.
    assert_eq!(table.take(100_001, RATE, 900_001, 1_000), Ok(()));
    assert!(table.empty_at.len() < 1_000);
}

#[test]
fn an_address_of_ipv6_counts_with_its_neighbours() {
    let limits = Limits::new(LimitSettings::default());
    let key = |text: &str| limits.address_key(text.parse().expect("an address"));
    assert_eq!(key("2001:db8:1:2::1"), key("2001:db8:1:2:ffff::"));
    assert_ne!(key("2001:db8:1:2::1"), key("2001:db8:1:3::1"));
    assert_eq!(key("::ffff:192.0.2.1"), key("192.0.2.1"));
    assert_ne!(key("192.0.2.1"), key("192.0.2.2"));
}

#[test]
fn a_site_of_ipv6_has_a_multiple_of_what_each_of_its_networks_has() {
    let limits = Limits::new(LimitSettings {
        logins_per_address: 10,
        site_factor: 3,
        ..LimitSettings::default()
    });
    let take = |text: &str| {
        let address = text.parse().expect("an address");
        limits.take(Limit::LoginsOfAddress, limits.address_key(address))
    };
    let taken = |number: u32| take(&format!("2001:db8:1:{number:x}::1")).is_ok();
    assert_eq!((0..100).filter(|number| taken(*number)).count(), 30);
    // A refusal of the site costs the network nothing, and an attempt that is given back is the site's too.
    let key = limits.address_key("2001:db8:1::1".parse().expect("an address"));
    assert!(limits.is_used_up(Limit::LoginsOfAddress, key));
    limits.give_back(Limit::LoginsOfAddress, key);
    assert!(!limits.is_used_up(Limit::LoginsOfAddress, key));
    assert!(taken(0));
    assert!(!taken(101));
    // Another site, and each address of IPv4, counts for itself.
    assert!(take("2001:db8:2::1").is_ok());
    for number in 0..100 {
        assert!(take(&format!("192.0.2.{number}")).is_ok());
    }
}
