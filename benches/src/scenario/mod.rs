//! The scenarios: each a file that answers one question.

use crate::{Failed, Flag, Options, Report};

mod baselines;
mod build;
mod durable;
mod filled;
mod groups;
mod increment;
mod intake;
mod market;
mod money;
mod optimal;
mod peer_signet;
mod scale;
mod simulate;
mod slot;

/// A question and how it is answered.
#[derive(Clone, Copy, Debug)]
pub struct Scenario {
    /// What it is called on the command line.
    pub name: &'static str,
    /// What it answers.
    pub question: &'static str,
    /// Which options it takes; the others are refused.
    pub takes: &'static [Flag],
    /// Answers it.
    pub run: fn(&Options) -> Result<Report, Failed>,
}

/// All of them.
pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "simulate",
        question: "how many bundles a second are simulated, beside a bare revm loop over the same bundles?",
        takes: simulate::TAKES,
        run: simulate::run,
    },
    Scenario {
        name: "baselines",
        question: "what do other ways to build take and earn on the same bundles?",
        takes: baselines::TAKES,
        run: baselines::run,
    },
    Scenario {
        name: "build",
        question: "how fast is there a proposal of a busy slot, sealed and verified, and how good is it?",
        takes: build::TAKES,
        run: build::run,
    },
    Scenario {
        name: "increment",
        question: "how long does one bundle more, replaced or cancelled among thousands take to be in the proposal?",
        takes: increment::TAKES,
        run: increment::run,
    },
    Scenario {
        name: "scale",
        question: "how do times and memory grow with rollups, pending bundles, bundles over several rollups, and conflicts?",
        takes: scale::TAKES,
        run: scale::run,
    },
    Scenario {
        name: "intake",
        question: "how many bundles a second are taken in, each on disk before it is acknowledged, beside server and signatures?",
        takes: intake::TAKES,
        run: intake::run,
    },
    Scenario {
        name: "durable",
        question: "what does it cost that bundles are on disk before they are acknowledged, and how fast are they back?",
        takes: durable::TAKES,
        run: durable::run,
    },
    Scenario {
        name: "market",
        question: "how long does it take to find out who wins a slot, of how many sellers and bids?",
        takes: market::TAKES,
        run: market::run,
    },
    Scenario {
        name: "optimal",
        question: "is what is built of a few bundles the best of all subsets in all orders?",
        takes: optimal::TAKES,
        run: optimal::run,
    },
    Scenario {
        name: "slot",
        question: "how long after the last accepted bundle are the bids of a slot out, and is a deadline ever missed?",
        takes: slot::TAKES,
        run: slot::run,
    },
    Scenario {
        name: "peer-signet",
        question: "what do signet-sim and we take and earn on one host and one rollup, on the same transactions and bundles?",
        takes: peer_signet::TAKES,
        run: peer_signet::run,
    },
];

/// The names of all scenarios, their questions and options.
pub fn list() -> String {
    let lines: Vec<String> = SCENARIOS
        .iter()
        .map(|scenario| {
            let takes: Vec<String> = scenario.takes.iter().map(Flag::to_string).collect();
            format!("{:<14} {}\n{:<14} --seed {}", scenario.name, scenario.question, "", takes.join(" "))
        })
        .collect();
    lines.join("\n")
}

/// Runs the scenario that the options name.
///
/// # Errors
/// When there is none of that name, when an option does not fit it, or when it fails.
pub fn run(options: &Options) -> Result<Report, Failed> {
    let Some(scenario) = SCENARIOS.iter().find(|scenario| scenario.name == options.scenario) else {
        return Err(format!("there is no scenario `{}`; there are:\n{}", options.scenario, list()).into());
    };
    options.check_taken(scenario.takes)?;
    (scenario.run)(options)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scenario_that_does_not_exist_is_refused_with_the_names_of_those_that_do() {
        let error = run(&Options::of("nothing")).unwrap_err().to_string();
        assert!(SCENARIOS.iter().all(|scenario| error.contains(scenario.name)), "{error}");
    }

    #[test]
    fn no_two_scenarios_have_one_name() {
        let names: std::collections::BTreeSet<&str> = SCENARIOS.iter().map(|scenario| scenario.name).collect();
        assert_eq!(names.len(), SCENARIOS.len());
    }
}
