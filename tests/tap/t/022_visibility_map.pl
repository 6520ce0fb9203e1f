# Index-only scans of rows in no order, of a table that has two pages of the visibility
# map: both stay pinned meanwhile, nobody waits for that, and no pin is left behind.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../lib";
use Omen;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = start_node('map', conf => q{
autovacuum = off
parallel_setup_cost = 0
parallel_tuple_cost = 0
min_parallel_index_scan_size = 0
cpu_tuple_cost = 1
});
my $rows = 40_000;
# A row to a page; a page of the map is about 32,672 of them.
$node->safe_psql('postgres', qq{
	CREATE UNLOGGED TABLE wide (k bigint, ordered bigint, filler text) WITH (fillfactor = 10);
	ALTER TABLE wide ALTER filler SET STORAGE PLAIN;
	INSERT INTO wide SELECT g * 7919 % 40009, g, repeat('x', 900) FROM generate_series(1, $rows) AS g;
	CREATE INDEX ON wide USING omen (k);
	CREATE INDEX ON wide USING omen (ordered);
	VACUUM (ANALYZE) wide});
my $blocks = $node->safe_psql('postgres', q{SELECT pg_relation_size('wide') / 8192});
cmp_ok($blocks, '>=', $rows, "the table has $blocks pages");

# Not every PostgreSQL that was built for tests has this.
my $has_pins = $node->safe_psql('postgres', q{SELECT count(*) FROM pg_available_extensions WHERE name = 'pg_buffercache'});
$node->safe_psql('postgres', 'CREATE EXTENSION pg_buffercache') if $has_pins;
my $only = 'SET enable_seqscan = off; SET enable_bitmapscan = off; SET enable_sort = off; SET max_parallel_workers_per_gather = 0;';
my $pins = q{SELECT count(*) FROM pg_buffercache WHERE relforknumber = 2 AND pinning_backends > 0
	AND relfilenode = pg_relation_filenode('wide')
	AND reldatabase = (SELECT oid FROM pg_database WHERE datname = current_database())};

# Whether so many pages of the map are pinned.
sub pinned
{
	my ($count, $name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
  SKIP:
	{
		skip 'pg_buffercache is not there', 1 if !$has_pins;
		is($node->safe_psql('postgres', $pins), $count, "$name: pages pinned");
	}
	return;
}

# Fetches some rows by a cursor. Returns the session, which stays open.
sub fetch_some
{
	my ($column, $count, $order) = @_;
	my $query = "SELECT $column FROM wide WHERE $column BETWEEN 1000 AND 30000 ORDER BY $column $order";
	my $session = $node->background_psql('postgres', on_error_stop => 0);
	$session->query_safe($only);
	like($session->query_safe("EXPLAIN (COSTS OFF) $query"), qr/Index Only Scan/, "$column: the plan");
	$session->query_safe("BEGIN; DECLARE c CURSOR FOR $query");
	is(scalar split(/\n/, $session->query_safe("FETCH $count FROM c")), $count, "$column: $count rows");
	return $session;
}

my $session = fetch_some('ordered', 500, 'ASC');
pinned(1, 'in order');
$session->query_safe('COMMIT');
$session->quit;

$session = fetch_some('k', 100, 'ASC');
pinned(1, 'few rows');
$session->query_safe('COMMIT');
$session->quit;

$session = fetch_some('k', 500, 'DESC');
pinned(2, 'downwards, in no order');
$session->query_safe('FETCH ALL FROM c');
pinned(1, 'behind the last row');
$session->query_safe('FETCH BACKWARD 1000 FROM c; COMMIT');
$session->quit;

my $expected = $node->safe_psql('postgres', 'SELECT count(*), sum(k) FROM wide WHERE k BETWEEN 1000 AND 30000');
my ($count) = split /\|/, $expected;
$session = fetch_some('k', 500, 'ASC');
pinned(2, 'in no order');

# The bits of the map change under the cursor, and its snapshot sees the rows all the same.
$node->safe_psql('postgres', q{
	SET statement_timeout = '60s';
	DELETE FROM wide WHERE k % 3 = 0;
	VACUUM (INDEX_CLEANUP OFF) wide;
	INSERT INTO wide SELECT k, ordered, filler FROM wide WHERE k % 3 = 1 AND k < 5000});
my $rest = scalar split(/\n/, $session->query_safe('FETCH ALL FROM c'));
is($rest, $count - 500, 'all rows of the snapshot');
pinned(1, 'behind the last row');
$session->query_safe('COMMIT');
pinned(0, 'at the end of the transaction');

# Pages that are held from a subtransaction on, which ends before the scan does.
my $sums = 'SELECT count(*) FROM wide WHERE k BETWEEN 1000 AND 30000';
$count = $session->query_safe($sums);
foreach my $end ('ROLLBACK TO s', 'RELEASE s')
{
	$session->query_safe('BEGIN; DECLARE c CURSOR FOR SELECT k FROM wide WHERE k BETWEEN 1000 AND 30000 ORDER BY k; SAVEPOINT s');
	$session->query_safe('FETCH 700 FROM c');
	pinned(2, 'in a subtransaction');
	$session->query_safe($end);
	is(scalar split(/\n/, $session->query_safe('FETCH ALL FROM c')), $count - 700, "$end: all other rows");
	$session->query_safe('CLOSE c; COMMIT');
	pinned(0, "$end, at the end");
}
$session->query_safe('BEGIN; DECLARE h CURSOR WITH HOLD FOR SELECT k FROM wide WHERE k BETWEEN 1000 AND 30000 ORDER BY k');
$session->query_safe('FETCH 700 FROM h; COMMIT');
pinned(0, 'with hold');
is(scalar split(/\n/, $session->query_safe('FETCH ALL FROM h; CLOSE h')), $count - 700, 'with hold: all other rows');

# An ERROR and a rollback to a savepoint in the middle of such a scan.
$session->query_safe('BEGIN; SAVEPOINT s');
$session->query('SELECT sum(1 / (k - 20000)) FROM wide WHERE k BETWEEN 1001 AND 30000');
like($session->{stderr}, qr/division by zero/, 'an ERROR');
$session->{stderr} = '';
pinned(0, 'behind it');
$session->query_safe('ROLLBACK TO s');
my $again = 'SELECT count(*), sum(k) FROM wide WHERE k BETWEEN 1000 AND 30000';
my $through_index = $session->query_safe($again);
$session->query_safe('COMMIT');
$session->quit;
is($through_index, $node->safe_psql('postgres', "SET enable_indexscan = off; SET enable_indexonlyscan = off; SET enable_bitmapscan = off; $again"), 'the rows afterwards');

foreach my $workers (1, 3)
{
	my $parallel = "$only SET max_parallel_workers_per_gather = $workers;";
	like($node->safe_psql('postgres', "$parallel EXPLAIN $again"), qr/Parallel Index Only Scan/, "$workers workers: the plan");
	is($node->safe_psql('postgres', "$parallel $again"), $through_index, "$workers workers: the rows");
}
pinned(0, 'after parallel scans');
# Ranges looked up one after the other, by one scan that starts over.
my $ranges = "SELECT count(*), sum(k) FROM generate_series(0, 40) AS g, LATERAL (SELECT k FROM wide WHERE k BETWEEN g * 1000 AND g * 1000 + 500) AS x";
is($node->safe_psql('postgres', "$only $ranges"),
	$node->safe_psql('postgres', 'SELECT count(*), sum(k) FROM wide WHERE k % 1000 <= 500'), 'many ranges');
$node->stop;
log_is_clean($node, 'map');
done_testing();
