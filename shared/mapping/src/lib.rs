//! From a host record to a target document.
