//! spolia-store
