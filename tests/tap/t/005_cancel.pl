# Statements are cancelled, and sessions ended, at random moments; then files
# can grow no more. Nothing is lost by it, and nobody is in the way afterwards.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../lib";
use IPC::Run ();
use Omen;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(sleep time);

my $seconds = $ENV{DURATION} // 10;
my $node = start_node('cancel');
create_table($node, 'live', rows => 10_000, with => 'fillfactor = 40');
create_table($node, 'built', rows => 20_000);

# What the sessions do over and over. Each is a psql that goes on after errors.
my %work = (
	'insert' => 'SELECT live_add(400);',
	'insert more' => 'SELECT live_add(50);',
	'update' => 'UPDATE live SET rnd = rnd + 1, dup = dup + 1 WHERE id % 50 = (random() * 50)::int;',
	'vacuum' => "DELETE FROM live WHERE id % 3 = (random() * 3)::int;\nVACUUM (INDEX_CLEANUP ON) live;",
	'scan' => 'SET enable_seqscan = off; SET enable_sort = off; SELECT count(*) FROM (SELECT rnd, id FROM live ORDER BY rnd) s; SELECT count(*) FROM (SELECT rnd FROM live ORDER BY rnd DESC) s;',
	'ranges' => "SELECT sum(must_agree('live', 'rnd', r, r + 20000000000)) FROM (SELECT (random() * 1e12)::bigint AS r FROM generate_series(1, 20)) s;",
	'build' => "SET maintenance_work_mem = '1MB';\nCREATE INDEX built_again ON built USING omen (rnd);\nDROP INDEX IF EXISTS built_again;",
	'reindex' => "REINDEX INDEX built_dup;\nREINDEX INDEX CONCURRENTLY built_rnd;");
my @sessions;

sub begin_work
{
	my ($what) = @_;
	my $session = { what => $what, out => '' };
	my $script = "$work{$what}\n" x 2000;
	$session->{run} = IPC::Run::start(
		[ 'psql', '-XAtq', '-h', $node->host, '-p', $node->port, '-d', "application_name='work $what' dbname=postgres" ],
		'<', \$script, '>', \$session->{out}, '2>&1');
	return $session;
}

push @sessions, begin_work($_) for sort keys %work;
my $hunter = $node->background_psql('postgres');
my $end = time + $seconds;
my ($cancelled, $ended) = (0, 0);
while (time < $end)
{
	sleep(rand(0.04));
	my $way = rand() < 0.9 ? 'cancel' : 'terminate';
	my $hit = $hunter->query_safe(qq{SELECT pg_${way}_backend(pid) FROM pg_stat_activity
		WHERE application_name LIKE 'work %' AND state = 'active' ORDER BY random() LIMIT 1});
	($way eq 'cancel' ? $cancelled : $ended)++ if $hit eq 't';
	if ($way eq 'terminate')
	{
		foreach my $session (@sessions)
		{
			$session->{run}->pump_nb;
			next if $session->{run}->pumpable;
			eval { $session->{run}->finish };
			push @{ $session->{old} }, $session->{out};
			my $old = $session->{old};
			$session = begin_work($session->{what});
			$session->{old} = $old;
		}
	}
}
$hunter->query_safe(q{SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity
	WHERE application_name LIKE 'work %'});
