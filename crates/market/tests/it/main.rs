//! The market as its users see it: registrations and bids go in signed, outcomes come out.

mod book;
mod cluster;
mod epochs;
mod espresso;
mod fixtures;
mod l1;
mod ledger;
mod marketplace;
mod mechanisms;
mod properties;
mod proposals;
mod proposing;
mod registry;
mod reserve;
mod rights;
mod sealed;
mod settlement;
mod tickets;
mod timeboost;
mod timeboost_bids;
