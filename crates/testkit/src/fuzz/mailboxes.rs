//! Mailboxes, whose messages nothing proves but where they were seen.

use alloy_primitives::{Log, U256};
use lockstep_messaging::{Facts, Mailbox, MailboxDeployment, Message, Protocol, Slot};

use super::{
    follow::follow,
    logs,
    rollups::{DESTINATION, Logs, MAILBOX, ORIGIN, PLACE, emitted, open_block},
    source::Source,
};

/// Writes a message to the origin's mailbox and delivers it.
///
/// Exactly the logs whose key is that of their fields, and that go to another rollup, are messages; those for a configured
/// rollup are delivered there as they were written. With one bit changed, in the message or in the log, nothing is delivered.
pub fn mailbox(data: &[u8]) {
    let mut source = Source::new(data);
    let mut log = logs::mailbox(&mut source);
    let destination = U256::from_be_bytes(log.topics()[2].0);
    let own_key = !source.coin();
    if !own_key {
        source.flip(log.data.topics_mut()[1].as_mut_slice());
    }
    let at = MailboxDeployment { mailbox: MAILBOX };
    let protocol = Mailbox::new([(ORIGIN, at.clone()), (DESTINATION, at)].into());
    let found = protocol.recognise(ORIGIN, &emitted(&log, PLACE)).expect("a log of the mailbox");
    assert_eq!(found.is_ok(), own_key && destination != U256::from(ORIGIN), "{found:?}");
    let Ok(message) = found else { return };
    let here = destination == U256::from(DESTINATION);
    assert_eq!(follow(&log), here.then_some("mailbox"));

    let to = open_block(DESTINATION);
    let facts = Facts::default();
    let demands = |message: &Message, log: &Log| {
        let logs = Logs::of_origin(PLACE, log);
        protocol.demand(message, &to, &Slot { facts: &facts, logs: &logs }).is_ok()
    };
    assert_eq!(demands(&message, &log), here);
    let mut other = message.clone();
    let mut payload = message.payload.to_vec();
    source.flip(&mut payload);
    other.payload = payload.into();
    assert!(!demands(&other, &log), "what was not written is vouched for");
    let mut bytes = log.data.data.to_vec();
    source.flip(&mut bytes);
    log.data.data = bytes.into();
    assert!(!demands(&message, &log), "what is not there any more is vouched for");
}
