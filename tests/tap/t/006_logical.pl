# Logical replication into a table with an omen index.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../lib";
use IPC::Run ();
use Omen;
use PostgreSQL::Test::Utils;
use Test::More;

my $publisher = start_node('publisher', allows_streaming => 'logical',
	conf => "logical_decoding_work_mem = 64kB\n");
my $subscriber = start_node('subscriber', allows_streaming => 'logical');
create_table($_, 'live', rows => 0) for $publisher, $subscriber;
$publisher->safe_psql('postgres', 'SELECT live_add(5000); CREATE PUBLICATION p FOR TABLE live');
my $connection = $publisher->connstr . ' dbname=postgres';
$subscriber->safe_psql('postgres', "CREATE SUBSCRIPTION s CONNECTION '$connection' PUBLICATION p");
$subscriber->wait_for_subscription_sync($publisher, 's');

sub same_on_both
{
	my ($name) = @_;
	$publisher->wait_for_catchup('s');
	is(scan_answers($subscriber, 'live', 'forward', $_), scan_answers($publisher, 'live', 'forward', $_),
		"$name: $_ is the same on both") for qw(seq rnd dup);
	indexes_agree($subscriber, 'live', $name);
	return;
}
same_on_both('copied at first');

$publisher->safe_psql('postgres', 'SELECT live_add(1000); TRUNCATE live; SELECT live_add(1500)');
same_on_both('insert, truncate, insert');
$publisher->safe_psql('postgres', q{BEGIN;
SELECT live_add(1000);
TRUNCATE live;
SELECT live_add(700);
TRUNCATE live;
SELECT live_add(800);
COMMIT});
same_on_both('insert, truncate, insert, truncate, insert in one transaction');
$publisher->safe_psql('postgres', q{
UPDATE live SET rnd = -rnd, dup = coalesce(dup, 0) + 1 WHERE id % 3 = 0;
UPDATE live SET rnd = NULL WHERE id % 7 = 0;
DELETE FROM live WHERE id % 5 = 0});
same_on_both('updates and deletes');
$publisher->safe_psql('postgres', q{BEGIN;
SELECT live_add(2000);
SAVEPOINT a;
SELECT live_add(2000);
UPDATE live SET rnd = rnd + 1;
ROLLBACK TO a;
SELECT live_add(100);
COMMIT});
same_on_both('a transaction with a subtransaction undone');

# A large transaction is streamed before it ends, and applied or thrown away.
$subscriber->safe_psql('postgres', 'ALTER SUBSCRIPTION s SET (streaming = on)');
$publisher->safe_psql('postgres', "BEGIN; SELECT live_add(3000); UPDATE live SET dup = 5 WHERE id % 2 = 0; $_")
  for qw(COMMIT ROLLBACK);
same_on_both('large transactions');

my $load = start_load($publisher, 'live', 2, 3);
cmp_ok(finish_load($load, 'load'), '>', 20, 'the publisher worked');
same_on_both('under load');

# The table is emptied again and again under the load, while it is vacuumed and
# read where the changes are applied.
my $script = $subscriber->basedir . '/read.sql';
append_to_file($script, q{
\set r random(0, 1000000)
\set some random(1, 30)
SELECT must_agree('live', 'rnd', :r::bigint * 1000003, (:r + 90000)::bigint * 1000003);
SELECT must_agree('live', 'dup', :some, :some);
SELECT omen_index_check('live_seq', true);
});
$load = start_load($publisher, 'live', 5, 3);
my $read = '';
my $readers = IPC::Run::start([ 'pgbench', '-n', '-c', 2, '-T', 4, '--max-tries=100', '-f', $script,
		'-h', $subscriber->host, '-p', $subscriber->port, 'postgres' ], '>', \$read, '2>&1');
for my $round (1 .. 4)
{
	$publisher->safe_psql('postgres', 'SELECT live_add(1500)');
	# Beside deletes of several rows it would be a deadlock now and then.
	$publisher->safe_psql('postgres', 'BEGIN; LOCK TABLE live IN SHARE ROW EXCLUSIVE MODE; DELETE FROM live WHERE id % 8 <> 0; COMMIT');
	$subscriber->safe_psql('postgres', 'VACUUM (INDEX_CLEANUP ON) live');
	$publisher->safe_psql('postgres', 'BEGIN; TRUNCATE live; SELECT live_add(800); COMMIT') if $round % 2;
	$publisher->safe_psql('postgres', 'SELECT pg_sleep(0.4)');
}
cmp_ok(finish_load($load, 'load and TRUNCATE'), '>', 20, 'the publisher worked on');
eval { $readers->finish };
like($read, qr/actually processed: [1-9]/, 'readers of the subscriber were answered');
unlike($read, qr/ERROR|abort/, 'with the answers of btree');
same_on_both('load and TRUNCATE');

# The apply worker dies in the middle of its work.
$load = start_load($publisher, 'live', 3, 3);
for (1 .. 3)
{
	$subscriber->safe_psql('postgres', 'SELECT pg_sleep(0.3)');
	crash($subscriber);
}
finish_load($load, 'load over crashes');
same_on_both('after crashes of the subscriber');
$subscriber->safe_psql('postgres', 'DROP SUBSCRIPTION s');
$subscriber->stop;
$publisher->stop;
log_is_clean($_, $_->name) for $publisher, $subscriber;
done_testing();
