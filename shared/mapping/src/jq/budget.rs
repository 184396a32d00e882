use std::cell::Cell;
use std::panic::resume_unwind;

use jaq_core::data::HasLut;
use jaq_core::{DataT, Lut};
use jaq_json::Val;

/// Evaluations of terms that one run of a program may take (L10): far more than a program on a large record needs, and
/// less than a second.
const STEPS_MAX: u32 = 4_000_000;
/// Stack that one run may take; threads of a runtime have 2 MiB.
const STACK_BYTES_MAX: usize = 512 << 10;

/// What one run of a program has used.
#[derive(Debug)]
pub(super) struct Meter {
    steps: Cell<u32>,
    stack_base: usize,
}

/// The payload of the unwinding that ends a run which went too far.
#[derive(Clone, Copy, Debug)]
pub(super) enum Exhausted {
    Steps,
    Stack,
}

impl Exhausted {
    pub fn message(self) -> String {
        match self {
            Self::Steps => format!("it takes more than {STEPS_MAX} steps"),
            Self::Stack => "it recurses too deep".to_owned(),
        }
    }
}

impl Meter {
    pub fn start() -> Self {
        Self { steps: Cell::new(0), stack_base: stack_address() }
    }

    /// Counts one step. The interpreter has no way to be told to stop, so a run that goes too far is unwound; the caller
    /// of the program catches that, and nothing is printed.
    pub fn step(&self) {
        let steps = self.steps.get() + 1;
        self.steps.set(steps);
        if steps > STEPS_MAX {
            resume_unwind(Box::new(Exhausted::Steps));
        }
        if self.stack_base.abs_diff(stack_address()) > STACK_BYTES_MAX {
            resume_unwind(Box::new(Exhausted::Stack));
        }
    }
}

#[inline(never)]
fn stack_address() -> usize {
    let here = 0u8;
    std::ptr::from_ref(std::hint::black_box(&here)).addr()
}

/// Programs of jaq values whose runs are metered.
pub(super) struct Metered;

/// What a running program carries: its terms and its meter. The interpreter asks for the terms at every step.
#[derive(Clone, Copy)]
pub(super) struct Run<'a> {
    pub terms: &'a Lut<Metered>,
    pub meter: &'a Meter,
}

impl DataT for Metered {
    type V<'a> = Val;
    type Data<'a> = Run<'a>;
}

impl<'a> HasLut<'a, Metered> for Run<'a> {
    fn lut(&self) -> &'a Lut<Metered> {
        self.meter.step();
        self.terms
    }
}
