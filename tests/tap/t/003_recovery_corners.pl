# Recovery in unusual settings.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../lib";
use IPC::Run ();
use Omen;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(sleep);

# Without full-page images a record about a page that is not there stops
# recovery: new and recycled pages must be logged whole.
subtest 'full_page_writes = off' => sub {
	my $node = start_node('partial', conf => "full_page_writes = off\n");
	create_table($node, 'live', rows => 10_000);
	for my $cycle (1 .. 2)
	{
		$node->safe_psql('postgres', 'CHECKPOINT');
		my $load = start_load($node, 'live', 60, 4);
		sleep(1);
		# Merges free pages, and splits take them, since the last checkpoint.
		$node->safe_psql('postgres', 'DELETE FROM live WHERE id % 10 <> 0');
		$node->safe_psql('postgres', 'VACUUM (INDEX_CLEANUP ON) live');
		sleep(1);
		$node->stop('immediate');
		finish_load($load, "load $cycle");
		$node->start;
		indexes_agree($node, 'live', "after crash $cycle");
	}
	$node->stop;
	log_is_clean($node, 'full_page_writes = off');
};

my $node = start_node('corners', conf => "restart_after_crash = on\n");

subtest 'unlogged tables' => sub {
	# What it is reset to is in the log only.
	create_table($node, 'fresh', rows => 100, kind => 'UNLOGGED');
	crash($node);
	indexes_agree($node, 'fresh', 'crashed at once');
	create_table($node, 'fleeting', rows => 10_000, kind => 'UNLOGGED');
	create_table($node, 'made', rows => 5_000, kind => 'UNLOGGED');
	$node->safe_psql('postgres', 'ALTER TABLE made SET LOGGED');
	create_table($node, 'unmade', rows => 5_000);
	$node->safe_psql('postgres', 'ALTER TABLE unmade SET UNLOGGED');
	$node->safe_psql('postgres', 'CHECKPOINT; SELECT fleeting_add(1000)');
	indexes_agree($node, 'fleeting', 'before the crash');
	crash($node);
	indexes_agree($node, $_, "after the crash, $_") for qw(fleeting fresh made unmade);
	is($node->safe_psql('postgres', 'SELECT (SELECT count(*) FROM fleeting),
		(SELECT count(*) FROM fresh), (SELECT count(*) FROM unmade), (SELECT count(*) FROM made)'),
		'0|0|0|5000', 'unlogged tables are empty');
	$node->safe_psql('postgres', "SELECT ${_}_add(5000)") for qw(fleeting fresh unmade);
	$node->safe_psql('postgres', 'DELETE FROM fleeting WHERE id % 3 = 0; VACUUM (INDEX_CLEANUP ON) fleeting');
	indexes_agree($node, $_, "filled again, $_") for qw(fleeting fresh unmade);
	# A clean stop keeps them.
	$node->restart;
	is($node->safe_psql('postgres', 'SELECT count(*) > 0 FROM fleeting'), 't', 'kept over a clean restart');
	indexes_agree($node, 'fleeting', 'after a clean restart');
};

subtest 'prepared transactions' => sub {
	create_table($node, 'twophase', rows => 5_000);
	foreach my $end (qw(commit rollback))
	{
		$node->safe_psql('postgres', qq{
BEGIN;
SELECT twophase_add(2000);
UPDATE twophase SET rnd = -rnd, dup = dup + 1 WHERE id % 7 = 0;
DELETE FROM twophase WHERE id % 11 = 0;
PREPARE TRANSACTION '$end';
SELECT twophase_add(10)});
		crash($node);
		indexes_agree($node, 'twophase', "prepared, before $end");
		my ($rc, $out, $err) = $node->psql('postgres',
			'SET lock_timeout = 10; SELECT * FROM omen_check_all(false, true)');
		like($err, qr/lock timeout/, 'what cannot be locked is not called sound');
		$node->safe_psql('postgres', "$end PREPARED '$end'");
		$node->stop('immediate') if $end eq 'rollback';
		$node->start if $end eq 'rollback';
		indexes_agree($node, 'twophase', "after $end");
		$node->safe_psql('postgres', 'VACUUM (INDEX_CLEANUP ON) twophase');
		indexes_agree($node, 'twophase', "vacuumed after $end");
	}
};

subtest 'one backend is killed' => sub {
	create_table($node, 'shot', rows => 5_000);
	for my $round (1 .. 3)
	{
		my $load = start_load($node, 'shot', 60, 4);
		sleep(0.5 + rand(0.5));
		my $pid = $node->safe_psql('postgres', q{SELECT pid FROM pg_stat_activity
			WHERE query ~ 'shot' AND backend_type = 'client backend' AND pid <> pg_backend_pid()
			ORDER BY random() LIMIT 1});
		die 'nobody to kill' unless $pid =~ /^\d+$/;
		kill 'KILL', $pid;
		finish_load($load, "load $round");
		for (1 .. 600)
		{
			last if run_log([ 'pg_isready', '-q', '-h', $node->host, '-p', $node->port ]);
			sleep(0.1);
		}
		indexes_agree($node, 'shot', "after kill $round");
	}
};

# Not by an ERROR, which unwinds, but in the middle of whatever it does.
subtest 'a backend is killed in each kind of work' => sub {
	create_table($node, 'busy', rows => 20_000, with => 'fillfactor = 40');
	my %work = (
		build => "SET maintenance_work_mem = '1MB'; CREATE INDEX busy_more ON busy USING omen (rnd); DROP INDEX busy_more;",
		insert => 'SELECT busy_add(2000);',
		vacuum => 'DELETE FROM busy WHERE id % 3 = (random() * 3)::int; VACUUM (INDEX_CLEANUP ON, PARALLEL 0) busy; SELECT busy_add(4000);',
		scan => "SELECT must_agree('busy', 'rnd', 0, 9223372036854775807); SELECT omen_index_check('busy_rnd', true);");
	foreach my $what (sort keys %work)
	{
		my $file = $node->basedir . "/$what.sql";
		append_to_file($file, "$work{$what}\n" x 500);
		my $out = '';
		my $worker = IPC::Run::start([ 'psql', '-XAtq', '-h', $node->host, '-p', $node->port,
				'-d', "dbname=postgres application_name=$what", '-f', $file ], '<', \undef, '>', \$out, '2>&1');
		my $pid = '';
		for (1 .. 100)
		{
			$pid = $node->safe_psql('postgres',
				"SELECT pid FROM pg_stat_activity WHERE application_name = '$what'");
			last if $pid ne '';
			sleep(0.05);
		}
		sleep(rand(0.6));
		is(kill('KILL', $pid), 1, "$what: killed");
		eval { $worker->finish };
		like($out, qr/server closed the connection|terminating connection|connection to server was lost/, "$what: in the middle of it");
		$node->poll_query_until('postgres', 'SELECT true') or die 'the server does not come back';
		$node->safe_psql('postgres', 'DROP INDEX IF EXISTS busy_more');
		indexes_agree($node, 'busy', "killed in $what");
	}
};

subtest 'pages that were never written' => sub {
	create_table($node, 'torn', rows => 5_000, with => 'fillfactor = 20');
	# Freed pages whose place in the free space map is lost.
	$node->safe_psql('postgres', 'DELETE FROM torn WHERE id % 10 <> 0');
	$node->safe_psql('postgres', 'VACUUM (INDEX_CLEANUP ON) torn');
	my $path = index_path($node, 'torn_rnd');
	my $map = $path . '_fsm';
	$node->stop;
	my $before = -s $path;
	unlink $map;
	# A backend that dies between extension and use leaves a zeroed page.
	open my $file, '>>:raw', $path or die "$path: $!";
	print $file "\0" x (8192 * 20);
	close $file;
	$node->start;
	indexes_agree($node, 'torn', 'with zeroed pages');
	$node->safe_psql('postgres', 'VACUUM (INDEX_CLEANUP ON) torn');
	my $free = $node->safe_psql('postgres', q{SELECT free_pages FROM omen_stats('torn_rnd')});
	cmp_ok($free, '>=', 20, 'VACUUM finds them');
	$node->safe_psql('postgres', 'SELECT torn_add(3000)');
	indexes_agree($node, 'torn', 'with zeroed pages in use');
	is($node->safe_psql('postgres', q{SELECT pg_relation_size('torn_rnd')}), $before + 8192 * 20,
		'the file has not grown');
	cmp_ok($node->safe_psql('postgres', q{SELECT free_pages FROM omen_stats('torn_rnd')}),
		'<', $free, 'free pages were taken');
	# A map that names pages in use: that of another index, which had more free.
	my $other = index_path($node, 'torn_seq');
	$node->safe_psql('postgres', 'DELETE FROM torn WHERE id % 2 = 0');
	$node->safe_psql('postgres', 'VACUUM (INDEX_CLEANUP ON) torn');
	$node->stop;
	system('cp', $map, "$map.kept") == 0 or die "cp: $?" if -e $map;
	$node->start;
	$node->safe_psql('postgres', 'SELECT torn_add(8000)');
	$node->stop;
	rename "$map.kept", $map if -e "$map.kept";
	$node->start;
	$node->safe_psql('postgres', 'SELECT torn_add(4000)');
	indexes_agree($node, 'torn', 'with a map that names pages in use');
	$node->safe_psql('postgres', 'DELETE FROM torn WHERE id % 3 = 0; VACUUM (INDEX_CLEANUP ON) torn');
	indexes_agree($node, 'torn', 'and vacuumed');
};
$node->stop;
my $log = slurp_file($node->logfile);
my @killed = $log =~ /was terminated by signal (\d+)/g;
is_deeply([ grep { $_ != 9 } @killed ], [], 'no backend crashed by itself');
unlike($log, qr/PANIC|TRAP|leak:/, 'nothing suspicious in the log');

# Nothing is logged for a relation that is new in its transaction: it is
# synced at commit.
subtest 'wal_level = minimal' => sub {
	my $node = start_node('minimal', conf => "wal_level = minimal\nmax_wal_senders = 0\n");
	create_table($node, 'base', rows => 3_000);
	foreach my $skip ('0', '10MB')
	{
		my $name = "t$skip";
		$node->append_conf('postgresql.conf', "wal_skip_threshold = $skip\n");
		$node->reload;
		# Built, truncated, filled, vacuumed away and used in one transaction.
		$node->safe_psql('postgres', qq{
BEGIN;
CREATE TABLE "$name" (id bigint, k bigint);
INSERT INTO "$name" SELECT i, hashint8extended(i, 0) FROM generate_series(1, 3000) i;
CREATE INDEX "${name}_k" ON "$name" USING omen (k);
INSERT INTO "$name" SELECT i, hashint8extended(i, 0) FROM generate_series(3001, 9000) i;
SAVEPOINT s;
TRUNCATE "$name";
INSERT INTO "$name" SELECT i, i FROM generate_series(1, 100) i;
ROLLBACK TO s;
INSERT INTO "$name" SELECT i, -i FROM generate_series(1, 1000) i;
COMMIT;
BEGIN;
TRUNCATE base;
SELECT base_add(4000);
REINDEX TABLE base;
SELECT base_add(1000);
COMMIT;
SELECT base_add(10)});
		crash($node);
		indexes_agree($node, 'base', "after a crash, wal_skip_threshold = $skip");
		my ($seq, $omen) = map { $node->safe_psql('postgres', qq{
SET enable_seqscan = $_->[0]; SET enable_indexscan = $_->[1]; SET enable_bitmapscan = off;
SELECT count(*), sum(id), md5(string_agg(k::text, ',' ORDER BY k)) FROM "$name" WHERE k > -9223372036854775808}) }
		  ([ 'on', 'off' ], [ 'off', 'on' ]);
		is($omen, $seq, "a table of the transaction, wal_skip_threshold = $skip");
		like($seq, qr/^10000\|/, 'is there');
	}
	$node->stop;
	log_is_clean($node, 'wal_level = minimal');
};
done_testing();
