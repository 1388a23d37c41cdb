//! Nothing: the tests are in `it`, one binary.
