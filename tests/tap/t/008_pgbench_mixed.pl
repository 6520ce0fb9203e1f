# Eight clients insert, update, delete and read, autovacuum runs all the time,
# and the server is stopped at once in the middle of it, five times in the long
# form (DURATION seconds of load, CYCLES stops; make soak).
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../lib";
use List::Util qw(max);
use Omen;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(sleep);

my $duration = $ENV{DURATION} // 10;
my $cycles = $ENV{CYCLES} // 2;
my $node = start_node('mixed');
create_table($node, 'live', rows => 10_000);
my $calm = start_load($node, 'live', max(1, int($duration / 2)), 8);
note(finish_load($calm, 'before the first stop'), ' transactions before the first stop');
indexes_agree($node, 'live', 'before the first stop');
for my $cycle (1 .. $cycles)
{
	my $load = start_load($node, 'live', 3600, 8);
	sleep(max(0.5, $duration / 2 / $cycles));
	$node->stop('immediate');
	finish_load($load, "load $cycle");
	$node->start;
	indexes_agree($node, 'live', "after stop $cycle");
}
$node->safe_psql('postgres', 'VACUUM (INDEX_CLEANUP ON) live');
indexes_agree($node, 'live', 'after VACUUM');
note($node->safe_psql('postgres', "SELECT live.* FROM omen_stats('live_$_') live")) for qw(seq rnd dup);
$node->stop;
log_is_clean($node, 'mixed');
done_testing();
