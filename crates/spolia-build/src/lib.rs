//! spolia-build
