# What the TAP tests have in common: a table with an omen index and a btree
# index on equal columns, a load on it, and the comparison of all answers.
package Omen;

use strict;
use warnings;

use Exporter 'import';
use IPC::Run ();
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

our @EXPORT = qw(
  new_node start_node crash create_table indexes_agree scan_answers
  start_load finish_load log_is_clean index_path indexes_are_sound
);

# The columns of the test table, as serial numbers, random numbers with NULLs,
# and few distinct values. Each has an omen index t_COLUMN; its btree twin is
# COLUMN_b, which is generated and thus always equal.
our @COLUMNS = qw(seq rnd dup);

# A node that logs little, plans without chance, and vacuums all the time.
# Options: conf => further settings, install_path => another PostgreSQL than that
# on the PATH, all else is for PostgreSQL::Test's init.
sub new_node
{
	my ($name, %options) = @_;
	my $conf = delete $options{conf} // '';
	my @where = map { ($_ => delete $options{$_}) } grep { $options{$_} } 'install_path';
	# The module's own default is minimal, which leaves builds out of the log.
	$conf = "wal_level = replica\n$conf" unless $options{allows_streaming};
	my $node = PostgreSQL::Test::Cluster->new($name, @where);
	$node->init(%options);
	$node->append_conf('postgresql.conf', qq{
log_statement = none
log_replication_commands = off
max_connections = 30
shared_buffers = 8MB
jit = off
checkpoint_timeout = 30s
max_prepared_transactions = 10
autovacuum_naptime = 1s
autovacuum_vacuum_threshold = 20
autovacuum_vacuum_scale_factor = 0
autovacuum_vacuum_insert_threshold = 1000
autovacuum_vacuum_insert_scale_factor = 0
autovacuum_vacuum_cost_delay = 0
$conf});
	return $node;
}

# As new_node, started, with the extension and its functions.
sub start_node
{
	my ($name, %options) = @_;
	my $node = new_node($name, %options);
	$node->start;
	$node->safe_psql('postgres', q{
CREATE EXTENSION omendb_index;

-- Raises an error unless omen and btree see the same rows between two values,
-- by the same snapshot, forwards and backwards.
CREATE FUNCTION must_agree(tab text, col text, lo bigint, hi bigint) RETURNS bigint
LANGUAGE plpgsql SET enable_seqscan = off SET enable_sort = off AS $$
DECLARE
	up bigint[];
	down bigint[];
	twin bigint[];
BEGIN
	EXECUTE format('SELECT array(SELECT id FROM %1$I WHERE %2$I BETWEEN $1 AND $2 ORDER BY %2$I),
		array(SELECT id FROM %1$I WHERE %2$I BETWEEN $1 AND $2 ORDER BY %2$I DESC),
		array(SELECT id FROM %1$I WHERE %3$I BETWEEN $1 AND $2 ORDER BY %3$I)',
		tab, col, col || '_b') INTO up, down, twin USING lo, hi;
	IF array(SELECT unnest(up) ORDER BY 1) <> array(SELECT unnest(twin) ORDER BY 1)
		OR array(SELECT unnest(down) ORDER BY 1) <> array(SELECT unnest(twin) ORDER BY 1) THEN
		RAISE 'omen and btree differ: % of % between % and %: up %, down %, btree %',
			col, tab, lo, hi, up, down, twin;
	END IF;
	RETURN cardinality(up);
END $$;

-- Raises the first fault of an index, unless the one of that name has been
-- replaced meanwhile, as REINDEX CONCURRENTLY does.
CREATE FUNCTION must_be_sound(index text) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
	looked_at regclass := index;
BEGIN
	PERFORM omen_index_check(looked_at, true);
EXCEPTION WHEN object_not_in_prerequisite_state OR undefined_table OR internal_error THEN
	IF looked_at = to_regclass(index) THEN
		RAISE;
	END IF;
END $$;
});
	return $node;
}

