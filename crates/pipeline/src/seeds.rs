//! One recipe, several seeds: what a claim about a *recipe* rests on, where a claim about one trained model needs only rows.
//!
//! Each seed is a training of its own, recorded and cached like any other. The first is the candidate and is registered; the
//! others are never promoted, so nothing but their runs names them.

use karat_core::{Digest, Failure, Observer, Project, Step};
use serde_json::json;

use crate::{
    Lab, ModelManifest,
    freeze::{Frozen, to_value},
    lab::Asked,
};

impl Lab<'_> {
    /// Trains the recipe with every seed after the candidate's: `train.seed` + 1, + 2, … up to `train.seeds` in all.
    pub fn train_seeds(
        &self,
        observer: &mut dyn Observer,
        project: &Project,
        frozen: &Frozen,
    ) -> Result<(), Failure> {
        for nth in 1..project.n_seeds {
            let mut other = project.clone();
            other.train.seed = seed(project.train.seed, nth);
            let mut asked = self.train_asked(&other, frozen)?;
            let (n, of) = (nth + 1, project.n_seeds);
            asked.subject.push_str(&format!(", seed {} ({n} of {of})", other.train.seed));
            let _ = self.step(observer, asked, |handle, observer| {
                self.train_now(handle, observer, &other, frozen)
            })?;
        }
        Ok(())
    }

    /// Seeds and manifests of the same recipe with other seeds, as far as they were trained: at most `n_seeds` − 1, in the seeds' order.
    /// The recipe is the manifest's own, whatever `karat.toml` says today.
    pub(crate) fn seeds_of(
        &self,
        observer: &mut dyn Observer,
        manifest: &ModelManifest,
        n_seeds: u32,
    ) -> Result<Vec<(u64, Digest)>, Failure> {
        let mut found = Vec::new();
        for nth in 1..n_seeds {
            let mut spec = manifest.spec.clone();
            spec.seed = seed(spec.seed, nth);
            let asked = Asked {
                step: Step::Train,
                subject: String::new(),
                spec: json!({ "train": to_value(&spec)?, "splits": manifest.splits }),
                inputs: [("snapshot".to_owned(), manifest.snapshot)].into(),
                seed: Some(spec.seed),
                device: manifest.device.clone(),
                total: None,
            };
            let run = self.store.cached_run(Step::Train, &asked.key(&manifest.tool))?;
            self.pass_warnings(observer);
            let other = run.and_then(|it| it.outputs.get("model.json").copied());
            found.extend(other.map(|it| (spec.seed, it)));
        }
        Ok(found)
    }
}

fn seed(first: u64, nth: u32) -> u64 {
    first.wrapping_add(u64::from(nth))
}
