# Every change that takes several records, ended half-way by an error, by a crash
# and by a long wait: the index is sound in between, others work around it, and
# whoever comes next finishes it.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../lib";
use Omen;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(usleep);

my $node = start_node('stops', conf => "autovacuum = off\nrestart_after_crash = on\n");

# What brings a session to a place, in a table of its own: rows at the end of
# the index, and VACUUM of a part.
my $append = 'INSERT INTO t SELECT k, k FROM generate_series(10000000001, 10000002000) k';
my $insert = 'INSERT INTO t SELECT h, h FROM (SELECT hashint8(k)::bigint AS h FROM generate_series(1, 9000) k) s';
my $delete = 'DELETE FROM t WHERE k % 10 <> 0';
my %places = (
	leaf_split => $append,
	inner_split => $insert,
	leaf_cleaned => 'VACUUM t',
	page_freed => 'VACUUM t',
	model_written => 'VACUUM t',
	model_published => 'VACUUM t');

sub sql
{
	my ($sql) = @_;
	return $node->safe_psql('postgres', $sql);
}

sub prepare
{
	my ($statement) = @_;
	sql(q{
DROP TABLE IF EXISTS t;
CREATE TABLE t (k bigint, b bigint);
INSERT INTO t SELECT h, h FROM (SELECT hashint8(-k)::bigint AS h FROM generate_series(1, 3000) k) s;
CREATE INDEX t_k ON t USING omen (k);
CREATE INDEX t_b ON t (b);});
	sql($delete) if $statement =~ /VACUUM/;
	return;
}

# All rows by omen and by btree, and one by one.
sub agree
{
	my ($name) = @_;
	my $both = sql(q{
SET enable_seqscan = off; SET enable_sort = off;
SELECT array(SELECT k FROM t ORDER BY k) = array(SELECT b FROM t ORDER BY b)
	AND (SELECT count(*) FROM t x WHERE EXISTS (SELECT FROM t y WHERE y.k = x.b)) = (SELECT count(*) FROM t)});
	is($both, 't', "$name: omen and btree agree");
	return;
}

# Others read, write, vacuum and write again.
sub go_on
{
	my ($name, $full) = @_;
	agree("$name, as it is left");
	is(sql("SELECT omen_index_check('t_k', true, $full)"), '', "$name: sound as it is left");
	sql('INSERT INTO t SELECT k, k FROM generate_series(10000000500, 10000001000) k;
		INSERT INTO t SELECT h, h FROM (SELECT hashint8(k)::bigint AS h FROM generate_series(-400, -1) k) s');
	agree("$name, after inserts");
	is(sql("SELECT omen_index_check('t_k', true, $full)"), '', "$name: sound after inserts");
	return;
}

sub settle
{
	my ($name) = @_;
	sql('DELETE FROM t WHERE k % 3 = 0');
	sql('VACUUM t');
	agree("$name, after VACUUM");
	is(sql("SELECT omen_index_check('t_k', true, true)"), '', "$name: sound after VACUUM");
	unlike(($node->psql('postgres', "SET client_min_messages = debug1; SELECT omen_index_check('t_k', full => true)"))[2],
		qr/splits are not finished/, "$name: nothing is left to finish");
	return;
}

foreach my $place (sort keys %places)
{
	my $statement = $places{$place};
	prepare($statement);
	my ($rc, $out, $err) =
	  $node->psql('postgres', "SET omen.stop_point = '$place:error'; $statement");
	like($err, qr/stopped at $place/, "$place is reached");
	go_on("$place, error", 'true');
	settle("$place, error");

	prepare($statement);
	my $before = -s $node->logfile;
	($rc, $out, $err) = $node->psql('postgres', "SET omen.stop_point = '$place:kill'; $statement");
	isnt($rc, 0, "$place: the session has crashed");
	# It takes a moment until the server notices.
	$node->wait_for_log(qr/database system is ready to accept connections/, $before);
	go_on("$place, crash", 'true');
	settle("$place, crash");

	prepare($statement);
	my $guard = $node->background_psql('postgres');
	$guard->query_safe('SELECT pg_advisory_lock(1)');
	my $slow = $node->background_psql('postgres', on_error_stop => 0);
	$slow->query_until(qr/begun/, "\\echo begun\nSET omen.stop_point = '$place:wait';\n$statement;\n");
	$node->poll_query_until('postgres',
		q{SELECT count(*) = 1 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted})
	  or die "$place: nobody waits";
	# Writers cannot be kept out while one of them waits.
	go_on("$place, wait", 'false');
	$guard->query_safe('SELECT pg_advisory_unlock(1)');
	$slow->quit;
	$guard->quit;
	settle("$place, wait");
}
log_is_clean_but_crashes($node);
done_testing();

# The crashes are meant.
sub log_is_clean_but_crashes
{
	my ($server) = @_;
	my @lines = grep { /PANIC|TRAP:|leak|panicked|incorrect resource|LWLock|memory allocation/ }
	  split /\n/, slurp_file($server->logfile);
	ok(!@lines, 'nothing suspicious in the log') or diag(join "\n", splice(@lines, 0, 10));
	return;
}
