//! `train.model` and the keys of its size: which keys a model knows, their defaults and limits.

use super::{Within, blocks, train::RawTrain};
use crate::{
    Document, Failure,
    project::{HIDDEN_LAYERS_MAX, HIDDEN_WIDTH_MAX, ModelSpec},
};

/// Every model, as `train.model` names it.
const MODELS: &[&str] = &["linear", "mlp", "resmlp", "ft_transformer"];

/// The architecture that `[train]` describes.
pub(super) fn model(document: &Document, raw: &RawTrain) -> Result<ModelSpec, Failure> {
    let kind = raw.model.as_deref().unwrap_or("mlp");
    let within = Within(document);
    within.one_of("train.model", kind, MODELS)?;
    within.known_to(
        &format!("model `{kind}`"),
        kind,
        &[
            ("hidden", raw.hidden.is_some(), &["mlp"]),
            ("embedding_max", raw.embedding_max.is_some(), &["mlp", "resmlp"]),
            ("width", raw.width.is_some(), &["resmlp", "ft_transformer"]),
            ("blocks", raw.blocks.is_some(), &["resmlp", "ft_transformer"]),
            ("heads", raw.heads.is_some(), &["ft_transformer"]),
            ("expansion", raw.expansion.is_some(), &["resmlp", "ft_transformer"]),
            ("dropout", raw.dropout.is_some(), &["mlp", "resmlp", "ft_transformer"]),
        ],
    )?;
    match kind {
        "linear" => Ok(ModelSpec::Linear),
        "resmlp" => blocks::res_mlp(document, raw),
        "ft_transformer" => blocks::ft_transformer(document, raw),
        _ => mlp(document, raw),
    }
}

fn mlp(document: &Document, raw: &RawTrain) -> Result<ModelSpec, Failure> {
    let within = Within(document);
    let hidden = raw.hidden.clone().unwrap_or_else(|| vec![256, 256]);
    if HIDDEN_LAYERS_MAX < hidden.len() || hidden.is_empty() {
        return Err(document.refuse(
            "train.hidden",
            format!(
                "`train.hidden` has {} layers, must have 1 to {HIDDEN_LAYERS_MAX}",
                hidden.len()
            ),
        ));
    }
    for width in &hidden {
        within.whole("train.hidden", u64::from(*width), 1, u64::from(HIDDEN_WIDTH_MAX))?;
    }
    let embedding_max = raw.embedding_max.unwrap_or(16);
    within.whole("train.embedding_max", u64::from(embedding_max), 1, 4096)?;
    let dropout = raw.dropout.unwrap_or(0.0);
    within.share("train.dropout", dropout, false)?;
    Ok(ModelSpec::Mlp { hidden, embedding_max, dropout })
}
