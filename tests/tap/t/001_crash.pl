# The server is killed under load, again and again. After each recovery the
# index has what the heap has, and takes on new entries.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../lib";
use Omen;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(sleep);

my $cycles = $ENV{CYCLES} // 3;
my $node = start_node('crash');
create_table($node, 'live', rows => 10_000);
create_table($node, 'tight', rows => 3_000, with => 'fillfactor = 100');
indexes_agree($node, 'live', 'at first');

# What was built a moment ago is in the log only.
crash($node);
indexes_agree($node, $_, "built before a crash, $_") for qw(live tight);
$node->safe_psql('postgres', 'REINDEX TABLE tight');
crash($node);
indexes_agree($node, 'tight', 'built again before a crash');

for my $cycle (1 .. $cycles)
{
	my @loads = map { start_load($node, $_, 60, 4) } qw(live tight);
	sleep(1 + rand(1));
	# What a checkpoint wrote in the middle is changed by records behind it.
	$node->safe_psql('postgres', 'CHECKPOINT') if $cycle % 2;
	sleep(rand(1));
	$node->stop('immediate');
	finish_load($_, "load $cycle") for @loads;
	$node->start;
	indexes_agree($node, $_, "after crash $cycle, $_") for qw(live tight);
	$node->safe_psql('postgres', 'VACUUM (INDEX_CLEANUP ON)') if $cycle == 2;
	indexes_agree($node, 'live', 'after VACUUM') if $cycle == 2;
}

# Most rows go, in two crashes: one while VACUUM merges pages, one after it.
$node->safe_psql('postgres', 'DELETE FROM live WHERE id % 20 <> 0');
my $vacuum = $node->background_psql('postgres', on_error_stop => 0);
$vacuum->query_until(qr/go/, "\\echo go\nVACUUM (INDEX_CLEANUP ON) live;\n");
sleep(0.05);
$node->stop('immediate');
eval { $vacuum->{run}->kill_kill };
$node->start;
indexes_agree($node, 'live', 'after a crash in VACUUM');
$node->safe_psql('postgres', 'VACUUM (INDEX_CLEANUP ON) live');
crash($node);
indexes_agree($node, 'live', 'after a crash behind VACUUM');

my $load = start_load($node, 'live', 2, 4);
cmp_ok(finish_load($load, 'load at last'), '>', 100, 'work goes on');
$node->safe_psql('postgres', 'VACUUM (INDEX_CLEANUP ON)');
indexes_agree($node, $_, "at last, $_") for qw(live tight);
$node->stop;
log_is_clean($node, 'crash');
done_testing();
