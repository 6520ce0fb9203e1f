# One page of an index is as it was some time ago: its checksum is right and it
# is sound by itself. Queries give rows or an ERROR, nothing crashes or hangs, and
# omen_index_check finds it, also beside writers.
#
# Each old page has a table of its own; all are put back into the files of one
# stopped server. SEED=n repeats a run's choice of pages.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../lib";
use List::Util qw(shuffle);
use Omen;
use OmenPages;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = start_node('old', extra => ['--data-checksums'], conf => "autovacuum = off\nmax_wal_size = 2GB\nmax_parallel_workers_per_gather = 0\n");
srand(my $seed = $ENV{SEED} // time);
note("SEED=$seed");

# Tables of few pages and of many. Trees of more levels: core/src/tree/tests/old_pages.rs.
my @small = map { "s$_" } 1 .. 30;
my @large = map { "l$_" } 1 .. 3;
my @tables = (@small, @large);
my %rows = ((map { $_ => 4000 } @small), (map { $_ => 40_000 } @large));
my %fill = ((map { $_ => 30 } @small), (map { $_ => 10 } @large));
$node->safe_psql('postgres', join '', map { qq{
CREATE TABLE $_ (k int8);
INSERT INTO $_ SELECT hashint8extended(i, 0) FROM generate_series(1, $rows{$_}) i;
CREATE INDEX ${_}_k ON $_ USING omen (k) WITH (fillfactor = $fill{$_});
} } @tables);
my %path = map { $_ => index_path($node, "${_}_k") } @tables;

# What happens between the two times: pages split, which may add a level; they are
# merged, and used again; and a new model is trained.
my @past = (
	'INSERT INTO TABLE SELECT hashint8extended(i, 1) FROM generate_series(1, 2000) i',
	'INSERT INTO TABLE SELECT i * 1000 FROM generate_series(1, 8000) i',
	'DELETE FROM TABLE WHERE k BETWEEN -4e18 AND 1e18; VACUUM (INDEX_CLEANUP ON) TABLE',
	'DELETE FROM TABLE WHERE k % 10 <> 0; VACUUM (INDEX_CLEANUP ON) TABLE',
	'DELETE FROM TABLE WHERE k % 3 = 0; VACUUM (INDEX_CLEANUP ON) TABLE; INSERT INTO TABLE SELECT hashint8extended(i, 2) >> 20 FROM generate_series(1, 6000) i');

sub pass_time
{
	my ($steps) = @_;
	foreach my $table (@tables)
	{
		my @steps = (shuffle @past)[ 0 .. $steps - 1 ];
		$node->safe_psql('postgres', s/TABLE/$table/gr) for map { split /; / } @steps;
	}
	return;
}
pass_time(1);
$node->stop;
my %before = map { $_ => pages_of($path{$_}) } @tables;
$node->start;
pass_time(2);
is($node->safe_psql('postgres', 'SELECT count(fault) FROM omen_check_all(true, true)'), '0', 'all is sound');
$node->stop;

# A page in nobody's use may as well be free or of a forgotten model. Of the meta
# page, what VACUUM has counted does not matter, nor of a leaf, how often it was
# written anew: only running sessions know that.
sub equivalent
{
	my ($old, $now, $block) = @_;
	return substr($old, 24, 32) eq substr($now, 24, 32) if $block == 0;
	substr($old, SPECIAL + 12, 4) = substr($now, SPECIAL + 12, 4)
	  if kind($old) == LEAF && kind($now) == LEAF;
	return substr($old, 12) eq substr($now, 12)
	  || kind($now) == FREE && (kind($old) == FREE || kind($old) == MODEL || kind($old) == 0);
}

my %name = (0 => 'new', META, 'meta', INNER, 'inner', LEAF, 'leaf', MODEL, 'model', FREE, 'free');
my (%put, %tally);
foreach my $table (@tables)
{
	my $pages = pages_of($path{$table});
	my $old = $before{$table};
	my @changed = shuffle grep { $_ <= $#$pages && !equivalent($old->[$_], $pages->[$_], $_) } 0 .. $#$old;
	my %by_change;
	push @{ $by_change{"$name{ kind($pages->[$_]) }, was $name{ kind($old->[$_]) }"} }, $_ for @changed;
	# The kind of change that was tried least.
	my ($change) = sort { ($tally{$a} // 0) <=> ($tally{$b} // 0) || $a cmp $b } keys %by_change;
	next unless defined $change;
	$tally{$change}++;
	my $block = $by_change{$change}[0];
	$put{$table} = "$table: block $block, $change";
	$pages->[$block] = $old->[$block];
	put_pages($path{$table}, $pages);
}
note(join ', ', map { "$_: $tally{$_}" } sort keys %tally);
cmp_ok($tally{$_} // 0, '>', 0, "$_, is among them") for 'meta, was meta', 'inner, was inner', 'leaf, was leaf', 'free, was leaf';
$node->start;

my $settings = q{\set VERBOSITY verbose
SET statement_timeout = '20s'; SET enable_seqscan = off; SET enable_bitmapscan = off; SET enable_sort = off;
};
# An old page may hide rows and name some that are gone, but rows come in order.
my @questions = (
	'SELECT count(*) FROM (SELECT k, lag(k) OVER (ORDER BY k) AS l FROM TABLE) s WHERE k < l',
	'SELECT count(*) FROM (SELECT k, lag(k) OVER (ORDER BY k DESC) AS l FROM TABLE) s WHERE k > l',
	'SET enable_indexonlyscan = off; SELECT count(*) FROM (SELECT k, ctid FROM TABLE ORDER BY k) s WHERE k IS NULL',
	'SET enable_nestloop = on; SELECT count(*) - count(*) FROM generate_series(1, 2000) i JOIN TABLE ON k = hashint8extended(i, 1)',
	'SET enable_bitmapscan = on; SET enable_indexscan = off; SELECT count(*) - count(*) FROM TABLE WHERE k > 0',
	'SELECT count(*) - count(*) FROM (SELECT min(k), max(k) FROM TABLE) s');
my @actions = (
	'INSERT INTO TABLE SELECT hashint8extended(i, 3) FROM generate_series(1, 2000) i',
	'DELETE FROM TABLE WHERE k % 5 = 0',
	'VACUUM (INDEX_CLEANUP ON) TABLE',
	'INSERT INTO TABLE SELECT hashint8extended(i, 4) FROM generate_series(1, 2000) i');
foreach my $table (grep { $put{$_} } @tables)
{
	my @wrong;
	my $run = sub {
		my ($rc, $out, $err) = $node->psql('postgres', $settings . $_[0] =~ s/TABLE/$table/gr, on_error_stop => 0);
		push @wrong, "$_[0]: $err" if $rc != 0 && $rc != 3;
		push @wrong, grep { !/^XX00[12]$/ } $err =~ /(?:ERROR|FATAL|PANIC):  ([0-9A-Z]{5}):/g;
		push @wrong, "$_[0]: $out" if $out =~ /^[^0]/m;
		return $err;
	};
	$run->($_) for @questions;
	foreach my $full (qw(false true))
	{
		my $err = $run->("SELECT 0 FROM omen_index_check('TABLE_k', true, $full)");
		push @wrong, "not found, full = $full" unless $err =~ /XX00[12]/;
	}
	$run->($_) for @actions, @questions;
	ok(!@wrong, $put{$table}) or diag(join "\n", @wrong);
}
$node->safe_psql('postgres', 'REINDEX DATABASE postgres');
is($node->safe_psql('postgres', 'SELECT count(fault) FROM omen_check_all(true, true)'), '0', 'REINDEX repairs');
$node->stop;
log_is_clean($node, 'old pages');
done_testing();
