//! Good files, and many bad ones: each refused by a code, none with a panic.

use super::{Dtype, Tensors, TensorsError, View, Writer};
use crate::Coded;

fn small_file() -> Vec<u8> {
    let mut writer =
        Writer::new().with_metadata("zebra", "1").with_metadata("a \"quoted\" key", "ü\n");
    writer.add_f32("layers.1.bias", &[2], &[1.0, -2.5]);
    writer.add("flags", Dtype::U8, &[3], vec![1, 2, 3]);
    writer.add_f32("layers.0.weight", &[2, 3], &[0.0, 1.0, 2.0, 3.0, 4.0, 5.0]);
    writer.add("empty", Dtype::I64, &[0, 4], Vec::new());
    writer.finish()
}

fn file(header: &str, body: &[u8]) -> Vec<u8> {
    [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), body].concat()
}

fn code(bytes: &[u8]) -> &'static str {
    Tensors::parse(bytes).expect_err("a bad file").code().as_str()
}

#[test]
fn what_is_written_is_read() {
    let bytes = small_file();
    let tensors = Tensors::parse(&bytes).expect("our own file");
    let names: Vec<&str> = tensors.iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["empty", "flags", "layers.0.weight", "layers.1.bias"]);
    let bias = tensors.get("layers.1.bias").expect("written");
    assert_eq!(bias.shape, [2]);
    assert_eq!(bias.to_f32().expect("F32"), [1.0, -2.5]);
    assert_eq!(
        tensors.get("flags"),
        Some(&View { dtype: Dtype::U8, shape: vec![3], bytes: &[1, 2, 3] })
    );
    assert_eq!(tensors.metadata()["a \"quoted\" key"], "ü\n");
}

#[test]
fn equal_content_gives_equal_bytes_and_an_aligned_body() {
    let bytes = small_file();
    for _ in 0..8 {
        assert_eq!(small_file(), bytes);
    }
    let n_header = u64::from_le_bytes(*bytes.first_chunk().expect("a length"));
    assert_eq!(n_header % 8, 0);
    // Pinned: a change of these bytes changes the digest of every stored model.
    let header = std::str::from_utf8(&bytes[8..8 + n_header as usize]).expect("JSON");
    assert_eq!(
        header.trim_end(),
        r#"{"__metadata__":{"a \"quoted\" key":"ü\n","zebra":"1"},"empty":{"dtype":"I64","shape":[0,4],"data_offsets":[0,0]},"layers.0.weight":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]},"layers.1.bias":{"dtype":"F32","shape":[2],"data_offsets":[24,32]},"flags":{"dtype":"U8","shape":[3],"data_offsets":[32,35]}}"#
    );
}

/// The crate that Python's `safetensors` is built on reads the same names, types, shapes and bytes.
fn assert_crate_agrees(bytes: &[u8], tensors: &Tensors<'_>) {
    let theirs = safetensors::SafeTensors::deserialize(bytes).expect("what we accept is valid");
    assert_eq!(theirs.len(), tensors.iter().count());
    for (name, view) in tensors.iter() {
        let other = theirs.tensor(name).expect("same names");
        assert_eq!(other.shape(), view.shape);
        assert_eq!(other.data(), view.bytes);
        assert_eq!(format!("{:?}", other.dtype()).to_uppercase(), view.dtype.word());
    }
}

#[test]
fn the_safetensors_crate_reads_our_files() {
    let bytes = small_file();
    assert_crate_agrees(&bytes, &Tensors::parse(&bytes).expect("our own file"));
    let empty = Writer::new().finish();
    assert_crate_agrees(&empty, &Tensors::parse(&empty).expect("no tensor at all"));
}

#[test]
fn every_truncation_is_refused() {
    let bytes = small_file();
    for n in 0..bytes.len() {
        assert_eq!(code(&bytes[..n]), "checkpoint-truncated", "cut to {n} bytes");
    }
    assert_eq!(code(&[&bytes[..], &[0]].concat()), "checkpoint-trailing");
}

