//! Shows an index access method beside btree: size, build, lookups, range scans,
//! ordered top-N and inserts, on real and generated tables, in a private
//! throw-away PostgreSQL cluster. Every answer is compared with btree's.

mod bench;
mod chart;
mod cluster;
mod data;
mod flights;
mod inserts;
mod interrupted;
mod keys;
mod measure;
mod progress;
mod queries;
mod report;
mod settings;
mod workloads;

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use clap::{Parser, Subcommand, ValueEnum};
use postgres::Client;

use crate::cluster::{Cluster, Place};
use crate::progress::stage;
use crate::report::Report;
use crate::workloads::Bench;

/// Wanted in MB.
const SHARED_BUFFERS: u64 = 2048;

#[derive(Parser)]
#[command(
    about = "An index access method beside btree, in a throw-away cluster",
    args_conflicts_with_subcommands = true
)]
struct Options {
    #[command(subcommand)]
    command: Option<Command>,
    /// Rows per generated data set, and at most so many flights
    /// [default: 5,000,000; 10,000,000 with --sizes]
    #[arg(long)]
    rows: Option<u64>,
    /// Repetitions of each measurement; the median counts
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..=50))]
    reps: u16,
    /// The access method to compare with btree
    #[arg(long, default_value = "omen")]
    candidate: String,
    /// Only these data sets
    #[arg(long, value_delimiter = ',')]
    only: Vec<DataSet>,
    /// Measure sizes, builds and lookups on the five size distributions instead
    #[arg(long)]
    sizes: bool,
    /// Where results, and below it the downloaded data, go
    #[arg(long, default_value = "target/demo")]
    out: PathBuf,
    /// Parent of the temporary cluster; takes about 4 GB [default: the system's]
    #[arg(long)]
    workdir: Option<PathBuf>,
    /// Keep the cluster's files (the server is stopped all the same)
    #[arg(long)]
    keep: bool,
    /// The PostgreSQL to use
    #[arg(long, env = "PG_CONFIG", default_value = "pg_config")]
    pg_config: PathBuf,
}

