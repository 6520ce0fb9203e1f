//! The real data: 3,000,000 flights of 2001, from the npm package `vega-datasets`.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, ensure};
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::{Row, RowAccessor};
use postgres::Client;
use postgres::binary_copy::BinaryCopyInWriter;
use postgres::types::Type;

const PACKAGE: &str = "vega-datasets@3.2.1";
const ARCHIVE: &str = "vega-datasets-3.2.1.tgz";
const MEMBER: &str = "package/data/flights-3m.parquet";
const FILE: &str = "flights-3m.parquet";

/// The Parquet file, from `cache` or else fetched into it with npm.
pub fn fetch(cache: &Path) -> Result<PathBuf> {
    let file = cache.join(FILE);
    if file.is_file() {
        return Ok(file);
    }
    fs::create_dir_all(cache).with_context(|| format!("cannot create {}", cache.display()))?;
    // Unpacked beside the cache and moved into it whole, so that an interrupted
    // run does not leave half a file behind.
    let unpacked = tempfile::tempdir_in(cache)?;
    run(Command::new("npm")
        .args(["pack", PACKAGE, "--silent"])
        .args(["--fetch-retries=1", "--fetch-timeout=60000"])
        .current_dir(unpacked.path()))?;
    run(Command::new("tar")
        .args(["-xzf", ARCHIVE, "--strip-components=2", MEMBER])
        .current_dir(unpacked.path()))?;
    fs::rename(unpacked.path().join(FILE), &file)?;
    Ok(file)
}

/// Creates table `flights` with at most `limit` rows in the file's order, which is by date.
pub fn load(client: &mut Client, file: &Path, limit: u64) -> Result<u64> {
    client.batch_execute(
        "CREATE TABLE flights (date timestamp, delay bigint, distance bigint,
                               origin text, destination text)",
    )?;
    let sink = client.copy_in("COPY flights FROM STDIN BINARY")?;
    let types = [
        Type::TIMESTAMP,
        Type::INT8,
        Type::INT8,
        Type::TEXT,
        Type::TEXT,
    ];
    let mut writer = BinaryCopyInWriter::new(sink, &types);
    let reader = SerializedFileReader::new(File::open(file)?)
        .with_context(|| format!("{} is not a Parquet file", file.display()))?;
    let limit = usize::try_from(limit)?;
    for row in reader.get_row_iter(None)?.take(limit) {
        let row = row?;
        let flight = Flight::read(&row)?;
        writer.write(&[
            &flight.date,
            &flight.delay,
            &flight.distance,
            &flight.origin,
            &flight.destination,
        ])?;
    }
    Ok(writer.finish()?)
}

struct Flight<'a> {
    date: SystemTime,
    delay: i64,
    distance: i64,
    origin: &'a str,
    destination: &'a str,
}

impl<'a> Flight<'a> {
    /// The column order is the file's.
    fn read(row: &'a Row) -> Result<Self> {
        let micros =
            u64::try_from(row.get_timestamp_micros(0)?).context("a flight is dated before 1970")?;
        Ok(Self {
            date: SystemTime::UNIX_EPOCH + Duration::from_micros(micros),
            delay: row.get_long(1)?,
            distance: row.get_long(2)?,
            origin: row.get_string(3)?,
            destination: row.get_string(4)?,
        })
    }
}

fn run(command: &mut Command) -> Result<()> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot run {program}"))?;
    ensure!(
        output.status.success(),
        "{program} failed: {}",
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(())
}
