# Backups, standbys of standbys and pg_rewind, all while the primary is written
# to and VACUUM merges pages that inserts take again. Every node has sound
# indexes, gives the answers of its own table, and in the end those of the others.
use strict;
use warnings;

use File::Copy qw(copy);
use FindBin;
use lib "$FindBin::RealBin/../lib";
use IPC::Run ();
use Omen;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(sleep);

# pg_rewind has to know of hint bits too.
my $first = start_node('first', allows_streaming => 1,
	conf => "wal_log_hints = on\nwal_keep_size = 1GB\nhot_standby_feedback = on\nmax_standby_streaming_delay = -1\n");
create_table($first, 'live', rows => 6_000, with => 'fillfactor = 20');
# Only the old primary writes to it, when it has been replaced: no record of the
# new one makes its pages right.
create_table($first, 'still', rows => 2_000);

# Rows go, VACUUM merges their pages, and other rows take these: over and over in
# a session of its own. The pages that are free after each step come out.
sub start_churn
{
	my ($node) = @_;
	my $free = "SELECT 'free', free_pages FROM omen_stats('live_rnd');";
	my $round = "DELETE FROM live WHERE id % 4 <> (random() * 3)::int;\n"
	  . "VACUUM (INDEX_CLEANUP ON) live;\n$free\nSELECT live_add(1500);\n$free\n";
	my $file = $node->basedir . '/churn.sql';
	append_to_file($file, $round x 500) unless -e $file;
	my $churn = { out => '' };
	$churn->{run} = IPC::Run::start(
		[ 'psql', '-XAtq', '-h', $node->host, '-p', $node->port, '-d', 'dbname=postgres application_name=churn', '-f', $file ],
		'<', \undef, '>', \$churn->{out}, '2>&1');
	return $churn;
}

# Ends it when pages were freed and taken again, which on a busy machine may take
# its time.
sub finish_churn
{
	my ($churn, $node, $name) = @_;
	my $taken = 0;
	for (1 .. 300)
	{
		$churn->{run}->pump_nb;
		my @free = $churn->{out} =~ /^free\|(\d+)$/mg;
		$taken = grep { $free[$_] < $free[ $_ - 1 ] } 1 .. $#free;
		last if $taken || !$churn->{run}->pumpable;
		sleep(0.2);
	}
	$node->psql('postgres',
		"SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE application_name = 'churn'");
	eval { $churn->{run}->finish };
	cmp_ok($taken, '>', 0, "$name: pages were freed and taken again") or diag($churn->{out});
	return;
}

# Readers of a standby. A snapshot sees the same before and after what redo does
# meanwhile, and omen sees what btree sees.
my $script = $first->basedir . '/read.sql';
append_to_file($script, q{
\set r random(0, 1000000)
\set some random(1, 30)
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT must_agree('live', 'rnd', :r::bigint * 1000003, (:r + 90000)::bigint * 1000003) AS before \gset
SELECT must_agree('live', 'dup', :some, :some);
SELECT must_agree('live', 'seq', 0, 9223372036854775807);
SELECT omen_index_check('live_rnd', true);
SELECT 1 / (must_agree('live', 'rnd', :r::bigint * 1000003, (:r + 90000)::bigint * 1000003) = :before)::int;
COMMIT;
});

sub start_readers
{
	my ($node, $seconds) = @_;
	my $readers = { out => '' };
	$readers->{run} = IPC::Run::start(
		[ 'pgbench', '-n', '-c', 2, '-T', $seconds, '--max-tries=1000', '-f', $script,
			'-h', $node->host, '-p', $node->port, 'postgres' ],
		'>', \$readers->{out}, '2>&1');
	return $readers;
}

