# Parallel builds that go wrong: an error of a worker, a worker or a leader that is
# terminated, cancels at random moments. Nothing is left behind: no worker, no
# temporary file, no index. Then builds beside writers, and a crash.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../lib";
use IPC::Run ();
use Omen;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(sleep time);

my $duration = $ENV{DURATION} // 10;
my $node = start_node('build', conf => q{
max_worker_processes = 16
max_parallel_workers = 12
max_parallel_maintenance_workers = 3
maintenance_work_mem = '1MB'
});
$node->safe_psql('postgres', q{
CREATE TABLE big AS SELECT i AS id, hashint8extended(i, 0) AS k FROM generate_series(1, 200000) i;
ALTER TABLE big SET (parallel_workers = 3);
CREATE FUNCTION slow(k bigint) RETURNS bigint LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS
	'BEGIN IF k % 100 = 0 THEN PERFORM pg_sleep(0.01); END IF; RETURN k; END'});
my $workers = q{FROM pg_stat_activity WHERE backend_type = 'parallel worker'};

# Raises no fault if no build has left anything.
sub nothing_is_left
{
	my ($name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	ok($node->poll_query_until('postgres', "SELECT count(*) = 0 $workers"), "$name: no worker is left");
	ok($node->poll_query_until('postgres', 'SELECT count(*) = 0 FROM pg_ls_tmpdir()'), "$name: no temporary file is left");
	is($node->safe_psql('postgres', q{SELECT count(*) FROM pg_class WHERE relname LIKE 'big\_%'}), 0, "$name: no index is left");
	return;
}

# As many workers as were asked for.
my ($rc, $out, $err) = $node->psql('postgres',
	'SET client_min_messages = debug1; CREATE INDEX big_k ON big USING omen (k)');
like($err, qr/building index "big_k" with 3 parallel workers/, 'workers help to build');
indexes_are_sound($node, 'built in parallel');
crash($node);
indexes_are_sound($node, 'built in parallel, after a crash');
$node->safe_psql('postgres', 'DROP INDEX big_k');

# One row of one process.
foreach my $row (1, 100_000, 199_999, 200_000)
{
	($rc, $out, $err) = $node->psql('postgres', "CREATE INDEX big_bad ON big USING omen ((1 / (id - $row)))");
	like($err, qr/ERROR:  division by zero/, "an error at row $row ends the build");
}
nothing_is_left('after errors');

($rc, $out, $err) = $node->psql('postgres',
	q{SET temp_file_limit = '300kB'; CREATE INDEX big_k ON big USING omen (k)});
like($err, qr/temporary file size exceeds/, 'each process keeps to the limit on temporary files');
nothing_is_left('after too large files');

# Whoever is terminated, the build ends.
foreach my $how ("pg_terminate_backend(pid) $workers LIMIT 1", "pg_cancel_backend(leader_pid) $workers LIMIT 1",
	"pg_terminate_backend(leader_pid) $workers LIMIT 1")
{
	my $errors = '';
	my $build = IPC::Run::start(
		[ 'psql', '-XAtq', '-d', $node->connstr('postgres'), '-c', 'CREATE INDEX big_slow ON big USING omen (slow(id))' ],
		'<', '/dev/null', '>', \my $answer, '2>', \$errors, IPC::Run::timeout(60));
	for (1 .. 100)
	{
		last if $node->safe_psql('postgres', "SELECT $how") ne '';
		sleep(0.1);
	}
	eval { $build->finish; 1 };
	like($errors, qr/administrator command|user request|lost connection|terminated/, "$how ends the build");
}
nothing_is_left('after ends by force');

# At any moment: while all scan, sort, send, and the leader loads.
my ($cancelled, $done) = (0, 0);
my $end = time + $duration;
my $longest = 0.2;
while (time < $end)
{
	my $patience = 1 + int(rand($longest * 1000));
	my $begun = time;
	($rc, $out, $err) = $node->psql('postgres',
		"SET statement_timeout = $patience; CREATE INDEX big_k ON big USING omen (k)");
	if ($rc == 0)
	{
		$longest = time - $begun;
		$node->safe_psql('postgres', 'DROP INDEX big_k');
		$done++;
		next;
	}
	$longest *= 1.1;
	last if $err !~ /canceling statement due to statement timeout/;
	$cancelled++;
}
unlike($err, qr/ERROR(?!:  canceling statement)/, 'no other error than that of the cancel');
cmp_ok($cancelled, '>', 10, "of " . ($cancelled + $done) . ' builds some were cancelled');
nothing_is_left('after cancels');

# Beside writers.
create_table($node, 'live', rows => 20_000);
$node->safe_psql('postgres', 'ALTER TABLE live SET (parallel_workers = 2)');
my $load = start_load($node, 'live', $duration, 3);
my $builds = 0;
$end = time + $duration;
while (time < $end)
{
	my $column = (qw(seq rnd dup))[ $builds % 3 ];
	$node->psql('postgres', "SET client_min_messages = error; REINDEX INDEX CONCURRENTLY live_$column");
	$builds++;
}
finish_load($load, 'beside builds');
cmp_ok($builds, '>', 2, 'indexes were built');
$node->safe_psql('postgres', $_) for split /\n/, $node->safe_psql('postgres',
	"SELECT 'DROP INDEX ' || indexrelid::regclass FROM pg_index WHERE NOT indisvalid");
indexes_agree($node, 'live', 'built beside writers');
$node->stop;
log_is_clean($node, 'build');
done_testing();
