//! Ranges of similar size: keys that lie evenly between the first and the last, each moved to the next that is there.

use fides_core::{Fault, Key, KeyRange};

use crate::condition::Keying;
use crate::reading::Reading;

/// Each bound costs a query.
const RANGES_MAX: usize = 16;

/// Up to `want` ranges that cover every key exactly once, in order.
pub(crate) async fn plan(reading: &Reading, want: usize) -> Result<Vec<KeyRange>, Fault> {
    let want = want.clamp(1, RANGES_MAX);
    let mut bounds: Vec<Key> = Vec::new();
    if want > 1
        && let (Some(first), Some(last)) = (reading.edge(Some(&KeyRange::ALL)).await?, reading.edge(None).await?)
    {
        for probe in between(first.as_bytes(), last.as_bytes(), want) {
            // Fields are compared as values, which not all bytes between two keys are.
            if matches!(reading.keying, Keying::Fields(_)) && probe.decode().is_err() {
                continue;
            }
            let from = KeyRange { lower: Some(probe), upper: None };
            let bound = reading.edge(Some(&from)).await?;
            bounds.extend(bound.filter(|bound| *bound > first && bounds.last().is_none_or(|last| last < bound)));
        }
    }
    let lowers = std::iter::once(None).chain(bounds.iter().cloned().map(Some));
    let uppers = bounds.iter().cloned().map(Some).chain(std::iter::once(None));
    Ok(lowers.zip(uppers).map(|(lower, upper)| KeyRange { lower, upper }).collect())
}

/// `want - 1` byte strings evenly between two, by the eight bytes behind what they share.
fn between(first: &[u8], last: &[u8], want: usize) -> Vec<Key> {
    let shared = first.iter().zip(last).take_while(|(a, b)| a == b).count();
    let number = |bytes: &[u8]| {
        let mut padded = [0; 8];
        let rest = &bytes[shared..bytes.len().min(shared + 8)];
        padded[..rest.len()].copy_from_slice(rest);
        u128::from(u64::from_be_bytes(padded))
    };
    let (low, high) = (number(first), number(last));
    let probe = |at: usize| {
        let number = low + (high.saturating_sub(low)) * at as u128 / want as u128;
        let tail = u64::try_from(number).unwrap_or(u64::MAX).to_be_bytes();
        // As long as the keys themselves: whole numbers then are numbers.
        let length = first.len().max(last.len()).min(shared + 8);
        Key::from_bytes([&first[..shared], &tail[..length - shared]].concat())
    };
    (1..want).map(probe).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use fides_core::Value;

    #[test]
    fn numbers_are_cut_evenly() {
        let key = |number: i64| Key::encode(&[Value::I64(number)]).unwrap();
        let probes = between(key(0).as_bytes(), key(1_000).as_bytes(), 4);
        let numbers: Vec<_> = probes.iter().map(|probe| probe.decode().unwrap()).collect();
        assert_eq!(numbers, [250, 500, 750].map(|number| vec![Value::I64(number)]));
    }
}
