//! What the pool promises: who is let in and why not, what replaces what, when a bundle expires, and that neither memory nor
//! the indexes ever run away from the entries.

mod accounts;
mod admission;
mod bounds;
mod expiry;
mod indexes;
mod lookups;
mod replacement;
mod set_code;
mod support;
