//! The proleptic Gregorian calendar with astronomical years (year 0 is 1 BC), for shifting timestamps to UTC.

/// The last year that seven digits can write; every store's range lies within.
pub(super) const YEAR_MAX: i64 = 9_999_999;

fn is_leap(year: i64) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

pub(super) fn days_in_month(year: i64, month: i64) -> i64 {
    match month {
        4 | 6 | 9 | 11 => 30,
        2 if is_leap(year) => 29,
        2 => 28,
        _ => 31,
    }
}

/// The day after (or, with `by` negative, before) a date.
pub(super) fn shift((year, month, day): (i64, i64, i64), by: i64) -> (i64, i64, i64) {
    match day + by {
        0 if month == 1 => (year - 1, 12, 31),
        0 => (year, month - 1, days_in_month(year, month - 1)),
        day if day > days_in_month(year, month) && month == 12 => (year + 1, 1, 1),
        day if day > days_in_month(year, month) => (year, month + 1, 1),
        day => (year, month, day),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_follow_each_other() {
        assert_eq!(shift((2024, 2, 28), 1), (2024, 2, 29));
        assert_eq!(shift((2024, 2, 29), 1), (2024, 3, 1));
        assert_eq!(shift((2100, 3, 1), -1), (2100, 2, 28));
        assert_eq!(shift((2000, 3, 1), -1), (2000, 2, 29));
        assert_eq!(shift((2024, 12, 31), 1), (2025, 1, 1));
        assert_eq!(shift((0, 1, 1), -1), (-1, 12, 31));
        assert_eq!(shift((-4, 2, 28), 1), (-4, 2, 29));
    }

    #[test]
    fn back_and_forth_for_a_leap_cycle() {
        let (mut date, mut days) = ((1999, 12, 31), 0);
        while date < (2400, 1, 1) {
            let next = shift(date, 1);
            assert_eq!(shift(next, -1), date);
            (date, days) = (next, days + 1);
        }
        assert_eq!(days, 146_097 + 1);
    }
}
