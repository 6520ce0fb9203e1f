# pg_dump and pg_restore: a database comes back with all its omen indexes as
# they were, in each format, and dumps as it did.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../lib";
use Omen;
use Omen::Extension;
use Omen::Kinds;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('dump', conf => "autovacuum = off\n");
$node->start;
create_kinds($node, 'kinds');
my $before = kinds_are_sound($node, 'kinds', 'original');
my $indexes = index_definitions($node, 'kinds');
my @contents = extension_contents($node, 'kinds');
my $folder = $node->basedir;

# A database as SQL, without the key that protects psql from the contents.
sub dump_text
{
	my ($database) = @_;
	my $file = "$folder/$database.sql";
	$node->command_ok([ 'pg_dump', '--no-sync', '-f', $file, $database ], "$database as SQL");
	return slurp_file($file) =~ s/^\\(un)?restrict \w+$//mgr;
}

my $text = dump_text('kinds');

# How to dump and to restore, by name.
my %ways = (
	plain => [ ['-Fp'], [ 'psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-f' ] ],
	custom => [ ['-Fc'], [ 'pg_restore', '-e' ] ],
	parallel => [ [ '-Fd', '-j2' ], [ 'pg_restore', '-e', '-j2' ] ],
	# Over a database that has all of it already.
	clean => [ ['-Fc'], [ 'pg_restore', '-e', '--clean', '--if-exists', '--single-transaction' ] ]);
foreach my $way (sort keys %ways)
{
	my ($dump, $restore) = @{ $ways{$way} };
	my $file = "$folder/$way.dump";
	my $copy = "copy_$way";
	$node->command_ok([ 'pg_dump', '--no-sync', @$dump, '-f', $file, 'kinds' ], "$way: dumped");
	$node->safe_psql('postgres', "CREATE DATABASE $copy");
	create_kinds($node, "${copy}_old"), $copy .= '_old' if $way eq 'clean';
	$node->command_ok([ @$restore, $way eq 'plain' ? ($file, $copy) : ('-d', $copy, $file) ], "$way: restored");

	my $again = index_definitions($node, $copy);
	cmp_ok(keys %$again, '>', 50, "$way: there are indexes");
	is_deeply([ name_differences($indexes, $again) ], [], "$way: the indexes are the same");
	kinds_are_sound($node, $copy, $way, before => $before);
	ok(dump_text($copy) eq $text, "$way: the copy's dump is the original's");
	is_deeply([ contents_differences([ extension_contents($node, $copy) ], \@contents) ], [], "$way: so is the extension");
	is($node->safe_psql($copy, q{SELECT has_function_privilege('keeper', 'method.omen_index_check(regclass, boolean, boolean)', 'EXECUTE'),
		has_function_privilege('keeper', 'method.omen_check_all(boolean, boolean)', 'EXECUTE')}), 't|f', "$way: and its privileges");
	next unless $way =~ /^(clean|parallel)$/;
	change_kinds($node, $copy, 1);
	kinds_are_sound($node, $copy, "$way, changed");
}

# The comparisons see what is different.
$node->safe_psql('copy_plain', q{
ALTER INDEX k_int8_b SET (model = rmi);
DROP INDEX k_uuid_c;
CREATE INDEX k_uuid_c ON k_uuid USING omen (c DESC) WITH (model = rmi)});
is_deeply([ name_differences($indexes, index_definitions($node, 'copy_plain')) ], [qw(k_int8_b k_uuid_c)],
	'an index that is not the same would be found');
isnt(dump_text('copy_plain'), $text, 'also in the dump');

$node->stop;
log_is_clean($node, 'dumps');
done_testing();