# Stops a node without a word to it, and starts it again.
sub crash
{
	my ($node) = @_;
	$node->stop('immediate');
	$node->start;
	return;
}

# A table with rows and indexes. Options: rows, kind (UNLOGGED), with (of the
# omen indexes).
sub create_table
{
	my ($node, $table, %options) = @_;
	my $rows = $options{rows} // 20_000;
	my $kind = $options{kind} // '';
	my $with = $options{with} ? "WITH ($options{with})" : '';
	$node->safe_psql('postgres', qq{
CREATE $kind TABLE $table (
	id bigint PRIMARY KEY,
	seq bigint NOT NULL,
	rnd bigint,
	dup bigint,
	filler text,
	seq_b bigint GENERATED ALWAYS AS (seq) STORED,
	rnd_b bigint GENERATED ALWAYS AS (rnd) STORED,
	dup_b bigint GENERATED ALWAYS AS (dup) STORED);
CREATE SEQUENCE ${table}_ids;
CREATE FUNCTION ${table}_add(rows int) RETURNS void LANGUAGE sql AS \$\$
	INSERT INTO $table (id, seq, rnd, dup, filler)
	SELECT i, i * 10, nullif((random() * 1e6)::bigint * 1000003, 1000003 * (i % 50)),
		nullif((random() * 30)::bigint, 0), repeat('x', (i % 40)::int)
	FROM (SELECT nextval('${table}_ids') AS i FROM generate_series(1, rows)) s
\$\$;
SELECT ${table}_add($rows);
} . join('', map { qq{
CREATE INDEX ${table}_$_ ON $table USING omen ($_) $with;
CREATE INDEX ${table}_${_}_b ON $table USING btree (${_}_b);
} } @COLUMNS) . "ANALYZE $table;");
	return;
}

# What the planner may use, for each way of reading.
my %SETTINGS = (
	'sequential' => ['seqscan'],
	'forward' => ['indexscan'],
	'backward' => ['indexscan'],
	'index-only' => [ 'indexscan', 'indexonlyscan' ],
	'bitmap' => ['bitmapscan']);

# SQL that reads a whole table in one way: the plan, then a line "ANSWER",
# rows, whether in order, digest.
sub reading
{
	my ($table, $way, $column) = @_;
	my $id = $way eq 'index-only' ? '0 AS id' : 'id';
	my $rows = "SELECT $column AS k, $id FROM $table";
	$rows .= " WHERE $column IS NULL OR $column >= -9223372036854775807" if $way eq 'bitmap';
	my $ordered = 'true';
	if ($way =~ /^(forward|index-only)$/)
	{
		$rows .= " ORDER BY $column";
		$ordered = 'n = 1 OR k IS NULL OR coalesce(k >= before, false)';
	}
	if ($way eq 'backward')
	{
		$rows .= " ORDER BY $column DESC";
		$ordered = 'n = 1 OR before IS NULL OR coalesce(k <= before, false)';
	}
	my %allowed = map { $_ => 1 } @{ $SETTINGS{$way} };
	my $settings = join '', map { "SET enable_$_ = " . ($allowed{$_} ? 'on;' : 'off;') }
	  qw(seqscan indexscan indexonlyscan bitmapscan);
	return qq{
$settings
\\echo PLAN $way
EXPLAIN (COSTS OFF) $rows;
SELECT 'ANSWER', count(*), coalesce(bool_and($ordered), true),
	md5(string_agg(concat(k, '/', id), ' ' ORDER BY k, id))
FROM (SELECT k, id, lag(k) OVER () AS before, row_number() OVER () AS n FROM ($rows) s) t;
};
}

