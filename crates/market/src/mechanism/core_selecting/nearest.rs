//! The payments nearest to wanted ones that meet demands on sums of them.

use alloy_primitives::U256;

/// How often all demands are gone through. What is then still unmet is met by raising payments only.
const MAX_ROUNDS: usize = 1_000;
/// How many bits finer than units payments are computed.
const PART_BITS: usize = 16;

/// Who pays.
#[derive(Clone, Copy, Debug)]
pub(super) struct Agent {
    /// What it would pay without demands.
    pub(super) wanted: U256,
    /// What it pays at the most.
    pub(super) most: U256,
}

/// These together pay at least so much, or each the most that it can.
#[derive(Clone, Copy, Debug)]
pub(super) struct Demand {
    /// One bit each.
    pub(super) payers: u64,
    pub(super) at_least: U256,
}

/// The payments that meet all demands with the least sum of squared differences to the wanted ones, to within rounding.
pub(super) fn nearest(agents: &[Agent], demands: &[Demand]) -> Vec<U256> {
    // Counted in parts of a unit, where the amounts leave room for them, so that rounding does not add up.
    let greatest = agents.iter().map(|agent| agent.most).chain(demands.iter().map(|demand| demand.at_least)).max();
    let shift = greatest.map_or(0, |greatest| greatest.leading_zeros().saturating_sub(2 * PART_BITS)).min(PART_BITS);
    let fine: Vec<Agent> =
        agents.iter().map(|agent| Agent { wanted: agent.wanted << shift, most: agent.most << shift }).collect();
    let fine_demands: Vec<Demand> =
        demands.iter().map(|demand| Demand { at_least: demand.at_least << shift, ..*demand }).collect();
    let mut payments: Vec<U256> = raised(&fine, &fine_demands).into_iter().map(|payment| payment >> shift).collect();
    for Demand { payers, at_least } in demands {
        let mut missing = at_least.saturating_sub(sum_of(&payments, *payers));
        while !missing.is_zero() {
            let of = payments.iter_mut().zip(agents).zip(0..).filter(|(_, index)| payers >> index & 1 == 1);
            let mut room = of.map(|(paid, _)| paid).filter(|(paid, agent)| **paid < agent.most).peekable();
            if room.peek().is_none() {
                break;
            }
            for (paid, _) in room {
                if !missing.is_zero() {
                    *paid += U256::ONE;
                    missing -= U256::ONE;
                }
            }
        }
    }
    payments
}

fn sum_of(payments: &[U256], payers: u64) -> U256 {
    let of = payments.iter().zip(0..).filter(|(_, index)| payers >> index & 1 == 1);
    of.fold(U256::ZERO, |sum, (payment, _)| sum.saturating_add(*payment))
}

/// What is nearest is found by a raise for each demand, common to its payers: it is the least one that meets the demand, given the
/// raises of the other demands, gone through until nothing changes. That is coordinate ascent on the dual of the quadratic
/// programme (Hildreth, 1957, "A Quadratic Programming Procedure"), in integers: a demand is exceeded by less than one unit a payer.
fn raised(agents: &[Agent], demands: &[Demand]) -> Vec<U256> {
    let mut raises = vec![U256::ZERO; demands.len()];
    for round in 0.. {
        let may_fall = round < MAX_ROUNDS;
        let mut changed = false;
        for (index, demand) in demands.iter().enumerate() {
            let before = raises.get(index).copied().unwrap_or_default();
            if let Some(raise) = raises.get_mut(index) {
                *raise = U256::ZERO;
            }
            let least = least_raise(agents, demands, &raises, demand);
            let raise = if may_fall { least } else { least.max(before) };
            changed |= raise != before;
            if let Some(known) = raises.get_mut(index) {
                *known = raise;
            }
        }
        if !changed {
            break;
        }
    }
    (0..agents.len()).map(|agent| payment(agents, demands, &raises, agent, U256::ZERO)).collect()
}

/// What an agent pays with the raises of all demands and one more.
fn payment(agents: &[Agent], demands: &[Demand], raises: &[U256], agent: usize, further: U256) -> U256 {
    let of = demands.iter().zip(raises).filter(|(demand, _)| demand.payers >> agent & 1 == 1);
    let raised = of.fold(further, |sum, (_, raise)| sum.saturating_add(*raise));
    agents.get(agent).map_or(U256::ZERO, |agent| agent.wanted.saturating_add(raised).min(agent.most))
}