$hunter->quit;
eval { $_->{run}->finish } for @sessions;
note("$cancelled statements cancelled, $ended sessions ended");
cmp_ok($cancelled, '>', 3 * $seconds, 'statements were cancelled');
my @errors = grep {
	/ERROR|FATAL|PANIC|differ|WARNING/
	  && !/canceling statement|terminating connection|already exists|deadlock detected|index .* does not exist|cannot reindex invalid index/
} map { split /\n/, join("\n", @{ $_->{old} // [] }, $_->{out}) } @sessions;
ok(!@errors, 'no other errors') or diag(join "\n", splice(@errors, 0, 10));

# What a concurrent build has left behind is invalid, and dropped.
my $left = $node->safe_psql('postgres',
	"SELECT string_agg('DROP INDEX ' || indexrelid::regclass, ';') FROM pg_index WHERE NOT indisvalid");
$node->safe_psql('postgres', "$left") if $left ne '';
$node->safe_psql('postgres', 'DROP INDEX IF EXISTS built_again');
indexes_agree($node, $_, "after all, $_") for qw(live built);
$node->safe_psql('postgres', 'VACUUM (INDEX_CLEANUP ON)');
indexes_agree($node, $_, "vacuumed, $_") for qw(live built);
$node->restart('immediate');
indexes_agree($node, $_, "crashed, $_") for qw(live built);
my $load = start_load($node, 'live', 1, 4);
cmp_ok(finish_load($load, 'load'), '>', 20, 'work goes on');
indexes_agree($node, 'live', 'and is right');
log_is_clean($node, 'cancel');

# A limit on the size of files fails an extension as a full disk does. The
# index with room for few entries on each page meets it long before the table.
subtest 'no space left' => sub {
	$node->safe_psql('postgres', q{
ALTER SYSTEM SET autovacuum = off;
CREATE TABLE narrow (id bigint, k bigint) WITH (autovacuum_enabled = off);
INSERT INTO narrow SELECT i, hashint8extended(i, 0) >> 1 FROM generate_series(1, 40000) i;
CREATE INDEX narrow_k ON narrow USING omen (k) WITH (fillfactor = 10);
CHECKPOINT});
	my $size = $node->safe_psql('postgres', q{SELECT pg_relation_size('narrow_k') / 1024});
	my $heap = $node->safe_psql('postgres', q{SELECT pg_relation_size('narrow') / 1024});
	$node->stop;
	my $log = $node->logfile;
	# WAL segments are larger than the index: they exist already, and writing
	# within a file beyond the limit fails too, so the limit is above them.
	my $limit = 16384 > $size ? 16384 : $size;
	my $rows = 0;
	if ($size < $limit)
	{
		$node->start;
		# Grows the index to just below the limit.
		my $ratio = $size / 40000;
		$rows = int(($limit - 256 - $size) / $ratio);
		$node->safe_psql('postgres', qq{
DROP INDEX narrow_k;
INSERT INTO narrow SELECT i, hashint8extended(i, 0) >> 1 FROM generate_series(40001, 40000 + $rows) i;
CREATE INDEX narrow_k ON narrow USING omen (k) WITH (fillfactor = 10);
CHECKPOINT});
		$size = $node->safe_psql('postgres', q{SELECT pg_relation_size('narrow_k') / 1024});
		$heap = $node->safe_psql('postgres', q{SELECT pg_relation_size('narrow') / 1024});
		$node->stop;
	}
	note("index of $size kB, table of $heap kB, limit of $limit kB");
	my $start = sprintf q{ulimit -S -f %d; exec pg_ctl -w -s -D '%s' -l '%s' start}, $limit, $node->data_dir, $log;
	is(system('bash', '-c', $start), 0, 'a server with a limit on the size of files');
	$node->_update_pid(1);
	my ($rc, $out, $err, $full);
	my $next = 1_000_000;
	for my $round (1 .. 60)
	{
		($rc, $out, $err) = $node->psql('postgres', sprintf q{
\set VERBOSITY verbose
INSERT INTO narrow SELECT i, hashint8extended(i, 0) >> 1 FROM generate_series(%d, %d) i}, $next, $next + 4999);
		$next += 5000;
		$full++ if $rc != 0;
		last if $rc != 0 && $full >= 4;
	}
	like($err, qr/could not extend file .*File too large/, 'inserts fail when the index cannot grow');
	my @answers;
	foreach my $settings ('SET enable_seqscan = off; SET enable_sort = off', 'SET enable_indexscan = off; SET enable_indexonlyscan = off')
	{
		push @answers, $node->safe_psql('postgres', qq{SET enable_bitmapscan = off; $settings;
			SELECT count(*), sum(id), md5(string_agg(id::text, ',' ORDER BY id)) FROM (SELECT id, k FROM narrow ORDER BY k) s});
	}
	is($answers[0], $answers[1], 'omen and heap agree');
	($rc, $out, $err) = $node->psql('postgres', 'CREATE INDEX narrow_more ON narrow USING omen (k) WITH (fillfactor = 10)');
	like($err, qr/File too large/, 'so does a build');
	$node->safe_psql('postgres', 'DELETE FROM narrow WHERE id % 10 <> 0; VACUUM (INDEX_CLEANUP ON) narrow');
	$node->safe_psql('postgres', sprintf q{
INSERT INTO narrow SELECT i, hashint8extended(i, 0) >> 1 FROM generate_series(%d, %d) i}, $next, $next + 9999);
	pass('there is room again after DELETE and VACUUM');
	$node->stop('immediate');
	$node->start;
	@answers = ();
	foreach my $settings ('SET enable_seqscan = off; SET enable_sort = off', 'SET enable_indexscan = off; SET enable_indexonlyscan = off')
	{
		push @answers, $node->safe_psql('postgres', qq{SET enable_bitmapscan = off; $settings;
			SELECT count(*), sum(id), md5(string_agg(id::text, ',' ORDER BY id)) FROM (SELECT id, k FROM narrow ORDER BY k) s});
	}
	is($answers[0], $answers[1], 'omen and heap agree after a crash');
};
$node->stop;
log_is_clean($node, 'cancel');
done_testing();
