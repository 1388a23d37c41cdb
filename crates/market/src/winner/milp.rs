//! The best packing of more rollups than a table holds, as an integer programme: one variable of 0 or 1 a bid, at most 1 for each
//! rollup and for each tag, the greatest sum of surpluses.
//!
//! The solver counts in floating point. Surpluses are rounded down to 40 bits of the greatest one first, so what it adds up is
//! exact; what rounding may have cost is told as part of the gap. What it answers is checked, and its value added up, in integers.

use std::collections::BTreeSet;

use alloy_primitives::U256;
use microlp::{ComparisonOp, OptimizationDirection, Problem, SolveOptions, Variable};

use super::{Candidate, Packed, bound_of, denser_first};

/// Bits of the greatest surplus that the solver is told.
const BITS: usize = 40;
/// How much work of the search a node of the solver's counts for: it solves a linear programme.
const WORK_PER_NODE: u64 = 1 << 16;
/// From when on a variable counts as chosen.
const CHOSEN: f64 = 0.5;

/// The best packing over the groups of one component, or the best one that is found with that much work.
pub(super) fn pack(groups: &[Vec<Candidate<'_>>], work: u64) -> Packed {
    let candidates: Vec<&Candidate<'_>> = groups.iter().flatten().collect();
    let greedy = greedy(groups);
    let best = match solved(groups, &candidates, &greedy, work) {
        Some((chosen, bound)) if fits(groups, &chosen) => {
            let surplus = sum(&chosen);
            Packed { ranks: ranks(&chosen), surplus, gap: bound.saturating_sub(surplus) }
        }
        // What is no packing is not sold.
        _ => Packed { ranks: Vec::new(), surplus: U256::ZERO, gap: U256::MAX },
    };
    let fallback = sum(&greedy);
    let bound = bound_of(candidates.into_iter());
    if best.surplus >= fallback {
        return Packed { gap: best.gap.min(bound.saturating_sub(best.surplus)), ..best };
    }
    Packed { ranks: ranks(&greedy), surplus: fallback, gap: bound.saturating_sub(fallback) }
}

/// What the solver chooses, and a bound on every packing's surplus.
fn solved<'a>(
    groups: &'a [Vec<Candidate<'a>>],
    candidates: &[&'a Candidate<'a>],
    start: &[&Candidate<'_>],
    work: u64,
) -> Option<(Vec<&'a Candidate<'a>>, U256)> {
    let greatest = candidates.iter().map(|candidate| candidate.surplus).max()?;
    let shift = greatest.bit_len().saturating_sub(BITS);
    let mut problem = Problem::new(OptimizationDirection::Maximize);
    // At most 40 bits, which a float holds exactly.
    let scaled = |surplus: U256| (surplus >> shift).saturating_to::<u64>() as f64;
    let variables: Vec<Variable> = candidates.iter().map(|candidate| problem.add_binary_var(scaled(candidate.surplus))).collect();
    let at_most_one = |problem: &mut Problem, of: Vec<(Variable, f64)>| {
        if of.len() > 1 {
            problem.add_constraint(of.as_slice(), ComparisonOp::Le, 1.0);
        }
    };
    let all = || candidates.iter().zip(&variables);
    for bit in 0..u64::BITS {
        let sells = all().filter(|(candidate, _)| candidate.mask >> bit & 1 == 1);
        at_most_one(&mut problem, sells.map(|(_, variable)| (*variable, 1.0)).collect());
    }
    let mut rest = variables.iter();
    for group in groups {
        let of: Vec<(Variable, f64)> = rest.by_ref().take(group.len()).map(|variable| (*variable, 1.0)).collect();
        // Groups without a tag share their lowest rollup, and are bound by that.
        if group.first().is_some_and(|candidate| candidate.tag.is_some()) {
            at_most_one(&mut problem, of);
        }
    }
    let started: BTreeSet<u16> = start.iter().map(|candidate| candidate.rank).collect();
    let hint = all().map(|(candidate, variable)| (*variable, f64::from(u8::from(started.contains(&candidate.rank)))));
    let mut options = SolveOptions::default();
    options.node_limit = Some((work / WORK_PER_NODE).max(1));
    options.warm_start = Some(hint.collect());
    let outcome = problem.solve_with(options).ok()?;
    let solution = outcome.solution()?;
    let chosen = all().filter(|(_, variable)| solution.var_value(**variable) > CHOSEN).map(|(candidate, _)| *candidate);
    let chosen: Vec<&Candidate<'_>> = chosen.collect();
    let found = chosen.iter().fold(0.0, |sum, candidate| sum + scaled(candidate.surplus));
    // Sums are whole numbers, so a bound less than one above what was found proves that nothing better is there.
    let bound = solution.stats().best_bound.filter(|_| !outcome.is_optimal()).unwrap_or(found).max(found);
    let units = U256::from(bound.floor().clamp(0.0, u64::MAX as f64) as u64);
    // Each rollup's bid lost less than one unit by rounding.
    let lost = if shift == 0 { U256::ZERO } else { U256::from(u64::BITS) };
    Some((chosen, units.saturating_add(lost).checked_shl(shift).unwrap_or(U256::MAX)))
}

/// Whether no rollup is sold twice, and of each group at most one bid wins.
fn fits(groups: &[Vec<Candidate<'_>>], chosen: &[&Candidate<'_>]) -> bool {
    let disjoint = chosen.iter().try_fold(0_u64, |sold, candidate| (sold & candidate.mask == 0).then_some(sold | candidate.mask));
    let ranks: BTreeSet<u16> = chosen.iter().map(|candidate| candidate.rank).collect();
    let of_group = |group: &Vec<Candidate<'_>>| group.iter().filter(|candidate| ranks.contains(&candidate.rank)).count();
    disjoint.is_some() && groups.iter().all(|group| of_group(group) <= 1)
}

/// The packing that takes bids by their surplus for each rollup.
fn greedy<'a>(groups: &'a [Vec<Candidate<'a>>]) -> Vec<&'a Candidate<'a>> {
    let mut order: Vec<(usize, &Candidate<'a>)> = Vec::new();
    for (group, candidates) in groups.iter().enumerate() {
        order.extend(candidates.iter().map(|candidate| (group, candidate)));
    }
    order.sort_by(|(_, a), (_, b)| denser_first(a, b));
    let (mut used, mut sold, mut chosen) = (BTreeSet::new(), 0, Vec::new());
    for (group, candidate) in order {
        if candidate.mask & sold == 0 && used.insert(group) {
            sold |= candidate.mask;
            chosen.push(candidate);
        }
    }
    chosen
}

fn ranks(chosen: &[&Candidate<'_>]) -> Vec<u16> {
    let mut ranks: Vec<u16> = chosen.iter().map(|candidate| candidate.rank).collect();
    ranks.sort_unstable();
    ranks
}

fn sum(chosen: &[&Candidate<'_>]) -> U256 {
    chosen.iter().fold(U256::ZERO, |sum, candidate| sum.saturating_add(candidate.surplus))
}
