//! A training whose time is up: ends with what it has, is judged like any other, and says so.

use std::sync::{
    Arc,
    atomic::{AtomicI64, Ordering},
};

use karat_core::{Event, Exit, Timestamp, port::NeverStop};
use karat_pipeline::AfterPass;
use karat_testkit::fake::N_UPDATES;

use crate::bench::{Bench, champion};

#[test]
fn time_that_is_up_ends_training_and_the_pass_goes_on_with_what_there_is() {
    let mut bench = Bench::new();
    let now = Arc::new(AtomicI64::new(1_700_000_000_000));
    let clock = Arc::clone(&now);
    bench.clock = Box::new(move || Timestamp(clock.load(Ordering::SeqCst)));
    let store = bench.store();
    let pass =
        bench.pass_with(&store, "train.max_time=20s", AfterPass::Promote, &NeverStop, |it| {
            if matches!(it, Event::Updated(_)) {
                now.fetch_add(7_000, Ordering::SeqCst);
            }
        });
    let whole = pass.done();
    assert_eq!(whole.exit, Exit::Pass);
    assert_eq!(champion(&store), Some(1));
    let train = whole.summary.train.expect("trained");
    assert_eq!(train.n_updates, 3, "7, 14 and 21 seconds");
    assert_eq!(
        train.ended_early.as_deref(),
        Some("time was up (`train.max_time`) after 3 of 6 updates")
    );
    let cost = train.cost.expect("recorded");
    assert_eq!((cost.n_updates, cost.peak_memory), (3, Some(123 << 20)));

    // Found again as it was; without the limit it is another training.
    let again = bench.pass(&store, "train.max_time=20s").done();
    assert_eq!(again.summary.train.expect("found").n_updates, 3);
    let whole = bench.pass(&store, "").done();
    let train = whole.summary.train.expect("trained");
    assert_eq!((train.n_updates, train.ended_early), (N_UPDATES, None));
}