#[derive(Subcommand)]
enum Command {
    /// Every workload, with goals and a report
    Bench(bench::Options),
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum DataSet {
    Flights,
    Sensors,
    Ids,
}

fn main() -> ExitCode {
    let options = Options::parse();
    let result = match &options.command {
        Some(Command::Bench(options)) => bench::run(options).map(|()| true),
        None => demo(&options),
    };
    interrupted::wait_if_set();
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => {
            eprintln!("error: answers differ");
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Runs everything; whether all answers were equal.
fn demo(options: &Options) -> Result<bool> {
    let out = &options.out;
    fs::create_dir_all(out).with_context(|| format!("cannot create {}", out.display()))?;
    let settings = settings::server(SHARED_BUFFERS);
    stage("starting a private PostgreSQL cluster");
    let parent = options.workdir.clone().unwrap_or_else(std::env::temp_dir);
    let cluster = Cluster::start(
        &Place {
            pg_config: &options.pg_config,
            parent: &parent,
            keep: options.keep,
        },
        &settings,
    )?;
    let mut client = cluster.connect()?;
    create_extensions(&mut client, &options.candidate)?;
    let version: String = client.query_one("SHOW server_version", &[])?.get(0);
    let mut report = Report {
        candidate: options.candidate.clone(),
        server_version: version.split(' ').next().unwrap_or_default().to_owned(),
        repetitions: options.reps.into(),
        settings: settings::shown(&mut client, &settings)?,
        results: Vec::new(),
    };
    eprintln!("PostgreSQL {version}, {}", cluster.psql());
    for (name, value) in &report.settings {
        eprintln!("    {name} = {value}");
    }
    eprintln!("    (fsync is off because the cluster is thrown away)");

    let measured = if options.sizes {
        measure_sizes(&mut client, options, &mut report)
    } else {
        measure_demo(&mut client, options, &mut report)
    };
    if measured.is_err() {
        interrupted::wait_if_set();
        eprintln!("the server's log ends with:\n{}", cluster.log_tail());
    }
    measured?;

    if options.sizes {
        report.write_json(&out.join("sizes.json"))?;
    } else {
        report.write_json(&out.join("results.json"))?;
        chart::write(&report, &out.join("results.svg"))?;
        println!(
            "\nwritten: {0}/results.json, {0}/results.svg",
            out.display()
        );
    }
    stage("stopping the cluster");
    drop(client);
    drop(cluster);
    Ok(report.all_equal())
}

/// Loads and measures the data sets, then prints the tables.
fn measure_demo(client: &mut Client, options: &Options, report: &mut Report) -> Result<()> {
    let wanted = |set| options.only.is_empty() || options.only.contains(&set);
    let rows = options.rows.unwrap_or(5_000_000);
    let reps = options.reps.into();
    let mut cases = Vec::new();
    if wanted(DataSet::Flights) {
        match flights::fetch(&options.out.join("cache")) {
            Ok(file) => {
                stage("loading flights");
                let limit = options.rows.unwrap_or(u64::MAX);
                flights::load(client, &file, limit.min(1 << 40))?;
                cases.extend(data::flights());
            }
            Err(error) => eprintln!(
                "the flights cannot be fetched ({error:#}); going on with generated data only"
            ),
        }
    }
    if wanted(DataSet::Sensors) {
        stage("generating sensor readings");
        cases.extend(data::sensors(client, rows)?);
    }
    if wanted(DataSet::Ids) {
        stage("generating random ids");
        cases.extend(data::ids(client, rows)?);
    }
    ensure!(!cases.is_empty(), "there is no data to measure");
    for case in &cases {
        let bench = Bench::prepare(client, case, &options.candidate, reps)?;
        report.results.extend(bench.all()?);
    }
    for case in &cases {
        println!("\n{}: {}", case.name, case.about);
        println!("{}", report.table(&case.name));
    }
    println!(
        "ratio = btree / {}: above 1 {0} is smaller or faster; medians of {} runs in turn.\n\
         Times are per lookup, range, query or row. The index share is what inserting takes\n\
         beyond the same insert into a table without index.",
        report.candidate, report.repetitions
    );
    Ok(())
}

/// Measures the five distributions that sizes are stated for, then prints the table.
fn measure_sizes(client: &mut Client, options: &Options, report: &mut Report) -> Result<()> {
    let rows = options.rows.unwrap_or(10_000_000);
    let mut goals = Vec::new();
    for set in data::sizes(rows) {
        stage(&format!("{}: generating", set.case.name));
        set.create(client)?;
        let bench = Bench::prepare(client, &set.case, &options.candidate, options.reps.into())?;
        report.results.extend(bench.sizes()?);
        goals.push((set.case.name, set.goal));
    }
    println!("\n{} rows each, default fillfactor", report::grouped(rows));
    println!("{}", report.size_table(&goals));
    println!(
        "ratio = btree / {}: above 1 {0} is faster. Lookups are random, index-only, by a\n\
         nested loop; builds single-process.",
        report.candidate
    );
    Ok(())
}

/// The extension, unless `method` is there already, and pg_prewarm where there is one.
fn create_extensions(client: &mut Client, method: &str) -> Result<()> {
    let there = |client: &mut Client| -> Result<bool> {
        let count = client.query_one(
            "SELECT count(*) FROM pg_am WHERE amtype = 'i' AND amname = $1",
            &[&method],
        )?;
        Ok(count.get::<_, i64>(0) == 1)
    };
    if !there(client)? {
        client
            .batch_execute("CREATE EXTENSION omendb_index")
            .context("the extension is not installed: run `make install`")?;
    }
    ensure!(
        there(client)?,
        "there is no index access method called {method}"
    );
    client.batch_execute(
        "DO $$ BEGIN
            IF EXISTS (SELECT FROM pg_available_extensions WHERE name = 'pg_prewarm') THEN
                CREATE EXTENSION pg_prewarm;
            END IF;
         END $$",
    )?;
    Ok(())
}
