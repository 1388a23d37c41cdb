//! Logs of every protocol.

use super::{follow::follow, logs, source::Source};

/// Makes a log of a rollup's contracts, well-formed or not, and follows it through recognition, demand, delivery and receipt.
///
/// A log is one message at most, or malformed by name. What is recognised is delivered to the rollup that it names, by calls
/// that say what was sent, or refused with a reason; it is delivered nowhere else, and with no other kind of evidence. The log
/// of its delivery is read as its receipt.
///
/// Returns the protocol of the message that could be delivered, if there was one.
pub fn message(data: &[u8]) -> Option<&'static str> {
    let mut source = Source::new(data);
    let mut log = match source.byte() % 6 {
        0 => logs::raw(&mut source),
        1 => logs::cctp_v1(&mut source),
        2 => logs::cctp_v2(&mut source),
        3 => logs::exit(&mut source),
        4 => logs::interop(&mut source),
        _ => logs::mailbox(&mut source),
    };
    for _ in 0..source.byte() % 4 {
        logs::spoil(&mut log, &mut source);
    }
    follow(&log)
}
