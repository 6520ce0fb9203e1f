//! The benchmark: every workload on omen beside btree, and beside hash and BRIN where
//! these can do the work, losses included.

mod build;
mod change;
mod check;
mod churn;
mod clients;
mod cold;
mod curve;
mod datasets;
mod goals;
mod insert;
mod lab;
mod machine;
mod markdown;
mod memory;
mod method;
mod plots;
mod read;
mod results;
mod sessions;
mod tables;

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use clap::Args;

use crate::bench::datasets::{DataSet, Extent};
use crate::bench::lab::{Lab, Scale};
use crate::bench::markdown::Markdown;
use crate::bench::method::{BOTH, Method};
use crate::bench::results::{Document, Versions};
use crate::cluster::{Cluster, Place};
use crate::progress::stage;
use crate::{create_extensions, flights, interrupted, settings};

/// Workloads, as `ONLY` names them.
const WORKLOADS: &[&str] = &[
    "build", "probe", "read", "clients", "cold", "insert", "rows", "update", "vacuum", "growth",
    "curve", "floor", "churn", "memory", "planning",
];

/// Wanted in MB: for four copies of a table of 10 million rows with their indexes.
const SHARED_BUFFERS: u64 = 4096;

#[derive(Args)]
pub struct Options {
    /// Rows per data set, and at most so many flights
    #[arg(long, default_value_t = 10_000_000, value_parser = clap::value_parser!(u64).range(1_000..))]
    rows: u64,
    /// Fewer repetitions, sizes and keys
    #[arg(long)]
    quick: bool,
    /// Check answers, plans and sizes with one repetition of everything; times mean nothing
    #[arg(long)]
    check: bool,
    /// Only these data sets and workloads
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// The access method to compare with btree
    #[arg(long, default_value = "omen")]
    candidate: String,
    /// Where results go
    #[arg(long, default_value = "target/bench")]
    out: PathBuf,
    /// Where the flights are kept once downloaded
    #[arg(long, default_value = "target/demo/cache")]
    cache: PathBuf,
    /// Parent of the temporary cluster [default: the system's]
    #[arg(long)]
    workdir: Option<PathBuf>,
    /// The PostgreSQL to use
    #[arg(long, env = "PG_CONFIG", default_value = "pg_config")]
    pg_config: PathBuf,
}

/// Measures everything that is wanted and writes the results.
pub fn run(options: &Options) -> Result<()> {
    let out = &options.out;
    fs::create_dir_all(out).with_context(|| format!("cannot create {}", out.display()))?;
    stage("starting a private PostgreSQL cluster");
    let settings = settings::server(SHARED_BUFFERS);
    let mut lab = start(options, &settings)?;
    let shown = settings::shown(&mut lab.client, &settings)?;
    let machine = machine::describe();
    let sets = measure(&mut lab, options);
    interrupted::wait_if_set();
    let sets = sets?;

    let Lab {
        results, candidate, ..
    } = &lab;
    if options.check {
        println!("{}", tables::section(results, candidate, "size"));
        println!("{} measurements with the plans meant", results.len());
    } else {
        let goals = markdown::goals_section(results, candidate, options.rows);
        println!("{}", tables::all(results, candidate));
        println!("{}{goals}", tables::losses(results, candidate));
    }
    Document {
        machine: &machine,
        settings: &shown,
        results,
    }
    .write(&out.join("results.json"))?;
    let pictures = plots::write(results, candidate, &lab.versions.postgresql, out)?;
    Markdown {
        candidate,
        command: &options.command(),
        rows: options.rows,
        versions: &lab.versions,
        machine: &machine,
        settings: &shown,
        sets: &sets,
        pictures: &pictures,
        results,
    }
    .write(&out.join("benchmarks.md"))?;
    println!(
        "written: results.json, benchmarks.md and pictures in {}",
        out.display()
    );
    if options.check {
        check::sizes(results, candidate)?;
    }
    lab.require_success()?;
    if options.check && options.only.is_empty() {
        check::goals(results, candidate)?;
    }
    Ok(())
}

impl Options {
    /// How the same is measured again.
    fn command(&self) -> String {
        let mut command = format!("make bench ROWS={}", self.rows);
        if self.quick {
            command.push_str(" QUICK=1");
        }
        if !self.only.is_empty() {
            command.push_str(&format!(" ONLY={}", self.only.join(",")));
        }
        command
    }
}

fn start(options: &Options, settings: &[(&str, String)]) -> Result<Lab> {
    let parent = options.workdir.clone().unwrap_or_else(std::env::temp_dir);
    let cluster = Cluster::start(
        &Place {
            pg_config: &options.pg_config,
            parent: &parent,
            keep: false,
        },
        settings,
    )?;
    let mut client = cluster.connect()?;
    create_extensions(&mut client, &options.candidate)?;
    let versions = client.query_one(
        "SELECT current_setting('server_version'),
                coalesce((SELECT extversion FROM pg_extension WHERE extname = 'omendb_index'), '')",
        &[],
    )?;
    let (repetitions, warm_ups) = match (options.check, options.quick) {
        (true, _) => (1, 0),
        (_, true) => (3, 1),
        _ => (5, 1),
    };
    Ok(Lab {
        cluster,
        client,
        candidate: options.candidate.clone(),
        scale: Scale {
            rows: options.rows,
            repetitions,
            warm_ups,
            quick: options.quick,
            check: options.check,
        },
        only: options.only.clone(),
        note: String::new(),
        failures: Vec::new(),
        per_key: 1,
        versions: Versions {
            postgresql: versions.get(0),
            omendb_index: versions.get(1),
        },
        rows: 0,
        results: Vec::new(),
    })
}

