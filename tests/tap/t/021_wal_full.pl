# The disk of the WAL is full in the middle of inserts, of VACUUM, of builds: the
# server ends, and what it recovers, once there is room, is sound.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../lib";
use Omen;
use PostgreSQL::Test::Utils;
use Test::More;

# A small file system of its own, which the runner mounts where it may.
my $disk = $ENV{OMEN_SMALL_DISK} or plan skip_all => 'no small disk can be mounted here';

my $node = start_node('full', extra => ['--wal-segsize=1'], conf => q{
autovacuum = off
checkpoint_timeout = 1h
max_wal_size = 1GB
min_wal_size = 2MB
wal_recycle = off
restart_after_crash = off
});
create_table($node, 'live', rows => 20_000);
$node->stop;
my $wal = $node->data_dir . '/pg_wal';
system_or_bail('mv', $wal, "$disk/pg_wal");
symlink("$disk/pg_wal", $wal) or die "symlink: $!";
$node->start;

sub free_kilobytes
{
	my ($free) = qx{df --output=avail -k '$disk'} =~ /(\d+)\s*$/;
	return $free;
}

# What is taken away from the disk, and given back for the recovery.
my $reserve = "$disk/reserve";

sub take_reserve
{
	open my $file, '>', $reserve or die "$reserve: $!";
	print {$file} "\0" x (20 << 20) or die "$reserve: $!";
	close $file or die "$reserve: $!";
	return;
}

my @work = (
	[ 'inserts one by one', '', 'SET omen.insert_buffer = 0; SELECT live_add(2000)' ],
	[ 'inserts together', '', 'SELECT live_add(5000)' ],
	[ 'updates', '', 'UPDATE live SET rnd = rnd + 1, dup = dup % 30 + 1 WHERE id % 4 = 0' ],
	[ 'a vacuum', 'DELETE FROM live WHERE id % 3 <> 0',
		'VACUUM (INDEX_CLEANUP ON) live; DELETE FROM live WHERE random() < 0.3' ],
	[ 'a build', 'SELECT live_add(20000)', 'REINDEX INDEX live_rnd' ],
	[ 'a concurrent build', '', 'CREATE INDEX CONCURRENTLY extra ON live USING omen (rnd)' ]);
foreach my $round (0 .. ($ENV{ROUNDS} // 1) * @work - 1)
{
	my ($name, $before, $statement) = @{ $work[ $round % @work ] };
	my $log_begin = -s $node->logfile;
	$node->safe_psql('postgres', "DROP INDEX IF EXISTS extra; $before; CHECKPOINT");
	take_reserve();
	my $leave = 200 + int rand 3000;
	while (free_kilobytes() > $leave + 1024)
	{
		$node->safe_psql('postgres',
			q{SELECT count(pg_logical_emit_message(false, 'fill', repeat('x', 30000))) FROM generate_series(1, 30)});
	}
	my ($rc, $tries) = (0, 0);
	while ($rc == 0 && $tries++ < 50)
	{
		($rc) = $node->psql('postgres',
			"$statement; DROP INDEX IF EXISTS extra; SELECT pg_logical_emit_message(false, 'fill', repeat('x', 100000))");
	}
	isnt($rc, 0, "$name: no more room, after $tries of them") or last;
	# It has ended by itself.
	my $pid = $node->{_pid};
	for (1 .. 600) { last unless kill 0, $pid; select undef, undef, undef, 0.1 }
	$node->{_pid} = undef;
	like(substr(slurp_file($node->logfile), $log_begin), qr/PANIC: .*No space left on device/,
		"$name: the server ends");
	unlink $reserve or die "$reserve: $!";
	$node->start;
	indexes_agree($node, 'live', "$name, recovered");
}
my $load = start_load($node, 'live', 1, 4);
cmp_ok(finish_load($load, 'load'), '>', 20, 'work goes on');
indexes_agree($node, 'live', 'and is right');
unlike(slurp_file($node->logfile), qr/TRAP|terminated by signal (?!6)|panicked|XX002|is damaged/, 'nothing else was wrong');
$node->stop;
done_testing();