# Reads a whole column in several ways. Returns answers by way; what is not one
# begins with a letter.
sub read_column
{
	my ($node, $table, $column, @ways) = @_;
	my ($rc, $out, $err) = $node->psql('postgres',
		"SET max_parallel_workers_per_gather = 0; SET enable_sort = off;\n"
		  . join('', map { reading($table, $_, $column) } @ways));
	my %answers = map { $_ => "failed: $err" } @ways;
	my $index = "${table}_$column";
	my %wanted = (
		'sequential' => "Seq Scan on $table",
		'bitmap' => "Bitmap Index Scan on $index",
		'forward' => "Index Scan using $index",
		'backward' => "Index Scan Backward using $index",
		'index-only' => "Index Only Scan using $index");
	foreach my $part (split /^PLAN /m, $out)
	{
		my ($way, $plan, $answer) = $part =~ /\A(\S+)\n(.*)^ANSWER\|([^\n]*)/ms or next;
		$answers{$way} = $plan =~ /\Q$wanted{$way}\E\b/ ? $answer : "another plan: $plan";
	}
	return \%answers;
}

# Reads a whole column in one way.
sub scan_answers
{
	my ($node, $table, $way, $column) = @_;
	return read_column($node, $table, $column, $way)->{$way};
}

# Compares everything that can be asked of an index with a sequential scan and
# with btree, while nobody writes. Options: index_only => 0 on a standby.
sub indexes_agree
{
	my ($node, $table, $name, %options) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my @only = $options{index_only} // 1 ? 'index-only' : ();
	my @wrong;
	foreach my $column (@COLUMNS)
	{
		my $omen = read_column($node, $table, $column, qw(sequential forward backward bitmap), @only);
		my $btree = read_column($node, $table, "${column}_b", 'forward', @only);
		my $truth = $omen->{sequential};
		push @wrong, "$column, sequential: $truth" if $truth !~ /^\d+\|t/;
		foreach my $way (qw(forward backward bitmap))
		{
			push @wrong, "$column, $way: $omen->{$way}, but $truth" if $omen->{$way} ne $truth;
		}
		push @wrong, "$column, btree: $btree->{forward}, but $truth" if $btree->{forward} ne $truth;
		foreach my $way (@only)
		{
			push @wrong, "$column, $way: $omen->{$way}, but $btree->{$way}"
			  if $omen->{$way} ne $btree->{$way} || $omen->{$way} !~ /^\d/;
		}
		my ($rc, $out, $err) = $node->psql('postgres', qq{
SELECT count(must_agree('$table', '$column', lo, lo + (random() * part * span)::bigint))
FROM (VALUES (0, 20), (1e-4, 20), (1e-2, 20), (0.3, 3)) w (part, times),
	LATERAL (SELECT m AS span, (random() * m * 1.1)::bigint AS lo
		FROM generate_series(1, times), (SELECT max($column) AS m FROM $table) t) s;
SELECT count(must_agree('$table', '$column', k, k))
FROM (SELECT $column AS k FROM $table WHERE $column IS NOT NULL ORDER BY random() LIMIT 20) s;
});
		push @wrong, "$column, ranges: $err" if $rc != 0;
	}
	ok(!@wrong, "$name: omen, btree and heap agree") or diag(join "\n", @wrong);
	indexes_are_sound($node, $name);
	return !@wrong;
}

