pub(crate) const TABLE: &str = "_fides_lane";
