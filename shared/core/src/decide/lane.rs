/// The lane of a key: the same for ever, for a given number of lanes.
pub fn lane_of(key: &[u8], lanes: u16) -> u16 {
    let lanes = u64::from(lanes.max(1));
    (xxhash_rust::xxh3::xxh3_64(key) % lanes) as u16
}