/// Measures what is wanted; the data sets.
fn measure(lab: &mut Lab, options: &Options) -> Result<Vec<DataSet>> {
    let mut sets = datasets::generated(lab.scale.rows);
    let mut names: Vec<&str> = sets.iter().map(|set| set.name).collect();
    names.push(datasets::FLIGHTS);
    for name in &options.only {
        ensure!(
            names.contains(&name.as_str()) || WORKLOADS.contains(&name.as_str()),
            "there is neither a data set nor a workload {name}; there are {} and {}",
            names.join(", "),
            WORKLOADS.join(", ")
        );
    }
    if lab.wants(datasets::FLIGHTS, &names) {
        match flights::fetch(&options.cache) {
            Ok(file) => {
                stage("loading flights");
                flights::load(&mut lab.client, &file, lab.scale.rows)?;
                sets.push(datasets::flights("flights"));
            }
            Err(error) => eprintln!("the flights cannot be fetched ({error:#}); going on without"),
        }
    }
    sets.retain(|set| lab.wants(set.name, &names));
    for set in &sets {
        data_set(lab, set)?;
    }
    for (name, workload) in OTHERS {
        if lab.wants(name, WORKLOADS) {
            lab.attempt(name, *workload)?;
        }
    }
    Ok(sets)
}

/// Rows of tables that get a hash index, at most.
const MOST_HASHED: u64 = 30_000_000;

/// Workloads that have a table without index beside the others.
const NEED_PLAIN: &[&str] = &["read", "insert", "floor"];

/// All workloads of one data set.
fn data_set(lab: &mut Lab, set: &DataSet) -> Result<()> {
    let name = set.name;
    let reads = set.extent != Extent::Core;
    let mut methods = BOTH.to_vec();
    // Building a hash index takes longer than all else, so it is not on every data set.
    if set.extent == Extent::Everything && lab.scale.rows <= MOST_HASHED {
        methods.push(Method::Hash);
    }
    if reads && set.clustered_heap {
        methods.push(Method::Brin);
    }
    let wants = |lab: &Lab, name| lab.wants(name, WORKLOADS);
    let prepared = lab.attempt(&format!("{name}: generating and building"), |lab| {
        let mut tables = methods.clone();
        if reads && NEED_PLAIN.iter().any(|workload| wants(lab, workload)) {
            tables.push(Method::Plain);
        }
        lab.load(set, &tables)?;
        if wants(lab, "build") {
            build::serial(lab, set, &methods)?;
        } else {
            lab.create_indexes(&methods)?;
        }
        lab.draw_probes()
    })?;
    if !prepared {
        return Ok(());
    }
    if wants(lab, "probe") {
        lab.attempt(&format!("{name}: probes"), |lab| {
            read::probes(lab, read::GROUP, name, "", &methods)
        })?;
    }
    if reads && wants(lab, "read") {
        lab.attempt(&format!("{name}: reads"), |lab| {
            lab.draw_ranges()?;
            read::others(lab, set, &methods)?;
            read::heap_scan(lab, set)
        })?;
    }
    if name == datasets::SERIAL && wants(lab, "clients") {
        lab.attempt(&format!("{name}: lookups by clients"), |lab| {
            clients::lookups(lab, set, &methods)
        })?;
    }
    for (workload, run) in EVERYTHING {
        if set.extent == Extent::Everything && wants(lab, workload) {
            lab.attempt(&format!("{name}: {workload}"), |lab| run(lab, set))?;
        }
    }
    Ok(())
}

type Other = fn(&mut Lab) -> Result<()>;

/// What has tables of its own.
const OTHERS: &[(&str, Other)] = &[
    ("churn", churn::all),
    ("planning", sessions::planning),
    ("memory", sessions::partitions),
];

type Workload = fn(&mut Lab, &DataSet) -> Result<()>;

/// What is measured on few data sets, in this order: later ones change the tables.
const EVERYTHING: &[(&str, Workload)] = &[
    ("cold", |lab, set| {
        cold::probes(lab, set, &settings::server(SHARED_BUFFERS))
    }),
    ("memory", |lab, set| sessions::one_index(lab, set.name)),
    ("build", build::parallel),
    ("insert", insert::bulk),
    ("rows", clients::inserts),
    ("vacuum", change::delete_and_vacuum),
    ("growth", |lab, set| {
        lab.copy_base(&BOTH)?;
        lab.create_indexes(&BOTH)?;
        insert::grow(lab, set)
    }),
    ("update", change::updates),
    ("curve", curve::over_rows),
    ("floor", curve::tiny),
];
