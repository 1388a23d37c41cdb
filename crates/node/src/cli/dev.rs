//! `lockstep dev`.

use std::{net::SocketAddr, path::PathBuf, process::ExitCode};

use alloy_primitives::{Address, U64, U256};
use clap::Args;
use jsonrpsee::http_client::HttpClient;
use lockstep_rpc::{
    api::MarketApiClient,
    wire::{RevenueParams, SlotReport},
};
use serde_json::{Value, json};
use tokio::sync::broadcast::error::RecvError;

use super::line;
use crate::{
    clock::{now_ms, sleep_until},
    config::MechanismName,
    dev::{Contest, Demo, Dev, DevOptions, MAX_ROLLUPS, RunningContest, USERS, builder, example_request, rival, silent, user},
    record::{DEFAULT_RECORD_SLOTS, SlotRecords},
    roles::client,
};

/// How long what a slot brought is waited for, and how often it is asked for.
const REVENUE_MS: u64 = 500;
const LOOK_MS: u64 = 20;

/// The arguments of `lockstep dev`.
#[derive(Debug, Args)]
pub(super) struct DevArgs {
    /// How many rollups: Ethereum rules and OP-stack rules in turn. [default: 2, with --demo 3]
    #[arg(long, value_parser = clap::value_parser!(u8).range(1..=MAX_ROLLUPS as i64))]
    rollups: Option<u8>,
    /// Send a stream of bundles of all kinds, some of which must fail, and print a line a slot.
    #[arg(long)]
    demo: bool,
    /// Have others bid as well, and print a line a slot: who got it, and what became of it.
    #[arg(long, value_enum, conflicts_with = "demo")]
    contest: Option<Contest>,
    /// Stop after this many slots.
    #[arg(long)]
    slots: Option<u64>,
    /// One JSON object a slot on standard output, and nothing else.
    #[arg(long)]
    json: bool,
    /// Where to listen; port 0 takes a free one.
    #[arg(long, env = "LOCKSTEP_LISTEN", default_value = "127.0.0.1:8545")]
    listen: SocketAddr,
    /// Length of a slot in milliseconds.
    #[arg(long, default_value_t = 2_000, value_parser = clap::value_parser!(u64).range(1_000..=60_000))]
    slot_ms: u64,
    /// Seconds between blocks, one a rollup, separated by commas; the last one counts for the rest.
    #[arg(long, value_delimiter = ',', default_value = "2")]
    block_times: Vec<u64>,
    /// Folder to keep what is acknowledged; in memory without one.
    #[arg(long, env = "LOCKSTEP_DATA")]
    data: Option<PathBuf>,
    /// The rollups' reserve price in wei.
    #[arg(long, default_value = "1000000000")]
    reserve: U256,
    /// How the market sells.
    #[arg(long, value_enum, default_value_t = MechanismName::default())]
    mechanism: MechanismName,
    /// What the builder deposits in wei; with 0 bids need no cover, and nothing is collected.
    #[arg(long, default_value = "1000000000000000000000")]
    deposit: U256,
    /// Bids are sealed: nobody, the market included, can read them before the bidding ends. Needs a deposit.
    #[arg(long)]
    sealed: bool,
    /// Slots are sold ahead of time, four at once; what is not bought then is sold just before.
    #[arg(long)]
    ahead: bool,
    /// Rollups take encrypted transactions, which a committee in this process opens after the lists are decided.
    #[arg(long)]
    encrypted: bool,
    /// Folder to record slots in, for `lockstep replay`; the newest 100 stay.
    #[arg(long)]
    record: Option<PathBuf>,
}

