//! Tests: the plan against the simulation, and the page of the guide against both.

use clap::Parser;

use super::{
    quantity::{short, time},
    queueing::Line,
    *,
};

/// Tasks in each simulation, and as many again for every seven slots where lines are long: they take longer to settle.
const TASKS: u64 = 60_000;
/// How far the formula may be from the simulation …
const TOLERANCE: f64 = 0.2;
/// … unless both waits are shorter than this share of the duration, which nobody notices.
const NOTHING: f64 = 0.01;

#[derive(Parser)]
struct Asked {
    #[command(flatten)]
    load: Load,
}

fn load(arguments: &str) -> Load {
    Asked::try_parse_from(["size"].into_iter().chain(arguments.split_whitespace())).unwrap().load
}

#[test]
fn the_predicted_wait_is_within_a_fifth_of_the_simulated_one() {
    let rows: Vec<String> = std::thread::scope(|scope| {
        let threads = [1, 4, 16, 64].map(|slots| scope.spawn(move || simulated_rows(slots)));
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    let head = "| slots | utilisation | variation | predicted | simulated | off by |\n|---|---|---|---|---|---|\n";
    page_has("the table of the simulation", &format!("{head}{}", rows.concat()));
}

fn simulated_rows(slots: u64) -> Vec<String> {
    let mut rows = Vec::new();
    for utilisation in [0.5, 0.7, 0.8, 0.9] {
        for variation in [0.0, 0.5, 1.0, 2.0] {
            let line = Line { rate: utilisation * slots as f64, duration: 1.0, variation, slots };
            let settled = TASKS + TASKS / 7 * slots;
            let tasks = match utilisation {
                0.9.. => 2 * settled,
                0.8.. => settled,
                _ => TASKS,
            };
            let simulated = simulation::mean_wait(line, tasks, 1);
            let predicted = line.mean_wait();
            if predicted.max(simulated) < NOTHING {
                continue;
            }
            let off = predicted / simulated - 1.0;
            assert!(off.abs() <= TOLERANCE, "{line:?}: predicted {predicted}, simulated {simulated}");
            let (busy, off) = (100.0 * utilisation, 100.0 * off);
            let (predicted, simulated) = (short(predicted), short(simulated));
            rows.push(format!("| {slots} | {busy} % | {variation} | {predicted} | {simulated} | {off:+.0} % |\n"));
        }
    }
    rows
}

#[test]
fn the_examples_of_the_page_are_what_the_tool_prints() {
    for arguments in
        ["--rate 100/s --duration 30s --cpu 0.05 --memory 8Mi", "--rate 600/m --duration 2s --start-within 1s"]
    {
        let load = load(arguments);
        let report = load.plan().unwrap().report(&load);
        page_has(arguments, &format!("$ app size {arguments}\n{report}"));
    }
    let load = load("--rate 600/m --duration 2s --start-within 1s");
    page_has("the patch", &format!("--yaml\n{}", load.plan().unwrap().patch(&load)));
}

#[test]
fn more_load_never_needs_less() {
    let mut needed = 0;
    for rate in [1, 2, 5, 10, 50, 200, 1_000, 5_000] {
        let load = load(&format!("--rate {rate}/s --duration 10s"));
        let (plan, slots) = (load.plan().unwrap(), load.line(load.rate.0).slots);
        assert!(slots >= needed && plan.line.slots >= slots, "{rate}/s");
        assert!(plan.work.least <= plan.work.planned && plan.work.planned <= plan.work.most, "{rate}/s");
        assert!(plan.line.utilisation() <= MOST_UTILISATION, "{rate}/s");
        assert!(plan.line.wait_of(SHARE) <= 5.0, "{rate}/s");
        needed = slots;
    }
}

#[test]
fn a_load_that_cannot_be_planned_says_what_to_change() {
    for (arguments, wanted) in [
        ("--rate 1/s --duration 1s --cpu 3", "--worker-cpu"),
        ("--rate 1/s --duration 1s --memory 4Gi", "--worker-memory"),
        ("--rate 10/s --duration 1s --peak 1/s", "--peak"),
        ("--rate 1/s --duration 0s", "--duration"),
        ("--rate 1000/s --duration 10h", "million"),
    ] {
        let error = load(arguments).plan().unwrap_err();
        assert!(error.contains(wanted), "{arguments}: {error}");
    }
}

/// A wait is counted from the submit; these are the units in which the page speaks of it.
#[test]
fn times_are_written_for_people() {
    assert_eq!((time(0.0), time(3_600.0), time(86_400.0)), ("0 s".into(), "60 min".into(), "24 h".into()));
}

fn page_has(what: &str, text: &str) {
    let page = include_str!("../../docs/sizing.md");
    assert!(page.contains(text.trim_end()), "docs/sizing.md must have {what}:\n\n{text}");
}
