//! Step `sign`: who stands for a version, and whether anybody whom the gate trusts does.
//!
//! Signing writes four documents: a signature over the model's files, one over its verdict, one over how it was trained,
//! and a bill of materials. They are the outputs of a run, as everything a step makes; a promotion looks for them there
//! and believes no record: it checks each signature against the keys that the policy names, and the bytes against what was
//! signed (docs/design/019-attestations.md).

use std::collections::BTreeMap;

use karat_attest::{
    AttestError, Bundle, PublicKey, SigningKey, bom, bundle,
    key::KEY_BYTES_MAX,
    oms::{self, Files, Manifest},
    provenance::{self, Training},
    verdict,
};
use karat_core::{
    Digest, Exit, Failure, LabelPlan, Observer, Step, Task, Timestamp, Verdict,
    policy::{Gate, Policy},
};
use karat_store::{PAGE_ROWS_MAX, RunQuery, RunState, Span, VersionRecord};
use serde_json::json;

use crate::{
    Lab, ModelManifest,
    freeze::to_value,
    lab::{Asked, Done},
    promote::last_pass,
    train::environment,
};

/// The signature over the model's files.
pub const MODEL_SIGNATURE: &str = "model.sig";
/// The signed verdict.
pub const VERDICT_SIGNATURE: &str = "verdict.sig";
/// The signed provenance.
pub const PROVENANCE_SIGNATURE: &str = "provenance.sig";
/// The bill of materials.
pub const BILL: &str = "bom.cdx.json";
/// The folder that is signed: the part of a version that others are given.
pub const MODEL_FOLDER: &str = "model";
/// Signings of one version that a promotion looks through, newest first.
const SIGNINGS_MAX: u32 = PAGE_ROWS_MAX;

/// Who signs, and what the outermost layer knows for the documents.
#[derive(Clone, Copy, Debug)]
pub struct Signer<'a> {
    /// The key.
    pub key: &'a SigningKey,
    /// `Cargo.lock` of this program.
    pub lock: Digest,
    /// `SOURCE_DATE_EPOCH`, which stands for every time in the documents.
    pub epoch: Option<Timestamp>,
}

/// A version's files as they are signed.
#[must_use]
pub fn files_of(version: &VersionRecord) -> Files {
    version.outputs.clone()
}

