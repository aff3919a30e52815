//! Every format and compression gives the same rows.

use std::{fs::File, sync::Arc};

use arrow::array::{
    ArrayRef, BooleanArray, Date32Array, Decimal128Array, DictionaryArray, Float32Array,
    Float64Array, Int16Array, Int64Array, LargeStringArray, ListArray, RecordBatch, StringArray,
    TimestampMicrosecondArray, TimestampMillisecondArray, UInt32Array,
};
use arrow::datatypes::{Int32Type, Int64Type};
use parquet::{
    arrow::ArrowWriter,
    basic::{BrotliLevel, Compression, GzipLevel, ZstdLevel},
    file::properties::{WriterProperties, WriterVersion},
};

use super::{Desk, check};

const COLUMNS: &str =
    "id int key, name text feature, x float feature, late bool label, at time time";
const ROWS: [&str; 3] =
    ["1|a|0.5|true|2013-07-01T05:00:00Z", "2|b|-|false|2013-07-01T00:00:00Z", "3|-|-2|-|-"];
const CSV: &str =
    "id,name,x,late,at\n1,a,0.5,true,2013-07-01T05:00:00Z\n2,b,,false,2013-07-01\n3,NA,-2,,\n";
const JSON: &str = "{\"id\":1,\"name\":\"a\",\"x\":0.5,\"late\":true,\"at\":\"2013-07-01T05:00:00Z\"}\n\
     {\"at\":\"2013-07-01\",\"id\":2,\"name\":\"b\",\"x\":null,\"late\":false}\n{\"id\":3,\"x\":-2}\n";

fn batch() -> RecordBatch {
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("id", Arc::new(Int64Array::from(vec![1, 2, 3]))),
        ("name", Arc::new(StringArray::from(vec![Some("a"), Some("b"), None]))),
        ("x", Arc::new(Float64Array::from(vec![Some(0.5), None, Some(-2.0)]))),
        ("late", Arc::new(BooleanArray::from(vec![Some(true), Some(false), None]))),
        (
            "at",
            Arc::new(
                TimestampMillisecondArray::from(vec![
                    Some(1_372_654_800_000),
                    Some(1_372_636_800_000),
                    None,
                ])
                .with_timezone("UTC"),
            ),
        ),
    ];
    RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, it)| (name, it, true)))
        .expect("columns of one length")
}

/// `batch` as one Parquet file.
pub(super) fn parquet(desk: &Desk, name: &str, batch: &RecordBatch, properties: WriterProperties) {
    let file = File::create(desk.path(name)).expect("a file");
    let mut writer =
        ArrowWriter::try_new(file, batch.schema(), Some(properties)).expect("a writer");
    writer.write(batch).expect("written");
    writer.close().expect("closed");
}

#[test]
fn parquet_is_read_with_every_codec_and_version() {
    for compression in [
        Compression::UNCOMPRESSED,
        Compression::SNAPPY,
        Compression::GZIP(GzipLevel::default()),
        Compression::BROTLI(BrotliLevel::default()),
        Compression::LZ4,
        Compression::LZ4_RAW,
        Compression::ZSTD(ZstdLevel::default()),
    ] {
        for version in [WriterVersion::PARQUET_1_0, WriterVersion::PARQUET_2_0] {
            let desk = Desk::new(COLUMNS);
            let properties = WriterProperties::builder()
                .set_compression(compression)
                .set_writer_version(version);
            parquet(&desk, "in/rows.parquet", &batch(), properties.build());
            assert_eq!(desk.rows(), ROWS, "{compression:?} {version:?}");
        }
    }
}

#[test]
fn parquet_without_dictionaries_and_in_many_row_groups_is_the_same() {
    let desk = Desk::new(COLUMNS);
    let properties = WriterProperties::builder()
        .set_dictionary_enabled(false)
        .set_max_row_group_row_count(Some(1));
    parquet(&desk, "in/rows.parquet", &batch(), properties.build());
    assert_eq!(desk.rows(), ROWS);
}

