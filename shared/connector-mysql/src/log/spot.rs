//! The place that a reader stores: a file of the log, the offset in it, and a mark of the file, by which one that has the
//! same number after a RESET MASTER is told from it.

use fides_core::Fault;

/// Files are numbered up to here.
const FILES_MAX: u32 = 1 << 24;

/// A place between two transactions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Spot {
    pub(super) file: u32,
    /// Of the second in which the file was begun.
    pub(super) mark: u8,
    pub(super) offset: u32,
}

impl Spot {
    /// As one number that keeps the order of the log.
    pub(super) fn place(self) -> u64 {
        u64::from(self.file) << 40 | u64::from(self.mark) << 32 | u64::from(self.offset)
    }

    pub(super) fn of(place: u64) -> Self {
        Self { file: (place >> 40) as u32, mark: (place >> 32) as u8, offset: place as u32 }
    }

    /// The mark of a file that was begun in this second.
    pub(super) fn mark_of(second: u32) -> u8 {
        // Neighbouring seconds differ, and so do those that are multiples of 256 apart.
        (second.wrapping_mul(0x9E37_79B1) >> 24) as u8
    }
}

/// Says that there are more files than a place can tell apart.
pub(super) fn refuse_file(number: u32) -> Result<(), Fault> {
    if number < FILES_MAX {
        return Ok(());
    }
    Err(Fault::permanent(format!("the log's file has number {number}; expected: less than {FILES_MAX}"))
        .advise("run: RESET MASTER; an import follows"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn places_are_read_back_and_keep_the_order(file in 0..FILES_MAX, mark: u8, offset: u32, later in 0..u32::MAX) {
            let spot = Spot { file, mark, offset };
            prop_assert_eq!(Spot::of(spot.place()), spot);
            let behind = Spot { offset: later, ..spot };
            prop_assert_eq!(spot.place().cmp(&behind.place()), offset.cmp(&later));
            let next = Spot { file: file + 1, mark: 0, offset: 0 };
            prop_assert!(next.place() > spot.place());
        }
    }

    #[test]
    fn files_of_other_seconds_have_other_marks() {
        let differ = (0..1_000u32).filter(|after| Spot::mark_of(1_700_000_000) != Spot::mark_of(1_700_000_001 + after));
        assert!(differ.count() > 980);
    }
}
