# Sessions that get no more memory: builds, inserts, scans and VACUUM end with an
# ERROR or do their work, and the server stays up.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../lib";
use Omen;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = start_node('memory', conf => "autovacuum = off\nrestart_after_crash = off\n");
create_table($node, 'live', rows => 30_000);
my $keys = join ',', map { $_ * 7919 % 300_000 } 1 .. 40_000;
my %work = (
	build => "SET maintenance_work_mem = '1GB'; CREATE INDEX live_new ON live USING omen (rnd); DROP INDEX live_new",
	insert => 'SELECT live_add(3000)',
	'array' => "SET enable_seqscan = off; SELECT count(*) FROM live WHERE seq = ANY ('{$keys}')",
	bitmap => 'SET enable_seqscan = off; SET enable_indexscan = off; SELECT count(*) FROM live WHERE rnd > 0',
	scan => 'SET enable_seqscan = off; SET enable_sort = off; SELECT count(*) FROM (SELECT rnd, id FROM live ORDER BY rnd) s',
	check => "SELECT omen_index_check('live_rnd', true, true)",
	vacuum => 'VACUUM (INDEX_CLEANUP ON) live');

# Runs a statement in a session that may grow by so many kB. Returns its error.
sub limited
{
	my ($sql, $kilobytes) = @_;
	my $session = $node->background_psql('postgres', on_error_stop => 0);
	# What the library itself takes is not what this is about.
	$session->query("LOAD 'omendb_index'");
	my $pid = $session->query('SELECT pg_backend_pid()');
	my ($size) = slurp_file("/proc/$pid/status") =~ /^VmSize:\s+(\d+) kB/m;
	system_or_bail('prlimit', "--pid=$pid", '--as=' . 1024 * ($size + $kilobytes) . ':');
	$session->query($sql);
	my $error = $session->{stderr};
	$session->{stderr} = '';
	# Without memory it may not even end in order.
	eval { $session->quit };
	return $error;
}

my ($failed, $done) = (0, 0);
foreach my $what (sort keys %work)
{
	foreach my $kilobytes (0, 50, 100, 200, 400, 800, 1600, 3200, 6400, 12800, 25600, 64000)
	{
		my $error = limited($work{$what}, $kilobytes);
		if ($error =~ /out of memory|could not map|cannot allocate/i) { $failed++ }
		elsif ($error !~ /ERROR|FATAL|closed/) { $done++ }
		else { fail("$what with $kilobytes kB: $error") }
	}
	$node->safe_psql('postgres', 'DROP INDEX IF EXISTS live_new; DELETE FROM live WHERE id % 7 = 1');
}
cmp_ok($failed, '>', 5, "memory was short $failed times");
cmp_ok($done, '>', 5, "and sufficed $done times");
indexes_agree($node, 'live', 'afterwards');
$node->stop;
log_is_clean($node, 'memory');
done_testing();
