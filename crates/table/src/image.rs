//! Encoded images become bytes of one shape, or a reason why not.
//!
//! **Hostile files.** A header is looked at before anything is decoded, and says how much room the image may take: one of
//! another size than asked for is never decoded, so a small file cannot become a large image. Of a PNG only the chunks
//! that pixels are made of reach the decoder; what may be compressed besides (texts, colour profiles) is skipped unread.
//! A decoder that panics gives a reason like any other.
//!
//! **Colour.** Grey is read as colour by repeating it; colour as grey by its luma, (299 R + 587 G + 114 B) / 1000 rounded
//! (ITU-R BT.601). Transparency is left out, 16 bits become their upper 8, and an orientation in a JPEG's EXIF is not
//! applied.
//!
//! Reading order: [`decode`], [`Encoded`], [`cast`], [`Census`].

mod census;

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use arrow::array::{Array, ArrayRef, AsArray, BinaryArray, FixedSizeBinaryArray, StringArray};
use arrow::buffer::{BooleanBuffer, Buffer, NullBuffer};
use arrow::datatypes::DataType;
use karat_core::{
    ImageFormat, ImageShape,
    image::{IMAGE_BYTES_MAX, SIDE_MAX},
};
use zune_core::{bytestream::ZCursor, colorspace::ColorSpace, options::DecoderOptions};

use crate::cast::Cast;
pub(crate) use census::{Census, by_count};

const PNG: &[u8] = b"\x89PNG\r\n\x1a\n";
const JPEG: &[u8] = b"\xff\xd8\xff";

/// Whether `start` begins as a PNG or a JPEG does.
pub(crate) fn is_encoded(start: &[u8]) -> bool {
    start.starts_with(PNG) || start.starts_with(JPEG)
}

/// Appends the planes of the image in `cell` to `out`, or says why they cannot be had; then `out` is as it was.
pub(crate) fn decode(cell: &[u8], format: ImageFormat, out: &mut Vec<u8>) -> Result<(), String> {
    let shape = format.shape;
    if format.is_raw {
        if cell.len() != shape.n_bytes() {
            return Err(format!(
                "it has {} bytes, an image of {shape} has {}",
                cell.len(),
                shape.n_bytes()
            ));
        }
        planes(cell, shape.channels as usize, shape, out);
        return Ok(());
    }
    let encoded = Encoded::of(cell)?;
    if (encoded.height, encoded.width) != (shape.height, shape.width) {
        return Err(format!(
            "it is {} × {}, must be {} × {} (height × width)",
            encoded.height, encoded.width, shape.height, shape.width
        ));
    }
    let (interleaved, n_components) = encoded.pixels()?;
    planes(&interleaved, n_components, shape, out);
    Ok(())
}

/// An image file whose header was read and is within bounds.
pub(crate) struct Encoded<'a> {
    kind: Kind<'a>,
    /// Rows of pixels.
    pub(crate) height: u32,
    /// Pixels of a row.
    pub(crate) width: u32,
    /// Whether it has colours, and not only greys.
    pub(crate) is_colour: bool,
}

enum Kind<'a> {
    Png(Vec<u8>),
    Jpeg(&'a [u8]),
}

impl<'a> Encoded<'a> {
    /// Reads the header of a PNG or JPEG file.
    pub(crate) fn of(cell: &'a [u8]) -> Result<Self, String> {
        let found = if cell.starts_with(PNG) {
            Self::png(cell)?
        } else if cell.starts_with(JPEG) {
            Self::jpeg(cell)?
        } else if cell.is_empty() {
            return Err("it is empty".to_owned());
        } else {
            let start: Vec<String> = cell.iter().take(8).map(|it| format!("{it:02x}")).collect();
            return Err(format!(
                "it is neither PNG nor JPEG: it starts with bytes {}",
                start.join(" ")
            ));
        };
        let (height, width) = (found.height, found.width);
        let n_bytes = 3 * u64::from(height) * u64::from(width);
        if height == 0
            || width == 0
            || SIDE_MAX < height.max(width)
            || 3 * IMAGE_BYTES_MAX as u64 <= n_bytes
        {
            return Err(format!(
                "its header announces {height} × {width} pixels, which is not decoded"
            ));
        }
        Ok(found)
    }

