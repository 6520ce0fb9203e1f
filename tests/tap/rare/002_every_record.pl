# Point-in-time recovery to the end of every WAL record that changes an index:
# at each the indexes are sound, and agree with their tables. The history has
# splits of every level, merges, pages used again, a build and a REINDEX; entries
# go in one by one and several at once.
# PITR_STEP=n takes every n-th record (default 25, 1 for all), from PITR_FIRST on.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../lib";
use Omen;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $step = $ENV{PITR_STEP} // 25;

foreach my $full_page_writes (qw(on off))
{
	my $primary = start_node("primary_$full_page_writes", allows_streaming => 1, conf => qq{
autovacuum = off
full_page_writes = $full_page_writes
wal_keep_size = 1GB
checkpoint_timeout = 1h
});
	$primary->safe_psql('postgres', q{
CREATE TABLE t (k bigint, b bigint);
CREATE INDEX t_k ON t USING omen (k);
CREATE INDEX t_b ON t (b);
});
	$primary->backup('base');
	my $start = $primary->lsn('insert');
	my $singly = 'SET omen.insert_buffer = 0;';
	# In several transactions, so that rows become visible on the way.
	foreach my $sql (
		"$singly INSERT INTO t SELECT k, k FROM generate_series(1, 300) k",
		"$singly INSERT INTO t SELECT k, k FROM (SELECT (random() * 1500)::int AS k FROM generate_series(1, 300)) s",
		"$singly INSERT INTO t SELECT 77, 77 FROM generate_series(1, 70)",
		'DELETE FROM t WHERE k % 8 <> 0',
		'VACUUM t',
		'INSERT INTO t SELECT k, k FROM generate_series(2000, 500, -10) k',
		'CREATE INDEX t_k2 ON t USING omen (k DESC)',
		'UPDATE t SET k = k + 1, b = b + 1 WHERE k % 16 = 0',
		'REINDEX INDEX t_k',
		'DELETE FROM t WHERE k < 900',
		'VACUUM t')
	{
		$primary->safe_psql('postgres', $sql);
	}
	my $end = $primary->lsn('insert');
	$primary->safe_psql('postgres', 'SELECT pg_switch_wal()');
	my ($records) = run_command([ 'pg_waldump', '-p', $primary->data_dir . '/pg_wal',
			'-s', $start, '-e', $end ]);
	# Those of the indexes, and commits: what is visible changes there.
	my @targets = $records =~ m{^rmgr: (?:Generic|Transaction) .*?lsn: ([0-9A-F]+/[0-9A-F]+),}mg;
	cmp_ok(scalar @targets, '>', 500, 'the history is long');
	my $wal = $primary->data_dir . '/pg_wal';

	my $replica = PostgreSQL::Test::Cluster->new("replica_$full_page_writes");
	$replica->init_from_backup($primary, 'base');
	$replica->append_conf('postgresql.conf', qq{
restore_command = 'cp "$wal/%f" "%p"'
recovery_target_action = pause
hot_standby = on
autovacuum = off
});
	$replica->append_conf('recovery.signal', '');
	my ($checked, @faults) = (0);
	my $picked = $ENV{PITR_FIRST} // int(rand($step));
	diag("full_page_writes = $full_page_writes: " . scalar(@targets) . " records, every $step. from $picked on");
	for (my $i = $picked; $i < @targets; $i += $step)
	{
		$replica->append_conf('postgresql.conf', "recovery_target_lsn = '$targets[$i]'\n");
		$replica->start;
		$replica->poll_query_until('postgres', q{SELECT pg_get_wal_replay_pause_state() = 'paused'})
		  or die "recovery does not reach $targets[$i]";
		my ($rc, $out, $err) = $replica->psql('postgres', q{
SELECT index || ': ' || fault FROM omen_check_all(true) WHERE fault IS NOT NULL;
SET enable_seqscan = off; SET enable_sort = off;
SELECT 'omen and btree differ'
WHERE array(SELECT k FROM t ORDER BY k) <> array(SELECT b FROM t ORDER BY b);});
		push @faults, "$targets[$i]: $out $err" if $rc != 0 || $out ne '';
		$checked++;
		$replica->stop('fast');
		last if @faults > 5;
	}
	ok(!@faults, "full_page_writes = $full_page_writes: $checked of " . scalar(@targets) . ' records')
	  or diag(join "\n", @faults);
	log_is_clean($primary, 'primary');
	log_is_clean($replica, 'replica');
	$primary->stop;
}
done_testing();
