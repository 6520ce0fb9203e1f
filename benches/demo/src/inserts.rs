//! Inserts: INSERT ... SELECT into the table of each index and into one without.

use anyhow::Result;

use crate::data::{Growth, Place};
use crate::measure::{BTREE, CANDIDATE, Target, median, run};
use crate::progress::stage;
use crate::workloads::{Bench, as_f64};

/// Rows per statement, fewer on small tables.
const BATCH: u64 = 100_000;

/// A table without index: its time is what no index can save.
pub const PLAIN: Target = Target {
    table: "t_plain",
    index: "",
};

/// The order of rows within a batch.
#[derive(Clone, Copy, PartialEq, Eq)]
enum RowOrder {
    ByKey,
    AsItComes,
}

impl Bench<'_> {
    /// Bulk inserts in the order of the key and, where keys fall anywhere, without order.
    pub(crate) fn inserts(&mut self) -> Result<()> {
        let Some(growth) = &self.case.growth else {
            return Ok(());
        };
        match growth.place {
            Place::End => self.insert("bulk append", growth, RowOrder::ByKey),
            Place::Everywhere => {
                self.insert("bulk insert in key order", growth, RowOrder::ByKey)?;
                self.insert("insert in random order", growth, RowOrder::AsItComes)
            }
        }
    }

    fn insert(&mut self, workload: &str, growth: &Growth, order: RowOrder) -> Result<()> {
        stage(&format!("{}: {workload}", self.case.name));
        let batches = self.reps as u64 + 1;
        let size = BATCH.min(self.column.rows / (2 * batches)).max(1);
        self.draw_batches(growth, order, batches, size)?;

        let targets = [BTREE, CANDIDATE, PLAIN];
        let mut seconds = [Vec::new(), Vec::new(), Vec::new()];
        for batch in 0..batches {
            self.load_batch(batch, order)?;
            for turn in 0..targets.len() {
                let which = (usize::try_from(batch)? + turn) % targets.len();
                let insert = "INSERT INTO {t} SELECT * FROM batch";
                let (took, _) = run(self.client, insert, &targets[which])?;
                // The first batch warms up.
                if batch > 0 {
                    seconds[which].push(took.as_secs_f64());
                }
            }
        }

        let equal = self.indexes_agree_with(PLAIN.table)?;
        let per_row = 1e6 / as_f64(size);
        let [btree, candidate, plain] = seconds.map(|mut times| median(&mut times) * per_row);
        let unit = "\u{b5}s/row";
        self.push(workload, size, unit, (btree, candidate), Some(equal));
        let shares = (btree - plain, candidate - plain);
        let workload = format!("{workload}, index share");
        self.push(&workload, size, unit, shares, Some(equal));
        Ok(())
    }

    /// Table `further`: all rows to insert, numbered by batch.
    fn draw_batches(
        &mut self,
        growth: &Growth,
        order: RowOrder,
        batches: u64,
        size: u64,
    ) -> Result<()> {
        let column = self.case.column;
        let sql = growth.sql.replace("{n}", &(batches * size).to_string());
        let window = match growth.place {
            Place::End => format!("ORDER BY {column}"),
            Place::Everywhere => String::new(),
        };
        let seed = match order {
            RowOrder::ByKey => 0.7,
            RowOrder::AsItComes => 0.9,
        };
        self.client.batch_execute(&format!(
            "RESET ALL;
             SELECT setseed({seed});
             DROP TABLE IF EXISTS further;
             CREATE TABLE further AS
                SELECT f.*, (row_number() OVER ({window}) - 1) / {size} AS batch
                FROM ({sql}) AS f;"
        ))?;
        Ok(())
    }

    /// Table `batch`: the rows of one statement in the order of their insertion.
    fn load_batch(&mut self, batch: u64, order: RowOrder) -> Result<()> {
        let order = match order {
            RowOrder::ByKey => format!("ORDER BY {}", self.case.column),
            RowOrder::AsItComes => String::new(),
        };
        self.client.batch_execute(&format!(
            "DROP TABLE IF EXISTS batch;
             CREATE TABLE batch AS SELECT * FROM further WHERE batch = {batch} {order};
             ALTER TABLE batch DROP COLUMN batch;
             ANALYZE batch;"
        ))?;
        Ok(())
    }
}
