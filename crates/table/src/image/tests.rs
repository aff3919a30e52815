//! Images: what is read, what is refused and why, and that no byte of a file is trusted.

use karat_core::{ImageFormat, ImageShape};
use karat_testkit::picture::{JPEG_COLOUR, JPEG_GREY, bars, png, unhex};

use super::decode;

fn format(channels: u32, height: u32, width: u32) -> ImageFormat {
    ImageFormat { shape: ImageShape { channels, height, width }, is_raw: false }
}

fn read(cell: &[u8], format: ImageFormat) -> Result<Vec<u8>, String> {
    let mut out = vec![7];
    let result = decode(cell, format, &mut out);
    assert_eq!(out[0], 7, "what was there stays");
    if result.is_err() {
        assert_eq!(out.len(), 1, "a bad image leaves nothing");
    }
    result.map(|()| out[1..].to_vec())
}

#[test]
fn png_and_raw_give_the_bytes_that_were_put_in() {
    let image = bars(4);
    assert_eq!(read(&png(8, 8, 1, &image), format(1, 8, 8)).expect("a PNG"), image);
    let raw = ImageFormat { is_raw: true, ..format(1, 8, 8) };
    assert_eq!(read(&image, raw).expect("pixels"), image);
    let colour = [1, 2, 3, 4, 5, 6];
    let planes = [1, 4, 2, 5, 3, 6];
    assert_eq!(read(&png(1, 2, 3, &colour), format(3, 1, 2)).expect("a PNG"), planes);
    let raw = ImageFormat { is_raw: true, ..format(3, 1, 2) };
    assert_eq!(read(&colour, raw).expect("pixels"), planes);
}

#[test]
fn colour_becomes_grey_by_luma_and_grey_becomes_colour_by_repetition() {
    let pixels = [255, 0, 0, 0, 255, 0, 0, 0, 255, 255, 255, 255];
    let grey = read(&png(2, 2, 3, &pixels), format(1, 2, 2)).expect("a PNG");
    assert_eq!(grey, [76, 150, 29, 255]);
    let colour = read(&png(1, 2, 1, &[9, 200]), format(3, 1, 2)).expect("a PNG");
    assert_eq!(colour, [9, 200, 9, 200, 9, 200]);
}

#[test]
fn jpegs_are_read_in_colour_and_grey() {
    let colour = read(&unhex(JPEG_COLOUR), format(3, 8, 8)).expect("a JPEG");
    for (plane, (left, right)) in colour.chunks(64).zip([(198, 20), (40, 178), (89, 61)]) {
        assert!(plane[0].abs_diff(left) <= 4 && plane[63].abs_diff(right) <= 4, "{plane:?}");
    }
    let grey = read(&unhex(JPEG_GREY), format(1, 8, 8)).expect("a JPEG");
    assert!(grey[0].abs_diff(93) <= 3 && grey[63].abs_diff(119) <= 3, "{grey:?}");
}

#[test]
fn another_size_is_refused_by_the_header_alone() {
    let mut bomb = png(8, 8, 1, &bars(0));
    // 60,000 × 60,000 grey pixels: 3.6 GB, announced in four bytes each.
    bomb[16..20].copy_from_slice(&60_000_u32.to_be_bytes());
    bomb[20..24].copy_from_slice(&60_000_u32.to_be_bytes());
    let reason = read(&bomb, format(1, 8, 8)).expect_err("a bomb");
    assert!(reason.contains("60000 × 60000") && reason.contains("not decoded"), "{reason}");
    let reason = read(&png(4, 6, 1, &[0; 24]), format(1, 6, 4)).expect_err("another size");
    assert_eq!(reason, "it is 4 × 6, must be 6 × 4 (height × width)");
}

/// Announces 8 × 8 and unpacks to 1 MB: the inflater stops at what the header allows.
#[test]
fn more_pixels_than_announced_are_not_unpacked() {
    let mut bomb = png(1000, 1000, 1, &vec![0; 1_000_000]);
    bomb[16..20].copy_from_slice(&8_u32.to_be_bytes());
    bomb[20..24].copy_from_slice(&8_u32.to_be_bytes());
    read(&bomb, format(1, 8, 8)).expect_err("more than announced, and a wrong checksum");
}

/// A chunk of compressed text that cannot be unpacked: were it looked at, this image would not be read.
#[test]
fn what_is_not_pixels_is_not_looked_at() {
    let image = bars(1);
    let plain = png(8, 8, 1, &image);
    let mut file = plain[..33].to_vec();
    file.extend(4_u32.to_be_bytes());
    file.extend(b"zTXt\xff\xff\xff\xff\0\0\0\0");
    file.extend(&plain[33..]);
    assert_eq!(read(&file, format(1, 8, 8)).expect("a PNG"), image);
}

#[test]
fn no_truncation_and_no_flipped_byte_is_more_than_a_reason() {
    for file in [png(8, 8, 1, &bars(2)), unhex(JPEG_COLOUR), unhex(JPEG_GREY)] {
        for n in 0..file.len() {
            let cut = read(&file[..n], format(3, 8, 8));
            assert!(cut.is_err(), "{n} of {} bytes", file.len());
            let mut flipped = file.clone();
            flipped[n] ^= 0x55;
            if let Ok(pixels) = read(&flipped, format(3, 8, 8)) {
                assert_eq!(pixels.len(), 192);
            }
        }
    }
    let reason = read(b"", format(1, 8, 8)).expect_err("nothing");
    assert_eq!(reason, "it is empty");
    let reason = read(b"GIF89a..", format(1, 8, 8)).expect_err("a GIF");
    assert!(reason.contains("neither PNG nor JPEG"), "{reason}");
    let raw = ImageFormat { is_raw: true, ..format(1, 8, 8) };
    let reason = read(&[0; 63], raw).expect_err("too short");
    assert_eq!(reason, "it has 63 bytes, an image of 8 × 8 grey has 64");
}
