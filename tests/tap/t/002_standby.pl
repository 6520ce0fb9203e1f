# A streaming standby gives the primary's answers, through its indexes, during
# the load and after it; what redo makes of each page is what the primary had
# (wal_consistency_checking), and a promoted standby goes on.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../lib";
use IPC::Run ();
use Omen;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $primary = start_node('primary', allows_streaming => 1,
	conf => "wal_consistency_checking = 'all'\nwal_keep_size = 4GB\n");
create_table($primary, 'live', rows => 10_000);
$primary->backup('base');

my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($primary, 'base', has_streaming => 1);
$standby->append_conf('postgresql.conf', "max_standby_streaming_delay = 100ms\n");
$standby->start;
# An index that the standby sees made, and one that it sees unmade and made again.
create_table($primary, 'later', rows => 5_000);
$primary->safe_psql('postgres', 'REINDEX INDEX live_rnd');
$primary->wait_for_catchup($standby);

# Readers on the standby while the primary writes and vacuums.
my $script = $standby->basedir . '/read.sql';
append_to_file($script, q{
\set r random(0, 1000000)
\set some random(1, 30)
\set id random(1, 10000)
SELECT must_agree('live', 'rnd', :r::bigint * 1000003, (:r + 9000)::bigint * 1000003);
SELECT must_agree('live', 'dup', :some, :some);
SELECT must_agree('live', 'seq', :id * 10, :id * 10 + 5000);
SELECT omen_index_check('live_dup', true);
});
my @loads = map { start_load($primary, $_, 4, 3) } qw(live later);
my $read = '';
# A reader that is cancelled, because VACUUM took rows that it could still
# see, comes again.
for my $round (1 .. 12)
{
	last unless $loads[0]{run}->pumpable;
	my $out = '';
	IPC::Run::run([ 'pgbench', '-n', '-c', 2, '-T', 1, '-f', $script, '-h', $standby->host,
		'-p', $standby->port, 'postgres' ], '>', \$out, '2>&1');
	$read .= $out;
	$loads[$_]{run}->pump_nb for 0 .. 1;
}
cmp_ok(finish_load($_, 'primary'), '>', 100, 'the primary worked') for @loads;
like($read, qr/actually processed: [1-9]/, 'the standby answered');
unlike($read, qr/differ|corrupt|XX0/, 'with the answers of btree');

sub same_everywhere
{
	my ($name) = @_;
	$primary->wait_for_catchup($standby);
	foreach my $table (qw(live later))
	{
		indexes_agree($standby, $table, "standby, $name, $table", index_only => 0);
		foreach my $column (qw(seq rnd dup))
		{
			is(scan_answers($standby, $table, 'forward', $column),
				scan_answers($primary, $table, 'forward', $column),
				"$name: $table.$column is the same on both");
		}
	}
	return;
}
same_everywhere('after the load');
unlike($standby->safe_psql('postgres',
		'SET enable_seqscan = off; SET enable_sort = off; EXPLAIN SELECT rnd FROM live ORDER BY rnd'),
	qr/Index Only Scan using live_rnd\b/, 'no index-only scan of omen on a standby');

# Merges move entries to the left, under a cursor of the standby. The heap is pruned
# before: replay would wait for the pages that the cursors pin.
$primary->safe_psql('postgres', $_)
  for 'ALTER TABLE live SET (autovacuum_enabled = off)', 'DELETE FROM live WHERE id % 20 <> 0',
  'VACUUM (INDEX_CLEANUP OFF) live';
my $leaves = q{SELECT leaf_pages FROM omen_stats('live_rnd')};
my $before = $primary->safe_psql('postgres', $leaves);
$primary->wait_for_catchup($standby);
$standby->append_conf('postgresql.conf', "hot_standby_feedback = on\nmax_standby_streaming_delay = -1\n");
$standby->reload;
my %expected;
foreach my $way ('', 'DESC')
{
	$expected{$way} = $standby->safe_psql('postgres',
		"SELECT rnd FROM live WHERE rnd IS NOT NULL ORDER BY rnd $way");
}
my %cursor;
foreach my $way ('', 'DESC')
{
	my $session = $standby->background_psql('postgres');
	$session->query_safe('SET enable_seqscan = off; SET enable_bitmapscan = off; SET enable_sort = off;');
	$session->query_safe("BEGIN; DECLARE c CURSOR FOR SELECT rnd FROM live WHERE rnd IS NOT NULL ORDER BY rnd $way;");
	$cursor{$way} = [ $session, $session->query_safe('FETCH 300 FROM c') ];
}
$primary->safe_psql('postgres', 'VACUUM (INDEX_CLEANUP ON) live');
cmp_ok($primary->safe_psql('postgres', $leaves), '<', $before / 2, 'VACUUM has merged leaves');
$primary->wait_for_catchup($standby);
foreach my $way ('', 'DESC')
{
	my ($session, $begin) = @{ $cursor{$way} };
	my $middle = $session->query_safe('FETCH 100 FROM c');
	# Takes pages that the merges have freed.
	$primary->safe_psql('postgres', 'SELECT live_add(3000)');
	$primary->wait_for_catchup($standby);
	my $end = $session->query_safe('FETCH ALL FROM c');
	is(join("\n", $begin, $middle, $end), $expected{$way}, "a cursor $way goes on over merged pages");
	$session->query_safe('COMMIT');
	$session->quit;
}
same_everywhere('after merges');

$standby->promote;
my $load = start_load($standby, 'live', 2, 3);
cmp_ok(finish_load($load, 'promoted'), '>', 50, 'a promoted standby takes writes');
$standby->safe_psql('postgres', 'VACUUM (INDEX_CLEANUP ON)');
indexes_agree($standby, 'live', 'promoted');
crash($standby);
indexes_agree($standby, 'live', 'promoted and crashed');

unlike(slurp_file($standby->logfile), qr/inconsistent page found/, 'redo rebuilds the very pages');
$_->stop for $standby, $primary;
log_is_clean($_, $_->name) for $primary, $standby;
done_testing();
