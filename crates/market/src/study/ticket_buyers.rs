//! Who buys tickets in a study, and whose are drawn.

use alloy_primitives::{B256, U256};
use lockstep_primitives::{RollupSet, TicketOrder, TicketSide};

use super::{address_of, population::Population};
use crate::{Clearing, Sale, TicketBook, TicketRecord, TicketRules, Win, split};

/// How many tickets there may be at a time.
const OUTSTANDING: u64 = 32;

/// The tickets of a study: one class of all rollups. Bidders know what an average slot is worth to them, and buy as long as a ticket
/// costs no more than that; each slot another one comes first.
#[derive(Debug)]
pub(super) struct Tickets {
    book: TicketBook,
    class: RollupSet,
}

impl Tickets {
    pub(super) fn new(sellers: usize, max_share_bps: u64) -> Self {
        let class: RollupSet = (0..sellers as u64).collect();
        let rules = TicketRules {
            classes: vec![class.clone()],
            outstanding: OUTSTANDING,
            lookahead: 1,
            max_share_bps,
            least_price: U256::ZERO,
        };
        let book = TicketBook::new(rules, TicketRecord::default());
        // One class of at least one rollup.
        Self { book: book.unwrap_or_else(|error| unreachable!("{error}")), class }
    }

    /// Sells tickets, and draws one for a slot.
    pub(super) fn clear(&mut self, sale: &Sale, population: &Population, bidders: usize, seed: B256) -> Clearing {
        let reserve = sale.reserve(&self.class);
        for turn in 0..bidders {
            let bidder = (turn + sale.slot() as usize) % bidders;
            let price = population.mean_value(bidder, &self.class);
            let order = TicketOrder { rollups: self.class.clone(), side: TicketSide::Buy, count: 1, price, nonce: 0 };
            if let Ok(fills) = self.book.fills(&order, address_of(bidder), reserve) {
                self.book.hand_over(0, address_of(bidder), &fills);
            }
        }
        self.book.next_slot();
        self.book.draw(sale, seed);
        let drawn = self.book.take_drawn(sale.slot()).into_iter().map(|(_, drawn)| {
            let shares = split(drawn.price, &sale.reserves(&drawn.rollups));
            Win { bid: B256::ZERO, bidder: drawn.owner, rollups: drawn.rollups, price: drawn.price, shares }
        });
        Clearing::new(drawn.collect(), U256::ZERO)
    }
}
