//! Rows as plain numbers: all that crosses between `table` and `engine`.

/// Encoded rows. Row-major; a row's numbers are adjacent.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Batch {
    /// Rows.
    pub n_rows: usize,
    /// Numbers per row.
    pub n_numeric: usize,
    /// Slots per row.
    pub n_categorical: usize,
    /// Bytes of image per row.
    pub n_pixels: usize,
    /// `[n_rows × n_numeric]`.
    pub numeric: Vec<f32>,
    /// `[n_rows × n_categorical]`, each below its feature's cardinality.
    pub categorical: Vec<u32>,
    /// `[n_rows × channels × height × width]`, as bytes: an image is standardised where it is used, so that rows in
    /// memory take a quarter of the room.
    pub pixels: Vec<u8>,
    /// `[n_rows]` in the plan's units (class index, or standardised); NaN where missing. Empty when not asked for.
    pub label: Vec<f32>,
    /// `[n_rows]`, or empty when every row weighs 1.
    pub weight: Vec<f32>,
}

impl Batch {
    /// An empty batch of this width, without images.
    #[must_use]
    pub fn new(n_numeric: usize, n_categorical: usize) -> Self {
        Self { n_numeric, n_categorical, ..Self::default() }
    }

    /// Removes all rows and keeps the memory.
    pub fn clear(&mut self) {
        self.n_rows = 0;
        self.numeric.clear();
        self.categorical.clear();
        self.pixels.clear();
        self.label.clear();
        self.weight.clear();
    }

    /// Digest of the content, for "which rows gave this NaN".
    #[must_use]
    pub fn digest(&self) -> crate::Digest {
        let mut builder = crate::digest::DigestBuilder::new("batch");
        builder.field(&(self.n_rows as u64).to_le_bytes());
        for part in [&self.numeric, &self.label, &self.weight] {
            builder.field(&part.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>());
        }
        builder.field(&self.categorical.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>());
        builder.field(&self.pixels);
        builder.finish()
    }
}
