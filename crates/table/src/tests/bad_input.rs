//! Bad files: a clear error with a stable code, never a panic.

use karat_core::port::Tables as _;

use super::{Desk, check, formats, predicate};

const COLUMNS: &str = "id int key, x float feature, late bool label";
const TEXT: &str = "id,x,late\n1,0.5,true\n2,1.5,false\n";

/// A project whose one file has these bytes.
fn of(file: &str, bytes: impl AsRef<[u8]>) -> Desk {
    let mut desk = Desk::new(COLUMNS);
    desk.files = vec![format!("in/{file}")];
    desk.write(&format!("in/{file}"), bytes);
    desk
}

/// Every way in gives the same failure.
#[track_caller]
fn refused(desk: &Desk, code: &str, facts: &[&str]) {
    check(desk.infer(None), code, 2, facts);
    check(desk.snapshot_with(&[]), code, 2, facts);
}

#[test]
fn missing_files_are_named_with_their_neighbours() {
    let mut desk = of("rows.csv", TEXT);
    desk.files = vec!["in/rosw.csv".to_owned()];
    refused(&desk, "file-missing", &["`in/rosw.csv`", "`in/rows.csv`"]);
    desk.files = vec!["in/*.parquet".to_owned()];
    refused(&desk, "glob-empty", &["`in/*.parquet`", "`in/rows.csv`"]);
    desk.files = vec!["in/[".to_owned()];
    refused(&desk, "glob-invalid", &["`in/[`"]);
    std::fs::create_dir(desk.path("empty")).expect("a folder");
    desk.files = vec!["empty".to_owned()];
    refused(&desk, "folder-empty", &["`empty`"]);
    desk.files = vec!["in/rows.csv/deeper.csv".to_owned()];
    refused(&desk, "file-missing", &["in/rows.csv/deeper.csv", "`in/rows.csv`"]);
}

#[test]
fn empty_files_are_named() {
    refused(&of("rows.csv", ""), "file-empty", &["in/rows.csv"]);
    refused(&of("rows.parquet", ""), "file-empty", &["in/rows.parquet"]);
    refused(&of("rows.csv.gz", formats::gzip(b"")), "file-empty", &["in/rows.csv.gz"]);
    refused(&of("rows.csv", "\u{feff}"), "file-empty", &["in/rows.csv"]);
    refused(&of("rows.csv", "\n\n"), "file-empty", &["in/rows.csv"]);
    refused(&of("rows.jsonl", "  \n"), "file-empty", &["in/rows.jsonl"]);
}

#[test]
fn formats_that_can_carry_code_are_refused_by_name() {
    for (file, bytes, what) in [
        ("model.pkl", &b"\x80\x04\x95\x10\0"[..], "pickle"),
        ("rows.csv", b"\x80\x05\x95\x10\0", "pickle"),
        ("rows.parquet", b"\x80\x02}q\0.", "pickle"),
        ("old.pkl", b"cos\nsystem\n(S'ls'\ntR.", "pickle"),
        ("weights.pt", b"PK\x03\x04\x14\0", "ZIP"),
        ("rows.csv", b"PK\x03\x04\x14\0", "ZIP"),
        ("rows.npy", b"\x93NUMPY\x01\0", "NumPy"),
        ("rows.h5", b"\x89HDF\r\n\x1a\n", "HDF5"),
        ("rows.csv", b"\x7fELF\x02", "program"),
        ("rows.rds", b"RDX3\nX\n\0", "R data"),
    ] {
        refused(&of(file, bytes), "file-format-refused", &[file, what]);
    }
    refused(&of("rows.csv.gz", formats::gzip(b"\x80\x04\x95")), "file-format-refused", &["pickle"]);
    refused(&of("rows.csv.zst", formats::zstd(b"PK\x03\x04")), "file-format-refused", &["ZIP"]);
}

#[test]
fn what_is_no_known_format_says_what_would_be() {
    refused(&of("rows.xls", TEXT), "file-format-unknown", &["in/rows.xls"]);
    refused(&of("rows.parquet", TEXT), "file-format-unknown", &["in/rows.parquet", "PAR1"]);
    refused(&of("rows.arrow", TEXT), "file-format-unknown", &["in/rows.arrow", "ARROW1"]);
    refused(&of("rows.json", "[{\"id\":1}]"), "file-format-refused", &["JSON array"]);
    refused(&of("rows.csv", b"\xff\xfei\0d\0"), "file-format-refused", &["UTF-16"]);
}

/// A Parquet file of 1,000 rows.
fn parquet() -> Vec<u8> {
    let desk = Desk::new(COLUMNS);
    let id = arrow::array::Int64Array::from_iter_values(0..1_000);
    let x = arrow::array::Float64Array::from_iter_values((0..1_000).map(f64::from));
    let columns: Vec<(&str, arrow::array::ArrayRef)> =
        vec![("id", std::sync::Arc::new(id)), ("x", std::sync::Arc::new(x))];
    let batch = arrow::array::RecordBatch::try_from_iter(columns).expect("columns of one length");
    formats::parquet(
        &desk,
        "rows.parquet",
        &batch,
        parquet::file::properties::WriterProperties::default(),
    );
    desk.bytes("rows.parquet")
}

