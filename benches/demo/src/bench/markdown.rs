//! The report that can be kept with the documentation.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use crate::bench::datasets::DataSet;
use crate::bench::plots::Picture;
use crate::bench::results::{Measurement, Versions};
use crate::bench::{goals, tables};
use crate::report::{grouped, left, new_table};

/// Everything that the report is made of.
pub struct Markdown<'a> {
    pub candidate: &'a str,
    pub command: &'a str,
    pub rows: u64,
    pub versions: &'a Versions,
    pub machine: &'a [(String, String)],
    pub settings: &'a [(String, String)],
    pub sets: &'a [DataSet],
    pub pictures: &'a [Picture],
    pub results: &'a [Measurement],
}

const METHOD: &str = "\
Each index method has its own copy of the table, in a private cluster that nothing else uses.
Tables are vacuumed and analysed, and in shared buffers where these are large enough. Methods
take turns, another one first in each round; after a warm-up round the median counts, and the
least and the greatest stand in parentheses. EXPLAIN must show the plan that is meant, and all
answers are compared: those of a query between methods, those of an index after changes with
its table. Ratio is btree's cost divided by omen's, for rates omen's divided by btree's: above
1 omen is better. It is taken in each round, and the median counts, since the machine is faster
at some times than at others; results.json has the values of all rounds. Times of reads are per
lookup, range or query, as the client sees them; what reads the payload visits the table.

The index share of an insert is what it takes beyond the same insert into a table without
index. There is a checkpoint before the warm-up and none after it, so WAL has the full images
of those pages alone that are new or were not touched by the warm-up. The inserts by COPY come
after those by INSERT, which split many of the pages that the build has filled. `fsync` is off: the
processor is measured, and a disk would hide differences. Memory is RssAnon of the backend,
which shared buffers are not in.";

impl Markdown<'_> {
    pub fn write(&self, path: &Path) -> Result<()> {
        fs::write(path, self.text()).with_context(|| format!("cannot write {}", path.display()))
    }

    fn text(&self) -> String {
        let mut text = format!(
            "# Benchmarks\n\n\
             {} beside btree, and beside hash and BRIN where these can do the work:\n\
             {} rows in each data set (or as many as there are), PostgreSQL {}, omendb_index {}.\n\
             Made by\n\n```\n{}\n```\n\n## How it is measured\n\n{METHOD}\n\n",
            self.candidate,
            grouped(self.rows),
            self.versions.postgresql,
            self.versions.omendb_index,
            self.command
        );
        text.push_str(&pairs(["machine", ""], self.machine));
        text.push_str(&pairs(["setting", "value"], self.settings));
        let sets: Vec<(String, String)> = self
            .sets
            .iter()
            .map(|set| (set.name.to_owned(), set.about.to_owned()))
            .collect();
        text.push_str(&pairs(["data set", "keys"], &sets));
        text.push_str(&goals_section(self.results, self.candidate, self.rows));
        text.push_str(&tables::losses(self.results, self.candidate));
        text.push_str(&tables::all(self.results, self.candidate));
        text.push_str("\n## Pictures\n");
        for (file, title) in self.pictures {
            text.push_str(&format!("\n![{title}]({file})\n"));
        }
        text
    }
}

/// The section of goals, for the report and for the terminal.
pub fn goals_section(results: &[Measurement], candidate: &str, rows: u64) -> String {
    let note = if rows == goals::ROWS {
        String::new()
    } else {
        format!(
            "The goals are for {} rows, and these are {}.\n\n",
            grouped(goals::ROWS),
            grouped(rows)
        )
    };
    format!("\n## Goals\n\n{note}{}\n", goals::table(results, candidate))
}

fn pairs(header: [&str; 2], pairs: &[(String, String)]) -> String {
    let mut table = new_table(&header);
    for (name, value) in pairs {
        table.add_row([left(name), left(value)]);
    }
    format!("{table}\n\n")
}
