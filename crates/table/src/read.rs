//! The one way rows are read: record batches of all files in order, with the wanted columns in their declared types,
//! decoded ahead by a few threads.
//!
//! **Order.** Files are read in the order they are given. A snapshot's own order is (digest, path): the same digest
//! means the same rows in the same order, whatever the files are called. Every split is read that way. Only scoring
//! *all* rows of a dataset goes by path, because its output is for people who know their files by name.
//!
//! **Threads.** A columnar file is decoded by several threads, each with columns of its own; the pieces are put
//! together in order, so the result does not depend on their number. At most [`QUEUE`] pieces a thread wait in
//! memory.
//!
//! Reading order: [`Wanted`], [`RowStream`], [`Block`].

use std::{
    sync::{
        Arc,
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread::JoinHandle,
};

use arrow::array::{ArrayRef, RecordBatch};
use karat_core::{Column as SchemaColumn, ColumnType, Failure, ImageFormat, nearest};

use crate::{
    cast::{Cast, cast, missing},
    decode::RawFile,
    error::{FileError, internal},
    files::{Format, Found, recognise},
    image, pictures,
};

/// Rows decoded at once. At 20 columns of 8 bytes this is 5 MB.
pub(crate) const READ_ROWS: usize = 32_768;
/// Bytes of decoded images in one piece.
const IMAGES_BYTES: usize = 32 << 20;
/// Pieces a decoder may be ahead.
const QUEUE: usize = 3;
/// Decoders of one stream: more would only wait for whoever uses the rows.
const DECODERS_MAX: usize = 8;

/// What a column is needed for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Need {
    /// The model's input.
    Model,
    /// Something else that cannot be done without; the word completes "needed as …".
    As(&'static str),
    /// Missing values where a file lacks it.
    Optional,
}

/// One column to read.
#[derive(Clone, Debug)]
pub(crate) struct Column {
    /// Name in the files.
    pub(crate) name: String,
    /// Declared type.
    pub(crate) ty: ColumnType,
    /// What it is needed for.
    pub(crate) need: Need,
    /// How its images are to be read, where it holds images.
    pub(crate) image: Option<ImageFormat>,
}

impl Column {
    fn missing(&self, n_rows: usize) -> Cast {
        match self.image {
            Some(format) => image::missing(format, n_rows),
            None => missing(self.ty, n_rows),
        }
    }
}

/// The columns to read, each once.
#[derive(Clone, Debug, Default)]
pub(crate) struct Wanted(Vec<Column>);

impl Wanted {
    /// Adds a column; one that is there already keeps the stronger need.
    pub(crate) fn add(&mut self, name: &str, ty: ColumnType, need: Need) {
        self.put(Column { name: name.to_owned(), ty, need, image: None });
    }

    /// Adds a column of the schema, which may hold images.
    pub(crate) fn add_column(&mut self, column: &SchemaColumn, need: Need) {
        let (name, image) = (column.name.clone(), column.image());
        self.put(Column { name, ty: column.ty, need, image });
    }

    fn put(&mut self, column: Column) {
        match self.0.iter_mut().find(|it| it.name == column.name) {
            Some(known) => {
                if known.need == Need::Optional || column.need == Need::Model {
                    known.need = column.need;
                }
            }
            None => self.0.push(column),
        }
    }

    /// Bytes of the images of one row.
    fn image_bytes(&self) -> usize {
        self.0.iter().filter_map(|it| it.image).map(|it| it.shape.n_bytes()).sum()
    }

    /// Where the column called `name` stands in a [`Block`].
    pub(crate) fn position(&self, name: &str) -> Option<usize> {
        self.0.iter().position(|it| it.name == name)
    }
}

/// Rows of one file, in order; or of several files of one row each, one after the other.
#[derive(Clone, Debug)]
pub(crate) struct Block {
    /// Which file, in the order given: the first of them.
    pub(crate) file: usize,
    /// Rows of that file before this block.
    pub(crate) first_row: u64,
    /// Rows.
    pub(crate) n_rows: usize,
    /// One for every wanted column.
    pub(crate) columns: Vec<Cast>,
    wanted: Arc<Wanted>,
}

impl Block {
    /// The column called `name`.
    pub(crate) fn column(&self, name: &str) -> Result<&Cast, Failure> {
        self.wanted
            .position(name)
            .and_then(|it| self.columns.get(it))
            .ok_or_else(|| internal(format_args!("column `{name}` was not read")))
    }

    /// The values of the column called `name`.
    pub(crate) fn array(&self, name: &str) -> Result<&ArrayRef, Failure> {
        Ok(&self.column(name)?.array)
    }
}

/// All rows of some files, in order.
pub(crate) struct RowStream {
    lanes: Vec<Receiver<Message>>,
    threads: Vec<JoinHandle<()>>,
    wanted: Arc<Wanted>,
    row: u64,
    file: usize,
    is_done: bool,
}

/// What a decoder sends.
enum Message {
    Rows {
        file: usize,
        n_rows: usize,
        columns: Vec<(usize, Cast)>,
        /// Decoders that send the other columns of the same rows.
        partners: Arc<[usize]>,
    },
    EndOfFile {
        partners: Arc<[usize]>,
    },
    Failed(FileError),
    End,
}

struct Job {
    files: Vec<Found>,
    wanted: Arc<Wanted>,
    n_lanes: usize,
    threads: usize,
}

impl RowStream {
    /// Starts reading `files` in their order with up to `threads` decoders.
    pub(crate) fn open(files: Vec<Found>, wanted: Wanted, threads: usize) -> Result<Self, Failure> {
        let wanted = Arc::new(wanted);
        let n_lanes = threads.min(wanted.0.len()).clamp(1, DECODERS_MAX);
        let job = Arc::new(Job { files, wanted: Arc::clone(&wanted), n_lanes, threads });
        let mut stream = Self {
            lanes: Vec::new(),
            threads: Vec::new(),
            wanted,
            row: 0,
            file: 0,
            is_done: false,
        };
        for lane in 0..n_lanes {
            let (sender, receiver) = sync_channel(QUEUE);
            let job = Arc::clone(&job);
            let thread = std::thread::Builder::new()
                .name(format!("read-{lane}"))
                .spawn(move || {
                    // A closed channel means that nobody wants the rest.
                    let _ = decode(&job, lane, &sender);
                })
                .map_err(|error| {
                    Failure::new(
                        "thread-failed",
                        karat_core::Exit::Run,
                        "cannot start a reading thread",
                    )
                    .because(&error)
                })?;
            stream.lanes.push(receiver);
            stream.threads.push(thread);
        }
        Ok(stream)
    }

    fn receive(&self, lane: usize) -> Result<Message, Failure> {
        self.lanes[lane].recv().map_err(|_| internal("a reading thread ended early"))
    }

    fn next_block(&mut self) -> Result<Option<Block>, Failure> {
        loop {
            match self.receive(0)? {
                Message::End => return Ok(None),
                Message::Failed(error) => return Err(error.into()),
                Message::EndOfFile { partners } => {
                    for lane in partners.iter() {
                        match self.receive(*lane)? {
                            Message::EndOfFile { .. } => {}
                            Message::Failed(error) => return Err(error.into()),
                            Message::Rows { .. } | Message::End => {
                                return Err(internal(
                                    "two decoders of one file disagree about its rows",
                                ));
                            }
                        }
                    }
                }
                Message::Rows { file, n_rows, columns, partners } => {
                    let mut slots: Vec<Option<Cast>> = vec![None; self.wanted.0.len()];
                    let mut place = |columns: Vec<(usize, Cast)>| {
                        for (at, column) in columns {
                            slots[at] = Some(column);
                        }
                    };
                    place(columns);
                    for lane in partners.iter() {
                        match self.receive(*lane)? {
                            Message::Rows { file: other, n_rows: n, columns, .. }
                                if other == file && n == n_rows =>
                            {
                                place(columns);
                            }
                            Message::Failed(error) => return Err(error.into()),
                            _ => {
                                return Err(internal(
                                    "two decoders of one file disagree about its rows",
                                ));
                            }
                        }
                    }
                    if file != self.file {
                        (self.file, self.row) = (file, 0);
                    }
                    let first_row = self.row;
                    self.row += n_rows as u64;
                    let columns = slots
                        .into_iter()
                        .zip(&self.wanted.0)
                        .map(|(column, wanted)| column.unwrap_or_else(|| wanted.missing(n_rows)))
                        .collect();
                    let wanted = Arc::clone(&self.wanted);
                    return Ok(Some(Block { file, first_row, n_rows, columns, wanted }));
                }
            }
        }
    }
}

impl Iterator for RowStream {
    type Item = Result<Block, Failure>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.is_done {
            return None;
        }
        let next = self.next_block().transpose();
        self.is_done = !matches!(next, Some(Ok(_)));
        next
    }
}

