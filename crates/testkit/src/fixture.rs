//! Small data with a known relation: subscribers that churn, drawn from a fixed stream.

use std::fmt::Write as _;

use karat_core::rng::{Purpose, Stream};

/// Rows of [`churn_csv`] that train in well under a second and still decide a gate.
pub const CHURN_ROWS: u32 = 3000;

/// `n` subscribers as CSV: `id, joined, region, plan, age, spend, churned`. `age` is missing in about 5 % of the rows.
/// The label depends on plan, spend and region; a good model reaches an AUC of about 0.85.
#[must_use]
pub fn churn_csv(n: u32) -> String {
    let mut text = "id,joined,region,plan,age,spend,churned\n".to_owned();
    for row in churn_rows(0, n) {
        text.push_str(&row);
    }
    text
}

/// Lines `from..to` of [`churn_csv`], without the header.
#[must_use]
pub fn churn_rows(from: u32, to: u32) -> Vec<String> {
    let stream = Stream::new(11, Purpose::Permute, "churn fixture");
    (from..to)
        .map(|id| {
            let u = |lane: u32| stream.uniform(lane, 0, u64::from(id));
            let pick = |x: f32, n: f32| (x * n) as usize;
            let region = ["north", "south", "east", "west"][pick(u(0), 4.0)];
            let plan = ["basic", "plus", "pro"][pick(u(1), 3.0)];
            let spend = 10.0 + 90.0 * u(2);
            let age = 18 + pick(u(3), 60.0);
            let lift = match plan {
                "basic" => 1.2,
                "plus" => 0.0,
                _ => -1.4,
            };
            let logit = lift
                + 2.5 * (0.5 - (spend - 10.0) / 90.0)
                + if region == "east" { 1.0 } else { -0.3 };
            let churned = u(4) < 1.0 / (1.0 + (-1.6 * logit).exp());
            let mut line = String::new();
            let (month, day) = (1 + id % 12, 1 + id % 28);
            let _ = write!(line, "{id},2024-{month:02}-{day:02},{region},{plan},");
            if 0.05 <= u(5) {
                let _ = write!(line, "{age}");
            }
            let _ = writeln!(line, ",{spend:.2},{}", if churned { "yes" } else { "no" });
            line
        })
        .collect()
}