sub finish_readers
{
	my ($readers, $name) = @_;
	eval { $readers->{run}->finish };
	my ($done) = $readers->{out} =~ /actually processed: (\d+)/;
	cmp_ok($done // 0, '>', 0, "$name: the readers were answered");
	unlike($readers->{out}, qr/ERROR|FATAL|abort/, "$name: as btree and the snapshot would");
	return;
}

# All nodes have the rows of the one that is written to.
sub same_on_all
{
	my ($name, $table, $source, @others) = @_;
	foreach my $column (qw(seq rnd dup))
	{
		my $expected = scan_answers($source, $table, 'forward', $column);
		like($expected, qr/^\d+\|t\|/, "$name: $column of " . $source->name);
		is(scan_answers($_, $table, 'forward', $column), $expected, "$name: $column of " . $_->name) for @others;
	}
	indexes_agree($_, $table, "$name, " . $_->name, index_only => $_ == $source) for $source, @others;
	return;
}

# A backup takes some seconds, and copies pages of very different ages.
my $load = start_load($first, 'live', 5, 2);
my $churn = start_churn($first);
sleep(0.3);
$first->backup('hot', backup_options => [ '--max-rate=12M', '--checkpoint=fast' ]);
finish_churn($churn, $first, 'backup');
finish_load($load, 'backup');
my $restored = PostgreSQL::Test::Cluster->new('restored');
$restored->init_from_backup($first, 'hot');
$restored->start;
indexes_agree($restored, 'live', 'a restored backup');
$restored->safe_psql('postgres', 'SELECT live_add(500); VACUUM (INDEX_CLEANUP ON) live');
indexes_are_sound($restored, 'a restored backup, written to');
$restored->stop;

# A standby, and its standby, which comes from a backup of the former.
my $middle = PostgreSQL::Test::Cluster->new('middle');
$middle->init_from_backup($first, 'hot', has_streaming => 1);
$middle->start;
$first->wait_for_catchup($middle);
$middle->backup('of_a_standby');
my $last = PostgreSQL::Test::Cluster->new('last');
$last->init_from_backup($middle, 'of_a_standby', has_streaming => 1);
$last->start;

# Of all records, redo compares the pages that it makes with those of the primary.
$first->append_conf('postgresql.conf', "wal_consistency_checking = 'all'\n");
$first->reload;
$load = start_load($first, 'live', 3, 2);
$churn = start_churn($first);
my @readers = map { start_readers($_, 3) } $middle, $last;
finish_readers($readers[0], 'a standby');
finish_readers($readers[1], 'its standby');
finish_churn($churn, $first, 'standbys');
cmp_ok(finish_load($load, 'standbys'), '>', 20, 'the primary worked');
$first->append_conf('postgresql.conf', "wal_consistency_checking = ''\n");
$first->reload;

sub catch_up
{
	my ($source, @chain) = @_;
	my $lsn = $source->lsn('write');
	foreach my $node (@chain)
	{
		$source->wait_for_catchup($node, 'replay', $lsn);
		$source = $node;
	}
	return;
}
catch_up($first, $middle, $last);
same_on_all('after the load', 'live', $first, $middle, $last);

# The standby is promoted while the primary works on, which thus has pages that
# nobody else has. Its own standby goes with it.
$load = start_load($first, 'live', 60, 2);
$churn = start_churn($first);
@readers = start_readers($last, 4);
sleep(1);
$middle->promote;
$middle->safe_psql('postgres', 'CHECKPOINT');
my @on_middle = (start_load($middle, 'live', 2, 2), start_churn($middle));
$first->safe_psql('postgres', $_) for 'SELECT still_add(2000)', 'DELETE FROM still WHERE id % 3 = 0',
  'VACUUM (INDEX_CLEANUP ON) still', 'CHECKPOINT';
sleep(1);
$first->stop('immediate');
eval { $churn->{run}->finish };
finish_load($load, 'a primary that has been replaced');
cmp_ok(finish_load($on_middle[0], 'promoted'), '>', 20, 'the promoted standby worked');
finish_churn($on_middle[1], $middle, 'promoted');
finish_readers($readers[0], 'over the promotion');

# The old primary is rewound, and follows while work goes on.
$load = start_load($middle, 'live', 3, 2);
my $conf = $first->data_dir . '/postgresql.conf';
copy($conf, $first->basedir . '/postgresql.conf') or die "copy: $!";
command_ok([ 'pg_rewind', '--source-server', $middle->connstr('postgres'),
		'--target-pgdata', $first->data_dir, '--no-sync' ], 'pg_rewind');
copy($first->basedir . '/postgresql.conf', $conf) or die "copy: $!";
$first->enable_streaming($middle);
$first->start;
@readers = start_readers($first, 2);
finish_readers($readers[0], 'rewound');
finish_load($load, 'rewound');
catch_up($middle, $_) for $first, $last;
same_on_all('rewound', 'live', $middle, $first, $last);
same_on_all('rewound, untouched', 'still', $middle, $first);

unlike(slurp_file($_->logfile), qr/inconsistent page found/, $_->name . ': redo makes the very pages') for $middle, $last;
$_->stop for $first, $last, $middle;
log_is_clean($_, $_->name) for $first, $middle, $last, $restored;
done_testing();
