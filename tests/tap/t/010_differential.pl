# Random tables, random changes, random queries: omen, btree and the sequential
# scan have to agree, while other sessions write and vacuum.
#
# SEED=n repeats a run, or a table of a run when n is the seed shown for it.
# QUERIES=n is about how many queries are asked. A script that fails is reduced
# for REDUCE seconds, shown, and kept beside the server's log for psql to replay;
# REDUCE=0 ends the run there.

use strict;
use warnings FATAL => 'all';

use Differential::Run;
use Differential::Script;
use Omen;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $seed = $ENV{SEED} // int(rand(2**30));
my $queries = $ENV{QUERIES} // 800;
my $reduce = $ENV{REDUCE} // 90;
my $per_table = 50;
diag("SEED=$seed QUERIES=$queries");

my $node = PostgreSQL::Test::Cluster->new('differential');
$node->init;
$node->append_conf('postgresql.conf', <<'CONF');
log_statement = none
log_min_error_statement = fatal
max_prepared_transactions = 5
autovacuum = off
max_parallel_workers_per_gather = 0
jit = off
fsync = off
CONF
$node->start;
$node->safe_psql('postgres', functions());
my $major = int($node->safe_psql('postgres', 'SHOW server_version_num') / 10000);

my ($tables, $statements, $failed, %seen) = (0, 0, 0);
for (my $left = $queries; $left > 0 && $failed < ($reduce ? 3 : 1); $left -= $per_table)
{
	my $table_seed = $seed + $tables++;
	# Neighbouring seeds make neighbouring numbers at first.
	srand($table_seed * 2654435761 % 2**32);
	my $script = new_script($major, $per_table);
	$statements += @{ $script->{statements} };
	my $result = run_script($node, $script, beside => 1);
	$seen{$_} += $result->{seen}{$_} foreach keys %{ $result->{seen} };
	next if ok($result->{failure} eq '', "SEED=$table_seed: $script->{name}");

	$failed++;
	my $log = "${PostgreSQL::Test::Utils::log_path}/differential-$table_seed";
	append_to_file("$log-full.sql", functions() . script_text($script));
	diag($_) for splice(@{ $result->{problems} }, 0, 3), $result->{error};
	diag("repeat with SEED=$table_seed QUERIES=$per_table");
	# The next ones are likely to be the same fault.
	next if $failed > 1 || !$reduce;
	my ($reduced, $how) = reduce($node, $script, $result, $reduce);
	append_to_file("$log.sql", functions() . script_text($reduced));
	diag("$how:\n" . (length script_text($reduced) < 10_000 ? script_text($reduced) : '(too long to be shown)'));
	diag("differential-$table_seed.sql beside the server's log is that for psql, in an empty database");
}
$node->safe_psql('postgres', 'DROP TABLE IF EXISTS t, u');

# Otherwise sequential scans would agree with themselves: the least part of the
# queries that an index has to be able to answer in this way, of many tables.
my %enough = (neither => 0.8, btree => 0.6, index => 0.6, index_only => 0.25, bitmap => 0.4, btree_bitmap => 0.4);
foreach my $way (sort keys %enough)
{
	my ($asked, $meant) = map { $seen{"$_:$way"} // 0 } qw(asked meant);
	cmp_ok($meant, '>=', $enough{$way} * $asked, "$meant of $asked plans were $way") if !$failed && $tables >= 8;
}
my $compared = 0;
$compared += $seen{"asked:$_"} // 0 foreach keys %enough, 'free';
diag("$tables tables, $statements statements, $compared plans compared; beside them "
	  . ($seen{vacuums} // 0) . ' vacuums and ' . ($seen{beside} // 0) . ' rows written');
diag('nodes of omen plans: ' . join(', ', map { /^omen:(.*)/ ? "$1 $seen{$_}" : () } sort { $seen{$b} <=> $seen{$a} } keys %seen));

if (!$failed)
{
	cmp_ok($seen{$_} // 0, '>', 0, "beside them: $_") for qw(vacuums beside);
}
$node->stop;
log_is_clean($node, 'differential');
done_testing();