    /// Copies the chunks that pixels are made of: signature, IHDR, PLTE, IDAT, IEND.
    fn png(cell: &'a [u8]) -> Result<Self, String> {
        let early = || "it ends too early".to_owned();
        let mut kept = PNG.to_vec();
        let mut at = PNG.len();
        let mut header = None;
        loop {
            let head = cell.get(at..at + 8).ok_or_else(early)?;
            let n = u32::from_be_bytes(head[..4].try_into().expect("four bytes")) as usize;
            let end = at.checked_add(12).and_then(|it| it.checked_add(n)).ok_or_else(early)?;
            let chunk = cell.get(at..end).ok_or_else(early)?;
            let kind = &head[4..];
            if kind == b"IHDR" {
                header = Some(chunk.get(8..21).ok_or_else(early)?);
            }
            if [b"IHDR", b"PLTE", b"IDAT", b"IEND"].iter().any(|it| it.as_slice() == kind) {
                kept.extend_from_slice(chunk);
            }
            at = end;
            if kind == b"IEND" {
                break;
            }
        }
        let header = header.ok_or("it has no header")?;
        let number =
            |at: usize| u32::from_be_bytes(header[at..at + 4].try_into().expect("four bytes"));
        // Colour types: 0 grey, 4 grey and alpha; 2 and 6 colours; 3 a palette.
        let is_colour = !matches!(header[9], 0 | 4);
        Ok(Self { kind: Kind::Png(kept), width: number(0), height: number(4), is_colour })
    }

    fn jpeg(cell: &'a [u8]) -> Result<Self, String> {
        // The decoder fills what is missing with grey. Cameras pad files with zeros.
        let last = cell.iter().rposition(|byte| *byte != 0).map_or(0, |at| at + 1);
        if !cell[..last].ends_with(b"\xff\xd9") {
            return Err("it is cut off: a JPEG ends with an end-of-image mark".to_owned());
        }
        guarded(|| {
            let mut decoder =
                zune_jpeg::JpegDecoder::new_with_options(ZCursor::new(cell), jpeg_options(true));
            decoder.decode_headers().map_err(|error| one_line(&error))?;
            let (info, space) = (decoder.info(), decoder.input_colorspace());
            let info = info.ok_or("it has no header")?;
            Ok(Self {
                kind: Kind::Jpeg(cell),
                height: u32::from(info.height),
                width: u32::from(info.width),
                is_colour: space != Some(ColorSpace::Luma),
            })
        })
    }

    /// The pixels, their components side by side, and how many components a pixel has.
    fn pixels(&self) -> Result<(Vec<u8>, usize), String> {
        let (pixels, n_components) = guarded(|| match &self.kind {
            Kind::Png(kept) => {
                let options = DecoderOptions::new_safe()
                    .set_strict_mode(true)
                    .png_set_confirm_crc(true)
                    .inflate_set_confirm_adler(true)
                    .png_set_strip_to_8bit(true)
                    .set_max_width(SIDE_MAX as usize)
                    .set_max_height(SIDE_MAX as usize);
                let mut decoder =
                    zune_png::PngDecoder::new_with_options(ZCursor::new(kept), options);
                let pixels = decoder.decode_raw().map_err(|error| one_line(&error))?;
                let space = decoder.colorspace().ok_or("it has no header")?;
                Ok((pixels, space.num_components()))
            }
            Kind::Jpeg(cell) => {
                let options = jpeg_options(self.is_colour);
                let mut decoder =
                    zune_jpeg::JpegDecoder::new_with_options(ZCursor::new(*cell), options);
                let pixels = decoder.decode().map_err(|error| one_line(&error))?;
                Ok((pixels, if self.is_colour { 3 } else { 1 }))
            }
        })?;
        let expected = self.height as usize * self.width as usize * n_components;
        if pixels.len() != expected {
            return Err(format!("it has {} bytes of pixels, expected {expected}", pixels.len()));
        }
        Ok((pixels, n_components))
    }
}

fn jpeg_options(is_colour: bool) -> DecoderOptions {
    DecoderOptions::new_safe()
        .set_strict_mode(true)
        .set_max_width(SIDE_MAX as usize)
        .set_max_height(SIDE_MAX as usize)
        .jpeg_set_out_colorspace(if is_colour { ColorSpace::RGB } else { ColorSpace::Luma })
}