# Has omen_index_check look at all indexes, and keep writers out where it can:
# not on a standby, nor where a transaction stays open.
sub indexes_are_sound
{
	my ($node, $name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my $check = 'SELECT coalesce(fault, $$sound$$) FROM omen_check_all(true, %s)';
	my ($rc, $out, $err) = $node->psql('postgres',
		'SET lock_timeout = 1000;' . sprintf $check, 'NOT pg_is_in_recovery()');
	($rc, $out, $err) = $node->psql('postgres', sprintf $check, 'false') if $err =~ /lock timeout/;
	my @faults = grep { $_ ne 'sound' } split /\n/, $out;
	ok($rc == 0 && $out ne '' && !@faults, "$name: all omen indexes are sound")
	  or diag(join "\n", @faults, $err);
	return;
}

# Starts pgbench on a table: inserts in order and at random, updates, some of one
# row, deletes, some at one end, and selects of ranges that must be the same from omen and btree.
sub start_load
{
	my ($node, $table, $seconds, $clients) = @_;
	my $last = $node->safe_psql('postgres', "SELECT last_value FROM ${table}_ids");
	my %scripts = (
		'append@4' => "SELECT ${table}_add(1);",
		'batch@2' => "SELECT ${table}_add(:some);",
		'update@4' => "UPDATE $table SET rnd = :r::bigint * 1000003, dup = :some WHERE id = :id;",
		'hot@2' => "UPDATE $table SET filler = 'y' WHERE id = :id;",
		'counter@4' => "UPDATE $table SET dup = :some WHERE seq = $last * 10;",
		'queue@2' => "DELETE FROM $table WHERE seq = (SELECT min(seq) FROM $table);",
		'delete@2' => "DELETE FROM $table WHERE id BETWEEN :id AND :id + 4;",
		'abort@1' => "BEGIN;\nSELECT ${table}_add(:some);\nUPDATE $table SET rnd = NULL WHERE id = :id;\nROLLBACK;",
		'random@2' => "SELECT must_agree('$table', 'rnd', :r::bigint * 1000003, (:r + 5000)::bigint * 1000003);",
		'serial@2' => "SELECT must_agree('$table', 'seq', :id * 10, :id * 10 + 3000);",
		'check@1' => "SELECT must_be_sound('${table}_rnd');",
		'equal@1' => "SELECT must_agree('$table', 'dup', :some, :some);");
	my @files;
	foreach my $script (sort keys %scripts)
	{
		my ($name, $weight) = split /@/, $script;
		my $file = $node->basedir . "/$table-$name.sql";
		open my $out, '>', $file or die "$file: $!";
		print $out "\\set id random(1, $last)\n\\set r random(0, 1000000)\n\\set some random(1, 40)\n",
		  $scripts{$script}, "\n";
		close $out;
		push @files, '-f', "$file\@$weight";
	}
	# Before version 15, a client that meets a deadlock gives up.
	my @retry = $node->pg_version >= 15 ? '--max-tries=100' : ();
	my $load = { node => $node, log => slurp_length($node->logfile), out => '' };
	$load->{run} = IPC::Run::start(
		[ 'pgbench', '-n', '-c', $clients, '-j', 1, '-T', $seconds, @retry, @files,
			'-h', $node->host, '-p', $node->port, 'postgres' ],
		'>', \$load->{out}, '2>&1');
	return $load;
}

# Waits until a load has ended, by itself or because its server has. Returns
# the number of transactions.
sub finish_load
{
	my ($load, $name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	eval { $load->{run}->finish; 1 } or diag("pgbench: $@");
	my $log = substr(slurp_file($load->{node}->logfile), $load->{log});
	my @errors = grep { /ERROR:|differ/ && !/deadlock detected|transaction is aborted|canceling|terminating/ } split /\n/, $log;
	ok(!@errors, "$name: no errors") or diag(join "\n", splice(@errors, 0, 5), $load->{out});
	my ($done) = $load->{out} =~ /actually processed: (\d+)/;
	return $done // 0;
}

sub slurp_length
{
	my ($file) = @_;
	return -s $file // 0;
}

# Nothing in the log that a server must never say.
sub log_is_clean
{
	my ($node, $name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my @lines = grep {
		/PANIC|TRAP:|refcount leak|leak:|still referenced|resource was not closed|terminated by signal|panicked|unexpected data beyond EOF|no unpinned buffers|incorrect resource|LWLock|memory allocation/
	} split /\n/, slurp_file($node->logfile);
	ok(!@lines, "$name: nothing suspicious in the log") or diag(join "\n", splice(@lines, 0, 10));
	return;
}

# The file of an index, for tests that damage it while the server is stopped.
sub index_path
{
	my ($node, $index) = @_;
	return $node->data_dir . '/'
	  . $node->safe_psql('postgres', "SELECT pg_relation_filepath('$index')");
}

1;
