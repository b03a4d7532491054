pub fn read_the_crash(_s: &crate::shared::Shared) {}
