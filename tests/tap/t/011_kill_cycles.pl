# The server is killed in the middle of everything, by turns with SIGKILL and by
# an immediate shutdown, CYCLES times (default 20). After each recovery all
# indexes are sound, have an entry for every row, and answer as btree does.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../lib";
use IPC::Run ();
use Omen;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(sleep);

my $cycles = $ENV{CYCLES} // 20;
my $node = start_node('killed');
create_table($node, 'live', rows => 8_000);
my $file = $node->basedir . '/rows.csv';
$node->safe_psql('postgres', "COPY (SELECT seq, rnd, dup FROM live LIMIT 500) TO '$file'");

# What sessions do over and over beside pgbench; they end with the server. VACUUM
# has no workers: PostgreSQL 15 fails an assertion of its own when their leader
# meets the end of the postmaster (pgstat_report_stat in a transaction).
my %work = (
	copy => "CREATE TEMP TABLE c AS SELECT seq, rnd, dup FROM live LIMIT 0; COPY c FROM '$file'; COPY (SELECT nextval('live_ids'), * FROM c) TO '$file.out'; COPY live (id, seq, rnd, dup) FROM '$file.out'; DROP TABLE c;",
	savepoints => "BEGIN; SELECT live_add(5); SAVEPOINT a; SELECT live_add(20); ROLLBACK TO a; SELECT live_add(3); SAVEPOINT b; UPDATE live SET dup = 7 WHERE id % 500 = 3; RELEASE b; COMMIT;",
	subtransactions => 'SELECT live_subs(2000);',
	# Most are in between when the server ends: someone else has to end them then.
	prepared => join('', map { "BEGIN; SELECT live_add(8); UPDATE live SET rnd = -id, dup = 9 WHERE id IN (SELECT id FROM live WHERE id > 8000 ORDER BY random() LIMIT 3 FOR UPDATE SKIP LOCKED); PREPARE TRANSACTION '$_';" } 'p1' .. 'p4')
	  . "SELECT pg_sleep(0.1); COMMIT PREPARED 'p1'; ROLLBACK PREPARED 'p2'; COMMIT PREPARED 'p3'; ROLLBACK PREPARED 'p4';",
	concurrently => "CREATE INDEX CONCURRENTLY IF NOT EXISTS live_more ON live USING omen (rnd) WHERE dup > 3; REINDEX INDEX CONCURRENTLY live_dup; DROP INDEX CONCURRENTLY IF EXISTS live_more;",
	vacuum => 'DELETE FROM live WHERE id % 9 = (random() * 9)::int AND id > 8000; VACUUM (INDEX_CLEANUP ON, PARALLEL 0) live;');
# A subtransaction for each row. Some are undone, and some of those within another.
$node->safe_psql('postgres', q{
CREATE FUNCTION live_subs(subs int) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	FOR i IN 1 .. subs LOOP
		BEGIN
			PERFORM live_add(1);
			IF i % 7 = 0 THEN
				BEGIN
					PERFORM live_add(2);
					RAISE division_by_zero;
				EXCEPTION WHEN division_by_zero THEN
					PERFORM live_add(1);
				END;
			END IF;
			IF i % 3 = 0 THEN
				RAISE division_by_zero;
			END IF;
		EXCEPTION WHEN division_by_zero THEN
			NULL;
		END;
	END LOOP;
END $$});
# A busy session may not notice the end of the postmaster, but one that sleeps does.
append_to_file($node->basedir . "/$_.sql", "$work{$_} SELECT pg_sleep(0.01);\n" x 500) for keys %work;

sub begin_work
{
	return map { IPC::Run::start(
			[ 'psql', '-XAtq', '-h', $node->host, '-p', $node->port, '-d', 'postgres',
				'-f', $node->basedir . "/$_.sql" ], '<', \undef, '>', \my $out, '2>&1') }
	  sort keys %work;
}

# Ends the server without a word, and waits for it to be gone.
sub kill_server
{
	my ($pid) = slurp_file($node->data_dir . '/postmaster.pid') =~ /\A(\d+)/;
	$node->kill9;
	for (1 .. 300)
	{
		return if !kill(0, $pid);
		sleep(0.1);
	}
	die 'the server does not go';
}

# Its children keep it from starting until they have noticed.
sub start_again
{
	for (1 .. 100)
	{
		return if $node->start(fail_ok => 1);
		sleep(0.1);
	}
	die 'the server does not start again';
}

my %prepared = (commit => 0, rollback => 0);

sub settle
{
	my ($name) = @_;
	# Prepared transactions have come through: the check finds their rows' entries,
	# and whoever commits one sees its rows.
	is($node->safe_psql('postgres', 'SELECT bool_and(fault IS NULL) FROM omen_check_all(true)'),
		't', "$name: sound before prepared transactions end");
	foreach my $gid (split /\n/, $node->safe_psql('postgres', 'SELECT gid FROM pg_prepared_xacts'))
	{
		my $end = rand() < 0.5 ? 'commit' : 'rollback';
		my $before = $node->safe_psql('postgres', 'SELECT count(*) FROM live');
		$node->safe_psql('postgres', "$end PREPARED '$gid'");
		my $more = $node->safe_psql('postgres', 'SELECT count(*) FROM live') - $before;
		is($more, $end eq 'commit' ? 8 : 0, "$name: $end of a prepared transaction");
		$prepared{$end}++;
	}
	# What CONCURRENTLY left behind.
	$node->safe_psql('postgres', q{
SELECT format('DROP INDEX %s', indexrelid::regclass) FROM pg_index WHERE NOT indisvalid OR indexrelid::regclass::text = 'live_more' \gexec
});
	indexes_are_sound($node, $name);
	my ($rc, $out, $err) = $node->psql('postgres',
		join '', map { "SELECT must_agree('live', '$_', -9223372036854775808, 9223372036854775807) > 0;" } qw(seq rnd dup));
	is("$rc $out $err", "0 t\nt\nt ", "$name: omen and btree agree");
	return;
}

my $worked = 0;
for my $cycle (1 .. $cycles)
{
	my $load = start_load($node, 'live', 3600, 4);
	my @sessions = begin_work();
	sleep(0.4 + rand(0.8));
	$node->safe_psql('postgres', 'CHECKPOINT') if $cycle % 3 == 0;
	sleep(rand(0.3));
	my $way = $cycle % 2 ? 'SIGKILL' : 'immediate shutdown';
	if ($cycle % 2) { kill_server() } else { $node->stop('immediate') }
	$worked += finish_load($load, "cycle $cycle");
	eval { $_->finish } for @sessions;
	start_again();
	settle("cycle $cycle, $way");
}
cmp_ok($worked, '>', 20 * $cycles, 'there was a load');
if ($cycles >= 20)
{
	cmp_ok($prepared{$_}, '>', 0, "$_ of prepared transactions after a recovery") for sort keys %prepared;
}
$node->safe_psql('postgres', 'VACUUM (INDEX_CLEANUP ON) live');
indexes_agree($node, 'live', 'at last');
$node->stop;
log_is_clean($node, 'killed');
done_testing();