/// Components side by side become one plane after the other, in the channels of `shape`.
fn planes(interleaved: &[u8], n_components: usize, shape: ImageShape, out: &mut Vec<u8>) {
    let pixels = interleaved.chunks_exact(n_components);
    let is_colour = 3 <= n_components;
    match (is_colour, shape.channels) {
        (false, n_channels) => {
            for _ in 0..n_channels {
                out.extend(pixels.clone().map(|pixel| pixel[0]));
            }
        }
        (true, 1) => out.extend(pixels.map(|pixel| {
            let [r, g, b] = [pixel[0], pixel[1], pixel[2]].map(u32::from);
            // At most 255, because the weights add up to 1000.
            ((299 * r + 587 * g + 114 * b + 500) / 1000) as u8
        })),
        (true, n_channels) => {
            for channel in 0..n_channels as usize {
                out.extend(pixels.clone().map(|pixel| pixel[channel]));
            }
        }
    }
}

/// Runs a decoder: one that panics on a damaged image gives a reason like any other.
fn guarded<T>(call: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(call)).unwrap_or_else(|_| Err("its decoder gave up".to_owned()))
}

fn one_line(error: &dyn std::fmt::Debug) -> String {
    let text = format!("{error:?}").replace(['\n', '"'], " ");
    crate::text::shorten(text.trim())
}

/// Casts a raw column to images of one shape; `None` when its type holds no bytes.
pub(crate) fn cast(raw: &ArrayRef, format: ImageFormat, threads: usize) -> Option<Cast> {
    let cells = cells(raw)?;
    let n_bytes = format.shape.n_bytes();
    let n = cells.len();
    let mut pixels = vec![0; n * n_bytes];
    let mut is_good = vec![false; n];
    // Each thread has rows of its own: what a row becomes does not depend on how many there are.
    let part = n.div_ceil(threads.max(1)).max(1);
    std::thread::scope(|scope| {
        let parts = pixels.chunks_mut(part * n_bytes).zip(is_good.chunks_mut(part)).enumerate();
        for (at, (pixels, is_good)) in parts {
            let cells = &cells;
            let work = move || {
                let mut image = Vec::with_capacity(n_bytes);
                for (i, (into, is_good)) in
                    pixels.chunks_exact_mut(n_bytes).zip(is_good).enumerate()
                {
                    let row = at * part + i;
                    image.clear();
                    *is_good =
                        cells.is_valid(row) && decode(cells.value(row), format, &mut image).is_ok();
                    if *is_good {
                        into.copy_from_slice(&image);
                    }
                }
            };
            if part < n {
                scope.spawn(work);
            } else {
                work();
            }
        }
    });
    let valid = BooleanBuffer::from(is_good);
    let wrong = BooleanBuffer::collect_bool(n, |i| cells.is_valid(i) && !valid.value(i));
    let size = i32::try_from(n_bytes).ok()?;
    let array =
        FixedSizeBinaryArray::try_new(size, Buffer::from_vec(pixels), Some(NullBuffer::new(valid)));
    Some(Cast {
        array: Arc::new(array.ok()?),
        wrong: (0 < wrong.count_set_bits()).then_some(wrong),
        raw: Arc::new(cells),
        image: Some(format),
    })
}

/// A column of bytes as plain cells.
pub(crate) fn cells(raw: &ArrayRef) -> Option<BinaryArray> {
    match raw.data_type() {
        DataType::Binary => Some(raw.as_binary::<i32>().clone()),
        DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => {
            let plain = arrow::compute::cast(raw, &DataType::Binary).ok()?;
            Some(plain.as_binary::<i32>().clone())
        }
        _ => None,
    }
}

/// Images by the hash that names them, as text.
pub(crate) fn named(images: &ArrayRef) -> ArrayRef {
    Arc::new((0..images.len()).map(|i| crate::text::value_text(images, i)).collect::<StringArray>())
}

/// Calls `visit` with (row, mean byte) of every image: the one number by which an image can be held against a label.
pub(crate) fn each_brightness(images: &ArrayRef, mut visit: impl FnMut(usize, f64)) {
    let images = images.as_fixed_size_binary();
    for (i, image) in images.iter().enumerate() {
        if let Some(bytes) = image {
            let sum: u64 = bytes.iter().map(|it| u64::from(*it)).sum();
            visit(i, sum as f64 / bytes.len().max(1) as f64);
        }
    }
}

/// A column of `n` missing images.
pub(crate) fn missing(format: ImageFormat, n: usize) -> Cast {
    let size = i32::try_from(format.shape.n_bytes()).expect("images have at most IMAGE_BYTES_MAX");
    let array = FixedSizeBinaryArray::new_null(size, n);
    let raw = BinaryArray::new_null(n);
    Cast { array: Arc::new(array), wrong: None, raw: Arc::new(raw), image: Some(format) }
}

#[cfg(test)]
mod tests;
