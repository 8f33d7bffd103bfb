//! Deterministic simulation: coordinator and sessions in a scripted world with
//! virtual time, in which everything follows from one seed.
//!
//! `SIM_GO_ON=1` goes on where a seed fails, and prints each that does.
//! `SIM_SEED=17 cargo test --test simulation` replays one seed with a trace;
//! `SIM_SEEDS=1000000 cargo test --release --test simulation` runs that many,
//! which takes 5 to 10 minutes on two cores; the ordinary 20,000 take about 20 s
//! in a test build.

#[path = "support/mended.rs"]
mod mended;

mod simulation {
    pub mod accounts;
    pub mod attempts;
    pub mod callbacks;
    pub mod effects;
    pub mod faults;
    pub mod logins;
    pub mod model;
    pub mod orders;
    pub mod peer;
    pub mod plan;
    pub mod portions;
    pub mod scribe;
    pub mod truth;
    pub mod wire;
    pub mod world;
}

use std::any::Any;
use std::panic::catch_unwind;
use std::sync::atomic::{AtomicU64, Ordering};

use simulation::world::{self, Effort};

/// Seeds of the ordinary test.
const SEEDS: u64 = 20_000;

const THREADS: usize = 2;

#[test]
fn every_seed_keeps_the_promises() {
    if let Some(seed) = number("SIM_SEED") {
        let effort = world::run(seed, true);
        println!("seed {seed}: {effort:?}");
        return;
    }
    let seeds = number("SIM_SEEDS").unwrap_or(SEEDS);
    let next = AtomicU64::new(0);
    let efforts = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..THREADS).map(|_| scope.spawn(|| work(&next, seeds))).collect();
        workers.into_iter().map(|worker| worker.join().expect("a worker")).collect::<Vec<Effort>>()
    });
    let mails: u64 = efforts.iter().map(|effort| effort.mails).sum();
    let delivered: u64 = efforts.iter().map(|effort| effort.delivered).sum();
    let settles: u64 = efforts.iter().map(|effort| effort.settles).sum();
    println!("{seeds} seeds, {mails} mails, {delivered} delivered, {settles} settles");
    assert!(delivered > 0 && delivered < mails, "the faults are too weak or too strong");
}

/// Runs seeds until there are none left.
fn work(next: &AtomicU64, seeds: u64) -> Effort {
    let mut sum = Effort::default();
    loop {
        let seed = next.fetch_add(1, Ordering::Relaxed);
        if seed >= seeds {
            return sum;
        }
        match catch_unwind(|| world::run(seed, false)) {
            Ok(effort) => {
                sum.mails += effort.mails;
                sum.delivered += effort.delivered;
                sum.settles += effort.settles;
            }
            Err(payload) => {
                let said = text(payload.as_ref());
                if number("SIM_GO_ON").is_some() {
                    println!("seed {seed}: {}", said.lines().next().unwrap_or_default());
                    continue;
                }
                next.store(u64::MAX / 2, Ordering::Relaxed);
                panic!(
                    "seed {seed}: {said}\nreplay: SIM_SEED={seed} cargo test --test simulation -- --nocapture"
                );
            }
        }
    }
}

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} is no number: {text}")))
}

fn text(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<String>().cloned();
    text.or_else(|| payload.downcast_ref::<&str>().map(|text| (*text).to_owned())).unwrap_or_default()
}