impl Lab<'_> {
    /// Signs `version`, its verdict if it has one, and its training. Returns the documents and that verdict; with the files
    /// of the version, which others get as a folder [`MODEL_FOLDER`], they are all that it takes to verify.
    pub fn sign(
        &self,
        observer: &mut dyn Observer,
        version: &VersionRecord,
        verdict: Option<Digest>,
        signer: Signer<'_>,
    ) -> Result<BTreeMap<String, Digest>, Failure> {
        let files = files_of(version);
        for (name, digest) in &files {
            if !self.store.contains(digest, true)? {
                return Err(Failure::new(
                    "object-missing",
                    Exit::Run,
                    format!(
                        "`{name}` of {} is not in the store, or does not match its digest",
                        version.label()
                    ),
                )
                .detail("nothing was signed")
                .hint("`karat verify` checks the whole store"));
            }
        }
        let mut inputs = BTreeMap::from([("model".to_owned(), version.manifest)]);
        inputs.extend(verdict.map(|it| ("verdict".to_owned(), it)));
        let asked = Asked {
            step: Step::Sign,
            subject: version.label(),
            spec: json!({
                "version": version.label(),
                "key": signer.key.public().fingerprint(),
                "lock": signer.lock,
                "epoch": signer.epoch,
            }),
            inputs,
            seed: None,
            device: String::new(),
            total: None,
        };
        let recorded = self.step(observer, asked, |_, _| {
            let judged = verdict.map(|it| Ok::<_, Failure>((self.store.verdict(&it)?, it)));
            let judged = judged.transpose()?;
            let mut outputs = BTreeMap::new();
            let mut keep = |name: &str, text: String| -> Result<(), Failure> {
                outputs.insert(name.to_owned(), self.store.put_bytes(text.as_bytes())?);
                Ok(())
            };
            let model = oms::statement(MODEL_FOLDER, &files)?;
            keep(MODEL_SIGNATURE, bundle::sign(&model, signer.key))?;
            if let Some((judged, digest)) = &judged {
                let statement = verdict::statement(judged, digest, &files);
                keep(VERDICT_SIGNATURE, bundle::sign(&statement, signer.key))?;
            }
            let told = judged.as_ref().map(|(verdict, digest)| (verdict, *digest));
            let (training, bill) = self.told(version, &files, told, signer)?;
            keep(PROVENANCE_SIGNATURE, bundle::sign(&training, signer.key))?;
            keep(BILL, bill)?;
            let public = signer.key.public();
            let summary = format!(
                "{} · {} files and {}, key {}",
                version.label(),
                files.len(),
                judged.map_or("no verdict", |(it, _)| verdict::result(&it)),
                &public.fingerprint()[..8]
            );
            Ok(Done { outputs, metrics: json!({ "key": public.fingerprint() }), summary })
        })?;
        let mut all = recorded.outputs;
        all.extend(verdict.map(|it| ("verdict.json".to_owned(), it)));
        Ok(all)
    }

    /// Provenance and bill of materials, from what is on record.
    fn told(
        &self,
        version: &VersionRecord,
        files: &Files,
        verdict: Option<(&Verdict, Digest)>,
        signer: Signer<'_>,
    ) -> Result<(karat_attest::Statement, String), Failure> {
        let manifest = ModelManifest::open(self, &version.manifest)?;
        let run = self.store.run(&version.run.0)?;
        if run.outputs.get("model.json") != Some(&version.manifest) {
            return Err(Failure::new(
                "record-altered",
                Exit::Run,
                format!(
                    "`{}` has another model manifest than its run `{}` made",
                    version.label(),
                    run.id
                ),
            )
            .detail("nothing was signed"));
        }
        let dataset = format!("{}@{}", manifest.spec.dataset, manifest.snapshot.short());
        let ended = signer.epoch.or(run.ended_at);
        let training = provenance::statement(&Training {
            label: version.label(),
            files,
            manifest: version.manifest,
            spec: run.spec,
            seed: run.seed,
            dataset: dataset.clone(),
            snapshot: manifest.snapshot,
            policy: verdict.map(|(it, _)| it.judged.policy),
            verdict: verdict.map(|(_, digest)| digest),
            environment: environment(&run.metrics),
            device: run.device,
            code: run.code,
            tool: run.tool,
            lock: Some(signer.lock),
            run: version.run.to_string(),
            times: [signer.epoch.or(Some(run.started_at)), ended],
            log: version.outputs.get("metrics.jsonl").copied(),
            chain: manifest.chain,
        });
        let spec = to_value(&manifest.spec.model)?;
        let plan = &manifest.plan;
        let columns = plan.features.iter().map(|it| it.column.clone());
        let bill = bom::cyclonedx(&bom::Model {
            name: version.model.as_str(),
            version: version.version,
            files,
            architecture: spec.get("kind").and_then(|it| it.as_str()).unwrap_or("unknown"),
            task: match plan.label.task() {
                Task::Binary => "binary classification",
                Task::Multiclass => "multiclass classification",
                Task::Regression => "regression",
            },
            label: match &plan.label {
                LabelPlan::Binary { column, .. }
                | LabelPlan::Multiclass { column, .. }
                | LabelPlan::Regression { column, .. } => column,
            },
            features: columns.chain(plan.image.iter().map(|it| it.column.clone())).collect(),
            n_parameters: manifest.n_parameters,
            dataset: &dataset,
            snapshot: manifest.snapshot,
            n_rows: manifest.n_rows,
            verdict,
            tool: &manifest.tool,
            at: ended,
        });
        Ok((training, bill))
    }

    /// The verdict that is signed with a version: the one that lets it be promoted, else the last word about it.
    pub fn verdict_to_sign(
        &self,
        version: &VersionRecord,
        policy: Option<&Policy>,
    ) -> Result<Option<Digest>, Failure> {
        let verdicts = self.store.verdicts_of(&version.manifest)?;
        let passing = policy.and_then(|it| last_pass(&verdicts, it));
        Ok(passing.or(verdicts.first().map(|(digest, _)| *digest)))
    }

    /// The keys that the gate trusts; none when it demands no signature.
    pub fn signature_keys(&self, gate: &Gate) -> Result<Option<Vec<PublicKey>>, Failure> {
        let Some(signatures) = &gate.signatures else { return Ok(None) };
        let keys = signatures.keys.iter().map(|path| read_key(self.root, path));
        Ok(Some(keys.collect::<Result<_, _>>()?))
    }

    /// An error unless, where the gate demands it, a trusted key signed exactly these files and exactly this verdict.
    pub fn demand_signatures(
        &self,
        gate: &Gate,
        version: &VersionRecord,
        verdict: &Digest,
    ) -> Result<(), Failure> {
        let Some(keys) = self.signature_keys(gate)? else { return Ok(()) };
        let files = files_of(version);
        let signs_model = |bytes: &[u8]| {
            let verified = Bundle::parse(bytes)?.verify(&keys)?;
            Manifest::read(&verified)?.compare(&files).map(|()| true)
        };
        let signs_verdict = |bytes: &[u8]| {
            let verified = Bundle::parse(bytes)?.verify(&keys)?;
            verdict::check(&verified, &version.manifest, verdict).map(|it| it.is_some())
        };
        let signings = self.signings(version)?;
        self.demand_one(gate, version, &signings, (MODEL_SIGNATURE, "its files"), signs_model)?;
        self.demand_one(
            gate,
            version,
            &signings,
            (VERDICT_SIGNATURE, "this verdict"),
            signs_verdict,
        )
    }

    /// One good signature is enough: whoever adds bad ones beside it takes nothing away.
    fn demand_one(
        &self,
        gate: &Gate,
        version: &VersionRecord,
        signings: &[BTreeMap<String, Digest>],
        (document, about): (&str, &str),
        accepts: impl Fn(&[u8]) -> Result<bool, AttestError>,
    ) -> Result<(), Failure> {
        let (mut refused, mut n_elsewhere) = (None, 0_u32);
        for digest in signings.iter().filter_map(|it| it.get(document)) {
            match accepts(&self.store.read(digest)?) {
                Ok(true) => return Ok(()),
                Ok(false) => n_elsewhere += 1,
                Err(error) => {
                    // A wrong signature by a trusted key says more than one by a stranger.
                    let is_stranger = matches!(error, AttestError::KeyUnknown { .. });
                    if refused.is_none() || !is_stranger {
                        refused = Some(error);
                    }
                }
            }
        }
        let label = version.label();
        let failure = match refused {
            None => Failure::new(
                "signature-missing",
                Exit::Fail,
                format!(
                    "nobody has signed `{label}` and {about}, and gate `{}` demands it",
                    gate.name
                ),
            )
            .detail(format!("signatures over other verdicts on it: {n_elsewhere}")),
            Some(error @ AttestError::KeyUnknown { .. }) => {
                let told = Failure::from(error);
                let mut failure = Failure::new(
                    "signature-key-unknown",
                    Exit::Fail,
                    format!(
                        "`{label}` and {about} are signed, but by no key that gate `{}` trusts",
                        gate.name
                    ),
                );
                failure.details = told.details;
                failure
            }
            Some(error) => {
                let told = Failure::from(error);
                let mut failure = Failure::new(
                    "signature-invalid",
                    Exit::Fail,
                    format!("no signature over `{label}` and {about} is right: {}", told.message),
                );
                failure.details = told.details;
                failure
            }
        };
        Err(failure.hint(format!(
            "`karat sign {label} --key KEY.pem` signs both, with a key of gate.toml"
        )))
    }

    /// What each signing of a version wrote, newest first.
    pub fn signings(
        &self,
        version: &VersionRecord,
    ) -> Result<Vec<BTreeMap<String, Digest>>, Failure> {
        let query = RunQuery {
            step: Some(Step::Sign),
            state: Some(RunState::Complete),
            text: version.label(),
            ..RunQuery::default()
        };
        let page = self.store.browse_runs(&query, Span { offset: 0, limit: SIGNINGS_MAX })?;
        // `flights@1` is also the beginning of `flights@12`.
        let found = page.rows.iter().filter(|it| it.subject == version.label());
        found.map(|it| Ok(self.store.run(&it.id.0)?.outputs)).collect()
    }
}

/// A trusted key, from a file of the project.
fn read_key(root: &std::path::Path, path: &str) -> Result<PublicKey, Failure> {
    let file = root.join(path);
    let refuse =
        |failure: Failure| failure.detail(format!("`signatures` in gate.toml names {path}"));
    let n_bytes = std::fs::metadata(&file).map_or(0, |it| it.len());
    let text = if n_bytes <= KEY_BYTES_MAX as u64 {
        std::fs::read_to_string(&file)
    } else {
        Err(std::io::Error::other(format!("it has {n_bytes} bytes, a key has about 300")))
    };
    let text = text.map_err(|error| {
        let message = format!("the public key `{}` cannot be read", file.display());
        refuse(Failure::new("key-unreadable", Exit::Usage, message).because(&error))
    })?;
    PublicKey::from_pem(&text).map_err(|error| refuse(error.into()))
}
