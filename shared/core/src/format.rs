use crate::Fault;

/// Format numbers of one kind of stored thing. Code of release N writes its own and reads that of N−1 too; an unknown
/// number is never guessed at (DESIGN §5): what carries it waits for code that knows it, and is neither misread nor written
/// back without what this release does not know.
#[derive(Clone, Copy, Debug)]
pub struct Formats {
    oldest: u8,
    own: u8,
}

impl Formats {
    /// Reads `oldest` to `own`.
    pub const fn new(oldest: u8, own: u8) -> Self {
        Self { oldest, own }
    }

    /// What this release writes.
    pub const fn own(self) -> u8 {
        self.own
    }

    /// An Unavailable fault where `what` carries a number that this release does not read.
    pub fn check(self, what: &str, found: u8) -> Result<(), Fault> {
        let Self { oldest, own } = self;
        if (oldest..=own).contains(&found) {
            return Ok(());
        }
        let advice = if found > own {
            "a newer release wrote it: upgrade this service; until then it waits"
        } else {
            "a release wrote it that is too old: run the one in between first; until then it waits"
        };
        let reads = if oldest == own { own.to_string() } else { format!("{oldest} to {own}") };
        Err(Fault::unavailable(format!("{what} has format {found}; this release reads {reads}")).advise(advice))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::FaultKind;

    #[test]
    fn its_own_and_the_one_before_are_read_and_others_wait() {
        let formats = Formats::new(3, 4);
        let read: Vec<u8> = (0..8).filter(|&found| formats.check("it", found).is_ok()).collect();
        assert_eq!(read, [3, 4]);
        let told = |found| {
            let fault = formats.check("it", found).unwrap_err();
            assert_eq!(fault.kind, FaultKind::Unavailable);
            fault.to_string()
        };
        assert!(told(5).contains("it has format 5; this release reads 3 to 4") && told(5).contains("upgrade"));
        assert!(told(2).contains("too old"), "{}", told(2));
    }
}
