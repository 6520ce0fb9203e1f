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
	$session->{run} = IPC::Run::start(
		[ 'psql', '-XAtq', '-h', $node->host, '-p', $node->port, '-d', "application_name='work $what' dbname=postgres",
			'-f', $node->basedir . "/$what.sql" ],
		'<', \undef, '>', \$session->{out}, '2>&1');
	return $session;
}

append_to_file($node->basedir . "/$_.sql", "$work{$_}\n" x 2000) for keys %work;
push @sessions, begin_work($_) for sort keys %work;
my $end = time + $seconds;
my ($cancelled, $ended) = (0, 0);
while (time < $end)
{
	sleep(rand(0.04));
	my $way = rand() < 0.9 ? 'cancel' : 'terminate';
	my $hit = $node->safe_psql('postgres', qq{SELECT pg_${way}_backend(pid) FROM pg_stat_activity
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
$node->safe_psql('postgres', q{SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity
	WHERE application_name LIKE 'work %'});
eval { $_->{run}->finish } for @sessions;
note("$cancelled statements cancelled, $ended sessions ended");
cmp_ok($cancelled, '>', $seconds, 'statements were cancelled');
my @errors = grep {
	/ERROR|FATAL|PANIC|differ|WARNING/
	  && !/canceling statement|terminating |already exists|deadlock detected|index .* does not exist|cannot reindex invalid index/
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
crash($node);
indexes_agree($node, $_, "crashed, $_") for qw(live built);
my $load = start_load($node, 'live', 1, 4);
cmp_ok(finish_load($load, 'load'), '>', 20, 'work goes on');
indexes_agree($node, 'live', 'and is right');
$node->stop;
log_is_clean($node, 'cancel');

# A limit on the size of files fails an extension as a full disk does. The
# index has been larger than it is, so that it meets the limit before its table
# does; without a free space map it does not know of its free pages.
subtest 'no space left' => sub {
	my $full = start_node('full', extra => ['--wal-segsize=1'], conf => "autovacuum = off\n");
	$full->safe_psql('postgres', q{
CREATE TABLE narrow (id bigint, k bigint);
INSERT INTO narrow SELECT i, hashint8extended(i, 0) >> 1 FROM generate_series(1, 100000) i;
CREATE INDEX narrow_k ON narrow USING omen (k) WITH (fillfactor = 10);
CREATE TABLE big AS SELECT i AS id, hashint8extended(i, 0) AS k FROM generate_series(1, 200000) i;
VACUUM (FREEZE) big;
DELETE FROM narrow WHERE id > 20000});
	$full->safe_psql('postgres', 'VACUUM (INDEX_CLEANUP ON, TRUNCATE ON) narrow');
	my $path = index_path($full, 'narrow_k');
	$full->stop;
	my $limit = int((-s $path) / 1024) + 64;
	unlink "${path}_fsm";
	my $start = sprintf q{ulimit -S -f %d; exec pg_ctl -w -s -D '%s' -l '%s' start},
	  $limit, $full->data_dir, $full->logfile;
	is(system('bash', '-c', $start), 0, "a server with a limit of $limit kB on the size of files");
	$full->_update_pid(1);

	my $agree = sub {
		my ($name) = @_;
		my @answers = map { $full->safe_psql('postgres', qq{
SET enable_bitmapscan = off; SET enable_sort = off; SET enable_$_ = off;
SELECT count(*), sum(id), sum(k) FROM (SELECT id, k FROM narrow WHERE k > -9223372036854775808) s}) }
		  qw(seqscan indexscan);
		is($answers[0], $answers[1], "omen and heap agree $name");
	};
	my ($rc, $out, $err, $failed, $next) = (0, '', '', 0, 1_000_000);
	# All into a small part of the key space, so that pages split soon. Small
	# statements, some of which end before they fail.
	for my $round (1 .. 200)
	{
		my $rows = 1 + int(rand(500));
		($rc, $out, $err) = $full->psql('postgres', sprintf
			'INSERT INTO narrow SELECT i, hashint8extended(i, 0) >> 30 FROM generate_series(%d, %d) i', $next, $next + $rows);
		$next += $rows + 1;
		last if $rc != 0 && ++$failed >= 20;
	}
	cmp_ok($failed, '>=', 20, 'inserts fail when the index cannot grow');
	like($err, qr/could not extend file .*File too large/, 'for want of space');
	$agree->('when there is no space');
	($rc, $out, $err) = $full->psql('postgres', 'CREATE INDEX big_k ON big USING omen (k) WITH (fillfactor = 10)');
	like($err, qr/File too large/, 'a build fails as well');
	$full->safe_psql('postgres', 'DELETE FROM narrow WHERE id < 10000');
	($rc, $out, $err) = $full->psql('postgres', 'VACUUM (INDEX_CLEANUP ON, TRUNCATE OFF) narrow');
	is($rc, 0, 'VACUUM needs no space') or diag($err =~ s{\n.*}{}sr);
	($rc, $out, $err) = $full->psql('postgres', sprintf
		'INSERT INTO narrow SELECT i, hashint8extended(i, 0) >> 30 FROM generate_series(%d, %d) i', $next, $next + 5000);
	is($rc, 0, 'and finds some for inserts') or diag($err =~ s{\n.*}{}sr);
	$agree->('after VACUUM');
	crash($full);
	$agree->('after a crash');
	$full->stop;
	log_is_clean($full, 'no space left');
};
done_testing();