impl DevArgs {
    pub(super) async fn run(self) -> Result<ExitCode, String> {
        if self.block_times.contains(&0) {
            return Err("--block-times: a block time is at least 1 second".to_owned());
        }
        if self.sealed && self.deposit.is_zero() {
            return Err("--sealed: what is not opened is forfeited from deposits, so --deposit cannot be 0".to_owned());
        }
        if self.ahead && (self.sealed || self.mechanism == MechanismName::Tickets) {
            return Err("--ahead: bids for several slots at once are not sealed, and tickets are no bids".to_owned());
        }
        let options = DevOptions {
            listen: self.listen,
            rollups: usize::from(self.rollups.unwrap_or(if self.demo { 3 } else { 2 })),
            slot_ms: self.slot_ms,
            block_times: self.block_times.clone(),
            data: self.data.clone(),
            reserve: self.reserve,
            mechanism: self.mechanism,
            deposit: Some(self.deposit).filter(|deposit| !deposit.is_zero()),
            sealed: self.sealed,
            ahead: self.ahead,
            encrypted: self.encrypted,
            record: self.record.clone().map(|folder| SlotRecords { folder, slots: DEFAULT_RECORD_SLOTS }),
            ..DevOptions::default()
        };
        let options = self.contest.map_or(options.clone(), |contest| contest.options(options));
        let dev = Dev::start(options).await.map_err(|error| error.to_string())?;
        let mut reports = dev.process.reports().ok_or("dev has no builder")?;
        if !self.json {
            introduce(&dev)?;
        }
        let mut demo = if self.demo { Some(Demo::new(&dev)?) } else { None };
        if let Some(demo) = &mut demo {
            demo.send(&dev.process).await;
        }
        let mut contest = match self.contest {
            Some(contest) => Some(RunningContest::start(contest, &dev).await?),
            None => None,
        };
        if let Some(contest) = &mut contest {
            contest.play(&dev).await;
        }
        let market = client(&dev.process.url()).map_err(|error| error.to_string())?;
        let mut seen = 0;
        loop {
            let report = tokio::select! {
                report = reports.recv() => report,
                _ = tokio::signal::ctrl_c() => break,
            };
            let report = match report {
                Ok(report) => report,
                Err(RecvError::Lagged(_)) => continue,
                Err(RecvError::Closed) => break,
            };
            if self.json || self.contest.is_some() {
                let report = with_revenue(&market, &dev, &report).await?;
                line(&if self.json { report.to_string() } else { sold_in_words(&report) })?;
            } else if self.demo {
                line(&in_words(&report))?;
            }
            seen += 1;
            if self.slots.is_some_and(|slots| seen >= slots) {
                break;
            }
            if let Some(demo) = &mut demo {
                demo.note(&report);
                demo.settle(&dev, report.end).await;
                demo.send(&dev.process).await;
            }
            if let Some(contest) = &mut contest {
                contest.play(&dev).await;
            }
        }
        if let Some(contest) = contest {
            contest.stop().await;
        }
        dev.process.stop().await;
        Ok(ExitCode::SUCCESS)
    }
}

/// A slot's report, and beside it what the slot brought each rollup. Sequencers report on a slot when it begins, so it is mostly
/// known when the slot is over; it is waited for a little.
async fn with_revenue(market: &HttpClient, dev: &Dev, report: &SlotReport) -> Result<Value, String> {
    let slot = RevenueParams { from_slot: Some(report.slot), to_slot: Some(report.slot.saturating_add(1)) };
    let mut revenue = Vec::new();
    for rollup in &dev.rollups {
        let chain = U64::from(rollup.chain);
        let until_ms = now_ms().saturating_add(REVENUE_MS);
        loop {
            let answer = market.get_revenue(chain, Some(slot)).await.map_err(|error| error.to_string())?;
            let one = answer.slots.into_iter().next();
            if one.as_ref().is_none_or(|one| one.ending.is_some()) || now_ms() >= until_ms {
                if let Some(one) = one {
                    let mut one = serde_json::to_value(one).map_err(|error| error.to_string())?;
                    one["chainId"] = json!(chain);
                    revenue.push(one);
                }
                break;
            }
            sleep_until(now_ms().saturating_add(LOOK_MS)).await;
        }
    }
    let mut value = serde_json::to_value(report).map_err(|error| error.to_string())?;
    value["revenue"] = Value::Array(revenue);
    Ok(value)
}

