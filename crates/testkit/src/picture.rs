//! Small pictures for tests: a set that is easy to learn, and the files it comes in.

/// Height and width of [`bars`].
pub const SIDE: u32 = 8;

/// A JPEG of 8 × 8 pixels in colour: the left half about (198, 40, 89), the right half about (20, 178, 61). Written by
/// Pillow at quality 90 without subsampling.
pub const JPEG_COLOUR: &str = "ffd8ffe000104a46494600010100000100010000ffdb0043000302020302020303030304030304050805050404050a070706080c0a0c0c0b0a0b0b0d0e12100d0e110e0b0b1016101113141515150c0f171816141812141514ffdb00430103040405040509050509140d0b0d1414141414141414141414141414141414141414141414141414141414141414141414141414141414141414141414141414ffc00011080008000803011100021101031101ffc40014000100000000000000000000000000000006ffc40018100002030000000000000000000000000000064482c1ffc4001501010100000000000000000000000000000406ffc4001c110001030500000000000000000000000000050843458183c1c3ffda000c03010002110311003f0008a72a9a482e477d087094acdc8fffd9";
/// The same in grey: about 93 and 118.
pub const JPEG_GREY: &str = "ffd8ffe000104a46494600010100000100010000ffdb0043000302020302020303030304030304050805050404050a070706080c0a0c0c0b0a0b0b0d0e12100d0e110e0b0b1016101113141515150c0f171816141812141514ffc0000b080008000801011100ffc40014000100000000000000000000000000000006ffc40018100002030000000000000000000000000000064482c1ffda0008010100003f0008a72a9a7fffd9";

/// Bytes of a text of hex digits.
#[must_use]
pub fn unhex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> =
        text.chars().map(|it| it.to_digit(16).expect("hex digits") as u8).collect();
    digits.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}

/// Picture number `i` of class `i % 3`, [`SIDE`]² grey bytes: bars that lie, bars that stand, or a diagonal, bright on dark,
/// with noise. The same on every call.
#[must_use]
pub fn bars(i: u32) -> Vec<u8> {
    let noise = |at: u32| {
        let mut x = (i * 4099 + at).wrapping_mul(0x9e37_79b9);
        x ^= x >> 15;
        x = x.wrapping_mul(0x85eb_ca6b);
        (x >> 16) % 60
    };
    let shift = noise(9999) % 2;
    (0..SIDE * SIDE)
        .map(|at| {
            let (y, x) = (at / SIDE, at % SIDE);
            let is_bright = match i % 3 {
                0 => (y + shift) % 4 < 2,
                1 => (x + shift) % 4 < 2,
                _ => (x + y + shift) % 4 < 2,
            };
            (if is_bright { 180 } else { 20 } + noise(at)) as u8
        })
        .collect()
}

/// A PNG of 8 bits a channel (1 grey, 3 colour); `pixels` are rows of pixels of channels.
#[must_use]
pub fn png(height: u32, width: u32, channels: u32, pixels: &[u8]) -> Vec<u8> {
    let mut rows = Vec::new();
    for row in pixels.chunks((width * channels) as usize) {
        rows.push(0);
        rows.extend_from_slice(row);
    }
    let mut header = [height.to_be_bytes(), width.to_be_bytes()];
    header.reverse();
    let mut header = header.concat();
    header.extend([8, if channels == 1 { 0 } else { 2 }, 0, 0, 0]);
    let mut file = b"\x89PNG\r\n\x1a\n".to_vec();
    for (kind, data) in [(b"IHDR", header), (b"IDAT", stored(&rows)), (b"IEND", Vec::new())] {
        file.extend((data.len() as u32).to_be_bytes());
        let framed = [kind.as_slice(), &data].concat();
        file.extend_from_slice(&framed);
        file.extend(crc(&framed).to_be_bytes());
    }
    file
}

/// zlib without compression.
fn stored(bytes: &[u8]) -> Vec<u8> {
    let mut out = vec![0x78, 0x01];
    let n_blocks = bytes.len().div_ceil(65_535).max(1);
    for (i, block) in bytes.chunks(65_535).enumerate() {
        out.push(u8::from(i + 1 == n_blocks));
        out.extend((block.len() as u16).to_le_bytes());
        out.extend((!(block.len() as u16)).to_le_bytes());
        out.extend_from_slice(block);
    }
    let (mut a, mut b) = (1_u32, 0_u32);
    for byte in bytes {
        a = (a + u32::from(*byte)) % 65_521;
        b = (b + a) % 65_521;
    }
    out.extend((b << 16 | a).to_be_bytes());
    out
}

fn crc(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            crc >> 1 ^ if crc & 1 == 1 { 0xedb8_8320 } else { 0 }
        })
    })
}

/// An IDX file of grey images.
#[must_use]
pub fn idx_images(height: u32, width: u32, images: &[Vec<u8>]) -> Vec<u8> {
    let n = images.len() as u32;
    let mut file = vec![0, 0, 8, 3];
    for size in [n, height, width] {
        file.extend(size.to_be_bytes());
    }
    file.extend(images.concat());
    file
}

/// An IDX file of labels.
#[must_use]
pub fn idx_labels(labels: &[u8]) -> Vec<u8> {
    let mut file = vec![0, 0, 8, 1];
    file.extend((labels.len() as u32).to_be_bytes());
    file.extend_from_slice(labels);
    file
}
