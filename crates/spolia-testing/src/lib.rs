//! spolia-testing
