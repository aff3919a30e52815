//! Models of equal blocks: `resmlp` and `ft_transformer`. Defaults are those of Gorishniy et al. 2021, "Revisiting Deep Learning
//! Models for Tabular Data".

use super::{Within, train::RawTrain};
use crate::{
    Document, Failure,
    project::{
        EXPANSION_MAX, HEADS_MAX, HIDDEN_LAYERS_MAX, HIDDEN_WIDTH_MAX, ModelSpec, thousands,
    },
};

/// What both have: width, blocks, expansion, dropout.
fn size(document: &Document, raw: &RawTrain) -> Result<(u32, u32, u32, f64), Failure> {
    let within = Within(document);
    let (width, blocks) = (raw.width.unwrap_or(192), raw.blocks.unwrap_or(3));
    let (expansion, dropout) = (raw.expansion.unwrap_or(2), raw.dropout.unwrap_or(0.1));
    within.whole("train.width", u64::from(width), 1, u64::from(HIDDEN_WIDTH_MAX))?;
    within.whole("train.blocks", u64::from(blocks), 1, HIDDEN_LAYERS_MAX as u64)?;
    within.whole("train.expansion", u64::from(expansion), 1, u64::from(EXPANSION_MAX))?;
    within.share("train.dropout", dropout, false)?;
    Ok((width, blocks, expansion, dropout))
}

pub(super) fn res_mlp(document: &Document, raw: &RawTrain) -> Result<ModelSpec, Failure> {
    let (width, blocks, expansion, dropout) = size(document, raw)?;
    let embedding_max = raw.embedding_max.unwrap_or(16);
    Within(document).whole("train.embedding_max", u64::from(embedding_max), 1, 4096)?;
    Ok(ModelSpec::ResMlp { width, blocks, expansion, embedding_max, dropout })
}

pub(super) fn ft_transformer(document: &Document, raw: &RawTrain) -> Result<ModelSpec, Failure> {
    let (width, blocks, expansion, dropout) = size(document, raw)?;
    let heads = raw.heads.unwrap_or(8);
    Within(document).whole("train.heads", u64::from(heads), 1, u64::from(HEADS_MAX))?;
    if !width.is_multiple_of(heads) {
        let key = if raw.width.is_some() { "train.width" } else { "train.heads" };
        return Err(document.refuse(
            key,
            format!(
                "`train.width` is {}, must be a multiple of `train.heads`, which is {heads}",
                thousands(u64::from(width))
            ),
        ));
    }
    Ok(ModelSpec::FtTransformer { width, blocks, heads, expansion, dropout })
}
