//! spolia-core
