//! The model manifest: everything scoring needs besides the weights, and the digest a verdict is bound to.
//!
//! No time and no run id stand in it, so training again from the same data and spec gives the same manifest, byte for
//! byte, on every machine of one device class.

use karat_core::{
    Digest, Document, Exit, Failure, FeaturePlan, ImagePlan, Schema, TrainSpec, schema,
};
use serde::{Deserialize, Serialize};

use crate::Lab;

/// Version of the manifest's form.
pub const MANIFEST_VERSION: u32 = 1;

/// `model.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ModelManifest {
    /// Form of this record.
    pub version: u32,
    /// `karat 0.1.0`.
    pub tool: String,
    /// The spec it was trained from.
    pub spec: TrainSpec,
    /// Columns → numbers.
    pub plan: FeaturePlan,
    /// The schema file's text, so that other files can be read the same way.
    pub schema: String,
    /// Digest of `model.safetensors`.
    pub weights: Digest,
    /// Snapshot it was trained on.
    pub snapshot: Digest,
    /// Rules of the train and eval splits, as JSON.
    pub splits: serde_json::Value,
    /// Class of the device: `cpu`.
    pub device: String,
    /// Updates made.
    pub n_updates: u64,
    /// Rows trained on.
    pub n_rows: u64,
    /// Trainable numbers.
    pub n_parameters: u64,
    /// SHA-256 chain over (loss bits, gradient norm bits) of every update: names the whole course of training. Absent in
    /// manifests older than this field.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chain: Option<Digest>,
}

impl ModelManifest {
    /// Reads the manifest called `digest`, verifying its bytes.
    pub fn open(lab: &Lab<'_>, digest: &Digest) -> Result<Self, Failure> {
        let manifest: Self = lab.read_json(digest, "model manifest")?;
        if manifest.version != MANIFEST_VERSION {
            return Err(Failure::new(
                "model-too-new",
                Exit::Run,
                format!(
                    "model manifest `{}` has form {}, this build reads {MANIFEST_VERSION}",
                    digest.short(),
                    manifest.version
                ),
            ));
        }
        if let Some(reason) = manifest.plan.image.as_ref().and_then(ImagePlan::refusal) {
            return Err(Failure::new(
                "record-unreadable",
                Exit::Run,
                format!(
                    "the image plan of model manifest `{}` cannot be: {reason}",
                    digest.short()
                ),
            ));
        }
        Ok(manifest)
    }

    /// The schema it was trained with.
    pub fn schema(&self) -> Result<Schema, Failure> {
        schema::read(&Document::parse("the model's schema", self.schema.as_str())?)
    }
}