/// Who got a slot, and what became of it.
fn sold_in_words(report: &Value) -> String {
    let known: Vec<(Address, String)> = std::iter::once((builder().address(), "the builder".to_owned()))
        .chain((0..2).map(|index| (rival(index).address(), format!("rival {index}"))))
        .chain([(silent().address(), "the silent bidder".to_owned())])
        .collect();
    let text = |value: &Value| value.as_str().unwrap_or("nothing").to_owned();
    let named = |holder: &str| {
        let known = known.iter().find(|(address, _)| holder.parse::<Address>().is_ok_and(|holder| holder == *address));
        known.map_or_else(|| "its default proposer".to_owned(), |(_, name)| name.clone())
    };
    let sales = report["revenue"].as_array().into_iter().flatten().map(|one| {
        let (chain, holder) = (text(&one["chainId"]), named(one["holder"].as_str().unwrap_or_default()));
        format!("{chain} to {holder} for {}, {}, paid {}", text(&one["price"]), text(&one["ending"]), text(&one["paid"]))
    });
    format!(
        "slot {}: {} bids | {}",
        report["slot"],
        report["bids"].as_array().map_or(0, Vec::len),
        sales.collect::<Vec<_>>().join(" | ")
    )
}

fn introduce(dev: &Dev) -> Result<(), String> {
    let url = dev.process.url();
    line(&format!("Lockstep is running. Market, sequencers and builder: {url}"))?;
    for rollup in &dev.rollups {
        let rules = rollup.rollup.newest().map(|block| format!("{:?}", block.context.rules)).unwrap_or_default();
        let (chain, domain, network) = (rollup.chain, rollup.domain, rollup.network);
        line(&format!("  rollup {chain} ({rules}, CCTP domain {domain}, AggLayer network {network}): {url}/rollup/{chain}"))?;
    }
    line(&format!("Health: {url}/livez {url}/readyz, metrics: {url}/metrics"))?;
    line(&format!("Builder (pay it, or tip): {}", builder().address()))?;
    line("Accounts, with funds on every rollup and approvals in place:")?;
    for index in 0..USERS {
        line(&format!("  {} {}", user(index).address(), user(index).reveal()))?;
    }
    let contracts = &dev.contracts;
    line("Contracts, at the same addresses on every rollup:")?;
    let (v2, interop, agglayer) = (&contracts.cctp_v2, &contracts.interop, &contracts.agglayer);
    let (mailbox, settlers) = (&contracts.mailbox, &contracts.settlers);
    for (name, address) in [
        ("USDC", contracts.usdc),
        ("TokenMessenger", contracts.token_messenger),
        ("MessageTransmitter", contracts.message_transmitter),
        ("TokenMinter", contracts.token_minter),
        ("TokenMessengerV2", v2.token_messenger),
        ("MessageTransmitterV2", v2.message_transmitter),
        ("TokenMinterV2", v2.token_minter),
        ("CctpHookWrapper", v2.hook_wrapper),
        ("CrossL2Inbox", interop.inbox),
        ("L2ToL2CrossDomainMessenger", interop.messenger),
        ("SuperchainTokenBridge", interop.token_bridge),
        ("SuperchainErc20", interop.token),
        ("BridgeL2SovereignChain", agglayer.bridge),
        ("GlobalExitRootManagerL2", agglayer.exit_root_manager),
        ("Mailbox", mailbox.mailbox),
        ("MailboxTokenBridge", mailbox.token_bridge),
        ("MailboxErc20", mailbox.token),
        ("OriginSettler", settlers.origin),
        ("DestinationSettler", settlers.destination),
        ("NftShop", contracts.nft_shop),
        ("WETH", contracts.weth),
        ("Router", contracts.router),
        ("Probe", contracts.probe),
    ] {
        line(&format!("  {name:<27}{address}"))?;
    }
    if let Some(example) = example_request(dev) {
        line("Burn USDC on the first rollup, mint it on the second and buy an NFT with it, or nothing of that:")?;
        line(&example)?;
    }
    Ok(())
}

fn in_words(report: &SlotReport) -> String {
    let landed = report.bundles.iter().filter(|bundle| bundle.state == "landed").count();
    let blocks: usize = report.rollups.iter().map(|rollup| rollup.blocks.len()).sum();
    let bundles: Vec<String> = report
        .bundles
        .iter()
        .map(|bundle| match (&bundle.reason, bundle.state.as_str()) {
            (Some(reason), state) => format!("{} {state} ({reason})", bundle.kind),
            (None, state) => format!("{} {state} {}", bundle.kind, bundle.level),
        })
        .collect();
    format!(
        "slot {}: {blocks} blocks, {landed} bundles landed, value {} wei | {}",
        report.slot,
        report.value.0,
        bundles.join(", ")
    )
}