#[test]
fn no_flipped_header_bit_panics_and_what_is_accepted_is_valid() {
    let bytes = small_file();
    let n_header = u64::from_le_bytes(*bytes.first_chunk().expect("a length")) as usize;
    let mut n_refused = 0;
    for bit in 0..(8 + n_header) * 8 {
        let mut flipped = bytes.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        match Tensors::parse(&flipped) {
            Ok(tensors) => assert_crate_agrees(&flipped, &tensors),
            Err(_) => n_refused += 1,
        }
    }
    assert!(1000 < n_refused, "only {n_refused} flips were noticed");
}

#[test]
fn formats_that_carry_code_are_refused_by_name() {
    for (bytes, word) in [
        (&b"PK\x03\x04\x14\x00\x00\x00\x08\x00archive/data.pkl"[..], "zip"),
        (b"PK\x03\x04", "zip"),
        (b"\x80\x02}q\x00.", "pickle"),
        (b"\x80\x04\x95\x0f\x00\x00\x00\x00\x00\x00\x00}\x94", "pickle"),
        (b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.", "pickle"),
        (b"\x93NUMPY\x01\x00v\x00{'descr'", "NumPy"),
    ] {
        let error = Tensors::parse(bytes).expect_err("not safetensors");
        assert_eq!(error.code().as_str(), "checkpoint-code-bearing");
        let message = error.to_string();
        assert!(message.contains(word) && message.contains("safetensors"), "{message}");
    }
    // `80 02` is also the length of a 640-byte header, and then nothing is wrong with it.
    let header = format!("{{{}}}", " ".repeat(638));
    assert!(file(&header, b"").starts_with(b"\x80\x02"));
    Tensors::parse(&file(&header, b"")).expect("an empty safetensors file");
}

#[test]
fn hostile_headers_are_refused() {
    let entry = |shape: &str, from: u64, to: u64| {
        format!(r#"{{"dtype":"U8","shape":{shape},"data_offsets":[{from},{to}]}}"#)
    };
    let one = entry("[1]", 0, 1);
    let huge = u64::MAX / 8;
    let many_huge: Vec<String> = (0..9)
        .map(|i| format!("\"t{i}\":{}", entry(&format!("[{huge}]"), i * (huge / 2), i * huge)))
        .collect();
    for (header, body) in [
        (String::new(), 0),
        ("[]".to_owned(), 0),
        (" {}".to_owned(), 0),
        ("{}{}".to_owned(), 0),
        ("{\"a\":1}".to_owned(), 0),
        ("{\"a\":{}}".to_owned(), 0),
        (format!("{{\"a\":{one},\"a\":{one}}}"), 1),
        ("{\"__metadata__\":{\"k\":\"1\",\"k\":\"2\"}}".to_owned(), 0),
        ("{\"__metadata__\":{\"k\":1}}".to_owned(), 0),
        ("{\"__metadata__\":{},\"__metadata__\":{}}".to_owned(), 0),
        (format!("{{\"{}\":{one}}}", "n".repeat(513)), 1),
        (format!("{{\"a\":{}}}", entry("[1,1,1,1,1,1,1,1,1]", 0, 1)), 1),
        (format!("{{\"a\":{}}}", entry("[-1]", 0, 1)), 1),
        (format!("{{\"a\":{}}}", entry("[1.0]", 0, 1)), 1),
        (format!("{{\"a\":{}}}", entry("[2]", 0, 1)), 1),
        (format!("{{\"a\":{}}}", entry("[1]", 1, 0)), 1),
        (format!("{{\"a\":{}}}", entry("[1]", 1, 2)), 2),
        (format!("{{\"a\":{one},\"b\":{one}}}"), 1),
        (format!("{{\"a\":{one},\"b\":{}}}", entry("[1]", 2, 3)), 3),
        (format!("{{\"a\":{}}}", entry("[4294967296,4294967296]", 0, 0)), 0),
        (format!("{{{}}}", many_huge.join(",")), 0),
        (format!("{{\"a\":{}}}", one.replace("U8", "F7")), 1),
        (format!("{{\"a\":{}}}", one.replace("}", ",\"code\":\"x\"}")), 1),
        (format!("{}1{}", "[".repeat(200_000), "]".repeat(200_000)), 0),
        (format!("{{\"a\":{}{}", "{\"b\":".repeat(100_000), "}".repeat(100_000)), 0),
    ] {
        let bytes = file(&header, &vec![0; body]);
        let shown: String = header.chars().take(80).collect();
        assert_eq!(code(&bytes), "checkpoint-header", "{shown}");
    }
    assert_eq!(code(&file("{\"a\":\"\u{0}\"}", b"")), "checkpoint-header");
    assert_eq!(code(&[&u64::MAX.to_le_bytes()[..], b"{}"].concat()), "checkpoint-header");
    assert_eq!(code(&[&[2, 0, 0, 0, 0, 0, 0, 0][..], b"\xff{"].concat()), "checkpoint-header");
}

#[test]
fn too_many_tensors_are_refused() {
    let entries: Vec<String> = (0..=super::TENSORS_MAX)
        .map(|i| format!(r#""{i}":{{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}"#))
        .collect();
    let bytes = file(&format!("{{{}}}", entries.join(",")), b"");
    assert_eq!(code(&bytes), "checkpoint-header");
}

#[test]
fn missing_unexpected_reshaped_and_retyped_tensors_are_each_named() {
    let mut writer = Writer::new();
    writer.add_f32("a", &[2], &[0.0; 2]);
    writer.add("b", Dtype::I32, &[1], vec![0; 4]);
    let bytes = writer.finish();
    let tensors = Tensors::parse(&bytes).expect("our own file");
    let check = |expected: &[(&str, &[usize])], code: &str, message: &str| {
        let error = tensors.expect_exactly(Dtype::F32, expected).expect_err(message);
        assert_eq!((error.code().as_str(), error.to_string().as_str()), (code, message));
        error
    };
    let error = check(
        &[("a", &[2]), ("c", &[1]), ("d", &[1])],
        "checkpoint-tensor-missing",
        "tensor `c` is missing",
    );
    assert_eq!(error.details(), ["missing: `c`", "missing: `d`", "unexpected: `b`"]);
    check(
        &[("a", &[2])],
        "checkpoint-tensor-unexpected",
        "tensor `b` does not belong to the model",
    );
    check(
        &[("a", &[1, 2]), ("b", &[1])],
        "checkpoint-tensor-shape",
        "tensor `a` has shape [2], the model expects [1, 2]",
    );
    check(
        &[("a", &[2]), ("b", &[1])],
        "checkpoint-tensor-type",
        "tensor `b` has type I32, the model expects F32",
    );
}

#[test]
fn nan_and_infinity_are_found_in_every_float_type() {
    for (dtype, bytes) in [
        (Dtype::F64, [1.0, f64::NEG_INFINITY].map(f64::to_le_bytes).concat()),
        (Dtype::F32, [1.0, f32::NAN].map(f32::to_le_bytes).concat()),
        (Dtype::F16, [0x3c00_u16, 0x7c01].map(u16::to_le_bytes).concat()),
        (Dtype::BF16, [0x7f7f_u16, 0xff80].map(u16::to_le_bytes).concat()),
    ] {
        let mut writer = Writer::new();
        writer.add("w", dtype, &[2], bytes);
        let file = writer.finish();
        let found = Tensors::parse(&file).expect("well formed").expect_finite();
        let expected = TensorsError::NotFinite { name: "w".to_owned(), index: 1 };
        assert_eq!(found, Err(expected), "{dtype}");
    }
    let mut writer = Writer::new();
    writer.add("n", Dtype::U64, &[1], vec![0xff; 8]);
    writer.add_f32("w", &[2], &[f32::MAX, f32::MIN_POSITIVE / 2.0]);
    let file = writer.finish();
    Tensors::parse(&file).expect("well formed").expect_finite().expect("all are finite");
}