impl Drop for RowStream {
    fn drop(&mut self) {
        self.lanes.clear();
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

/// Nobody listens any more.
struct Closed;

fn decode(job: &Job, lane: usize, out: &SyncSender<Message>) -> Result<(), Closed> {
    let send = |message| out.send(message).map_err(|_| Closed);
    let mut at = 0;
    while at < job.files.len() {
        match decode_file(job, lane, at, &send) {
            Ok(n_files) => at += n_files,
            Err(Stop::Closed) => return Err(Closed),
            Err(Stop::Failed(error)) => return send(Message::Failed(error)),
        }
    }
    send(Message::End)
}

enum Stop {
    Closed,
    Failed(FileError),
}

impl From<FileError> for Stop {
    fn from(error: FileError) -> Self {
        Self::Failed(error)
    }
}

impl From<Closed> for Stop {
    fn from(_: Closed) -> Self {
        Self::Closed
    }
}

/// Sends the rows of the file at `at`, and of the images that follow it; returns how many files those are.
fn decode_file(
    job: &Job,
    lane: usize,
    at: usize,
    send: &dyn Fn(Message) -> Result<(), Closed>,
) -> Result<usize, Stop> {
    let found = &job.files[at];
    let format = recognise(found)?;
    if lane != 0 && format != Format::Parquet {
        return Ok(1);
    }
    if format == Format::Image {
        return decode_images(job, at, send);
    }
    let raw = RawFile::open_as(found, format)?;
    let columns = resolve(&job.wanted, &raw, found)?;
    let lanes = share(&columns, &raw, job.n_lanes);
    let mine = &lanes[lane];
    if lane != 0 && mine.is_empty() {
        return Ok(1);
    }
    let partners: Arc<[usize]> = if lane == 0 {
        (1..lanes.len()).filter(|it| !lanes[*it].is_empty()).collect()
    } else {
        Arc::new([])
    };
    let projection: Vec<usize> = mine.iter().map(|(in_file, _)| *in_file).collect();
    // Every decoder of a file must cut it at the same rows, whichever columns are its own.
    let n_rows = match job.wanted.image_bytes() {
        0 => READ_ROWS,
        row_bytes => raw.rows_at_once(row_bytes),
    };
    for batch in raw.batches(&projection, n_rows)? {
        let batch = batch?;
        let columns = cast_all(job, found, format, &batch, mine)?;
        let partners = Arc::clone(&partners);
        send(Message::Rows { file: at, n_rows: batch.num_rows(), columns, partners })?;
    }
    send(Message::EndOfFile { partners })?;
    Ok(1)
}

/// Sends the image at `at` and those that follow it as one piece: a piece a row would be all overhead.
fn decode_images(
    job: &Job,
    at: usize,
    send: &dyn Fn(Message) -> Result<(), Closed>,
) -> Result<usize, Stop> {
    let first = &job.files[at];
    let columns = resolve(&job.wanted, &RawFile::open_as(first, Format::Image)?, first)?;
    let most = (IMAGES_BYTES / job.wanted.image_bytes().max(1)).max(1);
    let mut n = pictures::n_at_once(&job.files[at..]).min(most);
    let is_image = |file: &Found| Ok::<bool, FileError>(recognise(file)? == Format::Image);
    for i in 1..n {
        if !is_image(&job.files[at + i])? {
            n = i;
            break;
        }
    }
    let projection: Vec<usize> = columns.iter().map(|(in_file, _)| *in_file).collect();
    let batch = pictures::rows(&job.files[at..at + n], &projection)?;
    let columns = cast_all(job, first, Format::Image, &batch, &columns)?;
    let partners: Arc<[usize]> = Arc::new([]);
    send(Message::Rows { file: at, n_rows: n, columns, partners: Arc::clone(&partners) })?;
    send(Message::EndOfFile { partners })?;
    Ok(n)
}

/// The columns of a batch in their declared types, each with its place in a block.
fn cast_all(
    job: &Job,
    found: &Found,
    format: Format,
    batch: &RecordBatch,
    columns: &[(usize, usize)],
) -> Result<Vec<(usize, Cast)>, FileError> {
    let cast_one = |(array, (_, at)): (&ArrayRef, &(usize, usize))| {
        let column = &job.wanted.0[*at];
        let cast = match column.image {
            Some(image) => image::cast(array, format.image(image), job.threads),
            None => cast(array, column.ty, format.has_null_words()),
        };
        let cast = cast.ok_or_else(|| FileError::Nested {
            file: found.name.clone(),
            column: column.name.clone(),
            found: array.data_type().to_string().chars().take(80).collect(),
            wanted: match column.image {
                Some(_) => "no column of bytes, so it holds no images",
                None => "neither number, text nor time",
            },
        })?;
        Ok((*at, cast))
    };
    batch.columns().iter().zip(columns).map(cast_one).collect()
}

/// Where each wanted column stands in the file: (in the file, in the block), ascending.
fn resolve(
    wanted: &Wanted,
    raw: &RawFile,
    found: &Found,
) -> Result<Vec<(usize, usize)>, FileError> {
    let names: Vec<&str> = raw.schema.fields().iter().map(|it| it.name().as_str()).collect();
    let mut columns = Vec::with_capacity(wanted.0.len());
    let mut absent: Vec<&Column> = Vec::new();
    for (at, column) in wanted.0.iter().enumerate() {
        match names.iter().position(|it| *it == column.name) {
            Some(in_file) => columns.push((in_file, at)),
            None if column.need == Need::Optional => {}
            None => absent.push(column),
        }
    }
    columns.sort_unstable();
    let Some(first) = absent.first() else { return Ok(columns) };
    let file = found.name.clone();
    let near = |name: &str| -> Vec<String> {
        nearest(name, names.iter().copied()).into_iter().map(str::to_owned).collect()
    };
    let model: Vec<&&Column> = absent.iter().filter(|it| it.need == Need::Model).collect();
    if let Some(first) = model.first() {
        return Err(FileError::ModelMismatch {
            file,
            near: near(&first.name),
            columns: model.iter().map(|it| it.name.clone()).collect(),
        });
    }
    let same_need = absent.iter().filter(|it| it.need == first.need);
    Err(FileError::ColumnAbsent {
        file,
        near: near(&first.name),
        purpose: match first.need {
            Need::As(purpose) => purpose,
            Need::Model | Need::Optional => "input",
        },
        columns: same_need.map(|it| it.name.clone()).collect(),
    })
}

/// Shares the columns of a file out to decoders: the dearest first, each to whoever has least to do.
fn share(columns: &[(usize, usize)], raw: &RawFile, n_lanes: usize) -> Vec<Vec<(usize, usize)>> {
    let mut lanes = vec![Vec::new(); n_lanes];
    if !raw.is_columnar() {
        lanes[0] = columns.to_vec();
        return lanes;
    }
    let mut dearest: Vec<(u64, (usize, usize))> =
        columns.iter().map(|it| (raw.cost(it.0), *it)).collect();
    dearest.sort_unstable_by(|a, b| b.0.cmp(&a.0).then(a.1.cmp(&b.1)));
    let mut load = vec![0_u64; n_lanes];
    for (cost, column) in dearest {
        let lane = (0..n_lanes).min_by_key(|it| (load[*it], *it)).unwrap_or(0);
        load[lane] = load[lane].saturating_add(cost);
        lanes[lane].push(column);
    }
    for lane in &mut lanes {
        lane.sort_unstable();
    }
    lanes
}