#[test]
fn arrow_files_and_streams_are_read() {
    let desk = Desk::new(COLUMNS);
    let batch = batch();
    let file = File::create(desk.path("in/rows.arrow")).expect("a file");
    let mut writer =
        arrow::ipc::writer::FileWriter::try_new(file, &batch.schema()).expect("a writer");
    writer.write(&batch).expect("written");
    writer.finish().expect("finished");
    assert_eq!(desk.rows(), ROWS);

    let desk = Desk::new(COLUMNS);
    let file = File::create(desk.path("in/rows.arrows")).expect("a file");
    let mut writer =
        arrow::ipc::writer::StreamWriter::try_new(file, &batch.schema()).expect("a writer");
    writer.write(&batch).expect("written");
    writer.write(&batch).expect("written");
    writer.finish().expect("finished");
    assert_eq!(desk.rows(), [ROWS, ROWS].concat());
}

#[test]
fn csv_and_json_lines_are_read_plain_and_compressed() {
    for (name, text) in [("rows.csv", CSV), ("rows.jsonl", JSON), ("rows.ndjson", JSON)] {
        let desk = Desk::new(COLUMNS);
        desk.write(&format!("in/{name}"), text);
        assert_eq!(desk.rows(), ROWS, "{name}");

        let desk = Desk::new(COLUMNS);
        desk.write(&format!("in/{name}.gz"), gzip(text.as_bytes()));
        assert_eq!(desk.rows(), ROWS, "{name}.gz");

        let desk = Desk::new(COLUMNS);
        desk.write(&format!("in/{name}.zst"), zstd(text.as_bytes()));
        assert_eq!(desk.rows(), ROWS, "{name}.zst");

        // Files put together out of several members, as log writers do.
        let (head, tail) = text.as_bytes().split_at(40);
        let desk = Desk::new(COLUMNS);
        desk.write(&format!("in/{name}.gz"), [gzip(head), gzip(tail)].concat());
        assert_eq!(desk.rows(), ROWS, "{name}.gz of two members");
        let desk = Desk::new(COLUMNS);
        desk.write(&format!("in/{name}.zst"), [zstd(head), zstd(tail)].concat());
        assert_eq!(desk.rows(), ROWS, "{name}.zst of two frames");
    }
}

#[test]
fn csv_forms_of_other_systems_are_read() {
    let desk = Desk::csv(
        COLUMNS,
        "\u{feff}id,name,x,late,at\r\n1,\"a\",\"0.5\",TRUE,2013-07-01 05:00:00\r\n2,b,null,0,2013-07-01\r\n3,,-2,NaN,NA",
    );
    assert_eq!(desk.rows(), ROWS);
    let desk = Desk::csv("a text feature, b text feature", "a,b\n\"x,\ny\",\"say \"\"hi\"\"\"\n");
    assert_eq!(desk.rows(), ["x,\ny|say \"hi\""]);
}

#[test]
fn files_of_several_formats_make_one_dataset() {
    let desk = Desk::new(COLUMNS);
    desk.write("in/a.csv", CSV);
    desk.write("in/b.jsonl", JSON);
    parquet(&desk, "in/c.parquet", &batch(), WriterProperties::default());
    desk.write("in/read-me.txt", "not rows");
    assert_eq!(desk.rows(), [ROWS, ROWS, ROWS].concat());
    assert_eq!(desk.locate().snapshot.n_rows, 9);
}

