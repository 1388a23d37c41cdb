//! stub
pub mod recorded;
