# With old_snapshot_threshold, rows that an old snapshot still sees may be
# removed. A scan by such a snapshot gives all of its rows or says that the
# snapshot is too old; it never gives fewer.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../lib";
use Omen;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('old', conf => "old_snapshot_threshold = 0\nautovacuum = off\n");
if ($node->pg_version >= 17)
{
	plan skip_all => 'old_snapshot_threshold is gone';
}
$node->start;
$node->safe_psql('postgres', 'CREATE EXTENSION omendb_index');
my %rows = (
	'forward' => 'SELECT count(*), sum(k) FROM (SELECT k, id FROM TABLE ORDER BY k) s;',
	'backward' => 'SELECT count(*), sum(k) FROM (SELECT k, id FROM TABLE ORDER BY k DESC) s;',
	'index-only' => 'SELECT count(*), sum(k) FROM (SELECT k FROM TABLE ORDER BY k) s;',
	'bitmap' => 'SELECT count(id), sum(k) FROM TABLE WHERE k >= 0;',
	'point' => 'SELECT count(t.id), sum(t.k) FROM generate_series(0, 4999) i, LATERAL (SELECT * FROM TABLE WHERE k = i::bigint OFFSET 0) t;');
my %changes = (
	'delete' => 'DELETE FROM TABLE WHERE k % 2 = 0',
	'update' => 'UPDATE TABLE SET k = k + 10000 WHERE k % 2 = 0',
	'delete and refill' => 'DELETE FROM TABLE WHERE k % 2 = 0; INSERT INTO TABLE SELECT i, i * 2 + 1 FROM generate_series(1, 5000) i',
	'nothing' => 'SELECT 1');
my @cases;
foreach my $way (sort keys %rows)
{
	foreach my $change (sort keys %changes)
	{
		my $table = 't' . @cases;
		$node->safe_psql('postgres', qq{
CREATE TABLE $table (id bigint, k bigint);
INSERT INTO $table SELECT i, i * 7919 % 5000 FROM generate_series(0, 4999) i;
CREATE INDEX ${table}_k ON $table USING omen (k) WITH (fillfactor = 30);
VACUUM ANALYZE $table});
		push @cases, { name => "$way, $change", table => $table,
			read => $rows{$way} =~ s/TABLE/$table/gr, change => $changes{$change} =~ s/TABLE/$table/gr, way => $way };
	}
}
foreach my $case (@cases)
{
	my $session = $case->{session} = $node->background_psql('postgres', on_error_stop => 0);
	$session->query('SET enable_seqscan = off; SET enable_sort = off; SET enable_hashjoin = off; SET enable_mergejoin = off;');
	$session->query('SET enable_bitmapscan = ' . ($case->{way} eq 'bitmap' ? 'on; SET enable_indexscan = off;' : 'off;'));
	$session->query('SET enable_indexonlyscan = off;') if $case->{way} ne 'index-only';
	# Takes the snapshot, and lets the session know the index.
	$session->query("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT k, id FROM $case->{table} WHERE k = 1;");
}
# With a threshold of 0, snapshots are old after five seconds.
sleep 6;
foreach my $case (@cases)
{
	$node->safe_psql('postgres', $case->{change});
	$node->safe_psql('postgres', "VACUUM (INDEX_CLEANUP ON) $case->{table}");
}
my ($old, $right, $wrong) = (0, 0, 0);
foreach my $case (@cases)
{
	$case->{session}{stderr} = '';
	my $answer = $case->{session}->query($case->{read});
	my $error = $case->{session}{stderr};
	$case->{session}->quit;
	if ($answer =~ /5000\|12497500/) { $right++; pass("$case->{name}: right") }
	elsif ($error =~ /snapshot too old/) { $old++; pass("$case->{name}: snapshot too old") }
	else { $wrong++; fail("$case->{name}: $answer $error") }
}
cmp_ok($old, '>', 0, 'some snapshots were too old');
note("$old too old, $right right, $wrong wrong");
$node->stop;
log_is_clean($node, 'old');
done_testing();