/// The least raise of a demand's payers that meets it, beside the raises of the others.
fn least_raise(agents: &[Agent], demands: &[Demand], raises: &[U256], demand: &Demand) -> U256 {
    let payers: Vec<usize> = (0..agents.len()).filter(|agent| demand.payers >> agent & 1 == 1).collect();
    let paid = |raise: U256| {
        let payments = payers.iter().map(|agent| payment(agents, demands, raises, *agent, raise));
        payments.fold(U256::ZERO, U256::saturating_add)
    };
    let (mut short, mut enough) = (U256::ZERO, agents.iter().map(|agent| agent.most).max().unwrap_or_default());
    if paid(short) >= demand.at_least {
        return U256::ZERO;
    }
    if paid(enough) < demand.at_least {
        return enough;
    }
    while enough - short > U256::ONE {
        let middle = short + ((enough - short) >> 1);
        if paid(middle) >= demand.at_least {
            enough = middle;
        } else {
            short = middle;
        }
    }
    enough
}

#[cfg(test)]
mod tests {
    use super::*;

    fn solved(agents: &[(u64, u64)], demands: &[(u64, u64)]) -> Vec<u64> {
        let agents: Vec<Agent> =
            agents.iter().map(|(wanted, most)| Agent { wanted: U256::from(*wanted), most: U256::from(*most) }).collect();
        let demands: Vec<Demand> =
            demands.iter().map(|(payers, at_least)| Demand { payers: *payers, at_least: U256::from(*at_least) }).collect();
        nearest(&agents, &demands).into_iter().map(|payment| payment.to::<u64>()).collect()
    }

    #[test]
    fn a_demand_is_shared_equally_as_far_as_each_can() {
        assert_eq!(solved(&[(14, 28), (12, 20)], &[]), [14, 12]);
        assert_eq!(solved(&[(14, 28), (12, 20)], &[(0b11, 32)]), [17, 15]);
        assert_eq!(solved(&[(14, 28), (12, 13)], &[(0b11, 32)]), [19, 13]);
        assert_eq!(solved(&[(14, 15), (12, 13)], &[(0b11, 32)]), [15, 13], "all that they can");
    }

    #[test]
    fn what_one_demand_brings_another_needs_no_more() {
        // Alone, the second would raise 0 and 1 by 10 each; the first raises 0 by 20.
        assert_eq!(solved(&[(0, 90), (0, 90)], &[(0b11, 20), (0b01, 20)]), [20, 0]);
        let round = solved(&[(0, 9_000), (0, 9_000), (0, 9_000)], &[(0b011, 2_000), (0b110, 2_000), (0b101, 2_000)]);
        assert!(round.iter().all(|payment| payment.abs_diff(1_000) <= 2), "{round:?}");
    }

    #[test]
    fn nothing_that_meets_the_demands_is_nearer() {
        let mut state = 0x1234_5678_9abc_def1_u64;
        let mut next = |below: u64| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state % below
        };
        for _ in 0..300 {
            let agents: Vec<(u64, u64)> = (0..3).map(|_| (next(8), 8 + next(8))).collect();
            let mut demands = Vec::new();
            for _ in 0..next(4) {
                let payers = 1 + next(7);
                let most: u64 = (0..3).filter(|agent| payers >> agent & 1 == 1).map(|agent| agents[agent].1).sum();
                demands.push((payers, next(most + 1)));
            }
            let meets = |payments: &[u64]| {
                demands.iter().all(|(payers, at_least)| {
                    (0..3).filter(|agent| payers >> agent & 1 == 1).map(|agent| payments[agent]).sum::<u64>() >= *at_least
                })
            };
            let distance = |payments: &[u64]| {
                payments.iter().zip(&agents).map(|(payment, (wanted, _))| payment.abs_diff(*wanted).pow(2)).sum::<u64>()
            };
            // A thousand times as fine, so that rounding does not matter.
            let fine: Vec<(u64, u64)> = agents.iter().map(|(wanted, most)| (wanted * 1_000, most * 1_000)).collect();
            let fine_demands: Vec<(u64, u64)> = demands.iter().map(|(payers, at_least)| (*payers, at_least * 1_000)).collect();
            let found = solved(&fine, &fine_demands);
            let off: f64 = found
                .iter()
                .zip(&agents)
                .map(|(payment, (wanted, _))| (*payment as f64 / 1_000.0 - *wanted as f64).powi(2))
                .sum();
            for a in 0..=agents[0].1 {
                for b in 0..=agents[1].1 {
                    for c in 0..=agents[2].1 {
                        let other = [a, b, c];
                        assert!(!meets(&other) || off <= distance(&other) as f64 + 0.2, "{other:?} is nearer than {found:?}");
                    }
                }
            }
        }
    }
}
