//! spolia
fn main() {}
