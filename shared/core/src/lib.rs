//! Floor 0: types, ports and pure decisions; no runtime, no driver, no clock, no I/O.
