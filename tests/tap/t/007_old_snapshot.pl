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
my ($old, $right, $wrong) = (0, 0, 0);
foreach my $way ('forward', 'backward', 'index-only', 'bitmap', 'point')
{
	foreach my $change ('delete', 'update', 'delete and refill', 'nothing')
	{
		$node->safe_psql('postgres', q{
DROP TABLE IF EXISTS t;
CREATE TABLE t (id bigint, k bigint);
INSERT INTO t SELECT i, i * 7919 % 5000 FROM generate_series(0, 4999) i;
CREATE INDEX t_k ON t USING omen (k) WITH (fillfactor = 30);
VACUUM ANALYZE t});
		my $session = $node->background_psql('postgres', on_error_stop => 0);
		$session->query('SET enable_seqscan = off; SET enable_sort = off; SET enable_hashjoin = off; SET enable_mergejoin = off;');
		$session->query('SET enable_bitmapscan = ' . ($way eq 'bitmap' ? 'on; SET enable_indexscan = off;' : 'off;'));
		$session->query('SET enable_indexonlyscan = off;') if $way ne 'index-only';
		$session->query('BEGIN ISOLATION LEVEL REPEATABLE READ;');
		# Takes the snapshot, and lets the session know the index.
		$session->query('SELECT k, id FROM t WHERE k = 1;');
		my $sql = {
			'delete' => 'DELETE FROM t WHERE k % 2 = 0',
			'update' => 'UPDATE t SET k = k + 10000 WHERE k % 2 = 0',
			'delete and refill' => 'DELETE FROM t WHERE k % 2 = 0; INSERT INTO t SELECT i, i * 2 + 1 FROM generate_series(1, 5000) i',
			'nothing' => 'SELECT 1',
		}->{$change};
		$node->safe_psql('postgres', "$sql; SELECT txid_current()");
		$node->safe_psql('postgres', 'VACUUM (INDEX_CLEANUP ON) t');
		my $rows = {
			'forward' => 'SELECT count(*), sum(k) FROM (SELECT k, id FROM t ORDER BY k) s;',
			'backward' => 'SELECT count(*), sum(k) FROM (SELECT k, id FROM t ORDER BY k DESC) s;',
			'index-only' => 'SELECT count(*), sum(k) FROM (SELECT k FROM t ORDER BY k) s;',
			'bitmap' => 'SELECT count(id), sum(k) FROM t WHERE k >= 0;',
			'point' => 'SELECT count(t.id), sum(t.k) FROM generate_series(0, 4999) i, LATERAL (SELECT * FROM t WHERE k = i::bigint OFFSET 0) t;',
		}->{$way};
		my $answer = $session->query($rows);
		my $error = $session->{stderr} // '';
		$session->quit;
		if ($answer =~ /5000\|12497500/) { $right++; pass("$way, $change: right") }
		elsif ($error =~ /snapshot too old/ || $answer eq '') { $old++; like($error, qr/snapshot too old/, "$way, $change: snapshot too old") }
		else { $wrong++; fail("$way, $change: $answer $error") }
	}
}
cmp_ok($old, '>', 0, 'some snapshots were too old');
note("$old too old, $right right, $wrong wrong");
$node->stop;
log_is_clean($node, 'old');
done_testing();