#[test]
fn types_of_other_tools_become_ours() {
    let desk = Desk::new(
        "a int feature, b int feature, c float feature, d float feature, e time feature, f time feature, \
         g text feature, h text feature",
    );
    let dictionary: DictionaryArray<Int32Type> = vec![Some("u"), None].into_iter().collect();
    let decimal = Decimal128Array::from(vec![Some(12_345), None])
        .with_precision_and_scale(10, 2)
        .expect("in range");
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("a", Arc::new(Int16Array::from(vec![Some(-7), None]))),
        ("b", Arc::new(UInt32Array::from(vec![Some(u32::MAX), None]))),
        ("c", Arc::new(Float32Array::from(vec![Some(0.25), None]))),
        ("d", Arc::new(decimal)),
        ("e", Arc::new(Date32Array::from(vec![Some(15_887), None]))),
        ("f", Arc::new(TimestampMicrosecondArray::from(vec![Some(1_372_654_800_000_000), None]))),
        ("g", Arc::new(LargeStringArray::from(vec![Some("long"), None]))),
        ("h", Arc::new(dictionary)),
    ];
    let batch = RecordBatch::try_from_iter_with_nullable(
        columns.into_iter().map(|(name, it)| (name, it, true)),
    )
    .expect("columns of one length");
    parquet(&desk, "in/rows.parquet", &batch, WriterProperties::default());
    assert_eq!(
        desk.rows(),
        [
            "-7|4294967295|0.25|123.45|2013-07-01T00:00:00Z|2013-07-01T05:00:00Z|long|u",
            "-|-|-|-|-|-|-|-"
        ]
    );
}

#[test]
fn nested_columns_are_left_out_unless_the_schema_names_them() {
    let list = ListArray::from_iter_primitive::<Int64Type, _, _>(vec![Some(vec![Some(1)]), None]);
    let columns: Vec<(&str, ArrayRef)> =
        vec![("id", Arc::new(Int64Array::from(vec![1, 2]))), ("tags", Arc::new(list))];
    let batch = RecordBatch::try_from_iter(columns).expect("columns of one length");
    let desk = Desk::new("id int feature");
    parquet(&desk, "in/rows.parquet", &batch, WriterProperties::default());
    assert_eq!(desk.rows(), ["1", "2"]);
    let inferred = desk.infer(None).expect("a schema");
    assert_eq!(inferred.columns.len(), 1);
    let desk = Desk { schema: super::schema("id int key, tags text feature"), ..desk };
    check(desk.try_rows(), "column-nested", 2, &["`tags`", "rows.parquet"]);
}

#[test]
fn more_rows_than_one_block_keep_their_order_on_any_number_of_threads() {
    let n = 70_001_i64;
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("id", Arc::new(Int64Array::from_iter_values(0..n))),
        ("name", Arc::new(StringArray::from_iter_values((0..n).map(|i| format!("v{}", i % 7))))),
        ("x", Arc::new(Float64Array::from_iter_values((0..n).map(|i| i as f64 / 2.0)))),
    ];
    let batch = RecordBatch::try_from_iter(columns).expect("columns of one length");
    let mut desk = Desk::new("x float feature, id int key, gone text feature, name text feature");
    let properties = WriterProperties::builder().set_max_row_group_row_count(Some(10_000));
    parquet(&desk, "in/a.parquet", &batch, properties.build());
    parquet(&desk, "in/b.parquet", &batch.slice(0, 3), WriterProperties::default());
    let expected: Vec<String> =
        (0..n).chain(0..3).map(|i| format!("{}|{i}|-|v{}", i as f64 / 2.0, i % 7)).collect();
    for threads in [1, 2, 5] {
        desk.threads = threads;
        assert!(desk.rows() == expected, "{threads} threads");
    }
}

/// A gzip member that stores `bytes` as they are.
pub(super) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let n = u16::try_from(bytes.len()).expect("one stored block");
    let mut out = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff, 1];
    out.extend(n.to_le_bytes());
    out.extend((!n).to_le_bytes());
    out.extend(bytes);
    let crc = !bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            (crc >> 1) ^ if crc & 1 == 1 { 0xedb8_8320 } else { 0 }
        })
    });
    out.extend(crc.to_le_bytes());
    out.extend(u32::from(n).to_le_bytes());
    out
}

/// A Zstandard frame that stores `bytes` as they are.
pub(super) fn zstd(bytes: &[u8]) -> Vec<u8> {
    let n = u32::try_from(bytes.len()).expect("one block");
    let mut out = vec![0x28, 0xb5, 0x2f, 0xfd, 0xa0];
    out.extend(n.to_le_bytes());
    // One raw block, the last.
    out.extend(&((n << 3) | 1).to_le_bytes()[..3]);
    out.extend(bytes);
    out
}
