//! spolia-engine
