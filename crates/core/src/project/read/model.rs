//! `train.model` and the keys of its size: which keys a model knows, their defaults and limits.

use super::{Within, blocks, train::RawTrain};
use crate::{
    Document, Failure,
    project::{
        FILTER_MULTIPLE, FILTER_STAGES_MAX, FILTER_WIDTH_MAX, HIDDEN_LAYERS_MAX, HIDDEN_WIDTH_MAX,
        ModelSpec,
    },
};

/// Every model, as `train.model` names it.
const MODELS: &[&str] = &["linear", "mlp", "resmlp", "cnn", "resnet", "ft_transformer"];

/// The architecture that `[train]` describes.
pub(super) fn model(document: &Document, raw: &RawTrain) -> Result<ModelSpec, Failure> {
    let kind = raw.model.as_deref().unwrap_or("mlp");
    let within = Within(document);
    within.one_of("train.model", kind, MODELS)?;
    within.known_to(
        &format!("model `{kind}`"),
        kind,
        &[
            ("hidden", raw.hidden.is_some(), &["mlp", "cnn"]),
            ("filters", raw.filters.is_some(), &["cnn", "resnet"]),
            ("embedding_max", raw.embedding_max.is_some(), &["mlp", "resmlp"]),
            ("width", raw.width.is_some(), &["resmlp", "ft_transformer"]),
            ("blocks", raw.blocks.is_some(), &["resmlp", "ft_transformer"]),
            ("heads", raw.heads.is_some(), &["ft_transformer"]),
            ("expansion", raw.expansion.is_some(), &["resmlp", "ft_transformer"]),
            ("dropout", raw.dropout.is_some(), &["mlp", "resmlp", "cnn", "ft_transformer"]),
        ],
    )?;
    match kind {
        "linear" => Ok(ModelSpec::Linear),
        "cnn" => Ok(ModelSpec::Cnn {
            filters: filters(document, raw, &[32, 64], 1)?,
            hidden: hidden(document, raw, &[128])?,
            dropout: dropout(document, raw)?,
        }),
        "resnet" => {
            let filters = filters(document, raw, &[64, 128, 256, 512], FILTER_MULTIPLE)?;
            Ok(ModelSpec::ResNet { filters })
        }
        "resmlp" => blocks::res_mlp(document, raw),
        "ft_transformer" => blocks::ft_transformer(document, raw),
        _ => mlp(document, raw),
    }
}

fn mlp(document: &Document, raw: &RawTrain) -> Result<ModelSpec, Failure> {
    let embedding_max = raw.embedding_max.unwrap_or(16);
    Within(document).whole("train.embedding_max", u64::from(embedding_max), 1, 4096)?;
    Ok(ModelSpec::Mlp {
        hidden: hidden(document, raw, &[256, 256])?,
        embedding_max,
        dropout: dropout(document, raw)?,
    })
}

fn hidden(document: &Document, raw: &RawTrain, default: &[u32]) -> Result<Vec<u32>, Failure> {
    let hidden = raw.hidden.clone().unwrap_or_else(|| default.to_vec());
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
        let width = u64::from(*width);
        Within(document).whole("train.hidden", width, 1, u64::from(HIDDEN_WIDTH_MAX))?;
    }
    Ok(hidden)
}

/// Channels by stage, each a multiple of `multiple`.
fn filters(
    document: &Document,
    raw: &RawTrain,
    default: &[u32],
    multiple: u32,
) -> Result<Vec<u32>, Failure> {
    let filters = raw.filters.clone().unwrap_or_else(|| default.to_vec());
    if FILTER_STAGES_MAX < filters.len() || filters.is_empty() {
        return Err(document.refuse(
            "train.filters",
            format!(
                "`train.filters` has {} stages, must have 1 to {FILTER_STAGES_MAX}",
                filters.len()
            ),
        ));
    }
    for width in &filters {
        let (least, most) = (u64::from(multiple), u64::from(FILTER_WIDTH_MAX));
        Within(document).whole("train.filters", u64::from(*width), least, most)?;
        if !width.is_multiple_of(multiple) {
            let fact = format!("`train.filters` has {width}, must be multiples of {multiple}");
            return Err(document.refuse("train.filters", fact));
        }
    }
    Ok(filters)
}

fn dropout(document: &Document, raw: &RawTrain) -> Result<f64, Failure> {
    let dropout = raw.dropout.unwrap_or(0.0);
    Within(document).share("train.dropout", dropout, false)?;
    Ok(dropout)
}