#[test]
fn truncated_parquet_is_named_wherever_it_ends() {
    let bytes = parquet();
    for n in [5, 8, 100, bytes.len() / 2, bytes.len() - 1] {
        refused(&of("rows.parquet", &bytes[..n]), "file-truncated", &["in/rows.parquet", "`PAR1`"]);
    }
}

#[test]
fn damaged_parquet_never_panics() {
    let good = parquet();
    let mut n_refused = 0;
    for at in (4..good.len()).step_by(37) {
        let mut bytes = good.clone();
        bytes[at] ^= 0x55;
        let desk = of("rows.parquet", bytes);
        if let Err(failure) = desk.try_rows() {
            assert_eq!(failure.exit.code(), 2, "byte {at}: {failure:?}");
            n_refused += 1;
        }
    }
    assert!(0 < n_refused);
}

#[test]
fn truncated_compression_is_told_from_a_short_file() {
    let packed = formats::gzip(TEXT.as_bytes());
    let desk = of("rows.csv.gz", &packed[..packed.len() - 12]);
    check(desk.snapshot_with(&[]), "file-truncated", 2, &["in/rows.csv.gz", "too early"]);
    let packed = formats::zstd(TEXT.as_bytes());
    let desk = of("rows.csv.zst", &packed[..packed.len() - 3]);
    check(desk.snapshot_with(&[]), "file-truncated", 2, &["in/rows.csv.zst", "too early"]);
}

#[test]
fn ragged_csv_names_the_line() {
    let short = of("rows.csv", "id,x,late\n1,0.5,true\n2,1.5\n");
    check(
        short.snapshot_with(&[]),
        "csv-ragged",
        2,
        &["in/rows.csv", "line 3", "expected 3", "found 2"],
    );
    let long = of("rows.csv", "id,x,late\n1,0.5,true,9\n");
    check(long.snapshot_with(&[]), "csv-ragged", 2, &["line 2", "expected 3 fields, found 4"]);
    check(long.infer(None), "csv-ragged", 2, &["line 2"]);
}

#[test]
fn nul_bytes_are_refused_with_their_line() {
    let desk = of("rows.csv", "id,x,late\n1,0.5,true\n2,1\0.5,false\n");
    check(desk.snapshot_with(&[]), "file-nul-byte", 2, &["in/rows.csv", "line 3"]);
    refused(&of("rows.csv", "id,x\0,late\n1,0.5,true\n"), "file-nul-byte", &["line 1"]);
    refused(&of("rows.jsonl", "{\"id\":1}\n{\"id\":\0}\n"), "file-nul-byte", &["line 2"]);
}

#[test]
fn broken_text_is_refused() {
    refused(&of("rows.csv", b"id,x,late\n1,\xff\xfe,true\n"), "file-unreadable", &["in/rows.csv"]);
    refused(&of("rows.jsonl", "{\"id\":1}\n{\"id\":\n"), "file-unreadable", &["in/rows.jsonl"]);
    refused(&of("rows.jsonl", "1\n2\n"), "file-unreadable", &["in/rows.jsonl"]);
    refused(&of("rows.csv", "id,id\n1,2\n"), "column-repeated", &["in/rows.csv", "`id`"]);
}

#[test]
fn a_byte_order_mark_is_no_part_of_a_name() {
    let desk = of("rows.csv", format!("\u{feff}{TEXT}"));
    assert_eq!(desk.rows(), ["1|0.5|true", "2|1.5|false"]);
    assert_eq!(desk.infer(None).expect("a schema").columns[0].name, "id");
}

#[test]
fn a_label_that_the_files_lack_is_named_with_near_columns() {
    let desk = of("rows.csv", "id,x,lat\n1,0.5,true\n").with_split("all", predicate("true"));
    check(desk.infer(Some("late")), "label-unknown", 2, &["`late`", "`lat`"]);
    check(desk.try_fit("all"), "column-absent", 2, &["`late`", "the label", "`lat`"]);
}

#[test]
fn columns_that_rules_need_are_named() {
    let desk = of("rows.csv", "id,x,late\n1,0.5,true\n2,1,false\n");
    let mut desk = desk.with_split("all", predicate("region = 'x'"));
    desk.schema.columns.push(karat_core::Column::new(
        "region",
        karat_core::ColumnType::Text,
        karat_core::Role::Ignore,
    ));
    check(desk.try_fit("all"), "column-absent", 2, &["`region`", "part of a split's predicate"]);
}

#[test]
fn a_file_that_is_a_folder_or_gone_is_no_panic() {
    let desk = of("rows.csv", TEXT);
    let located = desk.locate();
    std::fs::remove_file(desk.path("in/rows.csv")).expect("removed");
    let tables = desk.tables();
    check(tables.measure(&located, None, &mut |_, _| {}), "file-missing", 2, &["in/rows.csv"]);
    std::fs::create_dir(desk.path("in/rows.csv")).expect("a folder");
    let result = tables.measure(&located, None, &mut |_, _| {});
    assert!(result.is_err());
}

#[test]
fn very_long_fields_and_lines_are_read() {
    let long = "x".repeat(300_000);
    let desk =
        Desk::csv("id int key, note text feature", &format!("id,note\n1,{long}\n2,\"{long}\"\n"));
    assert!(desk.rows() == [format!("1|{long}"), format!("2|{long}")]);
    assert_eq!(desk.measure().columns[1].top[0].1, 2);
}
