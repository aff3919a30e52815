//! Where a training ran and what is promised of its result: the part of a run's record that a replay compares with.
//!
//! Nothing here decides a bit on one device class: it says where to look when bits differ (docs/design/002-determinism.md).

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::Digest;

/// What reproducibility a run promises. Not a ladder: each is a statement of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Tier {
    /// R0: the same order of rows, dropout masks and initial weights on every device, thread count and restart.
    Order,
    /// R1: interrupted and resumed is uninterrupted, bit for bit. Same device, same binary.
    Resume,
    /// R2: twice is the same bits, in another folder, on another host of the kind, with other threads.
    Repeat,
    /// R3: a row's score does not depend on its batch. Same device.
    Score,
    /// R4: other devices agree within a stated tolerance.
    Close,
}

impl Tier {
    /// All, from R0 to R4.
    pub const ALL: [Self; 5] = [Self::Order, Self::Resume, Self::Repeat, Self::Score, Self::Close];

    /// The word shown to people and stored.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Order => "order",
            Self::Resume => "resume",
            Self::Repeat => "repeat",
            Self::Score => "score",
            Self::Close => "close",
        }
    }

    /// `R2`.
    #[must_use]
    pub const fn number(self) -> &'static str {
        match self {
            Self::Order => "R0",
            Self::Resume => "R1",
            Self::Repeat => "R2",
            Self::Score => "R3",
            Self::Close => "R4",
        }
    }
}

impl fmt::Display for Tier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.number(), self.word())
    }
}

/// Where a training ran, as the engine says before its first update.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Environment {
    /// What is promised of the result, from R0 to R4.
    pub tiers: Vec<Tier>,
    /// Name of the device that computed: `cpu`, `wgpu:0`.
    pub device: String,
    /// What the device calls itself; nothing for `cpu`, whose name is [`Host::processor`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device_name: Option<String>,
    /// Driver and version, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub driver: Option<String>,
    /// Vector instructions of the CPU that were used: `AVX-512`.
    pub instructions: String,
    /// Of the products: `f32`.
    pub precision: String,
    /// Threads that computed. Bits do not depend on it.
    pub n_threads: usize,
    /// Device features this build was compiled with: `wgpu`, `cuda`. None in a build that has only `cpu`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub features: Vec<String>,
    /// What else a reader should know, one short sentence each: a probe that was skipped, a micro-batch that was halved.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub remarks: Vec<String>,
    /// The machine and the program.
    #[serde(default)]
    pub host: Host,
}

/// What the outermost layer knows about itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Host {
    /// What the CPU calls itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub processor: Option<String>,
    /// Digest of the executable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub binary: Option<Digest>,
    /// Whose machine, when CI ran it: `hosted` for one that the CI service lends for a single run, else `self-hosted`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runner: Option<String>,
}

impl Environment {
    /// `R0 order, R1 resume, R2 repeat, R3 score`, or `nothing`.
    #[must_use]
    pub fn tiers_text(&self) -> String {
        if self.tiers.is_empty() {
            return "nothing".to_owned();
        }
        let words: Vec<String> = self.tiers.iter().map(Tier::to_string).collect();
        words.join(", ")
    }

    /// `cpu (AMD EPYC 9R14, AVX-512), 2 threads, f32`.
    #[must_use]
    pub fn device_text(&self) -> String {
        let name = self.device_name.as_ref().or(self.host.processor.as_ref());
        let inside: Vec<&str> = [name, self.driver.as_ref(), Some(&self.instructions)]
            .into_iter()
            .flatten()
            .map(String::as_str)
            .filter(|it| !it.is_empty())
            .collect();
        let inside =
            if inside.is_empty() { String::new() } else { format!(" ({})", inside.join(", ")) };
        let threads = if self.n_threads == 1 { "thread" } else { "threads" };
        format!("{}{inside}, {} {threads}, {}", self.device, self.n_threads, self.precision)
    }

    /// What differs from `other` and may explain other bits: name, value here, value there.
    #[must_use]
    pub fn differences(&self, other: &Self) -> Vec<(&'static str, String, String)> {
        let text = |it: &Option<String>| it.clone().unwrap_or_else(|| "unknown".to_owned());
        let digest = |it: &Option<Digest>| it.map_or_else(|| "unknown".to_owned(), |it| it.short());
        let facts = |it: &Self| {
            [
                ("device", it.device.clone()),
                ("device name", text(&it.device_name)),
                ("driver", text(&it.driver)),
                ("processor", text(&it.host.processor)),
                ("vector instructions", it.instructions.clone()),
                ("precision", it.precision.clone()),
                ("threads", it.n_threads.to_string()),
                ("features", it.features.join(", ")),
                ("executable", digest(&it.host.binary)),
            ]
        };
        let both = facts(self).into_iter().zip(facts(other));
        both.filter(|(a, b)| a.1 != b.1).map(|((what, a), (_, b))| (what, a, b)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::{Environment, Host, Tier};
    use crate::Digest;

    fn cpu() -> Environment {
        Environment {
            tiers: Tier::ALL[..4].to_vec(),
            device: "cpu".to_owned(),
            instructions: "AVX-512".to_owned(),
            precision: "f32".to_owned(),
            n_threads: 2,
            host: Host {
                processor: Some("AMD EPYC 9R14".to_owned()),
                binary: Some(Digest::of(b"karat")),
                runner: None,
            },
            ..Environment::default()
        }
    }

    #[test]
    fn a_reader_sees_the_tiers_and_the_machine_in_a_few_words() {
        assert_eq!(cpu().tiers_text(), "R0 order, R1 resume, R2 repeat, R3 score");
        assert_eq!(cpu().device_text(), "cpu (AMD EPYC 9R14, AVX-512), 2 threads, f32");
        let gpu = Environment {
            device: "wgpu:0".to_owned(),
            device_name: Some("llvmpipe".to_owned()),
            driver: Some("Mesa 22.3.6".to_owned()),
            instructions: String::new(),
            n_threads: 1,
            ..cpu()
        };
        assert_eq!(gpu.device_text(), "wgpu:0 (llvmpipe, Mesa 22.3.6), 1 thread, f32");
        assert_eq!(Environment::default().tiers_text(), "nothing");
    }

    #[test]
    fn differences_name_what_may_explain_other_bits() {
        assert_eq!(cpu().differences(&cpu()), []);
        let mut other = cpu();
        (other.n_threads, other.host.binary) = (3, None);
        let found = cpu().differences(&other);
        assert_eq!(found[0], ("threads", "2".to_owned(), "3".to_owned()));
        assert_eq!((found[1].0, found[1].2.as_str(), found.len()), ("executable", "unknown", 2));
    }

    #[test]
    fn a_record_without_optional_fields_reads_back() {
        let text = serde_json::to_string(&cpu()).expect("serialises");
        assert_eq!(serde_json::from_str::<Environment>(&text).expect("reads back"), cpu());
        let bare = r#"{"tiers":["order"],"device":"cpu","instructions":"","precision":"f32","n_threads":1}"#;
        let bare: Environment = serde_json::from_str(bare).expect("reads");
        assert_eq!(bare.tiers, [Tier::Order]);
    }
}
