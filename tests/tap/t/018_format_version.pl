# An index whose pages are of a format that is not known, as after a step back to
# an older version of the extension: an ERROR that names the version and asks for
# REINDEX, from everything that reads the index; the table can be read without it,
# and whatever builds the index anew repairs it.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../lib";
use Omen;
use PostgreSQL::Test::Utils;
use Test::More;

use constant { PAGE => 8192, SPECIAL => 8192 - 24, LEAF => 3 };

# Changes a stopped server's file: gives `edit` each page and its block number.
sub edit_pages
{
	my ($path, $edit) = @_;
	my $bytes = slurp_file($path);
	my @pages = map { substr($bytes, $_ * PAGE, PAGE) } 0 .. length($bytes) / PAGE - 1;
	$edit->($pages[$_], $_) for 0 .. $#pages;
	open my $file, '>:raw', $path or die "$path: $!";
	print $file join '', @pages;
	close $file or die "$path: $!";
	return;
}

# The version that is found, what has it, and what is done to repair it.
my %cases = (
	newer => [ 9, sub { substr($_[0], 24, 4) = pack 'V', 9 if $_[1] == 0 }, 'REINDEX INDEX newer_k' ],
	older => [ 0, sub { substr($_[0], 24, 4) = pack 'V', 0 if $_[1] == 0 }, 'REINDEX TABLE older' ],
	meta => [ 2, sub { substr($_[0], SPECIAL + 19, 1) = chr 2 if $_[1] == 0 }, 'REINDEX INDEX CONCURRENTLY meta_k' ],
	leaves => [ 3, sub { substr($_[0], SPECIAL + 19, 1) = chr 3 if ord(substr $_[0], SPECIAL + 16, 1) == LEAF }, 'VACUUM FULL leaves' ],
	every => [ 255, sub { substr($_[0], SPECIAL + 19, 1) = chr 255 }, 'CLUSTER every USING every_b' ]);

my $node = start_node('format', no_data_checksums => 1, conf => "autovacuum = off\n");
my %path;
foreach my $table (sort keys %cases)
{
	$node->safe_psql('postgres', qq{
CREATE TABLE $table (k int8);
INSERT INTO $table SELECT hashint8extended(i, 0) >> 12 FROM generate_series(1, 4000) i;
CREATE INDEX ${table}_k ON $table USING omen (k) WITH (fillfactor = 30);
CREATE INDEX ${table}_b ON $table (hashint8(k));
ANALYZE $table});
	$path{$table} = index_path($node, "${table}_k");
}
$node->stop;
edit_pages($path{$_}, $cases{$_}[1]) for keys %cases;
$node->start;

# What reads the index.
my %readers = (
	'an index-only scan' => 'SELECT count(k) FROM (SELECT k FROM TABLE ORDER BY k) s',
	'an index scan' => 'SET enable_indexonlyscan = off; SELECT count(k) FROM (SELECT k FROM TABLE ORDER BY k) s',
	'a bitmap scan' => 'SET enable_indexscan = off; SET enable_indexonlyscan = off; SET enable_bitmapscan = on; SELECT count(*) FROM TABLE WHERE k > 0',
	'a lookup' => 'SELECT * FROM TABLE WHERE k = 5',
	'INSERT' => 'INSERT INTO TABLE VALUES (5)',
	'VACUUM' => 'VACUUM (INDEX_CLEANUP ON) TABLE',
	'omen_stats' => q{SELECT * FROM omen_stats('INDEX')},
	'omen_index_check' => q{SELECT omen_index_check('INDEX')},
	'omen_index_check in full' => q{SELECT omen_index_check('INDEX', true, true)});
my $sum = '4000|' . $node->safe_psql('postgres', 'SELECT sum(hashint8extended(i, 0) >> 12) FROM generate_series(1, 4000) i');
foreach my $table (sort keys %cases)
{
	my ($version, undef, $repair) = @{ $cases{$table} };
	my $error = qr/ERROR:  XX002: index "${table}_k" has format version $version, which is not supported\nHINT:  Please REINDEX it\./;
	my $by_index = 'SET enable_seqscan = off; SET enable_bitmapscan = off; SET enable_sort = off;';
	foreach my $reader (sort keys %readers)
	{
		my $query = $readers{$reader} =~ s/TABLE/$table/gr =~ s/INDEX'/${table}_k'/gr;
		my ($rc, $out, $err) = $node->psql('postgres', "\\set VERBOSITY verbose\n$by_index\n$query");
		like($err, $error, "$table: $reader");
	}
	like($node->safe_psql('postgres', 'SELECT index, fault FROM omen_check_all()'),
		qr/^${table}_k\|index "${table}_k" has format version $version, which is not supported$/m, "$table: omen_check_all");
	is($node->safe_psql('postgres', qq{SET enable_indexscan = off; SET enable_indexonlyscan = off; SET enable_bitmapscan = off;
			SELECT count(*), sum(k) FROM $table}), $sum, "$table: the table can be read");

	$node->safe_psql('postgres', $repair);
	is($node->safe_psql('postgres', "$by_index SELECT count(k), sum(k) FROM (SELECT k FROM $table ORDER BY k) s"),
		$sum, "$table: $repair repairs");
	is($node->safe_psql('postgres', "SELECT omen_index_check('${table}_k', true, true)"), '', "$table: sound again");
}
indexes_are_sound($node, 'at last');
$node->stop;
log_is_clean($node, 'format');
done_testing();
