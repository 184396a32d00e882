//! Several processes on one state file.

use crate::shop::Shop;
use crate::staying::{Staying, until};

#[test]
fn beside_a_sync_one_may_look_but_not_sync() {
    let shop = Shop::new();
    let staying = Staying::start(&shop);
    let second = shop.run(&["sync", "--once"]);
    assert_eq!(second.status, 69, "{}", second.stderr);
    assert!(second.stderr.contains("state.fides"), "{}", second.stderr);
    assert!(second.stderr.contains("in use by process"), "{}", second.stderr);

    until("the first import", || shop.json(&["status", "--json"])[0]["run"]["ended_ms"].is_u64());
    until("every record", || shop.run(&["verify", "items"]).status == 0);
    assert_eq!(shop.target_names(), ["apple", "bread", "cheese"]);
    // The marks follow the writes.
    until("every mark", || shop.json(&["plan", "items", "--json"])["unchanged"] == 3);
    drop(staying);
    assert_eq!(shop.run(&["sync", "--once"]).status, 0, "a killed owner leaves the file free");
}

#[cfg(unix)]
#[test]
fn a_signal_ends_a_sync_gracefully_and_is_its_exit_status() {
    let shop = Shop::new();
    for (signal, status) in [("-TERM", 143), ("-INT", 130)] {
        let mut staying = Staying::start(&shop);
        assert_eq!(staying.end(signal), Some(status), "{signal}");
    }
    assert_eq!(shop.run(&["sync", "--once"]).status, 0);
}
