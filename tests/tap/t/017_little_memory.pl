# As little maintenance_work_mem as can be: a build sorts by temporary files, and
# VACUUM goes over the indexes more than once, while others insert and read.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../lib";
use Omen;
use PostgreSQL::Test::Utils;
use Test::More;

# From 17 on, VACUUM keeps dead TIDs in far less room.
my $node = start_node('little', conf => "autovacuum = off\nlog_temp_files = 0\nmaintenance_work_mem = 1MB\n");
if ($node->pg_version >= 17)
{
	$node->append_conf('postgresql.conf', "maintenance_work_mem = 64kB\n");
	$node->reload;
}
create_table($node, 'live', rows => 0);
$node->safe_psql('postgres', 'SELECT live_add(190000)');

# The build of a column whose keys are in no order.
foreach my $workers (0, 2)
{
	my $before = -s $node->logfile;
	$node->safe_psql('postgres', qq{
ALTER TABLE live SET (parallel_workers = $workers);
REINDEX INDEX live_rnd;
REINDEX INDEX live_dup});
	my $log = substr slurp_file($node->logfile), $before;
	like($log, qr/temporary file: path .* size [1-9]/, "a build with $workers workers spills");
	is(scan_answers($node, 'live', 'forward', $_), scan_answers($node, 'live', 'sequential', $_),
		"$workers workers: $_ is in order and complete") for qw(rnd dup);
}

# More dead rows than fit. Between two passes over an index, others insert.
$node->safe_psql('postgres', 'DELETE FROM live WHERE id % 20 <> 0');
my $load = start_load($node, 'live', 3, 2);
my ($rc, $out, $err) = $node->psql('postgres', 'VACUUM (VERBOSE, PARALLEL 0, INDEX_CLEANUP ON) live');
my ($passes) = $err =~ /index scans: (\d+)/;
cmp_ok($passes // 0, '>', 1, 'VACUUM goes over the indexes more than once') or diag($err);
cmp_ok(finish_load($load, 'beside VACUUM'), '>', 20, 'others worked');
indexes_agree($node, 'live', 'after VACUUM in several passes');
# What VACUUM could not see to be dead yet.
$node->safe_psql('postgres', 'VACUUM (INDEX_CLEANUP ON) live; VACUUM (INDEX_CLEANUP ON) live');
my ($entries, $rows) = split /\|/, $node->safe_psql('postgres',
	"SELECT entries, (SELECT count(*) FROM live) FROM omen_stats('live_seq')");
is($entries, $rows, 'no entry of a dead row is left');
crash($node);
indexes_agree($node, 'live', 'after a crash');
$node->stop;
log_is_clean($node, 'little memory');
done_testing();
