# Parallel scans beside inserts, updates, deletes and autovacuum: on one snapshot
# omen and btree see the same rows. Then workers are terminated and queries
# cancelled in the middle of scans: nobody waits for the turn of one who is gone.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../lib";
use IPC::Run ();
use Omen;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(sleep time);

my $duration = $ENV{DURATION} // 15;
my $node = start_node('parallel', conf => q{
max_worker_processes = 16
max_parallel_workers = 12
parallel_setup_cost = 0
parallel_tuple_cost = 0
min_parallel_table_scan_size = 0
min_parallel_index_scan_size = 0
cpu_tuple_cost = 1
max_parallel_workers_per_gather = 3
});
create_table($node, 'live', rows => 30_000);

# What is asked of a range of a column, in one row.
my %questions = (
	'index-only' => 'SELECT count(*), sum(COLUMN), min(COLUMN), max(COLUMN) FROM live WHERE RANGE',
	'rows' => 'SELECT count(*), sum(id), sum(length(filler)) FROM live WHERE RANGE',
	'ascending' => 'SELECT md5(string_agg(k::text, $$,$$)) FROM (SELECT COLUMN AS k FROM live WHERE RANGE ORDER BY COLUMN LIMIT 1000000) s',
	'descending' => 'SELECT md5(string_agg(k::text, $$,$$)) FROM (SELECT COLUMN AS k FROM live WHERE RANGE ORDER BY COLUMN DESC LIMIT 1000000) s',
	'array' => 'SELECT count(*), sum(id) FROM live WHERE COLUMN = ANY (LIST)',
	'null' => 'SELECT count(*), sum(id) FROM live WHERE COLUMN IS NULL');

sub question
{
	my ($way, $column, $range, $list) = @_;
	return $questions{$way} =~ s/RANGE/COLUMN BETWEEN $range/gr =~ s/LIST/$list/gr =~ s/COLUMN/$column/gr;
}

my (@wrong, %parallel);
my $asked = 0;
my $load = start_load($node, 'live', $duration, 4);
my $end = time + $duration;
while (time < $end)
{
	my $sql = 'SET enable_seqscan = off; SET enable_bitmapscan = off; SET enable_sort = off;'
	  . "BEGIN ISOLATION LEVEL REPEATABLE READ;\n";
	my @asked;
	foreach my $way (sort keys %questions)
	{
		my $column = (qw(seq rnd dup))[ rand 3 ];
		my $most = { seq => 400_000, rnd => 1_000_000 * 1_000_003, dup => 30 }->{$column};
		my $low = int(rand($most));
		my $range = "$low AND " . ($low + int(rand($most)));
		my $list = "array(SELECT $column FROM live WHERE id % 100 = " . int(rand(100)) . ')';
		push @asked, "$way of $column, $range";
		$sql .= '\echo PLAN' . "\nEXPLAIN (COSTS OFF) " . question($way, $column, $range, $list) . ";\n";
		$sql .= '\echo ANSWER' . "\n" . question($way, $column, $range, $list) . ";\n";
		$sql .= '\echo TWIN' . "\n" . question($way, "${column}_b", $range, $list) . ";\n";
	}
	my ($rc, $out, $err) = $node->psql('postgres', "$sql COMMIT;\n");
	push @wrong, "failed: $err" if $rc != 0;
	while ($out =~ /^PLAN\n(.*?)^ANSWER\n(.*?)\nTWIN\n(.*?)(?:\n|\z)/gms)
	{
		my ($plan, $answer, $twin) = ($1, $2, $3);
		my $question = shift @asked;
		push @wrong, "$question: $answer, but $twin\n$plan" if $answer ne $twin;
		$parallel{"$1 $2"}++ if $plan =~ /Parallel (Index|Index Only) Scan (using|Backward using) live_(seq|rnd|dup)\b/;
		$asked++;
	}
	last if @wrong > 3;
}
finish_load($load, 'beside a load');
ok(!@wrong, "$asked answers of parallel scans are those of btree") or diag(join "\n", @wrong);
foreach my $kind ('Index using', 'Index Only using', 'Index Only Backward using')
{
	ok($parallel{$kind}, "some were by a Parallel $kind") or diag(explain(\%parallel));
}
indexes_agree($node, 'live', 'after the load');

# Whoever is terminated, the query ends.
my $workers = q{FROM pg_stat_activity WHERE backend_type = 'parallel worker'};
my $settings = 'SET enable_seqscan = off; SET enable_bitmapscan = off';
my $long = 'SELECT count(*) FROM live WHERE rnd > -1 AND pg_sleep(0.01) IS NOT NULL';
foreach my $how ("pg_terminate_backend(pid) $workers LIMIT 1", "pg_cancel_backend(leader_pid) $workers LIMIT 1",
	"pg_terminate_backend(leader_pid) $workers LIMIT 1")
{
	my $hits = 0;
	foreach my $try (1 .. 4)
	{
		my ($out, $err) = ('', '');
		my $query = IPC::Run::start(
			[ 'psql', '-XAtq', '-d', $node->connstr('postgres'), '-c', $settings, '-c', $long ],
			'<', '/dev/null', '>', \$out, '2>', \$err, IPC::Run::timeout(60));
		sleep(0.2 + rand(0.3));
		for (1 .. 100)
		{
			last if $node->safe_psql('postgres', "SELECT $how") ne '';
			sleep(0.1);
		}
		eval { $query->finish; 1 };
		$hits++ if $err =~ /administrator command|user request|lost connection|terminated/ && $err !~ /timeout/;
	}
	is($hits, 4, "$how ends the query");
}
ok($node->poll_query_until('postgres', "SELECT count(*) = 0 $workers"), 'no worker is left');
is($node->safe_psql('postgres', 'SET enable_seqscan = off; SELECT count(*) = (SELECT count(rnd_b) FROM live) FROM live WHERE rnd > -1'),
	't', 'the next query has its answer');
$node->stop;
log_is_clean($node, 'parallel');
done_testing();
